"""Few-shot heads, fitted to a few labelled videos on frozen features in seconds.

A video is the unit vectors of its frames and, for each class, a weight per frame: z_c = sum_t weight[c, t] frame[t] is
the video's vector for class c. Every head here depends on z_c alone, so all of them spot frames by the label's words,
and no vector per video and class is ever stored.

Letters: N labelled videos, V videos, T frames (of all views together), C classes, D embedding, M keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts, concept_scores
from bike_cli.engine.voters import spotted

# Tip-Adapter's own defaults, for one shot per class, which leaves no shots to choose other values with.
TIP_ALPHA, TIP_BETA = 1.0, 5.5
TIP_ALPHAS, TIP_BETAS = (0.0, 0.3, 1.0, 3.0, 10.0), (1.0, 3.0, 5.5, 10.0, 20.0)
# Strengths of the pull towards the text, from firm to loose; the others are for one shot per class, where the text is
# trusted fully (FIRM) or not at all (LOOSE).
HOLDS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
FIRM, LOOSE = 30.0, 0.1
FOLDS = 5
TRUST_STEPS = 200
ROUNDING = 1e-6  # of unit vectors; a smaller distance counts as 0
SLACK = 0.25  # nats of log-likelihood of the shots that trust in the text may cost
GOOD = 0.9  # accuracy of the text on the shots from which a probe must be more accurate to replace it
PROBE_STEPS = 100
NUMBERS_AT_ONCE = 2**22  # of a block of videos: 16 MiB of fp32, which the next block uses again


@dataclass(frozen=True, eq=False)
class Views:
    """Videos with the frame weights of each class.

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
        """Return each video's vector z_c for one class, the one in `classes` [V]: [V, D]."""
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
        chosen: hyper-parameters that the fit chose, by name, for reports.
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
        if not len(self.keys):
            return torch.cat([views[rows].scores(self.weight) + self.bias for rows in _blocks(views)])
        cache, parts = _Cache.of(self.keys, self.key_classes, len(self.weight)), []
        for rows in _blocks(views, cache):
            some = views[rows]
            cached = cache.sums(cache.affinities(some), self.beta)
            parts.append(some.scores(self.weight) + self.bias + self.alpha * cached)
        return torch.cat(parts)

    def to(self, device: torch.device) -> Head:
        """Return the head on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("weight", "bias", "keys", "key_classes")}
        return replace(self, **moved)


def as_views(frames: Tensor, texts: ClassTexts) -> tuple[Tensor, Tensor]:
    """Return one video's frames and their weights for each class; views follow one another.

    Args:
        frames: [K, T, D], raw.
    Returns:
        frames [K * T, D], weights [C, K * T]. With mean pooling, the mean of raw frames stands for each view, whatever
        the class: [K, D] and [1, K]. Where scores are averaged, every frame counts the same: [K * T, D] and [1, K * T].
    """
    views = len(frames)
    if texts.voters is None:
        pooled = unit(frames).flatten(0, 1) if texts.averages_scores else unit(frames.mean(dim=1))
        return pooled, pooled.new_full((1, len(pooled)), 1 / len(pooled))
    frames = unit(frames)
    weights = spotted(frames, texts.voters, texts.temperature) / views  # [K, C, T]
    return frames.flatten(0, 1), weights.transpose(0, 1).flatten(1)


def join_logits(trained: Tensor, text: Tensor) -> Tensor:
    """Return logits on one scale for trained classes and for others that only have a text.

    The text divides the probability between the trained classes as a group and each other class; the head divides the
    group's share among its classes. So other classes do not change how trained classes compare, and the text changes
    only the sum over trained classes.

    Args:
        trained: [V, C], the head's logits.
        text: [V, C + others], the text's logits, trained classes first.
    Returns:
        [V, C + others]; `trained` itself without others.
    """
    classes = trained.shape[1]
    if text.shape[1] == classes:
        return trained
    together = torch.logsumexp(text[:, :classes], dim=1, keepdim=True)
    return torch.cat([torch.log_softmax(trained, dim=1) + together, text[:, classes:]], dim=1)


def zero_shot(text: Tensor, logit_scale: float) -> Head:
    """Return the head of the text alone: logit_scale * text [C, D], unit vectors."""
    return _linear(logit_scale * text)


def prototypes(shots: Views, classes: Tensor, text: Tensor, logit_scale: float) -> Head:
    """Return the head of the nearest class mean: logit_scale * unit(mean of z_c over the videos of class c).

    Args:
        classes: int64 [N]; every class has a shot.
        text: [C, D]; only its shape is used.
    Source: Snell et al., Prototypical Networks (NeurIPS 2017), by cosine.
    """
    sums = torch.zeros_like(text).index_add_(0, classes, shots.own(classes))
    return _linear(logit_scale * unit(sums))


def tip_adapter(shots: Views, classes: Tensor, text: Tensor, logit_scale: float) -> Head:
    """Return Tip-Adapter's training-free head: the text's logits, and a cache of the shots.

    alpha and beta maximise the likelihood of the shots, each left out of the cache in turn. With one shot per class,
    which would leave its class without any, they are the paper's.

    Source: Zhang et al., Tip-Adapter (ECCV 2022).
    """
    keys = unit(shots.own(classes))
    chosen = {"alpha": TIP_ALPHA, "beta": TIP_BETA}
    weight = logit_scale * text
    head = Head(weight, weight.new_zeros(len(weight)), keys, classes, TIP_ALPHA, TIP_BETA, chosen)
    if int(classes.bincount(minlength=len(text)).min()) < 2:
        return head
    # The class of a shot that is left out has one key fewer than later; the factor makes up for it.
    counts = classes.bincount(minlength=len(text))
    more = (counts / (counts - 1)).to(weight.dtype)
    likelihoods = {(alpha, beta): 0.0 for beta in TIP_BETAS for alpha in TIP_ALPHAS}
    cache = _Cache.of(keys, classes, len(text))
    for rows in _blocks(shots, cache):
        some, own = shots[rows], classes[rows]
        base, affinities = some.scores(weight), cache.affinities(some)
        affinities.flatten(1)[torch.arange(len(some), device=own.device), cache.places[rows]] = -torch.inf
        missing = torch.ones_like(base).scatter_(1, own[:, None], more[own][:, None])
        alone = _likelihood(base, own)
        for beta in TIP_BETAS:
            cached = cache.sums(affinities, beta) * missing
            for alpha in TIP_ALPHAS:
                likelihoods[alpha, beta] += _likelihood(base + alpha * cached, own) if alpha else alone
    alpha, beta = max(likelihoods, key=likelihoods.__getitem__)
    return replace(head, alpha=alpha, beta=beta, chosen={"alpha": alpha, "beta": beta})


def linear_probe(shots: Views, classes: Tensor, text: Tensor, logit_scale: float) -> Head:
    """Return a linear probe that starts at the class text features and is regularised towards them.

    weight_c = trust * text_c + change_c / spread.

    `trust` is the largest scale, from 0 to logit_scale, under which the likelihood of the shots is within `SLACK` of
    the best. The text does not depend on the shots, so its accuracy on them is an unbiased measure: a misleading text
    gets a trust of 0, a correct one logit_scale.

    `change` minimises the cross-entropy of the shots plus hold / 2 * |change|^2, on features that are centred and
    divided by their spread, so that `hold` means the same for every model. `hold` is chosen by cross-validation on the
    shots, so no validation set is needed. One shot per class leaves nothing to validate on; then `hold` is larger the
    more the text is trusted.

    A text that is correct on nearly all shots (`GOOD`) is not changed unless the probe is correct on more of them in
    cross-validation: there is little to gain and something to lose.

    Source: the family of CLAP (Silva-Rodriguez et al., CVPR 2024: start at the text, stay near it, no validation set)
    and LP++ (Huang et al., CVPR 2024: a learned multiplier for the text). CLAP's penalty per class is fixed beforehand
    and keeps a probe at meaningless texts; LP++ learns its multipliers together with the rest, from the few shots.
    """
    centre, spread = _centre(shots, classes)
    standard = _Standard(shots, centre, spread)
    cosines = shots.scores(text)
    folds = min(int(classes.bincount(minlength=len(text)).min()), FOLDS)
    trust = _trust(cosines, classes, logit_scale)
    hits = _hits(cosines, classes)
    if folds < 2:
        share, best = trust / logit_scale, 0
        hold = LOOSE ** (1 - share) * FIRM**share
    else:
        hold, best = _best_hold(standard, cosines, classes, logit_scale, folds)
    if hits >= max(GOOD * len(classes), best):
        trust = max(trust, logit_scale / TRUST_STEPS)  # at 0, all classes would score the same
        return replace(_linear(trust * text), chosen={"trust": trust})
    change = _fit_change(standard, trust * cosines, classes, hold, torch.zeros_like(text)) / spread
    head = _linear(trust * text + change)
    return replace(head, bias=-(change @ centre), chosen={"trust": trust, "hold": hold})


@dataclass(frozen=True, eq=False)
class _Standard:
    """Videos with features that are centred on a mean [D] and divided by a spread."""

    views: Views
    centre: Tensor
    spread: Tensor

    def __getitem__(self, chosen: Tensor) -> _Standard:
        return _Standard(self.views[chosen], self.centre, self.spread)

    def scores(self, directions: Tensor) -> Tensor:
        """Return [V, C]; weights sum to 1 over frames, so the mean can be subtracted afterwards."""
        return (self.views.scores(directions) - directions @ self.centre) / self.spread


def _linear(weight: Tensor) -> Head:
    none = weight.new_zeros(0, weight.shape[1])
    return Head(weight, weight.new_zeros(len(weight)), none, torch.zeros(0, dtype=torch.int64, device=weight.device))


@dataclass(frozen=True, eq=False)
class _Cache:
    """Keys by class. A class with more keys than most has several rows.

    Args:
        keys: [R, S, D]; zeros where a row has fewer.
        filled: bool [R, S].
        row_classes: int64 [R].
        places: int64 [M], the place of each key among the R * S.
        classes: C.
    """

    keys: Tensor
    filled: Tensor
    row_classes: Tensor
    places: Tensor
    classes: int

    @classmethod
    def of(cls, keys: Tensor, key_classes: Tensor, classes: int) -> _Cache:
        """Return the keys [M, D] of classes [M]."""
        counts = key_classes.bincount(minlength=classes)
        width = -(-len(keys) // classes)
        rows = (counts + width - 1) // width  # of each class
        order = torch.argsort(key_classes, stable=True)
        of_sorted = key_classes[order]
        rank = torch.arange(len(keys), device=keys.device) - (counts.cumsum(0) - counts)[of_sorted]
        places = torch.empty_like(order)
        places[order] = ((rows.cumsum(0) - rows)[of_sorted] + rank // width) * width + rank % width
        row_classes = torch.arange(classes, device=keys.device).repeat_interleave(rows)
        padded = keys.new_zeros(len(row_classes) * width, keys.shape[1]).index_copy_(0, places, keys)
        filled = torch.zeros(len(padded), dtype=torch.bool, device=keys.device).index_fill_(0, places, True)
        shape = (len(row_classes), width)
        return cls(padded.reshape(*shape, -1), filled.reshape(shape), row_classes, places, classes)

    def affinities(self, views: Views) -> Tensor:
        """Return z_c . key for each key of each class c: [V, R, S]; -inf in places without a key."""
        affinities = self.keys.new_empty(len(views), *self.filled.shape)
        step = max(1, NUMBERS_AT_ONCE // max(1, views.frames.shape[2] * len(views)))
        for start in range(0, len(self.keys), step):
            some = slice(start, start + step)
            # The vector z_c of each class costs less than the product of each frame with each key.
            vectors = (views.weights[:, self.row_classes[some]] @ views.frames).transpose(0, 1)  # [r, V, D]
            affinities[:, some] = (vectors @ self.keys[some].transpose(1, 2)).transpose(0, 1)
        return affinities.masked_fill_(~self.filled, -torch.inf)

    def sums(self, affinities: Tensor, beta: float) -> Tensor:
        """Return the sum over the keys of each class of exp(-beta (1 - affinity)): [V, C]."""
        near = torch.mul(affinities, beta).sub_(beta).exp_().sum(dim=2)  # [V, R]
        return near.new_zeros(len(near), self.classes).index_add_(1, self.row_classes, near)


def _blocks(views: Views, cache: _Cache | None = None) -> Iterator[slice]:
    """Yield the rows of some videos at a time, so that what is computed of them fits the memory."""
    classes, frames = views.weights.shape[1:]
    of_a_video = classes * frames if cache is None else max(classes * frames, cache.filled.numel())
    step = max(1, NUMBERS_AT_ONCE // max(1, of_a_video))
    yield from (slice(start, min(start + step, len(views))) for start in range(0, max(1, len(views)), step))


def _likelihood(logits: Tensor, classes: Tensor) -> float:
    """Return the sum of the log-probabilities of the true classes."""
    return float(torch.log_softmax(logits.double(), dim=1).gather(1, classes[:, None]).sum())


def _trust(cosines: Tensor, classes: Tensor, highest: float) -> float:
    """Return the largest scale of the text's cosines [N, C] with a likelihood of the shots near the best."""
    scales = np.linspace(0, highest, TRUST_STEPS)
    likelihoods = np.array([_likelihood(float(scale) * cosines, classes) for scale in scales])
    return float(scales[likelihoods >= likelihoods.max() - SLACK].max())


