"""The house: who may know whom, where libraries live, how long a function may be, what a start costs."""

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import bike_cli

PACKAGE = Path(bike_cli.__file__).parent
SOURCES = {".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts): f.read_text() for f in PACKAGE.rglob("*.py")}

BASE = {
    *("records", "config", "errors", "json_text", "locks", "media", "scratch"),
    *("settings", "shapes", "time_limits", "versions", "wording"),
}
MAY_KNOW = {
    "cli": {"tasks", "inference", "engine", "video", "data", *BASE, "bike_cli"},
    "tasks": {"inference", "engine", "video", "data", *BASE},
    "inference": {"engine", "video", "data", *BASE},
    "engine": BASE,
    "video": BASE,
    "data": BASE,
    "records": BASE,
    "config": BASE,
    "errors": BASE,
    "json_text": BASE,
    "locks": BASE,
    "media": BASE,
    "scratch": BASE,
    "settings": BASE,
    "shapes": BASE,
    "time_limits": BASE,
    "versions": BASE,
    "wording": BASE,
}
HOMES = {  # library -> the modules that may import it
    "torch": ("engine", "inference", "tasks"),
    "open_clip": ("engine",),
    "torchvision": ("engine",),
    "safetensors": ("engine",),
    "tokenizers": ("engine",),
    "sqlite3": ("engine",),
    "huggingface_hub": ("engine",),
    "pyarrow": ("data",),
    "fsspec": ("data.remote",),
    "ray": ("tasks.cluster",),
    "decord": ("video",),
    "av": ("video",),
    "PIL": ("video", "engine.towers.transforms"),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli", "tasks.doctor.checks"),  # the checks format sizes as `bike cache` does
    "jinja2": ("cli.eval.page", "cli.pages", "cli.spot.page"),
    "markupsafe": ("cli.pages", "cli.spot.page"),
}
LONGEST = 60  # lines of a function
LONGEST_FILE = 400  # lines
MOST_METHODS = 20  # of a class
MOST_FILES = 15  # Python files in a folder


# -- the checks: each returns what is wrong with one module -------------------------------------------------------


class Import(NamedTuple):
    line: int
    name: str  # bike_cli.engine.scoring.probabilities, torch
    for_types_only: bool


def imports(module: str, source: str) -> Iterator[Import]:
    """Yield every import of a module, at its top or inside a function, by its full name."""
    tree = ast.parse(source)
    blocks = [node.body for node in ast.walk(tree) if isinstance(node, ast.If) and _is_type_checking(node.test)]
    of_types = {id(node) for body in blocks for statement in body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.rsplit(".", node.level)[0] + "." if node.level else ""
            names = [f"{package}{node.module or ''}".rstrip(".") + f".{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(node.lineno, name, id(node) in of_types) for name in names)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def layer_of(name: str) -> str:
    """Return `engine` of `bike_cli.engine.scoring`; the package's own name for the face, which knows all layers."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_KNOW else "bike_cli"


def wrong_ways(module: str, source: str) -> list[str]:
    """Imports against the direction cli -> tasks -> inference -> engine, video, data -> records, config, errors."""
    here = layer_of(module)
    if here == "bike_cli":
        return []
    allowed = MAY_KNOW[here] | {here}
    ours = [i for i in imports(module, source) if i.name.split(".")[0] == "bike_cli"]
    return [f"{module}:{i.line} imports {i.name}" for i in ours if layer_of(i.name) not in allowed]


SHARED_BY_COMMANDS = {"completion", "flags", "help", "options", "session", "pages", "plots", "terminal", "videos"}


def command_of(name: str) -> str | None:
    """Return `finetune` of `bike_cli.cli.finetune_view.View`; None outside of commands."""
    parts = name.split(".")
    if parts[:2] != ["bike_cli", "cli"] or len(parts) < 3 or parts[2] in {*SHARED_BY_COMMANDS, "app", "__init__"}:
        return None
    return parts[2].split("_")[0]


def commands_used_by_commands(module: str, source: str) -> list[str]:
    """Imports of one command by another; what they share is in modules of its own."""
    here = command_of(module)
    if module == "bike_cli.cli.app" or not module.startswith("bike_cli.cli."):
        return []
    ours = [i for i in imports(module, source) if command_of(i.name) not in (None, here)]
    return [f"{module}:{i.line} imports {i.name}" for i in ours]


def strays(module: str, source: str) -> list[str]:
    """Imports of a library outside its home; an import for types alone costs nothing and binds nothing."""
    return [
        f"{module}:{i.line} imports {i.name}"
        for i in imports(module, source)
        if not i.for_types_only and not _is_home(module, of=i.name.split(".")[0])
    ]


def _is_home(module: str, *, of: str) -> bool:
    homes = tuple(f"bike_cli.{home}" for home in HOMES.get(of, ()))
    return of not in HOMES or any(module == home or module.startswith(f"{home}.") for home in homes)


def imports_by_name(module: str, source: str) -> list[str]:
    """Imports that hide from the checks above."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    hidden = [c for c in calls if ast.unparse(c.func).split(".")[-1] in ("import_module", "__import__")]
    return [f"{module}:{call.lineno} imports by name" for call in hidden]


def long_functions(module: str, source: str) -> list[str]:
    lengths = [(f.name, (f.end_lineno or 0) - f.lineno + 1) for f in _functions(ast.parse(source))]
    return [f"{module}.{name} has {length} lines" for name, length in lengths if length > LONGEST]


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def large(module: str, source: str) -> list[str]:
    """Files and classes that are too large to know."""
    lines = len(source.splitlines())
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    counts = {
        c.name: sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in c.body) for c in classes
    }
    return [f"{module} has {lines} lines"] * (lines > LONGEST_FILE) + [
        f"{module}.{name} has {count} methods" for name, count in counts.items() if count > MOST_METHODS
    ]


def private_imports(module: str, source: str) -> list[str]:
    """Private names of other modules of ours, imported or reached through the module."""
    ours = [i for i in imports(module, source) if i.name.split(".")[0] == "bike_cli"]
    found = [f"{module}:{i.line} imports {i.name}" for i in ours if _is_private(i.name.split(".")[-1])]
    modules = {i.name.split(".")[-1] for i in ours if i.name in SOURCES}
    return found + [
        f"{module}:{node.lineno} uses {node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in modules and _is_private(node.attr)
    ]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def unexplained(module: str, source: str) -> list[str]:
    """Public functions and methods without a docstring, an argument's type or the result's."""
    public = list(_public_functions(ast.parse(source)))
    silent = [f"{module}.{f.name} has no docstring" for f in public if ast.get_docstring(f) is None]
    return silent + [f"{module}.{f.name} lacks a type" for f in public if not _is_annotated(f)]


def _public_functions(tree: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node


def _is_annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    a = function.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x is not None)]
    return function.returns is not None and all(x.annotation or x.arg in ("self", "cls") for x in given)


def untyped_dictionaries(module: str, source: str) -> list[str]:
    """Dictionaries of anything that cross modules of cli/: a dataclass, or a type with a name, would say what is in."""
    if not module.startswith("bike_cli.cli."):
        return []
    found = []
    for function in _public_functions(ast.parse(source)):
        a = function.args
        annotations = [x.annotation for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)] + [function.returns]
        texts = [ast.unparse(annotation) for annotation in annotations if annotation is not None]
        found += [f"{module}.{function.name}: {text}" for text in texts if _ANYTHING.search(text)]
    return found


