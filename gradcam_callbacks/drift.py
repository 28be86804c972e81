"""Measures of where the attention lies. Pure functions of maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]


def focus(maps: Array, regions: Array) -> Array:
    """Share of the attention that lies inside the region where a person says the model should look.

    The region is averaged over the cells of the map's grid, so that a cell half inside counts half:
    `sum_ij p_ij * covered_ij` with `p = map / sum(map)`.

    Args:
        maps: (N, K, h, w), non-negative, any scale.
        regions: (N, H, W) bool; a probe without a region is empty.

    Returns:
        (N, K) float64 in [0, 1]; NaN where the map or the region is empty.

    Reference:
        The "energy-based pointing game" of Wang et al. 2020, "Score-CAM", section 4.3.
    """
    size = (maps.shape[3], maps.shape[2])
    covered = np.stack(
        [
            np.asarray(Image.fromarray(region.astype(np.float32)).resize(size, Image.Resampling.BOX))
            for region in regions
        ]
    )
    inside = np.einsum("nkhw,nhw->nk", maps.astype(np.float64), covered.astype(np.float64))
    total = maps.sum(axis=(2, 3), dtype=np.float64)
    known: Array = (total > 0) & np.any(regions, axis=(1, 2), keepdims=True)[..., 0]
    shares: Array = np.divide(inside, total, out=np.full(total.shape, np.nan), where=known)
    return shares
