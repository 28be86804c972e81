"""Packages that are not there, for a process of its own."""

from __future__ import annotations

_FINDER = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in PACKAGES else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""


def without(*packages: str) -> str:
    """The lines of a script after which Python finds these packages nowhere, as if they were not installed."""
    return _FINDER.replace("PACKAGES", repr(packages))
