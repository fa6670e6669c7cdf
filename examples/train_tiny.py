"""Train the bundled model `tiny` from scratch, on scenes rendered on the GPU.

    python examples/train_tiny.py weights/tiny

This writes the model folder and a log, and takes ten minutes on one H200.

Training has two stages. The first trains CLIP on frames and captions. The second trains BIKE's video branch (temporal
head, spotting and CLIP together) on videos and captions that name motions, in addition to the loss of the first stage.
Captions are partial descriptions, so many also fit other scenes in the batch; only those that do not fit are negatives.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from shapes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, UNNAMED, Dice, Pose, Scenes, draw_scenes, pose, render
from torch import Tensor, nn

from bike_cli.config import PROMPT, Recipe
from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.engine.models.folder import save_folder
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import concept_scores, mean_scores, saliency
from bike_cli.engine.towers.transforms import ImageRecipe, normalise

SIDE_PX, EMBEDDING, TEMPORAL_HEADS = 64, 96, 2
CLIP_CONFIG: dict[str, object] = {
    "embed_dim": EMBEDDING,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIDE_PX, "layers": 4, "width": 256, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
}
CONTEXT = 24  # tokens of the longest caption: what training sees of the 77 positions
IMAGE = ImageRecipe(
    side=SIDE_PX, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)  # OpenAI's
# How to spot was chosen on validation clips: `python examples/measure_tiny.py --choose --count 256`.
RECIPE = Recipe(spot="words", temperature=0.1, lexicon="shapes")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "ball", "dot"),
    "square": ("box",),
    "diamond": ("rhombus",),
    "cross": ("plus",),
    "ring": ("hoop", "donut"),
    "purple": ("violet",),
    "small": ("little", "tiny"),
    "big": ("large", "huge"),
    "black": ("dark", "plain black"),
    "grey": ("gray", "plain grey"),
    "stripes": ("striped", "stripe"),
    "checkerboard": ("checkered", "chequered", "checks"),
    "gradient": ("shaded",),
    "noise": ("noisy", "grainy"),
    "still": ("not moving", "static", "standing still"),
    "moving left": ("going left", "moving to the left"),
    "moving right": ("going right", "moving to the right"),
    "moving up": ("going up", "rising", "moving upwards"),
    "moving down": ("going down", "falling", "moving downwards"),
    "bouncing": ("bouncing around",),
    "spinning": ("rotating", "turning"),
    "growing": ("getting bigger", "expanding"),
    "shrinking": ("getting smaller",),
    "blinking": ("flashing", "flickering"),
}
TEMPLATES = (
    *("{}",) * 4,
    *(PROMPT,) * 5,
    *("a video of a {}", "a photo of a {}", "a {}", "a clip of {}", "there is a {}", "video of {}"),
)
VOCABULARIES = (SHAPES, COLOURS, SIZES, BACKGROUNDS, MOTIONS)
VARIANTS = 6  # ways to say the same that are kept
MAYBE = -2  # beside UNNAMED


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train."""

    seed: int = 0
    frame_steps: int = 7000
    video_steps: int = 3000
    frames_a_step: int = 2048  # first stage
    video_frames_a_step: int = 4096  # second stage: videos x frames
    captions: int = 512  # second stage
    unknown: int = 128  # captions with words the model does not know
    lr: float = 1e-3
    video_clip_lr: float = 4e-4
    weight_decay: float = 0.1
    warm_up: int = 400
    ema: float = 0.998
    watched: int = 1024  # fresh scenes a line of held-out figures


# -- Captions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Captions:
    """C captions: what they say, as indices into the vocabularies (UNNAMED: nothing), and their tokens."""

    says: Tensor  # int64 [C, 5]: shape, colour, size, background, motion
    tokens: Tensor  # int64 [C, CONTEXT]
    words: Tensor  # bool [C, CONTEXT], the label's own tokens


