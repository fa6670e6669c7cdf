"""Make the small tokenizers of `tests/engine/towers/tokenizers`, and the rows that open_clip makes with them.

    python tests/support/make_tokenizers.py          needs transformers, which most tests do not
    python tests/support/make_tokenizers.py nllb     makes one of them

Each tokenizer is of the kind of a family of models: a unigram model padded with its end (SigLIP), byte-pair encoding
with an end only (SigLIP 2), WordPiece whose separator becomes 0 (CLIPA), a unigram model with start and end (MetaCLIP
2), and those of transformers itself for text towers that are models of their own (RoBERTa, XLM-RoBERTa, NLLB).
"""

import json
import sys
from pathlib import Path

from odd_texts import ODD_TEXTS
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import NllbTokenizer, PreTrainedTokenizerFast, RobertaTokenizer, XLMRobertaTokenizer

FOLDER = Path(__file__).parents[1] / "engine" / "towers" / "tokenizers"
CORPUS = [
    *["a video of a person riding a bike", "this is a video about skiing", "red circles and blue squares move left"],
    *["a photo of people playing the guitar", "tai chi in the park", "体操 の ビデオ", "straße café naïve"],
    *["abcdefghijklmnopqrstuvwxyz", "0123456789", "ABC DEF", "one two three four five six seven eight nine ten"],
] * 3


def unigram(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def siglip() -> tuple[Tokenizer, dict[str, object], dict[str, object]]:
    tokenizer = unigram(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    return tokenizer, {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}, {"clean": "canonicalize"}


def siglip2() -> tuple[Tokenizer, dict[str, object], dict[str, object]]:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=220, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", None, [("<eos>", 1)])
    tokens = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return tokenizer, tokens, {"clean": "canonicalize"}


def clipa() -> tuple[Tokenizer, dict[str, object], dict[str, object]]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    # The ids of BERT: 0 fills rows, 101 begins and 102 ends texts.
    unused = [f"[unused{i}]" for i in range(99)]
    specials = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=320, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    tokens = {"pad_token": "[PAD]", "sep_token": "[SEP]", "cls_token": "[CLS]", "unk_token": "[UNK]"}
    return tokenizer, tokens, {"strip_sep_token": True}


def metaclip2() -> tuple[Tokenizer, dict[str, object], dict[str, object]]:
    tokenizer = unigram(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    tokens = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return tokenizer, tokens, {}


SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def vocabulary_of(tokenizer: Tokenizer) -> dict[str, object]:
    """Return what the tokenizers of transformers are made from: vocab, and merges where there are any."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return {"vocab": [tuple(token) for token in model["vocab"]]}
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def roberta() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return RobertaTokenizer(**vocabulary_of(tokenizer))


def xlm_roberta() -> PreTrainedTokenizerFast:
    return XLMRobertaTokenizer(**vocabulary_of(unigram(SPECIALS)))


def nllb() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=220, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return NllbTokenizer(**vocabulary_of(tokenizer), extra_special_tokens=["deu_Latn", "eng_Latn", "jpn_Jpan"])


KINDS = {siglip: 16, siglip2: 24, clipa: 32, metaclip2: 77, roberta: 77, xlm_roberta: 77, nllb: 77}


def main() -> None:
    """Write tokenizer.json and rows.json of each kind into a folder of its own."""
    for make, context in KINDS.items():
        if make.__name__ not in (sys.argv[1:] or [kind.__name__ for kind in KINDS]):
            continue
        made = make()
        tokenizer, tokens, options = made if isinstance(made, tuple) else (made, None, {})
        folder = FOLDER / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        wrapped = tokenizer if tokens is None else PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
        wrapped.save_pretrained(folder)
        rows = HFTokenizer(str(folder), context_length=context, **options)(ODD_TEXTS).tolist()
        for file in folder.iterdir():
            if file.name not in ("tokenizer.json", "tokenizer_config.json"):
                file.unlink()
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        (folder / "rows.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
