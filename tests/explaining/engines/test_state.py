"""Explaining leaves every variable of a model as it was."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from support.engines import by_numpy, needs_tensorflow
from support.models import pictures, small_model
from support.stateful_models import CHANGED, changeable, model_with

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet, evaluate
from gradcam_callbacks.explaining.keras_internals import seed_states

PROBES = ProbeSet(pictures(3), targets=[1, "predicted"])


def all_of(model: keras.Model) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(value)) for value in (*changeable(model), *seed_states(model))]


@pytest.mark.parametrize("name", CHANGED)
def test_no_variable_is_changed(name: str) -> None:
    """By preparing, explaining, listing the layers or measuring; and the same question has the same answer."""
    model = CHANGED[name]()
    model(pictures(8))  # so that the state is not the first one
    before = all_of(model)
    explainer = Explainer(model)
    explainer.prepare(PROBES)
    first, second = explainer(PROBES), explainer(PROBES)
    explainer.layers()
    explainer.confidences(pictures(3), PROBES.target_matrix)
    for one, two in zip(before, all_of(model), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(first.maps, second.maps)
    np.testing.assert_array_equal(first.scores, second.scores)
    model(pictures(8))
    assert any((one != two).any() for one, two in zip(before, all_of(model), strict=True)), "a prediction changes it"


def test_no_variable_is_changed_where_a_run_fails() -> None:
    """What the run had already changed is put back."""
    model = CHANGED["a counter"]()

    def fails(scores: Any) -> Any:
        def fail(values: Any) -> Any:
            raise RuntimeError("on purpose")

        return by_numpy(fail, scores[:, 0]) + 0.0 * scores[:, 0]

    before = all_of(model)
    with pytest.raises(Exception, match="on purpose"):
        Explainer(model)(ProbeSet(pictures(2), targets=[fails]))
    for one, two in zip(before, all_of(model), strict=True):
        np.testing.assert_array_equal(one, two)


@needs_tensorflow
@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_a_model_that_no_prediction_changes_costs_nothing(method: str) -> None:
    """Nothing is read and nothing is written."""
    graph = Explainer(small_model(), method=method).prepare(PROBES)._graph
    assert graph.written == []


@needs_tensorflow
def test_only_what_is_written_is_put_back() -> None:
    """Of five variables in the graph these are the two of a counter and a seed."""
    import tensorflow as tf

    from gradcam_callbacks.explaining.engines.tensorflow_state import state_kept

    kernel, bias = tf.Variable(tf.ones(3)), tf.Variable(0.0)
    counter, seed = tf.Variable(0), tf.Variable([1, 2])
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [3.0]), 0.0)

    def graph(x: Any) -> Any:
        counter.assign_add(1)
        y = tf.map_fn(lambda row: row * kernel + bias, x)
        seed.assign(tf.cond(tf.reduce_sum(y) > 0, lambda: seed * 2, lambda: seed))
        return y + table.lookup(tf.constant(1))

    kept = state_kept(graph, np.ones((2, 3), np.float32))
    assert {id(handle) for handle, _ in kept.written} == {id(counter.handle), id(seed.handle)}
    kept(tf.ones((2, 3)))
    assert (int(counter), list(seed.numpy())) == (0, [1, 2])


def test_random_numbers_are_those_of_a_prediction_now() -> None:
    """The score is the logit of the noise that `model(x)` would draw next."""
    model = CHANGED["dropout that is always on"]()
    model(pictures(3))
    seed = model.layers[2].seed_generator.state
    before = np.asarray(seed)
    explanation = Explainer(model)(PROBES)
    np.testing.assert_array_equal(np.asarray(seed), before)
    probabilities = np.asarray(model(pictures(3)))
    np.testing.assert_allclose(explanation.probabilities[:, 0], probabilities[:, 1], rtol=1e-5)


def test_random_numbers_can_be_the_same_each_time() -> None:
    """With `same_noise` two explanations are the same whatever was drawn between them, without they are not."""
    model = model_with(CHANGED["sampling"]().layers[2])
    fixed, free = Explainer(model, same_noise=True), Explainer(model)
    before = fixed(PROBES).maps, free(PROBES).maps
    model(pictures(3))
    np.testing.assert_array_equal(fixed(PROBES).maps, before[0])
    assert (free(PROBES).maps != before[1]).any()


def test_tracing_draws_no_numbers() -> None:
    """What the code of a model draws while it is traced, its training draws again."""

    class Drawing(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * (1 + random.random() + np.random.random())  # noqa: NPY002

    model = model_with(Drawing())
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    Explainer(model)(PROBES)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


@pytest.mark.parametrize("name", ["sampling", "a counter"])
def test_each_masked_picture_is_seen_in_the_same_state(name: str) -> None:
    """Score-CAM compares predictions that begin with the same noise and the same count."""
    model = CHANGED[name]()
    model(pictures(3))
    state = model.layers[2].seed_generator.state if name == "sampling" else model.layers[2].calls
    before = np.asarray(state)
    explainer = Explainer(model, method="scorecam", layer="conv", batch_size=7)
    explanation = explainer(ProbeSet(pictures(1), targets=[1]))
    conv, image = model.layers[1], pictures(1)[0]
    activations = np.asarray(conv(image[None])[0])
    masked = []
    for channel in np.moveaxis(activations, -1, 0):
        unit = (channel - channel.min()) / (channel.max() - channel.min() or 1)
        masked.append(image * np.asarray(ops.image.resize(unit[..., None], (16, 16))))
    kernel, bias = model.layers[-1].get_weights()
    state.assign(before)
    pooled = np.asarray(keras.Model(model.input, model.layers[-1].input)(np.stack([*masked, image * 0])))
    scores = (pooled @ kernel + bias)[:, 1]
    increases = scores[:-1] - scores[-1]
    weights = np.exp(increases - increases.max())
    weights = weights / weights.sum()
    expected = np.maximum((activations * weights).sum(-1), 0)
    np.testing.assert_allclose(explanation.maps[0, 0], expected, rtol=1e-4, atol=1e-6)


def test_faithfulness_leaves_the_state() -> None:
    """`evaluate` runs a model hundreds of times."""
    model = CHANGED["dropout that is always on"]()
    before = all_of(model)
    evaluate(Explainer(model), ProbeSet(pictures(1), targets=[1]), steps=2)
    for one, two in zip(before, all_of(model), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_method_that_fails_leaves_the_state() -> None:
    """Also of a function of the user's, which is run once to check it."""
    model = CHANGED["a counter"]()
    before = all_of(model)

    def negative(activations: Any, gradients: Any, scores: Any) -> Any:
        return ops.mean(activations, axis=-1) - 100

    with pytest.raises(GradCAMError, match="negative"):
        Explainer(model, method=negative)(PROBES)
    for one, two in zip(before, all_of(model), strict=True):
        np.testing.assert_array_equal(one, two)