class Grammar:
    """Every caption of the world, tokenised once, so that training never waits for text.

    Tokens are numbered by their place in `kept`, the token ids that occur; 0 is any other token, whose embedding is
    zero and stays zero.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self._cache: dict[str, list[int]] = {}
        rng = random.Random(seed)
        combinations = itertools.product(*(range(UNNAMED, len(words)) for words in VOCABULARIES))
        rows = [self._tokenise(rng, says) for says in combinations for _ in range(VARIANTS)]
        tokens = torch.tensor([row[0] for row in rows])
        self.kept = torch.cat([torch.tensor([-1]), tokens.unique()[1:]])  # 0 is padding in CLIP's tokens
        tokens = torch.where(tokens == 0, 0, torch.searchsorted(self.kept, tokens))
        shape = [len(words) + 1 for words in VOCABULARIES]
        self._tokens = tokens.view(*shape, VARIANTS, CONTEXT).to(device)
        self._words = torch.tensor([row[1] for row in rows]).view(*shape, VARIANTS, CONTEXT).to(device)

    def write(self, dice: Dice, says: Tensor) -> Captions:
        """Return one of the ways to say each row of says: [C, 5]."""
        place = (*(says + 1).unbind(-1), dice.below(VARIANTS, len(says)))
        return Captions(says, self._tokens[place], self._words[place])

    def unknown(self, dice: Dice, captions: Captions, count: int) -> Captions:
        """Return captions in which words of the label are replaced by unknown ones: false of every scene."""
        some = dice.below(len(captions.says), count)
        tokens, words = captions.tokens[some], captions.words[some]
        # Unknown words seldom come alone, and at least one of the label's words goes.
        lost = words & dice.chance(0.6, *words.shape)
        lost = torch.where(lost.any(1, keepdim=True), lost, words)
        return Captions(captions.says[some], torch.where(lost, 0, tokens), words)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of any texts: [C, CONTEXT]."""
        ids = self._tokenizer(list(texts))[:, :CONTEXT].contiguous()
        place = torch.searchsorted(self.kept, ids).clamp(max=len(self.kept) - 1)
        return torch.where(self.kept[place] == ids, place, 0)

    def _tokenise(self, rng: random.Random, says: Sequence[int]) -> tuple[list[int], list[bool]]:
        while True:
            before, after = rng.choice(TEMPLATES).split("{}")
            head, label, tail = (self._ids(part) for part in (before, phrase(rng, says), after))
            if len(head) + len(label) + len(tail) <= CONTEXT - 2:
                break
        ids = [self._tokenizer.sot_token_id, *head, *label, *tail, self._tokenizer.eot_token_id]
        is_word = [False] * (1 + len(head)) + [True] * len(label)
        return ids + [0] * (CONTEXT - len(ids)), is_word + [False] * (CONTEXT - len(is_word))

    def _ids(self, text: str) -> list[int]:
        pieces = text.replace(",", " , ").lower().split()
        for piece in set(pieces) - self._cache.keys():
            self._cache[piece] = self._tokenizer.encode(piece)
        return [token for piece in pieces for token in self._cache[piece]]


def phrase(rng: random.Random, says: Sequence[int]) -> str:
    """Return one of the ways to say these attributes."""
    shape, colour, size, background, motion = (
        "" if index == UNNAMED else _synonym(rng, words[index]) for words, index in zip(VOCABULARIES, says, strict=True)
    )
    words = [word for word in (size, colour, shape, motion, background) if word]
    if not words:
        return rng.choice(("video", "something", "shapes"))
    if rng.random() < 0.2:
        rng.shuffle(words)
        return ",".join(words)  # as an attribute sentence lists them
    text = _about_object(rng, [word for word in (size, colour) if word], shape, motion)
    if not background:
        return text
    if not text:
        return rng.choice((background, f"a {background} background", f"{background} background"))
    return f"{text} {rng.choice(('on', 'on a', 'in front of'))} {background}{rng.choice(('', ' background'))}"


