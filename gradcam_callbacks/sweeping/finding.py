"""Which files are checkpoints, and which steps they are."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.step import MOST_STEP
from gradcam_callbacks.sweeping import formats
from gradcam_callbacks.sweeping.formats import Checkpoint

if TYPE_CHECKING:
    from gradcam_callbacks.publishing.mlflow_store import Downloaded

StepFrom = str | Callable[[Path], int] | None
Recognised = tuple[type[Checkpoint], Path]
"""A format, and the path of a checkpoint of it."""


def listed(checkpoints: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """One or several, as a list."""
    return [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)


def find_checkpoints(
    checkpoints: str | Path | Sequence[str | Path], step_from: StepFrom, stack: ExitStack
) -> tuple[list[Checkpoint], dict[str, GradCAMError]]:
    """The checkpoints in the order of their steps, and the errors, by path, of what is not among them.

    What is not among them cannot be loaded, has no step, or has the step of another. `stack` keeps what is downloaded
    until it is closed.

    Raises:
        GradCAMError: if there is nothing at all.
    """
    models: dict[Path, Downloaded] = {}
    looked_at = {path: found for item in listed(checkpoints) for path, found in _expand(item, stack, models)}
    if not looked_at:
        raise GradCAMError(f"No checkpoint in {listed(checkpoints)}. Expected {_expected()}, or folders of them.")
    errors = {str(path): found for path, found in looked_at.items() if isinstance(found, GradCAMError)}
    recognised = {path: found for path, found in looked_at.items() if not isinstance(found, GradCAMError)}
    steps = _steps(recognised, step_from, errors, _steps_of_models(recognised, models))
    by_step: dict[int, Checkpoint] = {}
    for path in sorted(steps, key=lambda path: (steps[path], models[path].created if path in models else 0, str(path))):
        format_, place = recognised[path]
        checkpoint = format_(place, steps[path], model_id=models[path].model_id if path in models else None)
        first = by_step.setdefault(steps[path], checkpoint)
        if first is not checkpoint:
            named = first.path.name if first.model_id is None else first.model_id
            problem = f"It is step {first.step}, as '{named}' is."
            errors[str(path)] = GradCAMError(problem, "Name one of them, or {argument}.", argument="step_from")
    return list(by_step.values()), errors


def _expand(
    item: str | Path, stack: ExitStack, models: dict[Path, Downloaded]
) -> Iterator[tuple[Path, Recognised | GradCAMError]]:
    """What one argument stands for: paths, each with its format, or with what is wrong with it.

    `models` gets what MLflow says of the paths that are LoggedModels.
    """
    text, path = str(item), Path(item)
    if text.startswith(("runs:/", "models:/")):
        from gradcam_callbacks.publishing import mlflow_store

        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gradcam-"))
        for downloaded in mlflow_store.download(text, Path(folder)):
            looked = list(_look(downloaded.path))
            if downloaded.model_id is not None:
                models |= {path: downloaded for path, _ in looked}
                looked = looked or [(downloaded.path, GradCAMError("It holds no checkpoint of Keras."))]
            yield from looked
    elif path.exists() or not glob.has_magic(text):
        yield from _look(path)
    else:
        for match in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 (absolute ones too)
            if not any(format_.is_part(Path(match)) for format_ in formats.FORMATS):
                yield from _look(Path(match))


def _expected() -> str:
    return ", ".join(format_.files for format_ in formats.FORMATS)


def _look(path: Path, *, is_named: bool = True) -> Iterator[tuple[Path, Recognised | GradCAMError]]:
    """A checkpoint, or those in a folder; what is none is an error if it was named, and passed over in a folder."""
    try:
        found = formats.recognise(path)
    except GradCAMError as error:
        yield path, error
        return
    if found is not None:
        yield path, found
    elif (path / "manifest.json").is_file() and (path / "steps").is_dir():
        return  # a journal of ours, whose files are no checkpoints
    elif path.is_dir():
        children = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
        found_here = [(child, list(_look(child, is_named=False))) for child in children]
        has_numbers = any(
            place == child and child.name.isdecimal() for child, looked in found_here for place, _ in looked
        )
        for child, looked in found_here:
            yield from looked
            if has_numbers and not looked and child.is_dir() and child.name.isdecimal():
                yield child, GradCAMError("It is a folder without a checkpoint, as an interrupted writing leaves one.")
    elif is_named:
        is_there = path.exists()
        problem = f"'{path.suffix}' is no checkpoint: expected {_expected()}." if is_there else "There is no such file."
        yield path, GradCAMError(problem)


def _steps_of_models(recognised: Mapping[Path, Recognised], models: Mapping[Path, Downloaded]) -> dict[Path, int]:
    """The 0-based steps of those paths that are LoggedModels, as they were logged.

    Where all were logged at the same step, because nobody said one, they are counted in the order in which they were
    logged.
    """
    known = {path: models[path].step or 0 for path in recognised if path in models}
    if len(known) > 1 and len(set(known.values())) == 1:
        return {path: step for step, path in enumerate(sorted(known, key=lambda path: models[path].created))}
    return known


def _steps(
    recognised: Mapping[Path, Recognised],
    step_from: StepFrom,
    errors: dict[str, GradCAMError],
    of_models: Mapping[Path, int],
) -> dict[Path, int]:
    """The 0-based step of each path; where there is none, `errors` gets the reason."""
    said = {path: of_models.get(path, format_.step_of(path)) for path, (format_, _) in recognised.items()}
    numbers = _numbers([path for path, step in said.items() if step is None])
    steps: dict[Path, int] = {}
    for path, step in said.items():
        try:
            if step_from is not None:
                steps[path] = _step_by_user(path, step_from)
            elif step is not None:
                steps[path] = step
            elif path in numbers:
                steps[path] = numbers[path] - 1
            elif len(recognised) == 1:
                steps[path] = 0
            else:
                problem = "No number in its name says which step it is."
                raise GradCAMError(problem, "Use {argument}, or give it alone.", argument="step_from")
            if steps[path] > MOST_STEP or (step_from is not None and steps[path] < 0):
                raise GradCAMError(f"{steps.pop(path)} is no step.", "Use {argument}.", argument="step_from")
        except ValueError as error:  # also of the user's function, or of int()
            errors[str(path)] = error if isinstance(error, GradCAMError) else GradCAMError(str(error))
    if step_from is None and min(steps.values(), default=0) < 0:
        # A file is numbered 0, so this series of files begins with 0.
        steps = {path: step + (said[path] is None) for path, step in steps.items()}
    return steps


def _step_by_user(path: Path, step_from: str | Callable[[Path], int]) -> int:
    """The step that `step_from=` finds in a path."""
    if callable(step_from):
        return int(step_from(path))
    match = re.search(step_from, path.as_posix())
    if match is None or not match.groups() or match[1] is None:
        problem = "Its path does not say which step it is:"
        raise GradCAMError(problem, "{argument} finds no group in it.", argument="step_from", value=step_from)
    return int(match[1])


def _numbers(paths: Sequence[Path]) -> dict[Path, int]:
    """The number in each name that counts: after "epoch", else the first that differs between them, else the last."""
    found = {}
    others: dict[Path, list[int]] = {}
    for path in paths:
        # The prefix of TensorFlow's files, such as model.01, is no file and has no ending.
        name = re.sub(r"(\.weights)?\.[a-z0-9]+$", "", path.name) if path.is_file() else path.name
        # After the whole word, also in modelEpoch3; "ep" is a word of its own, and not the end of "deep".
        epoch = re.search(r"(?:epoch|(?<![a-z])ep)[-_ ]?(\d{1,15})(?!\d)", name, re.IGNORECASE)
        # Longer ones are times or parts of a hash, and no steps.
        parts = re.findall(r"\d+\.\d+|(?<!\d)\d{1,15}(?!\d)", name)
        # A decimal is a metric, such as a loss. Where there are decimals alone, as in v1.01, both halves may count.
        whole = [part for part in parts if "." not in part] or [half for part in parts for half in part.split(".")]
        if epoch:
            found[path] = int(epoch[1])
        elif whole:
            others[path] = [int(part) for part in whole]
    columns = zip(*others.values(), strict=False)  # up to the fewest numbers in a name
    place = next((place for place, column in enumerate(columns) if len(set(column)) > 1), -1)
    return found | {path: numbers[place] for path, numbers in others.items()}
