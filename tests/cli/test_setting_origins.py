"""Errors that refuse a setting say which variable or file its value comes from, wherever the value is checked."""

from pathlib import Path

import pytest
from films import drawn, write_video
from invoke import bike

from bike_cli.config import ClassifyConfig, FewshotConfig
from bike_cli.errors import ConfigError, ExitCode, UsageError, concerning
from bike_cli.settings import COMMANDS, leaves, naming_origins, resolve

# A value of each setting that is refused, and the command that does; of several commands, the first that has it.
REFUSED = {
    "classify": {
        "model": "nope",
        "device": "abacus",
        "precision": "fp16",
        "offline": "perhaps",
        "compile": "perhaps",
        "clips": "0",
        "crops": "2",
        "sampling": "all",
        "draft": "perhaps",
        "decoder": "ears",
        "workers": "0",
        "decode_timeout": "0",
        "decode_memory": "0",
        "cache": "perhaps",
        "cache_dir": "FOREIGN",
        "pool": "max",
        "scores": "none",
        "reject": "2",
        "promise": "0.6",
        "spot": "none",
        "temperature": "0",
        "attributes": "nope",
        "attribute_weight": "2",
        "attribute_model": "nope",
        "attribute_count": "0",
        "template": "no braces",
        "descriptions": "perhaps",
        "top": "0",
        "explain": "perhaps",
    },
    "spot": {
        "fps": "0",
        "min_duration": "0",
        "threshold": "1",
        "exclusive": "perhaps",
        "timeline": "perhaps",
    },
    "embed": {"dtype": "half"},
    "calibrate": {"promise": "0.5"},
    "fewshot": {"shots": "0", "method": "guess", "trials": "0", "seed": "-1", "test_fraction": "1"},
    "eval": {
        "protocol": "k600",
        "official": "perhaps",
        "unseen_split": "0",
        "resamples": "0",
        "official_batch": "0",
        "tiou": "9",
    },
    "finetune": {
        "frames": "1000",  # more than a temporal head has positions for
        "branch": "trunk",
        "head": "none at all",
        "loss": "bce",
        "freeze": "image:99",
        "epochs": "0",
        "lr": "0",
        "clip_ratio": "-1",
        "weight_decay": "-1",
        "warmup": "-1",
        "batch_size": "1",
        "accumulate": "0",
        "augment": "perhaps",
        "flip": "perhaps",
        "jitter": "perhaps",
        "balanced": "perhaps",
        "checkpointing": "perhaps",
        "strategy": "none",
        "val_fraction": "1",
        "early_stop": "0",
        "wise_ft": "2",
        "save_minutes": "0",
    },
}
CASES = [(command, name, value) for command, values in REFUSED.items() for name, value in values.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes with two videos each, and a file that is not a store of bike."""
    root = tmp_path_factory.mktemp("origins")
    for shown in ("blue circle", "red square"):
        (root / "videos" / shown.replace(" ", "_")).mkdir(parents=True)
        for i in range(2):
            write_video(root / "videos" / shown.replace(" ", "_") / f"{i}.mp4", drawn(shown, frames=10 + i))
    (root / "foreign").mkdir()
    (root / "foreign" / "features.sqlite").write_text("mine")
    return root


def arguments(command: str, name: str, folder: Path, tmp_path: Path) -> list[object]:
    """Return the arguments of a run that is valid without the setting."""
    own = {
        "classify": ("-L", "blue circle, red square"),
        "spot": ("-L", "blue circle, red square"),
        "fewshot": ("--shots", "1") if name != "shots" else (),
        "finetune": ("--save", tmp_path / "run"),
    }
    model = () if name == "model" else ("-m", "tiny")
    return [command, folder / "videos", *model, *own.get(command, ())]


def test_every_setting_is_tried() -> None:
    assert {name for _, name, _ in CASES} == {name for config in COMMANDS.values() for name in leaves(config)}


@pytest.mark.parametrize(("command", "name", "value"), CASES)
@pytest.mark.parametrize("source", ["variable", "file"])
def test_an_error_names_the_variable_or_the_file_and_key(
    source: str, command: str, name: str, value: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = str(folder / "foreign") if value == "FOREIGN" else value
    run = arguments(command, name, folder, tmp_path)
    if source == "variable":
        monkeypatch.setenv(f"BIKE_{name.upper()}", value)
    else:
        file = tmp_path / "bike.yaml"
        file.write_text(f"{name}: '{value}'\n")
        run += ["--config", file]

    done = bike(*run)

    assert done.exit_code == (ExitCode.NO_MODEL if value == "nope" and "model" in name else ExitCode.USAGE)
    subject, _, rest = done.stderr.splitlines()[-1].removeprefix("error: ").partition(" ")
    if source == "variable":
        assert subject.removesuffix(":") == f"BIKE_{name.upper()}"
    else:
        assert subject == f"{tmp_path / 'bike.yaml'}:"
        assert name in rest.replace("-", "_")


@pytest.mark.parametrize(
    ("command", "flags", "variables", "subject"),
    [
        ("classify", ("--draft",), {"DECODER": "decord"}, "BIKE_DECODER"),
        ("classify", (), {"DRAFT": "yes", "DECODER": "decord"}, "BIKE_DRAFT and BIKE_DECODER"),
        ("classify", ("--attributes", "off"), {"ATTRIBUTE_WEIGHT": "0.5"}, "BIKE_ATTRIBUTE_WEIGHT"),
        ("classify", ("-m", "base"), {"OFFLINE": "yes"}, "BIKE_OFFLINE"),
        ("classify", ("--offline",), {"MODEL": "base"}, "model 'base'"),  # the flag forbids it
        ("fewshot", (), {"SHOTS": "9"}, "BIKE_SHOTS"),
        ("fewshot", ("--shots", "0"), {"SHOTS": "9"}, "shots is '0'; give whole numbers above 0, such as 1,2,4"),
        ("finetune", ("--freeze", "none"), {"TEMPLATE": "action"}, "BIKE_TEMPLATE"),
        ("finetune", ("--branch", "attributes"), {"WISE_FT": "1"}, "BIKE_WISE_FT"),
    ],
)
def test_of_several_settings_those_from_elsewhere_are_named(
    command: str,
    flags: tuple[str, ...],
    variables: dict[str, str],
    subject: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"BIKE_{name}", value)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    model = () if "MODEL" in variables or "-m" in flags else ("-m", "tiny")
    own = {"classify": ("-L", "blue circle, red square"), "finetune": ("--save", tmp_path / "run")}

    done = bike(command, folder / "videos", *model, *own.get(command, ()), *flags)

    assert done.exit_code in (ExitCode.USAGE, ExitCode.NO_MODEL)
    message = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert message.removeprefix("error: ").split(": ")[0] == subject


def test_the_cache_folder_of_a_variable_is_named_by_other_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIKE_CACHE_DIR", str(folder / "foreign"))

    done = bike("cache", "info")

    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.startswith(f"error: BIKE_CACHE_DIR: {folder / 'foreign' / 'features.sqlite'}: is not a store")


def refuse(file: Path, name: str, message: str) -> None:
    with naming_origins(), concerning(name):
        resolve(FewshotConfig, flags={}, file=file, environment={})
        raise UsageError(message)


@pytest.mark.parametrize(
    ("name", "message", "shown"),
    [
        ("test_fraction", "--test-fraction: needs no test side; leave it out", ""),
        ("model", "--attribute-model: is another; leave it out", "model: "),  # a flag that only ends like the setting
    ],
)
def test_a_flag_in_the_message_names_its_setting(tmp_path: Path, name: str, message: str, shown: str) -> None:
    file = tmp_path / "bike.yaml"
    file.write_text("test-fraction: 0.2\nmodel: tiny\n")

    with pytest.raises(UsageError) as refused:
        refuse(file, name, message)

    assert str(refused.value) == f"{file}: {shown}{message}"


def refuse_the_template(environment: dict[str, str], **flags: object) -> None:
    with naming_origins(), naming_origins():
        resolve(ClassifyConfig, flags=flags, environment=environment)
        with concerning("model"), concerning("template"):
            raise UsageError("x: is wrong; fix it")


def test_the_innermost_settings_are_named_once() -> None:
    environment = {"BIKE_TEMPLATE": "x", "BIKE_MODEL": "y"}

    with pytest.raises(UsageError, match=r"^BIKE_TEMPLATE: x: is wrong; fix it$"):
        refuse_the_template(environment)
    with pytest.raises(UsageError, match=r"^x: is wrong; fix it$"):
        refuse_the_template(environment, template="x")
    with pytest.raises(ConfigError, match=r"^BIKE_TOP: top is 0; "):
        refuse_the_template({"BIKE_TOP": "0"})
