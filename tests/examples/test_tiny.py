"""The bundled model on fresh clips, through real files; `examples/measure_tiny.py` measures the same on many more."""

import time
from pathlib import Path

import pytest
import torch
from measure_tiny import (
    CASES,
    FILMS,
    MEAN,
    MOTIONS,
    Answers,
    Case,
    Watched,
    answer,
    look_at,
    spotting,
    watch,
    weight_there,
)

from bike_cli.data.labels import read_labels
from bike_cli.engine.engine import Engine, load

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "clips").glob("*.mp4"))
SEED = 3_000_000  # neither trained, validated nor measured on


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load("tiny", device="cpu")


@pytest.fixture(scope="module")
def way(engine: Engine) -> str:
    return spotting(engine.recipe.spot, engine.recipe.temperature)


@pytest.fixture(scope="module")
def plain(engine: Engine) -> Watched:
    return watch(engine, FILMS["never seen"], 64, SEED)


@pytest.fixture(scope="module")
def passers(engine: Engine) -> Watched:
    return watch(engine, FILMS["passers-by"], 48, SEED + 1000)


def case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def answered(engine: Engine, watched: Watched, question: Case) -> Answers:
    return answer(engine, watched.features[question.frames], question.labels)


def share(answers: Answers, pool: str, truth: torch.Tensor) -> float:
    return float((answers.scores[pool].argmax(1) == truth).float().mean())


@pytest.mark.slow
def test_pairs_never_seen_in_training_are_named(engine: Engine, plain: Watched, way: str) -> None:
    question = case("64 pairs, never seen")

    answers = answered(engine, plain, question)

    assert share(answers, way, plain.truth(question)) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("frames", [8, 16])
def test_motions_are_named(engine: Engine, plain: Watched, way: str, frames: int) -> None:
    question = case(f"motion, {frames} frames")

    answers = answered(engine, plain, question)

    assert share(answers, way, plain.truth(question)) >= 0.9


@pytest.mark.slow
def test_a_film_run_backwards_moves_the_other_way(engine: Engine, plain: Watched, way: str) -> None:
    left, right = MOTIONS.index("moving left"), MOTIONS.index("moving right")
    goes_left = plain.scenes.motion[:, 0] == left

    answers = answer(engine, plain.features[16][goes_left].flip(1), MOTIONS)

    assert share(answers, way, torch.tensor(right)) >= 0.8


@pytest.mark.slow
def test_spotting_finds_the_object_among_passers_by(engine: Engine, passers: Watched, way: str) -> None:
    question = case("sparse, passers-by")

    answers = answered(engine, passers, question)

    spotted, pooled = (share(answers, pool, passers.truth(question)) for pool in (way, MEAN))
    assert spotted >= 0.88
    assert spotted - pooled >= 0.2


@pytest.mark.slow
def test_saliency_lies_on_the_frames_where_the_object_is(engine: Engine, way: str) -> None:
    question = case("sparse, empty rest")
    watched = watch(engine, FILMS["empty"], 32, SEED + 2000)

    weights = weight_there(watched, answered(engine, watched, question), question)[way]

    assert float(weights.mean()) >= 0.9


@pytest.mark.parametrize("clip", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_named_rightly(engine: Engine, way: str, clip: Path) -> None:
    labels = read_labels(ROOT / "examples" / "labels.txt")
    features, _ = look_at(engine, clip, 8)

    best = int(answer(engine, features[None], labels).scores[way].argmax())

    assert clip.stem.startswith(labels[best].replace(" ", "_"))


def test_examples_are_a_dozen_small_files() -> None:
    assert len(EXAMPLES) == 12
    assert max(path.stat().st_size for path in EXAMPLES) <= 50_000


def test_the_model_is_small_and_loads_in_under_a_second() -> None:
    start = time.perf_counter()

    load("tiny", device="cpu")

    assert time.perf_counter() - start < 1
    assert sum(path.stat().st_size for path in (ROOT / "weights" / "tiny").iterdir()) <= 12_000_000
