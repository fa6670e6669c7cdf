import io
import json
import math
import random
from pathlib import Path

import open_clip
import pytest
import torch
import train_tiny
from shapes import COLOURS, HELD_OUT, MOTIONS, SHAPES, UNNAMED, Dice, draw_scenes, pose
from torch import Tensor
from train_tiny import MAYBE, Facts, Grammar, Plan, Trainer, choose, facts_of_videos, is_false, masked_contrast, phrase

from bike_cli.config import PROMPT
from bike_cli.engine.engine import load
from bike_cli.engine.scoring import unit

TOKENIZER = open_clip.get_tokenizer("ViT-B-32")
CPU = torch.device("cpu")
TINY = Path(__file__).parents[2] / "weights" / "tiny"
SHORT = Plan(frames_a_step=24, video_frames_a_step=64, captions=16, unknown=8, watched=16, warm_up=2)


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar(0, CPU)


@pytest.fixture
def trainer(grammar: Grammar, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    return new_trainer(grammar, monkeypatch)


def new_trainer(grammar: Grammar, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    # The grammar takes seconds to write, and every trainer of a seed has the same one.
    monkeypatch.setattr(train_tiny, "Grammar", lambda seed, device: grammar)
    monkeypatch.setattr(train_tiny, "quick_look", lambda trainer: {})
    return Trainer(SHORT, CPU, io.StringIO())


def text_of(grammar: Grammar, tokens: Tensor) -> str:
    return TOKENIZER.decode([i for i in grammar.kept[tokens].tolist() if i > 0])


# -- Captions -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compact_tokens_stand_for_the_standard_ones(grammar: Grammar) -> None:
    texts = [PROMPT.format(" ".join(words)) for words in zip(COLOURS, SHAPES, MOTIONS[:8], strict=True)]

    compact = grammar.encode(texts)

    standard = TOKENIZER(texts)[:, : train_tiny.CONTEXT]
    assert torch.equal(torch.where(compact > 0, grammar.kept[compact], 0), standard)


@pytest.mark.slow
def test_a_word_outside_the_grammar_is_the_unknown_token(grammar: Grammar) -> None:
    known, strange = grammar.encode(["red circle", "red zeppelin"])

    assert known[1] == strange[1] > 0
    assert strange[2] == 0


@pytest.mark.slow  # over a second of a core
def test_the_words_marked_in_a_caption_are_the_label(grammar: Grammar) -> None:
    says = torch.full((200, 5), UNNAMED)
    says[:, 0], says[:, 1] = SHAPES.index("star"), COLOURS.index("red")

    captions = grammar.write(Dice(0), says)

    marked = [text_of(grammar, tokens[words]) for tokens, words in zip(captions.tokens, captions.words, strict=True)]
    assert {frozenset(text.replace(",", " ").split()) for text in marked} == {frozenset({"red", "star"})}


def test_an_unknown_caption_keeps_the_prompt_and_loses_words_of_the_label(grammar: Grammar) -> None:
    captions = grammar.write(Dice(0), torch.zeros(50, 5, dtype=torch.int64))

    unknown = grammar.unknown(Dice(1), captions, 100)

    assert bool((unknown.words & (unknown.tokens == 0)).any(1).all())
    end = unknown.tokens.argmax(1, keepdim=True)  # end of text has the greatest id
    before_end = torch.arange(train_tiny.CONTEXT) < end
    assert not bool(((unknown.tokens == 0) & before_end & ~unknown.words).any())


def test_a_phrase_names_every_attribute_it_was_given() -> None:
    says = [SHAPES.index("heart"), COLOURS.index("green"), UNNAMED, UNNAMED, UNNAMED]

    phrases = [phrase(random.Random(seed), says) for seed in range(100)]

    assert all({"heart", "green"} == set(text.replace(",", " ").split()) for text in phrases)


# -- What is true -------------------------------------------------------------------------------------------------


def slow_is_false(facts: Facts, says: Tensor, v: int, c: int) -> bool:
    """Judge one caption of one scene, word by word."""
    shape, colour, size, background, motion = says[c].tolist()
    claims = (shape, colour, size, motion)
    if background not in (UNNAMED, int(facts.background[v])):
        return True
    if all(claim == UNNAMED for claim in claims):
        return False
    for known, is_visible in zip(facts.objects[v].tolist(), facts.visible[v].tolist(), strict=True):
        if is_visible and all(
            claim == UNNAMED or fact in (claim, MAYBE) for claim, fact in zip(claims, known, strict=True)
        ):
            return False
    return True


def test_a_caption_is_false_when_no_visible_object_fits_all_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    objects = torch.randint(MAYBE, 3, (40, 3, 4), generator=generator)
    visible, background = torch.rand(40, 3, generator=generator) < 0.6, torch.randint(3, (40,), generator=generator)
    facts = Facts(objects, visible, background)
    says = torch.randint(UNNAMED, 3, (60, 5), generator=generator)

    judged = is_false(facts, says)

    assert judged.tolist() == [[slow_is_false(facts, says, v, c) for c in range(60)] for v in range(40)]


def test_what_is_said_of_a_scene_is_not_false_of_it() -> None:
    scenes = draw_scenes(Dice(0), 512, "passers", nameless=0.3)
    facts = facts_of_videos(scenes, pose(scenes, torch.linspace(0, 0.9, 8).expand(512, -1)))

    says = choose(Dice(1), facts, (0.6, 0.6, 0.2, 0.2, 0.7))

    assert not bool(is_false(facts, says).diagonal().any())


def test_a_short_visit_does_not_tell_its_motion() -> None:
    scenes = draw_scenes(Dice(0), 64, "flash")

    facts = facts_of_videos(scenes, pose(scenes, torch.linspace(0, 0.9, 8).expand(64, -1)))

    assert set(facts.objects[:, 1, 3].tolist()) == {MAYBE}


@pytest.mark.slow
def test_training_never_sees_a_held_out_pair(trainer: Trainer) -> None:
    batches = [facts for _ in range(8) for facts in (trainer.frame_batch()[1], *trainer.video_batch()[1:])]

    pairs = {tuple(pair) for facts in batches for pair in facts.objects[..., :2].flatten(0, 1).tolist()}

    assert len(pairs) > 51  # all that are seen, and objects without a name
    assert not pairs & HELD_OUT


# -- Loss and training --------------------------------------------------------------------------------------------


def test_the_contrast_is_against_false_captions_and_scenes_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 9, generator=generator).double()
    owner, false = torch.tensor([0, 1, 2, 3, 0, 1]), torch.rand(4, 9, generator=generator) < 0.5

    loss = masked_contrast(logits, owner, false)

    across, down = [], []
    for c, v in enumerate(owner.tolist()):
        own = math.exp(logits[v, c])
        others = sum(math.exp(logits[v, j]) for j in range(9) if false[v, j])
        scenes = sum(math.exp(logits[j, c]) for j in range(4) if false[j, c])
        across.append(-math.log(own / (own + others)))
        down.append(-math.log(own / (own + scenes)))
    assert float(loss) == pytest.approx(sum(across) / 12 + sum(down) / 12)


@pytest.mark.slow
def test_the_same_seed_trains_the_same_weights(grammar: Grammar, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> list[Tensor]:
        trainer = new_trainer(grammar, monkeypatch)
        trainer.run("frames", 2, 1e-3)
        trainer.run("videos", 2, 1e-3)
        return trainer.average

    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))


