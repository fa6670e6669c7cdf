"""An engine: a model with its heads and its recipe, on its device."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bike_cli.config import Device, EngineConfig, Precision, Recipe, Spot, TrainingRecord
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.heads.bike import MAX_FRAMES, AttributeHead, TemporalTransformer
from bike_cli.engine.models.architecture import described
from bike_cli.engine.models.catalogue import ran_in_0_1
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.models.weights import check_range, digest_of_weights, sample_of_weights
from bike_cli.engine.towers.encoder import Encoder, adapt
from bike_cli.engine.towers.placement import Placement, explain, place, spare_threads
from bike_cli.engine.towers.text_tower import ImageTextModel
from bike_cli.engine.towers.tokenizers import FileTokenizer, OpenAITokenizer
from bike_cli.engine.towers.transforms import Resizer
from bike_cli.errors import UsageError, concerning
from bike_cli.records import Clip, Prompt, TextFeatures, VideoFeatures

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Engine:
    """A model, ready to encode videos and texts.

    Args:
        recipe: the defaults that come with the model.
        name: what records call it.
        logit_scale: what cosines are multiplied by before the softmax over classes.
        logit_bias: what is added to a scaled cosine before a sigmoid; None for a model that was not trained with one.
        clip_config: the open_clip configuration of its CLIP.
        licence: of the weights; None where not stated.
        training: labels and settings of its training; None for a model that bike did not train.
        source: where its weights were downloaded, or those that training started from; None for other weights.
    """

    encoder: Encoder
    temporal_head: TemporalTransformer | None
    attribute_head: AttributeHead | None
    recipe: Recipe
    name: str
    logit_scale: float
    clip_config: Mapping[str, object]
    licence: str | None = None
    training: TrainingRecord | None = None
    logit_bias: float | None = None
    source: HubSource | None = None

    def encode_frames(self, frames: NDArray[np.uint8] | Tensor, *, crops: int = 1, resizer: Resizer = "pil") -> Tensor:
        """Return raw features [crops * B, D] of uint8 [B, H, W, 3]; see `Encoder.encode_frames`."""
        return self.encoder.encode_frames(frames, crops=crops, resizer=resizer)

    def encode_texts(self, texts: Sequence[str | Prompt], *, positions: Spot | None = None) -> TextFeatures:
        """Return the features of texts; `positions` None: those that the model's recipe uses for spotting."""
        return self.encoder.encode_texts(texts, positions=positions or self.recipe.spot)

    def encode_clip(self, clip: Clip, *, crops: int = 1) -> VideoFeatures:
        """Return a clip's raw frame features, [crops * K, T, D]; view = crop * clips + clip."""
        return self.encode_clips([clip], crops=crops)[0]

    def encode_clips(self, clips: Sequence[Clip], *, crops: int = 1) -> list[VideoFeatures]:
        """Return the features of several clips; see `Encoder.encode_videos`.

        Raises:
            UsageError: more frames than the temporal head has positions for.
        """
        frames = [clip.frames.reshape(-1, *clip.frames.shape[2:]) for clip in clips]
        lengths = [clip.frames.shape[1] for clip in clips]
        encoded = self.encoder.encode_videos(frames, crops=crops, lengths=lengths)
        return [self._features(clip, features) for clip, features in zip(clips, encoded, strict=True)]

    def _features(self, clip: Clip, features: Tensor) -> VideoFeatures:
        frames = features.reshape(-1, clip.frames.shape[1], features.shape[-1])  # [crops * K, T, D]
        informed = None if self.temporal_head is None else self.temporal(frames)
        return VideoFeatures(clip.source, frames, clip.timeline, informed)

    def as_checkpoint(self, *, name: str | None = None) -> Checkpoint:
        """Return the model as a checkpoint, which `save_folder` writes; it shares the engine's modules."""
        self.encoder.text_tower.check_present()
        return Checkpoint(
            name=name or self.name,
            clip=self.encoder.model,
            clip_config=self.clip_config,
            image=self.encoder.recipe,
            recipe=self.recipe,
            temporal_head=self.temporal_head,
            attribute_head=self.attribute_head,
            licence=self.licence,
            training=self.training,
            source=self.source,
            tokenizer=self.encoder.tokenizer if isinstance(self.encoder.tokenizer, FileTokenizer) else None,
        )

    def after_training(self) -> Engine:
        """Return an engine of the same modules, whose weights have changed: with their scale, bias and digests."""
        scale, bias = _scale_and_bias(self.encoder.model)
        return replace(self, encoder=replace(self.encoder), logit_scale=scale, logit_bias=bias)

    @cached_property
    def identity(self) -> str:
        """A hash of all that `VideoFeatures` depend on: the encoder and the temporal head."""
        head, how = _weights_of(self.temporal_head), ""
        if not ran_in_0_1(self.clip_config):
            how = f"{hashlib.sha256(described(self.clip_config, image_alone=True).encode()).hexdigest()} "
        return f"{self.encoder.identity} {how}{digest_of_weights(head)}"

    @cached_property
    def text_identity(self) -> str:
        """A hash of all that the features of texts depend on: the text tower, tokenizer, precision and device type."""
        self.encoder.text_tower.check_present()
        placement, tokenizer = self.encoder.placement, self.encoder.tokenizer
        texts = tokenizer.fingerprint if isinstance(tokenizer, FileTokenizer) else type(tokenizer).__name__
        how = repr((described(self.clip_config), placement.dtype, placement.device.type, texts, tokenizer.context))
        weights = self.encoder.text_tower.weights
        activations = sorted(name for name in _class_names(self.encoder.model) if name.endswith("GELU"))
        return f"{hashlib.sha256(f'{how} {activations}'.encode()).hexdigest()} {digest_of_weights(weights)}"

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that scores depend on: the weights, what is computed with them, and how images are prepared.

        Unlike `identity`, it is the same on every device and in every precision.
        """
        self.encoder.text_tower.check_present()
        clip, head = self.encoder.model.state_dict(), _weights_of(self.temporal_head)
        how = hashlib.sha256(repr(self._facts).encode()).hexdigest()
        tokenizer = self.encoder.tokenizer
        texts = f"-{tokenizer.fingerprint}" if isinstance(tokenizer, FileTokenizer) else ""
        return f"{how[:16]}-{digest_of_weights(clip)[:32]}-{digest_of_weights(head)[:16]}{texts}"

    @cached_property
    def short_digest(self) -> str:
        """Eight digits that stand for the model, on every device and in every precision.

        They cover a sample of all weights, what `fingerprint` covers besides weights, and the recipe. Hashing a sample
        takes milliseconds, and all weights up to seconds. Training changes nearly all numbers, so a sample shows it.
        """
        self.encoder.text_tower.check_present()
        tokenizer, recipe = self.encoder.tokenizer, self.recipe
        parts = [
            repr(self._facts),
            tokenizer.fingerprint if isinstance(tokenizer, FileTokenizer) else "",
            repr(sorted((name, value) for name, value in asdict(recipe).items() if value != getattr(Recipe, name))),
            *(
                digest_of_weights(sample_of_weights(_weights_of(module)))
                for module in (self.encoder.model, self.temporal_head, self.attribute_head)
            ),
        ]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()

    @property
    def _facts(self) -> tuple[object, ...]:
        """What is computed with the weights, and how images are prepared."""
        if ran_in_0_1(self.clip_config) and not self.encoder.reads_clips:
            activations = {name for name in _class_names(self.encoder.model) if name.endswith("GELU")}
            return self.encoder.recipe, sorted(activations)
        return self.encoder.recipe, self.encoder.reads_clips, described(self.clip_config)

    def check_frames(self, frames: int) -> None:
        """Raise UsageError if a clip of this many frames is too long for the temporal head."""
        if self.temporal_head is not None and frames > MAX_FRAMES:
            raise UsageError(
                f"frames is {frames}, but the temporal head of {self.name} has positions for {MAX_FRAMES}; "
                "give fewer --frames",
                settings=("frames",),
            )

    @torch.no_grad()
    def temporal(self, frames: Tensor) -> Tensor:
        """Return the output of the temporal head for frames [V, T, D]; the frames themselves if the model has no head.

        Raises:
            UsageError: more frames than the head has positions.
        """
        if self.temporal_head is None:
            return frames
        self.check_frames(frames.shape[1])
        informed: Tensor = self.temporal_head(frames)
        return informed


def load(
    model: str = EngineConfig.model,
    device: Device = EngineConfig.device,
    precision: Precision = EngineConfig.precision,
    *,
    offline: bool = EngineConfig.offline,
    compile: bool = EngineConfig.compile,  # noqa: A002 - the field's own name
) -> Engine:
    """Return the engine that `model` names; see `models/checkpoints.py` for the names.

    Args:
        compile: compile the image tower with `torch.compile`: takes a minute, encodes faster.
    Raises:
        ModelError: no such model, or weights that are missing, damaged or of a kind bike cannot run.
        UsageError: a device or precision that this machine does not have.
    """
    placement = place(device, precision)
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", explain(placement, device, precision))
    start_s = time.perf_counter()
    engine = assemble(open_checkpoint(model, offline=offline), placement, compiled=compile)
    logger.info("model %s: loaded in %.2f s", engine.name, time.perf_counter() - start_s)
    return engine


def load_configured(config: EngineConfig) -> Engine:
    """Return the engine that the config of a program names; see `load` and `spare_threads`."""
    with concerning("model"):
        engine = load(config.model, config.device, config.precision, offline=config.offline, compile=config.compile)
    spare_threads(engine.encoder.model, engine.encoder.placement.device)
    return engine


def assemble(checkpoint: Checkpoint, placement: Placement, *, compiled: bool = False) -> Engine:
    """Return the engine of a checkpoint, moved to its device.

    Raises:
        ModelError: a tokenizer that does not fit, or weights that are infinite in fp16 where that is asked for.
    """
    clip = checkpoint.clip
    for module in (clip, checkpoint.temporal_head, checkpoint.attribute_head):
        if module is not None and placement.dtype is torch.float16:
            with concerning("model", "precision"):
                check_range(module.state_dict(), placement.dtype, origin=checkpoint.name)
    tokenizer = checkpoint.tokenizer or OpenAITokenizer(int(clip.context_length))
    encoder = adapt(clip, tokenizer=tokenizer, recipe=checkpoint.image, placement=placement, compiled=compiled)
    temporal, attribute = checkpoint.temporal_head, checkpoint.attribute_head
    scale, bias = _scale_and_bias(clip)
    return Engine(
        encoder=encoder,
        temporal_head=None if temporal is None else temporal.to(placement.device).eval(),
        attribute_head=None if attribute is None else attribute.to(placement.device).eval(),
        recipe=checkpoint.recipe,
        name=checkpoint.name,
        logit_scale=scale,
        logit_bias=bias,
        clip_config=checkpoint.clip_config,
        licence=checkpoint.licence,
        training=checkpoint.training,
        source=checkpoint.source,
    )


def _weights_of(module: nn.Module | None) -> Mapping[str, Tensor]:
    return {} if module is None else module.state_dict()


def _class_names(model: ImageTextModel) -> Iterator[str]:
    return (type(module).__name__ for module in model.modules())


def _scale_and_bias(clip: ImageTextModel) -> tuple[float, float | None]:
    bias = getattr(clip, "logit_bias", None)
    return float(clip.logit_scale.detach().exp()), None if bias is None else float(bias.detach())
