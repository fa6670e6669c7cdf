"""Make the small tokenizers of `tests/engine/towers/tokenizers`, and the rows that open_clip makes with them.

    python tests/support/make_tokenizers.py          needs transformers, which the tests do not

Each tokenizer is of the kind of a family of models: a unigram model padded with its end (SigLIP), byte-pair encoding
with an end only (SigLIP 2), WordPiece whose separator becomes 0 (CLIPA), a unigram model with start and end (MetaCLIP
2).
"""

import json
from pathlib import Path

from odd_texts import ODD_TEXTS
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

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


def main() -> None:
    """Write tokenizer.json and rows.json of each kind into a folder of its own."""
    for make, context in ((siglip, 16), (siglip2, 24), (clipa, 32), (metaclip2, 77)):
        tokenizer, tokens, options = make()
        folder = FOLDER / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
        wrapped.save_pretrained(folder)
        rows = HFTokenizer(str(folder), context_length=context, **options)(ODD_TEXTS).tolist()
        for file in folder.iterdir():
            if file.name not in ("tokenizer.json", "tokenizer_config.json"):
                file.unlink()
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        (folder / "rows.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
