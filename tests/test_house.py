"""The package loads fast, its imports flow one way, and the command says what it can do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.models import small_model

import gradcam_callbacks
from gradcam_callbacks.cli import main

PACKAGE = Path(gradcam_callbacks.__file__).parent

# The house, from the ground up. A room may import what lies on lower floors, and itself. Nothing looks up, and two
# rooms of one floor do not know each other.
FLOORS = (
    {"arrays", "errors", "names", "native_log", "notebook"},
    {"concentration", "ranks", "regular_files", "versions"},
    {"drawing"},
    {"probes", "record"},
    {"explaining", "reviewing"},
    {"publishing"},
    {"training", "sweeping"},
    {"callback"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
# Where the large libraries may be imported, at all or inside of functions.
LARGE = {
    "tensorflow": {f"explaining/engines/tensorflow_{part}.py" for part in ("engine", "state", "internals")},
    "jax": {f"explaining/engines/jax_{part}.py" for part in ("engine", "graph", "primitives", "internals")},
    "keras": {"explaining", "training", "sweeping", "callback", "demo", "cli"},
    "mlflow": {"publishing/mlflow_store.py", "demo/run.py"},
}


def room_of(file: Path) -> str:
    """The folder of a file, or the file itself where it stands in none."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "gradcam_callbacks"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if whole else {node.module}
    return names


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file: Path) -> None:
    """No file imports a room of its own floor or of one above."""
    room = room_of(file)
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    allowed = {room}.union(*FLOORS[:floor])
    found = {name.split(".")[1] for name in imports(file) if name.startswith("gradcam_callbacks.")}
    assert found <= allowed


@pytest.mark.parametrize("library", LARGE)
def test_a_large_library_has_its_rooms(library: str) -> None:
    """Only explaining/ differentiates, and MLflow begins in one file; the demo trains and tracks as a user does."""
    found = {file for file in FILES if library in {name.split(".")[0] for name in imports(file)}}
    strangers = {
        str(file.relative_to(PACKAGE))
        for file in found
        if not {room_of(file), str(file.relative_to(PACKAGE))} & LARGE[library]
    }
    assert not strangers


# Where private interfaces of others are used, and nowhere else: one file a library.
PRIVATE = {
    "explaining/keras_internals.py",
    "explaining/engines/tensorflow_internals.py",
    "publishing/mlflow_store.py",
    # Keras tells callbacks nothing of a `fit` that raises, so this file looks for its frames with Python's `_getframe`.
    "training/failed_fit.py",
}


def is_private(name: object) -> bool:
    # `_fields` of named tuples is documented.
    return isinstance(name, str) and re.fullmatch(r"_[A-Za-z]\w*|__dict__", name) is not None and name != "_fields"


def private_names_of_others(tree: ast.Module) -> set[str]:
    """The private names that a file uses and does not define: as attributes, imports, keys, and in `getattr`."""
    used, own = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=name)):
                used.add(name)
            case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=name), *_]):
                used.add(name)
            case ast.ImportFrom(module=module, names=names):
                used |= {*(module or "").split("."), *(alias.name for alias in names)}
            case ast.Import(names=names):
                used |= {part for alias in names for part in alias.name.split(".")}
    return {name for name in used - own if is_private(name)}


def test_private_interfaces_of_others_stand_in_one_file_a_library() -> None:
    """No other file touches a name with an underscore that it does not define itself."""
    found = {
        file.relative_to(PACKAGE).as_posix(): private_names_of_others(ast.parse(file.read_text(encoding="utf-8")))
        for file in PACKAGE.rglob("*.py")
    }
    assert {name: names for name, names in found.items() if names and name not in PRIVATE} == {}
    files = ("keras_internals", "engines/tensorflow_internals")
    keras, tensorflow = (found[f"explaining/{file}.py"] for file in files)
    assert keras == {
        *(
            "_flatten_layers",
            "_nodes_by_depth",
            "_inbound_nodes",
            "_losses",
            "_value",
            "_jax_state",
            "_iterations",
            "__dict__",
        )
    }
    assert tensorflow == {"_XlaMustCompile", "_get_function", "_handle_data"}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a statement loads in a fresh process."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in json.loads(output.splitlines()[-1])}


@pytest.mark.parametrize(
    "statement",
    [
        "import gradcam_callbacks",
        "import gradcam_callbacks.cli",
        "from gradcam_callbacks import ProbeSet, explain, Explainer, Explanation",
        "import gradcam_callbacks.record.journal, gradcam_callbacks.reviewing.report, gradcam_callbacks.drawing",
    ],
)
def test_importing_loads_neither_tensorflow_nor_mlflow(statement: str) -> None:
    """Nothing heavy is loaded before it is used."""
    assert not loaded_by(statement) & {"tensorflow", "keras", "mlflow"}


def test_the_public_names_are_sorted_and_there() -> None:
    """Every name of __all__ is an object of that name, whatever was imported before; others are refused."""
    assert gradcam_callbacks.__all__ == sorted(gradcam_callbacks.__all__)
    for name in gradcam_callbacks.__all__:
        value = getattr(gradcam_callbacks, name)
        assert getattr(value, "__name__", name) == name  # METHODS is a mapping and has none
    with pytest.raises(AttributeError, match="has no attribute 'explane'"):
        gradcam_callbacks.explane  # noqa: B018


def gradcam(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gradcam_callbacks.cli import main; main(prog_name='gradcam')", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def here(*arguments: str) -> Result:
    """The command in this process, which has loaded TensorFlow already."""
    return CliRunner().invoke(main, arguments, prog_name="gradcam", env={"COLUMNS": "200"})


def test_help_says_what_each_verb_does() -> None:
    """`gradcam --help` lists the verbs and exits with 0; an unknown one exits with 2."""
    finished = gradcam("--help")
    assert finished.returncode == 0
    assert re.search(r"demo +Catch a network that looks at a watermark\.", finished.stdout)
    assert re.search(r"layers +List the layers of MODEL that can be explained\.", finished.stdout)
    assert gradcam("dance").returncode == 2


def test_layers_lists_what_can_be_explained(tmp_path: Path) -> None:
    """`gradcam layers` shows path, type and shape of each layer in a table or as JSON, and marks the one picked."""
    file = str(tmp_path / "small.keras")
    small_model().save(file)
    entries = json.loads(here("layers", file, "--json").stdout)
    assert entries == [{"path": "conv", "type": "Conv2D", "shape": [None, 14, 14, 6], "picked": True}]
    finished = here("layers", file)
    assert finished.exit_code == 0
    assert "The layers of 'small' that can be explained" in finished.stdout
    row = next(line for line in finished.stdout.splitlines() if "Conv2D" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["conv", "Conv2D", "(None, 14, 14, 6)", "picked"]
    (tmp_path / "broken.keras").write_text("not a model")
    failed = here("layers", str(tmp_path / "broken.keras"))
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in failed.stderr


def test_an_error_is_one_line_and_a_traceback_only_with_debug(tmp_path: Path) -> None:
    """What fails exits with 1 and says why in one line on stderr."""
    (tmp_path / "file").write_text("in the way")
    arguments = ("demo", "--out", str(tmp_path / "file" / "below"))
    finished = here(*arguments)
    assert finished.exit_code == 1
    assert finished.stderr.splitlines()[-1].startswith("Error: ")
    assert "Not a directory" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
    assert isinstance(here("--debug", *arguments).exception, NotADirectoryError)  # of which Python prints the traceback
