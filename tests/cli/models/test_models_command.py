"""`bike models`: what can stand after --model."""

import json
import re

import pytest
from invoke import bike, bike_on_terminal

from bike_cli.engine.models.catalogue import ALIASES, bundled_folder


def test_a_pipe_gets_one_json_object_a_model() -> None:
    tiny, *others = bike("models").records

    folder = bundled_folder()
    assert folder
    assert (tiny["name"], tiny["licence"]) == ("tiny", "MIT")
    assert tiny["bytes_on_disk"] == (folder / "model.safetensors").stat().st_size
    assert [model["name"] for model in others[: len(ALIASES)]] == list(ALIASES)


def test_a_terminal_gets_a_table_of_what_has_a_short_name_or_is_here() -> None:
    ran = bike_on_terminal("models", columns=120)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout)
    assert re.search(r"^ ?tiny .* [0-9]+ MB +MIT ", plain, re.MULTILINE)
    assert re.search(r"^ ?base +150 M .* ViT-B-16-quickgelu,openai", plain, re.MULTILINE)
    assert "bike models --all" in ran.stderr


def test_all_lists_the_tags_that_run_as_well() -> None:
    some, every = bike_on_terminal("models", columns=120).stdout, bike_on_terminal("models", "--all", columns=120)

    assert len(every.stdout.splitlines()) > len(some.splitlines()) + 50
    assert every.stderr == ""


def test_open_clip_knows_the_parameters_of_its_tags() -> None:
    models = {str(model["name"]): model for model in bike("models", "--all").records}

    assert all(model["parameters"] for model in models.values())
    # 86 M (vision) + 63 M (text), as OpenAI's paper and its checkpoint have them
    assert models["ViT-B-16-quickgelu,openai"]["parameters"] == 149_620_737


def test_the_download_of_a_short_name_is_known() -> None:
    models = {str(model["name"]): model for model in bike("models").records}

    assert models["tiny"]["download_bytes"] == 0
    assert all(models[name]["download_bytes"] == alias.size for name, alias in ALIASES.items())


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_every_column(columns: int) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", bike_on_terminal("models", columns=columns).stdout)

    assert re.search(r"--model +Parameters +Download +On disk +Licence +Notes", shown)
    assert re.search(r"^ ?base +150 M +599 MB +", shown, re.MULTILINE)
    for alias in ALIASES.values():
        assert f"{alias.arch},{alias.tag}" in shown


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits_the_terminal(columns: int) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", bike_on_terminal("models", columns=columns).stdout).splitlines()

    assert max(map(len, lines)) <= columns


def test_json_on_a_terminal_is_for_the_asking() -> None:
    lines = bike_on_terminal("models", "--json").stdout.splitlines()

    assert json.loads(lines[0])["name"] == "tiny"
