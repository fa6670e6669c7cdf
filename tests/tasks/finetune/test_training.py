"""One step has the official gradients, in any number of parts and with any trained towers."""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from speed import slow_but
from torch import Tensor

from bike_cli.config import Spot
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.transforms import normalise
from bike_cli.engine.voters import Voters, voters
from bike_cli.errors import ConfigError, ModelError
from bike_cli.records import Prompt
from bike_cli.tasks.finetune.learner import Batch, Learner, TextTraining
from bike_cli.tasks.finetune.losses import nce_loss
from bike_cli.tasks.finetune.sharding import full_tensor
from bike_cli.tasks.finetune.video_branch import freeze

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="the official code's values are missing")
LABELS = ["red square", "blue circle", "green cross", "yellow star"]


def learner_of(
    engine: Engine, labels: list[str], spot: Spot = "all", *, learn: bool = False, **options: object
) -> Learner:
    prompts = tuple(Prompt(f"This is a video about {label}", 22, 22 + len(label)) for label in labels)
    text = engine.encode_texts(prompts, positions=spot)
    tokens, mask = voters(text, spot)
    training = TextTraining(prompts, spot, mask, tokens.shape[1]) if learn else None
    texts = ClassTexts(unit(text.classes), Voters.among(unit(tokens), mask), 0.01)
    return Learner(engine, texts, text_training=training, **options)  # type: ignore[arg-type]


def gradients(engine: Engine, learner: Learner) -> dict[str, Tensor]:
    """Return what was found by a step, and forget it."""
    parts = {"clip": engine.encoder.model, "head": engine.temporal_head}
    found = {
        f"{part}.{name}": full_tensor(p.grad).clone()
        for part, module in parts.items()
        if module is not None
        for name, p in module.named_parameters()
        if p.grad is not None
    }
    for name, p in (("clip.logit_scale", learner.scale), ("head.bias", learner.bias)):
        if p is not None and p.grad is not None:
            found[name] = p.grad.clone()
    learner.branch.zero_grad()
    learner.scale.grad = None
    return found


# -- the official code's ------------------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_every_gradient_is_the_official_one(parts: int) -> None:
    engine = load(str(GOLDEN / "bike_tiny_checkpoint.pt"), device="cpu")
    with np.load(GOLDEN / "golden_model.npz") as file:
        frames, labels, names = file["frames_u8"], file["video_labels"], [str(name) for name in file["class_names"]]
    with np.load(GOLDEN / "golden_losses.npz") as file:
        wanted = {key: file[key] for key in file.files if key.startswith("e2e_")}
    freeze(engine, "text")
    learner = learner_of(engine, names, parts=parts)
    pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).contiguous()

    loss = float(learner.gradients(Batch(torch.from_numpy(labels), pixels, torch.ones(3, dtype=torch.bool))))

    assert loss == pytest.approx(float(wanted["e2e_loss"]), rel=1e-5)
    found = gradients(engine, learner)
    norms = dict(zip(wanted["e2e_param_names"].tolist(), wanted["e2e_grad_norms"].tolist(), strict=True))
    assert set(found) == {name for name, norm in norms.items() if not np.isnan(norm)}
    for name, gradient in found.items():
        assert gradient.norm().item() == pytest.approx(norms[name], rel=1e-5, abs=1e-8), name
    theirs = {key.removeprefix("e2e_grad_"): value for key, value in wanted.items() if key.startswith("e2e_grad_")}
    compared = [name for name in found if name in theirs]
    assert len(compared) > 5
    for name in compared:  # single elements differ by the rounding of the processor's sums
        length = np.linalg.norm(theirs[name])
        assert np.linalg.norm(found[name].numpy() - theirs[name]) <= 1e-5 * length, name


# -- parts, processes, towers -------------------------------------------------------------------------------------


def batch_of(labels: Tensor, *, videos: int = 5, frames: int = 3, seed: int = 0) -> Batch:
    dice = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (videos, frames, 3, 64, 64), dtype=torch.uint8, generator=dice)
    return Batch(labels, pixels, torch.ones(videos, dtype=torch.bool))


