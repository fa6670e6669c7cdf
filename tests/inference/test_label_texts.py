"""Descriptions: what a label's vector and voters are, for whom templates count, and where descriptions are refused."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

import bike_cli as bike
from bike_cli.cli.classify.resume import record_format
from bike_cli.cli.spot.resume import spot_format
from bike_cli.config import ClassifyConfig, Descriptions, Spot, SpotConfig
from bike_cli.data.labelled.train_sets import TrainSet
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.inference.label_texts import encode_labels
from bike_cli.inference.prepare import prepare
from bike_cli.tasks.finetune.plan import plan_run

LABELS = ("red circle", "crimson roundel", "blue star")
DESCRIPTIONS: Descriptions = {"red circle": ("a big red dot",), "crimson roundel": ("a red disc", "a circle in red")}


def vector(engine: Engine, text: str) -> np.ndarray:
    """Return the unit vector of one text, read alone."""
    read = engine.encode_texts([text], positions="eot").classes[0].double().numpy()
    return read / np.linalg.norm(read)


def mean(*vectors: np.ndarray) -> np.ndarray:
    total = sum(vectors)
    return total / np.linalg.norm(total)


def test_a_vector_is_the_mean_of_the_template_and_the_descriptions(tiny: Engine) -> None:
    in_template = [vector(tiny, f"a video of {label}") for label in LABELS]
    described = [[vector(tiny, text) for text in DESCRIPTIONS.get(label, ())] for label in LABELS]
    expected = {
        "off": in_template,
        # tiny knows neither "crimson" nor "roundel"
        "add": [mean(in_template[0], *described[0]), mean(*described[1]), in_template[2]],
        "only": [mean(*described[0]), mean(*described[1]), in_template[2]],
    }
    for use, vectors in expected.items():
        config = ClassifyConfig(template="a video of {}", descriptions=use)  # type: ignore[arg-type]
        classes = prepare(tiny, LABELS, config, descriptions=DESCRIPTIONS).texts.classes
        np.testing.assert_allclose(classes.numpy(), vectors, atol=1e-5)


def test_all_templates_of_a_set_count_as_one_text(tiny: Engine) -> None:
    from bike_cli.data.labels import TEMPLATES

    whole_set = mean(*(vector(tiny, template.replace("{}", "red circle")) for template in TEMPLATES["action"]))
    config = ClassifyConfig(template="action")

    classes = prepare(tiny, LABELS[:1], config, descriptions={"red circle": ("a red disc",)}).texts.classes

    np.testing.assert_allclose(classes[0].numpy(), mean(whole_set, vector(tiny, "a red disc")), atol=1e-5)


def test_all_words_of_descriptions_vote_and_the_labels_words_in_the_template(tiny: Engine) -> None:
    classifier = prepare(tiny, LABELS, ClassifyConfig(template="a {} here"), descriptions=DESCRIPTIONS)
    voters = classifier.texts.voters
    assert voters is not None
    words = [2 + 4, 3 + 4, 2]  # of "red circle" + "a big red dot"; "a red disc", "a circle in red"; "blue star"

    assert [len(voters.of_class(i)) for i in range(3)] == words
    dot = tiny.encode_texts(["a big red dot"], positions="words").tokens[0]
    unit = dot / dot.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(voters.of_class(0)[2:], unit, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spot", ["words", "eot"])
def test_labels_without_descriptions_are_as_in_a_list_without_any(tiny: Engine, spot: Spot) -> None:
    config = ClassifyConfig(spotting=bike.SpottingConfig(spot=spot))
    mixed = prepare(tiny, LABELS, config, descriptions=DESCRIPTIONS)
    alone = prepare(tiny, ["blue star"], config)
    video = torch.randn(1, 5, tiny.encoder.dim, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(mixed.texts.scores(video)[:, 2], alone.texts.scores(video)[:, 0], atol=1e-6, rtol=0)


def test_the_order_of_labels_does_not_matter(tiny: Engine) -> None:
    order = [2, 0, 1]
    forward = encode_labels(tiny, LABELS, template=None, spot="eot", descriptions=DESCRIPTIONS)
    other = encode_labels(tiny, [LABELS[i] for i in order], template=None, spot="eot", descriptions=DESCRIPTIONS)

    torch.testing.assert_close(other.classes, forward.classes[order], atol=1e-5, rtol=0)


def test_spotting_by_all_positions_is_refused(tiny: Engine) -> None:
    config = ClassifyConfig(spotting=bike.SpottingConfig(spot="all"))

    with pytest.raises(UsageError, match="give words or eot, or --descriptions off"):
        prepare(tiny, LABELS, config, descriptions=DESCRIPTIONS)
    prepare(tiny, LABELS, replace(config, descriptions="off"), descriptions=DESCRIPTIONS)


def test_a_description_of_what_is_not_a_label_is_refused(tiny: Engine) -> None:
    with pytest.raises(UsageError, match="descriptions: 'red circel' is not a label; the nearest is 'red circle'"):
        prepare(tiny, LABELS, ClassifyConfig(), descriptions={"red circel": ("a red disc",)})


def test_warnings_name_what_is_not_read(tiny: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepare(tiny, LABELS, ClassifyConfig(), descriptions=DESCRIPTIONS)
    assert not caplog.records  # "crimson roundel" is described in words that tiny knows
    prepare(tiny, LABELS, ClassifyConfig(), descriptions={**DESCRIPTIONS, "blue star": ("so " * 100,)})
    assert "a description of 'blue star': is longer than the 77 tokens" in caplog.text
    caplog.clear()
    prepare(tiny, LABELS, ClassifyConfig(), descriptions={"crimson roundel": ("qwerty",)})
    assert "label 'crimson roundel': tiny knows none of its words" in caplog.text


def test_training_of_towers_refuses_descriptions(tiny: Engine) -> None:
    labelled = TrainSet(LABELS, LABELS, (), None, descriptions=DESCRIPTIONS)

    with pytest.raises(UsageError, match=r"label 'red circle' has some, but bike finetune .* --descriptions off"):
        plan_run(tiny, labelled, bike.FinetuneConfig())
    with pytest.raises(UsageError, match=r"label 'red circle' has some, but the method bike .* --descriptions off"):
        bike.Study(tiny, labelled, bike.FewshotConfig(method="bike"), pool=None)  # type: ignore[arg-type]


# -- what records are compared by --------------------------------------------------------------------------------------


def test_the_settings_of_records_change_with_descriptions_alone() -> None:
    labels = ["run", "walk"]

    def settings(descriptions: Descriptions | None = None, use: str = "add") -> str:
        config = ClassifyConfig(descriptions=use)  # type: ignore[arg-type]
        return record_format(labels, config, None, descriptions).settings

    plain = settings()
    assert plain == "f88f214e"  # of the version before descriptions
    assert record_format(labels, ClassifyConfig(), None).settings_0_1 == "9a67e3eb"
    assert spot_format(["run"], ["sit"], SpotConfig(), None).settings == "98d9be35"
    assert settings(use="only") == settings({"run": ()}) == settings({"run": ("fast",)}, "off") == plain
    different = [{"run": ("fast",)}, {"run": ("slow",)}, {"walk": ("fast",)}, {"run": ("fast", "slow")}]
    found = [settings(descriptions, use) for descriptions in different for use in ("add", "only")]
    assert len({*found, plain}) == 9
    assert settings({"run": ("a",), "walk": ("b",)}) == settings({"walk": ("b",), "run": ("a",)})
    assert spot_format(["run"], [], SpotConfig(), None, {"run": ("a",)}) != spot_format(["run"], [], SpotConfig(), None)
