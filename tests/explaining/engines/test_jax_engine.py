"""Models on JAX are explained as those on TensorFlow are. Run with KERAS_BACKEND=jax."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

if keras.config.backend() != "jax":
    pytest.skip("needs KERAS_BACKEND=jax", allow_module_level=True)

import jax
from keras import layers, ops
from support.models import pictures

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet
from gradcam_callbacks.explaining import explainer

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES = [0, 2, 1]


class Counting(layers.Layer):
    """Counts its calls, draws noise and writes down the mean of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(5)
        self.calls = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)
        self.mean = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        self.calls.assign(self.calls + 1)
        self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x))
        return x + keras.random.normal((1, *x.shape[1:]), seed=self.seed_generator)


def model(*between: layers.Layer) -> keras.Model:
    """Conv, whatever is given, mean, dense."""
    network = [layers.Conv2D(5, 3, activation="relu", name="conv"), *between, layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((12, 16, 3)), *network, layers.Dense(3, activation="softmax", name="head")])


def by_hand(explained: keras.Model, images: Array) -> Array:
    """relu(sum_k w_k A_k) / (h w), the closed form of Grad-CAM for a mean and a dense layer."""
    activations = np.asarray(explained.get_layer("conv")(images))
    weights = np.asarray(explained.get_layer("head").kernel)[:, CLASSES] / np.prod(activations.shape[1:3])
    return np.maximum(np.einsum("nhwc,ck->nkhw", activations, weights), 0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_maps_are_those_of_the_closed_form(count: int) -> None:
    """For any number of pictures; one picture is traced otherwise, as nothing is broadcast then."""
    explained, images = model(), np.random.default_rng(0).random((count, 12, 16, 3), dtype=np.float32)
    explanation = Explainer(explained)(ProbeSet(images, targets=CLASSES))
    assert (explanation.layer, explanation.score_kind) == ("conv", "logit")
    expected = by_hand(explained, images)
    np.testing.assert_allclose(explanation.maps, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_weights_that_change_are_followed_without_another_trace() -> None:
    """One graph, compiled once, gives the maps of whatever weights the model has then."""
    explained, images = model(), pictures(3)[:, :12, :16]
    explain = Explainer(explained)
    probes = ProbeSet(images, targets=CLASSES)
    explain(probes)
    for weight in explained.weights:
        weight.assign(np.random.default_rng(1).normal(0, 1, weight.shape))
    expected = by_hand(explained, images)
    np.testing.assert_allclose(explain(probes).maps, expected, rtol=1e-4, atol=1e-6 * expected.max())
    assert explain.traces == 1


def compilations(caplog: pytest.LogCaptureFixture, work: Callable[[], Any]) -> list[str]:
    """The functions that XLA compiles while something is done."""
    caplog.clear()
    with jax.log_compiles():
        work()
    found = [re.match(r"Finished XLA compilation of (\S+) in", message) for message in caplog.messages]
    return [name[1] for name in found if name]


def test_a_probe_set_is_compiled_for_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, the last one not full, and targets that are split take one compilation, another epoch none."""
    explained, images = model(), np.random.default_rng(0).random((7, 12, 16, 3), dtype=np.float32)
    explain = Explainer(explained, batch_size=3)
    probes = ProbeSet(images, targets=[*CLASSES, "predicted", (0, 1)])
    monkeypatch.setattr(explainer, "_FLOATS_AT_ONCE", 3 * 3 * explain.prepare(probes).floats)
    maps = []
    assert compilations(caplog, lambda: maps.append(explain(probes).maps)).count("jit(_of_numbers)") == 1
    expected = by_hand(explained, images)
    np.testing.assert_allclose(maps[0][:, :3], expected, rtol=1e-4, atol=1e-6 * expected.max())
    for weight in explained.weights:
        weight.assign(0.5 * weight)
    assert compilations(caplog, lambda: explain(probes)) == []


def test_nothing_leaks_into_the_model() -> None:
    """Seeds, counters and moving means are as they were, and no attribute of a layer is another."""
    explained = model(Counting())
    before = [np.asarray(variable) for variable in explained.variables]
    attributes = [set(vars(layer)) for layer in explained.layers]
    Explainer(explained)(ProbeSet(pictures(2)[:, :12, :16], targets=CLASSES))
    for variable, value in zip(explained.variables, before, strict=True):
        assert isinstance(variable.value, jax.Array)
        np.testing.assert_array_equal(np.asarray(variable), value)
    assert [set(vars(layer)) for layer in explained.layers] == attributes


def test_the_noise_is_that_of_a_prediction_now_or_the_same_each_time() -> None:
    """As the state of its seed moves on, the maps do, unless the same noise is asked for."""
    noisy = model(Counting())
    probes = ProbeSet(pictures(2)[:, :12, :16], targets=CLASSES)
    free, fixed = Explainer(noisy), Explainer(noisy, same_noise=True)
    before = free(probes).scores, fixed(probes).scores
    np.testing.assert_array_equal(free(probes).scores, before[0])
    noisy(pictures(2)[:, :12, :16])
    assert (free(probes).scores != before[0]).all()
    np.testing.assert_array_equal(fixed(probes).scores, before[1])


def test_a_layer_inside_a_loop_is_refused() -> None:
    """Its output is one of many, so it cannot be explained; the message says so."""

    class Looping(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dense = layers.Conv2D(4, 3, name="inside"), layers.Dense(3)

        def call(self, images: Any) -> Any:
            return self.dense(jax.lax.map(lambda one: ops.mean(self.conv(one[None])[0], (0, 1)), images))

    looping = Looping()
    looping(pictures(2))
    with pytest.raises(GradCAMError, match="inside a loop"):
        Explainer(looping, layer="inside")(ProbeSet(pictures(2), targets=CLASSES))


def test_a_layer_under_jit_or_recomputed_is_explained() -> None:
    """What is called inside a function of JAX is seen there."""

    class Inside(keras.Model):
        def __init__(self, around: Any) -> None:
            super().__init__()
            self.conv, self.head, self.around = layers.Conv2D(5, 3, name="conv"), layers.Dense(3, name="head"), around

        def call(self, images: Any) -> Any:
            return self.head(self.around(lambda x: ops.mean(self.conv(x), (1, 2)))(images))

    for around in (jax.jit, jax.checkpoint):
        inside = Inside(around)
        inside(pictures(2))
        explanation = Explainer(inside)(ProbeSet(pictures(2), targets=CLASSES))
        assert explanation.layer == "conv"
        expected = by_hand(inside, pictures(2))
        np.testing.assert_allclose(explanation.maps, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_a_function_of_the_users_is_a_target() -> None:
    """d(z_0 ** 2)/dA is 2 z_0 times that of z_0."""
    explained, images = model(), pictures(2)[:, :12, :16]

    def squared(logits: Any) -> Any:
        return logits[:, 0] ** 2

    explanation = Explainer(explained)(ProbeSet(images, targets=[0, squared]))
    score = explanation.scores[:, 0]
    np.testing.assert_allclose(explanation.scores[:, 1], score**2, rtol=1e-5)
    of_class = explanation.maps[:, 0] * (2 * score)[:, None, None]
    positive = score > 0
    np.testing.assert_allclose(explanation.maps[positive, 1], of_class[positive], rtol=1e-4, atol=1e-7)


class Late(layers.Layer):
    """Makes its weights when it is first called, though the model counts as built."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(5, 3, name="conv")

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], 10, 14, 5)

    def call(self, x: Any) -> Any:
        return self.conv(x)


