"""Where in the picture the numbers of a tensor lie.

Of each tensor of the traced graph it is followed which of its axes run along the height and the width of the picture
shown, which way round, and over what part of it. A layer that is turned, mirrored, cut, flattened to tokens or made
from another picture is so known for what it is. `axes` says what each operation does to the axes; this file says what
there is to know of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

BATCH = -1
"""The side of a stretch that runs over the pictures of the batch."""
PICTURES = 1_000_003
"""Stands for the number of pictures. It is a prime, so a size is a multiple of it only where it counts pictures."""
TOLERANCE = 0.1
"""By which share of a side of the picture a map may be off at one end and still be drawn over all of it.

Real networks stay below: cutting 224 of 256 pixels out of the middle leaves 6 % at each end.
"""


@dataclass(frozen=True)
class Stretch:
    """A part of an axis: an axis is one stretch, or several that were flattened, the outermost first.

    Attributes:
        size: how many steps it has.
        side: which side of the picture it runs along, 0 for the first; `BATCH` for the pictures; None for what is no
            place, such as channels.
        stride: how many cells of that side one step is; a side that was cut into windows has two stretches.
    """

    size: int
    side: int | None = None
    stride: int = 1

    @property
    def sides(self) -> frozenset[int]:
        """The side of the picture that it runs along, if any."""
        return frozenset() if self.side is None or self.side == BATCH else frozenset([self.side])

    @property
    def is_plain(self) -> bool:
        """Whether it runs over no places and no pictures."""
        return self.side is None


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor.

    Attributes:
        stretches: what it runs over, the outermost first. An axis with extra entries that was flattened together with
            others is among them as a whole.
        before: how many entries come before these that are none of them, such as a class token.
        after: how many come after.
    """

    stretches: tuple[Stretch | Axis, ...]
    before: int = 0
    after: int = 0

    @property
    def size(self) -> int:
        """How many entries it has."""
        return math.prod(stretch.size for stretch in self.stretches) + self.before + self.after

    @property
    def sides(self) -> frozenset[int]:
        """The sides of the picture that it runs along."""
        return frozenset().union(*(stretch.sides for stretch in self.stretches))

    @property
    def has_extra(self) -> bool:
        """Whether some of its entries are no places."""
        return bool(self.before or self.after) or any(isinstance(part, Axis) for part in self.stretches)

    @property
    def is_batch(self) -> bool:
        """Whether it runs over the pictures and nothing else."""
        return self.stretches == (_BATCH,) and not self.has_extra

    @property
    def is_plain(self) -> bool:
        """Whether it runs over no places and no pictures."""
        return all(stretch.is_plain for stretch in self.stretches)

    @property
    def runs_along(self) -> int | None:
        """The side, where it runs along one, cell by cell from one end to the other, and along nothing else."""
        if self.has_extra or len(self.stretches) != 1 or not self.sides:
            return None
        (stretch,) = self.stretches
        return stretch.side if isinstance(stretch, Stretch) and stretch.stride == 1 else None


_BATCH = Stretch(PICTURES, BATCH)


def plain(size: int) -> Axis:
    """An axis of no places."""
    return Axis((Stretch(size),))


@dataclass(frozen=True)
class Side:
    """How the cells of a tensor lie along one side of the picture.

    Attributes:
        cells: how many there are.
        start: where the first one begins, as a share of the picture's side.
        end: where the last one ends; less than `start` where it is mirrored.
        rolled: by how many cells they were moved in a circle.
        is_mixed: whether what lies at several places was put together there, such as a picture and its mirror image.
    """

    cells: int
    start: float = 0.0
    end: float = 1.0
    rolled: int = 0
    is_mixed: bool = False

    @property
    def is_mirrored(self) -> bool:
        """Whether the last cell lies at the picture's beginning."""
        return self.end < self.start

    @property
    def covers_picture(self) -> bool:
        """Whether the cells lie over all of the side, either way round."""
        low, high = sorted((self.start, self.end))
        return abs(low) <= TOLERANCE and abs(high - 1) <= TOLERANCE

    def part(self, first: float, count: float) -> Side:
        """Some of the cells."""
        width = (self.end - self.start) / self.cells
        start = self.start + first * width
        return replace(self, cells=int(count), start=start, end=start + count * width)

    def mirrored(self) -> Side:
        """The cells the other way round."""
        return replace(self, start=self.end, end=self.start)

    def lies_like(self, other: Side) -> bool:
        """Whether it covers the same part of the picture the same way round, or lies less than a cell apart."""
        apart = max(abs(self.start - other.start), abs(self.end - other.end))
        cell = abs(self.end - self.start) / self.cells
        is_turned = self.is_mirrored != other.is_mirrored
        return apart <= max(TOLERANCE, cell) and self.rolled == other.rolled and not is_turned