_ANYTHING = re.compile(r"\b(dict|Mapping|MutableMapping)\[str, (object|Any)\]")


def blanket_excepts(module: str, source: str) -> list[str]:
    handlers = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler)]
    blankets = [h for h in handlers if h.type is None or {"Exception", "BaseException"} & _names(h.type)]
    return [f"{module}:{handler.lineno} catches everything" for handler in blankets]


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


# -- the promises -------------------------------------------------------------------------------------------------


def test_every_module_is_looked_at() -> None:
    assert {"bike_cli", "cli", "tasks", "inference", "engine", "video", "data", *BASE} == {
        layer_of(module) for module in SOURCES
    }


def test_imports_go_one_way() -> None:
    assert [wrong for module, source in SOURCES.items() for wrong in wrong_ways(module, source)] == []


def test_no_dictionary_of_anything_crosses_modules_of_the_command_line() -> None:
    assert [wrong for module, source in SOURCES.items() for wrong in untyped_dictionaries(module, source)] == []


@pytest.mark.parametrize(
    "signature", ["f(x: dict[str, object])", "f(*, x: Mapping[str, Any] | None)", "f() -> list[dict[str, object]]"]
)
def test_a_dictionary_of_anything_is_found(signature: str) -> None:
    assert len(untyped_dictionaries("bike_cli.cli.finetune", f"def {signature}: ...")) == 1
    assert untyped_dictionaries("bike_cli.cli.finetune", f"def _{signature}: ...") == []


