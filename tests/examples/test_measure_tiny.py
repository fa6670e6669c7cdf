import math

import torch
from measure_tiny import MOTIONS, Watched, choose, difference, is_true, share
from shapes import Dice, draw_scenes


def hits(right: int, of: int = 100) -> torch.Tensor:
    return torch.arange(of) < right


def test_the_way_to_spot_with_the_least_worst_loss_is_chosen() -> None:
    right = {
        "plain": {"mean": hits(99), "sharp": hits(99), "soft": hits(97)},
        "passers-by": {"mean": hits(50), "sharp": hits(98), "soft": hits(95)},
        "flash": {"mean": hits(99), "sharp": hits(85), "soft": hits(95)},
    }

    chosen, worst = choose(right, {"sharp": torch.tensor([0.99]), "soft": torch.tensor([0.91])})

    assert chosen == "soft"
    assert {way: round(loss) for way, loss in worst.items()} == {"sharp": 14, "soft": 4}


def test_a_way_that_looks_elsewhere_is_not_chosen() -> None:
    right = {"plain": {"blind": hits(99), "seeing": hits(90)}}

    chosen, _ = choose(right, {"blind": torch.tensor([0.7, 0.9]), "seeing": torch.tensor([0.95, 0.95])})

    assert chosen == "seeing"


def test_a_share_has_its_binomial_error() -> None:
    assert share(hits(80)) == f"80.0 ± {100 * math.sqrt(0.8 * 0.2 / 100):.1f}"


def test_a_difference_on_the_same_clips_has_no_error_where_they_agree() -> None:
    assert difference(hits(90), hits(90)) == "+0.0 ± 0.0"


def test_an_object_is_there_in_its_window_alone() -> None:
    scenes = draw_scenes(Dice(0), 256, "sparse")
    times = torch.linspace(0, 0.99, 50).expand(256, -1)

    there = Watched(scenes, {}, {50: times}).is_there(50)

    in_window = (times >= scenes.start) & (times < scenes.stop)
    still = scenes.motion[:, 0] == MOTIONS.index("still")
    assert not bool((there & ~in_window).any())
    assert torch.equal(there[still], in_window[still])


def test_a_phrase_is_true_when_each_of_its_words_is() -> None:
    words = {"red", "star", "moving left", "black", "small"}

    assert all(is_true(phrase, words) for phrase in ("red", "red star", "moving left", "plain black"))
    assert not any(is_true(phrase, words) for phrase in ("blue star", "moving right", "big", "red circle"))
