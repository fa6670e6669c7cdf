"""A seed decides what is drawn, and nothing else; what is drawn is not tested on."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bike_cli.data.labelled.draws import Deal, Draw, deal, draw
from bike_cli.errors import UsageError
from bike_cli.records import Sample, Source

NAMES = ("archery", "bowling", "cricket")
seeds = st.integers(0, 2**63)
sizes = st.lists(st.integers(4, 9), min_size=3, max_size=3)
fractions = st.sampled_from([None, 0.2, 0.5])


def held_back(dealt: Deal) -> frozenset[int]:
    assert dealt.held is not None
    return frozenset().union(*dealt.held)


def samples(labels: Sequence[int]) -> list[Sample]:
    return [Sample(Source.at(f"{i}.mp4"), label) for i, label in enumerate(labels)]


def of_sizes(counts: Sequence[int]) -> list[Sample]:
    return samples([label for label, count in enumerate(counts) for _ in range(count)])


def turns(among: Sequence[Sample], dealt: Deal, label: int) -> list[int]:
    """Return a class's order in places among its own videos, which other classes do not move."""
    own = [place for place, sample in enumerate(among) if sample.label == label]
    return [own.index(place) for place in dealt.order[label]]


def places_of(among: Sequence[Sample], label: int) -> set[int]:
    return {place for place, sample in enumerate(among) if sample.label == label}


# -- the order ---------------------------------------------------------------------------------------------------------


@given(seed=seeds, counts=sizes)
def test_each_video_of_a_class_has_one_turn(seed: int, counts: list[int]) -> None:
    videos = of_sizes(counts)

    dealt = deal(videos, NAMES, seed=seed, trial=0)

    assert [sorted(order) for order in dealt.order] == [sorted(places_of(videos, label)) for label in range(3)]
    assert dealt.held is None


@given(seed=seeds, others=st.lists(st.sampled_from([0, 2]), max_size=12), mixed=st.randoms())
def test_other_classes_do_not_change_the_order_of_one(seed: int, others: list[int], mixed: random.Random) -> None:
    alone, labels = samples([1] * 6), [1] * 6 + others
    mixed.shuffle(labels)
    together = samples(labels)

    dealt = deal(together, NAMES, seed=seed, trial=1)

    assert turns(together, dealt, 1) == turns(alone, deal(alone, NAMES, seed=seed, trial=1), 1)


def test_the_place_of_a_class_among_the_names_does_not_change_its_order() -> None:
    first, last = samples([0] * 9), samples([2] * 9)

    one = turns(first, deal(first, ("golf", "polo", "judo"), seed=4, trial=0), 0)
    other = turns(last, deal(last, ("judo", "polo", "golf"), seed=4, trial=0), 2)

    assert one == other


def test_a_seed_gives_the_same_order_again() -> None:
    videos = of_sizes([9, 9, 9])

    assert deal(videos, NAMES, seed=7, trial=2) == deal(videos, NAMES, seed=7, trial=2)


@pytest.mark.parametrize(("seed", "trial"), [(8, 0), (7, 1), (0, 7)])
def test_another_seed_or_trial_gives_another_order_of_each_class(seed: int, trial: int) -> None:
    videos = of_sizes([12, 12, 12])
    dealt, other = deal(videos, NAMES, seed=7, trial=0), deal(videos, NAMES, seed=seed, trial=trial)

    same = [one == another for one, another in zip(dealt.order, other.order, strict=True)]

    assert same == [False] * 3


def test_classes_of_one_size_are_shuffled_each_by_its_own_name() -> None:
    videos = of_sizes([12, 12, 12])
    dealt = deal(videos, NAMES, seed=0, trial=0)

    orders = {tuple(turns(videos, dealt, label)) for label in range(3)}

    assert len(orders) == 3


def test_over_many_seeds_each_video_is_first_about_as_often() -> None:
    videos = samples([0] * 4)
    firsts = [deal(videos, ("golf",), seed=seed, trial=0).order[0][0] for seed in range(2000)]

    shares = [firsts.count(place) / 2000 for place in range(4)]

    assert shares == pytest.approx([0.25] * 4, abs=0.05)  # five standard deviations


