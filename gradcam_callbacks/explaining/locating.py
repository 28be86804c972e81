"""Where a map lies in the picture, measured, for layers behind operations that `axes` does not understand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.engines.engine import Run, engine
from gradcam_callbacks.explaining.graph import at_least_float32
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.inputs import Inputs, each

Tensor = Any
Values = Any
_PICTURES = 9
"""How many pictures are measured on; each tells of one cell."""
_INSET = 0.2
"""How far from the picture's edge the outer cells lie that are measured, as a share of its side."""
_FOLLOWS = 0.25
"""The least share of its step from one outer cell to the other by which the middle of what a cell sees must move.

Where attention or a mean over all places mixes the whole picture in, the middle moves by less than the cell does, but
it moves the same way. In a mirrored map it moves the other way, and in a turned one not at all.
"""
_AGREES = 0.5
"""The least correlation between where the cells lie and where the middles of what they see lie.

In a map whose cells are shuffled, some middles happen to move the right way, but not all.
"""

_MOST = 1.5
"""The most of its step by which it may move; more where the picture was made smaller, with a margin around it."""
_OFF = 0.15
"""How far from the middles of the cells the middles of what they see may lie, as a share of the side.

They lie farther off where a part of the picture was cut out and enlarged.
"""
_EXACT = 0.98
"""From which correlation on the ends of the map can be told, too: they may be off by no more than `_OFF`."""
_LEAST = 2
"""How many cells must see anything, so that a map can be measured."""


def can_be_measured(view: View | Video, picture: Tensor) -> bool:
    """Whether anything tells how the cells of a layer react to the places of the picture: see `footprints`."""
    return any(engine.has_gradient(view.outputs, tensor) for tensor in _floats_of(picture))


def footprints(run: Run, view: View | Video, picture: Tensor) -> Values:
    """(cells, *places of the picture) how much the cells at the corners and between them react to each place.

    Args:
        run: of the forward pass.
        view: of the layer.
        picture: the tensor that holds the pictures, (N, *places, C) or (N, C, *places).

    Returns:
        The mean of the absolute gradients over the pictures.
    """
    measured = cells(view.grid)
    outputs, _, pull = run.differentiated(view.outputs, _floats_of(picture))
    mixture = keras.random.normal([view.channels], seed=1)
    at_once = picture.shape[0] or _PICTURES  # where the batch is fixed, it may take several runs
    found = []
    for first in range(0, _PICTURES, at_once):
        turns = range(first, min(first + at_once, _PICTURES))
        asked = [(turn - first, *measured[turn % len(measured)]) for turn in turns]

        def mixed(given: Sequence[Values], asked: Sequence[tuple[int, ...]] = asked) -> Values:
            activations = view.activations(given)
            weights = ops.cast(mixture, activations.dtype)
            return sum(ops.sum(activations[cell] * weights) for cell in asked)

        gradients = pull(engine.gradient(mixed, outputs))
        found.append(sum(ops.abs(at_least_float32(one)) for one in gradients)[: len(asked)])
    seen = ops.concatenate(found, axis=0)
    return ops.stack([ops.mean(seen[number :: len(measured)], axis=0) for number in range(len(measured))])


def _floats_of(picture: Tensor) -> list[Tensor]:
    """The picture, or what the model makes of one of whole numbers first, by which nothing can be differentiated."""
    if picture.dtype.is_floating:
        return [picture]
    casts = [operation.outputs[0] for operation in picture.consumers() if operation.type == "Cast"]
    return [tensor for tensor in casts if tensor.dtype.is_floating]


def spoilt(inputs: Inputs) -> Inputs:
    """A few pictures to measure on: the first of the inputs under noise of its own size, so that units wake up."""
    noise = np.random.default_rng(0)

    def copies(array: Array) -> Array:
        some = np.repeat(array[:1], _PICTURES, axis=0)
        if array.dtype == np.uint8:
            return noise.integers(0, 256, some.shape, np.uint8)
        if array.dtype.kind != "f":
            return some
        return np.asarray(some + noise.normal(0, array.std() or 1, some.shape), array.dtype)

    return each(copies, inputs)


def cells(grid: Sequence[int]) -> list[tuple[int, ...]]:
    """The cells that are measured: near all corners and, in a picture or signal, between them."""
    shares = (_INSET, 1 - _INSET) if len(grid) > 2 else (_INSET, 0.5, 1 - _INSET)
    lines = [[int(share * side) for share in shares] for side in grid]
    return [tuple(map(int, cell)) for cell in np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(grid))]


UNKNOWN = ""
"""Where nothing could be measured: too few cells see anything of the picture."""


def why_misplaced(measured: Array, grid: Sequence[int], *, channels_first: bool) -> str | None:
    """Why a map's places are not those of the picture, as the end of "Its places …"; None where they are.

    `UNKNOWN` where that cannot be told.

    Args:
        measured: see `footprints`.
        grid: of the map.
        channels_first: whether the picture's channels come first.
    """
    seen = measured.sum(axis=1 if channels_first else -1).astype(np.float64)
    places = tuple(range(1, seen.ndim))
    if not np.isfinite(seen).all():
        return UNKNOWN
    total = seen.sum(axis=places, keepdims=True)
    share = seen / np.where(total > 0, total, 1)
    # What all cells see says nothing about where one lies. A cell whose units are all asleep sees nothing.
    own = np.maximum(share - share.mean(axis=0, where=total > 0), 0)
    awake = own.sum(axis=places) > 0
    if awake.sum() < _LEAST:
        return UNKNOWN
    own, asked = own[awake], np.array(cells(grid))[awake]
    for side, size in enumerate(grid):
        along = tuple(axis for axis in places if axis != side + 1)
        profile = own.sum(axis=along)
        centres = (profile * (np.arange(profile.shape[1]) + 0.5)).sum(axis=1) / profile.sum(axis=1) / profile.shape[1]
        if asked[:, side].min() == asked[:, side].max():
            continue
        at = (asked[:, side] + 0.5) / size
        off = abs(at.mean() - centres.mean())
        offset = at.mean()
        at = at - offset
        moved, spread = (at * centres).sum() / (at**2).sum(), centres.std()
        ends = centres.mean() - moved * offset, centres.mean() + moved * (1 - offset)
        is_exact = moved * at.std() > _EXACT * spread
        if is_exact and max(abs(ends[0]), abs(ends[1] - 1)) > _OFF:
            moved = math.inf
        if not _FOLLOWS <= moved <= _MOST or moved * at.std() < _AGREES * spread or off > _OFF:
            name = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[len(grid)][side]
            return f"do not follow the picture along its {name}, as a measurement shows"
    return None
