"""The whole: what labels are to each other, blocks, videos of any length, memory and repeatability."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from tensor_watch import LargestTensor
from torch import Tensor, nn

from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.engine.localisation.decoding import RunRule
from bike_cli.engine.localisation.localise import NUMBERS_TOGETHER, Localisation, localise, localise_log_odds
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.voters import Voters

DIM, SCALE = 16, 40.0
RULE = RunRule(fps=4, min_duration_s=1, threshold=0.5)


def vectors(seed: int, *shape: int) -> Tensor:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def texts_of(classes: Tensor) -> ClassTexts:
    return ClassTexts(classes, Voters.among(classes[:, None], None), 0.1)


LABELS = torch.eye(DIM)[:6]
NOTHING = torch.eye(DIM)[-1]
PHRASES = vectors(2, 20, DIM)


def video(*spans: tuple[int | None, int], seed: int = 3) -> Tensor:
    """Frames that show a label, or nothing, for numbers of bins, with some noise."""
    noise = vectors(seed, sum(length for _, length in spans), DIM)
    shown = [NOTHING if i is None else LABELS[i] for i, length in spans for _ in range(length)]
    return 3 * (torch.stack(shown) + 0.3 * noise)


FRAMES = video((None, 8), (0, 12), (None, 10), (2, 9), (1, 14), (None, 7))


@pytest.fixture(scope="module")
def head() -> nn.Module:
    torch.manual_seed(0)
    return TemporalTransformer(DIM, 2).eval().requires_grad_(False)


def localised(frames: Tensor, classes: Tensor = LABELS, **options: object) -> Localisation:
    settings: dict[str, object] = {"head": None, "logit_scale": SCALE, "rule": RULE, **options}
    is_read = settings.pop("is_read", torch.ones(len(frames), dtype=torch.bool))
    return localise(frames, is_read, texts_of(classes), PHRASES, **settings)  # type: ignore[arg-type]


def spans(found: Localisation) -> list[tuple[int, int, int]]:
    return [(run.label, run.start, run.stop) for run in found.runs]


def same(a: Localisation, b: Localisation) -> bool:
    """Whether two results are equal to the bit."""
    assert a.chances is not None
    assert b.chances is not None
    chances = torch.equal(a.chances.nan_to_num(-1), b.chances.nan_to_num(-1))
    return chances and (a.runs, a.best) == (b.runs, b.best)


def test_labels_are_found_where_they_are_shown() -> None:
    assert spans(localised(FRAMES)) == [(0, 8, 20), (2, 30, 39), (1, 39, 53)]


def test_windows_without_change_find_the_same() -> None:
    found = spans(localised(FRAMES, head=nn.Identity()))

    assert [label for label, *_ in found] == [0, 2, 1]
    for (_, start, stop), (begin, end) in zip(found, [(8, 20), (30, 39), (39, 53)], strict=True):
        assert abs(start - begin) <= 1
        assert abs(stop - end) <= 1


def test_runs_are_sorted_by_time_then_label() -> None:
    both = video((None, 5), (3, 10)) + video((None, 5), (1, 10))

    assert spans(localised(both)) == [(1, 5, 15), (3, 5, 15)]


def test_the_best_bin_is_that_of_the_most_probable_label() -> None:
    found = localised(FRAMES, keep_chances=True)

    assert found.best is not None
    assert found.chances is not None
    assert found.best.score == pytest.approx(float(found.chances.max()))
    assert float(found.chances[found.best.bin, found.best.label]) == pytest.approx(found.best.score)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("with_head", [False, True])
def test_the_order_of_labels_does_not_matter(head: nn.Module, with_head: bool, exclusive: bool) -> None:
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    options: dict[str, object] = {"head": head if with_head else None, "exclusive": exclusive, "keep_chances": True}

    there, here = localised(FRAMES, **options), localised(FRAMES, LABELS[order], **options)

    assert there.chances is not None
    assert here.chances is not None
    assert torch.allclose(here.chances, there.chances[:, order], atol=1e-5)
    renamed = {(int(order[run.label]), run.start, run.stop) for run in here.runs}
    assert renamed == {(run.label, run.start, run.stop) for run in there.runs}


def test_labels_change_each_other_only_as_rivals() -> None:
    alone = localised(FRAMES, LABELS[:1], keep_chances=True)
    beside = localised(FRAMES, torch.stack([LABELS[0], -LABELS[0]]), keep_chances=True)
    rival = localised(FRAMES, torch.stack([LABELS[0], unit(LABELS[0] + 0.01)]), keep_chances=True)

    assert alone.chances is not None
    assert beside.chances is not None
    assert rival.chances is not None
    shown = slice(8, 20)
    assert torch.allclose(alone.chances[shown, 0], beside.chances[shown, 0], atol=1e-6)
    assert bool((rival.chances[:, 0] <= alone.chances[:, 0] + 1e-6).all())


def test_a_text_that_fits_better_takes_the_place_of_a_label_without_being_reported() -> None:
    near = unit(LABELS[0] + 0.9 * LABELS[5])  # shares much with what is shown
    classes = torch.stack([near, LABELS[0]])

    alone, against = localised(FRAMES, near[None]), localised(FRAMES, classes, reported=1, keep_chances=True)

    assert spans(alone) != []
    assert against.runs == ()
    assert against.chances is not None
    assert against.chances.shape == (len(FRAMES), 1)
    assert against.best is not None
    assert against.best.label == 0


def test_only_one_label_at_a_time_where_labels_are_exclusive() -> None:
    both = video((None, 5), (3, 10)) + 0.9 * video((None, 5), (1, 10))

    assert spans(localised(both, exclusive=True)) == [(3, 5, 15)]


def test_silence_around_a_video_moves_its_segments() -> None:
    longer = torch.cat([video((None, 12), seed=8), FRAMES, video((None, 20), seed=9)])

    assert spans(localised(longer)) == [(label, a + 12, b + 12) for label, a, b in spans(localised(FRAMES))]


def test_a_video_that_runs_backwards_has_its_segments_backwards() -> None:
    length = len(FRAMES)

    backwards = spans(localised(FRAMES.flip(0)))

    assert sorted((c, length - b, length - a) for c, a, b in backwards) == sorted(spans(localised(FRAMES)))


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9])
def test_a_video_may_have_any_length(head: nn.Module, length: int, with_head: bool) -> None:
    options: dict[str, object] = {"head": head if with_head else None, "keep_chances": True}

    found = localised(FRAMES[:length], **options)

    assert found.chances is not None
    assert found.chances.shape == (length, len(LABELS))
    assert (found.best is None) == (length == 0)
    assert math.isnan(found.null_level) == (length == 0)


def test_one_frame_can_be_a_segment() -> None:
    (run,) = localised(LABELS[:1], LABELS[:1]).runs

    assert (run.start, run.stop, run.peak) == (0, 1, 0)


def test_a_still_picture_is_one_segment() -> None:
    found = localised(LABELS[2].expand(4000, DIM), head=nn.Identity())

    assert spans(found) == [(2, 0, 4000)]


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("value", [math.nan, 1e30])
def test_frames_that_were_not_read_do_not_count(head: nn.Module, value: float, with_head: bool) -> None:
    options: dict[str, object] = {"head": head if with_head else None, "keep_chances": True}
    is_read = torch.ones(len(FRAMES), dtype=torch.bool)
    is_read[[0, 12, 13, 33, len(FRAMES) - 1]] = False
    damaged = FRAMES.masked_fill(~is_read[:, None], value)

    found, without = localised(damaged, is_read=is_read, **options), localised(FRAMES[is_read], **options)

    assert found.null_level == without.null_level
    assert found.chances is not None
    assert without.chances is not None
    assert torch.allclose(found.chances[is_read], without.chances, rtol=0, atol=1e-6)
    assert bool(torch.isnan(found.chances[~is_read]).all())


def test_without_a_frame_that_was_read_nothing_is_found() -> None:
    found = localised(FRAMES, is_read=torch.zeros(len(FRAMES), dtype=torch.bool), keep_chances=True)

    assert (found.runs, found.best) == ((), None)
    assert found.chances is not None
    assert bool(torch.isnan(found.chances).all())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_an_error(value: float) -> None:
    broken = FRAMES.clone()
    broken[3] = value

    with pytest.raises(ValueError, match="NaN"):
        localised(broken)


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("limit", ["LABELS_TOGETHER", "NUMBERS_TOGETHER", "MOST_EXCESS"])
def test_blocks_of_labels_change_nothing(
    monkeypatch: pytest.MonkeyPatch, head: nn.Module, limit: str, with_head: bool
) -> None:
    options: dict[str, object] = {"head": head if with_head else None, "reported": 5, "keep_chances": True}
    whole = localised(FRAMES, **options)

    monkeypatch.setattr(f"bike_cli.engine.localisation.localise.{limit}", 2)
    found = localised(FRAMES, **options)

    assert spans(found) == spans(whole)
    assert found.chances is not None
    assert whole.chances is not None
    assert torch.allclose(found.chances, whole.chances, atol=1e-5)


@pytest.mark.parametrize("with_head", [False, True])
def test_the_same_features_give_the_same_result_to_the_bit(head: nn.Module, with_head: bool) -> None:
    options: dict[str, object] = {"head": head if with_head else None, "keep_chances": True}
    # As they come from a store: elsewhere in memory, and with other strides.
    elsewhere = torch.cat([torch.zeros(1), FRAMES.flatten()])[1:].reshape(FRAMES.shape)
    strided = torch.stack([FRAMES, FRAMES], dim=2)[..., 0]

    first = localised(FRAMES, **options)

    assert same(localised(elsewhere, **options), first)
    assert same(localised(strided, **options), first)


def test_given_log_odds_are_decoded_alike() -> None:
    numbers = torch.full((12, 2), -9.0)
    numbers[3:9, 1] = 4.0

    found = localise_log_odds(numbers, torch.ones(12, dtype=torch.bool), RULE, keep_chances=True)

    assert spans(found) == [(1, 3, 9)]
    assert found.best is not None
    assert (found.best.label, found.best.bin) == (1, 3)
    assert found.best.score == pytest.approx(1 / (1 + math.exp(-4)))
    assert torch.allclose(found.chances, torch.sigmoid(numbers))


@pytest.mark.slow
def test_ten_thousand_labels_are_never_all_in_memory() -> None:
    classes = vectors(5, 10_000, 8)
    frames = vectors(6, 2_000, 8)
    texts, is_read = texts_of(classes), torch.ones(len(frames), dtype=torch.bool)

    with LargestTensor() as largest:
        localise(frames, is_read, texts, vectors(7, 9, 8), head=None, logit_scale=SCALE, rule=RULE)

    assert largest.numbers <= 256 * 2_000 < NUMBERS_TOGETHER < 10_000 * 2_000


@pytest.mark.parametrize("masked", [False, True])
def test_texts_split_into_blocks_with_their_own_voters(masked: bool) -> None:
    tokens = vectors(1, 9, 4, DIM)
    mask = torch.rand(9, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[:, 1] = True
    texts = ClassTexts(tokens[:, 0], Voters.among(tokens, mask if masked else None), 0.1)

    blocks = texts.split(4)

    assert [len(block.classes) for block in blocks] == [4, 4, 1]
    for first, block in zip((0, 4, 8), blocks, strict=True):
        assert torch.equal(block.classes, texts.classes[first : first + 4])
        assert block.voters is not None
        for i in range(len(block.classes)):
            assert torch.equal(
                block.voters.of_class(i), tokens[first + i][mask[first + i]] if masked else tokens[first + i]
            )
    frames = 2 * vectors(3, 2, 5, DIM)
    assert torch.allclose(torch.cat([block.scores(frames) for block in blocks], dim=1), texts.scores(frames), atol=1e-6)
    assert replace(texts, voters=None).split(20)[0].voters is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("with_head", [False, True])
def test_a_cuda_device_finds_the_same(head: nn.Module, with_head: bool) -> None:
    on_cuda = copy.deepcopy(head).cuda() if with_head else None
    texts, is_read = texts_of(LABELS.cuda()), torch.ones(len(FRAMES), dtype=torch.bool)

    def locate() -> Localisation:
        return localise(
            FRAMES.cuda(), is_read, texts, PHRASES.cuda(), head=on_cuda, logit_scale=SCALE, rule=RULE, keep_chances=True
        )

    there, here = locate(), localised(FRAMES, head=head if with_head else None, keep_chances=True)

    assert same(there, locate())
    assert spans(there) == spans(here)
    assert there.chances is not None
    assert here.chances is not None
    assert torch.allclose(there.chances, here.chances, atol=1e-4)
