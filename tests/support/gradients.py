"""Gradients and compiled functions of the engine that Keras runs on, written without ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def gradient(function: Callable[[Any], Any], array: Any) -> Any:
    """d(sum of what a function gives)/d(array)."""
    if keras.config.backend() == "jax":
        import jax

        return jax.grad(lambda given: function(given).sum())(array)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(array)
        result = function(array)
    return tape.gradient(result, array)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method as a `tf.function`, or under `jax.jit`."""
    if keras.config.backend() == "jax":
        import jax

        # Each time anew: a function under jit must not keep what it saw of a model's variables.
        return lambda self, array: jax.jit(lambda given: function(self, given))(array)
    import tensorflow as tf

    return tf.function(function)  # type: ignore[no-any-return]
