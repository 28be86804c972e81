"""What is asked of a model about a picture."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.inputs import frozen

Target = int | str | tuple[int | str, int | str] | Callable[[Any], Any]
PREDICTED = -1
"""In a target matrix: the class with the highest score at that moment."""
NO_CLASS = -1
"""In a target matrix: no score is subtracted."""
FUNCTION = -2
"""In a target matrix: the target is a function of the outputs."""


def as_labels(labels: Any, count: int, class_names: tuple[str, ...] | None) -> Array | None:
    """(N,) int64 class indices from indices, names or one-hot."""
    if labels is None:
        return None
    array = np.asarray(labels)
    if len(array.shape) == 0 or len(array) != count:
        raise GradCAMError(f"{count} images but labels of shape {array.shape}; pass one label a picture.")
    if array.dtype.kind in "US":
        return frozen(np.array([_class_index(str(name), class_names) for name in array], np.int64))
    if array.ndim == 2:
        array = array.argmax(axis=1) if array.shape[1] > 1 else array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biuf" or (array != np.floor(array)).any() or (array < 0).any():
        raise GradCAMError("Expected labels as (N,) class indices, (N,) class names or (N, classes) one-hot.")
    return frozen(array.astype(np.int64))


def targets_by_probe(targets: Any, count: int, class_names: tuple[str, ...] | None) -> Array | None:
    """The (N, K) classes of a user who gave each probe its own; None where one list serves all probes."""
    if not isinstance(targets, np.ndarray) or targets.ndim != 2:
        return None
    if targets.dtype.kind not in "iu" or len(targets) != count or not targets.size:
        raise GradCAMError(
            f"Targets that differ between the probes are an integer array ({count}, K); got {targets.dtype} "
            f"{targets.shape}."
        )
    for extreme in (targets.min(), targets.max()):
        _class_index(int(extreme), class_names)
    return targets


def numbered_targets(count: int) -> tuple[str, ...]:
    """Names of targets that differ between the probes."""
    return tuple(f"target_{k}" for k in range(count))


def as_targets(
    targets: Any, class_names: tuple[str, ...] | None
) -> tuple[int | str | tuple[int, int] | Callable[[Any], Any], ...]:
    """The targets of a user, class names resolved to indices."""
    is_one = isinstance(targets, str | int | float | np.number) or callable(targets) or getattr(targets, "ndim", 1) == 0
    listed: Sequence[Any] = [targets] if is_one else list(targets)
    if not listed:
        raise GradCAMError(
            "No targets:", "pass at least one, such as {argument}.", argument="targets", value=["predicted"]
        )
    result: list[int | str | tuple[int, int] | Callable[[Any], Any]] = []
    for target in listed:
        if callable(target) or (isinstance(target, str) and target in ("predicted", "label")):
            result.append(target)
        elif isinstance(target, tuple | list):
            if len(target) != 2:
                raise GradCAMError(f"A contrast target is a pair (a, b) of classes; got {target!r}.")
            result.append((_class_index(target[0], class_names), _class_index(target[1], class_names)))
        else:
            result.append(_class_index(target, class_names))
    return tuple(result)


def _class_index(target: Any, class_names: tuple[str, ...] | None) -> int:
    """The index of the class that a user named or numbered."""
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        classes = len(class_names) if class_names is not None else None
        if target < 0 or (classes is not None and target >= classes):
            known = "" if classes is None else f"; there are names for the classes 0 to {classes - 1}"
            raise GradCAMError(f"Class {target} is out of range{known}.", argument="targets")
        return int(target)
    if not isinstance(target, str):
        raise GradCAMError(
            "A target is a class index, a class name, 'predicted', 'label', a pair of classes or a function of the "
            f"outputs; got {target!r}.",
            argument="targets",
        )
    if class_names is None:
        raise GradCAMError(
            f"The class '{target}' is a name:",
            "pass {argument} in the order of the model's output.",
            argument="class_names",
        )
    if target in class_names:
        if class_names.count(target) > 1:
            raise GradCAMError(
                f"{class_names.count(target)} classes are named '{target}'; give the target by index.",
                argument="targets",
            )
        return class_names.index(target)
    close = difflib.get_close_matches(target, [*class_names, "predicted", "label"], n=3)
    hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    raise GradCAMError(f"No class '{target}' among the {len(class_names)} class names.{hint}", argument="targets")
