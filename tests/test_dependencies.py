"""Every supported platform and Python can install bike from wheels alone: no compiler, no source builds.

The slow tests ask the package index for metadata, so they need a network; they download no package.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

PLATFORMS = {
    "Linux x86-64": "x86_64-unknown-linux-gnu",
    "Linux arm64": "aarch64-unknown-linux-gnu",
    "macOS arm64": "aarch64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OLDEST_MACOS = "14.0"  # the oldest that PyAV and torch build wheels for


def resolve(platform: str, python: str, resolution: str, requirements: Path, extra: str = "") -> dict[str, str]:
    """Return the version of every package that would be installed, by name."""
    uv = pytest.importorskip("uv")
    flags = ["--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:", "--resolution", resolution]
    flags += ["--python-platform", platform, "--python-version", python, *(["--extra", extra] if extra else [])]
    done = subprocess.run(
        [uv.find_uv_bin(), "pip", "compile", *flags, str(requirements)],
        capture_output=True,
        text=True,
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS},
    )
    if "Failed to fetch" in done.stderr or "dns error" in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, flags=re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS.keys())
def test_wheels_exist_for_every_dependency(platform: str, python: str, resolution: str) -> None:
    versions = resolve(platform, python, resolution, ROOT / "pyproject.toml")

    has_decord = platform in {PLATFORMS["Linux x86-64"], PLATFORMS["Windows x86-64"]}
    assert ("decord" in versions) is has_decord
    direct = {
        re.match(r"[\w-]+", requirement).group().lower().replace("_", "-") for requirement in PROJECT["dependencies"]
    }  # type: ignore[union-attr]
    assert direct - {"decord"} <= versions.keys()


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]])
@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS.keys())
def test_wheels_exist_for_transformers(platform: str, python: str, resolution: str) -> None:
    versions = resolve(platform, python, resolution, ROOT / "pyproject.toml", extra="hf")

    assert versions["transformers"] == "5.0.0" or resolution == "highest"
    assert "torch" in versions


@pytest.mark.slow
def test_a_package_without_wheels_is_noticed(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.in"
    requirements.write_text("decord==0.6.0\n")

    with pytest.raises(AssertionError, match="decord"):
        resolve(PLATFORMS["macOS arm64"], "3.13", "highest", requirements)


def test_every_dependency_has_a_range() -> None:
    for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["hf"]]:
        assert re.search(r">=[\d.]+,<\d", requirement), f"{requirement}: declare the tested range"


def test_the_classifiers_name_the_supported_pythons() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))

    assert named == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
