"""Shards share out any videos: all of them, each once, whoever asks and in whatever order."""

import os
import subprocess
import sys

import pytest

from bike_cli.data.shards import Shard, parse_shard
from bike_cli.errors import UsageError

NAMES = [f"clips/{i % 7}/film {i}.mp4" for i in range(2000)]
ODD = ["", " ", "日本語.mp4", os.fsdecode(b"caf\xe9.mp4"), "new\nline.mp4", "-x.mp4"]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_video_is_in_one_shard(count: int) -> None:
    shards = [Shard(i, count) for i in range(1, count + 1)]

    assert {sum(shard.holds(name) for shard in shards) for name in NAMES + ODD} == {1}


@pytest.mark.parametrize("index", range(1, 9))
def test_shards_are_of_about_one_size(index: int) -> None:
    held = sum(Shard(index, 8).holds(name) for name in NAMES)

    # Binomial: 250 expected, a deviation of 15.
    assert 250 - 5 * 15 < held < 250 + 5 * 15


def test_another_process_agrees_whatever_its_hash_seed() -> None:
    program = "import sys; from bike_cli.data.shards import Shard; print([Shard(2, 3).holds(n) for n in sys.argv[1:]])"

    said = subprocess.run(
        [sys.executable, "-c", program, *NAMES[:50]],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert said.strip() == str([Shard(2, 3).holds(name) for name in NAMES[:50]])


def test_the_shard_of_a_name_never_changes() -> None:
    # What `printf %s a.mp4 | b2sum -l 64` prints.
    assert Shard(int("840c950b84ba4614", 16) % 4 + 1, 4).holds("a.mp4")


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", Shard(1, 1)), ("3/4", Shard(3, 4)), (" 12/1000 ", Shard(12, 1000))]
)
def test_a_shard_is_written_as_part_and_count(text: str, shard: Shard) -> None:
    assert parse_shard(text) == shard


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0/4", "there is no part 0; they are counted from 1/4 to 4/4"),
        ("5/4", "there is no part 5"),
        ("1/0", "has no parts"),
        ("x", "is not I/N"),
        ("1", "is not I/N"),
        ("-1/4", "is not I/N"),
        ("1/4/2", "is not I/N"),
        ("1.5/4", "is not I/N"),
        ("²/4", "is not I/N"),
        ("", "is not I/N"),
    ],
)
def test_anything_else_is_a_usage_error(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_shard(text)


def test_parts_overlap_if_some_number_belongs_to_both() -> None:
    shards = [Shard(i, n) for n in range(1, 7) for i in range(1, n + 1)]

    for one in shards:
        for other in shards:
            numbers = range(one.count * other.count)
            both = any(n % one.count == one.index - 1 and n % other.count == other.index - 1 for n in numbers)
            assert one.overlaps(other) == both
