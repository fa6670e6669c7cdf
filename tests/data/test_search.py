"""What a folder search finds, what it takes for a folder of frames, and what it says it left out."""

import logging
from pathlib import Path

import pytest

from bike_cli.data.inputs import find_sources
from bike_cli.data.labelled.eval_sets import read_eval_set
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.data.search import is_frame_folder
from bike_cli.errors import UsageError
from bike_cli.media import IMAGE_EXTENSIONS

FAULTS = Path(__file__).parents[3] / "shared" / "faults"
FRAMES = tuple(f"{i:03}.jpg" for i in range(4))
SYSTEM = (
    "@eaDir", "@EADIR", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb", "$RECYCLE.BIN",
    "$Recycle.Bin", "RECYCLER", "System Volume Information", "__MACOSX", "lost+found", ".thumbnails", ".Trash-1000",
    ".Trashes",
    ".Spotlight-V100", ".fseventsd", ".AppleDouble", ".git", "@tmp", "~snapshot", ".snapshot",
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(folder: str, *names: str) -> Path:
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(folder)


def found(*inputs: str | Path) -> list[str]:
    return [source.id for source in find_sources(inputs)]


# -- folders of frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "companions",
    [
        ["Thumbs.db"],
        ["desktop.ini", ".DS_Store", "._000.jpg", "Icon\r"],
        ["info.txt"],
        ["a.json", "b.npy", "c.xml", "d.csv", "e.md", "f.wav", "g.mp3", "h.pkl", "i.unknown", "no extension"],
        [f"{i:03}.{extension}" for i in range(4) for extension in ("xml", "json", "npy")],
        ["annotations/000.xml", "annotations/001.xml"],
        ["labels/deep/000.txt"],
        ["@eaDir/000.jpg/SYNOFILE_THUMB_M.jpg"],
        [".thumbnails/000.jpg", "__MACOSX/._000.jpg"],
    ],
)
def test_companion_files_do_not_hide_a_folder_of_frames(
    companions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    touch("clips/one", *FRAMES)
    touch("clips/two", *FRAMES, *companions)

    assert found("clips") == ["clips/one", "clips/two"]
    assert found("clips/two") == ["clips/two"]
    assert caplog.messages == []


@pytest.mark.parametrize("extension", sorted(IMAGE_EXTENSIONS))
def test_frames_of_every_image_format_count(extension: str) -> None:
    touch("clips/one", *(f"{i}{extension.upper()}" for i in range(3)))

    assert found("clips") == ["clips/one"]


@pytest.mark.parametrize(
    ("names", "videos"),
    [
        ((*FRAMES, "trip.mp4"), ["clips/trip.mp4"]),  # photos and a video
        ((*FRAMES, "run/a.mp4"), ["clips/run/a.mp4"]),
        ((*FRAMES, "run/000.png", "run/001.png"), ["clips/run"]),  # photos above a folder of frames
        (("cover.jpg", "a.mp4", "b.mkv"), ["clips/a.mp4", "clips/b.mkv"]),
        (("docs/logo.png", "docs/a.md", "docs/b.html", "a.mp4"), ["clips/a.mp4"]),
        (("docs/figure.png", "docs/plan.jpg", "docs/1.md", "docs/2.md", "a.mp4"), ["clips/a.mp4"]),
    ],
)
def test_images_next_to_other_things_are_no_video(names: tuple[str, ...], videos: list[str]) -> None:
    touch("clips", *names)

    assert not is_frame_folder("clips")
    assert found("clips") == videos


def test_frames_without_numbers_outnumber_their_companions() -> None:
    touch("one", "a.jpg", "b.jpg", "c.jpg", "notes.txt", "sound.wav")
    touch("two", "a.jpg", "notes.txt", "sound.wav")

    assert (is_frame_folder("one"), is_frame_folder("two")) == (True, False)


def test_a_link_back_does_not_make_the_look_below_a_folder_endless() -> None:
    touch("clip", *FRAMES, "notes/a.txt")
    Path("clip/notes/again").symlink_to(Path("clip/notes").resolve())

    assert is_frame_folder("clip")


def test_images_that_are_no_frames_are_refused_with_the_rule() -> None:
    touch("clips", *FRAMES, "docs/logo.png", "docs/a.md", "docs/b.md")

    with pytest.raises(
        UsageError, match=r"^clips: contains images in clips next to other files or folders, and no video; a f"
    ):
        found("clips")


# -- folders of systems and NAS boxes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_no_videos_anywhere_in_the_tree(name: str, caplog: pytest.LogCaptureFixture) -> None:
    touch("nas", "a.mp4", "in/b.mp4", f"{name}/c.mp4", f"in/{name}/a.mp4/thumb.jpg", f"in/{name}/d.mp4")

    assert found("nas") == ["nas/a.mp4", "nas/in/b.mp4"]
    assert caplog.messages == [f"left out: 2 system folders (first: nas/{name}); -v lists them"]


@pytest.mark.parametrize("name", SYSTEM)
def test_a_system_folder_that_is_named_is_read(name: str) -> None:
    touch("nas", f"{name}/c.mp4", f"{name}/in/d.mp4")

    assert found(f"nas/{name}") == [f"nas/{name}/c.mp4", f"nas/{name}/in/d.mp4"]


def test_a_pattern_matches_nothing_in_system_folders_but_those_it_names(caplog: pytest.LogCaptureFixture) -> None:
    touch("nas", "a.mp4", "@eaDir/a.mp4/thumb.jpg", "in/b.mp4", "in/@eaDir/b.mp4/thumb.jpg")

    assert found("nas/**/*.mp4") == ["nas/a.mp4", "nas/in/b.mp4"]
    assert caplog.messages == ["left out: 2 system folders (first: nas/@eaDir); -v lists them"]
    assert found("nas/@eaDir/*") == ["nas/@eaDir/a.mp4"]


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_no_classes_and_none_of_their_videos(name: str) -> None:
    touch("data", "run/a.mp4", "run/b.mp4", "walk/c.mp4", "walk/d.mp4")
    touch("data", f"{name}/e.mp4", f"run/{name}/a.mp4/thumb.jpg", f"walk/{name}/f.mp4")

    labelled = read_labelled("data")

    assert labelled.labels == ("run", "walk")
    assert [sample.source.id for sample in labelled.train] == [
        f"data/{name}.mp4" for name in ("run/a", "run/b", "walk/c", "walk/d")
    ]
    assert read_eval_set(["data"]).labels == ("run", "walk")


def test_class_folders_hold_frame_folders_with_companions() -> None:
    touch("data", *(f"{name}/{clip}/{frame}" for name in ("run", "walk") for clip in "abcd" for frame in FRAMES))
    touch("data", "run/a/Thumbs.db", "run/b/info.txt", "walk/c/features.npy", "walk/d/annotations/a.json")

    for samples in (read_labelled("data").train, read_eval_set(["data"]).samples):
        assert [s.source.id for s in samples] == [f"data/{name}/{clip}" for name in ("run", "walk") for clip in "abcd"]


# -- what is said ---------------------------------------------------------------------------------------------------


def test_everything_left_out_is_said_once_with_count_and_first_name(caplog: pytest.LogCaptureFixture) -> None:
    touch("clips", "a.mp4", "notes.txt", "labels.csv", ".hidden.mp4", ".private/b.mp4", "in/c.mp4", "in/readme.md")
    touch("clips", "@eaDir/x.jpg", "Thumbs.db", ".DS_Store", "._a.mp4", "mixed/1.jpg", "mixed/2.jpg", "mixed/d.mp4")
    Path("clips/nothing").mkdir()
    touch("others", "e.mp4", "f.log")

    assert found("clips", "others") == ["clips/a.mp4", "clips/in/c.mp4", "clips/mixed/d.mp4", "others/e.mp4"]
    assert caplog.messages == [
        "left out: 4 files that are not videos (first: clips/labels.csv), "
        "1 folder of images next to videos or folders (first: clips/mixed), "
        "2 hidden files or folders (first: clips/.hidden.mp4), "
        "1 system folder (first: clips/@eaDir), "
        "1 empty folder (first: clips/nothing); -v lists them"
    ]


def test_each_name_is_logged_for_verbose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bike_cli")
    touch("clips", "a.mp4", "notes.txt", ".hidden.mp4", "@eaDir/x.jpg")

    found("clips")

    assert caplog.messages == [
        "clips/notes.txt: left out, file that is not a video",
        "clips/.hidden.mp4: left out, hidden file or folder",
        "clips/@eaDir: left out, system folder",
        "left out: 1 file that is not a video (first: clips/notes.txt), "
        "1 hidden file or folder (first: clips/.hidden.mp4), 1 system folder (first: clips/@eaDir)",
    ]


def test_nothing_is_said_before_the_search_is_over(caplog: pytest.LogCaptureFixture) -> None:
    touch("clips", "a.mp4", "b.txt", "c.mp4")
    sources = find_sources(["clips"])

    assert next(sources).id == "clips/a.mp4"
    assert caplog.messages == []
    assert [source.id for source in sources] == ["clips/c.mp4"]
    assert len(caplog.messages) == 1


def test_class_folders_say_what_they_leave_out(caplog: pytest.LogCaptureFixture) -> None:
    touch("data", "run/a.mp4", "walk/b.mp4", "walk/notes.txt", "readme.md", ".cache/x.mp4", "@eaDir/c.mp4")

    read_labelled("data")

    assert caplog.messages == [
        "left out: 2 files that are not videos (first: data/readme.md), "
        "2 system folders (first: data/.cache); -v lists them"
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            (".a.mp4", ".b/c.mp4"),
            r"^clips: contains no video but 2 hidden files or folders \(first: clips/\.a\.mp4\); name",
        ),
        (("@eaDir/a.mp4",), r"^clips: contains no video but 1 system folder \(first: clips/@eaDir\); name"),
        (("Thumbs.db",), r"^clips: contains no video \("),
        (("a.txt", "b.txt"), r"^clips: contains 2 files, none of them a video \(.*first clips/a.txt\)"),
    ],
)
def test_a_folder_without_videos_says_what_was_left_out(names: tuple[str, ...], message: str) -> None:
    touch("clips", *names)

    with pytest.raises(UsageError, match=message):
        found("clips")


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pat_%03d.png", "clip%d.mp4", "a?b.mp4", "a*b.mp4", "[a].mp4", "{a,b}.mp4", "~.mp4", "$HOME.mp4"]
)
def test_a_name_that_exists_is_literal(name: str) -> None:
    touch(".", name, "pat_001.png", "axb.mp4")

    assert found(name) == [name]