@pytest.mark.slow
def test_the_unknown_token_says_nothing_after_training(trainer: Trainer) -> None:
    trainer.run("frames", 2, 1e-2)

    assert not bool(trainer.student.clip.token_embedding.weight[0].any())


@pytest.mark.slow
def test_the_folder_holds_the_student(trainer: Trainer, tmp_path: Path) -> None:
    trainer.run("frames", 2, 1e-3)
    labels = [PROMPT.format(label) for label in ("red star", "moving left", "zeppelin")]

    train_tiny.save(trainer, tmp_path)

    student, engine = trainer.averaged(), load(str(tmp_path), device="cpu")
    frames = torch.randint(256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        classes, features = student.read(trainer.grammar.encode(labels))[0], student.see(frames)
        related = student.relate(features[None])
    # Half precision on disk.
    torch.testing.assert_close(unit(engine.encode_texts(labels).classes), unit(classes), atol=5e-3, rtol=0)
    torch.testing.assert_close(unit(engine.encode_frames(frames)), unit(features), atol=5e-3, rtol=0)
    torch.testing.assert_close(unit(engine.temporal(features[None])), unit(related), atol=5e-3, rtol=0)


def test_the_bundled_model_says_what_the_program_would_write(trainer: Trainer, tmp_path: Path) -> None:
    train_tiny.save(trainer, tmp_path)

    written, shipped = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, TINY))
    assert shipped == written


def test_the_bundled_log_is_of_the_default_plan() -> None:
    first = json.loads((TINY / "training.log").read_text().splitlines()[0])

    assert first["plan"] == vars(Plan())
