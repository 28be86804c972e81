"""Where a map lies in the picture, measured, for layers behind operations that `axes` does not understand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.graph import at_least_float32
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.inputs import Inputs, each

Tensor = Any
_PICTURES = 4
_INSET = 0.2
"""How far from the picture's edge the outer cells lie that are measured, as a share of its side."""
_FOLLOWS = 0.25
"""The least share of its step from one outer cell to the other by which the middle of what a cell sees must move.

Where attention or a mean over all places mixes the whole picture in, the middle moves by less than the cell does, but
it moves the same way. In a mirrored map it moves the other way, and in a turned one not at all.
"""


def footprints(view: View | Video, picture: Tensor) -> Tensor | None:
    """(cells, *places of the picture) how much the cells near the corners and in the middle react to each place.

    Args:
        view: of the layer.
        picture: the tensor that holds the pictures, (N, *places, C) or (N, C, *places).

    Returns:
        The mean of the absolute gradients over the pictures; None where there is no gradient.
    """
    activations = view.activations()
    if not picture.dtype.is_floating:
        return None
    mixture = tf.random.stateless_normal([view.channels], seed=(1, 2), dtype=activations.dtype)
    found = []
    for cell in cells(view.grid):
        value = tf.reduce_sum(activations[(slice(None), *cell)] * mixture)
        (gradient,) = tf.gradients([value], [picture])
        if gradient is None:
            return None
        found.append(tf.reduce_mean(tf.abs(at_least_float32(gradient)), axis=0))
    return tf.stack(found)


def spoilt(inputs: Inputs) -> Inputs:
    """A few pictures to measure on: the first of the inputs under noise of its own size, so that units wake up."""
    noise = np.random.default_rng(0)

    def copies(array: Array) -> Array:
        some = np.repeat(array[:1], _PICTURES, axis=0)
        if array.dtype.kind != "f":
            return some
        return np.asarray(some + noise.normal(0, array.std() or 1, some.shape), array.dtype)

    return each(copies, inputs)


def cells(grid: Sequence[int]) -> list[tuple[int, ...]]:
    """The cells that are measured: the middle, and near all corners."""
    ends = [sorted({int(share * side) for share in (_INSET, 1 - _INSET)}) for side in grid]
    corners = [tuple(map(int, corner)) for corner in np.stack(np.meshgrid(*ends), -1).reshape(-1, len(grid))]
    return [tuple(side // 2 for side in grid), *corners]


def why_misplaced(measured: Array, grid: Sequence[int], *, channels_first: bool) -> str | None:
    """Why a map's places are not those of the picture, as the end of "Its places …"; None where they are.

    Args:
        measured: see `footprints`.
        grid: of the map.
        channels_first: whether the picture's channels come first.
    """
    seen = measured.sum(axis=1 if channels_first else -1).astype(np.float64)
    places = tuple(range(1, seen.ndim))
    total = seen.sum(axis=places, keepdims=True)
    if not np.isfinite(seen).all() or (total <= 0).any():
        return None
    # What all cells see says nothing about where one lies.
    own = np.maximum(seen / total - (seen / total).mean(axis=0), 0)
    if (own.sum(axis=places) <= 0).any():
        return None
    asked = np.array(cells(grid))
    for side, size in enumerate(grid):
        along = tuple(axis for axis in places if axis != side + 1)
        profile = own.sum(axis=along)
        centres = (profile * (np.arange(profile.shape[1]) + 0.5)).sum(axis=1) / profile.sum(axis=1) / profile.shape[1]
        first, last = asked[1:, side].min(), asked[1:, side].max()
        if first == last:
            continue
        moved = centres[1:][asked[1:, side] == last].mean() - centres[1:][asked[1:, side] == first].mean()
        if moved < _FOLLOWS * (last - first) / size:
            name = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[len(grid)][side]
            return f"do not follow the picture along its {name}, as a measurement shows"
    return None
