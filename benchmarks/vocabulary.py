"""Memory of a model with a vocabulary of 900,000 tokens and 10,000 labels: `python -m benchmarks.vocabulary`.

MetaCLIP 2 ViT-H/14 with random weights on the device. Prints the memory of the weights, the peak while the labels are
encoded, and what is left once `bike classify` has freed the text tower.
"""

from __future__ import annotations

import argparse
import time

import open_clip
import torch

from bike_cli.engine.models.catalogue import construct
from bike_cli.engine.towers.encoder import adapt
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.tokenizers import OpenAITokenizer
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.wording import count

GIB = 2**30
WORDS = ("riding", "playing", "throwing", "a", "red", "bike", "guitar", "ball", "in", "the", "park", "slowly")


def main() -> None:
    """Print the three numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="ViT-H-14-worldwide", help="of open_clip (default: %(default)s)")
    parser.add_argument("--labels", type=int, default=10_000, help="number of labels (default: %(default)s)")
    options = parser.parse_args()
    with torch.device("cuda"):
        model = construct(open_clip.get_model_config(options.arch)).eval()
    recipe = ImageRecipe(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    # Which ids are read affects neither memory nor time.
    encoder = adapt(model, tokenizer=OpenAITokenizer(77), recipe=recipe, placement=place("cuda", "auto"))
    tower = encoder.text_tower
    print(f"{options.arch}: {count(tower.vocabulary, 'token')}, {tower.parameters / 1e9:.2f} G parameters of text")
    print(f"weights          {_allocated():6.2f} GiB")
    torch.cuda.reset_peak_memory_stats()
    start_s = time.perf_counter()
    labels = [
        " ".join(WORDS[(i >> shift) % len(WORDS)] for shift in (0, 3, 6, 9)) + f" {i}" for i in range(options.labels)
    ]
    for positions in ("eot", "words"):
        encoder.encode_texts(labels, positions=positions)  # type: ignore[arg-type]
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() / GIB
        print(f"labels, {positions:8} {peak:6.2f} GiB at most, {time.perf_counter() - start_s:.1f} s")
        start_s = time.perf_counter()
    tower.release()
    torch.cuda.empty_cache()
    print(f"afterwards       {_allocated():6.2f} GiB")


def _allocated() -> float:
    return torch.cuda.memory_allocated() / GIB


if __name__ == "__main__":
    main()
