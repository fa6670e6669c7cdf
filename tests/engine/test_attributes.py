"""Attributes of a video, by mean cosine over its frames."""

import pytest
import torch
from torch.nn import functional

from bike_cli.engine.attributes import associate, attribute_scores, attribute_sentence, encode_lexicon
from bike_cli.engine.engine import Engine
from bike_cli.records import Lexicon

LEXICON = Lexicon(("red", "green", "blue"), torch.eye(3))


def test_the_nearest_phrases_come_first_with_their_mean_cosine() -> None:
    # The lengths of frames must not count: the first frame is long and red, the other two short and blue.
    frames = torch.tensor([[[9.0, 0, 0], [0, 0, 0.1], [0, 0, 0.1]]])

    (found,) = associate(frames, LEXICON, 2)

    assert [a.phrase for a in found] == ["blue", "red"]
    assert [a.cosine for a in found] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]


def test_a_short_lexicon_is_returned_whole() -> None:
    found = associate(torch.ones(2, 4, 3), LEXICON, 9)

    assert [len(attributes) for attributes in found] == [3, 3]


def test_no_videos_have_no_attributes() -> None:
    assert associate(torch.ones(0, 4, 3), LEXICON, 2) == []


def test_a_sentence_names_phrases_as_they_are() -> None:
    assert attribute_sentence(["sea {lion}", "ice"]) == "This is a video about sea {lion},ice"


def test_untrained_scores_are_plain_cosines() -> None:
    scores = attribute_scores(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0], [3.0, 4.0]]))

    assert torch.allclose(scores, torch.tensor([[0.0, 0.6]]))


def test_lexicon_phrases_are_read_inside_the_prompt(engine: Engine) -> None:
    lexicon = encode_lexicon(engine.encoder, ["ice", "sea {lion}"])

    expected = engine.encode_texts(["This is a video about ice", "This is a video about sea {lion}"], positions="eot")
    assert lexicon.phrases == ("ice", "sea {lion}")
    assert torch.allclose(lexicon.features, functional.normalize(expected.classes))
