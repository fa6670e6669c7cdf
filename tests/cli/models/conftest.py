"""What the tests of `bike models` share."""

import pytest
from open_clip import hf_model


@pytest.fixture(autouse=True)
def _without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same models are listed, whether the optional dependency is installed or not."""
    monkeypatch.setattr(hf_model, "transformers", None)