def test_weights_that_are_made_meanwhile_are_those_of_the_model() -> None:
    """They hold numbers afterwards, by which the maps are explained."""
    inputs = keras.Input((12, 16, 3))
    late = keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(Late()(inputs))))
    images = pictures(2)[:, :12]
    found = Explainer(late)(ProbeSet(images, targets=CLASSES))
    np.testing.assert_allclose(found.scores, np.asarray(late(images))[:, CLASSES], rtol=1e-4, atol=1e-6)


class EachBatch(keras.callbacks.Callback):  # type: ignore[misc]
    """Explains a model after each batch, and compares."""

    def __init__(self, explained: keras.Model, images: Array) -> None:
        super().__init__()
        self.explained, self.images, self.explain = explained, images, Explainer(explained)
        self.scores: list[Array] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        found = self.explain(ProbeSet(self.images, targets=CLASSES))
        expected = by_hand(self.explained, self.images)
        np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-6 * expected.max())
        self.scores.append(found.scores)


def test_a_model_is_explained_within_an_epoch_and_trained_all_the_same() -> None:
    """Keras has taken the weights then; the maps are of what they are, and the training is as without them."""
    images, labels = np.random.default_rng(0).random((24, 12, 16, 3), dtype=np.float32), np.arange(24) % 3
    weights = []
    for with_maps in (False, True):
        keras.utils.set_random_seed(1)
        trained = model(layers.Dropout(0.2))
        trained.compile("adam", "sparse_categorical_crossentropy")
        callback = EachBatch(trained, images[:2])
        trained.fit(images, labels, batch_size=8, epochs=2, verbose=0, callbacks=[callback] * with_maps)
        weights.append([np.asarray(variable) for variable in (*trained.variables, *trained.optimizer.variables)])
    assert len({scores.tobytes() for scores in callback.scores}) == 6
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_part_of_a_model_that_is_trained_is_refused_within_an_epoch() -> None:
    """Its weights are with the training of the whole, so that there is nothing to explain."""
    inner = model()
    whole = keras.Sequential([keras.Input((12, 16, 3)), inner])
    whole.compile("adam", "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).random((8, 12, 16, 3), dtype=np.float32)
    with pytest.raises(GradCAMError, match="another model that holds it is being trained"):
        whole.fit(images, np.arange(8) % 3, batch_size=4, verbose=0, callbacks=[EachBatch(inner, images[:2])])
