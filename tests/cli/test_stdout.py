"""stdout holds records and nothing else, whatever prints meanwhile."""

import io

import pytest
from invoke import Terminal

from bike_cli.cli.stdout import records_alone


def test_a_pipe_gets_utf8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))

    with records_alone() as stream:
        assert stream
        stream.write("é日")
        stream.flush()

    assert written.getvalue() == "é日".encode()


def test_a_terminal_keeps_its_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal(encoding="latin-1")
    monkeypatch.setattr("sys.stdout", screen)

    with records_alone() as stream:
        assert stream
        stream.write("é日")

    assert screen.text == "é?"
