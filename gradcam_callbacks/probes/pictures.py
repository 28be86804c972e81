"""What people see of the probes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError


def as_pictures(pictures: Any, count: int) -> Array:
    """(N, H, W, 3) uint8, from any array of N pictures, signals or volumes."""
    array = np.asarray(pictures)
    if array.ndim in (3, 5) and len(array) == count:
        return drawing.signal_pictures(array) if array.ndim == 3 else drawing.volume_pictures(array)
    if array.ndim != 4 or len(array) != count:
        raise GradCAMError(f"Expected {count} pictures (N, H, W, 3), got shape {array.shape}.")
    if array.shape[1] in (1, 3) and array.shape[3] not in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)  # the channels come first
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        scaled = np.empty(array.shape, np.uint8)
        for picture, row in zip(array, scaled, strict=True):  # one at a time, for the memory
            row[...] = np.rint((picture.astype(np.float64) - low) * (255 / (high - low or 1)))
        array = scaled
    channels = array.shape[-1]
    if channels >= 3:
        return array[..., :3]
    return np.repeat(array[..., :1], 3, axis=-1)  # grey, or grey and alpha
