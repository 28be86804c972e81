"""A layer's output, read as a map."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from gradcam_callbacks.explaining.calls import Call
from gradcam_callbacks.explaining.engines.engine import engine
from gradcam_callbacks.explaining.graph import PASSING, ancestors, at_least_float32
from gradcam_callbacks.explaining.places import PICTURES, Axis, Places, Stretch

Tensor = Any
Values = Any


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained.

    Attributes:
        path: the names from the model down to the layer, joined by "/"; of a layer that is called more than once
            with the number of the call, "backbone/conv[0]". What no layer gives, but a sum or product after one in the
            code of a model, is named by both, "gate>Mul".
        kind: its class; of an operation its name.
        shape: of its output, the batch first; None where it depends on the picture.
        picked: whether it is explained when no layer is named.
    """

    path: str
    kind: str
    shape: tuple[int | None, ...]
    picked: bool = False


@dataclass(frozen=True)
class Reading:
    """How the numbers of an output are brought into the order (N, *grid, C).

    Attributes:
        grid: the sides of the map, in the order of the picture's.
        channels: C.
        cut: (axis, first, count) of the entries to take where some are no places; None where all are.
        sizes: of the axes below the batch, after the flattened ones were taken apart; None where the order is right.
        order: of these axes, from 1: those of the grid, then the rest.
        mirrored: the sides that are read from their end.
    """

    grid: tuple[int, ...]
    channels: int = 1
    cut: tuple[int, int, int] | None = None
    sizes: tuple[int, ...] | None = None
    order: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()

    def of(self, tensor: Values, ops: Any = ops) -> Values:
        """(N, *grid, C) from the numbers of the output, or from its gradient; NumPy's where `ops` is NumPy."""
        if self.cut is not None:
            axis, first, count = self.cut
            tensor = tensor[(slice(None),) * axis + (slice(first, first + count),)]
        if self.sizes is not None:
            tensor = ops.transpose(ops.reshape(tensor, (-1, *self.sizes)), (0, *self.order))
            tensor = ops.reshape(tensor, (-1, *self.grid, self.channels))
        for side in self.mirrored:  # one by one: Keras 3.11 takes no list of axes
            tensor = ops.flip(tensor, axis=side + 1)
        return tensor


@dataclass(frozen=True)
class View:
    """A layer's output as a map of C channels over a grid.

    Attributes:
        info: the layer.
        layer: the layer itself; None for an operation.
        output: what it gave, as it gave it.
        problem: why no map can be made of it, as the end of "It cannot be explained: …"; None where one can.
        reading: how it is read.
        guess: what is assumed, as a whole sentence; None where all is known.
        misplaced: why its places are not those of the picture shown, as the end of "Its places …"; None where they are.
        frame: (side, start, end) where it is one place along a side and covers only this share of it, such as one
            frame of a video.
        lost: the side of the picture along which the places were put together in its channels, such as "height"; None
            where none was.
        is_elsewhere: whether it does not depend on the picture shown.
        is_inside: whether it was made inside a loop or a branch of the graph.
        is_certain: whether all operations on the way from the picture were understood.
        lacks_grid: whether it could be explained if the user said the grid of its tokens.
        lacks_channels: whether it could be if the pictures had an axis of channels.
        pooled: (N, C) or (N, 1, ..., 1, C), its mean over the grid, where the score depends on that alone.
    """

    info: LayerInfo
    layer: Any
    output: Any
    problem: str | None = None
    reading: Reading = Reading(())
    guess: str | None = None
    misplaced: str | None = None
    frame: tuple[int, float, float] | None = None
    lost: str | None = None
    is_elsewhere: bool = False
    is_inside: bool = False
    is_certain: bool = True
    lacks_grid: bool = False
    lacks_channels: bool = False
    pooled: Tensor | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """The sides of the map."""
        return self.reading.grid

    @property
    def has_map(self) -> bool:
        """Whether it has a map of more than one place."""
        return self.problem is None and set(self.grid) != {1}

    @property
    def channels(self) -> int:
        """C."""
        return self.reading.channels

    @property
    def outputs(self) -> list[Tensor]:
        """What its activations are read from, first, and what else its gradients are."""
        return [self.output]

    @property
    def sources(self) -> list[Tensor]:
        """What to differentiate by: the mean over the grid where the score depends on that alone, else the output.

        The mean is much smaller, and its gradient says what that of every place is.
        """
        return [self.output if self.pooled is None else self.pooled]

    @property
    def floats(self) -> int:
        """How many numbers one target of one picture needs while many are computed.

        These are its map and, where the gradients of all targets are computed at once, its gradients.
        """
        return math.prod(self.grid) + (0 if self.pooled is None else self.channels)

    @property
    def gradient_shape(self) -> tuple[int, ...]:
        """(*grid, C), or (1, ..., 1, C) where the gradient is the same everywhere."""
        return (*(self.grid if self.pooled is None else [1] * len(self.grid)), self.channels)

    def activations(self, outputs: Sequence[Values]) -> Values:
        """(N, *grid, C), at least float32, from the numbers of the outputs."""
        return self.reading.of(at_least_float32(outputs[0]))

    def gradients(self, raw: Sequence[Values], outputs: Sequence[Values]) -> Values:
        """(N, *grid, C) or (N, 1, ..., 1, C) from the gradients of the sources, and the numbers of the outputs."""
        del outputs
        wide = at_least_float32(raw[0])
        if self.pooled is None:
            return self.reading.of(wide)
        return ops.reshape(wide / math.prod(self.grid), (-1, *[1] * len(self.grid), self.channels))


