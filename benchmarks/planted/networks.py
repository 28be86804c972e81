"""The two networks of the trainings, and how one is trained again and again by one compiled function.

- small: four convolutions with batch normalisation, 64 x 64 pictures, from scratch.
- lite0: EfficientNet-Lite0 with its ImageNet weights, 160 x 160 pictures. Its layers up to the last block are frozen;
  a head of one convolution is trained on their output, which is computed once a picture.

Both end in global average pooling and one dense layer after the activation "last_relu".
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from support.efficientnet_lite import efficientnet_lite0

__all__ = ["SIDES", "Trainer", "features", "trainer", "whole"]

Array = np.ndarray[Any, np.dtype[Any]]

SIDES = {"small": 64, "lite0": 160}
"""Height and width of the pictures that each network takes."""

CLASSES = 4
_BATCH = 16
_FEATURES = (5, 5, 320)


class Trainer:
    """One network, trained many times: weights and the optimizer's state are set anew, nothing is traced again.

    Attributes:
        model: what is trained: the small network, or the head of lite0, which takes features.
    """

    def __init__(self, model: keras.Model, rate: float) -> None:
        self.model = model
        self._rate = rate
        self._optimizer = keras.optimizers.Adam(rate)
        self._optimizer.build(model.trainable_variables)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
        self._run = tf.function(self._epoch, reduce_retracing=True)
        self._answers = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def start(self, seed: int) -> None:
        """Gives the model fresh weights and the optimizer a fresh state."""
        rng = np.random.default_rng(seed)
        for weight in self.model.weights:
            weight.assign(_initial(weight, rng))
        for variable in self._optimizer.variables:
            variable.assign(np.zeros(variable.shape))
        self._optimizer.learning_rate.assign(self._rate)

    def epoch(self, inputs: Array, labels: Array, order: Array, rate_factor: float) -> tuple[float, float]:
        """One epoch, the samples in the order given.

        Args:
            inputs: (N, ...) what the model takes.
            labels: (N,) class indices.
            order: permutation of N; samples that do not fill a batch are left out.
            rate_factor: the learning rate, as a share of the full one.

        Returns:
            Mean loss and accuracy while it was trained.
        """
        self._optimizer.learning_rate.assign(self._rate * rate_factor)
        batches = order[: len(order) // _BATCH * _BATCH].reshape(-1, _BATCH)
        loss, accuracy = self._run(*map(tf.convert_to_tensor, (inputs, labels, batches)))
        return float(loss), float(accuracy)

    def answers(self, inputs: Array) -> Array:
        """Probabilities (N, CLASSES)."""
        parts = [
            self._answers(tf.convert_to_tensor(inputs[start : start + 200])) for start in range(0, len(inputs), 200)
        ]
        return np.concatenate([part.numpy() for part in parts])

    def _epoch(self, inputs: Any, labels: Any, batches: Any) -> tuple[Any, Any]:
        losses, hits = tf.constant(0.0), tf.constant(0.0)
        for batch in batches:
            x, y = tf.gather(inputs, batch), tf.gather(labels, batch)
            with tf.GradientTape() as tape:
                answers = self.model(x, training=True)
                loss = self._loss(y, answers)
            variables = self.model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            losses += loss
            hits += tf.reduce_mean(tf.cast(tf.argmax(answers, axis=1) == y, tf.float32))
        count = tf.cast(tf.shape(batches)[0], tf.float32)
        return losses / count, hits / count


def _initial(weight: Any, rng: np.random.Generator) -> Array:
    """Glorot's uniform values for a kernel, ones for a scale and a variance, zeros otherwise."""
    if weight.name == "kernel":
        *receptive, inputs, outputs = weight.shape
        limit = np.sqrt(6 / (np.prod(receptive) * (inputs + outputs)))
        return rng.uniform(-limit, limit, weight.shape)
    return np.full(weight.shape, float(weight.name in ("gamma", "moving_variance")))


@functools.cache
def trainer(network: str) -> Trainer:
    """The trainer of a network ("small" or "lite0"), one a process."""
    if network == "small":
        return Trainer(_small(), 3e-3)
    inputs = keras.Input(_FEATURES, name="features")
    return Trainer(keras.Model(inputs, _head(inputs), name="head"), 2e-3)


@functools.cache
def whole(network: str) -> tuple[keras.Model, list[Any]]:
    """The model from pictures (0..255) to probabilities, one a process, and those of its weights that are trained."""
    if network == "small":
        model = _small()
        return model, model.weights
    side = SIDES["lite0"]
    inputs = keras.Input((side, side, 3), name="picture")
    model = keras.Model(inputs, _head(_backbone()(inputs)), name="lite0")
    trained = [weight for name in ("last_conv", "class") for weight in model.get_layer(name).weights]
    return model, trained


def features(pictures: Array) -> Array:
    """What the frozen part of lite0 makes of pictures (N, 160, 160, 3) in 0..255: (N, 5, 5, 320) float32."""
    call = _compiled_backbone()
    parts = [call(tf.convert_to_tensor(pictures[i : i + 16], tf.float32)).numpy() for i in range(0, len(pictures), 16)]
    return np.concatenate(parts) if parts else np.zeros((0, *_FEATURES), np.float32)


@functools.cache
def _compiled_backbone() -> Any:
    model = _backbone()
    return tf.function(lambda x: model(x, training=False), reduce_retracing=True)


@functools.cache
def _backbone() -> keras.Model:
    """The frozen part of lite0, from pictures in 0..255."""
    side = SIDES["lite0"]
    network = efficientnet_lite0(include_top=False)
    cut = keras.Model(network.input, network.get_layer("block7a_project_bn").output)
    smaller = keras.models.clone_model(cut, input_tensors=keras.Input((side, side, 3)))
    smaller.set_weights(cut.get_weights())
    inputs = keras.Input((side, side, 3))
    scaled = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    model = keras.Model(inputs, smaller(scaled), name="backbone")
    model.trainable = False
    return model


def _head(x: Any) -> Any:
    x = layers.Conv2D(64, 1, name="last_conv")(x)
    x = layers.ReLU(name="last_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    return layers.Dense(CLASSES, activation="softmax", name="class")(x)


def _small() -> keras.Model:
    side = SIDES["small"]
    inputs = keras.Input((side, side, 3), name="picture")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    stages = (("first", 16, 5, 2), ("second", 32, 3, 2), ("third", 64, 3, 2), ("last", 96, 3, 1))
    for name, filters, size, strides in stages:
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax", name="class")(x), name="small")