def test_no_command_uses_another() -> None:
    assert [wrong for module, source in SOURCES.items() for wrong in commands_used_by_commands(module, source)] == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("bike_cli.cli.models", "from bike_cli.cli.classify.rows import as_cells", 1),
        ("bike_cli.cli.session", "from bike_cli.cli.fewshot import fewshot", 1),
        ("bike_cli.cli.finetune", "def f():\n    from bike_cli.cli.finetune_view import View", 0),
        ("bike_cli.cli.eval.page", "from bike_cli.cli.eval.wording import percent", 0),
        ("bike_cli.cli.app", "from bike_cli.cli.export import export_command", 0),
    ],
)
def test_a_command_that_uses_another_is_seen(module: str, source: str, count: int) -> None:
    assert len(commands_used_by_commands(module, source)) == count


def test_every_library_stays_in_its_home() -> None:
    assert [stray for module, source in SOURCES.items() for stray in strays(module, source)] == []


def test_only_the_public_face_imports_by_name() -> None:
    found = [hidden for module, source in SOURCES.items() for hidden in imports_by_name(module, source)]

    assert [hidden for hidden in found if not hidden.startswith("bike_cli.__init__:")] == []
    assert len(found) == 1


def test_no_function_is_longer_than_a_screen() -> None:
    assert [long for module, source in SOURCES.items() for long in long_functions(module, source)] == []


def test_no_file_or_class_is_too_large_to_know() -> None:
    assert [fault for m, s in SOURCES.items() for fault in large(m, s)] == []


def test_no_module_uses_a_private_name_of_another() -> None:
    assert [fault for m, s in SOURCES.items() for fault in private_imports(m, s)] == []


def test_no_folder_is_crowded() -> None:
    files = Counter(file.parent for file in PACKAGE.rglob("*.py"))

    assert {folder.name: number for folder, number in files.items() if number > MOST_FILES} == {}


def test_public_functions_are_documented_and_typed() -> None:
    library = {module: source for module, source in SOURCES.items() if layer_of(module) != "cli"}

    assert [silent for module, source in library.items() for silent in unexplained(module, source)] == []


def test_no_module_catches_everything() -> None:
    found = [caught for module, source in SOURCES.items() for caught in blanket_excepts(module, source)]

    # What a call raises in the thread that waits for a file system, `call_with_timeout` raises in its caller's. The
    # tokenizers library raises `Exception` itself.
    allowed = ("bike_cli.time_limits:", "bike_cli.engine.towers.tokenizers:")
    assert [caught for caught in found if not caught.startswith(allowed)] == []
    assert len(found) == len(allowed)


