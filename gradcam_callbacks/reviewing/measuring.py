"""The rows of MEASURES, computed: at one step, as it is recorded, and over all the steps of a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.measures import MEASURES, Measure
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import drift


@dataclass(frozen=True, eq=False)
class Explained:
    """Maps, and the classes that they explain.

    Attributes:
        maps: (N, K, *grid).
        classes: (N, K) int; negative for functions.
    """

    maps: Array
    classes: Array


def measure_step(
    now: Explained, *, before: Explained | None = None, noisy: Explained | None = None, regions: Array | None = None
) -> dict[str, Array]:
    """What a step records beside its maps: the recorded measures of `MEASURES`, as far as they are defined.

    Args:
        now: of the step.
        before: of the step before, if there is one.
        noisy: of the same weights under a tiny change of the input, if that was explained.
        regions: (N, H, W) bool, where a person says the model should look.

    Returns:
        By name (N, K) float64; NaN where two maps explain different classes.
    """
    others = {"pair": before, "noise": noisy}
    found = {}
    for measure in MEASURES.values():
        if not measure.is_recorded:
            continue
        if measure.of == "map":
            found[measure.name] = function_of(measure)(now.maps)
        elif measure.of == "region" and regions is not None:
            found[measure.name] = function_of(measure)(now.maps, regions)
        elif measure.of in others:
            other = others[measure.of]
            if other is not None and other.maps.shape == now.maps.shape:
                compared = function_of(measure)(other.maps, now.maps)
                found[measure.name] = np.where(other.classes == now.classes, compared, np.nan)
    return found


@dataclass(frozen=True, eq=False)
class Measures:
    """Where the attention lay at S steps and how it moved between them; N probes, K targets, NaN where undefined.

    Between steps that explain different classes for a target, nothing is compared. `measures["drift"]` is the (S, N, K)
    float64 of a row of `MEASURES`; the noise floor at a step is the one that was measured last.

    Attributes:
        steps: S numbers of the recorded steps.
        values: of each measure, by name.
        same_class: (S, N, K) bool, whether the class explained is that of the previous step; True at the first.
    """

    steps: tuple[int, ...]
    values: Mapping[str, Array]
    same_class: Array

    def __getitem__(self, name: str) -> Array:
        return self.values[name]


def measure(steps: Sequence[Step], regions: Array | None = None) -> Measures:
    """All measures at all steps of a record.

    Args:
        steps: at least one, in order.
        regions: (N, H, W) bool. Without them, what needs regions is what the steps recorded.
    """
    explained = np.stack([step.explained for step in steps])
    return Measures(
        steps=tuple(step.step for step in steps),
        values={name: _over_time(measure, steps, explained, regions) for name, measure in MEASURES.items()},
        same_class=np.concatenate([np.full((1, *explained.shape[1:]), True), explained[1:] == explained[:-1]]),
    )


def _over_time(measure: Measure, steps: Sequence[Step], explained: Array, regions: Array | None) -> Array:
    """(S, N, K) float64 of one measure."""
    maps = [step.shown for step in steps]
    if measure.of in ("pair", "first"):
        values = np.full(explained.shape, np.nan)
        for s in range(1, len(steps)):
            before = s - 1 if measure.of == "pair" else 0
            compared = function_of(measure)(maps[before], maps[s])
            values[s] = np.where(explained[s] == explained[before], compared, np.nan)
        return values
    if measure.of == "region" and regions is not None:
        return np.stack([function_of(measure)(each, regions) for each in maps])
    if measure.of == "map":
        return np.stack([function_of(measure)(each) for each in maps])
    values = recorded(steps, measure.name)
    if measure.of == "noise":  # measured at some steps only
        for s in range(1, len(steps)):
            values[s] = np.where(np.isnan(values[s]), values[s - 1], values[s])
    return values


def function_of(measure: Measure) -> Callable[..., Any]:
    """The function in `drift` that computes a measure."""
    function: Callable[..., Any] = getattr(drift, measure.function or measure.name)
    return function


def recorded(steps: Sequence[Step], name: str) -> Array:
    """(S, N, K) float64 of what the steps recorded; NaN where they did not."""
    return np.stack([step.measured(name) for step in steps])


def step_means(values: Array) -> Array:
    """(S,) float64 means of what is known of (S, N, K); NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=(1, 2))
    sums = np.where(known, values, 0).sum(axis=(1, 2))
    means: Array = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means
