"""The forward pass that benchmarks compare with: a prediction, compiled as people do it on the engine of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def compiled(model: keras.Model) -> Callable[[Array], Array]:
    """By `tf.function`, or by `jax.jit` with the weights that the model has when it is called."""
    if keras.config.backend() == "jax":
        import jax

        function = jax.jit(lambda state, batch: model.stateless_call(*state, batch, training=False)[0])
        parts = (model.trainable_variables, model.non_trainable_variables)
        return lambda batch: np.asarray(function([[each.value for each in part] for part in parts], batch))
    import tensorflow as tf

    graph = tf.function(lambda batch: model(batch, training=False))
    return lambda batch: graph(tf.constant(batch)).numpy()  # type: ignore[no-any-return]
