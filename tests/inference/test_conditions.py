"""What scores depend on: equal however a default is written, different where scores differ."""

from dataclasses import replace
from pathlib import Path

import pytest

from bike_cli.config import (
    AttributeConfig,
    CalibrateConfig,
    ClassifyConfig,
    DecodingConfig,
    SamplingConfig,
    SpottingConfig,
    StoreConfig,
)
from bike_cli.data.labels import read_templates
from bike_cli.engine.engine import Engine
from bike_cli.inference.conditions import conditions_of


def test_commands_and_what_only_affects_speed_make_no_difference(tiny: Engine) -> None:
    config = ClassifyConfig(decoding=DecodingConfig(workers=3), store=StoreConfig(cache=False), top=2, explain=True)

    assert conditions_of(tiny, config) == conditions_of(tiny, CalibrateConfig())


def test_a_default_may_be_written_out(tiny: Engine, tmp_path: Path) -> None:
    recipe, default = tiny.recipe, conditions_of(tiny, ClassifyConfig())
    template = read_templates(recipe.template)
    (tmp_path / "templates.txt").write_text("\n".join(template))
    written = SpottingConfig(spot=recipe.spot, temperature=recipe.temperature)

    assert conditions_of(tiny, ClassifyConfig(spotting=written)) == default
    for name in (recipe.template, template[0], str(tmp_path / "templates.txt")):
        assert conditions_of(tiny, ClassifyConfig(template=name)) == default
    for attributes in (AttributeConfig(attribute_weight=0.0), AttributeConfig(attributes="off")):
        assert conditions_of(tiny, ClassifyConfig(attributes=attributes)) == default
    assert conditions_of(replace(tiny, name="./weights/tiny"), ClassifyConfig()) == {
        **default,
        "model": "./weights/tiny",
    }


def test_what_does_not_weight_frames_makes_no_difference_without_spotting(tiny: Engine) -> None:
    mean = conditions_of(tiny, ClassifyConfig(spotting=SpottingConfig(pool="mean")))

    assert conditions_of(tiny, ClassifyConfig(spotting=SpottingConfig(pool="mean", temperature=0.5))) == mean
    assert mean["spot"] is None
    assert mean["temperature"] is None


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"sampling": SamplingConfig(frames=4)}, "frames"),
        ({"sampling": SamplingConfig(clips=2)}, "clips"),
        ({"sampling": SamplingConfig(crops=3)}, "crops"),
        ({"sampling": SamplingConfig(sampling="dense")}, "sampling"),
        ({"sampling": SamplingConfig(draft=True)}, "draft"),
        ({"decoding": DecodingConfig(decoder="av")}, "decoder"),
        ({"spotting": SpottingConfig(temperature=0.5)}, "temperature"),
        ({"spotting": SpottingConfig(spot="all")}, "spot"),
        ({"template": "{}"}, "template"),
        ({"attributes": AttributeConfig(attribute_weight=0.2)}, "attribute_weight"),
        ({"attributes": AttributeConfig(attribute_model="other")}, "attribute_weight"),
    ],
)
def test_what_scores_depend_on_makes_a_difference(tiny: Engine, changed: dict[str, object], name: str) -> None:
    before, after = conditions_of(tiny, ClassifyConfig()), conditions_of(tiny, ClassifyConfig(**changed))  # type: ignore[arg-type]

    assert {key for key in before if before[key] != after[key]} == {name}


def test_descriptions_count_unless_they_are_off(tiny: Engine) -> None:
    default, config = conditions_of(tiny, ClassifyConfig()), ClassifyConfig(descriptions="only")
    one, other = {"red square": ("a red box",)}, {"red square": ("a crimson box",)}

    assert conditions_of(tiny, ClassifyConfig(), one) != default
    assert conditions_of(tiny, ClassifyConfig(), one) != conditions_of(tiny, ClassifyConfig(), other)
    assert conditions_of(tiny, ClassifyConfig(), one) != conditions_of(tiny, config, one)
    assert conditions_of(tiny, ClassifyConfig(descriptions="off"), one) == default
    assert conditions_of(tiny, config) == default
    assert conditions_of(tiny, config, {"red square": ()}) == default
