"""Maps on another grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_maps(maps: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Maps on another grid of the same rank, linear along each axis, with half-pixel centres.

    Upscaling gives what `tf.image.resize(method="bilinear")` gives. Downscaling averages over the
    pixels that fall together, as `tf.image.resize(antialias=True)` does.

    Args:
        maps: (..., *grid) numbers of any scale: (..., l), (..., h, w) or (..., d, h, w).
        size: the wanted grid, one length an axis: (L,), (H, W) or (D, H, W).

    Returns:
        (..., *size) float32 on the scale of `maps`, never outside a map's own minimum and maximum.

    Raises:
        ValueError: `maps` has fewer axes than `size`, an empty grid, or `size` is not positive.
    """
    maps = np.asarray(maps, np.float32)
    if not size or min(size) < 1:
        raise ValueError(f"Expected a size of at least 1 along each axis, such as (height, width); got {size}.")
    if maps.ndim < len(size) or 0 in maps.shape[-len(size) :]:
        raise ValueError(f"Expected maps of a grid with {len(size)} axes, none empty, last; got {maps.shape}.")
    leading = maps.shape[: -len(size)]
    if 0 in leading:
        return np.zeros((*leading, *size), np.float32)
    # The last axis first, as Pillow does in a picture: the values are the same to the last bit.
    for axis in range(-1, -len(size) - 1, -1):
        maps = _resize_axis(maps, axis, size[axis])
    return np.array(maps, order="C")


def _resize_axis(maps: NDArray[np.float32], axis: int, length: int) -> NDArray[np.float32]:
    """`maps` with another length along one axis, as a view that may be read-only."""
    rows = np.moveaxis(maps, axis, -1)
    image = Image.fromarray(np.ascontiguousarray(rows).reshape(-1, rows.shape[-1]))
    # Pillow's triangle filter is centred on (i + 0.5) / scale - 0.5 and renormalised at the
    # border, which is the same as repeating the border pixel.
    resized = np.asarray(image.resize((length, image.height), Image.Resampling.BILINEAR))
    return np.moveaxis(resized.reshape(*rows.shape[:-1], length), -1, axis)