def _about_object(rng: random.Random, adjectives: Sequence[str], shape: str, motion: str) -> str:
    if shape:
        in_front = motion and rng.random() < 0.25
        words = [motion, *adjectives, shape] if in_front else [*adjectives, shape, motion]
    elif adjectives:
        noun = rng.choice(("", "object", "shape", "thing", "something"))
        words = [noun, *adjectives] if noun == "something" else [*adjectives, noun]
        words.append(motion)
    else:
        names_nothing = motion and rng.random() < 0.4
        words = [rng.choice(("something", "an object", "a shape")), motion] if names_nothing else [motion]
    return " ".join(word for word in words if word)


def _synonym(rng: random.Random, word: str) -> str:
    others = SYNONYMS.get(word)
    return rng.choice(others) if others and rng.random() < 0.25 else word


# -- What is true of a scene --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a caption may say of V frames or videos; UNNAMED: cannot be said, MAYBE: cannot be judged."""

    objects: Tensor  # int64 [V, O, 4]: shape, colour, size, motion
    visible: Tensor  # bool [V, O]
    background: Tensor  # int64 [V]

    def __getitem__(self, rows: Tensor) -> Facts:
        return Facts(self.objects[rows], self.visible[rows], self.background[rows])


def facts_of_videos(scenes: Scenes, posed: Pose) -> Facts:
    """Return the facts of whole videos, V = B."""
    # A short visit does not show its motion.
    is_long = (scenes.stop - scenes.start > 0.45) & ((posed.opacity > 0.5).sum(-1) >= 3)
    motion = torch.where(is_long, scenes.motion, MAYBE)
    size = torch.where(scenes.size == UNNAMED, MAYBE, scenes.size)
    objects = torch.stack([scenes.shape, _colours(scenes), size, motion], -1)
    return Facts(objects, _in_sight(posed).any(-1), scenes.background)


def facts_of_frames(scenes: Scenes, posed: Pose, *, sizes: bool) -> Facts:
    """Return the facts of every frame by itself, V = B * T; without `sizes` none can be judged."""
    frames = posed.opacity.shape[-1]
    maybe = torch.full_like(scenes.motion, MAYBE)
    size = torch.where(scenes.size == UNNAMED, MAYBE, scenes.size) if sizes else maybe
    objects = torch.stack([scenes.shape, _colours(scenes), size, maybe], -1).repeat_interleave(frames, 0)
    visible = _in_sight(posed).transpose(1, 2).flatten(0, 1)
    return Facts(objects, visible, scenes.background.repeat_interleave(frames))


def _in_sight(posed: Pose) -> Tensor:
    """Return which objects can be seen at which times: bool [B, O, T]."""
    inside = ((posed.centre > -0.02) & (posed.centre < 1.02)).all(-1)
    return (posed.opacity > 0.5) & inside


def _colours(scenes: Scenes) -> Tensor:
    # One without a name may pass for a neighbour.
    return torch.where(scenes.colour == UNNAMED, MAYBE, scenes.colour)


def choose(dice: Dice, facts: Facts, shares: Sequence[float]) -> Tensor:
    """Return one thing to say of each scene: int64 [V, 5]; shares: how often each attribute is named."""
    count, objects = facts.visible.shape
    target = (dice.uniform(0, 1, count, objects) * facts.visible).argmax(1)
    shape, colour, size, motion = facts.objects[torch.arange(count, device=dice.device), target].unbind(-1)
    values = torch.stack([shape, colour, size, facts.background, motion], -1)  # [V, 5]
    seen = facts.visible.any(1)
    can_say = values >= 0
    can_say[:, [0, 1, 2, 4]] &= seen[:, None]
    wanted = dice.uniform(0, 1, count, 5) < torch.tensor(shares, device=dice.device)
    # Half of the captions name one thing only: what is true of red must not hang on what is red.
    single = (dice.uniform(0, 1, count, 5) * can_say * torch.tensor(shares, device=dice.device)).argmax(1)
    only = torch.zeros_like(wanted).scatter_(1, single[:, None], True)
    said = torch.where(dice.chance(0.5, count, 1), only, wanted) & can_say
    said = torch.where(said.any(1, keepdim=True), said, only & can_say)
    return torch.where(said, values, UNNAMED)


