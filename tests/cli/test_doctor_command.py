"""`bike doctor`: a report that works where bike does not."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from answers import HOSTILE, cells, steering
from invoke import BIKE, ONE_THREAD, Ran, bike, bike_on_terminal
from rich.console import Console

import bike_cli
from bike_cli.cli.doctor import command as doctor
from bike_cli.cli.doctor import environment_checks
from bike_cli.cli.doctor.command import NAMES
from bike_cli.config import ClassifyConfig, EngineConfig
from bike_cli.errors import ExitCode
from bike_cli.tasks.doctor import checks as doctor_checks
from bike_cli.tasks.doctor.checks import Check
from bike_cli.tasks.doctor.probe_process import SELF_TEST_CLIP, self_test_clip
from bike_cli.tasks.doctor.probe_runner import ProbeResult

ROOT = Path(__file__).parents[2]
SECRETS = {
    "HF_TOKEN": "hf_verySecretToken123",
    "HTTPS_PROXY": "http://someone:pass/word@proxy.invalid:3128",
    "http_proxy": "http://someone:pass/word@proxy.invalid:3128",
    "HF_ENDPOINT": "https://user:hidden@mirror.invalid/hub?token=abcdef",
    "BIKE_TOKEN": "another-secret",
}


def doctor_in_a_process(*arguments: object, modules: Path | None = None, **environment: str) -> Ran:
    """Run `bike doctor` on its own, with a folder of modules before all others."""
    path = os.pathsep.join(str(part) for part in (modules, *sys.path) if part)
    done = subprocess.run(
        [*BIKE, "doctor", *map(str, arguments)],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def broken(folder: Path, **sources: str) -> Path:
    """Return a folder of modules with these sources."""
    for name, source in sources.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(source)
    return folder


# -- a sound installation ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    home = tmp_path_factory.mktemp("home")
    environment = {**SECRETS, "HF_HUB_OFFLINE": "1", "HOME": str(home), "BIKE_CACHE_DIR": str(home / "cache")}
    environment |= {"BIKE_FRAMEZ": "4", "BIKE_FRAMES": "4", "BIKE_DEVICE": "cpu", "XDG_CACHE_HOME": ""}
    return doctor_in_a_process("--json", "-v", **environment)


@pytest.fixture(scope="module")
def report(sound: Ran) -> dict[str, object]:
    assert sound.stdout.count("\n") == 1
    found: dict[str, object] = json.loads(sound.stdout)
    return found


def checks(report: dict[str, object]) -> dict[str, dict[str, object]]:
    found = report["checks"]
    assert isinstance(found, dict)
    return found


def test_it_is_one_json_object_with_the_documented_keys(report: dict[str, object]) -> None:
    assert list(report) == ["status", "bike", "seconds", "checks"]
    assert report["bike"] == bike_cli.__version__
    assert list(checks(report)) == NAMES
    for check in checks(report).values():
        assert list(check) == ["state", "message", "fix", "details"]
        assert check["state"] in ("ok", "warning", "problem")


def test_the_names_of_checks_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

    assert set(NAMES) <= set(re.findall(r"`(\w+)`", page))


def test_a_sound_installation_has_no_problem(sound: Ran, report: dict[str, object]) -> None:
    assert [name for name, check in checks(report).items() if check["state"] == "problem"] == []
    assert sound.exit_code == ExitCode.DONE
    assert report["status"] == "warning"  # of BIKE_FRAMEZ


def test_the_example_is_decoded_and_classified(report: dict[str, object]) -> None:
    self_test = checks(report)["self_test"]

    assert self_test["state"] == "ok"
    details = self_test["details"]
    assert isinstance(details, dict)
    assert details["label"] == "red circle"
    assert details["score"] > 0.9


@pytest.mark.parametrize("name", ["torch", "open_clip", "av"])
def test_versions_are_those_of_the_libraries(name: str, report: dict[str, object]) -> None:
    from importlib.metadata import version

    distribution = {"open_clip": "open_clip_torch"}.get(name, name)
    details = checks(report)[name]["details"]
    assert isinstance(details, dict)
    assert str(details["version"]).split("+")[0] == version(distribution).split("+")[0]


def test_no_secret_is_shown(sound: Ran) -> None:
    written = sound.stdout + sound.stderr

    for secret in ("verySecret", "pass/word", "someone", "hidden", "abcdef", "another-secret"):
        assert secret not in written
    assert "proxy.invalid:3128" in written
    assert "mirror.invalid" in written


def test_the_hub_is_not_asked_offline(report: dict[str, object]) -> None:
    hub = checks(report)["hub"]

    assert (hub["state"], hub["message"]) == ("ok", "not checked: HF_HUB_OFFLINE is set")


def test_the_home_folder_is_shortened(report: dict[str, object]) -> None:
    cache = checks(report)["cache"]

    assert isinstance(cache["details"], dict)
    assert cache["details"]["folder"] == "~/cache"
    assert cache["details"]["chosen_by"] == "BIKE_CACHE_DIR"
    assert str(cache["message"]).startswith("~/cache, ")


def test_unknown_variables_are_named_with_the_nearest(report: dict[str, object]) -> None:
    settings = checks(report)["settings"]

    assert settings["state"] == "warning"
    assert "BIKE_FRAMEZ (nearest: BIKE_FRAMES)" in str(settings["fix"])
    assert "BIKE_FRAMES (nearest" not in str(settings["fix"])


def test_verbose_logs_on_stderr(sound: Ran) -> None:
    assert re.search(r"^info: self_test: checked in \d+\.\d\d s$", sound.stderr, re.M)
    assert [line for line in sound.stderr.splitlines() if not line.startswith("info: ")] == []


# -- broken libraries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("raise ImportError('no torch today')", "no torch today", marks=pytest.mark.slow),
        pytest.param(
            "raise OSError('libcudart.so.12: cannot open shared object file')",
            "libcudart.so.12",
            marks=pytest.mark.slow,
        ),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
    ],
)
def test_without_torch_there_is_a_report_and_exit_code_1(source: str, message: str, tmp_path: Path) -> None:
    ran = doctor_in_a_process("--json", "--offline", modules=broken(tmp_path, torch=source))

    found = checks(json.loads(ran.stdout))
    assert (ran.exit_code, ran.stderr) == (1, "")
    assert [name for name, check in found.items() if check["state"] == "problem"] == ["torch", "open_clip", "self_test"]
    assert message in str(found["torch"]["message"])
    assert "pip install" in str(found["torch"]["fix"])
    assert found["av"]["state"] == "ok"


@pytest.mark.slow
def test_everything_may_be_broken_at_once(tmp_path: Path) -> None:
    names = ("torch", "open_clip", "av", "decord", "PIL", "numpy", "huggingface_hub", "pebble", "sqlite3", "packaging")
    modules = broken(tmp_path, **dict.fromkeys(names, "raise ImportError('broken')"))

    ran = doctor_in_a_process(modules=modules)

    assert (ran.exit_code, ran.stderr) == (1, "")
    assert re.search(r"^\s+problem torch +cannot be imported \(ImportError: broken\)$", ran.stdout, re.M)
    assert re.search(r"^\s+problem PyAV +cannot be imported \(ImportError: broken\)$", ran.stdout, re.M)
    assert "Traceback" not in ran.stdout
    assert "bike does not work" in ran.stdout


def test_a_wrong_label_is_a_problem() -> None:
    facts = {"label": "blue star", "score": 0.9, "expected": "red circle", "load_s": 1.0, "classify_s": 1.0}

    check = doctor_checks.check_self_test(ProbeResult(facts))

    assert check.state == "problem"
    assert "the answer is blue star" in check.message


def test_a_wrong_setting_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIKE_WORKERS", "0")
    monkeypatch.setattr(doctor, "diagnose", lambda config, why_offline: iter(()))

    check = next(check for check in doctor.run_checks() if check.name == "settings")

    assert check.state == "problem"
    assert "workers is 0" in check.message


# -- judgements -------------------------------------------------------------------------------------------------------


GPU = {
    "name": "NVIDIA H100",
    "memory_bytes": 80 * 10**9,
    "free_bytes": 79 * 10**9,
    "compute_capability": "9.0",
    "error": None,
}
DEVICES = {
    "version": "2.8",
    "device": "cpu",
    "precision": "float32",
    "reason": "Found no NVIDIA driver on your system",
    "cudnn": None,
    "mps": False,
    "gpus": [],
    "error": None,
    "has_nvidia_gpu": False,
}


@pytest.mark.parametrize(
    ("changes", "state", "message"),
    [
        ({}, "ok", "auto chooses cpu in float32: Found no NVIDIA driver on your system"),
        ({"has_nvidia_gpu": True}, "warning", "this machine has an NVIDIA GPU"),
        ({"device": "cuda:0", "precision": "bfloat16", "gpus": [GPU]}, "ok", "cuda:0 NVIDIA H100, 79.0 GB of 80.0 GB"),
        ({"device": "cuda:0", "gpus": [GPU], "error": "no kernel image"}, "problem", "fails: no kernel image"),
        ({"device": "cuda:0", "gpus": [GPU, {**GPU, "error": "is lost"}]}, "warning", "cuda:1 fails: is lost"),
        ({"device": "mps", "mps": True, "reason": "the first GPU"}, "ok", "auto chooses mps"),
    ],
)
def test_devices_are_judged(
    changes: dict[str, object], state: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    check = doctor_checks.check_device(ProbeResult({**DEVICES, **changes}))

    assert (check.state, message in check.message) == (state, True), check.message
    assert (check.fix is None) == (state == "ok")


def test_a_gpu_that_was_hidden_on_purpose_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert doctor_checks.check_device(ProbeResult({**DEVICES, "has_nvidia_gpu": True})).state == "ok"


def test_a_gpu_that_is_hidden_by_mistake_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")

    check = doctor_checks.check_device(ProbeResult({**DEVICES, "has_nvidia_gpu": True}))

    assert (check.state, "CUDA_VISIBLE_DEVICES=7" in check.message) == ("warning", True)


CACHE = {
    "folder": "/c",
    "bytes": 1,
    "videos": 1,
    "error": None,
    "free_bytes": 10**12,
    "file_system": "ext4",
    "is_network": False,
}


@pytest.mark.parametrize(
    ("changes", "state", "message"),
    [
        ({}, "ok", "/c, 1 byte, 1 video, 1.0 TB free"),
        ({"error": "permission denied"}, "warning", "cannot be written (permission denied)"),
        ({"file_system": "nfs4", "is_network": True}, "warning", "is on a network file system (nfs4)"),
        ({"free_bytes": 1000}, "warning", "almost full"),
    ],
)
def test_the_cache_is_judged(changes: dict[str, object], state: str, message: str) -> None:
    check = doctor_checks.check_cache(ProbeResult({**CACHE, **changes}))

    assert (check.state, message in check.message) == (state, True), check.message


@pytest.mark.parametrize(
    ("error", "error_type", "state"),
    [
        ("/c: is damaged (x); start over", "StoreError", "problem"),
        ("/c: cannot be opened (x); name another", "OutOfReachError", "warning"),
        ("did not answer within 20 s", None, "warning"),
    ],
)
def test_a_cache_that_cannot_be_read_is_judged(error: str, error_type: str | None, state: str) -> None:
    check = doctor_checks.check_cache(ProbeResult({}, error, error_type))

    assert check.state == state
    assert check.fix


@pytest.mark.parametrize(
    ("result", "state", "message"),
    [
        (ProbeResult({"endpoint": "https://h", "status": 200, "seconds": 0.2}), "ok", "https://h answers in 0.2 s"),
        (ProbeResult({"endpoint": "https://h", "status": 503, "seconds": 0.2}), "warning", "HTTP status 503"),
        (ProbeResult({"endpoint": "https://h", "status": 407, "seconds": 0.2}), "warning", "HTTP status 407"),
        (ProbeResult({"endpoint": "https://h", "status": None, "seconds": 3}), "warning", "no answer within 3 s"),
        (ProbeResult({}, "Name or service not known", "ConnectError"), "warning", "cannot be reached (Name or"),
    ],
)
def test_the_hub_is_judged(result: ProbeResult, state: str, message: str) -> None:
    check = doctor_checks.check_hub(result, None)

    assert (check.state, message in check.message) == (state, True), check.message


def test_too_few_open_files_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_open_file_limits", lambda: (64, 100))

    check = doctor_checks.check_workers(ProbeResult({"workers": 32, "open_files_needed": 320}))

    assert (check.state, "320 are needed" in check.message) == ("problem", True)


def test_a_codec_that_is_missing_is_a_warning() -> None:
    facts = {"version": "18", "ffmpeg": "8", "libraries": {"libavcodec": "62"}, "missing_codecs": ["h264"]}

    check = doctor_checks.check_av(ProbeResult(facts))

    assert (check.state, "cannot decode h264" in check.message) == ("warning", True)


# -- environment --------------------------------------------------------------------------------------------------


def test_variables_of_the_network_are_shown_without_secrets() -> None:
    check = environment_checks.check_network_variables(
        {**SECRETS, "NO_PROXY": "localhost", "PATH": "/bin", "HF_HOME": ""}
    )

    assert check.details == {
        "HF_TOKEN": "(set, not shown)",
        "HTTPS_PROXY": "http://***@proxy.invalid:3128",
        "http_proxy": "http://***@proxy.invalid:3128",
        "HF_ENDPOINT": "https://***@mirror.invalid/hub?***",
        "NO_PROXY": "localhost",
    }


@pytest.mark.parametrize(
    ("environment", "offline", "reason"),
    [
        ({}, False, None),
        ({"HF_HUB_OFFLINE": "1"}, False, "HF_HUB_OFFLINE is set"),
        ({"HF_HUB_OFFLINE": "0"}, False, None),
        ({"TRANSFORMERS_OFFLINE": "yes"}, False, "TRANSFORMERS_OFFLINE is set"),
        ({"BIKE_OFFLINE": "true"}, True, "BIKE_OFFLINE is set"),
        ({}, True, "--offline was given"),
    ],
)
def test_the_reason_to_be_offline_is_known(environment: dict[str, str], offline: bool, reason: str | None) -> None:
    assert environment_checks.why_offline(ClassifyConfig(engine=EngineConfig(offline=offline)), environment) == reason


def test_all_documented_variables_are_known() -> None:
    names = {"BIKE_MODEL", "BIKE_SHOTS", "BIKE_EPOCHS", "BIKE_RESAMPLES", "BIKE_CACHE_DIR"}

    assert environment_checks.check_settings(None, dict.fromkeys(names, "1")).state == "ok"


def test_a_package_that_does_not_fit_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["typer>=999", "not-there-at-all>=1", "rich>=1", "gone>=1; python_version < '3'", "x; extra == 'x'"]
    monkeypatch.setattr(environment_checks.metadata, "requires", lambda name: requirements)

    check = environment_checks.check_packages()

    assert check.state == "warning"
    unmet = check.details["unmet"]
    assert isinstance(unmet, list)
    assert [text.split()[0] for text in unmet] == ["typer", "not-there-at-all"]


# -- output -----------------------------------------------------------------------------------------------------------


def patched(monkeypatch: pytest.MonkeyPatch, changed: Sequence[Check] = ()) -> None:
    by_name = {check.name: check for check in changed}
    sound = [by_name.get(name, Check(name, "ok", "fine")) for name in NAMES]
    monkeypatch.setattr(doctor, "run_checks", lambda **_: sound)


PATH = "/a/path/without/any/space" * 6
LONG = f"{'word ' * 40}{PATH}"


@pytest.mark.parametrize("columns", [80, 60])
def test_a_terminal_gets_a_report_of_its_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, [Check("cache", "warning", LONG, LONG), Check("av", "problem", "x", "y")])

    ran = bike_on_terminal("doctor", columns=columns)

    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", ran.stdout)
    assert max(cells(line) for line in plain.splitlines() if PATH not in line) <= columns
    assert "\x1b[" in ran.stdout
    assert "fix: y" in plain


def test_a_path_that_is_longer_than_the_line_can_be_copied_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, [Check("cache", "warning", LONG, f"remove {PATH}")])

    assert bike_on_terminal("doctor", columns=60).stdout.count(PATH) == 2


def test_a_pipe_gets_plain_text_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    patched(monkeypatch, [Check("cache", "warning", LONG, LONG)])

    ran = bike("doctor")

    assert max(len(line) for line in ran.stdout.splitlines() if PATH not in line) <= 80
    assert [line for line in ran.stdout.splitlines() if line != line.rstrip()] == []
    assert "\x1b" not in ran.stdout
    assert ran.stdout.splitlines()[-1] == "1 warning: bike works."
    titles = [line for line in ran.stdout.splitlines() if line and not line.startswith(" ")]
    assert titles[:-1] == ["Software", "Machine", "Files", "Network", "Environment", "Self-test"]


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("problem", 1)])
def test_only_a_problem_fails(state: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, [Check("cache", state, "x", "y")])  # type: ignore[arg-type]

    assert bike("doctor").exit_code == code
    ran = bike("doctor", "--json")
    assert (ran.exit_code, json.loads(ran.stdout)["status"]) == (code, state)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_steers_the_terminal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, [Check("cache", "warning", text, text, {"folder": text})])

    assert steering(bike("doctor").stdout) <= {"\n"}
    ran = bike("doctor", "--json")
    assert steering(ran.stdout) <= {"\n"}
    assert json.loads(ran.stdout)["checks"]["cache"]["details"]["folder"] == text


def test_the_home_folder_is_only_shortened_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    assert doctor._presentable("/home/me/x, /home/me, /home/men/x, /home/me.old") == "~/x, ~, /home/men/x, /home/me.old"


def test_a_root_home_shortens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")

    assert doctor._presentable("/a/b") == "/a/b"


def test_the_wheel_carries_the_example() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    clip = self_test_clip()

    assert clip is not None
    assert build["force-include"][f"examples/{SELF_TEST_CLIP}"] == f"bike_cli/examples/{SELF_TEST_CLIP}"
    assert (ROOT / "examples" / SELF_TEST_CLIP).is_file()


def test_the_version_stays_one_line() -> None:
    assert bike("--version").stdout == f"bike {bike_cli.__version__}\n"


def test_the_encoding_of_stdout_is_known_while_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))

    with Console(file=sys.stdout, force_terminal=True).status("checking"):
        found = environment_checks.check_encoding()

    assert found.details["stdout"] == "utf-8"
