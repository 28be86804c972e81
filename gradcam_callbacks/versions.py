"""The versions of other packages that are needed; pyproject.toml says which, and pip keeps that when it installs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from types import ModuleType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from gradcam_callbacks.errors import NotInstalledError


def refuse_older(module: ModuleType, title: str, why: str) -> None:
    """Raises where a package is older than this library declares; pip installs around a bound if it is told to.

    Args:
        module: the package, imported.
        title: what people call it.
        why: what goes wrong with an older one, in a whole sentence.

    Raises:
        NotInstalledError: if it is older.
    """
    needed = _declared(module.__name__)
    if not needed.contains(module.__version__, prereleases=True):
        raise NotInstalledError(
            f"{title} {module.__version__} is installed here. {why}",
            f"Install {title} {needed}: pip install '{module.__name__}{needed}'.",
        )


def _declared(name: str) -> SpecifierSet:
    """Which versions of a package the metadata of this one ask for; any where this one was not installed."""
    try:
        texts = requires("gradcam_callbacks") or []
    except PackageNotFoundError:  # its folder lies on the path
        texts = []
    return next((asked.specifier for asked in map(Requirement, texts) if asked.name == name), SpecifierSet())
