"""The traced graph: which operations lead to which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

Tensor = Any
# Operations that hand on what they get.
PASSING = frozenset({"Identity", "Cast", "EnsureShape"})


# Operations whose result says nothing of the numbers that they get.
WITHOUT_DATA = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike", "ArgMax", "ArgMin"})


def reached_from(graph: Any, is_start: Callable[[Any], bool]) -> set[str]:
    """The names of the operations for which `is_start` holds, and of all that depend on one of them."""
    reached: set[str] = set()
    for operation in graph.get_operations():  # in the order in which they were made, so inputs come first
        if is_start(operation) or any(tensor.op.name in reached for tensor in operation.inputs):
            reached.add(operation.name)
    return reached


def ancestors(operations: Sequence[Any]) -> dict[int, Any]:
    """The operations of the graph that results depend on, the given ones among them, by id."""
    reached = {id(operation): operation for operation in operations}
    todo = list(operations)
    while todo:
        for tensor in todo.pop().inputs:
            if id(tensor.op) not in reached:
                reached[id(tensor.op)] = tensor.op
                todo.append(tensor.op)
    return reached


@dataclass(frozen=True)
class Ways:
    """The ways through the operations of a graph from one set of them to another.

    Attributes:
        operations: on a way, in the order in which they were made.
        inputs: of each of them those that lie on a way, by its id.
    """

    operations: tuple[Any, ...]
    inputs: dict[int, tuple[Any, ...]]

    @classmethod
    def between(
        cls,
        starts: Sequence[Any],
        ends: Sequence[Any],
        *,
        passes: Callable[[Tensor, Any], bool] = lambda tensor, operation: True,
    ) -> Ways:
        """Finds the ways.

        Args:
            starts: operations.
            ends: operations.
            passes: whether what matters of a tensor goes into an operation that takes it.
        """
        takes: dict[int, list[Any]] = {}
        todo, leads = list(ends), {id(operation) for operation in ends}
        while todo:
            operation = todo.pop()
            for tensor in operation.inputs:
                if operation.type in WITHOUT_DATA or not passes(tensor, operation):
                    continue
                if operation.type == "IdentityN" and all(tensor is not one for one in _handed_on(operation)):
                    continue
                takes.setdefault(id(operation), []).append(tensor)
                if id(tensor.op) not in leads:
                    leads.add(id(tensor.op))
                    todo.append(tensor.op)
        begins = {id(operation) for operation in starts}
        on_way: set[int] = set()
        operations = []
        inputs: dict[int, tuple[Any, ...]] = {}
        for operation in ends[0].graph.get_operations() if ends else ():  # inputs come before what takes them
            if id(operation) not in leads:
                continue
            own = tuple(tensor for tensor in takes.get(id(operation), ()) if id(tensor.op) in on_way)
            if own or id(operation) in begins:
                on_way.add(id(operation))
                operations.append(operation)
                inputs[id(operation)] = own
        return cls(tuple(operations), inputs)

    def cuts(self, ends: Sequence[Any]) -> list[Any]:
        """The operations that all ways go through, in their order: taking one out cuts them all.

        An operation is one of them where no step of a way leaps over it.
        """
        place = {id(operation): number for number, operation in enumerate(self.operations)}
        after = len(self.operations)
        farthest = [0] * after
        for operation in self.operations:
            for tensor in self.inputs[id(operation)]:
                source = place[id(tensor.op)]
                farthest[source] = max(farthest[source], place[id(operation)])
        for operation in ends:
            if id(operation) in place:
                farthest[place[id(operation)]] = after
        reach, found = 0, []
        for number, operation in enumerate(self.operations):
            if reach <= number:
                found.append(operation)
            reach = max(reach, farthest[number])
        return found

    def uses_only(self, tensor: Tensor) -> bool:
        """Whether of the operation that gives a tensor no other output is on a way."""
        others = [output for output in tensor.op.outputs if output is not tensor]
        return not any(
            any(taken is other for taken in self.inputs[id(taker)])
            for other in others
            for taker in other.consumers()
            if id(taker) in self.inputs
        )


def _handed_on(operation: Any) -> list[Tensor]:
    """What an operation hands on that only takes the rest along for a gradient of its own."""
    return [given for given, output in zip(operation.inputs, operation.outputs, strict=True) if output.consumers()]


def handed_on_as(tensor: Tensor) -> Tensor:
    """What a layer's output is called after a gradient of its own was put on it, as under Keras's `RematScope`.

    The gradient by the output itself is not there.
    """
    for taker in tensor.consumers():
        if taker.type == "Identity" and taker.outputs[0].consumers():
            found = handed_on_as(taker.outputs[0])
            if found is not taker.outputs[0]:
                return found
        for given, output in zip(taker.inputs, taker.outputs, strict=False):
            if taker.type == "IdentityN" and given is tensor and output.consumers():
                return output
    return tensor


def joins(ways: Ways, among: Collection[str]) -> list[Any]:
    """The operations of some types that put together several tensors of the ways."""
    return [
        operation
        for operation in ways.operations
        if operation.type in among and len({id(tensor) for tensor in ways.inputs[id(operation)]}) > 1
    ]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision would overflow in sums over a map."""
    is_half = keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
    return ops.cast(tensor, "float32") if is_half else tensor