@pytest.mark.parametrize("name", ["", " ", "\t", "\n", "  \r\n"])
def test_an_empty_name_never_means_the_current_folder(name: str) -> None:
    touch(".", "a.mp4")

    with pytest.raises(UsageError, match=r"is an empty name; give the path of a video"):
        found(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("https://example.org/a.mp4", "bike does not read URLs; download it first, e.g. curl -O 'https://"),
        ("HTTP://example.org/a.mp4?x=1&y=*", "bike does not read URLs; download it first, e.g. curl"),
        ("https://www.youtube.com/watch?v=abc", "bike does not read URLs; download it first, e.g. yt-dlp"),
        ("https://youtu.be/abc", "bike does not read URLs; download it first, e.g. yt-dlp"),
        ("youtu.be/abc", "bike does not read URLs; download it first, e.g. yt-dlp"),
        ("www.example.org/a.mp4", "bike does not read URLs; download it first, e.g. curl"),
        (
            "s3://bucket/a.mp4",
            r"only bike classify, .* object stores; download it first, e.g. aws s3 cp 's3://bucket/a.mp4' .",
        ),
        (
            "gs://bucket/*.mp4",
            "bike spot read object stores; download it first, e.g. gcloud storage cp",
        ),
        ("ftp://host/a.mp4", "bike does not read URLs; download it first, e.g. curl"),
        ("webdav://host/a.mp4", "only bike classify, bike embed and bike spot read object stores; download it first$"),
        (
            "rtsp://camera/stream",
            "bike does not read streams; record a part first, e.g. ffmpeg -i 'rtsp://camera/stream'",
        ),
        ("rtmp://host/live", "bike does not read streams; record a part first"),
        ("udp://@239.0.0.1:1234", "bike does not read streams; record a part first"),
        ("file:///nowhere/a.mp4", "no such file is on this machine; check the path"),
    ],
)
def test_a_url_is_refused_with_a_way_out(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        found(name)


def test_a_folder_named_like_a_url_is_read() -> None:
    touch("https:/example.org", "a.mp4")

    assert found("https://example.org/a.mp4") == ["https://example.org/a.mp4"]


# -- the shared files -----------------------------------------------------------------------------------------------

needs_faults = pytest.mark.skipif(not FAULTS.exists(), reason="needs ../shared/faults")


@needs_faults
def test_the_shared_folders_of_frames_are_all_found() -> None:
    folder = FAULTS / "frame_folders_with_stray"

    assert found(folder) == [str(folder / name) for name in ("clip1", "clip2", "clip3")]


@needs_faults
def test_the_shared_class_folders_have_eight_videos() -> None:
    folder = FAULTS / "class_frame_folders_with_stray"

    assert len(read_labelled(folder).train) == len(read_eval_set([folder]).samples) == 8


@needs_faults
def test_the_shared_nas_folder_has_two_videos() -> None:
    folder = FAULTS / "nas_folder"

    assert found(folder) == [str(folder / "a.mp4"), str(folder / "b.mp4")]


@pytest.mark.parametrize(
    "extension", [".rm", ".rmvb", ".DIVX", ".qt", ".ogm", ".h264", ".hevc", ".ivf", ".m1v", ".mjpg", ".dv"]
)
def test_videos_of_rarer_formats_are_found(extension: str, tmp_path: Path) -> None:
    (tmp_path / f"film{extension}").touch()

    assert [source.path.name for source in find_sources([tmp_path])] == [f"film{extension}"]


@pytest.mark.parametrize("extension", [".dat", ".bin", ".nut", ".txt", ".srt", ".mp3"])
def test_files_that_are_commonly_something_else_are_left_out(extension: str, tmp_path: Path) -> None:
    for name in ("film.mp4", f"film{extension}"):
        (tmp_path / name).touch()

    assert [source.path.name for source in find_sources([tmp_path])] == ["film.mp4"]
