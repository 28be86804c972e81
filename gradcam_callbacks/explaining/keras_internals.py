"""What we rely on in Keras that it does not promise to keep. No other file touches it.

Each function has a test in `test_keras_internals.py` that says what breaks here when Keras changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keras import ops
from keras.src.backend.common import global_state


def children(parent: Any) -> Sequence[Any]:
    """What is directly inside a layer or a model, in its order: of a functional model also operations like an addition.

    Other layers say what is in them by the private `_flatten_layers` alone.
    """
    operations = getattr(parent, "operations", None)
    if operations is None:
        operations = parent._flatten_layers(include_self=False, recursive=False)
    return operations  # type: ignore[no-any-return]


def calls_in_running_order(model: Any) -> list[tuple[Any, int]]:
    """The calls inside a functional model in the order in which Keras runs them; of other models none.

    Keras runs by depth, from the inputs to the outputs, which need not be the order of the calls in the code. It keeps
    both orders in private lists: `_nodes_by_depth` of the model and `_inbound_nodes` of each operation.

    Returns:
        For each call its operation, and which call of that operation it is in the code, from 0.
    """
    by_depth = getattr(model, "_nodes_by_depth", {})
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [(node.operation, node.operation._inbound_nodes.index(node)) for node in nodes]


@contextmanager
def calls_wrapped(
    layers: Sequence[Any], wrap: Callable[[Any, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Replaces what layers do when they are called, and puts everything back at the end, also after an error.

    The wrappers are written into the instances' dictionaries. An assignment (`layer.call = …`) would go through Keras's
    tracking of attributes, which a built layer refuses. A quantised layer computes in `quantized_call` instead.

    Args:
        layers: instances, each once.
        wrap: gets a layer and its own method, and gives what is called instead.
    """
    methods = ["quantized_call" if getattr(layer, "quantization_mode", None) else "call" for layer in layers]
    before = [layer.__dict__.get(method) for layer, method in zip(layers, methods, strict=True)]
    try:
        for layer, method in zip(layers, methods, strict=True):
            layer.__dict__[method] = wrap(layer, getattr(layer, method))
        yield
    finally:
        for layer, method, own in zip(layers, methods, before, strict=True):
            if own is None:
                layer.__dict__.pop(method, None)
            else:
                layer.__dict__[method] = own


@contextmanager
def losses_kept(layers: Iterable[Any]) -> Iterator[None]:
    """Forgets the losses that layers add meanwhile to their private `_losses`.

    While a graph is traced these are tensors of that graph, and `model.losses` would fail on them later.
    """
    kept = [(layer, list(layer._losses)) for layer in layers if hasattr(layer, "_losses")]
    try:
        yield
    finally:
        for layer, losses in kept:
            layer._losses[:] = losses


def seed_states(model: Any) -> list[Any]:
    """The variables that the random numbers of `keras.random` come from, always in the same order.

    First those of the model's seed generators, which are told by their name, then that of the generator that Keras
    keeps for `seed=None`, if there is one by now. No public function gives that one without making it.
    """
    states = {id(variable): variable for variable in model.variables if variable.name == "seed_generator_state"}
    everywhere = global_state.get_global_attribute("global_seed_generator")
    return [*states.values(), *([] if everywhere is None else [everywhere.state])]


def has_no_value(variable: Any) -> bool:
    """Whether a variable has been emptied, as on JAX those of a model are within an epoch of its training.

    Its public `value` would give new initial numbers then; the private `_value` says so.
    """
    return variable._value is None


def batch_counter(optimizer: Any) -> Any:
    """The variable in which an optimizer counts the batches.

    Where it gathers the gradients of several batches, the public `iterations` is no variable, and counts the updates.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # that of a `LossScaleOptimizer` counts
    return inner._iterations if hasattr(inner, "_iterations") else inner.iterations


def iterations(model: Any) -> int | None:
    """How many batches the optimizer of a model has trained on.

    On JAX `fit` alone knows that within an epoch, in the private `_jax_state` of the model, which has a value for each
    of `optimizer.variables`. The public `jax_state_sync` would hand back all weights after each batch.

    Returns:
        The number; None where it is not to be had.
    """
    count = batch_counter(model.optimizer)
    if not has_no_value(count):
        return int(ops.convert_to_numpy(count))
    held = (getattr(model, "_jax_state", None) or {}).get("optimizer_variables") or ()
    numbers = (value for variable, value in zip(model.optimizer.variables, held, strict=False) if variable is count)
    return next(map(int, numbers), None)
