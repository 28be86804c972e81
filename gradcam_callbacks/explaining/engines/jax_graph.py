"""A graph of operations for what JAX traced, in the form that the rules walk: see `engine`.

`jax_primitives` fills it. It also knows how its tensors are computed, from any that are moved.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, overload

import jax
import numpy as np

from gradcam_callbacks.explaining.engines.jax_internals import bound
from gradcam_callbacks.explaining.places import PICTURES

MOST_FOLDED = 100_000
"""How many numbers a constant may have that is worked out while the graph is read."""


class Shape(tuple[int | None, ...]):
    """A tensor's shape; None is the number of pictures, or a multiple of it."""

    __slots__ = ()

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self)

    def num_elements(self) -> int | None:
        """How many numbers there are; None where that depends on the number of pictures."""
        return None if None in self else math.prod(size or 0 for size in self)

    @overload  # type: ignore[override]
    def __getitem__(self, key: slice) -> Shape: ...
    @overload
    def __getitem__(self, key: int) -> int | None: ...
    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return Shape(found) if isinstance(key, slice) else found

    def __str__(self) -> str:
        return str(tuple(self))


@dataclass(frozen=True)
class DType:
    """The kind of a tensor's numbers."""

    name: str
    is_floating: bool
    is_integer: bool
    is_bool: bool
    size: int
    as_numpy_dtype: Any

    @classmethod
    def of(cls, dtype: Any) -> DType:
        """That of JAX's own."""
        is_float, is_whole, is_bool = (
            jax.numpy.issubdtype(dtype, kind) for kind in (np.floating, np.integer, np.bool_)
        )
        return cls(str(dtype), is_float, is_whole, is_bool, getattr(dtype, "itemsize", 0), dtype)


@dataclass(eq=False)
class Tensor:
    """What an operation gives, or what the model is fed."""

    op: Operation
    sizes: tuple[int, ...]
    dtype: DType
    static: Any = None
    _takers: list[Operation] = field(default_factory=list, repr=False)

    @property
    def graph(self) -> Graph:
        """That it is in."""
        return self.op.graph

    @property
    def shape(self) -> Shape:
        """Its shape, with None for the number of pictures."""
        return Shape(None if size and size % PICTURES == 0 else size for size in self.sizes)

    def consumers(self) -> list[Operation]:
        """The operations that take it."""
        return list({id(taker): taker for taker in self._takers}.values())


