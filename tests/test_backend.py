"""Where Keras cannot run on TensorFlow or JAX, a sentence says why; the package can be run and looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.hiding import without

import gradcam_callbacks
from gradcam_callbacks.versions import NEEDED

PACKAGE = str(Path(gradcam_callbacks.__file__).parents[1])
IMPORT = """
try:
    from gradcam_callbacks import GradCAMCallback
except ImportError as error:
    print(error)
"""
USE = """
import numpy as np
from gradcam_callbacks import Explainer, GradCAMError, ProbeSet, explain

for ask in (lambda: Explainer(None), lambda: explain(None, ProbeSet(np.zeros((2, 8, 8, 3), np.float32)))):
    try:
        ask()
    except GradCAMError as error:
        print(error)
"""
ONE_OF_THEM = "pip install tensorflow, or tensorflow[and-cuda], or tensorflow-cpu: one of them."
JAX = "pip install jax, or what JAX names for your accelerator, such as jax[cuda13]."


def said_by(code: str, path: str = PACKAGE, backend: str = "") -> str:
    """What Python prints that runs this, with the package and a folder before all others."""
    environment = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{PACKAGE}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    call = [sys.executable, "-c", code]
    environment["KERAS_BACKEND"] = backend  # empty, it is as if it were not set
    return subprocess.run(call, capture_output=True, text=True, env=environment, timeout=120, check=True).stdout


def another(backend: str) -> str:
    return (
        f"Keras runs on the backend '{backend}' here, and only models on TensorFlow or JAX can be explained. "
        "Set KERAS_BACKEND=tensorflow or jax before Keras is imported; saved models load there, too.\n"
    )


@pytest.mark.usefixtures("process")
def test_another_backend_is_named() -> None:
    """When the callback is imported, and when the explainer and `explain` are used; the sentence says what to set."""
    assert said_by(IMPORT + USE, backend="numpy") == another("numpy") * 3


@pytest.mark.parametrize("backend", ["torch", "openvino", "pytorch"])
def test_another_backend_that_is_not_there_is_named(backend: str) -> None:
    """It need not be installed for that, nor exist."""
    assert said_by(without(backend) + IMPORT, backend=backend) == another(backend)


def test_a_backend_of_keras_own_file_is_named(tmp_path: Path) -> None:
    """The same where no variable of the environment asks for it."""
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    home = f"import os; os.environ['KERAS_HOME'] = {str(tmp_path)!r}\n"
    assert said_by(home + without("torch") + IMPORT) == another("torch")


@pytest.mark.parametrize(
    ("packages", "backend", "sentence"),
    [
        (["keras"], "", "Keras is not installed here. pip install keras, and an engine: tensorflow or jax."),
        (["tensorflow", "jax"], "", f"TensorFlow is not installed here, and Keras runs on it. {ONE_OF_THEM}"),
        (["tensorflow", "jax"], "tensorflow", f"TensorFlow is not installed here, and Keras runs on it. {ONE_OF_THEM}"),
        (["tensorflow", "jax"], "jax", f"JAX is not installed here, and Keras runs on it. {JAX}"),
    ],
)
def test_a_missing_package_is_named_when_the_callback_is_imported(
    packages: list[str], backend: str, sentence: str
) -> None:
    """In a process whose import system does not find it; the sentence ends with what to install."""
    assert said_by(without(*packages) + IMPORT, backend=backend) == f"{sentence}\n"


@pytest.mark.parametrize(
    ("missing", "there", "sentence"),
    [
        ("tensorflow", "jax", f"Set KERAS_BACKEND=jax before Keras is imported, or {ONE_OF_THEM}"),
        ("jax", "tensorflow", f"Set KERAS_BACKEND=tensorflow before Keras is imported, or {JAX}"),
    ],
)
def test_the_engine_that_is_there_is_offered(tmp_path: Path, missing: str, there: str, sentence: str) -> None:
    """So those who have JAX alone learn what to set."""
    (tmp_path / there).mkdir()
    (tmp_path / there / "__init__.py").touch()
    assert said_by(without(missing) + IMPORT, str(tmp_path), missing).endswith(f"and Keras runs on it. {sentence}\n")


def test_a_jax_that_does_not_load_is_told_with_its_cause(tmp_path: Path) -> None:
    """Such as one whose jaxlib is of another version; what to do is said."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise RuntimeError('jaxlib 0.4 is too old for jax 0.10.')")
    assert said_by(IMPORT, str(tmp_path), "jax") == (
        "Keras cannot be loaded here: jaxlib 0.4 is too old for jax 0.10. pip install --upgrade jax brings the jaxlib "
        "and the plugins that belong to it.\n"
    )


@pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX: pip install jax")
@pytest.mark.usefixtures("process")
def test_an_older_jax_is_refused_when_the_callback_is_imported() -> None:
    """The sentence says which one is needed."""
    assert said_by("import jax; jax.__version__ = '0.5.2'\n" + IMPORT, backend="jax") == (
        f"JAX 0.5.2 is installed here. Older versions lack `jax.typeof`. pip install 'jax>={NEEDED['jax']}'.\n"
    )


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
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PACKAGE}", "KERAS_BACKEND": "tensorflow"}
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