def _centre(shots: Views, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the shots' vectors for their own classes, [D], and their mean distance from it."""
    own = shots.own(classes)
    centre = own.mean(dim=0)
    spread = (own - centre).square().sum(dim=1).mean().sqrt()
    return centre, torch.where(spread < ROUNDING, torch.ones_like(spread), spread)


def _hits(logits: Tensor, classes: Tensor) -> int:
    return int((logits.argmax(dim=1) == classes).sum())


def _best_hold(standard: _Standard, cosines: Tensor, classes: Tensor, highest: float, folds: int) -> tuple[float, int]:
    """Return the hold with the best likelihood in cross-validation, and how many shots it classifies correctly."""
    fold = _folds(classes, folds)
    likelihoods, hits = dict.fromkeys(HOLDS, 0.0), dict.fromkeys(HOLDS, 0)
    for i in range(folds):
        train, test = fold != i, fold == i
        trust = _trust(cosines[train], classes[train], highest)
        change = cosines.new_zeros(cosines.shape[1], len(standard.centre))
        for hold in HOLDS:  # each starts where the firmer one ended
            change = _fit_change(standard[train], trust * cosines[train], classes[train], hold, change)
            logits = trust * cosines[test] + standard[test].scores(change)
            likelihoods[hold] += _likelihood(logits, classes[test])
            hits[hold] += _hits(logits, classes[test])
    best = max(HOLDS, key=lambda hold: likelihoods[hold])
    return best, hits[best]


def _folds(classes: Tensor, folds: int) -> Tensor:
    """Return the fold of each shot; the shots of a class are spread evenly over the folds, in order."""
    fold = torch.empty_like(classes)
    for c in set(classes.tolist()):
        places = (classes == c).nonzero().flatten()
        fold[places] = torch.arange(len(places), device=classes.device) % folds
    return fold


@torch.enable_grad()
def _fit_change(standard: _Standard, base: Tensor, classes: Tensor, hold: float, begin: Tensor) -> Tensor:
    """Return the change [C, D] that minimises cross-entropy(base + scores(change)) + hold / 2 * |change|^2."""
    change = begin.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [change], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-5, tolerance_change=1e-7
    )

    def loss() -> Tensor:
        search.zero_grad()
        wrong = torch.nn.functional.cross_entropy(base + standard.scores(change), classes, reduction="sum")
        value = wrong + hold / 2 * change.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return change.detach()
