"""Records of a million names are counted in little memory."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bike_cli.data.parts.names import NameCounts

# Among thousands of digests, some end with NUL bytes, which NumPy leaves out.
MANY = [f"clips/{i}.mp4" for i in range(3000)]


def counts_of(names: list[str]) -> NameCounts:
    counts = NameCounts()
    for name in names:
        counts.add(name)
    return counts


def test_each_record_is_taken_once() -> None:
    counts = counts_of(MANY)

    assert all(counts.take(name) for name in reversed(MANY))
    assert not any(counts.take(name) for name in MANY)


@given(st.lists(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdefgh")))
def test_records_are_taken_as_from_a_counter(added: list[str], taken: list[str]) -> None:
    counts, left = counts_of(added), Counter(added)

    for name in taken:
        assert counts.take(name) is (left[name] > 0)
        left[name] -= 1 if left[name] else 0


def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = counts_of(["clips/a.mp4"] * 3)

    assert counts.take("./clips/a.mp4")
    assert counts.take(str(tmp_path / "clips" / "a.mp4"))
    assert counts.take("other/../clips/a.mp4")
    assert not counts.take("clips/a.mp4")


def test_bytes_that_are_not_utf_8_stay_apart() -> None:
    counts = counts_of(["\udcff.mp4"])

    assert not counts.take("\\xff.mp4")
    assert counts.take("\udcff.mp4")


def test_a_million_names_take_less_than_40_mb() -> None:
    counts = NameCounts()
    counts._added = bytearray(range(256)) * (16 * 1_000_000 // 256)
    counts.take("a")

    assert counts._digests is not None
    assert counts._digests.nbytes + counts._is_taken.nbytes + len(counts._added) < 40e6
