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
    assert re.search(r"^ ?tiny .* on disk +MIT ", plain, re.MULTILINE)
    assert re.search(r"^ ?base +86 \+ 63 M .* ViT-B-16-quickgelu,openai", plain, re.MULTILINE)
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


def shown(*arguments: str, columns: int) -> list[str]:
    ran = bike_on_terminal("models", *arguments, columns=columns)
    assert ran.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout).splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_line_for_each_short_name(columns: int) -> None:
    lines = shown(columns=columns)

    assert re.match(r"--model +Parameters +Input +Download +Licence +Notes", lines[0])
    assert lines[-1].strip()
    table = [line.split()[0] for line in lines[2 : 3 + len(ALIASES)]]
    assert table == ["tiny", *ALIASES]
    [pe_base] = [line for line in lines if line.startswith("pe-base ")]
    # Perception Encoder B/16: 0.09 billion parameters of the image tower, 0.35 of the text tower, as its card says
    assert re.match(r"pe-base +94 \+ 354 M +224\* +~1\.79 GB +Apache-2\.0 +", pe_base)
    assert "Apple AMLR" in next(line for line in lines if line.startswith("mobile "))
    assert any("--crops 3 is refused" in line for line in lines)
    if columns >= 120:
        for alias in ALIASES.values():
            assert any(f"{alias.arch},{alias.tag}" in line for line in lines)


@pytest.mark.parametrize("columns", [80, 120])
def test_all_shows_families_with_their_licence(columns: int) -> None:
    lines = shown("--all", columns=columns)

    text = "\n".join(line.rstrip() for line in lines)
    assert re.search(r"^SigLIP2: Apache-2\.0\n  ViT-B-32-SigLIP2-256,webli ", text, re.MULTILINE)
    assert re.search(r"^MetaCLIP: CC-BY-NC-4\.0$", text, re.MULTILINE)
    assert re.search(r"^  ViT-B-16-SigLIP2-256,webli \(siglip2\) +93 \+ 282 M +256\* +~1\.50 GB$", text, re.MULTILINE)
    assert sum("," in line for line in lines) == 160
    assert max(map(len, lines)) <= columns


def test_filters_reach_all_tags() -> None:
    lines = shown("--family", "siglip2", "--max-size", "1.6GB", columns=80)

    names = [line.split()[0] for line in lines if "webli" in line]
    assert names == [
        "ViT-B-32-SigLIP2-256,webli",
        *(f"ViT-B-16-SigLIP2{side},webli" for side in ("", "-256", "-384", "-512")),
    ]


def test_filters_apply_to_json() -> None:
    records = bike("models", "--licence", "cc-by-nc", "--json").records

    assert {record["family"] for record in records} == {"MetaCLIP", "MetaCLIP2"}
    assert len(records) == 13
    assert bike("models", "list", "--licence", "cc-by-nc").records == records


def test_json_has_all_fields() -> None:
    [siglip2] = [model for model in bike("models").records if model["name"] == "siglip2"]

    assert siglip2 == {
        "name": "siglip2",
        "family": "SigLIP2",
        "arch": "ViT-B-16-SigLIP2-256",
        "tag": "webli",
        "repository": "timm/ViT-B-16-SigLIP2-256",
        "licence": "Apache-2.0",
        "parameters": 375_234_050,
        "image_parameters": 92_930_304,
        "text_parameters": 282_303_746,
        "input_px": 256,
        "context": 64,
        "crops": False,
        "bytes_on_disk": None,
        "download_bytes": 1_500_971_152,
        "is_estimated": True,
        "note": "many languages",
    }


def test_installed_lists_what_is_on_this_disk() -> None:
    assert [model["name"] for model in bike("models", "--installed").records] == ["tiny"]
    assert [line.split()[0] for line in shown("--installed", columns=80) if "MIT" in line] == ["tiny"]


def test_nothing_that_meets_the_conditions_is_said() -> None:
    ran = bike_on_terminal("models", "--family", "EVA", "--installed")

    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "no model matches these filters" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--family", "clip"], "--family 'clip': is unknown; choose CLIPA, CoCa"),
        (["--licence", "gpl"], "--licence 'gpl': is unknown; choose Apache-2.0"),
        (["--max-size", "big"], "--max-size 'big': is not a size"),
    ],
)
def test_a_condition_that_is_not_known_is_a_usage_error(arguments: list[str], said: str) -> None:
    ran = bike("models", *arguments)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert said in ran.stderr


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits_the_terminal(columns: int) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", bike_on_terminal("models", columns=columns).stdout).splitlines()

    assert max(map(len, lines)) <= columns


def test_json_on_a_terminal_is_for_the_asking() -> None:
    lines = bike_on_terminal("models", "--json").stdout.splitlines()

    assert json.loads(lines[0])["name"] == "tiny"
