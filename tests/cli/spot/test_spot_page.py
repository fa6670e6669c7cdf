"""The page of timelines: curves and segments in their places, texts that stay texts, and a video that jumps."""

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from answers import HOSTILE
from browser import Browser, browsing, find_browser
from films import drawn, write_video
from page_reader import LOWEST_CONTRAST, MARKUP, UNFOLD, Node, Reader
from timelines import LABELS, a_cut, failure, segment, timeline

from bike_cli.cli.spot.page import MOST_PICTURES, WIDTH, PageBuilder, curve
from bike_cli.cli.spot.rows import CutTimeline, Record
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Peak, Source, Timeline
from bike_cli.video.thumbnails import as_jpeg

NAMES = HOSTILE | MARKUP
TWO = (segment("goal", 5.0, 7.5, 0.97), segment("corner kick", 1.0, 2.5, 0.8))
RED = as_jpeg(np.full((90, 160, 3), (200, 40, 40), np.uint8), side_px=160)


def read_red(_: Source, times_s: Sequence[float]) -> list[bytes | None]:
    return [RED for _ in times_s]


def write(file: Path, *records: Record, pictures: bool = True) -> Node:
    builder = PageBuilder(file)
    for record in records:
        builder.add(record)
    builder.write(read_red if pictures else None)
    return Reader(file.read_text(encoding="utf-8")).root


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


def everything(name: str = "a name") -> list[Record]:
    """Records with a text from outside wherever one can be."""
    labels = (name, "goal", "replay")
    found = timeline(segment(name, 1, 2), segment("goal", 3, 4), path=name, labels=labels, warning=name, scores=True)
    lost = Failure(Source.at(name), "unwritable", name)
    return [
        CutTimeline(found, (a_cut(f"clips/{name}".replace("\x00", "")), lost)),
        timeline(path="other.mp4", labels=labels, best=Peak(name, 1, 0.2), scores=True),
        failure(name),
    ]


# -- curves -------------------------------------------------------------------------------------------------------


def heights(path: str) -> dict[float, float | None]:
    """The height of a curve at the middle of each hundredth of the width, read step by step."""
    steps: list[tuple[float, float, float]] = []
    x = y = 100.0
    for letter, numbers in re.findall(r"([MVH])([\d. e-]*)", path):
        values = [float(n) for n in numbers.split()]
        if letter == "M":
            x, y = values
        elif letter == "V":
            y = values[0]
        else:
            steps.append((x, values[0], 1 - y / 100))
            x = values[0]
    middles = [(i + 0.5) * WIDTH / 100 for i in range(100)]
    return {m: next((h for start, stop, h in steps if start <= m < stop), None) for m in middles}


@pytest.mark.parametrize("bins", [1, 7, 40, 999, 1000, 1001, 5000, 14_400])
def test_a_curve_shows_the_highest_score_in_each_place(bins: int) -> None:
    scores = np.random.default_rng(bins).random(bins).astype(np.float32)
    edges_s = np.arange(bins + 1) / 2

    shown = heights(curve(scores, edges_s))

    for place, height in shown.items():
        # All bins that share a column of the curve with this place.
        columns = min(WIDTH, bins)
        column = min(int(place / WIDTH * columns), columns - 1)
        inside = [float(s) for i, s in enumerate(scores) if (i * columns) // bins == column]
        neighbours = [
            float(s) for i, s in enumerate(scores) if abs((i * columns) // bins - column) <= 1 and bins > WIDTH
        ]
        assert height is not None
        assert any(height == pytest.approx(h, abs=1e-3) for h in (max(inside), *neighbours))


def test_a_bin_that_could_not_be_read_leaves_a_gap() -> None:
    scores = np.array([0.5, np.nan, 1.0, np.nan], np.float32)

    assert curve(scores, np.array([0.0, 1.0, 2.0, 3.0, 4.0])) == "M0 100V50H250V100M500 100V0H750V100"
    assert curve(scores[1:2], np.array([0.0, 1.0])) == ""


def test_the_last_bin_may_be_short() -> None:
    assert curve(np.array([0.5, 1.0], np.float32), np.array([0.0, 2.0, 2.5])) == "M0 100V50H800V0H1000V100"


# -- what is on the page ------------------------------------------------------------------------------------------


def test_a_row_per_label_that_was_found(file: Path) -> None:
    page = write(file, timeline(*TWO, scores=True))

    rows = [node for node in page.all("div", class_="row") if node.all("dt")]
    assert [row.one("dt").text for row in rows] == ["corner kick", "goal"]
    assert [row.one("dd", class_="totals").text for row in rows] == ["1 segment, 1.5 s", "1 segment, 2.5 s"]
    marks = [rect for row in rows for rect in row.all("rect")]
    assert [(rect.attributes["x"], rect.attributes["width"]) for rect in marks] == [("5%", "7.5%"), ("25%", "12.5%")]
    assert [rect.one("title").text for rect in marks] == [
        "corner kick, 00:00:01.00–00:00:02.50, 80 %",
        "goal, 00:00:05.00–00:00:07.50, 97 %",
    ]
    assert [item.text for item in page.one("ul", class_="names").all("li")] == ["replay"]


def test_a_card_per_segment_with_the_picture_of_its_peak(file: Path) -> None:
    asked: list[tuple[str, list[float]]] = []

    def read(source: Source, times_s: Sequence[float]) -> list[bytes | None]:
        asked.append((source.id, list(times_s)))
        return [RED, None]

    builder = PageBuilder(file)
    builder.add(timeline(*TWO, scores=True))
    builder.write(read)
    page = Reader(file.read_text()).root

    assert asked == [("cup/match.mp4", [1.75, 6.25])]
    first, second = page.one("ol", class_="segments").all("li")
    assert "corner kick 80 %" in first.text
    assert "00:00:05.00–00:00:07.50" in second.text
    assert base64.b64decode(str(first.one("img").attributes["src"]).partition(",")[2]) == RED
    assert second.all("img") == []


def test_only_the_best_segments_have_pictures_and_the_page_says_so(file: Path) -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0.5, 0.99, 150))
    segments = [segment("goal", i, i + 0.5, float(score)) for i, score in enumerate(scores)]
    records = [timeline(*segments, path=f"{name}.mp4", bins=400) for name in "ab"]

    page = write(file, *records)

    with_pictures = [card for card in page.all("li") if card.all("img")]
    assert len(with_pictures) == MOST_PICTURES
    shown = sorted(int(re.search(r"(\d+) %", card.text)[1]) for card in with_pictures)  # type: ignore[index]
    assert shown[0] >= 65  # two thirds of 0.5 to 0.99
    note = "The page has pictures of the 200 segments with the highest scores; 100 segments have none."
    assert note in [p.text for p in page.all("p", class_="note")]


