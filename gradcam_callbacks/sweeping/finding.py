"""Which files are checkpoints, and which steps they are."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from gradcam_callbacks.sweeping.formats import SUFFIXES, Checkpoint, is_orbax, kind_of

StepFrom = str | Callable[[Path], int] | None


def listed(checkpoints: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """One or several, as a list."""
    return [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)


def find_checkpoints(
    checkpoints: str | Path | Sequence[str | Path], step_from: StepFrom, stack: ExitStack
) -> tuple[list[Checkpoint], dict[str, str]]:
    """The checkpoints in the order of their steps, and what is none, with the reasons.

    Raises:
        ValueError: if there is nothing at all.
    """
    paths = [path for item in listed(checkpoints) for path in _expand(item, stack)]
    if not paths:
        raise ValueError(
            f"No checkpoint in {listed(checkpoints)}. Expected .keras, .h5 or .weights.h5 files, TensorFlow's .index "
            "files, or folders of them."
        )
    problems: dict[str, str] = {}
    kinds: dict[Path, str] = {}
    for path in paths:
        try:
            kinds[path] = kind_of(path)
        except ValueError as error:
            problems[str(path)] = str(error)
    steps: dict[Path, int] = {}
    numbers = _numbers([path for path in kinds if _is_counted_from_1(path, kinds[path])])
    for path in kinds:
        try:
            steps[path] = _step(path, kinds[path], step_from, numbers.get(path), alone=len(kinds) == 1)
        except ValueError as error:
            problems[str(path)] = str(error)
    if step_from is None and steps and min(steps.values()) < 0:  # a file is numbered 0: they are not counted from 1
        steps = {path: step + _is_counted_from_1(path, kinds[path]) for path, step in steps.items()}
    found: dict[int, Checkpoint] = {}
    for path in sorted(steps, key=lambda path: (steps[path], str(path))):
        step = steps[path]
        if step in found:
            problems[str(path)] = (
                f"It is step {step}, as '{found[step].path.name}' is. Name one of them, or step_from=."
            )
        else:
            found[step] = Checkpoint(_prefix(path), step, kinds[path])
    return list(found.values()), problems


def _expand(item: str | Path, stack: ExitStack) -> list[Path]:
    """The candidates behind one argument."""
    text = str(item)
    if text.startswith(("runs:/", "models:/")):
        from gradcam_callbacks.publishing import mlflow_store

        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gradcam-"))
        return _expand(mlflow_store.download(text, Path(folder)), stack)
    path = Path(item)
    if not path.exists() and glob.has_magic(text):
        matches = [Path(found) for found in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 (absolute ones too)
        return [found for match in matches if not _is_part(match) for found in _expand(match, stack)]
    if path.is_dir() and not (path / "saved_model.pb").exists():
        children = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
        if is_orbax(path):
            return [child for child in children if child.name.isdigit()] or [path]
        inside = [found for child in children if child.is_dir() for found in _expand(child, stack)]
        return [child for child in children if child.is_file() and child.suffix in SUFFIXES] + inside
    return [path]


def _is_part(path: Path) -> bool:
    """Whether a file belongs to a TensorFlow checkpoint whose index is beside it."""
    is_data = re.fullmatch(r"(.+)\.data-\d+-of-\d+", path.name)
    if is_data:
        return path.with_name(f"{is_data[1]}.index").is_file()
    return path.name == "checkpoint" and any(path.parent.glob("*.index"))


def _prefix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".index" else path


def _step(path: Path, kind: str, step_from: StepFrom, number: int | None, *, alone: bool) -> int:
    """The 0-based step that a path names; see `_numbers` for the number in its name.

    Raises:
        ValueError: if it names none.
    """
    if callable(step_from):
        return int(step_from(path))
    if step_from is not None:
        match = re.search(step_from, path.as_posix())
        if match is None or not match.groups() or match[1] is None:
            raise ValueError(f"step_from={step_from!r} finds no group in its path.")
        return int(match[1])
    if kind == "orbax":
        return int(path.name) if path.name.isdigit() else 0
    if not _is_counted_from_1(path, kind):
        return int(path.parent.name.removeprefix("epoch_"))
    if number is None:
        if alone:
            return 0
        raise ValueError("No number in its name says which step it is. Use step_from=, or give it alone.")
    return number - 1


def _numbers(paths: Sequence[Path]) -> dict[Path, int]:
    """The number in each name that counts: after "epoch", else the first that differs between them, else the last."""
    found = {}
    others: dict[Path, list[int]] = {}
    for path in paths:
        name = re.sub(r"(\.weights)?\.[a-z0-9]+$", "", path.name)
        epoch = re.search(r"ep(?:och)?[-_ ]?(\d+)", name, re.IGNORECASE)
        parts = re.findall(r"\d+\.\d+|\d+", name)
        whole = [part for part in parts if "." not in part] or [half for part in parts for half in part.split(".")]
        if epoch:
            found[path] = int(epoch[1])
        elif whole:
            others[path] = [int(part) for part in whole]
    columns = zip(*others.values(), strict=False)  # as long as the shortest
    place = next((place for place, column in enumerate(columns) if len(set(column)) > 1), -1)
    return found | {path: numbers[place] for path, numbers in others.items()}


def _is_counted_from_1(path: Path, kind: str) -> bool:
    """Whether the number in a name begins with 1, as ModelCheckpoint's do; those of MLflow and Orbax begin with 0."""
    is_mlflow = path.name.startswith("checkpoint.") and re.fullmatch(r"epoch_\d+", path.parent.name)
    return kind != "orbax" and not is_mlflow
