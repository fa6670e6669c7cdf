"""The open_clip adapter: frames become [.., D], texts become class and token features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import Spot
from bike_cli.engine.models.weights import digest_of_weights
from bike_cli.engine.towers.batches import Batches, FrameList
from bike_cli.engine.towers.neighbours import reads_neighbours
from bike_cli.engine.towers.placement import Placement
from bike_cli.engine.towers.speedups import answer_for_class_token
from bike_cli.engine.towers.text_tower import ImageTextModel, TextTower, image_tower, width_of
from bike_cli.engine.towers.tokenizers import FileTokenizer
from bike_cli.engine.towers.tokens import Tokenizer, Tokens, Truncated, tokenise_all
from bike_cli.engine.towers.transforms import ImageRecipe, Resizer, can_resize_together, normalise, views, views_on_cuda
from bike_cli.errors import ModelError, UsageError
from bike_cli.records import Prompt, TextFeatures

# Frames or texts that go through a tower at once: enough to fill the device, few enough for its memory.
AT_ONCE_ON_CUDA, AT_ONCE_ELSEWHERE = 128, 32
STEP_ON_CUDA = 16  # frames; batches are padded to multiples of it, because cuDNN plans the attention of each size anew
# Pixels that are resized at once on a GPU, whatever the size of frames; the computation takes 800 MB.
PIXELS_AT_ONCE = 2**26
WAY_OUT = "give the tokenizer that it was trained with"


@dataclass(frozen=True, eq=False)
class Encoder:
    """An image-text model with its tokenizer, its image recipe and its device. Made by `adapt`.

    Features are raw, float32, on the encoder's device and without a gradient.

    Args:
        batches: frames per batch of a tower.
        resizing: pixels per batch of resizing.
        tower: the image tower of `model`, possibly compiled.
        pads: pad batches to one size, which a compiled tower is made for.
    """

    model: ImageTextModel
    tokenizer: Tokenizer
    recipe: ImageRecipe
    placement: Placement
    batches: Batches
    resizing: Batches
    tower: Callable[[Tensor], Tensor]
    pads: bool = False

    @property
    def dim(self) -> int:
        """D, the size of an embedding."""
        return width_of(self.model)

    @property
    def context(self) -> int:
        """The number of positions of a text, including start and end."""
        return self.tokenizer.context

    @property
    def reads_clips(self) -> bool:
        """Whether a frame's feature depends on its neighbours in the clip."""
        return reads_neighbours(self.model.visual)

    @cached_property
    def text_tower(self) -> TextTower:
        """The text tower of `model`."""
        return TextTower(self.model)

    @torch.no_grad()
    def encode_frames(self, frames: NDArray[np.uint8] | Tensor, *, crops: int = 1, resizer: Resizer = "pil") -> Tensor:
        """Return the feature of each frame's crops.

        Args:
            frames: uint8 [B, H, W, 3], RGB; of any size down to one pixel. For a tower that reads clips, they are one.
            crops: 1 or 3; see `transforms.views`.
            resizer: `torch` is faster than `pil` except on CUDA; see `transforms.views`.
        Returns:
            [crops * B, D]: all frames of crop 0, then all of crop 1.
        Raises:
            ValueError: another shape or type of frames.
            UsageError: three crops of a model that reads whole frames.
        """
        array = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
        return self.encode_videos([array], crops=crops, resizer=resizer)[0]

    @torch.no_grad()
    def encode_videos(
        self,
        videos: Sequence[NDArray[np.uint8]],
        *,
        crops: int = 1,
        lengths: Sequence[int] | None = None,
        resizer: Resizer = "pil",
    ) -> list[Tensor]:
        """Return the features of the frames of several videos, as `encode_frames` would of each.

        On CUDA frames of different videos share batches, and this returns before the device is done. On a CPU batches
        gain nothing, and a video's features do not depend on the other videos.

        Args:
            videos: each uint8 [B, H, W, 3]; sizes may differ from video to video.
            lengths: frames per clip of each video, for a tower that reads clips; None: each video is one clip.
        """
        for frames in videos:
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape[1:]:
                raise ValueError(f"frames are {frames.dtype}{list(frames.shape)}; expected uint8 [B, H, W, 3]")
        lengths = [len(frames) for frames in videos] if lengths is None else lengths
        if self.placement.device.type != "cuda" or (self.reads_clips and len(set(lengths)) > 1):
            each = zip(videos, lengths, strict=True)
            return [self._encode_pixels(self.pixels(frames, crops, resizer), length) for frames, length in each]
        pixels = self._pixels_together(videos, crops)
        return list(torch.split(self._encode_pixels(torch.cat(pixels), lengths[0]), [len(part) for part in pixels]))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str | Prompt], *, positions: Spot = "eot") -> TextFeatures:
        """Return the features of texts, and of their tokens at `positions`.

        Args:
            texts: in a plain string, every word is the label's. Texts longer than the context are cut; see `truncated`.
            positions: `all` keeps every position, padding too: [C, 77, D] · `words` keeps the label's own words,
                moved to the left and padded with zeros: [C, most words of a label, D] · `eot` keeps the end of text:
                [C, 1, D]. For a text tower without features of tokens, `words` keeps the features of the label's
                growing beginnings instead: "a video of riding", "a video of riding a", and so on.
        Raises:
            UsageError: `all`, and the text tower has no features of tokens.
        """
        return self.read_texts(texts, positions=positions)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[Prompt], *, positions: Spot) -> tuple[TextFeatures, list[Truncated]]:
        """Return what `encode_texts` and `truncated` do; each text is tokenised once."""
        read = tokenise_all(self.tokenizer, prompts)
        return self._read(prompts, read, positions), _cuts(self.tokenizer, read)

    def read_texts(self, texts: Sequence[str | Prompt], *, positions: Spot) -> TextFeatures:
        """Return the same as `encode_texts`, with a gradient if the text tower is trained."""
        prompts = _prompts(texts)
        return self._read(prompts, tokenise_all(self.tokenizer, prompts), positions)

    def _read(self, prompts: Sequence[Prompt], read: Sequence[Tokens], positions: Spot) -> TextFeatures:
        self.text_tower.check_present()
        if self.text_tower.has_token_features:
            return self._read_tokens(prompts, read, positions)
        if positions == "all":
            raise UsageError(
                "spot all: needs a feature for every position of a text, and the text tower of this model has one for "
                "the whole text only; give eot or words",
                settings=("spot",),
            )
        return self._read_whole(prompts, read, positions)

    def _read_tokens(self, prompts: Sequence[Prompt], read: Sequence[Tokens], positions: Spot) -> TextFeatures:
        kept = [_kept(tokens, positions, self.context) for tokens in read]
        length = max((len(k) for k in kept), default=1)
        device = self.placement.device
        places = torch.arange(length)
        starts, counts = torch.tensor([k.start for k in kept]).long(), torch.tensor([len(k) for k in kept]).long()
        # With the end of text alone, the one position votes.
        voting = [t.words if t.words[0] in k else k for t, k in zip(read, kept, strict=True)]
        first, stop = torch.tensor([v.start for v in voting]).long(), torch.tensor([v.stop for v in voting]).long()
        is_kept = places < counts[:, None]  # [C, L]
        at = starts[:, None] + places
        mask = is_kept & (at >= first[:, None]) & (at < stop[:, None])
        most = self.batches.at_once * self.context
        classes = torch.zeros(len(read), self.dim, device=device)
        tokens = torch.zeros(len(read), length, self.dim, device=device)
        # A position sees only those before it, so the longest text of a batch is enough: for labels a seventh of the
        # work of 77 positions.
        for batch in _batches_of([self.context if positions == "all" else len(t.ids) for t in read], most):
            longest = self.context if positions == "all" else max(len(read[i].ids) for i in batch)
            rows = [self.tokenizer.padded(read[i].ids, longest) for i in batch]
            with self.placement.autocast():
                states = self.text_tower.token_features(_token_ids(self, rows)).float()  # [b, l, D]
            every = torch.arange(len(batch), device=device)
            classes[batch] = states[every, torch.tensor([read[i].end for i in batch], device=device)]
            chosen = states[every[:, None], at[batch].clamp(max=longest - 1).to(device)]  # [b, L, D]
            tokens[batch] = chosen.where(is_kept[batch, :, None].to(device), 0.0)
        return TextFeatures(tuple(p.text for p in prompts), classes, tokens, mask.to(device))

    def _read_whole(self, prompts: Sequence[Prompt], read: Sequence[Tokens], positions: Spot) -> TextFeatures:
        texts = [prompt.text for prompt in prompts]
        classes = self._text_features(texts, {t: tokens.ids for t, tokens in zip(texts, read, strict=True)})
        if positions == "eot" or not texts:
            mask = torch.ones(len(texts), 1, dtype=torch.bool, device=self.placement.device)
            return TextFeatures(tuple(texts), classes, classes[:, None], mask)
        beginnings = [prompt.beginnings() for prompt in prompts]
        different = dict.fromkeys(text for group in beginnings for text in group)
        rows = {text: self.tokenizer.row(self.tokenizer.encode(text)).ids for text in different}
        features = self._text_features([text for group in beginnings for text in group], rows)
        counts = [len(group) for group in beginnings]
        tokens = torch.nn.utils.rnn.pad_sequence(list(torch.split(features, counts)), batch_first=True)  # [C, L, D]
        mask = torch.tensor([[i < count for i in range(tokens.shape[1])] for count in counts])
        return TextFeatures(tuple(texts), classes, tokens, mask.to(self.placement.device))

    def _text_features(self, texts: Sequence[str], ids: Mapping[str, list[int]]) -> Tensor:
        """Return the features [n, D] of whole texts, with the token ids of each; each is computed once."""
        different = list(dict.fromkeys(texts))
        rows = [ids[text] for text in different]
        device = self.placement.device
        features = torch.zeros(len(different), self.dim, device=device)
        reads_padding, most = self.text_tower.padding is None, self.batches.at_once * self.context
        for batch in _batches_of([self.context if reads_padding else len(row) for row in rows], most):
            length = self.context if reads_padding else max(len(rows[i]) for i in batch)
            padded = [self.tokenizer.padded(rows[i], length) for i in batch]
            with self.placement.autocast():
                features[batch] = self.text_tower.features(_token_ids(self, padded)).float()
        places = {text: i for i, text in enumerate(different)}
        return features[[places[text] for text in texts]]

    def truncated(self, texts: Sequence[str | Prompt]) -> list[Truncated]:
        """Return the texts that are longer than the context, with the parts that are read and cut."""
        return _cuts(self.tokenizer, tokenise_all(self.tokenizer, _prompts(texts)))

    def unknown(self, texts: Sequence[str]) -> list[int]:
        """Return the indices of texts without a word that the model knows: its embedding of every token is zero.

        Models that were trained on few words have such texts, such as the bundled one; a CLIP knows every token.
        """
        known = self.text_tower.known_tokens()
        read = [self.tokenizer.encode(text) for text in texts]
        return [i for i, ids in enumerate(read) if not any(token < len(known) and known[token] for token in ids)]

    @cached_property
    def identity(self) -> str:
        """A hash of all that frame features depend on: image tower, recipe, precision and device type."""
        # Includes the modules, because an activation has no weights.
        how = repr((self.recipe, self.placement.dtype, self.placement.device.type, self.model.visual)).encode()
        return f"{hashlib.sha256(how).hexdigest()} {digest_of_weights(self.model.visual.state_dict())}"

    def pixels(self, frames: NDArray[np.uint8], crops: int = 1, resizer: Resizer = "pil") -> Tensor:
        """Return the views of frames [B, H, W, 3] on the device: uint8 [crops * B, 3, S, S]."""
        device, side = self.placement.device, self.recipe.side

        def resized(part: NDArray[np.uint8]) -> Tensor:
            pixels = views(part, self.recipe, crops=crops, device=device, resizer=resizer)
            return pixels.reshape(crops, -1, 3, side, side).transpose(0, 1)

        parts = self.resizing.run(resized, frames, cost=frames.shape[1] * frames.shape[2])  # each [b, crops, 3, S, S]
        empty = torch.zeros(0, crops, 3, side, side, dtype=torch.uint8, device=device)
        return torch.cat([empty, *parts]).transpose(0, 1).flatten(0, 1)

    def _pixels_together(self, videos: Sequence[NDArray[np.uint8]], crops: int) -> list[Tensor]:
        """Return the same pixels as `pixels` for each video, on a GPU: videos of one size are resized together.

        Each step costs about as much for one video as for many.
        """
        device, side = self.placement.device, self.recipe.side
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, frames in enumerate(videos):
            by_size.setdefault(frames.shape[1:], []).append(i)

        def resized(part: FrameList) -> Tensor:
            pixels = views_on_cuda(part.arrays, self.recipe, crops=crops, device=device)
            return pixels.reshape(crops, -1, 3, side, side).transpose(0, 1)

        found: dict[int, Tensor] = {}
        for (height, width, _), indices in by_size.items():
            group = [videos[i] for i in indices]
            if not can_resize_together(group[0], self.recipe):
                found.update((i, self.pixels(videos[i], crops)) for i in indices)
                continue
            parts = self.resizing.run(resized, FrameList(group), cost=height * width)
            together = torch.cat([torch.zeros(0, crops, 3, side, side, dtype=torch.uint8, device=device), *parts])
            apart = torch.split(together, [len(frames) for frames in group])
            found.update((i, part.transpose(0, 1).flatten(0, 1)) for i, part in zip(indices, apart, strict=True))
        return [found[i] for i in range(len(videos))]

    def _encode_pixels(self, pixels: Tensor, length: int) -> Tensor:
        """Return the features [B, D] of pixels [B, 3, S, S] on the device, which are clips of `length` frames."""
        if self.reads_clips and len(pixels):
            clips = pixels.reshape(-1, length, *pixels.shape[1:])
            features = self.batches.run(self._encode_batch, clips, cost=length, unit="clip")
        else:
            features = self.batches.run(self._encode_batch, pixels)
        return torch.cat([torch.zeros(0, self.dim, device=self.placement.device), *features])

    def _encode_batch(self, pixels: Tensor) -> Tensor:
        """Return the features [b, D] of pixels [b, 3, S, S], or [n * T, D] of clips [n, T, 3, S, S]."""
        count = pixels.shape[:-3].numel()
        step = self.batches.at_once if self.pads else 1 if self.reads_clips or not pixels.is_cuda else STEP_ON_CUDA
        padding = min(self.batches.at_once - count, -count % step)
        if padding > 0:
            pixels = torch.cat([pixels, pixels.new_zeros(padding, *pixels.shape[1:])])
        with self.placement.autocast():
            features = self.tower(normalise(pixels, self.recipe))
        return features[:count].float()


