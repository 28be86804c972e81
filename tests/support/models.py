"""Small models and pictures for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from support.engines import by_numpy


def small_model(classes: int = 4, size: int = 16, **dense: object) -> keras.Model:
    """Convolution, global average pooling, dense: the network whose Grad-CAM has a closed form."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    settings = {"activation": "softmax", "name": "head"} | dense
    return keras.Model(inputs, keras.layers.Dense(classes, **settings)(x), name="small")


def pictures(count: int = 5, size: int = 16, channels: int = 3) -> np.ndarray:
    """Random pictures in 0..1."""
    return np.random.default_rng(3).random((count, size, size, channels), dtype=np.float32)


def redrawn(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model with random weights drawn anew, that are the same whatever Keras runs on."""
    noise = np.random.default_rng(seed)
    for weight in model.weights:
        if np.ptp(np.asarray(weight)) > 0:
            weight.assign(noise.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1]) or 1), weight.shape))
    return model


def trunk_and_head() -> list[keras.layers.Layer]:
    return [
        keras.layers.Conv2D(6, 3, activation="relu", name="conv"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4, activation="softmax", name="head"),
    ]


class Counting(keras.layers.Layer):
    """Counts the pictures that really run through it."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []

    def call(self, images: Any) -> Any:
        def count(batch: np.ndarray) -> np.ndarray:
            self.passes.append(len(batch))
            return batch

        return by_numpy(count, images)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


def counting_model() -> tuple[keras.Model, Counting]:
    counting = Counting()
    return keras.Sequential([keras.Input((16, 16, 3)), counting, *trunk_and_head()]), counting


def as_if_trained_for_a_step(model: keras.Model, images: np.ndarray) -> None:
    """Sets the statistics of all batch normalisations to those of a batch.

    With the initial ones the numbers of most of these networks vanish (MobileNet: 1e-18) or explode (NASNet: 1e3),
    and all maps and probabilities would be the same.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # or a picture whose branch is dropped would spoil the statistics
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        model(images, training=True)
