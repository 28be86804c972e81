"""A volume as a picture of its slices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_callbacks.drawing.resizing import resize_maps

_MOST_SLICES = 16
# A mosaic's long side is at least this, in pixels.
_MOSAIC = 200
_NO_SLICE = 255


def volume_pictures(volumes: NDArray[Any]) -> NDArray[np.uint8]:
    """Each volume as a mosaic of its slices, row by row, without gaps.

    At most 16 slices are shown, taken evenly: slice floor((s + 0.5) * D / S) at place s of S. Small
    slices are enlarged by a whole factor, so that the mosaic's long side has 200 pixels or more.

    Args:
        volumes: (N, D, H, W, C) finite numbers. With 3 channels they are taken as RGB; with any
            other number the first is shown in grey. uint8 is taken as it is, other numbers are
            scaled once by the minimum and maximum of the whole set.

    Returns:
        (N, H', W', 3) uint8 RGB; cells of the mosaic that have no slice are white.

    Raises:
        ValueError: `volumes` is not (N, D, H, W, C), has an empty axis, or does not hold finite
            numbers.
    """
    volumes = as_finite("volumes", volumes, "(N, D, H, W, C)", ndim=5)
    if volumes.shape[-1] != 3:
        volumes = volumes[..., :1]
    depth, height, width = volumes.shape[1:4]
    count = slice_count(depth)
    shown = volumes[:, (2 * np.arange(count) + 1) * depth // (2 * count)]
    if volumes.dtype != np.uint8:
        low, high = float(volumes.min()), float(volumes.max())
        shown = np.rint((shown.astype(np.float64) - low) * (255 / (high - low or 1))).astype(np.uint8)
    # Channels before the slices: (N, 3, S, H, W), as maps are.
    cells = np.moveaxis(np.broadcast_to(shown, (*shown.shape[:-1], 3)), -1, 1)
    rows, columns = mosaic_shape(count)
    factor = math.ceil(_MOSAIC / max(rows * height, columns * width))
    if factor > 1:
        cells = np.rint(resize_maps(cells, (factor * height, factor * width))).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(mosaic(cells, empty=_NO_SLICE), 1, -1))


def slice_count(depth: int) -> int:
    """How many slices of a volume `depth` slices deep are shown: all of them, or 16 of more."""
    return min(depth, _MOST_SLICES)


def mosaic_shape(slices: int) -> tuple[int, int]:
    """(rows, columns) of the mosaic of so many slices: near-square, no row empty."""
    columns = math.ceil(math.sqrt(slices))
    return math.ceil(slices / columns), columns


def mosaic(cells: NDArray[Any], *, empty: int) -> NDArray[Any]:
    """(..., S, h, w) slices as (..., rows * h, columns * w), row by row; cells without one `empty`."""
    *leading, slices, height, width = cells.shape
    rows, columns = mosaic_shape(slices)
    sheet = np.full((*leading, rows * columns, height, width), empty, cells.dtype)
    sheet[..., :slices, :, :] = cells
    grid = sheet.reshape(*leading, rows, columns, height, width).swapaxes(-3, -2)
    return grid.reshape(*leading, rows * height, columns * width)


def as_finite(name: str, values: NDArray[Any], shape: str, *, ndim: int) -> NDArray[Any]:
    """`values` as an array, if it has this rank, no empty axis and nothing but finite numbers."""
    array = np.asarray(values)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"Expected {name} of shape {shape}, no axis empty; got {array.shape}.")
    if array.dtype.kind not in "buif":
        raise ValueError(f"Expected {name} of real numbers; got dtype {array.dtype}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Expected finite {name}; they hold NaN or infinity.")
    return array
