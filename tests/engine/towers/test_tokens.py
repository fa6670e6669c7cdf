"""The words of a label are located among the tokens of its prompt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import SimpleTokenizer

from bike_cli.engine.towers.tokenizers import OpenAITokenizer
from bike_cli.engine.towers.tokens import tokenise
from bike_cli.records import Prompt

SIMPLE = SimpleTokenizer()


def prompt(before: str, label: str, after: str = "") -> Prompt:
    return Prompt(before + label + after, len(before), len(before) + len(label))


def words(p: Prompt, context: int = 77) -> str:
    tokens = tokenise(OpenAITokenizer(context), p)
    return SIMPLE.decode([tokens.ids[i] for i in tokens.words]).strip()


@pytest.mark.parametrize(
    ("before", "label", "after", "expected"),
    [
        ("This is a video about ", "riding a bike", "", "riding a bike"),
        ("a photo of ", "abseiling", ", a sport.", "abseiling"),
        ("a person ", "jump", "ing high", "jump"),  # "jumping" is one token, and it is the label's
        ("This is a video about ", "Baking   Cookies", "", "baking cookies"),
        ("about &amp; ", "rock &amp; roll", " music", "rock & roll"),
        ("", "tai chi", "", "tai chi"),
        ("video of ", "体操", ".", "体操"),
        ("they are ", "don't", " now", "don 't"),
    ],
)
def test_the_labels_own_words_are_marked(before: str, label: str, after: str, expected: str) -> None:
    found = words(prompt(before, label, after))

    assert found in (expected, expected + "ing")


@pytest.mark.parametrize("label", ["", "   ", "\n"])
def test_a_label_without_words_falls_back_to_the_end_of_text(label: str) -> None:
    tokens = tokenise(OpenAITokenizer(77), prompt("a video of ", label))

    assert [tokens.ids[i] for i in tokens.words] == [SIMPLE.eot_token_id]


def test_a_label_beyond_the_context_falls_back_to_the_end_of_text() -> None:
    tokens = tokenise(OpenAITokenizer(77), prompt("very " * 90, "jump"))

    assert list(tokens.words) == [76]
    assert tokens.ids[76] == SIMPLE.eot_token_id


def test_a_label_that_is_cut_keeps_the_words_that_fit() -> None:
    tokens = tokenise(OpenAITokenizer(7), prompt("a video of ", "run jump swim"))

    assert SIMPLE.decode([tokens.ids[i] for i in tokens.words]).split() == ["run", "jump"]
    assert SIMPLE.decode(tokens.cut).split() == ["swim"]


@settings(max_examples=200)
@given(before=st.text(max_size=20), label=st.text(max_size=30), after=st.text(max_size=20), context=st.integers(3, 40))
def test_every_text_has_ids_that_fit_and_a_word_that_votes(before: str, label: str, after: str, context: int) -> None:
    tokens = tokenise(OpenAITokenizer(context), prompt(before, label, after))

    assert 2 <= len(tokens.ids) <= context
    assert len(tokens.words) >= 1
    assert 1 <= tokens.words.start < tokens.words.stop <= len(tokens.ids)


@settings(max_examples=200)
@given(before=st.text(max_size=20), label=st.text(min_size=1, max_size=30))
def test_ids_are_those_of_open_clip(before: str, label: str) -> None:
    tokens = tokenise(OpenAITokenizer(20), prompt(before, label))

    assert tokens.ids + [0] * (20 - len(tokens.ids)) == SIMPLE([before + label], context_length=20)[0].tolist()
