"""What each operation of the graph does to the axes of the tensors that depend on the picture shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from gradcam_callbacks.explaining.engines.engine import engine
from gradcam_callbacks.explaining.graph import WITHOUT_DATA
from gradcam_callbacks.explaining.places import (
    PICTURES,
    TOLERANCE,
    UNKNOWN,
    Axis,
    Places,
    Side,
    Stretch,
    joined,
    parts_of,
    plain,
    reshaped,
    settled,
)

Tensor = Any
Known = Places | None
"""Of one tensor: its places, or None where it does not depend on the picture."""
Rule = Callable[[Any, Sequence[Known], Any], Any]
"""Gives the places of an operation's output, or a list with those of each, from those of its inputs."""


_SAME_SHAPE = frozenset({"Identity", "Cast", "Mul", "AddV2", "ZerosLike", "OnesLike"})
"""Operations whose result has the shape of the one input of its rank, where that is one."""


class _NotKnownError(Exception):
    """An operation takes something that is only known when it runs, or does more than its rule says."""


def followed(
    graph: Any,
    start: Mapping[int, Places],
    said: Mapping[int, Callable[[Any], Known]],
    batch: int | None = None,
    given: Mapping[int, Any] | None = None,
) -> dict[int, Places]:
    """The places of every tensor of a graph that depends on the picture shown, by the tensor's id.

    Args:
        graph: that was traced.
        start: the places of the pictures.
        said: for tensors of which more is known than the operations tell: gives their places from those of others.
        batch: how many pictures the graph takes where that is fixed.
        given: the numbers that a function's graph is called with, by the tensors' ids.
    """
    places: dict[int, Places] = dict(start)
    numbers = _Numbers(places, batch, given or {})
    for operation in graph.get_operations():  # in the order in which they were made, so inputs come first
        inputs = [places.get(id(tensor)) for tensor in operation.inputs]
        if operation.type in WITHOUT_DATA or all(known is None for known in inputs):
            continue
        for tensor, known in zip(operation.outputs, _after(operation, inputs, numbers), strict=True):
            if id(tensor) in said:
                better: Known = said[id(tensor)](places)
                known = better or known
            if known is not None and id(tensor) not in start:
                places[id(tensor)] = known
    return places


