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
    """The model with Glorot's kernels, drawn by NumPy: each engine has other random numbers of its own."""
    numbers = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:  # biases begin with zeros everywhere
            limit = math.sqrt(6 / (math.prod(shape[:-2]) * sum(shape[-2:])))
            variable.assign(numbers.uniform(-limit, limit, shape))
    return model
