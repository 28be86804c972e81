"""What we rely on in TensorFlow that it does not promise to keep. No other file touches it.

Each function has a test in `test_tensorflow_internals.py` that says what breaks here when TensorFlow changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.auto_control_deps_utils import get_read_only_resource_input_indices_graph


def is_compiled_by_xla(operation: Any) -> bool:
    """Whether a call of a function in a graph is one that XLA compiles, as Keras makes them for single operations."""
    return bool(operation.node_def.attr["_XlaMustCompile"].b)


@contextmanager
def functions_inlined() -> Iterator[None]:
    """Has a `tf.function` that is called while a graph is traced add its operations to that graph.

    That "eager" functions do so inside of another trace is not documented.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def body_of(operation: Any, attribute: str = "f") -> Any:
    """The graph of the function that an operation calls; None where it is not to be had.

    The functions of a graph are had by the private `_get_function`.

    Args:
        operation: that calls one.
        attribute: of the operation, that names the function.
    """
    try:
        return operation.graph._get_function(operation.get_attr(attribute).name).graph
    except (AttributeError, KeyError, ValueError):
        return None


def variables_written_by(function: Any) -> list[tuple[Any, Any]]:
    """The handle and dtype of each variable outside of a traced graph that a run of it may write to.

    TensorFlow itself keeps account of which of a graph's inputs are only read, to order its operations; what it does
    not know counts as written. A handle says by its private `_handle_data` what it is the handle of.

    Args:
        function: a concrete function.
    """
    graph, captured = function.graph, function.captured_inputs
    only_read = set(get_read_only_resource_input_indices_graph(graph))
    written = []
    for position, handle in enumerate(captured, start=len(graph.inputs) - len(captured)):
        described = getattr(handle, "_handle_data", None)  # other resources, such as tables, describe no value
        if position not in only_read and described is not None and described.is_set and described.shape_and_type:
            written.append((handle, tf.as_dtype(described.shape_and_type[0].dtype)))
    return written
