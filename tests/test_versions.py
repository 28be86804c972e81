"""A package that is too old is refused in a sentence, whatever pip was told to do."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

import gradcam_callbacks
from gradcam_callbacks import GradCAMError
from gradcam_callbacks.cli import main
from gradcam_callbacks.versions import NEEDED, refuse_older

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def package(name: str, version: str) -> ModuleType:
    module = ModuleType(name)
    vars(module)["__version__"] = version
    return module


def test_what_is_needed_is_what_pip_is_told() -> None:
    """The bounds are those of pyproject.toml."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["jax"]]
    bounds = {asked.name: str(asked.specifier) for asked in map(Requirement, declared)}
    assert {name: f">={oldest}" for name, oldest in NEEDED.items()}.items() <= bounds.items()


@pytest.mark.parametrize(
    ("name", "version"),
    [("mlflow", "2.22.1"), ("mlflow", "3.10.1"), ("mlflow", "3.11.1rc0"), ("keras", "2.15.0"), ("keras", "3.10.0")],
)
def test_an_older_package_is_refused(name: str, version: str) -> None:
    """The error says what is there, what goes wrong with it, and what to install."""
    with pytest.raises(GradCAMError) as caught:
        refuse_older(package(name, version), "The package", "It loses pictures.")
    assert isinstance(caught.value, ImportError)  # for those who try an import
    assert str(caught.value) == (
        f"The package {version} is installed here. It loses pictures. pip install '{name}>={NEEDED[name]}'."
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("mlflow", "3.11.1"),
        ("mlflow", "4.0.0.dev0"),
        ("keras", "3.11.0"),
        ("keras", "3.16.0.dev2026010103"),
        ("tensorflow", "2.22.0-dev20260101"),
    ],
)
def test_a_newer_package_and_a_nightly_one_are_taken(name: str, version: str) -> None:
    """Also where the version is that of a build before a release."""
    refuse_older(package(name, version), "The package", "It loses pictures.")


def test_the_backend_that_keras_would_take_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    """From the environment, from Keras's file, or else TensorFlow."""
    code = (
        "import sys; from gradcam_callbacks.explaining.backend import chosen_backend as of; print(of(), *sys.modules)"
    )

    def chosen(**environment: str) -> str:
        call = [sys.executable, "-c", code]
        package = str(Path(gradcam_callbacks.__file__).parents[1])
        environment = {"PYTHONPATH": package, "PATH": os.environ["PATH"]} | environment
        said = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=60, check=True).stdout
        assert "keras" not in said.split()
        return said.split()[0]

    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert chosen(KERAS_HOME=str(tmp_path)) == "jax"
    assert chosen(KERAS_HOME=str(tmp_path), KERAS_BACKEND="torch") == "torch"
    assert chosen(KERAS_HOME=str(tmp_path / "none")) == "tensorflow"


def test_the_command_says_with_which_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report of a fault needs, without loading Keras: the engine that it would be loaded on."""
    monkeypatch.setattr("gradcam_callbacks.cli.chosen_backend", lambda: "jax")
    first, second = CliRunner().invoke(main, ["--version"]).output.splitlines()
    assert first == f"gradcam, version {gradcam_callbacks.__version__}"
    assert second.startswith(f"Python {platform.python_version()}, Keras {version('keras')} on JAX ")
    assert second.endswith(f", MLflow {version('mlflow')}")