def _after(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Sequence[Known]:
    """The places of each output."""
    rule: Rule = _RULES.get(operation.type, _not_understood)
    if rule is not _joining and any(known is not None and known.axes is None for known in inputs):
        rule = _not_understood
    try:
        result = rule(operation, inputs, numbers)
    except Exception:  # also where an operation is used in a way that its rule does not foresee
        result = _not_understood(operation, inputs, numbers)
    results: Sequence[Known] = result if isinstance(result, list) else [result] * len(operation.outputs)
    return [
        known and (settled(known) if _fits(known, tensor) else UNKNOWN)
        for tensor, known in zip(operation.outputs, results, strict=True)
    ]


def _fits(places: Places, tensor: Tensor) -> bool:
    """Whether places can be those of a tensor, by its shape as far as that is known."""
    if places.axes is None or tensor.shape.rank is None:
        return True
    shape = tuple(tensor.shape)
    return len(places.axes) == len(shape) and all(
        size is None or size == axis.size or axis.size % PICTURES == 0
        for size, axis in zip(shape, places.axes, strict=True)
    )


class _Numbers:
    """Works out the shapes that a graph computes, for any number of pictures."""

    def __init__(self, places: Mapping[int, Places], batch: int | None, given: Mapping[int, Any]) -> None:
        self._places, self._batch = places, batch
        self._known: dict[int, Any] = dict(given)

    def __call__(self, tensor: Tensor) -> Any:
        """The numbers in a tensor.

        Raises:
            _NotKnownError: if they depend on more than the number of pictures.
        """
        if id(tensor) not in self._known:
            self._known[id(tensor)] = self._found(tensor)
        found = self._known[id(tensor)]
        if found is None:
            raise _NotKnownError
        return found

    def sizes(self, tensor: Tensor) -> list[int]:
        """The numbers in a shape, with `PICTURES` for the number of pictures also where that is fixed."""
        found = [int(size) for size in self(tensor)]
        if self._batch is None or any(size % PICTURES == 0 for size in found) or not found or found[0] % self._batch:
            return found
        return [found[0] // self._batch * PICTURES, *found[1:]]

    def _found(self, tensor: Tensor) -> Any:
        value = engine.static_value(tensor)
        if value is not None:
            return np.asarray(value)
        operation = tensor.op
        if operation.type in ("Shape", "Size"):
            sizes = self._sizes(operation.inputs[0])
            return None if sizes is None else np.asarray(sizes if operation.type == "Shape" else math.prod(sizes))
        compute = _COMPUTED.get(operation.type)
        if compute is None:
            return None
        try:
            found = compute(operation, [self(given) for given in operation.inputs])
            return None if found is None else np.asarray(found)
        except Exception:  # also where what is computed is no shape
            return None

    def _sizes(self, tensor: Tensor) -> list[int] | None:
        """A tensor's shape."""
        known = self._places.get(id(tensor))
        if known is not None and known.axes is not None:
            return [axis.size for axis in known.axes]
        if tensor.shape.rank is None:
            return None
        sizes = list(tensor.shape)
        if sizes and sizes[0] is None:
            sizes[0] = PICTURES
        if None not in sizes:
            return sizes
        if tensor.op.type == "Fill":
            with suppress(_NotKnownError):
                return self.sizes(tensor.op.inputs[0])
        if tensor.op.type in _SAME_SHAPE:
            given = [one for one in tensor.op.inputs if one.shape.rank == tensor.shape.rank]
            return self._sizes(given[0]) if len(given) == 1 else None
        return None

    def shape_of(self, tensor: Tensor) -> list[int]:
        """A tensor's shape, with `PICTURES` for the number of pictures.

        Raises:
            _NotKnownError: if a side is not known.
        """
        found = self._sizes(tensor)
        if found is None:
            raise _NotKnownError
        return found


def _sliced_numbers(operation: Any, given: Sequence[Any]) -> Any:
    """`shape[a:b]` or `shape[a]`."""
    values, begin, end, step = given
    if values.ndim != 1 or len(begin) != 1:
        raise _NotKnownError
    if operation.get_attr("shrink_axis_mask"):
        return values[int(begin[0])]
    first = None if operation.get_attr("begin_mask") else int(begin[0])
    return values[first : None if operation.get_attr("end_mask") else int(end[0]) : int(step[0])]


def _cast_numbers(operation: Any, given: Sequence[Any]) -> Any:
    """Whole numbers stay 64 bits wide, as `PICTURES` times a size needs that."""
    dtype = operation.get_attr("DstT")
    return given[0].astype(np.int64 if dtype.is_integer else dtype.as_numpy_dtype)


_MOST_NUMBERS = 10_000
"""How many numbers a tensor may have that is worked out."""

_COMPUTED: dict[str, Callable[[Any, Sequence[Any]], Any]] = {
    "Identity": lambda _, given: given[0],
    "Cast": _cast_numbers,
    "StridedSlice": _sliced_numbers,
    "GatherV2": lambda _, given: np.take(given[0], given[1], axis=int(given[2])),
    "Pack": lambda _, given: np.stack(given),
    "ConcatV2": lambda _, given: np.concatenate(given[:-1]),
    "Prod": lambda _, given: np.prod(given[0]),
    "Mul": lambda _, given: given[0] * given[1],
    "Add": lambda _, given: given[0] + given[1],
    "AddV2": lambda _, given: given[0] + given[1],
    "Sub": lambda _, given: given[0] - given[1],
    "RealDiv": lambda _, given: given[0] / given[1],
    "FloorDiv": lambda _, given: given[0] // given[1],
    "FloorMod": lambda _, given: given[0] % given[1],
    "Maximum": lambda _, given: np.maximum(given[0], given[1]),
    "Minimum": lambda _, given: np.minimum(given[0], given[1]),
    "Floor": lambda _, given: np.floor(given[0]),
    "Ceil": lambda _, given: np.ceil(given[0]),
    "Round": lambda _, given: np.round(given[0]),
    "Rint": lambda _, given: np.rint(given[0]),
    "Greater": lambda _, given: given[0] > given[1],
    "GreaterEqual": lambda _, given: given[0] >= given[1],
    "Less": lambda _, given: given[0] < given[1],
    "LessEqual": lambda _, given: given[0] <= given[1],
    "Equal": lambda _, given: given[0] == given[1],
    "NotEqual": lambda _, given: given[0] != given[1],
    "LogicalAnd": lambda _, given: given[0] & given[1],
    "LogicalOr": lambda _, given: given[0] | given[1],
    "LogicalNot": lambda _, given: ~given[0],
    "SelectV2": lambda _, given: np.where(*given),
    "Reshape": lambda _, given: np.reshape(given[0], given[1]),
    "ExpandDims": lambda _, given: np.expand_dims(given[0], int(given[1])),
    "Squeeze": lambda _, given: np.squeeze(given[0]),
    "Range": lambda _, given: np.arange(*given) if given[1] < _MOST_NUMBERS else None,
    "Fill": lambda _, given: np.full(given[0], given[1]) if np.prod(given[0]) < _MOST_NUMBERS else None,
}
"""How the operations compute that shapes are made with."""


def _not_understood(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """What has the shape of what came in probably lies as that does; of anything else nothing is known."""
    given = [known for known in inputs if known is not None and known.axes is not None]

    def of(output: Tensor) -> Places:
        shape = output.shape
        for known in given:
            if shape.rank == len(known.axes or ()) and _fits(known, output) and None not in tuple(shape)[1:]:
                return replace(known, is_certain=False)
        return UNKNOWN

    return [of(output) for output in operation.outputs]


def _first(inputs: Sequence[Known]) -> Places:
    """The places of the one input that is data."""
    if not inputs or inputs[0] is None or inputs[0].axes is None:
        raise _NotKnownError
    return inputs[0]


def _axes(places: Places) -> tuple[Axis, ...]:
    return places.axes or ()


def _of(tensor: Tensor, places: Known, numbers: _Numbers | None = None) -> Known:
    """The places of an input; one that does not depend on the picture has plain axes."""
    if places is not None or tensor.shape.rank is None:
        return places
    sizes = [PICTURES if size is None else size for size in tensor.shape]
    if numbers is not None and None in tuple(tensor.shape)[1:]:
        sizes = numbers.shape_of(tensor)
    return Places(tuple(plain(size) for size in sizes))


# ---- Number by number ----


def _handed_on(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """The same numbers, or each changed by itself."""
    return _first(inputs)


def _each_handed_on(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    return list(inputs)


def _joining(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """Several tensors put together number by number, with broadcasting."""
    everything = [_of(tensor, known) for tensor, known in zip(operation.inputs, inputs, strict=True)]
    if operation.type == "ClipByValue":
        everything = everything[:1]
    if operation.type == "BiasAdd":
        return _first(inputs)
    return joined([known for known in everything if known is not None])


# ---- Shapes ----


def _broadcast(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.broadcast_to`: what is repeated along an axis are no places."""
    places, sizes = _first(inputs), numbers.sizes(operation.inputs[1])
    axes = [plain(1)] * (len(sizes) - len(_axes(places))) + list(_axes(places))
    grown = [plain(size) if axis.size == 1 else axis for axis, size in zip(axes, sizes, strict=True)]
    return replace(places, axes=tuple(grown))


def _reshaped(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    places = reshaped(_first(inputs), numbers.sizes(operation.inputs[1]))
    for number, axis in enumerate(_axes(places)[:-1]):
        # Cells that were repeated, or that a sub-pixel convolution fills, are more cells over the same part.
        whole = axis.stretches[0]
        if [part.is_plain for part in axis.stretches] == [False, True] and axis.sides and isinstance(whole, Stretch):
            (along,) = axis.sides
            if whole.stride == 1 and places.sides[along].cells == whole.size:
                finer = replace(places.sides[along], cells=axis.size)
                places = places.with_side(along, finer).with_axis(number, Axis((replace(whole, size=axis.size),)))
    return places


def _transposed(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    places = _first(inputs)
    order = numbers(operation.inputs[1])
    return replace(places, axes=tuple(_axes(places)[number] for number in order))


def _expanded(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    places = _first(inputs)
    axes = list(_axes(places))
    number = int(numbers(operation.inputs[1]).ravel()[0])
    axes.insert(number if number >= 0 else number + len(axes) + 1, plain(1))
    return replace(places, axes=tuple(axes))


def _squeezed(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    places = _first(inputs)
    axes = _axes(places)
    asked = [number % len(axes) for number in operation.get_attr("squeeze_dims")]
    return _dropped(places, asked or [number for number, axis in enumerate(axes) if axis.size == 1])


def _reduced(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """A sum, mean or maximum over axes."""
    places = _first(inputs)
    count = len(_axes(places))
    gone = {int(number) % count for number in numbers(operation.inputs[1]).ravel()} if count else set()
    keeps = operation.get_attr("keep_dims")
    axes = [plain(1) if number in gone else axis for number, axis in enumerate(_axes(places))]
    for number in gone:
        along = _axes(places)[number].runs_along
        if along is not None:  # one cell over all of the side
            places = places.with_side(along, replace(places.sides[along], cells=1))
    return replace(places, axes=tuple(axis for number, axis in enumerate(axes) if keeps or number not in gone))


def _tiled(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """Repeated whole: what is repeated are no places."""
    places = _first(inputs)
    for number, (axis, times) in enumerate(zip(_axes(places), numbers(operation.inputs[1]), strict=True)):
        if times != 1:
            places = places.with_axis(number, plain(axis.size * int(times)))
            places = places if axis.is_plain else replace(places, is_certain=False)
    return places


# ---- Parts ----


def _selected(places: Places, number: int, first: int, count: int, step: int = 1) -> Places:
    """Some entries of one axis, `count` of them from `first` on."""
    axis = _axes(places)[number]
    last = first + (count - 1) * step
    low, high = min(first, last), max(first, last)
    if axis.is_plain and not axis.has_extra:
        return places.with_axis(number, plain(count))
    side = axis.runs_along
    if side is not None:
        if places.sides[side].rolled:
            raise _NotKnownError
        # Each entry stands for `step` cells, with itself in their middle.
        part = replace(places.sides[side].part(low - (abs(step) - 1) / 2, count * abs(step)), cells=count)
        part = part.mirrored() if step < 0 else part
        return places.with_side(side, part).with_axis(number, Axis((Stretch(count, side),)))
    if step != 1:
        raise _NotKnownError
    end = axis.size - axis.after
    if low <= axis.before and high >= end - 1:
        return places.with_axis(number, replace(axis, before=axis.before - low, after=high + 1 - end))
    if high < axis.before or low >= end:
        return places.with_axis(number, plain(count))
    raise _NotKnownError


def _dropped(places: Places, numbers: Iterable[int]) -> Places:
    """Without axes of one entry."""
    gone = set(numbers)
    return replace(places, axes=tuple(axis for number, axis in enumerate(_axes(places)) if number not in gone))


def _sliced(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tensor[a:b:c, …]`."""
    places = _first(inputs)
    begin, end, strides = (numbers(tensor) for tensor in operation.inputs[1:4])
    masks = {
        name: int(operation.get_attr(f"{name}_mask"))
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }

    def has(name: str, entry: int) -> bool:
        return bool(masks[name] >> entry & 1)

    number = 0
    shrunk: list[int] = []
    added: list[int] = []
    for entry in range(len(begin)):
        if has("ellipsis", entry):
            later = sum(not has("new_axis", other) for other in range(entry + 1, len(begin)))
            number = len(_axes(places)) - later
        elif has("new_axis", entry):
            added.append(number - len(shrunk) + len(added))
        else:
            step = int(strides[entry])
            size = _axes(places)[number].size
            if has("shrink_axis", entry):
                places = _selected(places, number, int(begin[entry]) % size, 1)
                shrunk.append(number)
            elif not (has("begin", entry) and has("end", entry) and step == 1):
                stop = None if has("end", entry) else int(end[entry])
                chosen = range(size)[slice(None if has("begin", entry) else int(begin[entry]), stop, step)]
                if not chosen:
                    raise _NotKnownError
                places = _selected(places, number, chosen[0], len(chosen), step)
            number += 1
    places = _dropped(places, shrunk)
    axes = list(_axes(places))
    for position in added:
        axes.insert(position, plain(1))
    return replace(places, axes=tuple(axes))


def _cut(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.slice`."""
    places = _first(inputs)
    sizes = numbers(operation.inputs[2])
    for number, (first, size) in enumerate(zip(numbers(operation.inputs[1]), sizes, strict=True)):
        have = _axes(places)[number].size
        if first == 0 and (size == -1 or size == have):
            continue
        places = _selected(places, number, int(first), int(have - first if size == -1 else size))
    return places


def _split(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """`tf.split` into equal parts, or parts of given sizes."""
    is_given = operation.type == "SplitV"
    places = _first(inputs if is_given else inputs[1:])
    number = int(numbers(operation.inputs[2 if is_given else 0])) % len(_axes(places))
    count = len(operation.outputs)
    sizes = numbers(operation.inputs[1]) if is_given else [_axes(places)[number].size // count] * count
    if min(sizes) < 1:
        raise _NotKnownError
    parts, first = [], 0
    for size in map(int, sizes):
        parts.append(_selected(places, number, first, size))
        first += size
    return list(parts)


def _unpacked(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """`tf.unstack`."""
    places = _first(inputs)
    number = operation.get_attr("axis") % len(_axes(places))
    return [_dropped(_selected(places, number, position, 1), [number]) for position in range(len(operation.outputs))]


def _gathered(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.gather`; entries that do not follow each other in equal steps, such as the best of all, are no places."""
    places = _first(inputs)
    number = int(numbers(operation.inputs[2])) % len(_axes(places))
    try:
        indices = numbers(operation.inputs[1])
    except _NotKnownError:
        indices = None
    if indices is None or indices.ndim > 1 or len(set(np.diff(np.ravel(indices)).tolist()) | {0}) > 2:
        return _picked_out(operation, places, number)
    if indices.ndim == 0:
        return _dropped(_selected(places, number, int(indices), 1), [number])
    steps = set(np.diff(indices).tolist())
    if 0 in steps or not len(indices):
        return _picked_out(operation, places, number)
    return _selected(places, number, int(indices[0]), len(indices), steps.pop() if steps else 1)


def _picked_out(operation: Any, places: Places, number: int) -> Places:
    """`tf.gather` of any entries of an axis: along it there are no places any more."""
    shape = operation.inputs[1].shape
    same = operation.get_attr("batch_dims")
    if shape.rank is None or None in tuple(shape)[same:] or _axes(places)[number].is_batch:
        raise _NotKnownError
    picked = [plain(int(size)) for size in tuple(shape)[same:]]
    return replace(places, axes=(*_axes(places)[:number], *picked, *_axes(places)[number + 1 :]))


def _best(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """`tf.math.top_k` and `tf.sort`: the largest numbers of the last axis, which are no places any more."""
    places = _first(inputs)
    best = places.with_axis(len(_axes(places)) - 1, plain(int(numbers(operation.inputs[1]))))
    return [best, best]


def _reversed(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """Mirrored along axes."""
    places = _first(inputs)
    for number in numbers(operation.inputs[1]).ravel():
        axis = _axes(places)[number]
        if axis.is_plain:
            continue
        side = axis.runs_along
        if side is None or places.sides[side].rolled:
            raise _NotKnownError
        places = places.with_side(side, places.sides[side].mirrored())
    return places


def _rolled(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """Moved in a circle along axes."""
    places = _first(inputs)
    shifts, rolled_axes = (numbers(tensor).ravel() for tensor in operation.inputs[1:3])
    for shift, number in zip(shifts, rolled_axes, strict=True):
        axis = _axes(places)[number]
        if axis.is_plain or not shift:
            continue
        side = axis.runs_along
        if side is None:
            raise _NotKnownError
        before = places.sides[side]
        places = places.with_side(side, replace(before, rolled=(before.rolled + int(shift)) % before.cells))
    return places


def _padded(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """With numbers added at the ends of axes."""
    places = _first(inputs)
    for number, (before, after) in enumerate(numbers(operation.inputs[1])):
        if before or after:
            places = _grown(places, number, int(before), int(after))
    return places


def _grown(places: Places, number: int, before: int, after: int) -> Places:
    """With entries more at the ends of one axis, or with fewer where these are negative."""
    axis = _axes(places)[number]
    if axis.is_plain and not axis.has_extra:
        return places.with_axis(number, plain(axis.size + before + after))
    side = axis.runs_along
    if side is not None:
        if places.sides[side].rolled:
            raise _NotKnownError
        grown = places.sides[side].cells + before + after
        places = places.with_side(side, places.sides[side].part(-before, grown))
        return places.with_axis(number, Axis((Stretch(grown, side),)))
    if axis.is_batch or min(axis.before + before, axis.after + after) < 0:
        raise _NotKnownError
    return places.with_axis(number, replace(axis, before=axis.before + before, after=axis.after + after))


# ---- Several tensors along one axis ----


def _concatenated(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    parts = [_of(tensor, known, numbers) for tensor, known in zip(operation.inputs[:-1], inputs[:-1], strict=True)]
    known = [part for part in parts if part is not None and part.axes is not None]
    if len(known) < len(parts):
        raise _NotKnownError
    number = int(numbers(operation.inputs[-1])) % len(_axes(known[0]))
    others = joined([places.with_axis(number, plain(1)) for places in known])
    axes = [_axes(places)[number] for places in known]
    telling = [position for position, axis in enumerate(axes) if not axis.is_plain]
    if not telling:
        return others.with_axis(number, plain(sum(axis.size for axis in axes)))
    if len(telling) > 1:
        return _in_a_row(others, number, known)
    (position,) = telling
    before = sum(axis.size for axis in axes[:position]) + axes[position].before
    after = sum(axis.size for axis in axes[position + 1 :]) + axes[position].after
    whole = others.with_axis(number, replace(axes[position], before=before, after=after))
    return _with_sides_of(whole, known)


def _in_a_row(others: Places, number: int, parts: Sequence[Places]) -> Places:
    """Parts of one side of the picture, one after the other; what is anything else is no place any more."""
    lost = replace(
        others.with_axis(number, plain(sum(_axes(places)[number].size for places in parts))), is_certain=False
    )
    sides = [_axes(places)[number].runs_along for places in parts]
    side = sides[0]
    if side is None or len(set(sides)) > 1:
        return lost
    cells = [places.sides[side].cells for places in parts]
    row = _row([places.sides[side] for places in parts])
    if row is None and 2 * max(cells) > sum(cells):  # padded with parts of itself
        largest = cells.index(max(cells))
        row = parts[largest].sides[side].part(-sum(cells[:largest]), sum(cells))
    if row is None:
        return lost
    return others.with_side(side, row).with_axis(number, Axis((Stretch(row.cells, side),)))


def _row(sides: Sequence[Side]) -> Side | None:
    """Sides that follow each other as one; None where they do not."""
    for one, following in pairwise(sides):
        if abs(one.end - following.start) > 0.01 or one.is_mirrored != following.is_mirrored:
            return None
    return replace(sides[0], cells=sum(side.cells for side in sides), end=sides[-1].end)


def _packed(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.stack`: along a new axis, which is a side of the picture where they are its parts in a row."""
    known = [_of(tensor, places) for tensor, places in zip(operation.inputs, inputs, strict=True)]
    parts = [places for places in known if places is not None and places.axes is not None]
    if len(parts) < len(known):
        raise _NotKnownError
    others = joined(parts)
    number = operation.get_attr("axis") % (len(_axes(others)) + 1)
    axes = [*_axes(others)[:number], plain(len(parts)), *_axes(others)[number:]]
    result = replace(others, axes=tuple(axes))
    for side in range(len(others.sides)):
        if len(parts) > 1 and not others.axis_of(side) and all(places.sides for places in parts):
            row = _row([places.sides[side] for places in parts])
            if row is not None and row.cells == len(parts):
                return result.with_side(side, row).with_axis(number, Axis((Stretch(row.cells, side),)))
    return result


# ---- Products ----


def _multiplied(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """Matrix products: rows come from the first, columns from the second, the rest from both."""
    left, right = (_of(tensor, known) for tensor, known in zip(operation.inputs[:2], inputs[:2], strict=True))
    if left is None or right is None:
        raise _NotKnownError
    turned = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    rows = _axes(left)[-1 if operation.get_attr(turned[0]) else -2]
    columns = _axes(right)[-2 if operation.get_attr(turned[1]) else -1]
    rest = joined([replace(places, axes=(*_axes(places)[:-2], plain(1), plain(1))) for places in (left, right)])
    result = replace(rest, axes=(*_axes(rest)[:-2], rows, columns))
    return _with_sides_of(result, [left, right])


def _with_sides_of(result: Places, sources: Sequence[Places]) -> Places:
    """With the sides as those of the sources lie whose axes it has; several that lie differently are mixed."""
    for side in range(len(result.sides)):
        along = [
            places.sides[side]
            for places in sources
            if any(side in axis.sides and axis.stretches in _stretches(result) for axis in _axes(places))
        ]
        if along:
            is_mixed = any(other.is_mixed or not other.lies_like(along[0]) for other in along)
            (first, *_) = result.axis_of(side)
            of_side = [part for part in parts_of(_axes(result)[first]) if part.side == side]
            cells = max(part.size * part.stride for part in of_side)
            result = result.with_side(side, replace(along[0], is_mixed=is_mixed, cells=cells))
    return result


def _stretches(places: Places) -> list[tuple[Stretch | Axis, ...]]:
    return [axis.stretches for axis in _axes(places)]


def _summed(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """Einstein sums: each letter of the result is an axis that some input has."""
    equation = operation.get_attr("equation").decode().replace(" ", "")
    given, result = equation.split("->")
    everything = [_of(tensor, known) for tensor, known in zip(operation.inputs, inputs, strict=True)]
    known = [places for places in everything if places is not None and places.axes is not None]
    if "." in equation or len(known) < len(everything):
        raise _NotKnownError
    axes = []
    for letter in result:
        here = [
            _axes(places)[names.index(letter)]
            for names, places in zip(given.split(","), known, strict=True)
            if letter in names
        ]
        axes.append(max(here, key=lambda axis: (not axis.is_plain, axis.size)))
    whole = replace(known[0], axes=tuple(axes), is_certain=all(places.is_certain for places in known))
    return _with_sides_of(whole, known)


# ---- Over the places ----


def _resampled(places: Places, sizes: Mapping[int, int], widths: Mapping[int, float]) -> Places:
    """Another number of cells over the same part of the picture, as a convolution, a pooling and a resizing give.

    Args:
        places: before.
        sizes: the new size of each axis over which it runs, by the axis's number.
        widths: for each by how many cells it reads over the ends together, where nothing is added there: a kernel of 3
            reads 2. What an earlier padding has added is used up by that.
    """
    for number, size in sizes.items():
        axis, width = _axes(places)[number], widths.get(number, 0)
        if axis.is_plain and not axis.has_extra:
            places = places.with_axis(number, plain(size))
            continue
        if axis.size == size and not width:
            continue
        places = _as_padding(places, number)
        axis = _axes(places)[number]
        (stretch, *more) = axis.stretches
        if axis.has_extra or not axis.sides or not isinstance(stretch, Stretch):
            raise _NotKnownError
        if more or stretch.size * stretch.stride != places.sides[min(axis.sides)].cells:
            places = places.with_axis(number, _in_steps(axis, size))
            continue
        (along,) = axis.sides
        side = places.sides[along]
        if side.rolled:
            raise _NotKnownError
        reach = abs(side.end - side.start) / side.cells * width * stretch.stride / 2
        side = replace(_used_up(side, reach), cells=size * stretch.stride)
        places = places.with_side(along, side).with_axis(number, Axis((replace(stretch, size=size),)))
    return places


def _as_padding(places: Places, number: int) -> Places:
    """With what was put before and after the cells of a whole side as cells outside of the picture."""
    axis = _axes(places)[number]
    whole = replace(axis, before=0, after=0)
    side = whole.runs_along
    if side is None or places.sides[side].rolled or places.sides[side].cells != whole.size:
        return places
    grown = places.sides[side].part(-axis.before, axis.size)
    return places.with_side(side, grown).with_axis(number, Axis((Stretch(axis.size, side),)))


def _in_steps(axis: Axis, size: int) -> Axis:
    """A flattened axis, or a part of a side, of which so many cells in equal steps are left."""
    *outer, inner = axis.stretches
    step, over = divmod(axis.size, size)
    if over or not isinstance(inner, Stretch) or inner.size % step:
        raise _NotKnownError
    if inner.size == step:
        return Axis(tuple(outer))
    return Axis((*outer, replace(inner, size=inner.size // step, stride=inner.stride * (step if inner.sides else 1))))


def _used_up(side: Side, reach: float) -> Side:
    """A side after a kernel has used up what was added outside of the picture, which may be at one end only.

    Args:
        side: before.
        reach: how far the kernel reads over each end, as a share of the picture's side.
    """
    low, high = sorted((side.start, side.end))
    below, above = max(0.0, -low), max(0.0, high - 1)
    spare_below, spare_above = max(0.0, reach - below), max(0.0, reach - above)
    if below:
        low = -max(0.0, below - reach - spare_above)
    if above:
        high = 1 + max(0.0, above - reach - spare_below)
    return replace(side, start=high, end=low) if side.is_mirrored else replace(side, start=low, end=high)


def _spatial(operation: Any, rank: int) -> list[int]:
    """The axes of the places."""
    is_first = operation.get_attr("data_format").startswith(b"NC")
    return list(range(2, rank)) if is_first else list(range(1, rank - 1))


def _windowed(operation: Any, places: Places, spatial: Sequence[int], kernel: Sequence[int]) -> Places:
    """What a kernel of these sizes gives that is moved over the axes."""
    strides, padding = operation.get_attr("strides"), operation.get_attr("padding")
    if padding not in (b"SAME", b"VALID"):
        raise _NotKnownError
    sizes, widths = {}, {}
    for number, width in zip(spatial, kernel, strict=True):
        size = _axes(places)[number].size
        over = width - 1 if padding == b"VALID" else 0
        sizes[number] = -(-(size - over) // strides[number])
        widths[number] = over
        places = _jumped(places, number, width) if width > max(1, strides[number]) else places
        if width > 1 and size > 1 and _axes(places)[number].is_plain:
            places = replace(places, is_over_channels=True)
    return _resampled(places, sizes, widths)


def _jumped(places: Places, number: int, kernel: int) -> Places:
    """After a kernel that reads along a flattened axis, where most of what it reads jumps from one end to the other."""
    stretches = _axes(places)[number].stretches
    for outer, inner in pairwise(stretches):
        if isinstance(inner, Stretch) and outer.sides and inner.sides and inner.size < 2 * (kernel - 1):
            side = places.sides[min(inner.sides)]
            if (inner.size - 1) * inner.stride > TOLERANCE * side.cells:
                places = places.with_side(min(inner.sides), replace(side, is_mixed=True))
    return places


def _convolved(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    places = _first(inputs)
    if inputs[1] is not None:
        raise _NotKnownError
    spatial = _spatial(operation, len(_axes(places)))
    dilations = operation.get_attr("dilations")
    shape = tuple(operation.inputs[1].shape)
    kernel = [
        (int(size) - 1) * dilations[number] + 1 for size, number in zip(shape[: len(spatial)], spatial, strict=True)
    ]
    filters = shape[-1] if operation.type != "DepthwiseConv2dNative" else shape[-1] * shape[-2]
    return _with_channels(_windowed(operation, places, spatial, kernel), spatial, int(filters))


def _pooled(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    places = _first(inputs)
    spatial = _spatial(operation, len(_axes(places)))
    return _windowed(operation, places, spatial, [operation.get_attr("ksize")[number] for number in spatial])


def _resized(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    height, width = numbers(operation.inputs[1])
    return _resampled(_first(inputs), {1: int(height), 2: int(width)}, {})


def _resized_along(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """A resizing along one axis, which only JAX has as an operation of its own."""
    size, scale, moved = (numbers(tensor) for tensor in operation.inputs[1:])
    return _scaled_along(_first(inputs), operation.get_attr("axis"), int(size), float(scale), float(moved))


def _scaled(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """A resizing that also moves the picture."""
    places = _first(inputs)
    for number, (size, scale, moved) in enumerate(
        zip(*(numbers(tensor) for tensor in operation.inputs[1:4]), strict=True), start=1
    ):
        places = _scaled_along(places, number, int(size), scale, moved)
    return places


def _scaled_along(places: Places, number: int, size: int, scale: float, moved: float) -> Places:
    """After a resizing along one axis: cell x of what comes in lies at x * scale + moved in the result."""
    (first, last), have = (-moved / scale, (size - moved) / scale), _axes(places)[number].size
    if abs(first) < 1 and abs(last - have) < 1:
        return _resampled(places, {number: size}, {})
    side = _axes(places)[number].runs_along
    if side is None:
        raise _NotKnownError
    part = replace(places.sides[side].part(first, last - first), cells=size)
    return places.with_side(side, part).with_axis(number, Axis((Stretch(size, side),)))


def _transformed(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """A Fourier transform: frequencies are no places."""
    places, output = _first(inputs), operation.outputs[0]
    for number in range(-int("".join(re.findall(r"\d", operation.type)) or 1), 0):
        size = output.shape[number]
        if size is None:
            raise _NotKnownError
        places = places.with_axis(len(_axes(places)) + number, plain(int(size)))
    return places


def _convolved_back(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """A transposed convolution."""
    places = _first(inputs[2:])
    spatial = _spatial(operation, len(_axes(places)))
    shape = numbers(operation.inputs[0])
    (channels,) = set(range(1, len(shape))) - set(spatial)
    sizes = {number: int(shape[number]) for number in spatial}
    return _with_channels(_resampled(places, sizes, {}), spatial, int(shape[channels]))


def _with_channels(places: Places, spatial: Sequence[int], count: int) -> Places:
    (channels,) = set(range(1, len(_axes(places)))) - set(spatial)
    return places.with_axis(channels, plain(count))


def _patches(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.image.extract_patches`: the pixels of a window become channels."""
    places = _first(inputs)
    sizes, rates = operation.get_attr("ksizes"), operation.get_attr("rates")
    kernel = [(sizes[number] - 1) * rates[number] + 1 for number in (1, 2)]
    channels = _axes(places)[3]
    if not channels.is_plain:
        raise _NotKnownError
    return _with_channels(_windowed(operation, places, [1, 2], kernel), [1, 2], sizes[1] * sizes[2] * channels.size)


def _blocks_to_channels(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.nn.space_to_depth`."""
    places, block = _first(inputs), operation.get_attr("block_size")
    if operation.get_attr("data_format") != b"NHWC":
        raise _NotKnownError
    _, height, width, channels = (axis.size for axis in _axes(places))
    cut = reshaped(places, [PICTURES, height // block, block, width // block, block, channels])
    return _moved(cut, (0, 1, 3, 2, 4, 5), [PICTURES, height // block, width // block, -1])


def _channels_to_blocks(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.nn.depth_to_space`: each cell becomes several, which its channels fill."""
    places, block = _first(inputs), operation.get_attr("block_size")
    if operation.get_attr("data_format") != b"NHWC":
        raise _NotKnownError
    _, height, width, channels = (axis.size for axis in _axes(places))
    if _axes(places)[3].is_plain:
        places = places.with_axis(3, plain(channels // block**2))
        return _resampled(places, {1: height * block, 2: width * block}, {})
    cut = reshaped(places, [PICTURES, height, width, block, block, channels // block**2])
    return _moved(cut, (0, 1, 3, 2, 4, 5), [PICTURES, height * block, width * block, -1])


def _moved(places: Places, order: Sequence[int], sizes: Sequence[int]) -> Places:
    """With the axes in another order, and then in another shape."""
    if places.axes is None:
        raise _NotKnownError
    return reshaped(replace(places, axes=tuple(places.axes[number] for number in order)), sizes)


def _to_batch(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.space_to_batch`, which a dilated convolution uses: cells at a distance become neighbours."""
    places = _first(inputs)
    blocks, paddings = numbers(operation.inputs[1]), numbers(operation.inputs[2])
    for number, (before, after) in enumerate(paddings, start=1):
        places = _grown(places, number, int(before), int(after)) if before or after else places
    batch, *rest = _axes(places)
    outer, inner = [], []
    for number, block in enumerate(map(int, blocks)):
        axis = rest[number]
        (stretch, *more) = axis.stretches
        if more or axis.has_extra or axis.size % block or not isinstance(stretch, Stretch):
            raise _NotKnownError
        outer.append(Axis((replace(stretch, size=axis.size // block, stride=stretch.stride * block),)))
        inner.append(replace(stretch, size=block))
    stretches = (*(stretch for stretch in inner if stretch.size != 1), *batch.stretches)
    return replace(places, axes=(Axis(stretches), *outer, *rest[len(blocks) :]))


def _from_batch(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> Known:
    """`tf.batch_to_space`, which undoes `_to_batch`."""
    places = _first(inputs)
    blocks, crops = numbers(operation.inputs[1]), numbers(operation.inputs[2])
    batch, *rest = _axes(places)
    stretches = list(batch.stretches)
    for number, block in enumerate(map(int, blocks)):
        if block == 1:
            continue
        inner, (outer, *more) = stretches.pop(0), rest[number].stretches
        if more or not isinstance(inner, Stretch) or not isinstance(outer, Stretch):
            raise _NotKnownError
        if inner.side != outer.side or outer.stride != block * inner.stride:
            raise _NotKnownError
        rest[number] = Axis((replace(outer, size=outer.size * block, stride=inner.stride),))
    places = replace(places, axes=(Axis(tuple(stretches)), *rest))
    for number, (before, after) in enumerate(crops, start=1):
        places = _grown(places, number, -int(before), -int(after)) if before or after else places
    return places


def _called(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """A function that was called: what its own operations do."""
    return _after_body(engine.body_of(operation), operation.inputs, inputs, numbers)


def _decided(operation: Any, inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """`tf.cond`, where shapes decide it: what the operations of the branch do that is taken."""
    branch = "then_branch" if bool(numbers(operation.inputs[0])) else "else_branch"
    return _after_body(engine.body_of(operation, branch), operation.inputs[1:], inputs[1:], numbers)


def _after_body(body: Any, outside: Sequence[Tensor], inputs: Sequence[Known], numbers: _Numbers) -> list[Known]:
    """The places of what a function gives.

    Args:
        body: its graph.
        outside: what it is called with.
        inputs: the places of that.
        numbers: of the graph that calls it.
    """
    if body is None:
        raise _NotKnownError
    start, given = {}, {}
    for tensor, outer, known in zip(body.inputs, outside, inputs, strict=True):
        if known is not None:
            start[id(tensor)] = known
        elif outer.dtype.is_integer or outer.dtype.is_bool:
            with suppress(_NotKnownError):
                given[id(tensor)] = numbers(outer)
    found = followed(body, start, {}, given=given)
    return [found.get(id(tensor)) for tensor in body.outputs]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        re.findall(
            r"\w+",
            """Identity Cast EnsureShape StopGradient PreventGradient CheckNumerics Snapshot
            Relu Relu6 Elu Selu LeakyRelu Softplus Softsign Sigmoid Tanh Softmax LogSoftmax Erf Erfc Erfinv
            Exp Expm1 Log Log1p Neg Abs Sign Square Sqrt Rsqrt Reciprocal Inv Sin Cos Tan Floor Ceil Round Rint
            LRN ClipByValue FakeQuantWithMinMaxVars FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVarsPerChannel
            IsNan IsFinite LogicalNot ComplexAbs Real Imag Angle Conj""",
        ),
        _handed_on,
    ),
    **dict.fromkeys(
        re.findall(
            r"\w+",
            """Add AddV2 AddN Sub Mul MulNoNan Div RealDiv DivNoNan FloorDiv FloorMod Pow Maximum Minimum
            SquaredDifference BiasAdd Select SelectV2 Atan2 Xlogy Greater GreaterEqual Less LessEqual
            Equal NotEqual LogicalAnd LogicalOr Complex""",
        ),
        _joining,
    ),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm"), _reduced),
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), _convolved),
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pooled),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _convolved_back),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"), _resized),
    **dict.fromkeys(re.findall(r"\w+", "FFT FFT2D FFT3D IFFT IFFT2D IFFT3D RFFT RFFT2D IRFFT IRFFT2D"), _transformed),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _multiplied),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _padded),
    **dict.fromkeys(("Split", "SplitV"), _split),
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall"), _called),
    **dict.fromkeys(("If", "StatelessIf"), _decided),
    "ScaleAndTranslate": _scaled,
    "Resample": _resized_along,
    "BroadcastTo": _broadcast,
    "IdentityN": _each_handed_on,
    "FusedBatchNormV3": _handed_on,
    "Reshape": _reshaped,
    "Transpose": _transposed,
    "ExpandDims": _expanded,
    "Squeeze": _squeezed,
    "Tile": _tiled,
    "StridedSlice": _sliced,
    "Slice": _cut,
    "Unpack": _unpacked,
    "GatherV2": _gathered,
    "TopKV2": _best,
    "ReverseV2": _reversed,
    "Roll": _rolled,
    "ConcatV2": _concatenated,
    "Pack": _packed,
    "Einsum": _summed,
    "ExtractImagePatches": _patches,
    "SpaceToDepth": _blocks_to_channels,
    "DepthToSpace": _channels_to_blocks,
    "SpaceToBatchND": _to_batch,
    "BatchToSpaceND": _from_batch,
}
