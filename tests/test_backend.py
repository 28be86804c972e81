"""Where Keras cannot run on TensorFlow, a sentence says why; the package can be run and looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hiding import without

import gradcam_callbacks

PACKAGE = str(Path(gradcam_callbacks.__file__).parents[1])
SCRIPT = """
import numpy as np
from gradcam_callbacks import Explainer, GradCAMCallback, GradCAMError, ProbeSet, explain

probes = ProbeSet(np.zeros((2, 8, 8, 3), np.float32))
for ask in (lambda: GradCAMCallback(probes), lambda: Explainer(None), lambda: explain(None, probes)):
    try:
        ask()
    except GradCAMError as error:
        print(error)
"""


@pytest.mark.usefixtures("process")
def test_another_backend_is_named() -> None:
    """By the callback, the explainer and `explain`, when they are made; the sentence says what to set."""
    environment = os.environ | {"KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = PACKAGE
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=120, check=True
    ).stdout.splitlines()
    assert (
        said
        == [
            "Keras runs on the backend 'numpy' here, and only models on TensorFlow or JAX can be explained. "
            "Set KERAS_BACKEND=tensorflow or jax before Keras is imported; saved models load there, too."
        ]
        * 3
    )


IMPORT = """
try:
    from gradcam_callbacks import GradCAMCallback
except ImportError as error:
    print(error)
"""
ONE_OF_THEM = "pip install tensorflow, or tensorflow[and-cuda], or tensorflow-cpu: one of them."


def said_by(code: str, path: str = PACKAGE) -> str:
    """What Python prints that runs this, with the package and a folder before all others."""
    environment = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{PACKAGE}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    call = [sys.executable, "-c", code]
    return subprocess.run(call, capture_output=True, text=True, env=environment, timeout=120, check=True).stdout


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("tensorflow", "TensorFlow is not installed here, and Keras runs on it."),
        ("keras", "Keras is not installed here."),
    ],
)
def test_a_missing_package_is_named_when_the_callback_is_imported(package: str, sentence: str) -> None:
    """In a process whose import system does not find it; the sentence ends with what to install."""
    assert said_by(without(package) + IMPORT) == f"{sentence} {ONE_OF_THEM}\n"


def broken_tensorflow(folder: Path, *packages: str) -> str:
    """Makes a TensorFlow whose library does not load, as files of two packages in one folder give it."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(
        "try:\n    raise ImportError('libtensorflow_cc.so.2: undefined symbol: _ZN4absl')\n"
        "except ImportError:\n    raise ImportError('Traceback: a page of it')\n"
    )
    for package in packages:
        metadata = folder / f"{package.replace('-', '_')}-2.21.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.21.0\n")
        (metadata / "top_level.txt").write_text("tensorflow\n")
    return str(folder)


def test_two_packages_of_tensorflow_are_named(tmp_path: Path) -> None:
    """They write over each other's files; what to remove is said."""
    said = said_by(IMPORT, broken_tensorflow(tmp_path, "tensorflow", "tensorflow-cpu"))
    assert said == (
        "TensorFlow is installed here more than once, as tensorflow 2.21.0 and tensorflow-cpu 2.21.0, which write over "
        "each other's files. Remove all of them, pip uninstall tensorflow tensorflow-cpu, and install the one that you "
        "want.\n"
    )


def test_a_tensorflow_that_does_not_load_is_told_with_the_first_cause(tmp_path: Path) -> None:
    """Not with the page that TensorFlow makes of it; what to do is said. The command says the same in a line."""
    folder = broken_tensorflow(tmp_path, "tensorflow")
    sentence = "Keras cannot be loaded here: libtensorflow_cc.so.2: undefined symbol: _ZN4absl. If packages of"
    assert said_by(IMPORT, folder).startswith(sentence)
    (tmp_path / "m.keras").touch()
    call = [sys.executable, "-m", "gradcam_callbacks", "layers", "m.keras"]
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PACKAGE}"}
    said = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=120, check=False).stderr
    assert said.startswith(f"Error: {sentence}")
    assert said.count("\n") == 1


def test_the_package_is_the_command_and_names_what_is_public() -> None:
    """`python -m gradcam_callbacks`, and `dir` before anything was loaded."""
    environment = os.environ | {"PYTHONPATH": PACKAGE}
    call = [sys.executable, "-m", "gradcam_callbacks", "--version"]
    said = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=60, check=True).stdout
    assert said.startswith(f"gradcam, version {gradcam_callbacks.__version__}\n")
    code = "import gradcam_callbacks; print(*dir(gradcam_callbacks))"
    call = [sys.executable, "-c", code]
    said = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=60, check=True).stdout
    assert set(gradcam_callbacks.__all__) <= set(said.split())
