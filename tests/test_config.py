"""Where a value comes from, what is refused, and that a dumped config is the same config."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from bike_cli.cli.app import app
from bike_cli.config import (
    RESULTS,
    Affects,
    AttributeConfig,
    CalibrateConfig,
    ClassifyConfig,
    DecodingConfig,
    EngineConfig,
    EvalConfig,
    FewshotConfig,
    FinetuneConfig,
    SamplingConfig,
    SpottingConfig,
    StoreConfig,
    flag_of,
)
from bike_cli.errors import ConfigError, ExitCode
from bike_cli.settings import (
    changed,
    dump,
    field_names,
    fields_and_values,
    flag_name,
    flatten,
    leaves,
    resolve,
    settings_affecting,
    unknown_variables,
)
from bike_cli.wording import either

# Flags of `bike classify` that say what to classify and where answers go; all others are fields of the config.
OF_THE_REQUEST = {
    *("videos", "labels", "label_list", "nul", "files_from", "column"),
    *("format", "target", "quiet", "verbose", "config", "dump_config"),
    *("resume", "shard", "strict", "classifier", "also", "progress", "calibration", "none", "none_from"),
    "from_embeddings",
    *("ray", "ray_actors", "ray_cpus"),
}
OTHERS: dict[str, object] = {  # no field's default
    "model": "tiny",
    "device": "cpu",
    "precision": "bf16",
    "offline": True,
    "frames": 16,
    "clips": 2,
    "crops": 3,
    "sampling": "keyframe",
    "draft": True,
    "compile": True,
    "decoder": "av",
    "workers": 3,
    "decode_timeout": 2.5,
    "decode_memory": 512,
    "cache": False,
    "cache_dir": "here",
    "pool": "mean",
    "spot": "eot",
    "temperature": 0.5,
    "attributes": "scenes",
    "attribute_weight": 0.25,
    "attribute_model": "large",
    "attribute_count": 7,
    "template": "{}, seen by a bat",
    "top": 3,
    "scores": "sigmoid",
    "descriptions": "only",
    "reject": "auto",
    "promise": 0.1,
    "explain": True,
}


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    return tmp_path / "bike.yaml"


def resolved(file: Path | None = None, environment: dict[str, str] | None = None, **flags: object) -> ClassifyConfig:
    return resolve(ClassifyConfig, flags=flags, file=file, environment=environment or {})


# -- where a value comes from ---------------------------------------------------------------------------------------


def test_nothing_said_is_the_default() -> None:
    assert resolved(frames=None) == ClassifyConfig()


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(yaml_file: Path) -> None:
    yaml_file.write_text("frames: 2\nclips: 2\ntop: 2\n")
    environment = {"BIKE_FRAMES": "3", "BIKE_CLIPS": "3"}

    config = resolved(yaml_file, environment, frames=4)

    assert (config.sampling.frames, config.sampling.clips, config.top, config.sampling.crops) == (4, 3, 2, 1)


def test_the_environment_has_types(yaml_file: Path) -> None:
    environment = {"BIKE_OFFLINE": "true", "BIKE_TEMPERATURE": "1", "BIKE_TEMPLATE": "no", "BIKE_SPOT": "eot"}

    config = resolved(environment=environment)

    assert config.engine.offline is True
    assert config.spotting == SpottingConfig(spot="eot", temperature=1.0)
    assert config.template == "no"


def test_names_in_the_environment_that_are_no_field_are_left_alone() -> None:
    assert resolved(environment={"BIKE_HOME": "/home", "FRAMES": "3"}) == ClassifyConfig()


def test_a_whole_number_will_do_for_a_fraction(yaml_file: Path) -> None:
    yaml_file.write_text("attribute_weight: 1")

    weight = resolved(yaml_file).attributes.attribute_weight

    assert isinstance(weight, float)


def test_null_in_a_file_is_the_models_own(yaml_file: Path) -> None:
    yaml_file.write_text("spot: null\ntemperature: null\n")

    assert resolved(yaml_file).spotting == SpottingConfig()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_says_nothing(yaml_file: Path, text: str) -> None:
    yaml_file.write_text(text)

    assert resolved(yaml_file) == ClassifyConfig()


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "key", "field"),
    [
        (ClassifyConfig, "decode-timeout", "decode_timeout"),
        (ClassifyConfig, "decode_timeout", "decode_timeout"),
        (FewshotConfig, "test-frac", "test_fraction"),
        (FewshotConfig, "test_fraction", "test_fraction"),
        (FinetuneConfig, "val_frac", "val_fraction"),
        (FinetuneConfig, "wd", "weight_decay"),
        (FinetuneConfig, "clip-lr-ratio", "clip_ratio"),
    ],
)
def test_the_name_of_a_flag_is_a_key(config: type, key: str, field: str, yaml_file: Path) -> None:
    yaml_file.write_text(f"{key}: 0.25")

    assert flatten(resolve(config, flags={}, file=yaml_file, environment={}))[field] == 0.25


@pytest.mark.parametrize("config", [ClassifyConfig, FewshotConfig, EvalConfig, FinetuneConfig])
def test_every_long_flag_of_a_setting_is_a_key(config: type) -> None:
    names = field_names(config)

    for f, _ in fields_and_values(config()):
        described = flag_of(f)
        assert described
        for name in described.names:
            if name.startswith("--"):
                assert names[name.partition("/")[0].removeprefix("--").replace("-", "_")] == f.name


def test_a_key_with_two_names_is_refused(yaml_file: Path) -> None:
    yaml_file.write_text("val-frac: 0.2\nval_fraction: 0.3\n")

    with pytest.raises(ConfigError, match="'val_fraction' sets val_fraction, which another key sets too; remove one"):
        resolve(FinetuneConfig, flags={}, file=yaml_file, environment={})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("epochs", "unknown key 'epochs'; only bike finetune reads it; remove it"),
        ("test-frac", "unknown key 'test-frac'; only bike fewshot reads it; remove it"),
        ("qqqqq", "unknown key 'qqqqq'; --dump-config prints all keys"),
    ],
)
def test_an_unknown_key_says_what_to_do(yaml_file: Path, key: str, message: str) -> None:
    yaml_file.write_text(f"{key}: 1")

    with pytest.raises(ConfigError, match=f"{yaml_file}: {message}"):
        resolved(yaml_file)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("classify", "labels"),
        ("classify", "output"),
        ("fewshot", "test"),
        ("finetune", "multi_label"),
        ("eval", "root"),
    ],
)
def test_a_key_that_is_a_flag_of_the_command_says_so(yaml_file: Path, command: str, key: str) -> None:
    yaml_file.write_text(f"{key}: x")

    ran = CliRunner().invoke(app, [command, "--config", str(yaml_file), "--dump-config"])

    flag = f"--{key.replace('_', '-')}"
    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr == (
        f"error: {yaml_file}: '{key}' is a flag of the command, not a setting; remove it, and give {flag} instead\n"
    )


@pytest.mark.parametrize(("wrong", "near"), [("frame", "frames"), ("atribute_weight", "attribute_weight")])
def test_an_unknown_key_names_the_nearest(yaml_file: Path, wrong: str, near: str) -> None:
    yaml_file.write_text(f"{wrong}: 1")

    with pytest.raises(ConfigError, match=f"{yaml_file}: unknown key '{wrong}'; did you mean '{near}'"):
        resolved(yaml_file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames: true", "frames is True; give a whole number"),
        ("frames: 8.0", "frames is 8.0; give a whole number"),
        ("frames: eight", "frames is 'eight'; give a whole number"),
        ("frames: 0", "frames is 0; give a whole number of at least 1"),
        ("clips: -1", "clips is -1; give a whole number of at least 1"),
        ("crops: 2", "crops is 2; give 1 or 3"),
        ("crops: true", "crops is True; give 1 or 3"),
        ("pool: max", "pool is 'max'; give tcs, mean or scores"),
        ("spot: word", "spot is 'word'; give words, eot, all or null"),
        ("temperature: 0", "temperature is 0.0; give a number from 0.000001 to 1000000"),
        ("temperature: 1.0e-40", "temperature is 1e-40; give a number from 0.000001 to 1000000"),
        ("temperature: .nan", "temperature is nan; give a number from"),
        ("temperature: true", "temperature is True; give a number or null"),
        ("attribute_weight: 2", "attribute_weight is 2.0; give a number from 0 to 1"),
        ("attribute_weight: .nan", "attribute_weight is nan; give a number from 0 to 1"),
        ("attribute_count: 0", "attribute_count is 0; give a whole number of at least 1"),
        ("top: 0", "top is 0; give a whole number of at least 1"),
        ("top: null", "top is None; give a whole number"),
        ("offline: 1", "offline is 1; give true or false"),
        ("template: [a, b]", r"template is \['a', 'b'\]; give text or null"),
        ("draft: true\ndecoder: decord", "draft is on and decoder is decord, .*; give decoder auto, or no draft"),
        ("- frames", "contains a list, not `key: value` lines"),
        ("frames", "contains a str, not `key: value` lines"),
        ("frames: [", r"invalid YAML at line 1 \(expected the node content[^\"]*\); fix it$"),
        ("a: !!python/object/apply:os.system [true]", "unknown key 'a'"),
    ],
)
def test_a_wrong_value_in_a_file_says_what_would_be_right(yaml_file: Path, text: str, message: str) -> None:
    yaml_file.write_text(text)

    with pytest.raises(ConfigError, match=message):
        resolved(yaml_file)


@pytest.mark.parametrize("text", ["true", "8.5", "[", "", "many"])
def test_a_wrong_value_in_the_environment_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^BIKE_FRAMES is .*; give a whole number$"):
        resolved(environment={"BIKE_FRAMES": text})


def test_a_value_out_of_range_names_where_it_is_set(yaml_file: Path) -> None:
    yaml_file.write_text("frames: 0\ntop: 0\n")

    with pytest.raises(ConfigError, match=rf"^{yaml_file}: frames is 0; give a whole number"):
        resolved(yaml_file)
    with pytest.raises(ConfigError, match=r"^BIKE_FRAMES: frames is -1; give a whole number"):
        resolved(yaml_file, {"BIKE_FRAMES": "-1"})
    with pytest.raises(ConfigError, match=r"^frames is -2; give a whole number"):
        resolved(yaml_file, {"BIKE_FRAMES": "-1"}, frames=-2)


@pytest.mark.parametrize("config", [ClassifyConfig(), FewshotConfig(), EvalConfig(), FinetuneConfig()])
def test_messages_name_the_flag_of_every_field(config: object) -> None:
    for f, _ in fields_and_values(config):
        described = flag_of(f)
        assert described is not None
        assert flag_name(f.name) in {name.partition("/")[0] for name in described.names}


def test_unknown_variables_are_named_with_the_nearest_of_any_command() -> None:
    environment = {"BIKE_FRAMEZ": "3", "BIKE_EPOCHS": "3", "BIKE_SHOT": "1", "FRAMEZ": "3", "BIKE_FRAMES": "3"}

    assert unknown_variables(environment) == {"BIKE_FRAMEZ": "BIKE_FRAMES", "BIKE_SHOT": "BIKE_SHOTS"}


@pytest.mark.parametrize(
    ("choices", "phrase"), [(["a"], "a"), (["a", 1], "a or 1"), (("a", "b", "c"), "a, b or c"), (iter("ab"), "a or b")]
)
def test_choices_are_a_phrase(choices: Iterable[object], phrase: str) -> None:
    assert either(choices) == phrase


def test_a_file_that_is_not_there_is_named(yaml_file: Path) -> None:
    with pytest.raises(ConfigError, match=f"{yaml_file}: cannot be read"):
        resolved(yaml_file)


def test_a_file_that_is_no_text_is_named(yaml_file: Path) -> None:
    yaml_file.write_bytes(b"frames: \xff")

    with pytest.raises(ConfigError, match=f"{yaml_file}: is not a text file"):
        resolved(yaml_file)


@pytest.mark.parametrize("decoder", ["auto", "av"])
def test_a_draft_may_come_from_pyav(decoder: str) -> None:
    assert resolved(draft=True, decoder=decoder).sampling.draft


# -- a dump is a config, and every field is a flag --------------------------------------------------------------------


def test_a_dump_reads_back_as_the_same_config(yaml_file: Path) -> None:
    config = ClassifyConfig(
        EngineConfig("ViT-B-32,/tmp/ü #1: x.pt", offline=True),
        SamplingConfig(frames=3, crops=3, sampling="keyframe"),
        DecodingConfig(decoder="av", workers=2),
        StoreConfig(cache_dir="no"),
        SpottingConfig("mean", "all", 0.5),
        AttributeConfig("no", 0.5, "yes", 1),
        template="a {}: 'quoted' # and more",
        top=2,
        explain=True,
    )
    yaml_file.write_text(dump(config), encoding="utf-8")

    assert resolved(yaml_file) == config


def test_every_field_is_a_flag_and_every_flag_a_field() -> None:
    command = typer.main.get_command(app).commands["classify"]  # type: ignore[attr-defined]

    flags = {parameter.name for parameter in command.params} - {"help"}

    assert flags > OF_THE_REQUEST
    assert flags - OF_THE_REQUEST == set(leaves(ClassifyConfig))


def flags_of(command: str) -> set[str]:
    return {p.name for p in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "config", "hidden"),
    [
        ("classify", ClassifyConfig, set()),
        ("calibrate", CalibrateConfig, set()),
        ("fewshot", FewshotConfig, set()),
        ("finetune", FinetuneConfig, {"clips", "crops", "attribute_weight", "attribute_model"}),
        ("eval", EvalConfig, {"compile"}),
    ],
)
def test_every_field_is_a_flag_of_its_command(command: str, config: type, hidden: set[str]) -> None:
    assert set(leaves(config)) - flags_of(command) == hidden


@pytest.mark.parametrize("command", ["classify", "calibrate", "fewshot", "finetune", "eval"])
def test_every_command_that_decodes_has_the_flags_of_decoding(command: str) -> None:
    wanted = {*leaves(DecodingConfig), *leaves(StoreConfig), "frames", "sampling", "draft"}

    assert wanted <= flags_of(command)


@pytest.mark.parametrize("config", [ClassifyConfig, CalibrateConfig, FewshotConfig, FinetuneConfig, EvalConfig])
def test_the_help_shows_the_default_of_the_dataclass(config: type) -> None:
    command = config.__name__.removesuffix("Config").lower()
    parameters = {p.name: p for p in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]
    hidden_or_explained = (None, False)

    for f, value in fields_and_values(config()):
        described = flag_of(f)
        assert described is not None
        if f.name in parameters and value not in hidden_or_explained and described.default_text is None:
            shown = parameters[f.name].show_default
            assert shown is False or shown == "on" or float_or_text(shown) == value, f.name


def float_or_text(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


# -- what settings affect ---------------------------------------------------------------------------------------------

RECORDED_BY_FINETUNE_0_1 = {
    *("attribute_count", "attribute_model", "attribute_weight", "attributes", "augment", "balanced", "batch_size"),
    *("branch", "clip_ratio", "clips", "crops", "decoder", "draft", "early_stop", "epochs", "flip", "frames", "freeze"),
    *("head", "jitter", "loss", "lr", "pool", "precision", "sampling", "seed", "spot", "temperature", "template"),
    *("val_fraction", "warmup", "weight_decay", "wise_ft"),
}
RECORDED_BY_EVAL_0_1 = {
    *("attribute_count", "attribute_model", "attribute_weight", "attributes", "clips", "crops", "decoder", "draft"),
    *("frames", "method", "model", "official", "official_batch", "pool", "precision", "protocol", "resamples"),
    *("sampling", "seed", "shots", "spot", "temperature", "template", "trials"),
}
RECORDED_BY_FEWSHOT_0_1 = (RECORDED_BY_EVAL_0_1 | {"test_fraction"}) - {
    *("official", "official_batch", "protocol", "resamples"),
}


@pytest.mark.parametrize(
    ("config", "recorded"),
    [
        (FinetuneConfig(), RECORDED_BY_FINETUNE_0_1 | {"descriptions", "model"}),
        (
            EvalConfig(),
            RECORDED_BY_EVAL_0_1
            | {"descriptions", "tiou", "fps", "min_duration", "threshold", "exclusive", "reject", "promise"}
            | {"unseen_split"},
        ),
        (FewshotConfig(), RECORDED_BY_FEWSHOT_0_1 | {"descriptions"}),
    ],
)
def test_results_depend_on_the_settings_that_version_0_1_recorded(config: object, recorded: set[str]) -> None:
    assert set(settings_affecting(config, *RESULTS)) == recorded


@pytest.mark.parametrize("config", [ClassifyConfig(), FewshotConfig(), FinetuneConfig(), EvalConfig()])
def test_every_field_declares_its_effect(config: object) -> None:
    by_effect = [settings_affecting(config, effect) for effect in get_args(Affects)]

    assert sum(map(len, by_effect)) == len(flatten(config))


def test_a_field_without_an_effect_is_refused() -> None:
    config = dataclasses.make_dataclass("Config", [("depth", int, dataclasses.field(default=1))])

    with pytest.raises(TypeError, match="depth: does not declare what it affects"):
        settings_affecting(config(), *RESULTS)


def test_settings_of_few_shot_learning_have_one_default() -> None:
    shared = ("shots", "method", "trials", "seed")

    assert [flatten(FewshotConfig())[name] for name in shared] == [flatten(EvalConfig())[name] for name in shared]


def test_the_values_tried_below_are_no_defaults() -> None:
    defaults = flatten(ClassifyConfig())

    assert OTHERS.keys() == defaults.keys()
    assert not [name for name in OTHERS if OTHERS[name] == defaults[name]]


@pytest.mark.parametrize("name", OTHERS)
def test_a_flag_sets_its_own_field_and_no_other(name: str, yaml_file: Path) -> None:
    flag = f"--{'no-' if OTHERS[name] is False else ''}{name.replace('_', '-')}"
    value = [] if isinstance(OTHERS[name], bool) else [str(OTHERS[name])]

    done = CliRunner().invoke(app, ["classify", flag, *value, "--dump-config"])

    assert done.exit_code == 0, done.stderr
    yaml_file.write_text(done.stdout)
    assert flatten(resolved(yaml_file)) == {**flatten(ClassifyConfig()), name: OTHERS[name]}


@pytest.mark.parametrize(
    "flags",
    [
        *(["--crops", "2"], ["--top", "0"], ["--temperature", "0"], ["--frames", "-1"]),
        *(["--workers", "0"], ["--decode-timeout", "0"], ["--decode-timeout", "nan"], ["--decode-memory", "0"]),
        ["--draft", "--decoder", "decord"],
    ],
)
def test_a_wrong_flag_is_a_usage_error(flags: list[str]) -> None:
    done = CliRunner().invoke(app, ["classify", *flags, "--dump-config"])

    assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("error: ")


def test_configs_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClassifyConfig().top = 3  # type: ignore[misc]


def test_off_in_a_file_is_a_word(yaml_file: Path) -> None:
    yaml_file.write_text("attributes: off\n")

    assert resolve(ClassifyConfig, flags={}, file=yaml_file, environment={}).attributes.attributes == "off"


def test_a_number_may_have_an_exponent(yaml_file: Path) -> None:
    yaml_file.write_text("temperature: 1e-2\n")

    assert resolve(ClassifyConfig, flags={}, file=yaml_file, environment={}).spotting.temperature == 0.01


@pytest.mark.parametrize("config", [FewshotConfig, EvalConfig, FinetuneConfig])
def test_features_in_the_store_do_not_depend_on_the_command(config: type) -> None:
    assert settings_affecting(config(), "pixels") == settings_affecting(ClassifyConfig(), "pixels")


def test_changed_values_are_checked_like_flags() -> None:
    config = changed(EvalConfig(), {"pool": "mean", "frames": 4})

    assert (config.spotting.pool, config.sampling.frames, config.seed) == ("mean", 4, 0)
    with pytest.raises(ConfigError, match="--pool is 'max'; give tcs, mean or scores"):
        changed(config, {"pool": "max"})