def test_clips_are_linked_and_lost_ones_explained(file: Path) -> None:
    clip, lost = a_cut(str(file.parent / "clips" / "0001 #%.mp4")), failure("x.mp4")

    page = write(file, CutTimeline(timeline(*TWO), (clip, lost)))

    first, second = page.one("ol", class_="segments").all("li")
    assert first.all("a")[-1].attributes["href"] == "./clips/0001%20%23%25.mp4"
    assert "no clip: decoding stops inside (bits); repair or replace the file" in second.text


def test_a_video_without_segments_says_what_came_closest(file: Path) -> None:
    quiet = timeline(scores=True)
    assert quiet.scores is not None
    quiet.scores[7] = (0.1, 0.3, 0.2)

    page = write(file, quiet, timeline(best=None))

    texts = [p.text for p in page.all("p")]
    assert "Nothing was found; the best is corner kick at 00:00:02.25, 12 %." in texts
    assert "Nothing was found; no frame could be read." in texts
    assert [dt.text for row in page.all("div", class_="row") for dt in row.all("dt")] == [
        "goal",
        "replay",
        "corner kick",
    ]


def test_failures_are_listed(file: Path) -> None:
    page = write(file, timeline(*TWO), failure())

    assert "1 video could not be read" in page.one("header").text
    assert failure().message in page.one("section", id="failures").text


def test_without_scores_there_are_segments_but_no_curve(file: Path) -> None:
    page = write(file, timeline(*TWO), pictures=False)

    assert {path.attributes["d"] for path in page.all("path")} == {""}
    assert len(page.all("rect")) == 2
    assert page.all("img") == []


def test_the_axis_never_has_many_ticks(file: Path) -> None:
    for end_s in (0.3, 1.0, 9.9, 61.0, 600.0, 5400.0, 86_400.0, 1e6):
        page = write(file, timeline(segment("goal", 0, end_s / 2), bins=2, end_s=end_s, fps=1.0))
        texts = [text.text for text in page.one("svg", class_="axis").all("text")]
        assert 2 <= len(texts) <= 10
        assert texts[0] in ("0:00", "0:00.0")
        assert len(set(texts)) == len(texts)


# -- texts and rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_name_from_outside_stays_a_text(name: str, file: Path) -> None:
    page = write(file, *everything(name))

    shown = NAMES[name]
    assert {node.tag for node in page.all()} == {node.tag for node in write(file, *everything()).all()}
    assert [bdi.text for bdi in page.all("bdi")].count(shown) >= 5
    assert page.all("script") == []
    assert shown in page.one("rect", x="5%").one("title").text


