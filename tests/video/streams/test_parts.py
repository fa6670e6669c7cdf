"""Requests that are split into parts have the same frames as the whole."""

from pathlib import Path

import numpy as np
import pytest
from barcode_films import with_empty_packets
from bin_oracle import differing, streamed
from scene_films import FILMS, X264, write_film
from speed import slow_but

from bike_cli.records import Source
from bike_cli.video.streams.parts import split_request
from bike_cli.video.streams.values import StreamEnd, StreamRequest, join_ends


def check(film: Path, request: StreamRequest, parts: int) -> list[StreamRequest]:
    """Compare all parts with the whole, bin by bin; return the parts."""
    whole = streamed(film, request.fps, draft=request.draft, first_bin=request.first_bin, end_bin=request.end_bin)

    found = split_request(Source.at(film), request, parts)

    pieces = [streamed(film, p.fps, draft=p.draft, first_bin=p.first_bin, end_bin=p.end_bin) for p in found]
    joined: list[np.ndarray | None] = [None] * request.first_bin
    for part, piece in zip(found, pieces, strict=True):
        joined += piece.bins()[part.first_bin :]
    assert differing(joined, whole.bins()) == []
    end = join_ends([piece.end for piece in pieces])
    assert (end.n_bins, end.end_s, end.duration_s) == (whole.end.n_bins, whole.end.end_s, whole.end.duration_s)
    assert (end.missing.tolist(), end.warning) == (whole.end.missing.tolist(), whole.end.warning)
    if not request.draft:
        assert sum(len(piece.rows) for piece in pieces) == len(whole.rows)
    return found


@pytest.mark.parametrize("name", slow_but(list(FILMS)[::2], FILMS))
@pytest.mark.parametrize("fps", slow_but([5], [5, 60]))
def test_parts_joined_are_the_whole(tmp_path: Path, name: str, fps: float) -> None:
    film = FILMS[name](tmp_path / name)
    for parts in (2, 3, 100):
        assert 1 <= len(check(film, StreamRequest(fps), parts)) <= parts


def test_parts_begin_at_keyframes(tmp_path: Path) -> None:
    options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2:b-adapt=0"}
    film = write_film(tmp_path / "film.mp4", "libx264", options=options)

    found = check(film, StreamRequest(25), 4)

    assert [(part.first_bin, part.end_bin) for part in found] == [(0, 12), (12, 24), (24, 36), (36, None)]


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("end", [None, 11])
def test_a_part_is_split_within_its_bins(tmp_path: Path, first: int, end: int | None) -> None:
    film = FILMS["h264.mp4"](tmp_path / "film.mp4")

    found = check(film, StreamRequest(7.3, first_bin=first, end_bin=end), 2)

    assert (found[0].first_bin, found[-1].end_bin) == (first, end)
    assert len(found) == 2


@pytest.mark.parametrize("fps", [2, 7.3, 60])
@pytest.mark.parametrize(
    "name", ["h264.mp4", "several references.mp4", "vp8.webm", "mpeg2.mp4", "hevc, closed GOP.mp4"]
)
def test_parts_of_a_draft_joined_are_the_whole(tmp_path: Path, name: str, fps: float) -> None:
    check(FILMS[name](tmp_path / name), StreamRequest(fps, draft=True), 3)


@pytest.mark.parametrize("draft", [False, True])
@pytest.mark.parametrize("packets", [range(5, 9), range(17, 26), range(45, 50)])
def test_parts_of_a_damaged_film_joined_are_the_whole(tmp_path: Path, packets: range, draft: bool) -> None:
    film = with_empty_packets(FILMS["h264.mp4"](tmp_path / "film.mp4"), packets=packets)

    check(film, StreamRequest(7.3, draft=draft), 3)


@pytest.mark.parametrize("name", ["film.ts", "film.avi", "film.h264"])
def test_a_file_in_which_decoding_cannot_start_is_one_part(tmp_path: Path, name: str) -> None:
    film = write_film(tmp_path / name, "libx264", options=X264)
    request = StreamRequest(5, first_bin=2)

    assert split_request(Source.at(film), request, 3) == [request]


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "folder"])
def test_what_cannot_be_read_is_one_part(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mp4").write_text("no video")

    assert split_request(Source.at(tmp_path / name), StreamRequest(5), 3) == [StreamRequest(5)]


def test_an_open_group_of_pictures_is_not_split(tmp_path: Path) -> None:
    film = FILMS["open GOP.mp4"](tmp_path / "film.mp4")

    assert len(split_request(Source.at(film), StreamRequest(5), 3)) == 1


def test_joined_ends_say_each_note_once() -> None:
    ends = [
        StreamEnd(4, 2.0, 3.0, np.array([1]), notes=("cut off", "a"), details=("x",), decode_s=1.0),
        StreamEnd(6, 3.0, 3.0, np.array([4, 5]), notes=("cut off",), details=("x",), decode_s=2.0),
    ]

    joined = join_ends(ends)

    assert (joined.n_bins, joined.end_s, joined.missing.tolist(), joined.decode_s) == (6, 3.0, [1, 4, 5], 3.0)
    assert joined.warning == "damaged: 3 of 6 sampled frames cannot be decoded; cut off; a"
    assert joined.details == ("x",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"fps": 2, "short_side": 0}, "short_side is 0"),
        ({"fps": 2, "first_bin": -1}, "bins are -1 to None"),
        ({"fps": 2, "first_bin": 3, "end_bin": 3}, "bins are 3 to 3"),
    ],
)
def test_requests_for_nothing_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamRequest(**settings)  # type: ignore[arg-type]
