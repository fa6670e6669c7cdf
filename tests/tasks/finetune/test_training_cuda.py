"""Training steps on a CUDA device: pytest -m cuda."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from launching import on_two
from safetensors.torch import load_file
from test_training import CASES, assert_alike, own_copy, step_of
from test_training import batch_of as small_batch_of
from torch import Tensor

from bike_cli.config import Strategy
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.voters import Voters
from bike_cli.errors import ModelError
from bike_cli.records import Prompt
from bike_cli.tasks.finetune.learner import Batch, Learner
from bike_cli.tasks.finetune.rehearsal import fitting_batch
from bike_cli.tasks.finetune.video_branch import freeze, trained_parameters

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
LABELS = ["red square", "blue circle", "green cross", "yellow star"]
VIDEOS, FRAMES = 16, 4


def learner_of(
    device: str, precision: str = "fp32", *, parts: int | None = None, compiled: bool = False
) -> tuple[Learner, Engine]:
    engine = load("tiny", device=device, precision=precision, compile=compiled)  # type: ignore[arg-type]
    freeze(engine, "text")
    text = engine.encode_texts([Prompt.plain(label) for label in LABELS], positions="all")
    texts = ClassTexts(unit(text.classes), Voters.among(unit(text.tokens), None), 0.01)
    return Learner(engine, texts, parts=parts, compiled=compiled), engine


def batch_of(device: str, videos: int = VIDEOS) -> Batch:
    dice = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (videos, FRAMES, 3, 64, 64), dtype=torch.uint8, generator=dice)
    return Batch(torch.arange(videos) % len(LABELS), pixels.to(device), torch.ones(videos, dtype=torch.bool))


def gradient(learner: Learner, batch: Batch) -> tuple[float, Tensor]:
    """Return the loss and the whole gradient as one vector, and forget it."""
    loss = float(learner.gradients(batch))
    trained = [p for p in learner.branch.parameters() if p.requires_grad] + [learner.scale]
    whole = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
    for p in trained:
        p.grad = None
    return loss, whole.double().cpu() / learner.scaler.get_scale()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA devices here")
@pytest.mark.parametrize(("learn", "parts"), [("fixed", 1), ("learn", 2)])
def test_two_devices_find_the_gradients_of_one_cpu(tiny: Engine, tmp_path: Path, learn: str, parts: int) -> None:
    engine = own_copy(tiny, "none" if learn == "learn" else "text")
    value, expected = step_of(engine, small_batch_of(dict(CASES)["nce"]), loss="nce", learn=learn == "learn")

    on_two("two_processes.py", tmp_path / "found", "nce", learn, parts, "cuda")

    for strategy in get_args(Strategy):
        two = load_file(tmp_path / "found" / strategy)
        assert bool(two.pop("shares")) == (strategy == "fsdp")
        assert two.pop("loss").item() == pytest.approx(value, rel=1e-4)
        assert_alike(two, expected, within=1e-3)


@pytest.fixture(scope="module")
def on_cpu() -> tuple[float, Tensor]:
    return gradient(learner_of("cpu")[0], batch_of("cpu"))


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_fp32_gives_the_gradient_of_the_cpu(on_cpu: tuple[float, Tensor]) -> None:
    loss, found = gradient(learner_of("cuda")[0], batch_of("cuda"))

    assert loss == pytest.approx(on_cpu[0], rel=1e-4)
    assert float((found - on_cpu[1]).norm() / on_cpu[1].norm()) < 1e-3


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_the_host_does_not_wait_for_the_device_within_a_step() -> None:
    (learner, _), batch = learner_of("cuda", "bf16"), batch_of("cuda")
    optimizer = torch.optim.AdamW([p for p in learner.branch.parameters() if p.requires_grad], fused=True)
    expected = float(learner.gradients(batch))  # the first step, in which libraries synchronise once
    optimizer.zero_grad()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = learner.gradients(batch)
        learner.finish_step(optimizer)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert float(loss) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_about_the_gradient_of_the_cpu(on_cpu: tuple[float, Tensor], precision: str) -> None:
    learner, _ = learner_of("cuda", precision)
    if precision == "fp16":
        # The one it begins with overflows, is halved after each step, and teaches nothing until it is small enough.
        learner.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)

    loss, found = gradient(learner, batch_of("cuda"))

    assert loss == pytest.approx(on_cpu[0], rel=0.02)
    assert cosine(found, on_cpu[1]) > 0.99
    assert float(found.norm() / on_cpu[1].norm()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_change_no_gradient(parts: int) -> None:
    whole = gradient(learner_of("cuda")[0], batch_of("cuda"))

    in_parts = gradient(learner_of("cuda", parts=parts)[0], batch_of("cuda"))

    assert in_parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert float((in_parts[1] - whole[1]).norm() / whole[1].norm()) < 1e-4


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it compiles
def test_a_compiled_step_gives_the_gradient_of_a_plain_one() -> None:
    plain, (compiled, engine) = learner_of("cuda")[0], learner_of("cuda", compiled=True)

    # One video fewer goes through what is compiled for all, and so does a part of them.
    for videos in (VIDEOS, VIDEOS - 1):
        expected, found = (gradient(learner, batch_of("cuda", videos)) for learner in (plain, compiled))
        assert found[0] == pytest.approx(expected[0], rel=1e-4)
        assert float((found[1] - expected[1]).norm() / expected[1].norm()) < 1e-3
    compiled.parts = 2
    expected, found = (gradient(learner, batch_of("cuda")) for learner in (plain, compiled))
    assert float((found[1] - expected[1]).norm() / expected[1].norm()) < 1e-3

    # Validation goes through the tower that was compiled before.
    frames = torch.randint(256, (3, 64, 64, 3), dtype=torch.uint8)
    lowest = torch.cosine_similarity(
        engine.encode_frames(frames).cpu(), load("tiny", "cpu").encode_frames(frames)
    ).min()
    assert float(lowest) > 1 - 1e-4
    assert fitting_batch(compiled, engine, FRAMES, most=VIDEOS) == VIDEOS


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave too little memory for a batch at once, and enough for a part of it."""
    learner, _ = learner_of("cuda", "bf16")
    learner.gradients(batch_of("cuda", 256))  # what libraries keep is there already
    learner.branch.zero_grad()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    learner.gradients(batch_of("cuda", 256))
    needed = torch.cuda.max_memory_reserved()
    del learner
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * needed / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def whole_gradient(engine: Engine, learner: Learner) -> Tensor:
    grads = [p.grad for p in trained_parameters(engine, learner).values()]
    return torch.cat([grad.flatten() for grad in grads if grad is not None]).double().cpu()


@pytest.mark.usefixtures("little_memory")
def test_a_batch_that_does_not_fit_is_split_into_more_parts(caplog: pytest.LogCaptureFixture) -> None:
    learner, engine = learner_of("cuda", "bf16")
    batch = batch_of("cuda", 256)

    loss = float(learner.gradients(batch))

    assert learner.parts > 1
    assert "out of memory on the device" in caplog.text
    assert math.isfinite(loss)
    found = whole_gradient(engine, learner)
    torch.cuda.set_per_process_memory_fraction(1.0)
    whole, other = learner_of("cuda", "bf16")
    assert float(whole.gradients(batch)) == pytest.approx(loss, rel=1e-2)
    assert whole.parts == 1
    assert cosine(found, whole_gradient(other, whole)) > 0.999


@pytest.mark.usefixtures("little_memory")
def test_a_given_number_of_parts_is_not_changed() -> None:
    learner, _ = learner_of("cuda", "bf16", parts=1)

    with pytest.raises(ModelError, match=r"in 1 parts does not fit on the device .*; give --accumulate more parts"):
        learner.gradients(batch_of("cuda", 256))
