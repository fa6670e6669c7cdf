from pathlib import Path

import pytest

from bike_cli.data import lexicons
from bike_cli.data.lexicons import lexicon_names, read_lexicon
from bike_cli.errors import UsageError


def test_the_lexicons_that_come_along_are_listed() -> None:
    assert lexicon_names() == ("common", "imagenet1k", "kinetics400", "scenes", "shapes")


@pytest.mark.parametrize(
    ("name", "phrases"), [("imagenet1k", 998), ("kinetics400", 400), ("scenes", 365), ("common", 324), ("shapes", 24)]
)
def test_a_lexicon_has_its_number_of_distinct_phrases(name: str, phrases: int) -> None:
    assert len(read_lexicon(name)) == phrases


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("imagenet1k", "tench", "toilet paper"),
        ("kinetics400", "abseiling", "zumba"),
        ("scenes", "airfield", "zen garden"),
    ],
)
def test_a_class_list_keeps_the_order_of_its_source(name: str, first: str, last: str) -> None:
    phrases = read_lexicon(name)

    assert (phrases[0], phrases[-1]) == (first, last)


@pytest.mark.parametrize("name", lexicon_names())
def test_a_lexicon_states_its_source(name: str) -> None:
    text = (Path(lexicons.__file__).parent / f"{name}.txt").read_text(encoding="utf-8")

    assert "\n# Source: " in text


def test_a_phrase_that_comes_again_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# mine\nRed\nball\nred \n")

    assert read_lexicon(file) == ("Red", "ball")


def test_an_unknown_lexicon_meets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"^imagenet: no such lexicon; the nearest is 'imagenet1k' .* or give a file"):
        read_lexicon("imagenet")


def test_a_missing_file_of_phrases_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"words.txt: no such file"):
        read_lexicon(tmp_path / "words.txt")


def test_an_empty_file_of_phrases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").touch()

    with pytest.raises(UsageError, match=r"words.txt: contains no phrases"):
        read_lexicon(tmp_path / "words.txt")


def test_a_video_in_place_of_phrases_is_recognised(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))

    with pytest.raises(UsageError, match=r"is a video, not a list of phrases"):
        read_lexicon(film)
