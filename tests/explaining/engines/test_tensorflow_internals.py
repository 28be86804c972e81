"""What TensorFlow does not promise is still as we rely on it."""

from __future__ import annotations

from typing import Any

import keras
import pytest

if keras.config.backend() != "tensorflow":
    pytest.skip("needs KERAS_BACKEND=tensorflow", allow_module_level=True)

import tensorflow as tf

from gradcam_callbacks.explaining.engines.tensorflow_internals import (
    body_of,
    functions_inlined,
    is_compiled_by_xla,
    variables_written_by,
)


def traced(inner: Any) -> list[Any]:
    """The operations of a graph that calls a function."""
    graph = tf.function(lambda x: inner(x) + 1.0, autograph=False).get_concrete_function(tf.TensorSpec((2,)))
    return list(graph.graph.get_operations())


def calls(operations: list[Any]) -> list[Any]:
    return [operation for operation in operations if operation.type.endswith("PartitionedCall")]


def test_a_function_that_xla_compiles_is_told_from_a_users_own() -> None:
    """Without "_XlaMustCompile" a model whose layers Keras compiles would be taken for one of the user's functions.

    It would then be traced a second time, with all functions inlined.
    """
    (plain,) = calls(traced(tf.function(tf.exp)))
    (compiled,) = calls(traced(tf.function(tf.exp, jit_compile=True)))
    assert not is_compiled_by_xla(plain)
    assert is_compiled_by_xla(compiled)


def test_functions_are_inlined_while_another_is_traced() -> None:
    """If eager functions were not inlined, no layer could be explained of a model whose `call` is a `tf.function`."""
    inner = tf.function(tf.exp)
    with functions_inlined():
        operations = traced(inner)
    assert not calls(operations)
    assert "Exp" in {operation.type for operation in operations}
    assert not tf.config.functions_run_eagerly()
    assert calls(traced(inner))


def test_the_body_of_a_function_is_had() -> None:
    """Without "_get_function" nothing would be known of the places behind a convolution that XLA compiles."""
    (call,) = calls(traced(tf.function(tf.exp, jit_compile=True)))
    body = body_of(call)
    assert "Exp" in {operation.type for operation in body.get_operations()}
    assert (len(body.inputs), len(body.outputs)) == (len(call.inputs), len(call.outputs))


def test_variables_that_are_written_are_known() -> None:
    """If TensorFlow no longer told them apart, or a handle its dtype, a training would be changed or slowed down."""
    written, only_read = tf.Variable(1.0), tf.Variable(2)

    def graph() -> Any:
        written.assign_add(1.0)
        return only_read + 1

    ((handle, dtype),) = variables_written_by(tf.function(graph).get_concrete_function())
    assert handle is written.handle
    assert dtype == tf.float32
