"""How sure a mean over probes is."""

from __future__ import annotations

import numpy as np

from gradcam_callbacks.arrays import Array

DRAWS = 2000
LEAST = 6
"""How many probes it takes to tell two means apart. That all of five differences have the same sign happens by chance
in 2 of 32 cases, more than 5 %."""


def interval(values: Array, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a mean: its percentiles under draws of the probes with replacement.

    Args:
        values: (N,), one a probe; what is not finite is left out.
        seed: of the draws.

    Returns:
        Its ends; NaN where fewer than two values are known.

    Reference:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return float("nan"), float("nan")
    means = np.random.default_rng(seed).choice(known, (DRAWS, len(known))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def by_probe(values: Array) -> Array:
    """(N,) the means over the targets of each probe, NaN left out; NaN where nothing is known."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0).sum(axis=1)
    means: Array = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means


def mean(values: Array) -> float:
    """The mean of what is not NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
