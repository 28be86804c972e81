"""Random numbers that begin again."""

from __future__ import annotations

import math

import keras
import numpy as np


def seed_afresh(seed: int) -> None:
    """Seeds all that is random. Keras 3.11 goes on with the generator that is there, unless that is forgotten first."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def same_weights(model: keras.Model, seed: int) -> keras.Model:
    """The model with Glorot's kernels, drawn by NumPy: each engine has other random numbers of its own.

    The last layer's are positive, so that something speaks for each class, and no map is empty.
    """
    numbers = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:  # biases begin with zeros everywhere
            limit = math.sqrt(6 / (math.prod(shape[:-2]) * sum(shape[-2:])))
            is_last = variable is model.layers[-1].trainable_variables[0]
            variable.assign(numbers.uniform(0 if is_last else -limit, limit, shape))
    return model
