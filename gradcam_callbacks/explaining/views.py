"""A layer's output, read as a map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from gradcam_callbacks.explaining.calls import Call
from gradcam_callbacks.explaining.graph import PASSING, ancestors, at_least_float32

Tensor = Any


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained.

    Attributes:
        path: the names from the model down to the layer, joined by "/"; of a layer that is called more than once
            with the number of the call, "backbone/conv[0]".
        kind: its class.
        shape: of its output, the batch first; None where it depends on the picture.
        picked: whether it is explained when no layer is named.
    """

    path: str
    kind: str
    shape: tuple[int | None, ...]
    picked: bool = False


@dataclass(frozen=True)
class View:
    """A layer's output as a map of C channels over a grid.

    Attributes:
        info: the layer.
        layer: the layer itself.
        output: what it gave, as it gave it.
        problem: why no map can be made of it, as the end of "It cannot be explained: …"; None where one can.
        grid: the sides of the map; None for one that depends on the picture.
        extra_tokens: how many tokens before those of the grid are no places, such as a class token.
        is_guess: whether the grid is a guess: the tokens are as many as a square has places, and nothing else says that
            they are one.
        lacks_grid: whether it could be explained if the user said the grid of its tokens.
        channels_first: whether the channels come before the grid.
        pooled: (N, C) or (N, 1, ..., 1, C), its mean over the grid, where the score depends on that alone.
    """

    info: LayerInfo
    layer: Any
    output: Any
    problem: str | None = None
    grid: tuple[int | None, ...] = ()
    extra_tokens: int = 0
    is_guess: bool = False
    lacks_grid: bool = False
    channels_first: bool = False
    pooled: Tensor | None = None

    @property
    def has_tokens(self) -> bool:
        """Whether the grid is one row of tokens."""
        return len(self.output.shape) < len(self.grid) + 2

    @property
    def cells(self) -> int:
        """How many places the grid has; 1 for a side that depends on the picture."""
        return math.prod(side or 1 for side in self.grid)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.output.shape[1 if self.channels_first else -1] or 1)

    @property
    def source(self) -> Tensor:
        """What to differentiate by: the mean over the grid where the score depends on that alone, else the output.

        The mean is much smaller, and its gradient says what that of every place is.
        """
        return self.output if self.pooled is None else self.pooled

    @property
    def floats(self) -> int:
        """How many numbers one target of one picture needs while many are computed.

        These are its map and, where the gradients of all targets are computed at once, its gradients.
        """
        return self.cells + (0 if self.pooled is None else self.channels)

    def activations(self) -> Tensor:
        """(N, *grid, C), at least float32."""
        return self._on_grid(self.output)

    def gradients(self, raw: Tensor) -> Tensor:
        """(N, *grid, C) or (N, 1, ..., 1, C) from the gradient of the source."""
        raw = tf.ensure_shape(raw, self.source.shape)  # the gradient of a maximum does not know its own shape
        if self.pooled is None:
            return self._on_grid(raw)
        places = tf.cast(tf.size(self.output) // tf.size(self.pooled), tf.float32)
        wide = at_least_float32(raw) / tf.cast(places, at_least_float32(raw).dtype)
        return tf.reshape(wide, (-1, *[1] * len(self.grid), self.channels))

    def _on_grid(self, tensor: Tensor) -> Tensor:
        wide = at_least_float32(tensor)
        if self.channels_first:
            return tf.transpose(wide, [0, *range(2, wide.shape.rank), 1])
        if self.has_tokens:
            return tf.reshape(wide[:, self.extra_tokens :], (-1, *self.grid, self.channels))
        return wide


def read_as_maps(
    calls: Sequence[Call], size: tuple[int, ...], grid: tuple[int, int] | None, scored: Any, *, channels_first: bool
) -> list[View]:
    """Reads the output of each call as a map, or says why it is none.

    Several layers may return the very same tensor, such as dropout at inference, or a model and its last layer. It
    counts as the output of the first of them.

    Args:
        calls: in the order in which they were made.
        size: (h, w) of the picture, (l,) of a signal or (d, h, w) of a volume.
        grid: (h, w) of the tokens of a transformer, if the user gave one.
        scored: see `Head`.
        channels_first: whether the channels come before the places.

    Returns:
        One view a call.
    """
    on_the_way = ancestors([tensor.op for tensor in tf.nest.flatten(scored)])
    makers = {id(call.output): call for call in reversed(calls)}
    views = []
    for path, call in _numbered(calls):
        view = View(LayerInfo(path, type(call.layer).__name__, ()), call.layer, call.output)
        maker = makers[id(call.output)]
        if maker is not call:
            views.append(replace(view, problem=f"it hands on the very tensor that '{maker.path}' gives; name that"))
        else:
            views.append(_read(view, size, grid, on_the_way, channels_first=channels_first))
    return views


def _numbered(calls: Sequence[Call]) -> Iterator[tuple[str, Call]]:
    """The calls with their paths; those of a layer that is called more than once in the order of the code, numbered."""
    by_path: dict[str, list[Call]] = {}
    for call in sorted(calls, key=lambda call: call.order):
        by_path.setdefault(call.path, []).append(call)
    numbers = {path: iter(range(len(of_layer))) for path, of_layer in by_path.items()}
    for running in calls:
        of_layer, number = by_path[running.path], next(numbers[running.path])
        yield f"{running.path}[{number}]" if len(of_layer) > 1 else running.path, of_layer[number]


def _read(
    view: View,
    size: tuple[int, ...],
    grid: tuple[int, int] | None,
    on_the_way: Mapping[int, Any],
    *,
    channels_first: bool,
) -> View:
    """The view with its grid, or with what is wrong with it."""
    output = view.output
    if not tf.is_tensor(output) or not output.dtype.is_floating or output.shape.rank is None:
        return replace(view, problem="its output is not one tensor of real numbers of a known rank")
    shape = tuple(output.shape)
    view = replace(view, info=replace(view.info, shape=shape))
    if id(output.op) not in on_the_way:
        return replace(view, problem="the score does not depend on it")
    if len(shape) == len(size) + 2:
        first = 2 if channels_first else 1
        axes = list(range(first, first + len(size)))
        pooled = _mean_over(output, axes, on_the_way)
        return replace(view, grid=tuple(shape[axis] for axis in axes), channels_first=channels_first, pooled=pooled)
    if len(shape) == 3 and len(size) == 2:
        return _tokens(view, grid, on_the_way)
    expected = ", ".join(("batch", *("length", "h, w", "d, h, w")[len(size) - 1 : len(size)], "channels"))
    return replace(view, problem=f"its output has shape {shape}, not ({expected})")


def _tokens(view: View, grid: tuple[int, int] | None, on_the_way: Mapping[int, Any]) -> View:
    """Reads (N, L, C) tokens as the grid that the user gave, or that of the patches that they come from."""
    length = view.output.shape[1]
    if length is None:
        return replace(view, problem="its number of tokens depends on the picture")
    if grid is not None:
        extra = length - grid[0] * grid[1]
        if extra < 0:
            return replace(view, problem=f"its {length} tokens are fewer than a grid of {grid[0]}x{grid[1]}")
        return replace(view, grid=grid, extra_tokens=extra)
    for extra in (0, 1):
        merged = _merged_grid(view.output, length - extra)
        if merged is not None:
            pooled = None if extra else _mean_over(view.output, [1], on_the_way)
            return replace(view, grid=merged, extra_tokens=extra, pooled=pooled)
    for extra in (0, 1):
        side = math.isqrt(length - extra)
        if side * side == length - extra > 1:
            return replace(view, grid=(side, side), extra_tokens=extra, is_guess=True)
    return replace(view, problem=f"its {length} tokens do not say what grid they are", lacks_grid=True)


def _merged_grid(tokens: Tensor, length: int) -> tuple[int, int] | None:
    """The (h, w) of tokens, where some (N, h, w, ...) before them was reshaped to (N, h * w, the rest)."""
    for operation in ancestors([tokens.op]).values():
        if operation.type != "Reshape":
            continue
        before, after = operation.inputs[0].shape, operation.outputs[0].shape
        if before.rank is None or before.rank < 4 or after.rank != 3 or None in (*before[1:], *after[1:]):
            continue
        height, width, *rest = before[1:]
        if height * width == after[1] == length and math.prod(rest) == after[2] and min(height, width) > 0:
            return (height, width)
    return None


def _mean_over(output: Tensor, axes: Sequence[int], on_the_way: Mapping[int, Any]) -> Tensor | None:
    """The mean of a layer's output over its grid, where it is all that the score takes of it."""
    tensor = output
    while True:
        takers = {id(taker): taker for taker in tensor.consumers() if id(taker) in on_the_way}
        if len(takers) != 1:
            return None
        (taker,) = takers.values()
        if taker.type == "Mean":
            reduced = tf.get_static_value(taker.inputs[1])
            same = reduced is not None and sorted(np.ravel(reduced) % output.shape.rank) == list(axes)
            return taker.outputs[0] if same and taker.inputs[0] is tensor else None
        if taker.type not in PASSING:
            return None
        tensor = taker.outputs[0]