def own_copy(engine: Engine, frozen: str = "text") -> Engine:
    """Return a copy of an engine, to take gradients of its weights."""
    model = copy.deepcopy(engine.encoder.model)
    encoder = replace(engine.encoder, model=model, tower=model.encode_image)
    copied = replace(engine, encoder=encoder, temporal_head=copy.deepcopy(engine.temporal_head))
    freeze(copied, frozen)
    return copied


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in float64, where gradients that ought to be equal differ by 1e-14 and not by 1e-6."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_double(engine: Engine) -> Engine:
    engine.encoder.model.double()
    if engine.temporal_head is not None:
        engine.temporal_head.double()
    return engine


def step_of(
    engine: Engine, batch: Batch, *, loss: str, parts: int = 1, learn: bool = False, spot: Spot = "words"
) -> tuple[float, dict[str, Tensor]]:
    learner = learner_of(engine, LABELS, spot, learn=learn, loss=loss, parts=parts)
    return float(learner.gradients(batch)), gradients(engine, learner)


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor], within: float) -> None:
    """Assert that gradients are the same, relative to the length of all of them together."""
    assert set(found) == set(wanted)
    length = math.sqrt(sum(float(gradient.square().sum()) for gradient in wanted.values()))
    for name, gradient in wanted.items():
        difference = float((found[name] - gradient).norm())
        assert difference <= within * length, name
        # Rounding weighs more where a parameter's own gradient is small.
        assert difference <= 5 * within * float(gradient.norm()) + 1e-9, name


SINGLE, SEVERAL = torch.tensor([2, 0, 1, 2, 3]), torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]] * 2)[:5].bool()
CASES = [("nce", SINGLE), ("ds", SINGLE), ("ce", SINGLE), ("bce", SEVERAL)]


@pytest.mark.slow  # over a second of a core
@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("learn", slow_but([True], [False, True]))
@pytest.mark.parametrize(("loss", "labels"), CASES)
def test_parts_change_no_gradient(tiny: Engine, loss: str, labels: Tensor, learn: bool) -> None:
    engine = in_double(own_copy(tiny, "none" if learn else "text"))

    whole = step_of(engine, batch_of(labels), loss=loss, learn=learn)
    in_parts = step_of(engine, batch_of(labels), loss=loss, learn=learn, parts=3)

    assert in_parts[0] == pytest.approx(whole[0], rel=1e-12)
    assert_alike(in_parts[1], whole[1], within=1e-12)


