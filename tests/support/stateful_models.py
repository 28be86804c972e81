"""Models that a prediction changes: random ones, recurrent ones, and ones that keep statistics or count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops
from support.engines import IS_TENSORFLOW


class Sampling(layers.Layer):
    """Draws around its input, as a variational autoencoder does."""

    def __init__(self, seed: int | None = 7) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any) -> Any:
        return x + 0.3 * keras.random.normal(ops.shape(x), seed=self.seed_generator)


class AlwaysDropped(layers.Dropout):
    """Monte-Carlo dropout."""

    def call(self, x: Any, training: bool = False) -> Any:
        return super().call(x, training=True)


class Unseeded(layers.Layer):
    """Takes its numbers from the generator that Keras keeps for all."""

    def call(self, x: Any) -> Any:
        return keras.random.dropout(x, 0.3) + 0.1 * keras.random.normal(ops.shape(x))


class OfTensorFlow(layers.Layer):
    """Takes its numbers from a generator of TensorFlow's."""

    def __init__(self) -> None:
        import tensorflow as tf

        super().__init__()
        self.generator = tf.random.Generator.from_seed(3)

    def call(self, x: Any) -> Any:
        return x + 0.3 * self.generator.normal(ops.shape(x))


class Normalised(layers.Layer):
    """Batch normalisation that is always in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x: Any) -> Any:
        return self.norm(x, training=True)


class Counter(layers.Layer):
    """Counts its calls, and divides by their number."""

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x: Any) -> Any:
        self.calls.assign_add(1.0)
        return x / self.calls


def remembering(x: Any) -> Any:
    """A recurrent layer over the rows that goes on from batch to batch."""
    rows = layers.Reshape((14, 14 * 6))(x)
    return layers.LSTM(5, stateful=True)(rows)


def changeable(model: keras.Model) -> list[Any]:
    """All variables of a model: also the states of recurrent layers and of generators, which Keras does not count."""
    inside = [layer for layer in model.layers if isinstance(layer, layers.RNN)]
    generators = [layer.generator.state for layer in model.layers if isinstance(layer, OfTensorFlow)]
    return [*model.variables, *(state for layer in inside for state in layer.states), *generators]


def model_with(inside: Callable[[Any], Any], *, batch: int | None = None) -> keras.Model:
    """Convolution, what is given, and a softmax."""
    inputs = keras.Input(batch_shape=(batch, 16, 16, 3))
    x = inside(layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x), name="changing")


CHANGED: dict[str, Callable[[], keras.Model]] = {
    "sampling": lambda: model_with(Sampling()),
    "sampling without a seed": lambda: model_with(Sampling(None)),
    "dropout that is always on": lambda: model_with(AlwaysDropped(0.5)),
    "random numbers without a seed": lambda: model_with(Unseeded()),  # which Keras refuses on JAX
    "moving statistics": lambda: model_with(Normalised()),
    "a counter": lambda: model_with(Counter()),
    "a stateful LSTM": lambda: model_with(remembering, batch=8),
    "a nested model": lambda: model_with(
        keras.Sequential([keras.Input((14, 14, 6)), AlwaysDropped(0.5), Counter()], name="inner")
    ),
}
if IS_TENSORFLOW:
    CHANGED["a generator of TensorFlow's"] = lambda: model_with(OfTensorFlow())
