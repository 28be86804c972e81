"""How much of a map lies in few places. Pure functions of shares that sum to 1."""

from __future__ import annotations

import numpy as np

from gradcam_callbacks.arrays import Array


def entropy(shares: Array) -> Array:
    """Shannon's entropy of a map, as a share of that of an even one: `-sum p log p / log(cells)`.

    Args:
        shares: (..., cells) >= 0 that sum to 1.

    Returns:
        (...) float64 in [0, 1]: 0 where all lies in one place, 1 where all places count the same; NaN where a share is
        NaN, and on a grid of one cell.

    Reference:
        Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", complexity.
    """
    cells = shares.shape[-1]
    if cells < 2:
        return np.full(shares.shape[:-1], np.nan)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    whole: Array = -(shares * logs).sum(axis=-1) / np.log(cells)
    return whole.clip(0, 1)  # the sum may round


def gini(shares: Array) -> Array:
    """The Gini index of a map: `1 - 2 sum_i p_(i) (n - i + 1/2) / n`, with p_(1) <= p_(2) <= …, of n cells.

    Args:
        shares: (..., n) >= 0 that sum to 1.

    Returns:
        (...) float64 in [0, 1 - 1/n]: 0 where all places count the same, the most where all lies in one; NaN where a
        share is NaN.

    Reference:
        Chalasani et al. 2020, "Concise Explanations of Neural Networks using Adversarial Training",
        sparseness.
    """
    cells = shares.shape[-1]
    weights = (cells - np.arange(1, cells + 1) + 0.5) / cells
    index: Array = 1 - 2 * (np.sort(shares, axis=-1) @ weights)
    return index.clip(0, 1)  # the sum may round
