"""Voters: the tokens of labels that weight frames, in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bike_cli.config import Spot
from bike_cli.records import TextFeatures

# Most token-frame similarities held at once, 64 MiB of fp32, and most tokens of a block.
CHUNK_NUMBERS = 2**24
BLOCK_TOKENS = 2**14


@dataclass(frozen=True, eq=False)
class Block:
    """The tokens of some classes.

    Args:
        tokens: [N, D].
        counts: [C'], tokens per class.
        layers: how many classes have a first token, a second, and so on. The first tokens of all classes come first,
            then all second ones; classes are sorted by their number of tokens, most first. None: the tokens are sorted
            by class, the same number for each.
    """

    tokens: Tensor
    counts: Tensor
    layers: tuple[int, ...] | None

    @classmethod
    def layered(cls, tokens: Tensor, mask: Tensor) -> Block:
        """Return the tokens [C', L, D] that are in the mask [C', L], of classes sorted by their number of tokens."""
        counts = mask.sum(dim=1)
        # The tokens of each class move to the front.
        front = torch.sort(mask.int(), dim=1, descending=True, stable=True)
        present = front.values.bool().T  # [L, C']
        rows = torch.arange(len(tokens), device=tokens.device).expand_as(present)[present]
        layers = tuple(count for count in present.sum(dim=1).tolist() if count)
        return cls(tokens[rows, front.indices.T[present]], counts, layers)

    def of_class(self, place: int) -> Tensor:
        """Return the tokens [W, D] of one class."""
        if self.layers is None:
            return self.tokens.reshape(len(self.counts), -1, self.tokens.shape[1])[place]
        starts = [sum(self.layers[:i]) for i in range(int(self.counts[place]))]
        return self.tokens[[start + place for start in starts]]

    def some(self, places: Tensor) -> Block:
        """Return the block of some classes, at ascending places."""
        if self.layers is None:
            tokens = self.tokens.reshape(len(self.counts), -1, self.tokens.shape[1])[places].flatten(0, 1)
            return Block(tokens, self.counts[places], None)
        starts = [sum(self.layers[:i]) for i in range(len(self.layers))]
        rows = [start + places[places < count] for start, count in zip(starts, self.layers, strict=True)]
        return Block(self.tokens[torch.cat(rows)], self.counts[places], tuple(len(row) for row in rows if len(row)))

    def votes(self, frames: Tensor, temperature: float) -> Tensor:
        """Return the weight of each frame for each class: [V, T, C']."""
        step = max(1, CHUNK_NUMBERS // max(1, frames.shape[1] * len(self.tokens)))
        # Frames stay in front of labels: a softmax over the last few numbers of a row is four times slower.
        # Over frames, per token: each word votes on when it is visible, then the votes are averaged.
        parts = [
            self._mean(torch.softmax((some / temperature) @ self.tokens.T, dim=1)) for some in torch.split(frames, step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _mean(self, votes: Tensor) -> Tensor:
        """Return the mean over each class's tokens of votes [V, T, N]: [V, T, C']."""
        if self.layers is None:
            width = votes.shape[2] // len(self.counts)
            return votes if width == 1 else votes.reshape(*votes.shape[:2], -1, width).mean(dim=3)
        first, *others = torch.split(votes, list(self.layers), dim=2)
        total = first.clone()  # gradients need the votes as they are
        for layer in others:
            total[:, :, : layer.shape[2]] += layer
        return total / self.counts


@dataclass(frozen=True, eq=False)
class Voters:
    """The tokens that vote on frames.

    Args:
        places: int64 [C], index of each class among the classes of all blocks in sequence.
    """

    blocks: tuple[Block, ...]
    places: Tensor

    @classmethod
    def among(cls, tokens: Tensor, mask: Tensor | None) -> Voters:
        """Return the voters among tokens [C, L, D]; mask: bool [C, L], those that vote; None: all, without a copy.

        Raises:
            ValueError: a class without a voting token.
        """
        classes, width = tokens.shape[:2]
        if not classes:
            return cls((), torch.arange(0))
        if mask is None:
            groups = torch.split(tokens, max(1, BLOCK_TOKENS // width))
            full = tokens.new_full((classes,), width, dtype=torch.int64)
            blocks = [Block(some.flatten(0, 1), full[: len(some)], None) for some in groups]
            return cls(tuple(blocks), torch.arange(classes, device=tokens.device))
        counts = mask.sum(dim=1)  # [C]
        if not bool(counts.all()):
            raise ValueError("a class has no position that votes; mask at least one in each")
        order = torch.sort(counts, descending=True, stable=True).indices
        members = torch.split(order, max(1, BLOCK_TOKENS // int(counts.max())))
        return cls(tuple(Block.layered(tokens[some], mask[some]) for some in members), order.argsort())

    def some(self, start: int, stop: int) -> Voters:
        """Return the voters of the classes from `start` to before `stop`."""
        places, order = self.places[start:stop].sort()
        blocks, first = [], 0
        for block in self.blocks:
            within = places[(places >= first) & (places < first + len(block.counts))] - first
            blocks += [block.some(within)] if len(within) else []
            first += len(block.counts)
        return Voters(tuple(blocks), order.argsort())

    def of_class(self, i: int) -> Tensor:
        """Return the voters [W, D] of one class."""
        place = int(self.places[i])
        for block in self.blocks:
            if place < len(block.counts):
                return block.of_class(place)
            place -= len(block.counts)
        raise IndexError(f"no class {i}")


def spotted(frames: Tensor, voters: Voters, temperature: float) -> Tensor:
    """Return each class's temporal saliency [V, C, T]; see `saliency`."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; spotting needs one above 0")
    if not voters.blocks:
        return frames.new_zeros(frames.shape[0], 0, frames.shape[1])
    parts = [block.votes(frames, temperature) for block in voters.blocks]
    votes = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)  # [V, T, C]
    return votes.index_select(2, voters.places).transpose(1, 2)


def voters(text: TextFeatures, spot: Spot) -> tuple[Tensor, Tensor | None]:
    """Return the token features [C, L, D] that vote under `spot`, and their mask [C, L].

    `words`: the label's own words. `eot`: the end-of-text feature alone. `all`: every position, as official BIKE.
    """
    if spot == "eot":
        return text.classes[:, None], None
    return text.tokens, text.token_mask if spot == "words" else None
