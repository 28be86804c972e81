"""Names of classes, for people."""

from __future__ import annotations

from collections.abc import Sequence


def class_name(class_names: Sequence[str] | None, index: int) -> str:
    """The name of a class: its own, or "class_<index>"."""
    if class_names is not None and 0 <= index < len(class_names):
        return class_names[index]
    return f"class_{index}"