@dataclass(frozen=True)
class Video:
    """The outputs of a layer that is called on each frame of a video, as one map.

    Attributes:
        frames: in their order.
        side: the side of the picture that they follow each other along.
    """

    frames: tuple[View, ...]
    side: int

    pooled = None
    is_certain = True
    misplaced = None
    guess = None
    lost = None
    layer = None

    @property
    def info(self) -> LayerInfo:
        """The layer, without the numbers of its calls."""
        first = self.frames[0].info
        path = re.sub(r"\[\d+\]$", "", first.path)
        return LayerInfo(path, first.kind, (None, *self.grid, self.channels))

    @property
    def output(self) -> Tensor:
        """That of the last frame."""
        return self.frames[-1].output

    @property
    def grid(self) -> tuple[int, ...]:
        """The sides of the map."""
        grid = list(self.frames[0].grid)
        grid[self.side] = len(self.frames)
        return tuple(grid)

    @property
    def channels(self) -> int:
        """C."""
        return self.frames[0].channels

    @property
    def outputs(self) -> list[Tensor]:
        """See `View`."""
        return [frame.output for frame in self.frames]

    @property
    def sources(self) -> list[Tensor]:
        """See `View`."""
        return self.outputs

    @property
    def floats(self) -> int:
        """See `View`."""
        return math.prod(self.grid)

    @property
    def gradient_shape(self) -> tuple[int, ...]:
        """See `View`."""
        return (*self.grid, self.channels)

    def activations(self, outputs: Sequence[Values]) -> Values:
        """See `View`."""
        parts = [frame.activations([one]) for frame, one in zip(self.frames, outputs, strict=True)]
        return ops.concatenate(parts, axis=self.side + 1)

    def gradients(self, raw: Sequence[Values], outputs: Sequence[Values]) -> Values:
        """See `View`."""
        del outputs
        return self.activations(raw)


@dataclass(frozen=True)
class Picture:
    """The picture shown, as far as the maps depend on it.

    Attributes:
        size: (h, w) of a picture, (l,) of a signal or (d, h, w) of a volume.
        name: the key of the picture among several inputs; None where it is the only one.
        grid: (h, w) of the tokens of a transformer, if the user gave one.
        channels_first: whether its channels come before its places.
    """

    size: tuple[int, ...]
    name: str | int | None
    grid: tuple[int, int] | None
    channels_first: bool


