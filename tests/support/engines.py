"""What the engine that Keras runs on has of its own, for models and for what they are compared with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import keras
import pytest

IS_TENSORFLOW = keras.config.backend() == "tensorflow"
needs_tensorflow = pytest.mark.skipif(not IS_TENSORFLOW, reason="needs KERAS_BACKEND=tensorflow")
needs_jax = pytest.mark.skipif(IS_TENSORFLOW, reason="needs KERAS_BACKEND=jax")


def gradient(function: Callable[[Any], Any], array: Any) -> Any:
    """d(sum of what a function gives)/d(array)."""
    if not IS_TENSORFLOW:
        import jax

        with keras.StatelessScope():  # what a layer writes down, such as a moving mean, is none of this
            return jax.grad(lambda given: function(given).sum())(array)
    import tensorflow as tf

    array = tf.convert_to_tensor(array)
    with tf.GradientTape() as tape:
        tape.watch(array)
        result = function(array)
    return tape.gradient(result, array)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method as a `tf.function` that XLA compiles, or under `jax.jit`."""
    if not IS_TENSORFLOW:
        import jax

        # Each time anew: a function under jit must not keep what it saw of a model's variables.
        return lambda self, array: jax.jit(lambda given: function(self, given))(array)
    import tensorflow as tf

    return tf.function(function, jit_compile=True)  # type: ignore[no-any-return]


def looped(function: Callable[[Any], Any], array: Any, shape: tuple[int, ...]) -> Any:
    """What a function gives for each entry of an array, in this shape, in a loop of the graph."""
    if not IS_TENSORFLOW:
        import jax

        return jax.lax.map(function, array)
    import tensorflow as tf

    return tf.map_fn(function, array, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def by_numpy(function: Callable[[Any], Any], array: Any) -> Any:
    """What a function of NumPy's gives, which has the shape of what it gets, and no gradient."""
    if not IS_TENSORFLOW:
        import jax

        like = jax.ShapeDtypeStruct(array.shape, array.dtype)
        return jax.pure_callback(function, like, jax.lax.stop_gradient(array))
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(function, [array], array.dtype), array.shape)


def over_targets(method: Callable[..., Any], activations: Any, *others: Any) -> Callable[..., Any]:
    """The maps (K, N, *grid) of all targets at once, without a loop, compiled for any number of pictures.

    Args:
        method: of one target's maps.
        activations: (N, *grid, C), which all targets share, an example.
        others: (K, N, ...) of each target, examples.
    """
    if not IS_TENSORFLOW:
        import jax

        return jax.jit(lambda batch, *rest: jax.vmap(lambda *target: method(batch, *target))(*rest))
    import tensorflow as tf

    each = [tf.TensorSpec((None, None, *array.shape[2:]), array.dtype) for array in others]

    @tf.function(input_signature=[tf.TensorSpec((None, *activations.shape[1:]), activations.dtype), *each])
    def graph(batch: Any, *rest: Any) -> Any:
        return tf.vectorized_map(lambda target: method(batch, *target), rest, fallback_to_while_loop=False)

    return graph  # type: ignore[no-any-return]


def largest_over_targets(method: Callable[..., Any], activations: Any, *others: Any) -> int:
    """How many numbers the largest array has that is computed on the way to the maps of all targets at once."""
    if not IS_TENSORFLOW:
        compiled = over_targets(method, activations, *others).lower(activations, *others).compile()
        shapes = re.findall(r"= \w+\[([\d,]*)\]", compiled.as_text())
        return max(math.prod(map(int, filter(None, shape.split(",")))) for shape in shapes)
    import tensorflow as tf

    specs = [tf.TensorSpec(array.shape, array.dtype) for array in (activations, *others)]
    function = tf.function(lambda batch, *rest: tf.vectorized_map(lambda target: method(batch, *target), rest))
    operations = function.get_concrete_function(*specs).graph.get_operations()
    shapes = [output.shape for operation in operations for output in operation.outputs]
    return max(shape.num_elements() for shape in shapes if shape.is_fully_defined())
