"""check(): attention as a gate, for pipelines and tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.publishing.reports import Training, opened
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.record.verdicts import VERDICTS, is_serious
from gradcam_callbacks.reviewing.assessing import Assessment
from gradcam_callbacks.reviewing.drift import drift
from gradcam_callbacks.reviewing.parts import Part, verdict_of
from gradcam_callbacks.reviewing.suspicion import own_focus
from gradcam_callbacks.reviewing.verdict import Verdict
from gradcam_callbacks.reviewing.words import at, name_of, percent

# Maps are float32: what equals a limit up to their noise holds.
_NOISE = 1e-6


def check(
    source: str | Path,
    *,
    against: str | Path | None = None,
    min_focus: float | None = None,
    max_drift: float | None = None,
    max_fall: float = 0.1,
    fail_on: str | None = "suspect",
    tracking_uri: str | None = None,
) -> list[str]:
    """Says what of a training does not hold: a gate for pipelines and tests, which assert that it is nothing.

    Of a run with several parts, such as trainings of two architectures, all must hold; the verdict is the most serious.
    What it is compared with is the part of `against` that was recorded last.

    Args:
        source: a journal's folder, or a run as "runs:/ID".
        against: another one to compare with, such as the run of the model in production. Its verdict must not be less
            serious, and its focus not higher by more than `max_fall`. They must have pictures in common; focus and
            drift are those of these pictures alone.
        min_focus: the least share of the attention inside the marked regions at the last step, in [0, 1]: the mean over
            the maps of the picture's own class. Where it is not known, this does not hold.
        max_drift: the largest share of the attention that moved, in [0, 1]: from the last step but one to the last;
            with `against` from its last step to this one's. Where it is not known, this does not hold.
        max_fall: how much lower than that of `against` the focus may be, in [0, 1].
        fail_on: the least serious verdict that does not hold: "shortcut", "suspect", "constant", "unfit", "moved" or
            "unsettled"; None for any verdict.
        tracking_uri: where the runs are; by default MLflow's own tracking URI.

    Returns:
        What does not hold, a line each; nothing where all holds.

    Raises:
        GradCAMError: if a source is no journal or holds no step, the two have no picture in common, or a limit makes no
            sense.
        mlflow.MlflowException: if there is no such run, or no tracking server.
    """
    if fail_on is not None and fail_on not in VERDICTS[:-1]:
        raise GradCAMError(
            f"No verdict {fail_on!r} to fail on; expected one of {', '.join(VERDICTS[:-1])}.", argument="fail_on"
        )
    for name, limit in (("min_focus", min_focus), ("max_drift", max_drift), ("max_fall", max_fall)):
        if limit is not None and not 0 <= limit <= 1:
            raise GradCAMError(
                f"A share of the attention is from 0 to 1, not {limit}.", "Change {argument}.", argument=name
            )
    with ExitStack() as stack:
        (training,) = stack.enter_context(opened(source, tracking_uri, argument="source"))
        parts, others, name = training.parts(), [], ""
        if against is not None:
            (production,) = stack.enter_context(opened(against, tracking_uri, argument="against"))
            others, name = production.parts(), production.name
        other = verdict_of(others) if others else None
        wrong = [*_of_verdict(verdict_of(parts), other, name, fail_on)]
        pairs = [(_side(training, part), _side(production, _last(others)) if others else None) for part in parts]
        compared = [pair for pair in pairs if pair[1] is None or _keep_common(pair[0], pair[1])]
        if not compared:
            raise GradCAMError(
                f"'{training.name}' and '{name}' have no picture in common, so that nothing can be compared.",
                "Pass another {argument}.",
                argument="against",
            )
        for side, beside in compared:
            said = [*_of_focus(side, beside, min_focus, max_fall), *_of_drift(side, beside, max_drift)]
            wrong += [f"{side.part}: {line}" if side.part else line for line in said]
        return wrong


@dataclass(eq=False)
class _Side:
    """A training, and the probes of it that count.

    Attributes:
        name: what people call it.
        part: what people call the part of it, or "".
        manifest: of its journal.
        found: what can be said of it.
        probes: which count, in the order of the other's.
        targets: the same of the targets.
    """

    name: str
    part: str
    manifest: Manifest
    found: Assessment
    probes: list[int]
    targets: list[int]

    @property
    def last(self) -> Step:
        """The last step."""
        return self.found.steps[-1]

    @property
    def focus(self) -> float:
        """The mean at the last step; NaN where it is not known."""
        focus = own_focus([self.last], self.found.measures["focus"][-1:], self.manifest)[0]
        return _mean(focus[np.ix_(self.probes, range(focus.shape[1]))])

    def of_last(self, array: Array) -> Array:
        """Those of an (N, K, …) array that count."""
        return array[self.probes][:, self.targets]


def _side(training: Training, part: Part) -> _Side:
    manifest = part.journal.manifest
    probes, targets = [*range(len(manifest.names))], [*range(len(manifest.targets))]
    return _Side(training.name, part.title, manifest, part.found, probes, targets)


def _last(parts: Sequence[Part]) -> Part:
    """The part that was recorded last."""
    return max(parts, key=lambda part: max(part.journal.steps()))


def _keep_common(one: _Side, other: _Side) -> bool:
    """Leaves to both sides the pictures that they have in common, and the targets; false where there is no picture."""
    pictures = {picture: n for n, picture in enumerate(other.manifest.pictures)}
    one.probes = [n for n, picture in enumerate(one.manifest.pictures) if picture in pictures]
    other.probes = [pictures[one.manifest.pictures[n]] for n in one.probes]
    targets = {target: k for k, target in enumerate(other.manifest.targets)}
    one.targets = [k for k, target in enumerate(one.manifest.targets) if target in targets]
    other.targets = [targets[one.manifest.targets[k]] for k in one.targets]
    return bool(one.probes)


def _of_verdict(verdict: Verdict, other: Verdict | None, name: str, fail_on: str | None) -> Iterator[str]:
    if fail_on is not None and is_serious(verdict.name, fail_on):
        yield f"The verdict is {verdict.name}, and fails on {fail_on}: {verdict.sentence}"
    if other is not None and VERDICTS.index(verdict.name) < VERDICTS.index(other.name):
        yield f"The verdict is {verdict.name}, and that of '{name}' is {other.name}: {verdict.sentence}"


def _of_focus(side: _Side, other: _Side | None, min_focus: float | None, max_fall: float) -> Iterator[str]:
    when = at(side.last, side.manifest)
    is_known = math.isfinite(side.focus)
    if min_focus is not None and not side.focus >= min_focus - _NOISE:
        said = f"is {percent(side.focus)} {when}" if is_known else f"is not known {when}"
        yield f"Focus {said}, and must be {percent(min_focus)} at least."
    if other is not None and math.isfinite(other.focus) and not side.focus >= other.focus - max_fall - _NOISE:
        said = f"is {percent(side.focus)}" if is_known else "is not known"
        there = f"is {percent(other.focus)} in '{other.name}': it may be {percent(max_fall)} of the attention less"
        yield f"Focus {said} {when}, and {there}."


def _of_drift(side: _Side, other: _Side | None, max_drift: float | None) -> Iterator[str]:
    if max_drift is None:
        return
    when = name_of(side.last, side.manifest)
    if other is not None:
        moved, since = _between(other, side), f"from '{other.name}' to {when}"
    else:
        moved, since = _mean(side.found.measures["drift"][-1]), f"from the step before to {when}"
    if not moved <= max_drift + _NOISE:
        said = f"is {percent(moved)}" if math.isfinite(moved) else "is not known"
        yield f"Drift {said} {since}, and must be {percent(max_drift)} at most."


def _between(one: _Side, other: _Side) -> float:
    """The mean drift between the last maps of two sides, where they explain the same class; on the coarser grid."""
    maps = [side.of_last(side.last.shown) for side in (one, other)]
    if maps[0].shape != maps[1].shape:
        if not maps[0].ndim == maps[1].ndim == 4:
            return math.nan
        height, width = np.minimum(maps[0].shape[2:], maps[1].shape[2:]).tolist()
        maps = [_averaged(each, height, width) for each in maps]
    before, after = maps
    classes = [
        np.array([[side.manifest.class_name(int(c)) for c in row] for row in side.of_last(side.last.explained)])
        for side in (one, other)
    ]
    if not before.size:
        return math.nan
    return _mean(np.where(classes[0] == classes[1], drift(before, after), np.nan))


def _averaged(maps: Array, height: int, width: int) -> Array:
    """(N, K, h, w) maps averaged over larger cells, so that attention stays where it is."""
    made = np.empty((*maps.shape[:2], height, width), np.float32)
    for n, k in np.ndindex(*maps.shape[:2]):
        image = Image.fromarray(np.ascontiguousarray(maps[n, k], np.float32))
        made[n, k] = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return made


def _mean(values: Array) -> float:
    """Of what is known; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