class Reader:
    """Reads outputs as maps of one picture."""

    def __init__(self, places: Mapping[int, Places], picture: Picture, scored: Sequence[Tensor]) -> None:
        """Takes what is known of the graph.

        Args:
            places: of the tensors that depend on the picture shown, by their ids.
            picture: that is shown.
            scored: the tensors that the score is made of.
        """
        self._places, self._picture = places, picture
        self._on_the_way = ancestors([tensor.op for tensor in scored])
        self._graph = scored[0].graph

    def read_all(self, calls: Sequence[tuple[str, Call]]) -> list[View]:
        """Reads the output of each call as a map, or says why it is none.

        Several layers may return the very same tensor, such as dropout at inference, or a model and its last layer. It
        counts as the output of the first of them.

        Args:
            calls: with their paths, in the order in which they were made.

        Returns:
            One view a call.
        """
        makers = {id(call.output): call for _, call in reversed(calls)}
        views = []
        for path, call in calls:
            view = View(LayerInfo(path, call.kind, ()), call.layer, call.output)
            maker = makers[id(call.output)]
            if maker is not call:
                views.append(replace(view, problem=f"it hands on the very tensor that '{maker.path}' gives; name that"))
            else:
                views.append(self.read(view))
        return views

    def read(self, view: View) -> View:
        """The view with its grid, or with what is wrong with it."""
        output = view.output
        if not engine.is_tensor(output) or not output.dtype.is_floating or output.shape.rank is None:
            return replace(view, problem="its output is not one tensor of real numbers of a known rank")
        if output.graph is not self._graph:
            return replace(
                view,
                problem="it is called inside a loop or a branch of the graph, such as tf.map_fn, where its output "
                "cannot be had",
                is_inside=True,
            )
        known = self._places.get(id(output))
        sizes = None
        if known is not None and known.axes is not None:
            sizes = [axis.size if axis.size % PICTURES else None for axis in known.axes]
        shape = tuple(output.shape) if sizes is None else tuple(sizes)
        view = replace(view, info=replace(view.info, shape=shape))
        if id(output.op) not in self._on_the_way:
            return replace(view, problem="the score does not depend on it")
        if known is None:
            return replace(view, problem=f"it does not depend on {self._shown}", is_elsewhere=True)
        if self._picture.grid is not None and len(shape) == 3 and len(self._picture.size) == 2:
            return self._on_given_grid(view, known)
        return self._assumed(view) if known.axes is None else self._placed(view, known)

    @property
    def _shown(self) -> str:
        name = self._picture.name
        return "the picture" if name is None else f"the picture that is shown, input {name!r}"

    @property
    def _names(self) -> tuple[str, ...]:
        """The names of the picture's sides."""
        return {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[len(self._picture.size)]

    def _not_a_map(self, view: View) -> View:
        names = {1: "length", 2: "h, w", 3: "d, h, w"}[len(self._picture.size)]
        return replace(view, problem=f"its output has shape {view.info.shape}, not (batch, {names}, channels)")

    # ---- What the operations on the way tell ----

    def _placed(self, view: View, known: Places) -> View:
        """Reads an output whose places are known."""
        axes = known.axes or ()
        if not axes or not (axes[0].is_batch or _is_batch_of_frames(axes[0], known)):
            return replace(
                view,
                problem=f"its first axis, of shape {view.info.shape}, is not the pictures of the batch, but parts of "
                "them, such as windows, or several pictures put together",
            )
        if not any(axis.sides for axis in axes) or len(axes) < 3:
            if len(axes) == len(known.sides) + 2:
                return replace(view, problem=f"no axis of its shape {view.info.shape} runs along the picture any more")
            is_tokens = len(axes) == 3 and len(known.sides) == 2 and axes[1].size > 1
            return self._without_grid(view, axes[1].size) if is_tokens else self._not_a_map(view)
        if len(known.sides) == 1 and known.is_over_channels:
            return replace(
                view,
                problem=f"its output has shape {view.info.shape}, so the model takes its input for a picture",
                lacks_channels=True,
            )
        parts = [
            _Part(number, stretch)
            for number, axis in enumerate(axes)
            for stretch in axis.stretches
            if isinstance(stretch, Stretch)
        ]
        if len(parts) < sum(len(axis.stretches) for axis in axes):
            return self._not_a_map(view)
        along = [
            sorted((part for part in parts if part.stretch.side == side), key=lambda part: -part.stretch.stride)
            for side in range(len(known.sides))
        ]
        for side, of_side in zip(known.sides, along, strict=True):
            stride = 1
            for part in reversed(of_side):
                if part.stretch.stride != stride:
                    return replace(
                        view,
                        problem=f"the picture's places occur more than once in its shape {view.info.shape}, as in "
                        "attention between places, or only in part",
                    )
                stride *= part.stretch.size
            if of_side and stride != side.cells:
                return replace(view, problem=f"only some of the picture's places are left in shape {view.info.shape}")
        grid = tuple(math.prod(part.stretch.size for part in of_side) for of_side in along)
        extra = [number for number, axis in enumerate(axes) if axis.before or axis.after]
        if len(extra) > 1 or (extra and axes[extra[0]].is_plain):
            return self._not_a_map(view)
        ordered = [parts.index(part) for of_side in along for part in of_side]
        ordered += [position for position in range(1, len(parts)) if position not in ordered]
        channels = math.prod(part.stretch.size for part in parts if part.stretch.side is None)
        is_in_order = (
            axes[0].is_batch
            and all(along)
            and ordered == list(range(1, len(grid) + 2))
            and len(parts) == len(axes)
            and len(axes) == len(grid) + 2
        )
        reading = Reading(
            grid,
            channels,
            cut=None if not extra else (extra[0], axes[extra[0]].before, _inner(axes[extra[0]])),
            sizes=None if is_in_order else tuple(part.stretch.size for part in parts[1:]),
            order=tuple(ordered),
            mirrored=tuple(
                number for number, of_side in enumerate(along) if of_side and known.sides[number].is_mirrored
            ),
        )
        numbers = sorted({part.axis for of_side in along for part in of_side})
        is_simple = (
            not extra
            and axes[0].is_batch
            and all(part.stretch.side is not None for part in parts if part.axis in numbers)
        )
        return replace(
            view,
            reading=reading,
            misplaced=self._why_misplaced(known),
            frame=_frame(known, grid),
            lost=next(
                (
                    name
                    for name, side, of_side in zip(self._names, known.sides, along, strict=True)
                    if side.cells > 1 and not of_side
                ),
                None,
            ),
            is_certain=known.is_certain,
            pooled=_mean_over(view.output, numbers, self._on_the_way) if is_simple else None,
        )

    def _why_misplaced(self, known: Places) -> str | None:
        """Why the places are not those of the picture, where a map could be read."""
        for name, side in zip(self._names, known.sides, strict=True):
            if side.is_mixed:
                return f"along its {name} put together what lies apart, such as the picture and its mirror image"
            if side.rolled:
                return f"are moved in a circle along its {name}"
            if not side.covers_picture:
                low, high = sorted((side.start, side.end))
                return f"cover its {name} from {low:.0%} to {high:.0%} only"
        return None

    # ---- What only the shape tells ----

    def _on_given_grid(self, view: View, known: Places) -> View:
        """Reads (N, L, C) tokens as the grid that the user gave, the tokens that are no places before it.

        Where it is known how they lie, the grid must be that.
        """
        placed = self._placed(view, known) if known.is_certain else None
        if placed is not None and placed.problem is None:
            if placed.grid == self._picture.grid:
                return placed
            sides = "x".join(map(str, placed.grid))
            return replace(view, problem=f"its tokens are those of a grid of {sides}", lacks_grid=True)
        height, width = self._picture.grid or (0, 0)
        length = known.axes[1].size if known.axes else view.output.shape[1]
        if length is None:
            return replace(view, problem="its number of tokens depends on the picture")
        extra = length - height * width
        if extra < 0:
            return replace(view, problem=f"its {length} tokens are fewer than a grid of {height}x{width}")
        return self._tokens(view, (height, width), extra, length)

    def _tokens(self, view: View, grid: tuple[int, int], extra: int, length: int) -> View:
        channels = int(view.info.shape[2] or view.output.shape[2] or 1)
        return replace(
            view,
            reading=Reading(
                grid,
                channels,
                cut=(1, extra, length - extra) if extra else None,
                sizes=(length - extra, channels),
                order=(1, 2),
            ),
            pooled=None if extra else _mean_over(view.output, [1], self._on_the_way),
        )

    def _assumed(self, view: View) -> View:
        """Reads an output of whose places nothing is known as its shape suggests."""
        output, size = view.output, self._picture.size
        shape = tuple(output.shape)
        view = replace(view, is_certain=False)
        if len(shape) == len(size) + 2 and None not in shape[1:]:
            is_first = self._picture.channels_first
            axes = list(range(2, len(shape))) if is_first else list(range(1, len(shape) - 1))
            reading = Reading(
                tuple(shape[axis] for axis in axes),
                int(shape[1 if is_first else -1]),
                sizes=shape[1:] if is_first else None,
                order=(*axes, 1) if is_first else (),
            )
            return replace(view, reading=reading, pooled=_mean_over(output, axes, self._on_the_way))
        if len(shape) != 3 or len(size) != 2 or shape[2] is None:
            return self._not_a_map(view)
        if shape[1] is None:
            return replace(view, problem="its number of tokens depends on the picture", lacks_grid=True)
        length = int(shape[1])
        for extra in (0, 1):
            grid = _in_proportion(length - extra, size)
            if grid is not None:
                guess = (
                    f"The {length} tokens of layer '{view.info.path}' are read as a grid of {grid[0]}x{grid[1]}"
                    + (" after one that is no place" * extra)
                    + ": a guess from their number and the picture's proportions."
                )
                return replace(self._tokens(view, grid, extra, length), guess=guess)
        return self._without_grid(view, length)

    def _without_grid(self, view: View, length: int) -> View:
        return replace(view, problem=f"its {length} tokens do not say what grid they are", lacks_grid=True)


@dataclass(frozen=True)
class _Part:
    """One stretch of an axis, and the axis's number."""

    axis: int
    stretch: Stretch


def _is_batch_of_frames(axis: Axis, known: Places) -> bool:
    """Whether an axis runs over the pictures and, within each, over all of one side, such as the frames of a video."""
    batch, *rest = axis.stretches
    if axis.has_extra or not Axis((batch,)).is_batch or len(rest) != 1:
        return False
    (stretch,) = rest
    is_whole = isinstance(stretch, Stretch) and stretch.stride == 1 and bool(stretch.sides)
    return is_whole and all(known.sides[side].cells == stretch.size for side in stretch.sides)


def _inner(axis: Axis) -> int:
    """How many entries of an axis are places."""
    return math.prod(stretch.size for stretch in axis.stretches)


def _frame(known: Places, grid: Sequence[int]) -> tuple[int, float, float] | None:
    """The side along which the output is one place that covers only a part of it; None where there is none or more."""
    partial = [number for number, side in enumerate(known.sides) if not side.covers_picture]
    if len(partial) != 1 or grid[partial[0]] != 1 or any(side.is_mixed or side.rolled for side in known.sides):
        return None
    side = known.sides[partial[0]]
    return partial[0], side.start, side.end


def _in_proportion(count: int, size: Sequence[int]) -> tuple[int, int] | None:
    """The (h, w) of more than one cell that are to each other as the picture's sides are; None where there is none."""
    if count < 2:
        return None
    height = math.isqrt(count * size[0] // size[1])
    is_whole = height > 0 and count % height == 0
    return (height, count // height) if is_whole and height * size[1] * height == count * size[0] else None


def _mean_over(output: Tensor, axes: Sequence[int], on_the_way: Mapping[int, Any]) -> Tensor | None:
    """The mean of a layer's output over its grid, where it is all that the score takes of it."""
    tensor = output
    while True:
        takers = {id(taker): taker for taker in tensor.consumers() if id(taker) in on_the_way}
        if len(takers) != 1:
            return None
        (taker,) = takers.values()
        if taker.type == "Mean":
            reduced = engine.static_value(taker.inputs[1])
            same = reduced is not None and sorted(np.ravel(reduced) % output.shape.rank) == list(axes)
            return taker.outputs[0] if same and taker.inputs[0] is tensor else None
        if taker.type not in PASSING:
            return None
        tensor = taker.outputs[0]
