"""A package that is older than this one declares is refused in a sentence, whatever pip was told to do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.versions import refuse_older

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = {asked.name: asked.specifier for asked in map(Requirement, PROJECT["dependencies"])}


def package(name: str, version: str) -> ModuleType:
    module = ModuleType(name)
    vars(module)["__version__"] = version
    return module


@pytest.mark.parametrize(
    ("name", "version"),
    [("mlflow", "2.22.1"), ("mlflow", "3.10.1"), ("mlflow", "3.11.1rc0"), ("keras", "2.15.0"), ("keras", "3.10.0")],
)
def test_an_older_package_is_refused(name: str, version: str) -> None:
    """The error says what is there, what goes wrong with it, and what to install, as pyproject.toml has it."""
    with pytest.raises(GradCAMError) as caught:
        refuse_older(package(name, version), "The package", "It loses pictures.")
    assert isinstance(caught.value, ImportError)  # for those who try an import
    assert str(caught.value) == (
        f"The package {version} is installed here. It loses pictures. Install The package {NEEDED[name]}: "
        f"pip install '{name}{NEEDED[name]}'."
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("mlflow", "3.11.1"),
        ("mlflow", "4.0.0.dev0"),
        ("keras", "3.11.0"),
        ("keras", "3.16.0.dev2026010103"),
        ("tensorflow", "2.22.0-dev20260101"),
        ("unheard_of", "0.1"),
    ],
)
def test_a_newer_package_and_a_nightly_one_are_taken(name: str, version: str) -> None:
    """So is one of which nothing is declared."""
    refuse_older(package(name, version), "The package", "It loses pictures.")
