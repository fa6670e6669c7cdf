"""What a few labelled videos teach on frozen features: heads that are fitted in seconds.

A video is its frames' unit vectors and, for each class, how much each frame weighs: z_c = sum_t weight[c, t] frame[t]
is the video as class c sees it. Every head here reads z_c alone, so frames are spotted by the label's words in all of
them, and no vector for each video and class is ever held.

Letters: N labelled videos, V videos, T frames (of all views together), C classes, D embedding, M keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts, concept_scores
from bike_cli.engine.voters import spotted

# Tip-Adapter's own defaults, for one shot a class: nothing is left then to choose others by.
TIP_ALPHA, TIP_BETA = 1.0, 5.5
TIP_ALPHAS, TIP_BETAS = (0.0, 0.3, 1.0, 3.0, 10.0), (1.0, 3.0, 5.5, 10.0, 20.0)
# How firmly a probe is held to the text, from firm to loose; and with one shot a class, where it is trusted, and not.
HOLDS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
FIRM, LOOSE = 30.0, 0.1
FOLDS = 5
TRUST_STEPS = 200
ROUNDING = 1e-6  # of unit vectors; what is less apart is the same
SLACK = 0.25  # in nats; a text is trusted as far as the shots do not speak against it by more
GOOD = 0.9  # share of the shots; a text that is right on so many is only changed by a probe that is right on more
PROBE_STEPS = 100


@dataclass(frozen=True, eq=False)
class Views:
    """Videos as classes see them.

    Args:
        frames: [V, T, D] unit vectors; zeros where a video has fewer.
        weights: [V, C, T], non-negative, summing to 1 over T.
    """

    frames: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: Tensor | slice) -> Views:
        return Views(self.frames[chosen], self.weights[chosen])

    def scores(self, directions: Tensor) -> Tensor:
        """Return z_c . direction_c for directions [C, D]: [V, C]."""
        return concept_scores(self.frames, self.weights, directions)

    def own(self, classes: Tensor) -> Tensor:
        """Return each video as one class sees it, the one in `classes` [V]: [V, D]."""
        weights = self.weights[torch.arange(len(self), device=classes.device), classes]  # [V, T]
        return (weights[:, None] @ self.frames)[:, 0]


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted head: logits = z_c . weight_c + bias_c + alpha * sum over keys of c of exp(-beta (1 - z_c . key)).

    Args:
        weight: [C, D].
        bias: [C].
        keys: [M, D] unit vectors; M is 0 for all heads but Tip-Adapter's.
        key_classes: int64 [M].
        chosen: what the fit chose by itself, by name, for reports.
    """

    weight: Tensor
    bias: Tensor
    keys: Tensor
    key_classes: Tensor
    alpha: float = 0.0
    beta: float = 0.0
    chosen: Mapping[str, float] = field(default_factory=dict)

    def logits(self, views: Views) -> Tensor:
        """Return [V, C]."""
        logits = views.scores(self.weight) + self.bias
        return logits if not len(self.keys) else logits + self.alpha * self._cached(views)

    def to(self, device: torch.device) -> Head:
        """Return the head on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("weight", "bias", "keys", "key_classes")}
        return replace(self, **moved)

    def _cached(self, views: Views) -> Tensor:
        near = torch.exp(-self.beta * (1 - _affinity(views, self.keys, self.key_classes)))  # [V, M]
        return near.new_zeros(len(views), len(self.weight)).index_add_(1, self.key_classes, near)


def as_views(frames: Tensor, texts: ClassTexts) -> tuple[Tensor, Tensor]:
    """Return one video's frames and their weights for each class; views follow one another.

    Args:
        frames: [K, T, D], raw.
    Returns:
        frames [K * T, D], weights [C, K * T]. With mean pooling, the mean of raw frames stands for each view, whatever
        the class: [K, D] and [1, K].
    """
    views = len(frames)
    if texts.voters is None:
        pooled = unit(frames.mean(dim=1))
        return pooled, pooled.new_full((1, views), 1 / views)
    frames = unit(frames)
    weights = spotted(frames, texts.voters, texts.temperature) / views  # [K, C, T]
    return frames.flatten(0, 1), weights.transpose(0, 1).flatten(1)


def join_logits(trained: Tensor, text: Tensor) -> Tensor:
    """Return logits on one scale for trained classes and for others that only have a text.

    The text divides the probability between all trained classes together and each other class; the head divides the
    trained classes' part among them. So the others do not change how trained classes compare, and the text only changes
    the trained classes' sum.

    Args:
        trained: [V, C], the head's logits.
        text: [V, C + others], the text's logits, trained classes first.
    Returns:
        [V, C + others]; `trained` itself if there are no others.
    """
    classes = trained.shape[1]
    if text.shape[1] == classes:
        return trained
    together = torch.logsumexp(text[:, :classes], dim=1, keepdim=True)
    return torch.cat([torch.log_softmax(trained, dim=1) + together, text[:, classes:]], dim=1)


def zero_shot(text: Tensor, logit_scale: float) -> Head:
    """Return the head that asks the text alone: logit_scale * text [C, D], unit vectors."""
    return _linear(logit_scale * text)


def prototypes(shots: Views, classes: Tensor, text: Tensor, logit_scale: float) -> Head:
    """Return the head of the nearest class mean: logit_scale * unit(mean of a class's videos, as it sees them).

    Args:
        classes: int64 [N]; each class has a shot.
        text: [C, D]; only its shape is used.
    Source: Snell et al., Prototypical Networks (NeurIPS 2017), by cosine.
    """
    sums = torch.zeros_like(text).index_add_(0, classes, shots.own(classes))
    return _linear(logit_scale * unit(sums))


def tip_adapter(shots: Views, classes: Tensor, text: Tensor, logit_scale: float) -> Head:
    """Return Tip-Adapter's training-free head: the text's logits, and a cache of the shots.

    alpha and beta are those under which the shots, each left out of the cache in turn, are likeliest; with one shot a
    class, which would leave its class without any, they are the paper's.

    Source: Zhang et al., Tip-Adapter (ECCV 2022).
    """
    keys = unit(shots.own(classes))
    chosen = {"alpha": TIP_ALPHA, "beta": TIP_BETA}
    told = logit_scale * text
    head = Head(told, told.new_zeros(len(told)), keys, classes, TIP_ALPHA, TIP_BETA, chosen)
    if int(classes.bincount(minlength=len(text)).min()) < 2:
        return head
    base = shots.scores(told)
    affinity = _affinity(shots, keys, classes).fill_diagonal_(-torch.inf)
    # The class of a shot that is left out has one key less than it will have, and the others have not.
    counts = classes.bincount(minlength=len(text))
    missing = torch.ones_like(base).scatter_(
        1, classes[:, None], (counts / (counts - 1)).to(base.dtype)[classes][:, None]
    )
    best = (-torch.inf, TIP_ALPHA, TIP_BETA)
    for beta in TIP_BETAS:
        cached = torch.zeros_like(base).index_add_(1, classes, torch.exp(-beta * (1 - affinity)))
        cached = cached * missing
        for alpha in TIP_ALPHAS:
            best = max(best, (_likelihood(base + alpha * cached, classes), alpha, beta), key=lambda found: found[0])
    return replace(head, alpha=best[1], beta=best[2], chosen={"alpha": best[1], "beta": best[2]})


def linear_probe(shots: Views, classes: Tensor, text: Tensor, logit_scale: float) -> Head:
    """Return a linear probe that begins at the class text features and is held to them.

    weight_c = trust * text_c + change_c / spread. The text is no child of the shots, so how well it does on them is
    an honest measure of it: `trust` is the largest scale, from 0 to logit_scale, under which the shots are as good as
    likeliest (`SLACK`). A text that misleads gets none, one that is right all of its own scale. `change` minimises the
    cross-entropy of the shots plus hold / 2 * |change|^2, on features less their mean and over their spread, so that
    `hold` means the same for every model; it is chosen by cross-validation among the shots. One shot a class leaves
    nothing to validate on: then the hold is the firmer, the more the text is trusted. A text that is right on nearly
    all shots (`GOOD`) stays as it is, unless the probe is right on more of them when it has not seen them: there is
    little to gain and something to lose. No validation set is needed.

    Source: the family of CLAP (Silva-Rodriguez et al., CVPR 2024: begin at the text and be held to it, no validation
    set) and LP++ (Huang et al., CVPR 2024: a learnt multiplier for the text). CLAP's hold by class is fixed beforehand
    and keeps a probe at texts that mean nothing; LP++ learns its multipliers together with the rest, from so few shots.
    """
    centre, spread = _centre(shots, classes)
    seen = _Standard(shots, centre, spread)
    told = shots.scores(text)
    folds = min(int(classes.bincount(minlength=len(text)).min()), FOLDS)
    trust = _trust(told, classes, logit_scale)
    hits = _hits(told, classes)
    if folds < 2:
        share, best = trust / logit_scale, 0
        hold = LOOSE ** (1 - share) * FIRM**share
    else:
        hold, best = _best_hold(seen, told, classes, logit_scale, folds)
    if hits >= max(GOOD * len(classes), best):
        trust = max(trust, logit_scale / TRUST_STEPS)  # at 0 it would say nothing
        return replace(_linear(trust * text), chosen={"trust": trust})
    change = _fit_change(seen, trust * told, classes, hold, torch.zeros_like(text)) / spread
    head = _linear(trust * text + change)
    return replace(head, bias=-(change @ centre), chosen={"trust": trust, "hold": hold})


@dataclass(frozen=True, eq=False)
class _Standard:
    """Videos whose features are seen less a mean [D] and over a spread."""

    views: Views
    centre: Tensor
    spread: Tensor

    def __getitem__(self, chosen: Tensor) -> _Standard:
        return _Standard(self.views[chosen], self.centre, self.spread)

    def scores(self, directions: Tensor) -> Tensor:
        """Return [V, C]; weights sum to 1 over frames, so the mean may be taken off behind."""
        return (self.views.scores(directions) - directions @ self.centre) / self.spread


def _linear(weight: Tensor) -> Head:
    none = weight.new_zeros(0, weight.shape[1])
    return Head(weight, weight.new_zeros(len(weight)), none, torch.zeros(0, dtype=torch.int64, device=weight.device))


def _affinity(views: Views, keys: Tensor, key_classes: Tensor) -> Tensor:
    """Return z_c . key for keys [M, D] of classes c [M]: [V, M]."""
    return (views.weights[:, key_classes].transpose(1, 2) * (views.frames @ keys.T)).sum(dim=1)


def _likelihood(logits: Tensor, classes: Tensor) -> float:
    """Return the sum of the log-probabilities of the right classes."""
    return float(torch.log_softmax(logits.double(), dim=1).gather(1, classes[:, None]).sum())


def _trust(told: Tensor, classes: Tensor, most: float) -> float:
    """Return the largest scale of the text's cosines [N, C] under which the right classes are as good as likeliest."""
    scales = np.linspace(0, most, TRUST_STEPS)
    found = np.array([_likelihood(float(scale) * told, classes) for scale in scales])
    return float(scales[found >= found.max() - SLACK].max())


def _centre(shots: Views, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the shots as their classes see them, [D], and their mean distance from it."""
    own = shots.own(classes)
    centre = own.mean(dim=0)
    spread = (own - centre).square().sum(dim=1).mean().sqrt()
    return centre, torch.where(spread < ROUNDING, torch.ones_like(spread), spread)


def _hits(logits: Tensor, classes: Tensor) -> int:
    return int((logits.argmax(dim=1) == classes).sum())


def _best_hold(seen: _Standard, told: Tensor, classes: Tensor, most: float, folds: int) -> tuple[float, int]:
    """Return the hold under which shots that a probe has not seen are likeliest, and how many of them are right."""
    fold = _folds(classes, folds)
    found, hits = dict.fromkeys(HOLDS, 0.0), dict.fromkeys(HOLDS, 0)
    for i in range(folds):
        kept, out = fold != i, fold == i
        trust = _trust(told[kept], classes[kept], most)
        change = told.new_zeros(told.shape[1], len(seen.centre))
        for hold in HOLDS:  # each begins where the firmer one ended
            change = _fit_change(seen[kept], trust * told[kept], classes[kept], hold, change)
            logits = trust * told[out] + seen[out].scores(change)
            found[hold] += _likelihood(logits, classes[out])
            hits[hold] += _hits(logits, classes[out])
    best = max(HOLDS, key=lambda hold: found[hold])
    return best, hits[best]


def _folds(classes: Tensor, folds: int) -> Tensor:
    """Return the fold of each shot: each class is dealt out evenly, in its order."""
    fold = torch.empty_like(classes)
    for c in set(classes.tolist()):
        places = (classes == c).nonzero().flatten()
        fold[places] = torch.arange(len(places), device=classes.device) % folds
    return fold


@torch.enable_grad()
def _fit_change(seen: _Standard, base: Tensor, classes: Tensor, hold: float, begin: Tensor) -> Tensor:
    """Return the change [C, D] that minimises cross-entropy(base + scores(change)) + hold / 2 * |change|^2."""
    change = begin.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [change], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-5, tolerance_change=1e-7
    )

    def loss() -> Tensor:
        search.zero_grad()
        wrong = torch.nn.functional.cross_entropy(base + seen.scores(change), classes, reduction="sum")
        value = wrong + hold / 2 * change.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return change.detach()
