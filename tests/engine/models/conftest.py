"""What tests of models share: no network, and an empty download cache."""

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refuse every connection, and use the download cache `tmp_path / "hub"`, which is empty."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
