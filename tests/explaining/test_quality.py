"""How faithful a map is, is measured as the papers define it, and the model is left as it was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import pictures, small_model

from gradcam_callbacks import Explainer, Explanation, ProbeSet
from gradcam_callbacks.explaining.quality import (
    area,
    blurred,
    drop,
    evaluate,
    increase,
    randomised,
    uncovered,
)
from gradcam_callbacks.ranks import rank_correlation

SQUARE = (slice(2, 6), slice(3, 7))  # a quarter of 8 x 8 pixels


def square_model() -> keras.Model:
    """Its one logit is the mean brightness inside the square."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(1, 1, use_bias=False, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="head")(keras.layers.Flatten()(x)))
    weights = np.zeros((8, 8), np.float32)
    weights[SQUARE] = 1 / 16
    model.set_weights([np.ones((1, 1, 1, 1)), weights.reshape(64, 1)])
    return model


def square_picture(inside: float = 1.0, outside: float = 0.0) -> np.ndarray:
    picture = np.full((1, 8, 8, 1), outside, np.float32)
    picture[0][SQUARE] = inside
    return picture


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur by the definition, as a matrix for each axis; the border pixels are repeated outwards."""
    for axis in (0, 1):
        size, radius = image.shape[axis], int(4 * sigma + 0.5)
        matrix = np.zeros((size, size))
        for i in range(size):
            for offset in range(-radius, radius + 1):
                matrix[i, min(max(i + offset, 0), size - 1)] += np.exp(-(offset**2) / (2 * sigma**2))
        matrix /= matrix.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
    return image


class Network:
    """1x1 convolution, ReLU, global average pooling and softmax, in plain numpy."""

    def __init__(self) -> None:
        rng = np.random.default_rng(46)  # of this seed no map is empty
        self.kernel, self.bias = rng.normal(size=(3, 4)), rng.normal(size=4) * 0.1
        self.weights, self.offset = rng.normal(size=(4, 3)) * 3, rng.normal(size=3)

    def keras(self) -> keras.Model:
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 1, activation="relu", name="conv")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
        model.set_weights([self.kernel[None, None], self.bias, self.weights, self.offset])
        return model

    def activations(self, images: np.ndarray) -> np.ndarray:
        return np.maximum(images @ self.kernel + self.bias, 0)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        powers = np.exp(self.activations(images).mean(axis=(-3, -2)) @ self.weights + self.offset)
        return powers / powers.sum(axis=-1, keepdims=True)

    def heatmap(self, image: np.ndarray, target: int) -> np.ndarray:
        heat = np.maximum(self.activations(image) @ self.weights[:, target], 0)
        return heat / heat.max()


def test_drop_and_increase_are_those_of_a_network_in_numpy() -> None:
    """Drop is max(0, Y - O) / Y and increase O > Y, with O the probability of the picture times its heatmap."""
    network, images = Network(), pictures(size=8)
    targets = [0, 1]
    result = evaluate(Explainer(network.keras()), ProbeSet(images, targets=targets), steps=2, randomise=False)
    before = network.probabilities(images)[:, targets]
    masked = np.stack([[image * network.heatmap(image, c)[..., None] for c in targets] for image in images])
    after = np.stack([network.probabilities(masked[:, k])[:, c] for k, c in enumerate(targets)], axis=1)
    np.testing.assert_allclose(result.drop, np.maximum(0, before - after) / before, atol=1e-5)
    np.testing.assert_array_equal(result.increase, after > before)
    assert 0 < result.increase_rate < 1
    assert result.average_drop == pytest.approx(np.mean(np.maximum(0, before - after) / before), abs=1e-5)


def test_the_curves_are_those_of_a_network_in_numpy() -> None:
    """Each point of a curve is the probability of the picture whose hottest pixels are changed, in colour too."""
    network, images = Network(), pictures(count=2, size=8)
    result = evaluate(Explainer(network.keras()), ProbeSet(images, targets=[1]), steps=7, randomise=False)
    counts = np.rint(np.arange(8) * 64 / 7).astype(int)
    np.testing.assert_array_equal(result.shares, counts / 64)
    assert result.deletion_curves.shape == result.insertion_curves.shape == (2, 1, 8)
    for n, image in enumerate(images.astype(np.float64)):
        order = np.argsort(-network.heatmap(image, 1).ravel(), kind="stable")
        for t, count in enumerate(counts):
            deleted, inserted = image.copy().reshape(64, 3), gaussian(image, 0.05 * 8).reshape(64, 3)
            deleted[order[:count]] = image.mean(axis=(0, 1))
            inserted[order[:count]] = image.reshape(64, 3)[order[:count]]
            expected = network.probabilities(np.stack([deleted, inserted]).reshape(2, 8, 8, 3))[:, 1]
            found = [result.deletion_curves[n, 0, t], result.insertion_curves[n, 0, t]]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_predicted_class_is_that_of_the_whole_picture() -> None:
    """While the picture is spoilt and the weights are randomised, the class first predicted stays the target."""
    network, images = Network(), pictures(size=8)
    model = network.keras()
    classes = network.probabilities(images).argmax(axis=1)
    predicted = evaluate(Explainer(model), ProbeSet(images, targets=["predicted"]), steps=4)
    fixed = evaluate(Explainer(model), ProbeSet(images, labels=classes, targets=["label"]), steps=4)
    for name in ("drop", "deletion_curves", "insertion_curves"):
        np.testing.assert_array_equal(getattr(predicted, name), getattr(fixed, name))
    for path, values in fixed.correlations.items():
        np.testing.assert_array_equal(predicted.correlations[path], values)


def test_probes_with_classes_of_their_own_are_measured_in_their_order() -> None:
    """An (N, K) array of classes gives each probe what it would get if all probes had its class."""
    explainer, classes = Explainer(Network().keras()), np.array([2, 0, 1, 0, 2])
    mixed = evaluate(explainer, ProbeSet(pictures(size=8), targets=classes[:, None]), steps=3)
    every = evaluate(explainer, ProbeSet(pictures(size=8), targets=[0, 1, 2]), steps=3)
    np.testing.assert_allclose(mixed.drop[:, 0], every.drop[np.arange(5), classes], atol=1e-6)
    np.testing.assert_allclose(mixed.insertion[:, 0], every.insertion[np.arange(5), classes], atol=1e-6)
    for path, values in every.correlations.items():
        np.testing.assert_allclose(mixed.correlations[path][:, 0], values[np.arange(5), classes], atol=1e-6)


def test_a_map_of_the_square_has_the_areas_worked_out_by_hand() -> None:
    """The square bright, the rest black: deletion (1 + a)a/2 + (1 - a)a and insertion (b + 1)a/2 + (1 - a)."""
    result = evaluate(Explainer(square_model()), ProbeSet(square_picture(), targets=[1]), steps=8, randomise=False)
    a = 1 / 4  # the square's share of the picture, and the picture's mean
    b = gaussian(square_picture()[0], 0.05 * 8)[SQUARE].mean()
    assert result.mean_deletion == pytest.approx((1 + a) * a / 2 + (1 - a) * a, abs=1e-6)
    np.testing.assert_allclose(result.deletion_curves[0, 0, [0, 1, 2, 8]], [1, (1 + a) / 2, a, a], atol=1e-6)
    np.testing.assert_allclose(result.insertion_curves[0, 0, [0, 2, 8]], [b, 1, 1], atol=1e-6)
    assert (1 + b) * a / 2 + (1 - a) - 0.01 < result.mean_insertion <= (1 + 1) * a / 2 + (1 - a)
    assert result.average_drop == 0
    assert result.increase_rate == 0


class Inverted(Explainer):
    """Hottest where the method is coldest."""

    def __call__(self, probes: Any) -> Explanation:
        explanation = super().__call__(probes)
        return replace(explanation, maps=explanation.maps.max(axis=(2, 3), keepdims=True) - explanation.maps)


def test_a_bad_map_is_measured_as_worse_in_everything() -> None:
    """The map turned inside out loses all confidence when multiplied, deletes late and inserts late."""
    probes = ProbeSet(square_picture(), targets=[1])
    good, bad = (evaluate(kind(square_model()), probes, steps=8, randomise=False) for kind in (Explainer, Inverted))
    a = 1 / 4
    assert bad.average_drop == 1 > good.average_drop
    assert bad.mean_deletion == pytest.approx((1 - a) + (1 + a) * a / 2, abs=1e-6)
    assert bad.mean_deletion > good.mean_deletion
    assert bad.mean_insertion < good.mean_insertion


def test_taking_away_what_speaks_against_the_class_is_an_increase() -> None:
    """Red speaks for the class and blue against it: the heatmap keeps the red half, and the confidence rises."""
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 1, use_bias=False, name="conv")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="head")(x))
    model.set_weights([np.eye(3)[None, None], np.array([[2.0], [0.0], [-2.0]]), np.zeros(1)])
    image = np.zeros((1, 4, 4, 3), np.float32)
    image[:, :2, :, 0] = image[:, 2:, :, 2] = 1
    result = evaluate(Explainer(model), ProbeSet(image, targets=[1]), steps=1, randomise=False)
    np.testing.assert_allclose(result.deletion_curves[0, 0, 0], 0.5, atol=1e-6)
    assert result.increase.tolist() == [[1.0]]
    assert result.drop.tolist() == [[0.0]]


def test_scores_and_contrasts_that_are_not_positive_have_no_drop() -> None:
    """Where confidence is a score, its drop is NaN if it is not positive, and the mean leaves it out."""
    probes = ProbeSet(square_picture(), targets=[0, 1, (0, 1), (1, 0)])
    result = evaluate(Explainer(square_model()), probes, steps=1, randomise=False)
    np.testing.assert_allclose(result.deletion_curves[0, :, 0], [-1, 1, -2, 2], atol=1e-6)
    np.testing.assert_array_equal(np.isnan(result.drop), [[True, False, True, False]])
    assert result.average_drop == 0
    assert "2 of 4 maps" in result.summary()


def test_the_pictures_that_people_see_do_not_matter() -> None:
    """Heat is laid over what the model is fed, whatever the size of the pictures shown."""
    shown = np.random.default_rng(0).integers(0, 255, (5, 23, 31, 3), np.uint8)
    explainer = Explainer(small_model())
    plain = evaluate(explainer, ProbeSet(pictures()), steps=3)
    other = evaluate(explainer, ProbeSet(pictures(), pictures=shown), steps=3)
    np.testing.assert_array_equal(plain.insertion_curves, other.insertion_curves)
    np.testing.assert_array_equal(plain.drop, other.drop)
    np.testing.assert_equal(plain.cascade, other.cascade)  # also where one is NaN


def test_whole_numbers_are_fed_as_whole_numbers() -> None:
    """A model of uint8 pictures gets the spoilt ones rounded to uint8."""
    network = Network()
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(inputs, network.keras()(keras.layers.Rescaling(1 / 255)(inputs)))
    images = np.rint(pictures(count=3, size=8) * 255).astype(np.uint8)
    result = evaluate(Explainer(model), ProbeSet(images, targets=[1]), steps=1, randomise=False)
    means = images.mean(axis=(1, 2), keepdims=True)
    assert (np.rint(means) > means).any()
    empty = np.broadcast_to(np.rint(means), images.shape)
    expected = np.stack([network.probabilities(spoilt / 255)[:, 1] for spoilt in (images, empty)], axis=1)
    np.testing.assert_allclose(result.deletion_curves[:, 0], expected, atol=1e-5)


def test_drop_and_increase_of_numbers() -> None:
    """Known values; zero, negative and unknown confidences are NaN."""
    before, after = np.array([0.8, 0.5, 0.0, -1.0, np.nan]), np.array([0.2, 0.7, 0.1, -2.0, 0.5])
    np.testing.assert_allclose(drop(before, after), [0.75, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(increase(before, after), [0, 1, 1, 0, np.nan])


def test_equal_heat_is_uncovered_in_reading_order() -> None:
    """The hottest pixels change first, and of equal ones those that are read first."""
    heat = np.array([[0.5, 1.0], [0.5, 0.5]])
    steps = uncovered(np.zeros((2, 2, 1)), np.ones((2, 2, 1)), heat, np.arange(5))
    np.testing.assert_array_equal(steps[1, ..., 0], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(steps[2, ..., 0], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(steps[3, ..., 0], [[1, 1], [1, 0]])
    assert steps[[0, 4]].mean(axis=(1, 2, 3)).tolist() == [0, 1]


def test_area_is_that_of_trapezoids() -> None:
    """A line from 0 to 1 has the area 1/2, also in uneven steps; a corner is exact where a step ends on it."""
    shares = np.array([0, 0.25, 0.4, 1])
    np.testing.assert_allclose(area(np.stack([shares, 1 - shares, np.minimum(shares, 0.4)]), shares), [0.5, 0.5, 0.32])


def test_the_blur_is_a_gaussian_of_a_twentieth_of_the_shorter_side() -> None:
    """It is the Gaussian of the definition, colour by colour, and leaves an even picture even."""
    image = np.random.default_rng(1).random((40, 60, 3))
    np.testing.assert_allclose(blurred(image), gaussian(image, 2.0), atol=1e-5)
    np.testing.assert_allclose(blurred(np.full((40, 60, 3), 0.3)), 0.3, atol=1e-6)


def test_a_randomised_weight_keeps_its_elements_and_loses_their_order() -> None:
    """Elements change places; constant kernels are drawn anew, other constants stay."""
    rng = np.random.default_rng(0)
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    shuffled = randomised(kernel, rng)
    assert (shuffled != kernel).any()
    np.testing.assert_array_equal(np.sort(shuffled.ravel()), kernel.ravel())
    for _ in range(20):
        assert randomised(np.array([[1.0], [2.0]]), rng).ravel().tolist() == [2.0, 1.0]
    for constant in (np.zeros(5), np.ones(5), np.float32(3.0).reshape(()), np.zeros((2, 2), np.int8), np.zeros((0, 3))):
        np.testing.assert_array_equal(randomised(constant, rng), constant)
    for value, deviation in ((0.0, 0.1), (0.02, 0.02)):
        drawn = randomised(np.full((10, 10, 1000), value, np.float32), rng)
        assert drawn.dtype == np.float32
        assert drawn.std() == pytest.approx(deviation, rel=0.02)
        assert abs(drawn.mean()) < deviation / 50


def deep_model() -> keras.Model:
    """Two convolutions in a backbone, one used twice, with batch normalisation; of its seed no map is empty."""
    keras.utils.set_random_seed(7)
    inner = keras.Input((16, 16, 3))
    twice = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="twice")
    x = keras.layers.Conv2D(6, 3, activation="relu", name="first")(inner)
    x = keras.layers.BatchNormalization(name="norm")(twice(twice(x)))
    backbone = keras.Model(inner, x, name="backbone")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="head")(x), name="deep")


def test_the_cascade_randomises_from_the_last_layer_to_the_first() -> None:
    """Each layer with weights is a stage, shared ones are one, and in the end the maps are others."""
    explainer = Explainer(deep_model())
    result = evaluate(explainer, ProbeSet(pictures(), targets=[0, "predicted", (1, 2)]), steps=1)
    assert list(result.cascade) == ["head", "backbone/norm", "backbone/twice", "backbone/first"]
    assert all(values.shape == (5, 3) for values in result.correlations.values())
    known = [values[~np.isnan(values)] for values in result.correlations.values()]
    assert all(np.abs(values).max() <= 1 for values in known)
    assert result.sanity == pytest.approx(known[-1].mean())
    assert abs(result.sanity) < 0.5


def test_a_stage_is_the_cumulative_randomisation_of_the_layers_so_far() -> None:
    """Doing by hand what a stage says gives its correlations: the head first, then the convolution as well."""
    model = small_model()
    explainer, probes = Explainer(model), ProbeSet(pictures(), targets=[0, 3])
    result = evaluate(explainer, probes, steps=1, seed=4)
    original, rng = explainer(probes).maps, np.random.default_rng(4)
    for name in ("head", "conv"):
        layer = model.get_layer(name)
        layer.set_weights([randomised(weight, rng) for weight in layer.get_weights()])
        maps = explainer(probes).maps
        expected = [[rank_correlation(original[n, k].ravel(), maps[n, k].ravel()) for k in range(2)] for n in range(5)]
        np.testing.assert_array_equal(result.correlations[name], expected)


def test_a_map_that_no_weight_changes_is_found_out() -> None:
    """A map that is the picture itself, whatever the model learned, has a correlation of 1."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0, name="same")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="head")(x))
    model.set_weights([np.array([[3.0, 1.0]]), np.zeros(2)])
    probes = ProbeSet(pictures(channels=1), targets=[0])
    result = evaluate(Explainer(model, layer="same"), probes, steps=1)
    assert list(result.cascade) == ["head"]
    assert result.sanity == pytest.approx(1)