@dataclass(eq=False)
class Operation:
    """One operation of a graph."""

    type: str
    name: str
    number: int
    inputs: tuple[Tensor, ...]
    graph: Graph = field(repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def made_from(self) -> list[int]:
        """The numbers of the operations that gave its inputs."""
        return [tensor.op.number for tensor in self.inputs]

    def get_attr(self, name: str) -> Any:
        """An attribute, by TensorFlow's name for it.

        Raises:
            ValueError: if it has none of that name.
        """
        if name not in self.attributes:
            raise ValueError(f"Operation {self.name} has no attribute {name}.")
        return self.attributes[name]


@dataclass(frozen=True)
class Step:
    """One equation as it is computed."""

    equation: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Graph:
    """The operations of one trace, and how they are computed.

    Attributes:
        inputs: what is fed.
        marks: by the markers' numbers, the tensors that were marked.
        positions: by the markers' numbers, how many operations there were.
        steps: how the tensors are computed, in their order.
    """

    def __init__(self, like: Graph | None = None) -> None:
        """Begins empty.

        Args:
            like: a graph of the same equations, for another number of pictures.
        """
        self._like, self._folds = like, list[bool]()
        self._operations: list[Operation] = []
        self._often: dict[str, int] = {}
        self.steps: list[Step] = []
        self._constants: dict[int, Any] = {}
        self.inputs: list[Tensor] = []
        self.marks: dict[int, Tensor] = {}
        self.positions: dict[int, int] = {}

    def get_operations(self) -> list[Operation]:
        """All operations, each after those that it needs."""
        return self._operations

    def folds(self, *, can_be: bool) -> bool:
        """Whether the next equation is worked out while it is read: where it can be, and was in the graph like this."""
        number = len(self._folds)
        was = self._like._folds[number : number + 1] if self._like is not None else []
        self._folds.append(can_be and all(was))
        return self._folds[-1]

    def begins_like(self, other: Graph) -> bool:
        """Whether another trace begins with the same operations in the same order."""
        mine, others = self._operations, other.get_operations()[: len(self._operations)]
        return len(mine) == len(others) and all(
            one.type == two.type and one.made_from == two.made_from for one, two in zip(mine, others, strict=True)
        )

    def counterpart(self, tensor: Tensor, other: Graph) -> Tensor:
        """The tensor of another trace, of the same operations, that stands where one of this stands."""
        number = next(n for n, output in enumerate(tensor.op.outputs) if output is tensor)
        return other.get_operations()[tensor.op.number].outputs[number]

    def computes(self, tensor: Tensor) -> bool:
        """Whether a tensor is among those that steps give."""
        return any(output is tensor for step in self.steps for output in step.outputs)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor holds numbers that are given here."""
        return id(tensor) in self._constants

    def added(
        self, kind: str, inputs: Sequence[Tensor], shapes: Sequence[tuple[Sequence[int], DType]], **attributes: Any
    ) -> list[Tensor]:
        """The outputs of one operation more."""
        often = self._often[kind] = self._often.get(kind, -1) + 1
        number = len(self._operations)
        operation = Operation(kind, f"{kind}_{often}", number, tuple(inputs), self, attributes)
        operation.outputs = [Tensor(operation, tuple(map(int, sizes)), dtype) for sizes, dtype in shapes]
        for tensor in inputs:
            tensor._takers.append(operation)
        self._operations.append(operation)
        return operation.outputs

    def placeholder(self, aval: Any) -> Tensor:
        """A tensor that is fed."""
        (tensor,) = self.added("Placeholder", (), [(aval.shape, DType.of(aval.dtype))])
        self.inputs.append(tensor)
        return tensor

    def constant(self, value: Any, aval: Any = None) -> Tensor:
        """A tensor of numbers that are the same in every run, or at least in this trace."""
        aval = jax.typeof(value) if aval is None else aval
        (tensor,) = self.added("Const", (), [(aval.shape, DType.of(aval.dtype))])
        self._constants[id(tensor)] = value
        is_known = not isinstance(value, jax.core.Tracer) and math.prod(aval.shape) <= MOST_FOLDED
        if is_known and not jax.numpy.issubdtype(aval.dtype, jax.dtypes.extended):
            tensor.static = np.asarray(value)
        return tensor

    def numbers(self, values: Any) -> Tensor:
        """A tensor of whole numbers, such as axes, that no equation of JAX knows."""
        array = np.asarray(values, np.int64)
        (tensor,) = self.added("Const", (), [(array.shape, DType.of(np.dtype(np.int64)))])
        tensor.static = array
        return tensor

    def computed(
        self,
        wanted: Sequence[Tensor],
        fed: Sequence[Any],
        *,
        moved: Mapping[int, Any] = MappingProxyType({}),
        known: Mapping[int, Any] = MappingProxyType({}),
    ) -> list[Any]:
        """The numbers of tensors.

        Args:
            wanted: tensors.
            fed: the numbers of the inputs.
            moved: what is added to tensors, by their ids, before anything else is made of them.
            known: the numbers of tensors, by their ids, that are taken for theirs.
        """
        numbers = {**self._constants, **known}

        def keep(tensor: Tensor, value: Any) -> None:
            if id(tensor) not in known:
                numbers[id(tensor)] = value + moved[id(tensor)] if id(tensor) in moved else value

        for tensor, value in zip(self.inputs, fed, strict=True):
            keep(tensor, value)
        for step in self._needed(wanted, known):
            given = [numbers[id(one)] for one in step.inputs]
            for tensor, value in zip(step.outputs, bound(step.equation, given), strict=True):
                keep(tensor, value)
        return [numbers[id(one)] for one in wanted]

    def beside(self, starts: Sequence[Tensor], ends: Sequence[Tensor]) -> list[Tensor]:
        """What the ways from tensors to others take that does not depend on the first ones."""
        after, found = {id(tensor) for tensor in starts}, dict[int, Tensor]()
        for step in self._needed(ends, after):
            if any(id(tensor) in after for tensor in step.inputs):
                after |= {id(output) for output in step.outputs}
        for step in self._needed(ends, {id(tensor) for tensor in starts}):
            if any(id(output) in after for output in step.outputs):
                found |= {id(tensor): tensor for tensor in step.inputs if id(tensor) not in after}
        return [*found.values(), *(end for end in ends if id(end) not in after)]

    def _needed(self, wanted: Sequence[Tensor], known: Container[int]) -> list[Step]:
        """The steps that lead to tensors, in their order; what leads to those that are known is not needed."""
        needed = {id(tensor) for tensor in wanted}
        found = []
        for step in reversed(self.steps):
            if any(id(output) in needed and id(output) not in known for output in step.outputs):
                needed.update(map(id, step.inputs))
                found.append(step)
        return found[::-1]
