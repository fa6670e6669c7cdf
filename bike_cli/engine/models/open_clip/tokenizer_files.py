"""Tokenizers that come as files: where they are on the hub, and how their models use them.

A tokenizer file says how a text becomes ids, but often not which ids the model expects before and after them, and what
fills the rest of a row. If one of these is wrong, nothing fails, but accuracy drops by tens of points. For the families
of open_clip, this module knows them; for others, it reads `tokenizer_config.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import tokenizers

from bike_cli.engine.download.file_names import SETTINGS_FILE, TOKENIZER_FILE
from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.weight_files import check_regular
from bike_cli.engine.towers.tokenizers import (
    MAX_TOKENIZER_BYTES,
    FileTokenizer,
    TokenizerRecipe,
    parse_tokenizer,
)
from bike_cli.errors import ModelError, first_line, shorten

WAY_OUT = "download the repository again"

# By `hf_tokenizer_name`. SigLIP pads with its end id; CLIPA replaces every [SEP] (102) by 0.
# Source: big_vision, `pp/tokenizer.py` and the configurations of SigLIP and SigLIP 2; open_clip, `HFTokenizer`;
#     the vocabularies of BERT, XLM-V, mT5, RoBERTa and XLM-RoBERTa; transformers, `NllbTokenizer`.
_FAMILIES: Mapping[str, Mapping[str, tuple[int | str, ...]]] = {
    r"timm/ViT-.*-SigLIP2(-\d+)?": {"end": (1,), "pad": (0,)},
    r"timm/ViT-.*-SigLIP(-.*)?": {"end": (1,), "pad": (1,)},
    "bert-base-uncased": {"start": (101,), "end": (102,), "pad": (0,)},
    "facebook/xlm-v-base": {"start": (0,), "end": (2,), "pad": (1,)},
    "google/mt5-.*": {"end": (1,), "pad": (0,)},
    "(FacebookAI/)?(xlm-)?roberta-(base|large)": {"start": (0,), "end": (2,), "pad": (1,)},
    # The language of the text comes first. These models are multilingual; bike reads English.
    "facebook/nllb-200-.*": {"start": ("eng_Latn",), "end": (2,), "pad": (1,)},
}


def read_tokenizer(file: Path, text_cfg: Mapping[str, object], *, name: str) -> FileTokenizer:
    """Return the tokenizer in a file, for a model with this open_clip configuration of its text tower.

    Args:
        file: a tokenizer.json; `tokenizer_config.json` next to it is read for tokenizers of unknown families.
        name: of the model, for messages.
    Raises:
        ModelError: a file that is missing or is not a tokenizer, or one that does not say how rows are made.
    """
    content = read_content(file)
    options = text_cfg.get("tokenizer_kwargs") or {}
    assert isinstance(options, Mapping)
    clean, strips = options.get("clean", "whitespace"), bool(options.get("strip_sep_token"))
    facts = _of_family(str(text_cfg.get("hf_tokenizer_name")), content, name) or _described(content, file)
    start, end, (pad,) = facts.get("start", ()), facts.get("end", ()), facts["pad"]
    zeroed = None
    if strips:
        zeroed = end[-1] if end else None
        start, end = (tuple(0 if token == zeroed else token for token in ids) for ids in (start, end))
    try:
        recipe = TokenizerRecipe(clean, start, end, pad, zeroed)
    except ValueError as e:
        raise ModelError(f"{name}: its tokenizer is invalid ({first_line(e)}); {WAY_OUT}") from e
    context = text_cfg.get("context_length", 77)
    assert isinstance(context, int)
    return FileTokenizer(content, recipe, context, name)


def read_content(file: Path) -> bytes:
    """Return the bytes of a tokenizer.json.

    Raises:
        ModelError: a file that is missing or too large.
    """
    if check_regular(file, WAY_OUT) > MAX_TOKENIZER_BYTES:
        raise ModelError(f"{file}: is larger than the {MAX_TOKENIZER_BYTES // 2**20} MiB that bike reads; {WAY_OUT}")
    try:
        return file.read_bytes()
    except OSError as e:
        raise ModelError(f"{shorten(file)}: cannot be read ({e.strerror}); check its permissions") from e


def _of_family(family: str, content: bytes, name: str) -> dict[str, tuple[int, ...]] | None:
    facts = next((facts for pattern, facts in _FAMILIES.items() if re.fullmatch(pattern, family)), None)
    return None if facts is None else {key: _ids(tokens, content, name) for key, tokens in facts.items()}


def _ids(tokens: tuple[int | str, ...], content: bytes, name: str) -> tuple[int, ...]:
    """Return the ids of tokens that are given by id, or by their text."""
    ids = []
    for token in tokens:
        number = parse_tokenizer(content, name).token_to_id(token) if isinstance(token, str) else token
        if number is None:
            raise ModelError(f"{name}: its {TOKENIZER_FILE} has no token {token}; {WAY_OUT}")
        ids.append(number)
    return tuple(ids)


def _described(content: bytes, file: Path) -> dict[str, tuple[int, ...]]:
    """Return the ids around a text, and the padding, as `tokenizer_config.json` and the file itself say.

    Source: transformers' `AutoTokenizer`: the flags `add_bos_token` and `add_eos_token` win over the file.
    """
    tokenizer = parse_tokenizer(content, str(file.parent))
    settings_file = file.with_name(SETTINGS_FILE)
    settings = read_json(settings_file) if settings_file.is_file() else {}
    for side, does in (("padding_side", "pads"), ("truncation_side", "cuts")):
        if settings.get(side, "right") != "right":
            problem = f"{does} texts on the left, which bike does not support"
            raise ModelError(f"{settings_file}: {problem}; choose another model")
    start, end = _around(tokenizer)
    if "add_bos_token" in settings:
        start = _flagged(tokenizer, settings, "bos_token")
    if "add_eos_token" in settings:
        end = _flagged(tokenizer, settings, "eos_token")
    pad = _token_id(tokenizer, settings, "pad_token")
    if pad is None:
        stored = tokenizers.Tokenizer.from_str(content.decode()).padding
        pad = None if stored is None else int(stored["pad_id"])
    if pad is None:
        raise ModelError(f"{file.parent}: neither {TOKENIZER_FILE} nor {SETTINGS_FILE} names a pad_token; add one")
    return {"start": start, "end": end, "pad": (pad,)}


def _around(tokenizer: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that the file itself puts before and after a text."""
    whole, own = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    first = next((i for i in range(len(whole)) if whole[i : i + len(own)] == own), 0)
    return tuple(whole[:first]), tuple(whole[first + len(own) :])


def _flagged(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, object], name: str) -> tuple[int, ...]:
    token = _token_id(tokenizer, settings, name) if settings[f"add_{name}"] else None
    return () if token is None else (token,)


def _token_id(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, object], name: str) -> int | None:
    token = settings.get(name)
    text = token.get("content") if isinstance(token, Mapping) else token  # in both forms in the wild
    return tokenizer.token_to_id(text) if isinstance(text, str) else None
