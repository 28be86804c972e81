"""The versions of other packages without which things go wrong, also where pip was told to install older ones."""

from __future__ import annotations

from types import ModuleType

from packaging.version import Version

from gradcam_callbacks.errors import NotInstalledError

NEEDED = {"keras": "3.11", "mlflow": "3.11.1", "tensorflow": "2.18", "jax": "0.5.3"}
"""The oldest ones. pyproject.toml has the same bounds, and the reasons; a test compares them."""


def refuse_older(module: ModuleType, title: str, why: str) -> None:
    """Raises where a package is older than what is needed.

    Args:
        module: the package, imported.
        title: what people call it.
        why: what goes wrong with an older one, in a whole sentence.

    Raises:
        NotInstalledError: if it is older.
    """
    needed = NEEDED[module.__name__]
    if Version(module.__version__) < Version(needed):
        raise NotInstalledError(
            f"{title} {module.__version__} is installed here. {why}", f"pip install '{module.__name__}>={needed}'."
        )
