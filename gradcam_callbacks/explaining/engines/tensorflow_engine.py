"""TensorFlow as an engine: what `engine.Engine` says, with graphs of `tf.function`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.engines import tf_config
from gradcam_callbacks.explaining.engines.tensorflow_internals import body_of as body_in
from gradcam_callbacks.explaining.engines.tensorflow_internals import functions_inlined, is_compiled_by_xla
from gradcam_callbacks.explaining.engines.tensorflow_state import read as read_variables
from gradcam_callbacks.explaining.engines.tensorflow_state import state_kept
from gradcam_callbacks.explaining.engines.tensorflow_state import write as write_variables
from gradcam_callbacks.explaining.engines.tracing import left_alone
from gradcam_callbacks.explaining.feeding import called
from gradcam_callbacks.explaining.graph import reached_from
from gradcam_callbacks.probes.inputs import Inputs

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.calls import Call
    from gradcam_callbacks.explaining.engines.engine import Forward, Marker, Plan, Tensor, Values

WRONG_SIZE = (tf.errors.InvalidArgumentError,)
COMPILES_EACH_SIZE = False
Written = Sequence[tuple[Any, Any]]
"""Variables that a prediction writes to, by handle and dtype."""


class _InsideFunctionError(Exception):
    """The model calls layers inside a `tf.function` of its own; only once that is inlined are their outputs seen."""


def is_tensor(value: Any) -> bool:
    """See `Engine`."""
    return bool(tf.is_tensor(value)) and not isinstance(value, keras.Variable)  # which TensorFlow takes for one, too


def static_value(tensor: Tensor) -> Array | None:
    """See `Engine`."""
    return tf.get_static_value(tensor)  # type: ignore[no-any-return]


def body_of(operation: Any, attribute: str = "f") -> Any:
    """See `Engine`."""
    return body_in(operation, attribute)


def has_numbers(tensor: Tensor) -> bool:
    """See `Engine`."""
    return True


def has_gradient(scores: Sequence[Tensor], tensor: Tensor) -> bool:
    """See `Engine`."""
    floats = [score for score in scores if score.dtype.is_floating]
    return tf.gradients(floats, [tensor])[0] is not None


def gradient(function: Callable[[Any], Values], values: Any) -> Any:
    """See `Engine`."""
    flat = tf.nest.flatten(values)
    # Within this, and not by tf.gradients, what is given may come from outside of a loop that this stands in.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([tensor for tensor in flat if tensor.dtype.is_floating])
        result = function(values)
    missing = tf.UnconnectedGradients.ZERO
    return tf.nest.pack_sequence_as(values, tape.gradient(result, flat, unconnected_gradients=missing))


def one_by_one(function: Callable[[Any], Any], values: Any, like: Any) -> Any:
    """See `Engine`."""
    return tf.map_fn(function, values, fn_output_signature=_specs(like), parallel_iterations=1)


def is_chief() -> bool:
    """See `Engine`. By the environment variable TF_CONFIG."""
    return tf_config.is_chief()


def restore(model: keras.Model, prefix: str) -> None:
    """See `Engine`."""
    for checkpoint in (tf.train.Checkpoint(model=model), tf.train.Checkpoint(model)):
        status = checkpoint.read(prefix).expect_partial()
        try:
            status.assert_existing_objects_matched()
        except AssertionError as error:
            problem = error
        else:
            return
    raise GradCAMError(f"It does not hold the weights of '{model.name}': {str(problem).splitlines()[0]}")


def traced(
    model: keras.Model,
    read: Callable[[Forward], Plan],
    compute: Callable[..., Any],
    inputs: Inputs,
    *others: keras.KerasTensor,
    watching: Callable[[Marker], AbstractContextManager[list[Call]]] | None = None,
    batch: int | None = None,
    same_noise: bool = False,
) -> Any:
    """See `Engine`."""
    specs, runs = _specs(list(others)), list[_Run]()

    def of_pass(written: Written) -> Any:
        def graph(fed: Inputs, *others: Any) -> Any:
            before = read_variables(written)
            tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
            forward = _forward(model, fed, tape, watching, batch)
            runs.append(_Run(model, tape, written, before))
            return compute(runs[-1], read(forward), *others)

        try:
            return state_kept(graph, inputs, *specs, batch=batch, same_noise_in=model if same_noise else None)
        except _InsideFunctionError:
            with functions_inlined():
                return state_kept(graph, inputs, *specs, batch=batch, same_noise_in=model if same_noise else None)

    with left_alone(model):
        kept = of_pass(())
        if runs[-1].is_repeated and kept.written:  # only now is it known what to give its values back before each pass
            kept = of_pass(kept.written)
    return _Traced(kept)


class _Traced:
    """A graph, run with arrays."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept
        self.written = kept.written

    def __call__(self, *arrays: Any) -> Any:
        result = self._kept(*tf.nest.map_structure(tf.constant, arrays))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), result)


