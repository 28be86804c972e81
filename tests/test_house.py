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

# What each file may import of ours; what is missing here may import nothing.
MAY_IMPORT = {
    "ranks": {"arrays"},
    "probes": {"render"},
    "answers": {"layers", "probes"},
    "capture": {"answers", "layers", "methods", "probes"},
    "heatmap": {"capture", "layers", "methods", "probes", "render"},
    "quality": {"heatmap", "probes", "render"},
    "standalone": {"heatmap", "probes", "render"},
    "callback": {"heatmap", "journal", "probes", "recorder", "tracking"},
    "checkpoints": {"capture", "heatmap", "journal", "probes", "recorder", "tracking"},
    "recorder": {"drift", "journal", "probes", "tracking"},
    "review": {"drift", "journal", "probes"},
    "report": {"journal", "probes", "render", "review"},
    "cards": {"journal", "probes", "render"},
    "tracking": {"cards", "journal", "report"},
    "demo": {"callback", "demo_data", "drift", "journal", "probes", "report", "review", "tracking"},
    "cli": {"checkpoints", "demo", "heatmap", "journal", "probes", "report", "standalone", "tracking"},
    "__init__": {"callback", "checkpoints", "heatmap", "probes", "quality", "standalone"},
}
HEAVY = {
    "capture": {"keras", "tensorflow"},
    "layers": {"keras", "tensorflow"},
    "answers": {"keras", "tensorflow"},
    "methods": {"keras"},
    "callback": {"keras"},
    "tracking": {"mlflow"},
    # to build and to be told about models and runs, inside functions
    "heatmap": {"keras"},
    "standalone": {"keras"},
    "checkpoints": {"keras"},
    "cli": {"keras"},
    "demo": {"keras", "mlflow"},
    "demo_data": {"keras"},
}


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


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.stem)
def test_imports_point_one_way(file: Path) -> None:
    """Each file imports only what DESIGN lets it: only capture, layers and answers know TensorFlow, tracking MLflow."""
    found = imports(file)
    ours = {name.split(".")[1] for name in found if name.startswith("gradcam_callbacks.")}
    assert ours <= MAY_IMPORT.get(file.stem, set())
    heavy = {name.split(".")[0] for name in found} & {"tensorflow", "keras", "mlflow"}
    assert heavy <= HEAVY.get(file.stem, set())


# Where private interfaces of others are used, and nowhere else: one file a library.
PRIVATE = {
    "explaining/keras_internals.py",
    "explaining/tensorflow_internals.py",
    "publishing/mlflow_store.py",
    # Keras tells callbacks nothing of a `fit` that raises, so this file looks for its frames with Python's `_getframe`.
    "training/failed_fit.py",
    "callback.py",  # where that stood before
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
    keras, tensorflow = (found[f"explaining/{library}_internals.py"] for library in ("keras", "tensorflow"))
    assert keras == {"_flatten_layers", "_nodes_by_depth", "_inbound_nodes", "_losses", "__dict__"}
    assert tensorflow == {"_XlaMustCompile"}


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