def test_a_seed_gives_the_same_result_twice_and_another_seed_another() -> None:
    """All randomness comes from the seed."""
    explainer, probes = Explainer(deep_model()), ProbeSet(pictures())
    first, again, other = (evaluate(explainer, probes, steps=1, seed=seed) for seed in (1, 1, 2))
    assert first.cascade == again.cascade
    assert first.cascade != other.cascade
    assert explainer.traces <= 2


def state(model: keras.Model) -> tuple[list[bytes], list[bytes], list[bool]]:
    """Weights and optimizer to the last bit, and what is trainable."""
    return (
        [weight.numpy().tobytes() for weight in model.weights],
        [variable.numpy().tobytes() for variable in model.optimizer.variables],
        [layer.trainable for layer in model._flatten_layers()],
    )


def test_the_model_is_left_as_it_was_found() -> None:
    """Weights, moving averages, optimizer and trainable flags are those from before, to the last bit."""
    model = deep_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pictures(), np.arange(5) % 4, verbose=0)
    model.get_layer("backbone").trainable = False
    before = state(model)
    result = evaluate(Explainer(model), pictures(), steps=2)
    assert state(model) == before
    assert result.sanity != pytest.approx(1)


class Fragile(keras.layers.Layer):
    """Fails as soon as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks: Callable[[], bool] = lambda: False

    def call(self, images: tf.Tensor) -> tf.Tensor:
        def check(batch: np.ndarray) -> np.ndarray:
            if self.breaks():
                raise RuntimeError("broken on purpose")
            return batch

        return tf.ensure_shape(tf.numpy_function(check, [images], images.dtype), images.shape)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


def test_the_model_is_left_as_it_was_found_after_an_error() -> None:
    """A layer that fails when half of the weights are randomised leaves none of them so."""
    fragile, base = Fragile(), small_model()
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, base(fragile(inputs)))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pictures(), np.arange(5) % 4, verbose=0)
    before = state(model)
    kernels = {name: base.get_layer(name).kernel.numpy() for name in ("head", "conv")}
    seen = []

    def breaks() -> bool:
        seen.append({name: (base.get_layer(name).kernel.numpy() != kernels[name]).any() for name in kernels})
        return bool(seen[-1]["conv"])

    fragile.breaks = breaks
    with pytest.raises(tf.errors.OpError, match="broken on purpose"):
        evaluate(Explainer(model), pictures(), steps=2)
    assert {"head": True, "conv": False} in seen
    assert seen[-1] == {"head": True, "conv": True}
    assert state(model) == before


@pytest.mark.parametrize("shape", [(2, 16, 3), (2, 4, 8, 8, 1)])
def test_signals_and_volumes_are_refused(shape: tuple[int, ...]) -> None:
    """What is not a picture has no meaning here, and the error says so."""
    with pytest.raises(ValueError, match=r"evaluate measures pictures \(N, H, W, C\) that are a model's only input"):
        evaluate(Explainer(small_model()), ProbeSet(np.zeros(shape, np.float32)))


def test_several_inputs_functions_and_no_steps_are_refused() -> None:
    """The error says what evaluate measures, and the model is not run."""
    explainer = Explainer(small_model())
    with pytest.raises(ValueError, match=r"got \(5, 16, 16, 3\) of several inputs"):
        evaluate(explainer, ProbeSet({"picture": pictures(), "age": np.zeros((5, 1), np.float32)}))
    with pytest.raises(ValueError, match="functions of the outputs have none"):
        evaluate(explainer, ProbeSet(pictures(), targets=[lambda outputs: outputs[:, 0]]))
    with pytest.raises(ValueError, match="A curve has at least 1 step, not 0"):
        evaluate(explainer, pictures(), steps=0)


def test_the_summary_has_the_five_numbers() -> None:
    """A table for people and one line for the console; what was not measured is said."""
    explainer = Explainer(small_model())
    result = evaluate(explainer, ProbeSet(pictures(), targets=[0, 1]), steps=2)
    lines = result.summary().splitlines()
    assert lines[0] == "Faithfulness of gradcam at 'conv', 5 pictures x 2 targets"
    numbers = [result.average_drop, result.increase_rate, result.mean_deletion, result.mean_insertion, result.sanity]
    assert [float(line[26:34]) for line in lines[1:]] == pytest.approx(numbers, abs=5e-4)
    assert all(f"{number:.3f}" in repr(result) for number in numbers)
    without = evaluate(explainer, pictures(), steps=2, randomise=False)
    assert without.correlations == {}
    assert np.isnan(without.sanity)
    assert without.summary().splitlines()[-1].endswith("nan      0 of 5 maps   not measured")
