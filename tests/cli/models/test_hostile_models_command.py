"""Bad models on the command line: exit code 5 and one line on stderr, for -m, --classifier and export alike."""

import os
from pathlib import Path

import hostile_models as hostile
import pytest
from invoke import bike

LONG = "a" * 5000


def assert_refused(arguments: list[object], said: str) -> None:
    """One line that says what is wrong and what to do, exit code 5, and no record."""
    ran = bike(*arguments)

    assert ran.exit_code == 5, ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("error: ")
    assert said in ran.stderr
    assert "; " in ran.stderr
    assert len(ran.stderr) < 1000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with things that are no models."""
    hostile.pipe(tmp_path / "pipe")
    hostile.loop(tmp_path / "loop")
    hostile.bound_socket(tmp_path / "socket")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.pt").touch()
    (tmp_path / "labels.txt").write_text("red square\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = [
    ("pipe", "a named pipe"),
    ("ViT-B-32,pipe", "a named pipe"),
    ("ViT-B-32,./pipe", "a named pipe"),
    ("socket", "a socket"),
    ("loop", "symbolic links"),
    ("/dev/null", "a device"),
    ("empty", "has no config.json"),
    (".", "has no config.json"),
    ("..", "has no config.json"),
    ("/", "has no config.json"),
    ("empty.pt", "contains no weights"),
    ("labels.txt", "contains no weights"),
    ("", "is empty"),
    (LONG, "is not a short name"),
    (f"{LONG}.pt", "no such file"),
    (f"ViT-B-32,{LONG}.pt", "no such file"),
    (f"{LONG},openai", "no such architecture"),
    ("a\0b", "is not a short name"),
    ("a\nb\x1b[31m", "is not a short name"),
    ("~nobody-x/model", "no such file"),
    ("hf-hub:owner/name,tag", "is not hf-hub:OWNER/NAME"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("name", "said"), NAMES, ids=lambda text: text[:16].replace("\0", "NUL"))
def test_classify_refuses_a_name_that_is_no_model(clips: Path, name: str, said: str) -> None:
    assert_refused(["classify", clips, "-L", "red square,blue circle", "--offline", "-m", name], said)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("name", "said"), NAMES, ids=lambda text: text[:16].replace("\0", "NUL"))
def test_export_refuses_a_name_that_is_no_model(name: str, said: str) -> None:
    assert_refused(["export", name, "out", "--offline"], said)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe", "a named pipe"),
        ("socket", "a socket"),
        ("loop", "symbolic links"),
        ("/dev/zero", "a device"),
        ("empty", "no such classifier"),
        ("empty.pt", "not a complete bike classifier"),
        ("labels.txt", "not a complete bike classifier"),
        (LONG, "no such classifier"),
    ],
    ids=lambda text: text[:16],
)
def test_classify_refuses_what_is_no_classifier(clips: Path, name: str, said: str) -> None:
    assert_refused(["classify", clips, "--classifier", name], said)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["pipe", "socket", "empty", LONG], ids=lambda text: text[:16])
def test_classify_refuses_an_attribute_model_that_is_none(clips: Path, name: str) -> None:
    command = ["classify", clips, "-L", "red square,blue circle", "-m", "tiny", "--offline"]
    said = {"pipe": "a named pipe", "socket": "a socket", "empty": "has no config.json", LONG: "is not a short name"}[
        name
    ]

    assert_refused([*command, "--attribute-model", name], said)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: hostile.folder_with_tensor(p, "temporal.transformer.resblocks.0.ln_1.bias", float("nan")), "NaN"),
        (lambda p: hostile.folder(p, lambda c: c["image"].update(mean=[float("inf"), 0, 0])), "image.mean is"),
        (lambda p: hostile.folder(p, lambda c: c["clip"]["text_cfg"].update(layers=10**7)), "layers is 10000000"),
        (lambda p: hostile.folder_with_text(p, hostile.nested(100_000)), "nested too deeply"),
        pytest.param(hostile.bomb_of_800_mb, "compressed record", marks=pytest.mark.slow),
    ],
    ids=["nan", "infinite mean", "layers", "nested", "bomb"],
)
def test_classify_refuses_a_hostile_model(clips: Path, tmp_path: Path, make: hostile.Maker, said: str) -> None:
    model = make(tmp_path / "m")

    assert_refused(["classify", clips, "-L", "red square,blue circle", "-m", model], said)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_export_to_a_name_that_is_too_long_is_a_usage_error(tmp_path: Path) -> None:
    ran = bike("export", "tiny", tmp_path / LONG)

    assert ran.exit_code == 2
    assert ran.stderr.count("\n") == 1
