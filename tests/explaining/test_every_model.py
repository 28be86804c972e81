"""Methods that need more than gradients work on every kind of model that Grad-CAM works on."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.models import pictures, redrawn, small_model

from gradcam_callbacks import Explainer, Explanation, GradCAMCallback, InMemoryStore, ProbeSet, explain
from gradcam_callbacks.record.journal import Journal

METHODS = ("finercam", "ablationcam", "occlusion")


def corner(outputs: Any) -> Any:
    """The mean score of class 1 in a corner."""
    return ops.mean(outputs[:, :4, :4, 1], axis=[1, 2])


def signal() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((12, 2))
    x = layers.Conv1D(4, 3, activation="relu", name="conv")(inputs)
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(x))
    return keras.Model(inputs, outputs), np.random.default_rng(0).random((3, 12, 2), dtype=np.float32), [0, "predicted"]


def volume() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((4, 6, 8, 1))
    x = layers.Conv3D(4, 3, activation="relu", name="conv", padding="same", strides=2)(inputs)
    outputs = layers.Dense(3)(layers.GlobalAveragePooling3D()(x))
    return keras.Model(inputs, outputs), np.random.default_rng(0).random((3, 4, 6, 8, 1), dtype=np.float32), [0, (1, 2)]


def several_inputs() -> tuple[keras.Model, Any, Any]:
    age, photo = keras.Input((2,), name="age"), keras.Input((8, 8, 3), name="photo")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(photo)
    x = layers.Concatenate()([layers.Flatten()(x), age])
    rng = np.random.default_rng(0)
    images = {"age": rng.random((3, 2), dtype=np.float32), "photo": rng.random((3, 8, 8, 3), dtype=np.float32)}
    return keras.Model([age, photo], layers.Dense(3)(x)), images, [2, 0]


def half_precision() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv", dtype="mixed_float16")(inputs)
    x = layers.Dense(3, dtype="mixed_float16")(layers.Flatten(dtype="mixed_float16")(x))
    return keras.Model(inputs, x), pictures(3, size=8), [1, (0, 2)]


def segmentation() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv", strides=4)(inputs)
    x = layers.UpSampling2D(4)(x)
    # With these weights something speaks for the corner, which by chance is not so in one of two.
    return redrawn(keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax")(x))), pictures(3), [corner]


def several_outputs() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv", strides=2)(inputs)
    heads = [layers.Dense(n)(layers.Flatten()(x)) for n in (4, 2)]
    targets = [lambda outputs, sign=sign: sign * (outputs[0][:, 3] + outputs[1][:, 0]) for sign in (1, -1)]
    return keras.Model(inputs, heads), pictures(3, size=8), targets


def fixed_batch() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input(batch_shape=(2, 8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv", strides=2)(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))), pictures(3, size=8), [0, 1]


def one_unit() -> tuple[keras.Model, Any, Any]:
    return small_model(classes=1, size=8, activation="sigmoid"), pictures(3, size=8), [0, 1]


KINDS = (signal, volume, several_inputs, half_precision, segmentation, several_outputs, fixed_batch, one_unit)


@cache
def of_all_methods(kind: Any) -> tuple[keras.Model, Any, Any, Explanation]:
    """A model, pictures and targets, and what Grad-CAM says of them."""
    model, images, targets = kind()
    return model, images, targets, explain(model, images, targets=targets, layer="conv")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_a_map_of_each_picture_and_target(method: str, kind: Any) -> None:
    """On Grad-CAM's grid, with its scores, finite, and that of a picture alone."""
    model, images, targets, plain = of_all_methods(kind)
    explainer = Explainer(model, method=method, layer="conv")
    found = explainer(ProbeSet(images, targets=targets))
    assert found.maps.shape == plain.maps.shape
    assert set(found.health.flat) <= {"ok", "empty"}
    assert (found.health == "ok").any()
    np.testing.assert_array_equal(found.scores, plain.scores)
    last = {key: array[2:] for key, array in images.items()} if isinstance(images, dict) else images[2:]
    alone = explainer(ProbeSet(last, targets=targets))
    tolerance = 0.02 if kind is half_precision else 1e-4
    np.testing.assert_allclose(found.maps[2:], alone.maps, atol=tolerance * found.maps.max())


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("method", METHODS)
def test_a_training_records_them(method: str) -> None:
    """Each epoch has the maps of the method, those of `explain` with the weights at its end."""
    model, store = small_model(), InMemoryStore()
    model.compile("sgd", "sparse_categorical_crossentropy")
    watch = GradCAMCallback(
        (pictures(2), np.array([1, 2])), method=method, store=store, reliance=False, journal_dir="kept", verbose=False
    )
    model.fit(pictures(), np.arange(5) % 4, epochs=1, verbose=0, callbacks=[watch])
    assert watch.problems == 0
    assert watch.explainer is not None
    assert watch.explainer.method == method
    maps = Journal("kept").read(0).arrays["maps"]
    expected = explain(model, (pictures(2), np.array([1, 2])), targets=["label", "predicted"], method=method)
    np.testing.assert_allclose(maps, expected.maps, atol=1e-6)
