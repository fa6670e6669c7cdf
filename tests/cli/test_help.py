"""What help texts and errors say about formats is what the code reads."""

import pytest

from bike_cli.cli.eval.request import EvalRequest
from bike_cli.cli.flags import TrainingRequest
from bike_cli.config import flag_of
from bike_cli.data.labelled.formats import FILE_FORMATS, find_listing
from bike_cli.errors import UsageError


def words_of(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(".", " ").replace(";", " ").replace("files", "file").lower().split())


@pytest.mark.parametrize("request_type", [TrainingRequest, EvalRequest])
@pytest.mark.parametrize("name", FILE_FORMATS)
def test_the_help_of_the_data_names_every_format(request_type: type, name: str) -> None:
    described = flag_of(request_type.__dataclass_fields__["data"])
    assert described is not None

    assert words_of(name) - {"a", "file"} <= words_of(described.help)


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_the_error_for_missing_data_names_every_format(name: str) -> None:
    with pytest.raises(UsageError, match="no such file or folder; give a folder of class folders") as caught:
        find_listing("/nowhere", root=None)

    assert words_of(name) <= words_of(str(caught.value))