# -- the checks themselves: each sees the fault it is there for ---------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bike_cli.engine.scoring", "import bike_cli.video.decoding"),
        ("bike_cli.engine.scoring", "def f():\n    from bike_cli.data.labels import fill"),
        ("bike_cli.engine.scoring", "import bike_cli"),
        ("bike_cli.engine.scoring", "from bike_cli import tasks"),
        ("bike_cli.engine.scoring", "from ..tasks.classify import classify"),
        ("bike_cli.video.decoding", "from .. import engine"),
        ("bike_cli.data.labels", "if TYPE_CHECKING:\n    from bike_cli.cli.classify.rows import Cell"),
        ("bike_cli.tasks.classify", "from bike_cli.cli import rows"),
        ("bike_cli.inference.features", "from bike_cli.tasks.classify import classify"),
        ("bike_cli.records", "from bike_cli.data.labels import fill"),
    ],
)
def test_a_wrong_way_is_seen(module: str, source: str) -> None:
    assert len(wrong_ways(module, source)) == 1


def test_the_right_way_is_none() -> None:
    source = "from bike_cli.config import Spot\nfrom .scoring import probabilities\nimport numpy"

    assert wrong_ways("bike_cli.engine.spotting", source) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bike_cli.records", "import torch"),
        ("bike_cli.video.decoding", "def f():\n    from torch.nn import functional"),
        ("bike_cli.tasks.classify", "import open_clip"),
        ("bike_cli.data.inputs", "import av"),
        ("bike_cli.engine.spotting", "from PIL import Image"),
        ("bike_cli.tasks.classify", "import rich.table"),
        ("bike_cli.clips", "import typer"),
        ("bike_cli.records", "if not TYPE_CHECKING:\n    import torch"),
        ("bike_cli.records", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
    ],
)
def test_a_stray_library_is_seen(module: str, source: str) -> None:
    assert len(strays(module, source)) == 1


def test_a_library_for_types_alone_is_no_stray() -> None:
    assert strays("bike_cli.records", "if TYPE_CHECKING:\n    from torch import Tensor") == []


@pytest.mark.parametrize("source", ["importlib.import_module('torch')", "__import__('torch')"])
def test_an_import_by_name_is_seen(source: str) -> None:
    assert imports_by_name("bike_cli.data.labels", source) == ["bike_cli.data.labels:1 imports by name"]


@pytest.mark.parametrize(("lines", "wrong"), [(LONGEST, 0), (LONGEST + 1, 1)])
def test_a_long_function_is_seen(lines: int, wrong: int) -> None:
    source = "class A:\n    def f(self):\n" + "        pass\n" * (lines - 1)

    assert len(long_functions("m", source)) == wrong


@pytest.mark.parametrize(("lines", "wrong"), [(LONGEST_FILE, 0), (LONGEST_FILE + 1, 1)])
def test_a_long_file_is_seen(lines: int, wrong: int) -> None:
    assert len(large("m", "pass\n" * lines)) == wrong


@pytest.mark.parametrize(("methods", "wrong"), [(MOST_METHODS, 0), (MOST_METHODS + 1, 1)])
def test_a_class_of_many_methods_is_seen(methods: int, wrong: int) -> None:
    source = "class A:\n" + "".join(f"    def f{i}(self): ...\n" for i in range(methods))

    assert len(large("m", source)) == wrong


@pytest.mark.parametrize(
    "source",
    [
        "from bike_cli.engine.scoring import _secret",
        "def f():\n    from bike_cli.engine.scoring import _secret",
        "from bike_cli.engine import scoring\nscoring._secret()",
    ],
)
def test_a_private_name_of_another_module_is_seen(source: str) -> None:
    assert len(private_imports("bike_cli.tasks.classify", source)) == 1


def test_private_names_of_ones_own_and_of_libraries_are_no_fault() -> None:
    assert private_imports("bike_cli.tasks.classify", "import os\nos._exit(1)\nself._secret = row._replace()") == []


@pytest.mark.parametrize(
    "source",
    [
        "def f() -> int:\n    return 1",
        "class A:\n    def f(self) -> int:\n        return 1",
        "def f():\n    'Return 1.'",
        "def f(x) -> int:\n    'Return 1.'",
        "def f(*, x) -> int:\n    'Return 1.'",
        "def f(**x) -> int:\n    'Return 1.'",
    ],
)
def test_an_unexplained_function_is_seen(source: str) -> None:
    assert len(unexplained("m", source)) == 1


