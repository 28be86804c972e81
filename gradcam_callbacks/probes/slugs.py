"""Names that a file system takes."""

from __future__ import annotations

import re
from collections.abc import Iterable


def slugs(names: Iterable[str]) -> tuple[str, ...]:
    """Names that a file system and MLflow take: `[A-Za-z0-9_.-]`, 1 to 60 characters, no dot at an end, distinct."""
    taken: set[str] = set()
    result = []
    for position, name in enumerate(names):
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
        plain = re.sub(r"\.{2,}", ".", plain)[:60].strip("_.") or f"n{position}"  # MLflow forbids ".."
        slug, number = plain, 2
        while slug.lower() in taken:
            slug, number = f"{plain[:56]}-{number}", number + 1
        taken.add(slug.lower())
        result.append(slug)
    return tuple(result)
