"""Ablation-CAM weighs each channel by what the score loses without it, on any network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.models import counting_model, pictures, small_model

from gradcam_callbacks import Explainer, ProbeSet, explain


def third(outputs: Any) -> Any:
    """The score of class 2."""
    return outputs[:, 2]


def maps_by_hand(activations: np.ndarray, score: np.ndarray, without: list[np.ndarray]) -> np.ndarray:
    """(N, *grid) from (N, *grid, C) activations, the (N,) score and C times that without each channel."""
    weights = (score[:, None] - np.stack(without, axis=-1)) / np.abs(score)[:, None]
    return np.maximum(np.einsum("n...c,nc->n...", activations, weights), 0)


def test_before_a_pooling_it_has_a_closed_form() -> None:
    """The score loses mean(A^k) w_k, so the map is ReLU(sum_k mean(A^k) w_k / |y| A^k); and it costs one pass."""
    model, counting = counting_model()
    targets = [3, (0, 1), third, "predicted"]
    explainer = Explainer(model, method="ablationcam")
    explainer(ProbeSet(pictures(2), targets=targets))  # which traces, and learns where the layer's places lie
    counting.passes.clear()
    explanation = explainer(ProbeSet(pictures(), targets=targets))
    assert counting.passes == [5]
    conv, head = model.layers[1], model.layers[-1]
    activations = np.asarray(conv(pictures()))
    kernel, bias = head.get_weights()
    pooled = activations.mean(axis=(1, 2))
    best = explanation.predicted
    columns = [
        np.tile(kernel[:, 3], (5, 1)),
        np.tile(kernel[:, 0] - kernel[:, 1], (5, 1)),
        np.tile(kernel[:, 2], (5, 1)),
        kernel[:, best].T,
    ]
    for k, (column, shift) in enumerate(zip(columns, [bias[3], bias[0] - bias[1], bias[2], bias[best]], strict=True)):
        score = (pooled * column).sum(axis=1) + shift
        weights = pooled * column / np.abs(score)[:, None]
        expected = np.maximum(np.einsum("nhwc,nc->nhw", activations, weights), 0)
        np.testing.assert_allclose(explanation.maps[:, k], expected, rtol=1e-4, atol=1e-5)


class Shortcut(keras.layers.Layer):
    """A residual block in code: the layer's output goes through a convolution and around it."""

    def __init__(self) -> None:
        super().__init__(name="block")
        self.inner = layers.Conv2D(4, 3, padding="same", activation="relu")

    def call(self, x: Any) -> Any:
        return self.inner(x) + x[:, ::-1]


RESTS: dict[str, Callable[[], list[Any]]] = {
    "flattened": lambda: [layers.Activation("relu"), layers.Flatten()],
    "normalised": lambda: [layers.BatchNormalization(), layers.Activation("swish"), layers.GlobalAveragePooling2D()],
    "a shortcut": lambda: [Shortcut(), layers.GlobalMaxPooling2D()],
    "attention": lambda: [layers.Reshape((64, 4)), layers.LayerNormalization(), layers.GlobalAveragePooling1D()],
    "a recurrent layer": lambda: [layers.Reshape((8, 32)), layers.GRU(5)],
    "grouped": lambda: [layers.Conv2D(4, 3, groups=2), layers.Flatten()],
    "dropout that is always on": lambda: [AlwaysDropout(), layers.Flatten()],
}


class AlwaysDropout(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = layers.Dropout(0.0)

    def call(self, x: Any) -> Any:
        return self.dropout(x, training=True)


@pytest.mark.parametrize("kind", RESTS)
def test_it_is_a_loop_over_the_channels(kind: str) -> None:
    """Whatever follows the layer, the maps are those of running it again with one channel at zero each time."""
    inputs = keras.Input((8, 8, 3))
    x = activations = layers.Conv2D(4, 3, name="conv", padding="same")(inputs)
    for layer in RESTS[kind]():
        x = layer(x)
    outputs = layers.Dense(3)(x)
    model, rest = keras.Model(inputs, outputs), keras.Model(activations, outputs)
    images = pictures(3, size=8)
    found = explain(model, images, targets=[0, 2], method="ablationcam", layer="conv")
    values = np.asarray(model.get_layer("conv")(images))
    scores = np.asarray(rest(values))
    left = [np.asarray(rest(values * (np.arange(4) != c))) for c in range(4)]
    for k, target in enumerate((0, 2)):
        expected = maps_by_hand(values, scores[:, target], [one[:, target] for one in left])
        np.testing.assert_allclose(found.maps[:, k], expected, rtol=1e-3, atol=1e-5)


def test_a_class_token_stays() -> None:
    """Of tokens only the places are put to zero: what the class token says of itself is no channel of the map."""

    class ClassToken(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return ops.concatenate([ops.ones_like(x[:, :1]), x], axis=1)

        def compute_output_shape(self, shape: Any) -> Any:
            return (shape[0], shape[1] + 1, shape[2])

    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 4))(layers.Conv2D(4, 4, strides=4)(inputs))
    tokens = layers.LayerNormalization(name="norm")(ClassToken()(x))
    outputs = layers.Dense(3)(layers.Flatten()(tokens))
    model, rest = keras.Model(inputs, outputs), keras.Model(tokens, outputs)
    found = explain(model, pictures(2), targets=[1], method="ablationcam", layer="norm")
    values = np.asarray(keras.Model(inputs, tokens)(pictures(2)))
    left = []
    for c in range(4):
        changed = values.copy()
        changed[:, 1:, c] = 0
        left.append(np.asarray(rest(changed))[:, 1])
    expected = maps_by_hand(values[:, 1:].reshape(2, 4, 4, 4), np.asarray(rest(values))[:, 1], left)
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=1e-3, atol=1e-5)


def test_what_goes_around_the_layer_stays() -> None:
    """A shortcut from before the layer to after it brings what it brought."""
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    conv = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(first)
    head = layers.Dense(3)
    model = keras.Model(inputs, head(layers.Flatten()(layers.Add()([first, conv]))))
    images = pictures(2, size=8)
    found = explain(model, images, targets=[0], method="ablationcam", layer="conv")
    beside, values = (np.asarray(array) for array in keras.Model(inputs, [first, conv])(images))
    kernel, bias = (array[..., 0] for array in head.get_weights())

    def score(changed: np.ndarray) -> np.ndarray:
        return (beside + changed).reshape(2, -1) @ kernel + bias

    left = [score(values * (np.arange(4) != c)) for c in range(4)]
    expected = maps_by_hand(values, score(values), left)
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=1e-3, atol=1e-5)


def test_a_score_below_zero_keeps_the_sign() -> None:
    """Where the logit is negative, what raises it still speaks for it: the map of the same weights and another bias."""
    model = small_model()
    head = model.get_layer("head")
    found = []
    for bias in (50.0, -50.0):
        head.bias.assign([bias] * 4)
        found.append(explain(model, pictures(2), targets=[1], method="ablationcam"))
    assert (found[0].scores > 0).all()
    assert (found[1].scores < 0).all()
    scaled = [one.maps * np.abs(one.scores)[..., None, None] for one in found]
    np.testing.assert_allclose(scaled[0], scaled[1], rtol=1e-3, atol=1e-4)
