"""Traced graphs whose runs leave a model as it was: what a prediction changes in it is put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from gradcam_callbacks.explaining.engines.tensorflow_internals import variables_written_by
from gradcam_callbacks.explaining.keras_internals import seed_states
from gradcam_callbacks.probes.inputs import Inputs


def state_kept(
    graph: Callable[..., Any],
    inputs: Inputs,
    *others: tf.TensorSpec,
    batch: int | None = None,
    same_noise_in: Any = None,
) -> Any:
    """A traced graph that leaves the variables of the model as they are, whenever it is run.

    Args:
        graph: from what a model is fed, and other tensors, to tensors.
        inputs: what the model will be fed; the number of pictures does not matter.
        others: the other tensors.
        batch: how many pictures the model takes at once where that is fixed.
        same_noise_in: see `StateKept`.
    """
    specs = tf.nest.map_structure(lambda array: tf.TensorSpec((batch, *array.shape[1:]), array.dtype), inputs)
    function = tf.function(graph, input_signature=[specs, *others], autograph=False)
    return StateKept(function.get_concrete_function(), same_noise_in=same_noise_in)


class StateKept:
    """A traced graph of a model whose runs leave every variable as it was, also after an error.

    Which variables the graph writes is known once it is traced: the seeds of random layers, the states of recurrent
    ones, moving statistics, counters. These alone are read before a run and written back after it. A graph that writes
    none runs as it is.

    Attributes:
        written: the handle and dtype of each of these variables.
    """

    def __init__(self, function: Any, *, same_noise_in: Any = None) -> None:
        """Takes the graph.

        Args:
            function: a concrete function.
            same_noise_in: a model whose random layers are to draw the same numbers in every run; None lets them draw
                what a prediction would draw now.
        """
        self._function = function
        self.written = variables_written_by(function)
        self._noise: list[tuple[Any, Any]] = []
        if self.written and same_noise_in is not None:
            written = {id(handle) for handle, _ in self.written}
            for number, seed in enumerate(seed_states(same_noise_in)):
                if id(seed.value.handle) in written:
                    self._noise.append((seed, tf.constant([number, 0], seed.value.dtype)))

    def __call__(self, *args: Any) -> Any:
        """Runs the graph."""
        if not self.written:
            return self._function(*args)
        before = read(self.written)
        try:
            for seed, value in self._noise:
                seed.assign(value)
            return self._function(*args)
        finally:
            write(self.written, before)


def read(variables: Sequence[tuple[Any, Any]]) -> list[Any]:
    """The values of variables, given by their handles and dtypes; within a graph those that they have at that point."""
    return [tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype) for handle, dtype in variables]


def write(variables: Sequence[tuple[Any, Any]], values: Sequence[Any]) -> None:
    """Gives variables, by their handles and dtypes, these values."""
    for (handle, _), value in zip(variables, values, strict=True):
        tf.raw_ops.AssignVariableOp(resource=handle, value=value)