def limit_memory(learner: Learner, videos: int) -> None:
    """Let the device run out of memory whenever more than this number of videos go through the model at once."""

    def check(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if len(arguments[0]) > videos:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    learner.branch.register_forward_pre_hook(check)


@pytest.mark.slow  # over a second of a core
@pytest.mark.usefixtures("double_precision")
def test_a_batch_that_does_not_fit_is_split_into_more_parts(tiny: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine, batch = in_double(own_copy(tiny)), batch_of(SINGLE)
    whole = step_of(engine, batch, loss="nce")
    learner = learner_of(engine, LABELS, "words")
    limit_memory(learner, 2)

    loss, found = float(learner.gradients(batch)), gradients(engine, learner)

    assert learner.parts == 4
    assert [record.message.rsplit(" ", 2)[1] for record in caplog.records] == ["2", "4"]
    assert loss == pytest.approx(whole[0], rel=1e-12)
    assert_alike(found, whole[1], within=1e-12)


@pytest.mark.parametrize(
    ("parts", "videos", "message"),
    [
        (2, 2, r"5 videos in 2 parts does not fit on the device \(CUDA out of memory\); give --accumulate more parts"),
        (None, 0, r"5 videos in 5 parts does not fit .*; choose a smaller model or fewer --frames"),
    ],
)
def test_a_batch_that_cannot_be_split_is_an_error(tiny: Engine, parts: int | None, videos: int, message: str) -> None:
    engine = own_copy(tiny)
    learner = learner_of(engine, LABELS, "words", parts=parts)
    limit_memory(learner, videos)

    with pytest.raises(ModelError, match=message):
        learner.gradients(batch_of(SINGLE))


def test_the_gradient_is_that_of_a_plain_loss(tiny: Engine) -> None:
    engine, batch = own_copy(tiny), batch_of(SINGLE)
    text = engine.encode_texts(
        [Prompt(f"This is a video about {label}", 22, 22 + len(label)) for label in LABELS], positions="words"
    )
    tokens, classes = unit(text.tokens), unit(text.classes)
    pixels = normalise(batch.pixels.flatten(0, 1), engine.encoder.recipe)
    assert engine.temporal_head is not None
    frames = unit(engine.temporal_head(engine.encoder.model.encode_image(pixels).unflatten(0, (5, 3))))
    rows = []
    for frame in frames:
        row = []
        for label in SINGLE.tolist():
            words = tokens[label][text.token_mask[label]]
            weights = torch.softmax(words @ frame.T / 0.01, dim=1).mean(dim=0)
            row.append(((weights @ frame) * classes[label]).sum())
        rows.append(torch.stack(row))
    plain = nce_loss(engine.encoder.model.logit_scale.exp() * torch.stack(rows), SINGLE)
    plain.backward()  # type: ignore[no-untyped-call]
    wanted = {f"clip.{n}": p.grad.clone() for n, p in engine.encoder.model.named_parameters() if p.grad is not None}
    wanted |= {f"head.{n}": p.grad.clone() for n, p in engine.temporal_head.named_parameters() if p.grad is not None}
    engine.encoder.model.zero_grad()
    engine.temporal_head.zero_grad()

    loss, found = step_of(engine, batch, loss="nce")

    assert loss == pytest.approx(plain.item(), rel=1e-5)
    assert_alike(found, wanted, within=1e-5)


@pytest.mark.slow  # over a second of a core
@pytest.mark.usefixtures("double_precision")
def test_an_unreadable_video_does_not_change_the_gradient(tiny: Engine) -> None:
    engine = in_double(own_copy(tiny))
    whole = batch_of(SINGLE)
    kept = torch.tensor([True, True, False, True, False])

    without = step_of(engine, Batch(SINGLE[kept], whole.pixels[kept], torch.ones(3, dtype=torch.bool)), loss="nce")
    masked = step_of(engine, Batch(SINGLE, whole.pixels, kept), loss="nce")

    assert masked[0] == pytest.approx(without[0], rel=1e-12)
    assert_alike(masked[1], without[1], within=1e-12)


def test_an_empty_batch_gives_no_gradient(tiny: Engine) -> None:
    engine = own_copy(tiny)
    learner = learner_of(engine, LABELS, "words")

    loss = float(learner.gradients(Batch(SINGLE, batch_of(SINGLE).pixels, torch.zeros(5, dtype=torch.bool))))

    assert math.isnan(loss)
    assert all(p.grad is None for p in engine.encoder.model.parameters())


@pytest.mark.parametrize(
    ("frozen", "learn"),
    [
        ("text", {"visual", "head", "logit_scale"}),
        ("text,head", {"visual", "logit_scale"}),
        ("image", {"head", "logit_scale"}),
        ("scale", {"visual", "head"}),
    ],
)
def test_what_is_frozen_takes_no_gradient(tiny: Engine, frozen: str, learn: set[str]) -> None:
    engine = own_copy(tiny, frozen)

    parts = {name.split(".")[0] for name, p in engine.encoder.model.named_parameters() if p.requires_grad}
    assert engine.temporal_head is not None
    parts |= {"head" for p in engine.temporal_head.parameters() if p.requires_grad}

    assert parts == learn


def test_the_first_blocks_alone_may_be_frozen(tiny: Engine) -> None:
    engine = own_copy(tiny, "image:2")

    frozen = {name for name, p in engine.encoder.model.visual.named_parameters() if not p.requires_grad}

    blocks = {name.split(".")[2] for name in frozen if name.startswith("transformer.resblocks.")}
    assert blocks == {"0", "1"}
    assert {name.split(".")[0] for name in frozen if not name.startswith("transformer.")} == {
        "conv1", "class_embedding", "positional_embedding", "ln_pre",
    }  # fmt: skip


def test_none_frees_the_text_tower(tiny: Engine) -> None:
    assert all(p.requires_grad for p in own_copy(tiny, "none").encoder.model.parameters())


@pytest.mark.parametrize("frozen", ["txt", "image:x", "image:99", "text,none"])
def test_an_unknown_part_is_refused(tiny: Engine, frozen: str) -> None:
    with pytest.raises(ConfigError, match="freeze is"):
        own_copy(tiny, frozen)
