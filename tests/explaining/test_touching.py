"""Where the pictures of a batch influence each other, each map is still of its picture's own score."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import gradient
from support.models import pictures, small_model

from gradcam_callbacks import METHODS, Explainer, GradCAMError, ProbeSet, evaluate
from gradcam_callbacks.explaining.methods import takes_gradients


class TwoParts(keras.Model):
    """A convolution, and a rest that lets the pictures of a batch influence each other."""

    def __init__(self, kind: str) -> None:
        super().__init__(name="touching")
        self.first = layers.Conv2D(6, 3, activation="relu", name="first")
        self.second = layers.Conv2D(6, 3, name="second")
        if kind == "batch normalisation":
            self.norm = layers.BatchNormalization(name="norm")
        self.head = layers.Dense(3, name="head")
        self.kind = kind

    def rest(self, a: Any) -> Any:
        x = self.second(a)
        if self.kind == "batch normalisation":
            x = self.norm(x, training=True)
        x = ops.relu(x)
        if self.kind == "contrast":
            x = x - 0.5 * ops.mean(x, axis=0, keepdims=True)
        if self.kind == "softmax over the batch":
            x = x * ops.softmax(ops.mean(x, axis=(1, 2), keepdims=True), axis=0)
        if self.kind == "the pictures before":
            x = ops.cumsum(x, axis=0)
        if self.kind == "the pictures after":
            x = ops.flip(ops.cumsum(ops.flip(x, axis=0), axis=0), axis=0)
        return self.head(ops.mean(x, (1, 2)))

    def call(self, x: Any) -> Any:
        return self.rest(self.first(x))


KINDS = ["batch normalisation", "contrast", "softmax over the batch", "the pictures before", "the pictures after"]


def touching(kind: str) -> TwoParts:
    model = TwoParts(kind)
    model(pictures(2))
    return model


def right(model: TwoParts, images: np.ndarray, of_scores: Any) -> np.ndarray:
    """(N, h, w) Grad-CAM by hand: one picture's score at a time, in the same batch."""
    activations = model.first(images)
    maps = []
    for n in range(len(images)):
        gradients = np.asarray(gradient(lambda a, n=n: of_scores(model.rest(a))[n], activations))[n]
        maps.append(np.maximum((gradients.mean((0, 1)) * np.asarray(activations)[n]).sum(-1), 0))
    return np.stack(maps)


def a_function(scores: Any) -> Any:
    return scores[:, 1] * 2.0 - ops.square(scores[:, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_each_map_is_of_its_own_score_in_the_same_batch(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not of the sum of all scores, which has the others' gradients in it; for classes, contrasts and functions."""
    model = touching(kind)
    before = [weight.copy() for weight in model.get_weights()]
    explainer = Explainer(model, layer="first")
    with caplog.at_level(logging.WARNING):
        explanation = explainer(ProbeSet(pictures(4), targets=[0, a_function, (2, 1)]))
        explainer(ProbeSet(pictures(4), targets=[0, a_function, (2, 1)]))
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    functions = (lambda y: y[:, 0], a_function, lambda y: y[:, 2] - y[:, 1])
    for k, of_scores in enumerate(functions):
        expected = right(model, pictures(4), of_scores)
        np.testing.assert_allclose(explanation.maps[:, k], expected, rtol=1e-4, atol=1e-6 * expected.max())
    said = [record.getMessage() for record in caplog.records if "influence each other" in record.getMessage()]
    assert len(said) == 1
    assert "a batch of up to 32 probes" in said[0]


def test_a_batch_is_the_probes_in_their_order() -> None:
    """Of `batch_size` probes each."""
    model = touching("batch normalisation")
    explanation = Explainer(model, layer="first", batch_size=3)(ProbeSet(pictures(5), targets=[0]))
    batches = [right(model, part, lambda y: y[:, 0]) for part in (pictures(5)[:3], pictures(5)[3:])]
    np.testing.assert_allclose(explanation.maps[:, 0], np.concatenate(batches), rtol=1e-4, atol=1e-8)


def test_it_is_seen_when_a_second_picture_comes() -> None:
    """One probe alone cannot tell."""
    model = touching("batch normalisation")
    explainer = Explainer(model, layer="first")
    assert not explainer.pictures_touch(pictures(1))
    explainer(pictures(1))
    assert explainer.pictures_touch(pictures(2))
    assert explainer.traces == 1


def test_it_is_seen_once_a_head_is_no_longer_zero() -> None:
    """A head that starts from zero, as in fine-tuning, hides it at first."""
    model = touching("batch normalisation")
    kernel = model.head.kernel.numpy()
    model.head.kernel.assign(np.zeros_like(kernel))
    explainer = Explainer(model, layer="first")
    assert (explainer(ProbeSet(pictures(4), targets=[0])).health == "zero-gradient").all()
    model.head.kernel.assign(kernel)
    explanation = explainer(ProbeSet(pictures(4), targets=[0]))
    np.testing.assert_allclose(
        explanation.maps[:, 0], right(model, pictures(4), lambda y: y[:, 0]), rtol=1e-4, atol=1e-8
    )


def test_what_touches_before_the_layer_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The gradients of what follows are each picture's own."""
    model = touching("batch normalisation")
    explainer = Explainer(model, layer="norm")
    assert not explainer.pictures_touch(pictures(4))
    assert not caplog.records


@pytest.mark.parametrize("method", sorted(name for name in METHODS if not takes_gradients(METHODS[name])))
@pytest.mark.parametrize("kind", KINDS)
def test_methods_that_run_the_network_again_refuse(kind: str, method: str) -> None:
    """They change all pictures of a batch at once, which says nothing of one picture in its batch."""
    with pytest.raises(GradCAMError, match=r"influence each other in model 'touching'.*method='gradcam'"):
        Explainer(touching(kind), layer="first", method=method)(pictures(4))


def test_faithfulness_is_not_measured() -> None:
    """The spoilt copies of a picture would influence each other, also where there is one probe alone."""
    with pytest.raises(GradCAMError, match="influence each other"):
        evaluate(Explainer(touching("batch normalisation"), layer="first"), ProbeSet(pictures(1), targets=[0]), steps=2)


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam"])
def test_ordinary_networks_are_known_without_a_run(method: str) -> None:
    """What stands between a convolution and a score there keeps pictures apart."""
    assert not Explainer(small_model(), method=method).prepare(pictures(2)).may_touch


@pytest.mark.usefixtures("long")
def test_apart_is_apart() -> None:
    """Where only a run tells, the pictures of networks whose operations look alike are found not to touch."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = layers.Reshape((196, 8))(layers.GroupNormalization(4)(x))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    model = keras.Model(inputs, layers.Dense(4)(layers.GRU(5)(x)))
    explainer = Explainer(model, layer="conv")
    assert explainer.prepare(pictures(3)).may_touch
    assert not explainer.pictures_touch(pictures(3))
