"""What the engine that Keras runs on has of its own, for models and for what they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

IS_TENSORFLOW = keras.config.backend() == "tensorflow"
needs_tensorflow = pytest.mark.skipif(not IS_TENSORFLOW, reason="needs KERAS_BACKEND=tensorflow")
needs_jax = pytest.mark.skipif(IS_TENSORFLOW, reason="needs KERAS_BACKEND=jax")


def gradient(function: Callable[[Any], Any], array: Any) -> Any:
    """d(sum of what a function gives)/d(array)."""
    if keras.config.backend() == "jax":
        import jax

        with keras.StatelessScope():  # what a layer writes down, such as a moving mean, is none of this
            return jax.grad(lambda given: function(given).sum())(array)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(array)
        result = function(array)
    return tape.gradient(result, array)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method as a `tf.function` that XLA compiles, or under `jax.jit`."""
    if keras.config.backend() == "jax":
        import jax

        # Each time anew: a function under jit must not keep what it saw of a model's variables.
        return lambda self, array: jax.jit(lambda given: function(self, given))(array)
    import tensorflow as tf

    return tf.function(function, jit_compile=True)  # type: ignore[no-any-return]


def looped(function: Callable[[Any], Any], array: Any, shape: tuple[int, ...]) -> Any:
    """What a function gives for each entry of an array, in this shape, in a loop of the graph."""
    if keras.config.backend() == "jax":
        import jax

        return jax.lax.map(function, array)
    import tensorflow as tf

    return tf.map_fn(function, array, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def by_numpy(function: Callable[[Any], Any], array: Any) -> Any:
    """What a function of NumPy's gives, which has the shape of what it gets, and no gradient."""
    if keras.config.backend() == "jax":
        import jax

        return jax.pure_callback(function, jax.ShapeDtypeStruct(array.shape, array.dtype), array)
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(function, [array], array.dtype), array.shape)
