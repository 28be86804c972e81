"""A method can be a function of one's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from keras import ops
from mlflow import MlflowClient
from support.models import pictures, small_model

from gradcam_callbacks import (
    METHODS,
    Explainer,
    GradCAMCallback,
    GradCAMError,
    ProbeSet,
    evaluate,
    explain,
    explain_checkpoints,
)
from gradcam_callbacks.explaining.methods import attends, find_method
from gradcam_callbacks.record.journal import Journal


def by_hand(activations: Any, gradients: Any, scores: Any) -> Any:
    """Grad-CAM."""
    weights = ops.mean(gradients, axis=tuple(range(1, len(gradients.shape) - 1)))
    return ops.relu(ops.einsum("n...c,nc->n...", activations, weights))


def best_channel(activations: Any, increases: Any, scores: Any) -> Any:
    """The map of the channel that raises the score most, as masks tell."""
    return ops.sum(ops.one_hot(ops.argmax(increases, -1), activations.shape[-1])[:, None, None] * activations, -1)


best_channel.masks = True  # type: ignore[attr-defined]


def with_flat_head() -> keras.Model:
    """The gradient differs from place to place."""
    convolution = keras.layers.Conv2D(4, 3, activation="relu", name="conv")
    layers = [convolution, keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    return keras.Sequential([keras.Input((16, 16, 3)), *layers])


@pytest.mark.parametrize("build", [small_model, with_flat_head])
def test_a_function_gives_the_maps_of_the_method_of_that_formula(build: Callable[[], keras.Model]) -> None:
    """Grad-CAM written anew has the maps of "gradcam" to the last bit, and its own name."""
    model, targets = build(), [0, "predicted", (1, 2), lambda outputs: outputs[:, 3]]
    own = explain(model, pictures(), targets=targets, method=by_hand)
    named = explain(model, pictures(), targets=targets, method="gradcam")
    np.testing.assert_array_equal(own.maps, named.maps)
    assert own.maps.max() > 0
    assert (own.method, own.description()["method"]) == ("by_hand", "by_hand")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_ours_keeps_its_name(name: str) -> None:
    """The function behind a name is that method, also where it masks."""
    assert find_method(METHODS[name]) == find_method(name) == (name, METHODS[name])
    if attends(METHODS[name]):
        return  # there are no tokens in that network
    own, named = (explain(small_model_again(), pictures(2), method=method) for method in (METHODS[name], name))
    assert own.method == named.method == name
    np.testing.assert_array_equal(own.maps, named.maps)


def small_model_again() -> keras.Model:
    keras.utils.set_random_seed(7)
    return small_model()


def test_a_method_that_masks_says_so_by_an_attribute() -> None:
    """It gets how much each channel raises the score: here the map is that of the best one."""
    model = small_model()
    explanation = explain(model, pictures(2), targets=[3], method=best_channel)
    conv, head = model.get_layer("conv"), model.get_layer("head")
    for n, image in enumerate(pictures(2)):
        channels = np.moveaxis(np.asarray(conv(image[None])[0]), -1, 0)
        units = [(channel - channel.min()) / (channel.max() - channel.min() or 1) for channel in channels]
        masked = np.stack([image * np.asarray(ops.image.resize(unit[..., None], (16, 16))) for unit in units])
        scores = np.asarray(conv(masked)).mean(axis=(1, 2)) @ head.kernel.numpy()[:, 3]
        np.testing.assert_allclose(explanation.maps[n, 0], channels[scores.argmax()], atol=1e-6)


def test_a_function_without_a_name_is_a_function() -> None:
    """A lambda is recorded as "function", an object by its class."""

    class Method:
        def __call__(self, activations: Any, gradients: Any, scores: Any) -> Any:
            return activations[..., 0]

    assert Explainer(small_model(), method=lambda a, g, y: a[..., 0]).method == "function"
    assert Explainer(small_model(), method=Method()).method == "Method"


def test_a_function_is_measured_like_a_method() -> None:
    """`evaluate` gives the numbers of the method of that formula."""
    model, probes = small_model(), ProbeSet(pictures(2), targets=[1])
    own, named = (evaluate(Explainer(model, method=method), probes, steps=2) for method in (by_hand, "gradcam"))
    np.testing.assert_array_equal(own.deletion_curves, named.deletion_curves)
    assert own.cascade == named.cascade
    assert own.summary().startswith("Faithfulness of by_hand at 'conv'")


@pytest.mark.parametrize("method", [lambda activations, gradients: activations, lambda a, g, y: a])
def test_a_wrong_function_ends_a_training_before_its_first_batch(
    method: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The signature and the shape of the maps are checked when the training begins; no weight has changed."""
    caplog.set_level(logging.ERROR)
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.raises(GradCAMError, match="The method 'function' "):
        model.fit(pictures(), np.arange(5) % 4, verbose=0, callbacks=[GradCAMCallback(pictures(), method=method)])
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_training_and_a_sweep_record_its_name(client: MlflowClient) -> None:
    """Live and post-hoc the maps are those of the function, and the manifest and the run have its name."""
    model, save = small_model(), keras.callbacks.ModelCheckpoint("ckpt/m-{epoch:02d}.keras")
    model.compile("sgd", "sparse_categorical_crossentropy")
    watch = GradCAMCallback(pictures(2), method=best_channel, journal_dir="live", verbose=False)
    with mlflow.start_run() as run:
        model.fit(pictures(), np.arange(5) % 4, epochs=1, verbose=0, callbacks=[watch, save])
    assert client.get_run(run.info.run_id).data.tags["gradcam.method"] == "best_channel"
    swept = explain_checkpoints("ckpt", pictures(2), method=best_channel, journal_dir="post", verbose=False)
    assert (swept.recorded, swept.problems) == ((0,), {})
    expected = explain(model, pictures(2), method=best_channel).maps
    for journal in ("live", "post"):
        assert json.loads(Path(journal, "manifest.json").read_text(encoding="utf-8"))["method"] == "best_channel"
        np.testing.assert_array_equal(Journal(journal).read(0).arrays["maps"], expected)