def test_private_functions_may_be_silent() -> None:
    assert unexplained("m", "def _f(x): ...\nclass _A:\n    def f(self): ...") == []


@pytest.mark.parametrize("caught", ["", " Exception", " BaseException as e", " (OSError, Exception)"])
def test_a_blanket_except_is_seen(caught: str) -> None:
    assert len(blanket_excepts("m", f"try:\n    f()\nexcept{caught}:\n    raise")) == 1


# -- what a start costs -------------------------------------------------------------------------------------------


def imported_by(*arguments: str) -> set[str]:
    """Return the top-level packages that `python ARGUMENTS` imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    modules = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {module.split(".")[0] for module in modules}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import bike_cli"),
        ("-m", "bike_cli", "--help"),
        ("-m", "bike_cli", "--version"),
        ("-m", "bike_cli", "classify", "--help"),
        ("-m", "bike_cli", "classify", "--dump-config"),
        ("-m", "bike_cli", "cache", "info"),
        ("-m", "bike_cli", "doctor", "--help"),
        ("-m", "bike_cli", "models", "--help"),
        ("-m", "bike_cli", "models", "pull", "--help"),
        ("-c", "import bike_cli.data.labels, bike_cli.video.decoding"),  # what decode workers need
    ],
)
def test_no_torch_where_nothing_is_computed(arguments: tuple[str, ...]) -> None:
    packages = imported_by(*arguments)

    assert "bike_cli" in packages
    assert not packages & {"torch", "open_clip"}


def test_the_doctor_imports_nothing_that_may_be_broken() -> None:
    modules = "bike_cli.cli.doctor.command, bike_cli.cli.doctor.environment_checks, bike_cli.tasks.doctor.checks"
    modules += ", bike_cli.tasks.doctor.probe_process"

    packages = imported_by("-c", f"import {modules}")

    assert not packages & {"torch", "open_clip", "av", "decord", "numpy", "PIL", "huggingface_hub", "sqlite3", "pebble"}


def test_help_imports_no_network_processes_or_clusters() -> None:
    packages = imported_by("-m", "bike_cli", "classify", "--help")

    assert not packages & {"pebble", "asyncio", "http", "ssl", "pyarrow", "ray", "fsspec", "pandas"}


def test_a_costly_import_would_be_seen() -> None:
    assert "wave" in imported_by("-c", "def f():\n    import wave\nf()")


# -- public names -------------------------------------------------------------------------------------------------


def test_dir_shows_public_names_only() -> None:
    importlib.import_module("bike_cli.tasks.classify")
    assert "tasks" in vars(bike_cli)  # as every module that was imported

    assert {name for name in dir(bike_cli) if not name.startswith("__")} == set(bike_cli.__all__)


def test_public_names_are_sorted_and_what_type_checkers_see() -> None:
    seen = {i.name.rsplit(".", 1)[1] for i in imports("bike_cli", SOURCES["bike_cli.__init__"]) if i.for_types_only}

    assert bike_cli.__all__ == sorted(seen)


@pytest.mark.parametrize(
    "typed",
    [i for i in imports("bike_cli", SOURCES["bike_cli.__init__"]) if i.for_types_only],
    ids=lambda typed: typed.name,
)
def test_a_public_name_is_what_its_type_says(typed: Import) -> None:
    home, name = typed.name.rsplit(".", 1)
    __import__(home)

    assert getattr(bike_cli, name) is getattr(sys.modules[home], name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        bike_cli.clasify  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LabelledSet", "TrainSet"),
        ("Learnt", "SavedClassifier"),
        ("load_learnt", "load_classifier"),
        ("save_learnt", "save_classifier"),
    ],
)
def test_the_old_name_of_a_public_name_works_with_a_warning(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"bike_cli.{old} was renamed to bike_cli.{new}"):
        assert getattr(bike_cli, old) is getattr(bike_cli, new)