@dataclass(frozen=True)
class Places:
    """Where the numbers of a tensor lie in the picture shown.

    Attributes:
        axes: of the tensor, in their order; None where it is not known what became of them.
        sides: of the picture, in their order.
        is_certain: whether all operations on the way were understood.
        is_over_channels: whether a kernel was moved over an axis of no places, as a model does that takes a signal's
            channels for the second side of a picture.
    """

    axes: tuple[Axis, ...] | None
    sides: tuple[Side, ...] = ()
    is_certain: bool = True
    is_over_channels: bool = False

    def __post_init__(self) -> None:
        if self.axes is None:
            object.__setattr__(self, "is_certain", False)

    def with_axis(self, number: int, axis: Axis) -> Places:
        """Another axis in one place."""
        assert self.axes is not None
        return replace(self, axes=(*self.axes[:number], axis, *self.axes[number + 1 :]))

    def with_side(self, number: int, side: Side) -> Places:
        """Another side in one place."""
        return replace(self, sides=(*self.sides[:number], side, *self.sides[number + 1 :]))

    def axis_of(self, side: int) -> list[int]:
        """The numbers of the axes that run along a side of the picture."""
        return [number for number, axis in enumerate(self.axes or ()) if side in axis.sides]


UNKNOWN = Places(None)
"""Of a tensor that depends on the picture in a way that is not understood."""


def of_picture(shape: Sequence[int], *, channels_first: bool) -> Places:
    """Those of the pictures that a model is fed.

    Args:
        shape: of one picture, (*places, C) or (C, *places).
        channels_first: which of the two.
    """
    count = len(shape) - 1
    first = 1 if channels_first else 0
    axes = [plain(size) for size in shape]
    for side in range(count):
        axes[first + side] = Axis((Stretch(shape[first + side], side),))
    return Places((Axis((_BATCH,)), *axes), tuple(Side(shape[first + side]) for side in range(count)))


def joined(all_of: Sequence[Places]) -> Places:
    """Those of an operation that puts tensors together number by number, with broadcasting.

    Args:
        all_of: what is known of the tensors.
    """
    known = [places for places in all_of if places.axes is not None]
    if not known:
        return UNKNOWN
    is_certain = all(places.is_certain for places in all_of)
    rank = max(len(places.axes or ()) for places in known)
    axes = []
    for number in range(-rank, 0):
        here = [axes_of[number] for axes_of in (places.axes or () for places in known) if len(axes_of) >= -number]
        best = max(here, key=_tells)
        is_certain = is_certain and all(axis == best or _tells(axis) < _tells(best) for axis in here)
        axes.append(best)
    with_sides = [places for places in known if places.sides]
    count = max(len(places.sides) for places in known)
    sides = tuple(_side_of_all(side, with_sides) for side in range(count))
    return Places(tuple(axes), sides, is_certain, any(places.is_over_channels for places in known))


def _tells(axis: Axis) -> int:
    """How much an axis tells: places and pictures most, then what has several entries, a single one least."""
    return 0 if axis.size == 1 else 1 if axis.is_plain else 2


def _side_of_all(number: int, known: Sequence[Places]) -> Side:
    """One side of several tensors that are put together; those that run along it decide."""
    sides = [places.sides[number] for places in known if places.axis_of(number)]
    if not sides:
        return known[0].sides[number]
    # Shifts by a cell to one side or the other, as some networks make, are within what is tolerated: the most usual
    # place counts, which is the picture's own.
    best = min(sides, key=lambda side: abs(min(side.start, side.end)) + abs(max(side.start, side.end) - 1))
    return replace(best, is_mixed=any(side.is_mixed or not side.lies_like(best) for side in sides))