def adapt(
    model: ImageTextModel,
    *,
    tokenizer: Tokenizer,
    recipe: ImageRecipe,
    placement: Placement,
    compiled: bool = False,
) -> Encoder:
    """Return the encoder for a model.

    Raises:
        ModelError: a tokenizer with more tokens than the model has embeddings, or with another padding.
        UsageError: `compiled`, on a machine that cannot compile.
    """
    _check_tokenizer(tokenizer, TextTower(model), _shown(model, tokenizer))
    model = model.to(placement.device).eval()
    if not reads_neighbours(model.visual):
        answer_for_class_token(model.visual)
    batches = Batches(AT_ONCE_ON_CUDA if placement.device.type == "cuda" else AT_ONCE_ELSEWHERE)
    encoder = Encoder(model, tokenizer, recipe, placement, batches, Batches(PIXELS_AT_ONCE), image_tower(model))
    return _compiled(encoder) if compiled else encoder


def _shown(model: ImageTextModel, tokenizer: Tokenizer) -> str:
    return tokenizer.name if isinstance(tokenizer, FileTokenizer) else type(model).__name__


def _check_tokenizer(tokenizer: Tokenizer, tower: TextTower, name: str) -> None:
    empty = tokenizer.padded(tokenizer.row([]).ids, tokenizer.context)
    needed = max(tokenizer.vocabulary, max(empty) + 1)
    if tower.vocabulary < needed:
        raise ModelError(f"{name}: knows {tower.vocabulary:,} tokens, but its tokenizer has {needed:,}; {WAY_OUT}")
    pad = tokenizer.padded([], 1)[0]
    if tower.padding not in (None, pad):
        raise ModelError(
            f"{name}: expects texts padded with {tower.padding}, but its tokenizer pads with {pad}; {WAY_OUT}"
        )
    # With the highest number in front, a tower that looks for the highest one would find it, and not the end.
    row = tokenizer.row([tokenizer.vocabulary - 1, 0]).ids
    if tower.has_token_features and tower.place_read(row) != row.index(row[-1]):
        raise ModelError(f"{name}: does not read texts where its tokenizer ends them; {WAY_OUT}")


