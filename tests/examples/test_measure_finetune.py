"""The program that measures fine-tuning on rendered clips: what its clips show, and that its table comes out."""

from argparse import Namespace
from pathlib import Path

import pytest
from measure_finetune import (
    ATTRIBUTES,
    MOTIONS_OF,
    ROWS,
    SHARES,
    SPOTTING,
    figure,
    jobs_of,
    outcomes,
    print_rates,
    print_table,
    render,
    scenes_of,
)
from shapes import EVERY_MOTION, HELD_OUT


def compositions(side: str, motion: str, clips: int) -> set[tuple[int, int]]:
    scenes = scenes_of(side, motion, clips)
    return set(zip(scenes.shape[:, 0].tolist(), scenes.colour[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("motion", ["still", "moving left", "orbiting"])
def test_no_clip_to_test_on_has_a_composition_that_was_learned_or_validated(motion: str) -> None:
    seen = compositions("train", motion, 200) | compositions("val", motion, 200)

    tested = compositions("test", motion, 200)
    assert tested <= HELD_OUT
    assert not tested & seen
    assert len(seen) > 40
    assert len(tested) > 10


def test_clips_of_one_motion_are_drawn_apart_for_each_side() -> None:
    phases = [scenes_of(side, "bouncing", 50).phase.flatten().tolist() for side in SHARES]

    assert len({phase for of_side in phases for phase in of_side}) == 150


@pytest.mark.parametrize("motion", EVERY_MOTION)
def test_scenes_of_a_motion_show_it(motion: str) -> None:
    scenes = scenes_of("val", motion, 20)

    assert scenes.motion.flatten().tolist() == [EVERY_MOTION.index(motion)] * 20


def test_clips_are_rendered_into_class_folders_of_three_sides(tmp_path: Path) -> None:
    render(tmp_path, ["moving left", "orbiting"], clips=1)

    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4"))
    assert found == sorted(f"{side}/{name}/0000.mp4" for side in SHARES for name in ("moving_left", "orbiting"))


def test_a_figure_is_a_mean_with_its_standard_error() -> None:
    assert figure([0.9, 1.0]) == "95.0 ± 5.0"
    assert figure([0.5]) == "50.0"


@pytest.mark.slow
def test_the_table_has_a_figure_for_every_row_and_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Namespace(
        batch_size=16, motions=["known", "new"], choose=None, lr=1e-3, epochs=1, device="cpu", seeds=1, jobs=1
    )
    for task, motions in MOTIONS_OF.items():
        render(tmp_path / task, motions, clips=2)

    found = outcomes(jobs_of(options, tmp_path), at_once=1)
    print_table(found)

    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line[0].removeprefix("| ") for line in lines[2:]] == [row.name for row in ROWS]
    assert all(0 <= float(cell.removesuffix(" |")) <= 100 for line in lines[2:] for cell in line[1:])
    assert {len(o.right[name]) for o in found for name in o.right if o.job.task == "known"} == {10}
    assert all(o.right[SPOTTING] for o in found if ATTRIBUTES in o.right)


@pytest.mark.slow
def test_rates_are_chosen_without_a_look_at_what_is_tested_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Namespace(
        batch_size=16, motions=["known"], choose="1e-3", lr=1e-3, epochs=1, device="cpu", seeds=1, jobs=1
    )
    render(tmp_path / "known", MOTIONS_OF["known"], clips=2)
    for clip in (tmp_path / "known" / "test").rglob("*.mp4"):
        clip.write_bytes(b"")

    found = outcomes(jobs_of(options, tmp_path), at_once=1)
    print_rates(found)

    assert all(not outcome.right for outcome in found)
    assert "| known, 0.001 |" in capsys.readouterr().out
