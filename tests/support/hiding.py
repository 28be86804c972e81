"""Packages that are not there, for a process of its own."""

from __future__ import annotations

_FINDER = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "PACKAGE" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""


def without(package: str) -> str:
    """The lines of a script after which Python finds this package nowhere, as if it were not installed."""
    return _FINDER.replace("PACKAGE", package)
