"""Where the attention lay at each step of a record, and how it moved between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import drift


@dataclass(frozen=True, eq=False)
class Measures:
    """Where the attention lay at S steps and how it moved between them; N probes, K targets, NaN where undefined.

    Between steps that explain different classes for a target, nothing is compared.

    Attributes:
        steps: S numbers of the recorded steps.
        drift: (S, N, K) float64, share of the attention that moved since the previous recorded step; see `drift.drift`.
        from_first: (S, N, K) float64, the same since the first recorded step.
        shift: (S, N, K) float64, how far the centre of mass moved since the previous step; see `drift.shift`.
        rank: (S, N, K) float64, correlation with the previous step; see `drift.rank`.
        floor: (S, N, K) float64, drift by noise alone, as it was measured last.
        focus: (S, N, K) float64, share of the attention inside the region; see `drift.focus`.
        pointing: (S, N, K) float64, whether the peak is inside the region; see `drift.pointing`.
        same_class: (S, N, K) bool, whether the class explained is that of the previous step; True at the first.
    """

    steps: tuple[int, ...]
    drift: Array
    from_first: Array
    shift: Array
    rank: Array
    floor: Array
    focus: Array
    pointing: Array
    same_class: Array


def measure(steps: Sequence[Step], regions: Array | None = None) -> Measures:
    """Compares each step's maps with those of the step before and of the first.

    Args:
        steps: at least one, in order.
        regions: (N, H, W) bool. Without them, focus and pointing are what the steps recorded.
    """
    maps = [step.arrays["maps"] for step in steps]
    explained = np.stack([step.arrays["explained"] for step in steps])
    previous, first = list(range(len(steps) - 1)), [0] * (len(steps) - 1)

    def compared(distance: Callable[[Array, Array], Array], earlier: list[int]) -> Array:
        values = np.full(explained.shape, np.nan)
        for s, before in enumerate(earlier, start=1):
            values[s] = np.where(explained[s] == explained[before], distance(maps[before], maps[s]), np.nan)
        return values

    def inside(name: str, share: Callable[[Array, Array], Array]) -> Array:
        return recorded(steps, name) if regions is None else np.stack([share(each, regions) for each in maps])

    floor = recorded(steps, "floor")
    for s in range(1, len(steps)):
        floor[s] = np.where(np.isnan(floor[s]), floor[s - 1], floor[s])
    return Measures(
        steps=tuple(step.step for step in steps),
        drift=compared(drift.drift, previous),
        from_first=compared(drift.drift, first),
        shift=compared(drift.shift, previous),
        rank=compared(drift.rank, previous),
        floor=floor,
        focus=inside("focus", drift.focus),
        pointing=inside("pointing", drift.pointing),
        same_class=np.concatenate([np.full((1, *explained.shape[1:]), True), explained[1:] == explained[:-1]]),
    )


def recorded(steps: Sequence[Step], name: str) -> Array:
    """(S, N, K) float64 of what the steps recorded; NaN where they did not."""
    unknown = np.full(steps[0].arrays["scores"].shape, np.nan)
    return np.stack([step.arrays.get(name, unknown) for step in steps]).astype(np.float64)


def step_means(values: Array) -> Array:
    """(S,) float64 means of what is known of (S, N, K); NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=(1, 2))
    sums = np.where(known, values, 0).sum(axis=(1, 2))
    means: Array = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means
