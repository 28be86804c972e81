"""The traced graph, from a tensor back to the operations that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from gradcam_callbacks.explaining.tensorflow_internals import is_compiled_by_xla

Tensor = Any
# Operations that hand on what they get.
PASSING = frozenset({"Identity", "Cast", "EnsureShape"})


class InsideFunctionError(Exception):
    """The model calls layers inside a `tf.function` of its own, whose graph cannot be looked into."""


def has_inner_functions(scored: Any) -> bool:
    """Whether the scores come out of a `tf.function` of the model; Keras makes functions of single operations, too."""
    return any(
        operation.type in ("PartitionedCall", "StatefulPartitionedCall") and not is_compiled_by_xla(operation)
        for operation in ancestors([tensor.op for tensor in tf.nest.flatten(scored)]).values()
    )


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


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision would overflow in sums over a map."""
    return tf.cast(tensor, tf.float32) if tensor.dtype.size < 4 else tensor