def is_false(facts: Facts, says: Tensor) -> Tensor:
    """Return where a caption is certainly false of a scene: bool [V, C]."""
    said = says[:, [0, 1, 2, 4]]  # [C, 4]
    fits = torch.ones(len(facts.visible), len(says), facts.visible.shape[1], dtype=torch.bool, device=says.device)
    for i in range(4):
        fact, claim = facts.objects[..., i][:, None], said[:, i][None, :, None]
        fits &= (claim == UNNAMED) | (fact == MAYBE) | (fact == claim)
    fits = (fits & facts.visible[:, None]).any(-1) | (said == UNNAMED).all(-1)
    background = says[:, 3]
    fits &= (background == UNNAMED) | (background == facts.background[:, None])
    return ~fits


# -- Model and loss -----------------------------------------------------------------------------------------------


class Student(nn.Module):
    """CLIP on compact tokens, and the temporal head."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        vision = CLIPVisionCfg(**CLIP_CONFIG["vision_cfg"])
        text = CLIPTextCfg(**{**CLIP_CONFIG["text_cfg"], "context_length": CONTEXT, "vocab_size": vocabulary})
        self.clip = CLIP(EMBEDDING, vision, text, quick_gelu=True)
        self.temporal = TemporalTransformer(EMBEDDING, TEMPORAL_HEADS)
        with torch.no_grad():
            self.clip.token_embedding.weight[0] = 0  # the unknown token says nothing

    def see(self, frames: Tensor) -> Tensor:
        """Return raw features [N, D] of uint8 frames [N, S, S, 3]."""
        with self._half():
            return self.clip.visual(normalise(frames.permute(0, 3, 1, 2), IMAGE)).float()

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return class features [C, D] and token features [C, L, D]."""
        with self._half():
            x = self.clip.token_embedding(tokens) + self.clip.positional_embedding
            x = self.clip.ln_final(self.clip.transformer(x, attn_mask=self.clip.attn_mask))
            features = (x @ self.clip.text_projection).float()
        return features[torch.arange(len(tokens), device=tokens.device), tokens.argmax(1)], features

    def relate(self, frames: Tensor) -> Tensor:
        """Return frames [V, T, D] after the temporal head."""
        with self._half():
            return self.temporal(frames).float()

    def _half(self) -> torch.autocast:
        # The towers alone: similarities over a temperature of 0.01 need full precision.
        return torch.autocast("cuda", torch.bfloat16, enabled=self.training and torch.cuda.is_available())


def masked_contrast(logits: Tensor, owner: Tensor, false: Tensor) -> Tensor:
    """Return the contrast of each caption with its scene, both ways, against what is certainly false.

    Args:
        logits: [V, C + U], the last U columns being captions false of everything.
        owner: int64 [C], the scene each caption was written for.
        false: bool [V, C + U].
    """
    negative = logits.masked_fill(~false, float("-inf"))
    own = logits[owner, torch.arange(len(owner), device=logits.device)]  # [C]
    across = torch.logsumexp(negative, dim=1)[owner]
    down = torch.logsumexp(negative[:, : len(owner)], dim=0)
    return (torch.logaddexp(own, across) - own).mean() / 2 + (torch.logaddexp(own, down) - own).mean() / 2


# -- The two stages -----------------------------------------------------------------------------------------------