def test_a_name_that_is_no_text_has_an_order_too() -> None:
    videos = samples([0] * 4)

    assert sorted(deal(videos, ("caf\udce9",), seed=0, trial=0).order[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_draws_the_same(hash_seed: str) -> None:
    videos = of_sizes([9, 9, 9])
    program = (
        "from bike_cli.records import Sample, Source\n"
        "from bike_cli.data.labelled.draws import deal\n"
        "videos = [Sample(Source.at(f'{i}.mp4'), i // 9) for i in range(27)]\n"
        f"print(deal(videos, {NAMES!r}, seed=3, trial=1, test_fraction=0.3))\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    ).stdout

    assert result.strip() == repr(deal(videos, NAMES, seed=3, trial=1, test_fraction=0.3))


# -- what is held back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "counts", "kept"),
    [(0.2, [10, 5, 20], [2, 1, 4]), (0.01, [4, 9, 30], [1, 1, 1]), (0.5, [8, 7, 4], [4, 4, 2])],
)
def test_a_fraction_of_each_class_is_held_back_and_one_video_at_least(
    fraction: float, counts: list[int], kept: list[int]
) -> None:
    videos = of_sizes(counts)

    dealt = deal(videos, NAMES, seed=0, trial=0, test_fraction=fraction)

    assert [len(held_back(dealt) & places_of(videos, label)) for label in range(3)] == kept


@given(seed=seeds, counts=sizes, fraction=st.floats(0.01, 0.7))
def test_a_video_is_held_back_or_has_a_turn(seed: int, counts: list[int], fraction: float) -> None:
    dealt = deal(of_sizes(counts), NAMES, seed=seed, trial=0, test_fraction=fraction)

    assert sorted([*chain(*dealt.order), *held_back(dealt)]) == list(range(sum(counts)))


# -- the draw ----------------------------------------------------------------------------------------------------------


@given(seed=seeds, counts=sizes, fewer=st.integers(1, 2), more=st.integers(2, 3))
def test_fewer_shots_are_the_first_of_more(seed: int, counts: list[int], fewer: int, more: int) -> None:
    dealt = deal(of_sizes(counts), NAMES, seed=seed, trial=0)

    few = draw(dealt, NAMES, most=fewer, unusable=())
    many = draw(dealt, NAMES, most=more, unusable=())

    assert few.shots == tuple(shots[:fewer] for shots in many.shots)


@given(seed=seeds, lost=st.integers(0, 2))
def test_the_next_in_the_order_takes_the_turn_of_one_that_cannot_be_used(seed: int, lost: int) -> None:
    dealt = deal(of_sizes([6, 6, 6]), NAMES, seed=seed, trial=0)
    order = dealt.order[1]

    whole = draw(dealt, NAMES, most=3, unusable=())
    drawn = draw(dealt, NAMES, most=3, unusable=[order[lost]])

    assert drawn.shots[1] == (*order[:lost], *order[lost + 1 : 4])
    assert (drawn.shots[0], drawn.shots[2]) == (whole.shots[0], whole.shots[2])
    assert set(drawn.test) == set(whole.test) - {order[3]}


def test_one_that_cannot_be_used_later_in_the_order_changes_no_shot() -> None:
    dealt = deal(of_sizes([6, 6, 6]), NAMES, seed=5, trial=0)

    whole = draw(dealt, NAMES, most=2, unusable=())
    drawn = draw(dealt, NAMES, most=2, unusable={dealt.order[0][4]})

    assert drawn.shots == whole.shots
    assert set(drawn.test) == set(whole.test) - {dealt.order[0][4]}


def test_what_is_not_drawn_is_tested_on_in_order() -> None:
    videos = samples([2, 0, 1, 0, 1, 2, 0, 1, 2])
    dealt = deal(videos, NAMES, seed=0, trial=0)

    drawn = draw(dealt, NAMES, most=2, unusable=())

    assert drawn.test == tuple(sorted(set(range(9)) - set(chain(*drawn.shots))))
    assert len(drawn.test) == 3


def test_what_is_held_back_is_tested_on_whatever_is_drawn() -> None:
    dealt = deal(of_sizes([10, 10, 10]), NAMES, seed=0, trial=0, test_fraction=0.3)

    tests = [draw(dealt, NAMES, most=most, unusable=()).test for most in (1, 4, 7)]

    assert tests == [tuple(sorted(held_back(dealt)))] * 3


def test_one_that_is_held_back_and_cannot_be_used_is_left_out() -> None:
    dealt = deal(of_sizes([10, 10, 10]), NAMES, seed=0, trial=0, test_fraction=0.3)
    lost = max(held_back(dealt))

    drawn = draw(dealt, NAMES, most=2, unusable={lost})

    assert drawn.test == tuple(sorted(held_back(dealt) - {lost}))
    assert drawn.shots == draw(dealt, NAMES, most=2, unusable=()).shots


def test_a_test_side_is_tested_on_and_nothing_else() -> None:
    dealt = deal(of_sizes([3, 3, 3]), NAMES, seed=0, trial=0)

    drawn = draw(dealt, NAMES, most=3, unusable={11}, test=(9, 10, 11, 12))  # all that can be learned from is drawn

    assert drawn.test == (9, 10, 12)
    assert [sorted(shots) for shots in drawn.shots] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@given(
    seed=seeds,
    counts=sizes,
    fraction=fractions,
    most=st.integers(1, 2),
    lost=st.lists(st.integers(0, 8), max_size=3),
)
def test_no_video_is_drawn_and_tested_on(
    seed: int, counts: list[int], fraction: float | None, most: int, lost: list[int]
) -> None:
    videos = of_sizes([count + 4 for count in counts])
    dealt = deal(videos, NAMES, seed=seed, trial=0, test_fraction=fraction)
    unusable = {order[i] for order, i in zip(dealt.order, lost, strict=False) if i < len(order)}

    drawn = draw(dealt, NAMES, most=most, unusable=unusable)

    learned_from = list(chain(*drawn.shots))
    assert len({*learned_from, *drawn.test}) == len(learned_from) + len(drawn.test)
    assert not unusable & {*learned_from, *drawn.test}
    assert [videos[place].label for place in learned_from] == [label for label in range(3) for _ in range(most)]


# -- what cannot work --------------------------------------------------------------------------------------------------


def drawn_of(counts: Sequence[int], *, most: int, lost: int = 0, test_fraction: float | None = None) -> Draw:
    """Return a draw where the first `lost` of the second class cannot be used."""
    dealt = deal(of_sizes(counts), NAMES, seed=0, trial=0, test_fraction=test_fraction)
    return draw(dealt, NAMES, most=most, unusable=dealt.order[1][:lost])


def test_too_few_videos_are_refused() -> None:
    message = (
        "class 'bowling': has 2 videos, but 3 shots need 3 to learn from and 1 to test on; give --shots 1, add videos, "
        "or name others to test on with --test"
    )

    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        drawn_of([5, 2, 5], most=3)


def test_too_few_usable_videos_are_refused_and_the_lost_ones_are_named() -> None:
    message = (
        "class 'bowling': has 2 videos (3 more cannot be used), but 3 shots need 3 to learn from and 1 to test on; "
        "give --shots 1, add videos, or name others to test on with --test"
    )

    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        drawn_of([5, 5, 5], most=3, lost=3)


def test_a_class_without_videos_is_refused() -> None:
    with pytest.raises(UsageError, match="class 'cricket': has 0 videos, but 1 shot needs 1 to learn from"):
        drawn_of([5, 5, 0], most=1)


def test_a_single_shot_is_counted_as_one() -> None:
    with pytest.raises(
        UsageError, match="has 1 video, but 1 shot needs 1 to learn from and 1 to test on; add videos, or name"
    ):
        drawn_of([5, 1, 5], most=1)


@pytest.mark.parametrize(("count", "lost"), [(3, 0), (4, 1)])
def test_shots_that_leave_none_to_test_on_are_refused(count: int, lost: int) -> None:
    message = (
        "class 'bowling': has 3 videos, but 3 shots need 3 to learn from and 1 to test on; give --shots 2 or fewer, "
        "add videos, or name others to test on with --test"
    )

    message = message.replace("3 videos,", "3 videos (1 more cannot be used),") if lost else message
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        drawn_of([5, count, 5], most=3, lost=lost)


def test_the_suggested_shots_suit_the_smallest_class() -> None:
    with pytest.raises(UsageError, match=r"class 'cricket': has 3 videos, .*; give --shots 2 or fewer") as refused:
        drawn_of([5, 4, 3], most=5)

    assert drawn_of([5, 4, 3], most=2).shots
    assert refused.value.settings == ("shots",)


def test_one_video_is_worded_in_the_singular() -> None:
    with pytest.raises(UsageError, match="class 'bowling': has 1 video, but 2 shots need 2"):
        drawn_of([5, 1, 5], most=2)


def test_what_is_held_back_cannot_be_drawn() -> None:
    with pytest.raises(
        UsageError,
        match="class 'archery': has 3 videos not held back, but 4 shots need 4 to learn from; give --shots 3 or",
    ):
        drawn_of([6, 6, 6], most=4, test_fraction=0.5)


def test_a_class_whose_held_back_videos_are_all_lost_is_refused() -> None:
    videos = of_sizes([6, 6, 6])
    dealt = deal(videos, NAMES, seed=0, trial=0, test_fraction=0.3)

    with pytest.raises(UsageError, match="class 'bowling'"):
        draw(dealt, NAMES, most=2, unusable=held_back(dealt) & places_of(videos, 1))
