"""Two hundred texts that tokenizers treat in their own ways."""

import random

WORDS = [
    *["riding", "a", "bike", "Skiing", "TAI", "chi", "don't", "co-op", "naïve", "straße"],
    *["体操", "音楽", "مرحبا", "🚲", "👩‍🚀", "x²"],
]
PUNCTUATION = [
    *["", ".", "...", "!?", "-", "—", "(", ")", "&", "&amp;", "&lt;b&gt;"],
    *["/", "\\", "_", "'", '"', "#1", "%", "°"],
]
FIXED = [
    *["", " ", "\t", "\n", "  two  spaces  ", "tab\tbetween", "line\nbreak", "trailing ", " leading"],
    *["</s>", "<s>", "<pad>", "<unk>", "[SEP]", "[CLS] a", "<eos>", "<end_of_text>", "a </s> b"],
    *["very " * 100, "x" * 300, "riding a bike " * 12, "体操" * 60, "🚲" * 40],
    *["a_b_c", "snake_case_label", "CamelCaseLabel", "ALL CAPS", "1234567890", "3.14"],
    *["\u00a0nbsp", "e\u0301", "\ufeffbom"],
]


def _texts() -> list[str]:
    rng = random.Random(0)
    drawn = []
    while len(FIXED) + len(drawn) < 200:
        parts = [rng.choice(WORDS) + rng.choice(PUNCTUATION) for _ in range(rng.randint(1, 9))]
        drawn.append(rng.choice(["", " ", "a video of "]) + " ".join(parts) + rng.choice(PUNCTUATION))
    return [*FIXED, *drawn]


ODD_TEXTS = _texts()