def settled(places: Places) -> Places:
    """The same, where a side's innermost stretches were summed up, with cells as large as what is left of it."""
    for number, side in enumerate(places.sides):
        strides = [part.stride for axis in places.axes or () for part in parts_of(axis) if part.side == number]
        width = min(strides, default=1)
        if width > 1:
            axes = tuple(_wider(axis, number, width) for axis in places.axes or ())
            places = replace(places.with_side(number, replace(side, cells=side.cells // width)), axes=axes)
    return places


def parts_of(axis: Axis) -> list[Stretch]:
    """All stretches of an axis, also those that lie within another."""
    return [inner for part in axis.stretches for inner in ([part] if isinstance(part, Stretch) else parts_of(part))]


def _wider(axis: Axis, side: int, width: int) -> Axis:
    """An axis along a side whose cells are so many times as wide."""

    def wider(part: Stretch | Axis) -> Stretch | Axis:
        if isinstance(part, Axis):
            return _wider(part, side, width)
        return replace(part, stride=part.stride // width) if part.side == side else part

    return replace(axis, stretches=tuple(wider(part) for part in axis.stretches))


def reshaped(places: Places, sizes: Sequence[int]) -> Places:
    """Those of the same numbers in another shape.

    Args:
        places: of the tensor before.
        sizes: of the axes after, where `PICTURES` stands for the number of pictures and at most one is -1.
    """
    if places.axes is None:
        return UNKNOWN
    atoms = [atom for axis in places.axes for atom in _atoms(axis)]
    known = math.prod(size for size in sizes if size != -1)
    total = math.prod(atom.size for atom in atoms)
    axes = _regrouped(atoms, [total // known if size == -1 and known else size for size in sizes])
    return UNKNOWN if axes is None else replace(places, axes=tuple(axes))


def _atoms(axis: Axis) -> list[Axis]:
    """The stretches of an axis as axes of their own, without those of one step; one with extra entries stays whole."""
    if axis.before or axis.after:
        return [axis]
    return [part if isinstance(part, Axis) else Axis((part,)) for part in axis.stretches if part.size != 1]


def _regrouped(atoms: Sequence[Axis], sizes: Sequence[int]) -> list[Axis] | None:
    """The atoms in groups of these sizes, cut where needed; None where that cannot be."""
    rest = list(atoms)
    axes = []
    for size in sizes:
        group: list[Axis] = []
        have = 1
        while have < size and rest:
            atom = rest.pop(0)
            if have * atom.size > size:
                split = _split(atom, size / have)
                if split is None:
                    return None
                atom, inner = split
                rest.insert(0, inner)
            group.append(atom)
            have *= atom.size
        if have != size:
            return None
        axes.append(group[0] if len(group) == 1 else _one(group) if group else plain(1))
    return None if rest else axes


def _split(atom: Axis, steps: float) -> tuple[Axis, Axis] | None:
    """An atom cut into an outer one of so many steps and an inner one; None where that cannot be."""
    outer = int(steps)
    (stretch, *_) = atom.stretches
    if atom.has_extra or not isinstance(stretch, Stretch) or outer != steps or atom.size % outer:
        return None
    inner = atom.size // outer
    return (
        Axis((replace(stretch, size=outer, stride=1 if stretch.side is None else stretch.stride * inner),)),
        Axis((replace(stretch, size=inner),)),
    )


def _one(atoms: Sequence[Axis]) -> Axis:
    """Atoms as one axis; neighbours that were cut from one stretch are one again."""
    parts: list[Stretch | Axis] = []
    for atom in atoms:
        part = atom if atom.has_extra else atom.stretches[0]
        last = parts[-1] if parts else None
        if isinstance(last, Stretch) and isinstance(part, Stretch) and _continues(last, part):
            parts[-1] = replace(part, size=last.size * part.size)
        else:
            parts.append(part)
    return Axis(tuple(parts))


def _continues(outer: Stretch, inner: Stretch) -> bool:
    """Whether two neighbours are one stretch."""
    return outer.side == inner.side and (inner.side is None or outer.stride == inner.stride * inner.size)