class Trainer:
    """What both stages share: grammar, student, its slow average, random numbers, the log."""

    def __init__(self, plan: Plan, device: torch.device, log: TextIO) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device, self._log = plan, device, log
        self.dice = Dice(plan.seed, device)
        self.grammar = Grammar(plan.seed, device)
        self.student = Student(len(self.grammar.kept)).to(device)
        self.average = [p.detach().clone() for p in self.student.parameters()]
        self._start = time.monotonic()

    def frame_loss(self, features: Tensor, facts: Facts) -> Tensor:
        """Return the loss of single frames, as raw features [N, D], against captions of what stands in them."""
        captions = self.grammar.write(self.dice, choose(self.dice, facts, (0.6, 0.6, 0.2, 0.2, 0.0)))
        unknown = self.grammar.unknown(self.dice, captions, self.plan.unknown)
        classes, _ = self.student.read(torch.cat([captions.tokens, unknown.tokens]))
        logits = self.scale() * unit(features) @ unit(classes).T
        false = torch.cat([is_false(facts, captions.says), self._all_false(len(features))], dim=1)
        return masked_contrast(logits, torch.arange(len(features), device=self.device), false)

    def scale(self) -> Tensor:
        """Return the trained logit scale, at most 100 as in CLIP."""
        return self.student.clip.logit_scale.exp().clamp(max=100)

    def _all_false(self, rows: int) -> Tensor:
        return torch.ones(rows, self.plan.unknown, dtype=torch.bool, device=self.device)

    def frame_batch(self) -> tuple[Tensor, Facts]:
        """Return frames of as many scenes, each at a time of its own, and what is true of them."""
        count = self.plan.frames_a_step
        kind = self._python_rng().choice(("single", "single", "pair", "passers"))
        scenes = draw_scenes(self.dice, count, kind, nameless=0.4)
        times = self.dice.uniform(0, 1, count, 1)
        facts = facts_of_frames(scenes, pose(scenes, times), sizes=True)
        return render(scenes, times, self.dice, SIDE_PX)[:, 0], facts

    def video_batch(self) -> tuple[Tensor, Facts, Facts]:
        """Return videos [V, T, S, S, 3], the facts of each video, and of each frame, [V * T]."""
        rng = self._python_rng()
        length = rng.choices((8, 16, 32), (6, 3, 1))[0]
        kind = rng.choices(("single", "pair", "sparse", "passers", "flash"), (5, 1, 1, 2, 1))[0]
        count = self.plan.video_frames_a_step // length
        scenes = draw_scenes(self.dice, count, kind, nameless=0.3)
        jitter = self.dice.uniform(0, 1, count, length) * self.dice.chance(0.5, count, 1)
        times = (torch.arange(length, device=self.device) + jitter) / length
        posed = pose(scenes, times)
        # An object that grows has no size, but each of its frames would show one.
        of_frames = facts_of_frames(scenes, posed, sizes=False)
        return render(scenes, times, self.dice, SIDE_PX), facts_of_videos(scenes, posed), of_frames

    def video_loss(self) -> Tensor:
        """Return BIKE's video branch against captions with motions, plus the frame loss on a part of the frames."""
        videos, facts, frame_facts = self.video_batch()
        count, length = videos.shape[:2]
        features = self.student.see(videos.flatten(0, 1))
        owner = torch.arange(count, device=self.device).repeat(max(1, self.plan.captions // count))
        captions = self.grammar.write(self.dice, choose(self.dice, facts[owner], (0.6, 0.6, 0.1, 0.12, 0.7)))
        unknown = self.grammar.unknown(self.dice, captions, self.plan.unknown)
        logits = self.scale() * self._spotted(features.view(count, length, -1), captions, unknown)
        false = torch.cat([is_false(facts, captions.says), self._all_false(count)], dim=1)
        loss = masked_contrast(logits, owner, false)
        some = torch.randperm(len(features), device=self.device)[:1024]
        return loss + 0.5 * self.frame_loss(features[some], frame_facts[some])

    def _spotted(self, features: Tensor, *captions: Captions) -> Tensor:
        """Return the scores [V, C] of raw features [V, T, D] under one of the ways to spot."""
        classes, tokens = self.student.read(torch.cat([c.tokens for c in captions]))
        frames = unit(self.student.relate(features))
        # A temperature and a choice of voters a step: none of them may become the only one that works.
        rng = self._python_rng()
        temperature = rng.choice((0.01, 0.03, 0.1))
        if rng.random() < 0.5:
            weights = saliency(frames, unit(tokens), temperature, torch.cat([c.words for c in captions]))
        else:
            weights = saliency(frames, unit(classes)[:, None], temperature)
        return concept_scores(frames, weights, unit(classes))

    def _python_rng(self) -> random.Random:
        return random.Random(int(self.dice.below(2**31, 1)))

    def run(self, stage: str, steps: int, clip_lr: float) -> None:
        """Train one stage: linear warm-up, then a cosine to nothing (or a tenth, where another stage follows)."""
        groups = _groups(self.student, clip_lr, self.plan)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=self.device.type == "cuda")
        floor = 0.1 if stage == "frames" else 0.0
        for step in range(steps):
            warm = min(1.0, (step + 1) / self.plan.warm_up)
            fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * warm * fall
            loss = self.video_loss() if stage == "videos" else self._stage_one_loss()
            self._learn(optimizer, loss)
            is_last = step == steps - 1
            if step % 250 == 0 or is_last:
                self.log(stage=stage, step=step, loss=round(loss.item(), 4), scale=round(self.scale().item(), 2))
            if step % 1500 == 1499 or is_last:
                self.log(stage=stage, step=step, **quick_look(self))

    def _stage_one_loss(self) -> Tensor:
        frames, facts = self.frame_batch()
        return self.frame_loss(self.student.see(frames), facts)

    def _learn(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        embedding = self.student.clip.token_embedding.weight.grad
        if embedding is not None:
            embedding[0] = 0  # the unknown token keeps saying nothing
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(self.average, list(self.student.parameters()), 1 - self.plan.ema)

    def log(self, **values: object) -> None:
        """Write one line of JSON, with the seconds since the start."""
        print(json.dumps({"s": round(time.monotonic() - self._start), **values}), file=self._log, flush=True)

    def averaged(self) -> Student:
        """Return the student with averaged weights."""
        student = Student(len(self.grammar.kept)).to(self.device).eval()
        with torch.no_grad():
            for target, source in zip(student.parameters(), self.average, strict=True):
                target.copy_(source)
        return student


def _groups(student: Student, clip_lr: float, plan: Plan) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = []
    for module, peak in ((student.clip, clip_lr), (student.temporal, plan.lr)):
        # As CLIP: gains, biases and the scale do not decay; nor do embeddings, of which few are seen in a step.
        plain = [p for n, p in module.named_parameters() if p.ndim < 2 or "embedding" in n]
        decayed = [p for n, p in module.named_parameters() if not (p.ndim < 2 or "embedding" in n)]
        groups.append({"params": plain, "peak": peak, "weight_decay": 0.0})
        groups.append({"params": decayed, "peak": peak, "weight_decay": plan.weight_decay})
    return groups


# -- Watching the held-out figures --------------------------------------------------------------------------------

PAIRS = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]


@torch.no_grad()
def quick_look(trainer: Trainer) -> dict[str, float]:
    """Return accuracies in per cent on freshly rendered scenes (no files between)."""
    student, dice = trainer.averaged(), Dice(10_000 + trainer.plan.seed, trainer.device)
    prompts = [PROMPT.format(text) for text in (*PAIRS, *MOTIONS)]
    classes, _ = student.read(trainer.grammar.encode(prompts).to(trainer.device))
    pairs, motions = unit(classes[: len(PAIRS)]), unit(classes[len(PAIRS) :])
    result: dict[str, float] = {}
    for name, held_out in (("seen", False), ("held", True)):
        scenes = draw_scenes(dice, trainer.plan.watched, held_out=held_out)
        for length in (8, 16):
            frames = _watch(student, scenes, dice, length)
            related = student.temporal(frames)
            result[f"{name}_pairs_mean_{length}"] = _percent(mean_scores(frames, pairs), _pair(scenes))
            result[f"{name}_pairs_{length}"] = _percent(_spot(related, pairs), _pair(scenes))
            result[f"{name}_motion_{length}"] = _percent(_spot(related, motions), scenes.motion[:, 0])
    labels = pairs[: 4 * len(COLOURS)]
    for kind in ("sparse", "passers", "flash"):
        scenes = draw_scenes(dice, trainer.plan.watched, kind, held_out=None, apart=True)
        frames = _watch(student, scenes, dice, 8)
        result[f"{kind}_mean"] = _percent(mean_scores(frames, labels), _pair(scenes))
        result[f"{kind}_spot"] = _percent(_spot(student.temporal(frames), labels), _pair(scenes))
    return result


def _watch(student: Student, scenes: Scenes, dice: Dice, length: int) -> Tensor:
    times = (torch.arange(length, device=dice.device) / length).expand(len(scenes), -1)
    return student.see(render(scenes, times, dice, SIDE_PX).flatten(0, 1)).view(len(scenes), length, -1)


def _pair(scenes: Scenes) -> Tensor:
    return scenes.shape[:, 0] * len(COLOURS) + scenes.colour[:, 0]


def _spot(frames: Tensor, classes: Tensor, temperature: float = 0.03) -> Tensor:
    frames = unit(frames)
    return concept_scores(frames, saliency(frames, classes[:, None], temperature), classes)


def _percent(scores: Tensor, truth: Tensor) -> float:
    return round(100 * float((scores.argmax(1) == truth).float().mean()), 1)


# -- The model folder ---------------------------------------------------------------------------------------------


def full_clip(student: Student, kept: Tensor) -> CLIP:
    """Return the CLIP with the standard vocabulary and context; what was never trained is zero."""
    clip = build_clip(CLIP_CONFIG, "tiny")
    state = {name: tensor.detach().cpu() for name, tensor in student.clip.state_dict().items()}
    embedding, positions = state["token_embedding.weight"], state["positional_embedding"]
    state["token_embedding.weight"] = torch.zeros(clip.token_embedding.weight.shape)
    state["token_embedding.weight"][kept[1:]] = embedding[1:]  # the first row is the unknown token's
    state["positional_embedding"] = torch.zeros(clip.positional_embedding.shape)
    state["positional_embedding"][:CONTEXT] = positions
    clip.load_state_dict(state)
    return clip


def save(trainer: Trainer, folder: Path) -> None:
    """Write the averaged weights as a model folder."""
    student = trainer.averaged()
    checkpoint = Checkpoint(
        name="tiny",
        clip=full_clip(student, trainer.grammar.kept),
        clip_config=CLIP_CONFIG,
        image=IMAGE,
        recipe=RECIPE,
        temporal_head=student.temporal.cpu(),
        licence="MIT",
    )
    save_folder(folder, checkpoint, dtype=torch.float16)


def main() -> None:
    """Train, and write the folder after each stage; `examples/measure_tiny.py` measures it through real files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the model and training.log")
    for field in dataclasses.fields(Plan):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.log").open("w", encoding="utf-8") as log:
        train(Plan(**options), folder, log)


def train(plan: Plan, folder: Path, log: TextIO) -> None:
    """Run both stages."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(plan, device, log)
    trainer.log(plan=dataclasses.asdict(plan), tokens=len(trainer.grammar.kept), torch=torch.__version__)
    if device.type == "cuda":
        trainer.student.clip.visual.compile()
    trainer.run("frames", plan.frame_steps, plan.lr)
    save(trainer, folder)
    trainer.run("videos", plan.video_steps, plan.video_clip_lr)
    save(trainer, folder)


if __name__ == "__main__":
    main()