def test_a_browser_may_load_only_the_page_itself(file: Path) -> None:
    page = write(file, *everything())

    meta = page.one("meta", **{"http-equiv": "Content-Security-Policy"})
    digest = base64.b64encode(hashlib.sha256(page.one("style").text.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in str(meta.attributes["content"]).split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_every_link_leads_somewhere(file: Path) -> None:
    page = write(file, *everything())

    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    aims = [str(a.attributes["href"]) for a in page.all("a")]
    assert len(set(ids)) == len(ids)
    assert {aim[1:] for aim in aims if aim.startswith("#")} <= set(ids)


def test_a_page_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its folder does not exist"):
        write(tmp_path / "none" / "page.html", timeline())


# -- the video ----------------------------------------------------------------------------------------------------


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "cup").mkdir()
    return write_video(tmp_path / "cup" / "a film #1.mp4", drawn("red square", frames=160))


def played(file: Path, film: Path, **changes: object) -> Timeline:
    return timeline(*TWO, path=str(film), scores=True, **changes)  # type: ignore[arg-type]


def test_one_local_video_gets_a_player(file: Path, film: Path) -> None:
    page = write(file, played(file, film))

    assert page.one("video").attributes["src"] == "./cup/a%20film%20%231.mp4"
    script = page.one("script").text
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = str(page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"])
    assert f"script-src 'sha256-{digest}'; media-src 'self' file:;" in policy
    assert all("data-start" in a.attributes for a in page.all("a"))


@pytest.mark.parametrize("case", ["several", "gone", "failed", "folder"])
def test_anything_else_gets_none(file: Path, film: Path, case: str) -> None:
    records: dict[str, list[Record]] = {
        "several": [played(file, film), played(file, film)],
        "gone": [timeline(*TWO, path=str(film.with_name("gone.mp4")))],
        "failed": [failure(str(film))],
        "folder": [timeline(*TWO, path=str(film.parent))],
    }

    page = write(file, *records[case])

    assert page.all("video") == page.all("script") == []


def test_bytes_of_names_that_are_no_text_are_kept(file: Path, film: Path) -> None:
    odd = film.with_name(os.fsdecode(b"caf\xe9 \xf0\x9f\x9a\xb2.mp4"))
    try:
        shutil.copy(film, odd)
    except OSError:
        pytest.skip("the file system takes only texts")

    page = write(file, played(file, odd))

    assert page.one("video").attributes["src"] == "./cup/caf%E9%20%F0%9F%9A%B2.mp4"


# -- in a browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: neither in PATH nor from playwright")
    with browsing(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def waited(browser: Browser, condition: str) -> object:
    script = f"""new Promise(done => {{ const start = Date.now(); (function look() {{
        const value = {condition};
        value || Date.now() - start > 10000 ? done(value) : setTimeout(look, 20) }})() }})"""
    reply = browser.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
    return reply["result"].get("value")


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_a_page_fits_its_window(width: int, browser: Browser, file: Path, film: Path) -> None:
    long = "an exceedingly long label that someone wrote, " * 4
    records = [*everything(), timeline(segment(long, 0, 5), labels=[long, "x" * 90], path="deep/" * 50, scores=True)]
    for shown in (records, [played(file, film)]):
        write(file, *shown)
        browser.open(file, width=width)
        browser.value_of(UNFOLD)

        assert browser.value_of("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(scheme: str, browser: Browser, file: Path) -> None:
    write(file, *everything(), failure())

    browser.open(file, scheme=scheme)
    browser.value_of(UNFOLD)

    assert browser.value_of(LOWEST_CONTRAST)[0] >= 4.5  # type: ignore[index]


def test_a_page_of_several_videos_asks_for_nothing(browser: Browser, file: Path) -> None:
    write(file, *everything("</script><script>document.title='hacked'</script>"))

    browser.open(file)

    assert browser.requests == [file.as_uri()]
    assert browser.complaints == []
    assert browser.value_of("document.title") == "bike spot"


def test_a_click_on_a_segment_jumps_to_it(browser: Browser, file: Path, film: Path) -> None:
    write(file, played(file, film))
    browser.open(file)
    assert waited(browser, "document.querySelector('video').readyState >= 1") is True

    where = browser.value_of(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelectorAll('rect')[1].getBoundingClientRect())"
    )
    assert isinstance(where, list)
    for kind in ("mousePressed", "mouseReleased"):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)

    assert waited(browser, "document.querySelector('video').currentTime >= 5") is True
    assert browser.value_of("document.querySelector('video').currentTime < 8") is True
    assert browser.complaints == []
    assert browser.value_of("document.getElementById('no-video').hidden") is True


def test_the_page_says_that_the_video_is_not_there(browser: Browser, file: Path, film: Path) -> None:
    write(file, played(file, film))
    film.unlink()

    browser.open(file)

    assert waited(browser, "!document.getElementById('no-video').hidden") is True
    assert browser.value_of("getComputedStyle(document.querySelector('video')).display") == "none"
    assert "cup/a film #1.mp4" in str(browser.value_of("document.getElementById('no-video').textContent"))
    assert LABELS[1] in str(browser.value_of("document.body.textContent"))
