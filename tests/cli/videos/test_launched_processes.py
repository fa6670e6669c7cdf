"""Commands under a launcher of several processes, such as torchrun."""

from pathlib import Path

import pytest
from invoke import bike

from bike_cli.errors import ExitCode

TINY = ("-m", "tiny")
LABELS = ("-L", "red square,blue circle")


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize(
    "command",
    [
        ("classify", "clips", *LABELS),
        ("classify", "clips", *LABELS, "-o", "out.jsonl"),
        ("spot", "clips", *LABELS, "-o", "out/"),
        ("spot", "clips", *LABELS, "-f", "srt", "-o", "out"),
        ("embed", "clips", "-o", "out/"),
        ("embed", *LABELS, "-o", "out.npz"),
    ],
)
def test_many_processes_that_would_do_the_same_are_refused(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], rank: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").symlink_to(clips)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)

    ran = bike(*command, *TINY)

    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert "error: WORLD_SIZE: is 2, so a launcher started 2 processes, and each would do all" in ran.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": "many"}])
def test_one_process_works(clips: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert bike("classify", clips / "red_square.mp4", *LABELS, *TINY).exit_code == ExitCode.DONE


def test_processes_with_shards_share_the_videos(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for rank in range(2):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        paths += [r["path"] for r in bike("classify", clips, *LABELS, *TINY, "--shard", f"{rank + 1}/2").records]

    assert sorted(map(str, paths)) == sorted(map(str, clips.iterdir()))
