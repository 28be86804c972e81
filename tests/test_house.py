"""The package loads fast, its imports flow one way, and the command says what it can do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.models import small_model

import gradcam_callbacks

PACKAGE = Path(gradcam_callbacks.__file__).parent

# The house, from the ground up. A room may import what lies on lower floors, and itself. Nothing looks up, and two
# rooms of one floor do not know each other.
FLOORS = (
    {"arrays", "errors", "names", "native_log"},
    {"drawing"},
    {"probes", "record"},
    {"explaining", "reviewing"},
    {"publishing"},
    {"training", "sweeping"},
    {"callback"},
    {"demo"},
    {"cli"},
)
# Where the large libraries may be imported, at all or inside of functions.
LARGE = {
    "tensorflow": {"explaining"},
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
        assert getattr(gradcam_callbacks, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'explane'"):
        gradcam_callbacks.explane  # noqa: B018


def gradcam(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gradcam_callbacks.cli import main; main(prog_name='gradcam')", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_help_says_what_each_verb_does() -> None:
    """`gradcam --help` lists the verbs and exits with 0; an unknown one exits with 2."""
    finished = gradcam("--help")
    assert finished.returncode == 0
    assert re.search(r"demo +Catch a network that looks at a watermark\.", finished.stdout)
    assert re.search(r"layers +List the layers of MODEL that can be explained\.", finished.stdout)
    assert gradcam("dance").returncode == 2


@pytest.mark.usefixtures("process")
def test_layers_lists_what_can_be_explained(tmp_path: Path) -> None:
    """`gradcam layers` shows path, type and shape of each layer in a table or as JSON, and marks the one picked."""
    file = str(tmp_path / "small.keras")
    small_model().save(file)
    entries = json.loads(gradcam("layers", file, "--json").stdout)
    assert entries == [{"path": "conv", "type": "Conv2D", "shape": [None, 14, 14, 6], "picked": True}]
    finished = gradcam("layers", file)
    assert finished.returncode == 0
    assert "The layers of 'small' that can be explained" in finished.stdout
    row = next(line for line in finished.stdout.splitlines() if "Conv2D" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["conv", "Conv2D", "(None, 14, 14, 6)", "picked"]
    (tmp_path / "broken.keras").write_text("not a model")
    failed = gradcam("layers", str(tmp_path / "broken.keras"))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in failed.stderr


@pytest.mark.usefixtures("process")
def test_an_error_is_one_line_and_a_traceback_only_with_debug(tmp_path: Path) -> None:
    """What fails exits with 1 and says why in one line on stderr."""
    (tmp_path / "file").write_text("in the way")
    arguments = ("demo", "--out", str(tmp_path / "file" / "below"))
    finished = gradcam(*arguments)
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith("Error: ")
    assert "Not a directory" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
    assert "Traceback" in gradcam("--debug", *arguments).stderr