def _compiled(encoder: Encoder) -> Encoder:
    if encoder.reads_clips:
        raise UsageError(
            "compile: frames of this model attend to their neighbours, so its batches have no fixed size; leave "
            "--compile out"
        )

    def encode(pixels: Tensor) -> Tensor:
        return encoder.tower(pixels)

    tower = torch.compile(encode)
    compiled = replace(encoder, tower=tower, pads=True)
    side = encoder.recipe.side
    try:
        # Compile now, not at the first video: a minute of waiting and a missing compiler belong to loading.
        compiled.encode_videos([np.zeros((1, side, side, 3), np.uint8)])
    except torch._dynamo.exc.TorchDynamoException as e:
        fact = str(e).strip().splitlines()[0]
        problem = f"compile: torch cannot compile the image tower here ({fact})"
        raise UsageError(f"{problem}; leave --compile out", settings=("compile",)) from e
    return compiled


def _token_ids(encoder: Encoder, rows: list[list[int]]) -> Tensor:
    """Return token ids as a tensor [b, l] on the device."""
    highest, known = max((token for row in rows for token in row), default=0), encoder.text_tower.vocabulary
    if highest >= known:
        name = _shown(encoder.model, encoder.tokenizer)
        raise ModelError(f"{name}: knows {known:,} tokens, but its tokenizer gives number {highest:,}; {WAY_OUT}")
    return torch.tensor(rows, device=encoder.placement.device)


def _prompts(texts: Sequence[str | Prompt]) -> list[Prompt]:
    return [Prompt.plain(text) if isinstance(text, str) else text for text in texts]


def _cuts(tokenizer: Tokenizer, read: Sequence[Tokens]) -> list[Truncated]:
    show = tokenizer.decode
    return [Truncated(i, show(t.kept).strip(), show(t.cut).strip()) for i, t in enumerate(read) if t.cut]


def _batches_of(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield the indices of texts in batches of at most so many positions, the shortest texts first.

    So many short texts share a batch, which waits less for the threads of an operation.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _kept(tokens: Tokens, positions: Spot, context: int) -> range:
    if positions == "all":
        return range(context)
    return tokens.words if positions == "words" else range(tokens.end, tokens.end + 1)