def _forward(
    model: keras.Model,
    fed: Inputs,
    tape: tf.GradientTape,
    watching: Callable[[Marker], AbstractContextManager[list[Call]]] | None,
    batch: int | None,
) -> Forward:
    """Calls the model within the graph that is being traced."""
    from gradcam_callbacks.explaining.engines.engine import Forward

    graph = tf.compat.v1.get_default_graph()
    with tape, nullcontext([]) if watching is None else watching(_Marker(tape)) as calls:
        for tensor in tf.nest.flatten(fed):
            if tensor.dtype.is_floating:
                tape.watch(tensor)
        outputs = called(model, fed)
    if watching is not None and not tf.config.functions_run_eagerly() and calls_functions(graph):
        raise _InsideFunctionError

    def applied(function: Callable[[Any], Any], given: Any) -> Any:
        with tape:
            return function(given)

    return Forward(graph, fed, outputs, calls, batch, applied)


def calls_functions(graph: Any) -> bool:
    """Whether a graph calls a `tf.function` of the model, in which there may be layers.

    Keras makes a function of a grouped convolution, too, which XLA compiles. It gets one variable, the kernel.
    """
    return any(
        not is_compiled_by_xla(operation) or sum(given.dtype == tf.resource for given in operation.inputs) > 1
        for operation in graph.get_operations()
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall")
    )


class _Marker:
    """Has a tape watch what layers give: see `engine.Marker`."""

    def __init__(self, tape: tf.GradientTape) -> None:
        self._tape = tape

    def position(self) -> int:
        return int(tf.compat.v1.get_default_graph().version)

    def noted(self, result: Any) -> Any:
        if is_tensor(result) and result.dtype.is_floating:
            self._tape.watch(result)
        return result


class _Run:
    """See `engine.Run`. The graph that was read is the one that runs, so a tensor is its own numbers.

    Attributes:
        is_repeated: whether further forward passes were asked for.
    """

    def __init__(self, model: keras.Model, tape: tf.GradientTape, written: Written, before: Sequence[Any]) -> None:
        self._model, self._tape = model, tape
        self._written, self._before = written, before
        self.is_repeated = False

    def values(self, tensors: Any) -> Any:
        return tensors

    def differentiated(self, scored: Sequence[Tensor], sources: Sequence[Tensor], others: Any = ()) -> Any:
        def pull(seeds: Sequence[Values]) -> list[Values]:
            # Not tf.gradients, which cannot look out of a loop.
            found = self._tape.gradient(scored, sources, output_gradients=seeds)
            if all(one is None for one in found):  # by what no tape watches, such as a picture of whole numbers, cast
                found = tf.gradients(scored, sources, grad_ys=seeds)
            found = [tf.zeros_like(tensor) if one is None else one for one, tensor in zip(found, sources, strict=True)]
            # That of a maximum does not know its own shape.
            return [tf.ensure_shape(one, source.shape) for one, source in zip(found, sources, strict=True)]

        return list(scored), others, pull

    def rerun(self, starts: Sequence[Tensor], ends: Sequence[Tensor]) -> Any:
        return _Rerun(starts, ends)

    def again(self, fed: Inputs, read: Callable[[Forward], Any]) -> Any:
        self.is_repeated = True
        write_variables(self._written, self._before)
        return read(_forward(self._model, fed, tf.GradientTape(), None, None))


def _specs(like: Any) -> Any:
    return tf.nest.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), like)


class _Rerun:
    """The operations from some tensors of the graph to others, to be run again with other values at the beginning."""

    def __init__(self, starts: Sequence[Tensor], ends: Sequence[Tensor]) -> None:
        self._starts, self._ends = starts, ends
        graph = ends[0].graph
        begins = {id(tensor.op) for tensor in starts}
        after = reached_from(graph, lambda operation: id(operation) in begins)
        needed, todo = set[str](), [tensor.op for tensor in ends]
        while todo:
            operation = todo.pop()
            if operation.name in after and operation.name not in needed:
                needed.add(operation.name)
                todo += [tensor.op for tensor in operation.inputs]
        self._operations = [
            operation
            for operation in graph.get_operations()
            if operation.name in needed and id(operation) not in begins
        ]

    def __call__(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The ends, where the starts have these values."""
        graph = tf.compat.v1.get_default_graph()
        known = {id(start): value for start, value in zip(self._starts, values, strict=True)}
        for operation in self._operations:
            copy = graph.create_op(
                operation.type,
                [known.get(id(tensor), tensor) for tensor in operation.inputs],
                [tensor.dtype for tensor in operation.outputs],
                attrs=dict(operation.node_def.attr),
                op_def=operation.op_def,
            )
            for old, new in zip(operation.outputs, copy.outputs, strict=True):
                new.set_shape(old.shape)
                known[id(old)] = new
        return [known.get(id(end), end) for end in self._ends]
