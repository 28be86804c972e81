"""Spearman's rank correlation of maps."""

from __future__ import annotations

import numpy as np

from gradcam_callbacks.arrays import Array


def rank_correlation(p: Array, q: Array) -> Array:
    """Spearman's rank correlation along the last axis: Pearson's correlation of the ranks; equal cells share theirs.

    Args:
        p: (..., cells) maps of any scale.
        q: maps of the same shape.

    Returns:
        (...) float64 in [-1, 1]; NaN where either map is the same everywhere or holds NaN.
    """
    from scipy.stats import rankdata  # takes a second to load

    # The mean of the ranks 1 … n.
    a, b = (rankdata(maps, axis=-1) - (maps.shape[-1] + 1) / 2 for maps in (p, q))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    correlation: Array = np.divide((a * b).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return correlation.clip(-1, 1)
