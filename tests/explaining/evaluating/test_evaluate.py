"""How faithful a map is, is measured as the papers define it, and the model is left as it was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from support.engines import IS_TENSORFLOW, by_numpy
from support.models import counting_model, pictures, small_model

from gradcam_callbacks import Comparison, Explainer, Explanation, ProbeSet, evaluate
from gradcam_callbacks.explaining.evaluating.bootstrap import interval
from gradcam_callbacks.explaining.evaluating.randomising import randomised
from gradcam_callbacks.explaining.evaluating.spoiling import blurred, uncovered
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


@pytest.mark.usefixtures("long")
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


def test_equal_heat_is_uncovered_in_reading_order() -> None:
    """The hottest pixels change first, and of equal ones those that are read first."""
    heat = np.array([[0.5, 1.0], [0.5, 0.5]])
    steps = uncovered(np.zeros((2, 2, 1)), np.ones((2, 2, 1)), heat, np.arange(5))
    np.testing.assert_array_equal(steps[1, ..., 0], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(steps[2, ..., 0], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(steps[3, ..., 0], [[1, 1], [1, 0]])
    assert steps[[0, 4]].mean(axis=(1, 2, 3)).tolist() == [0, 1]


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


@pytest.mark.usefixtures("long")
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


@pytest.mark.usefixtures("long")
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

    def call(self, images: Any) -> Any:
        def check(batch: np.ndarray) -> np.ndarray:
            if self.breaks():
                raise RuntimeError("broken on purpose")
            return batch

        return by_numpy(check, images)

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
    with pytest.raises(Exception, match="broken on purpose"):
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


def test_explainers_that_are_none_are_refused() -> None:
    """An empty list, something else, a model in a list, explainers of two models, and a word that is none."""
    explainer = Explainer(small_model())
    with pytest.raises(ValueError, match=r"Expected an Explainer, or a list of them; got \[\]"):
        evaluate([], pictures())
    with pytest.raises(ValueError, match="Expected an Explainer, or a list of them; got 'gradcam'"):
        evaluate("gradcam", pictures())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="not the model 'small' itself"):
        evaluate([explainer, small_model()], pictures())  # type: ignore[list-item]
    with pytest.raises(ValueError, match="of several models"):
        evaluate([explainer, Explainer(small_model())], pictures())
    with pytest.raises(ValueError, match="not 'all'"):
        evaluate(explainer, pictures(), randomise="all")  # type: ignore[call-overload]


# ---- The measures of a network whose numbers are known ----


def square_of(kind: type[Explainer] = Explainer, **settings: Any) -> dict[str, float]:
    probes = ProbeSet(square_picture(), targets=[1], regions=[(2, 3, 6, 7)])
    result = evaluate(kind(square_model()), probes, steps=1, randomise=False, **settings)
    return {name: float(values[0, 0]) for name, values in result.values.items()}


def test_a_map_of_the_square_has_the_measures_worked_out_by_hand() -> None:
    """16 of 64 pixels are hot and decide: each measure that is defined has its best value, or one that is known."""
    found = square_of()
    assert found["infidelity"] == pytest.approx(0, abs=1e-6)  # covering a pixel takes its heat's worth, and no other
    assert found["adcc"] == pytest.approx(3 / (1 + 1 / (1 - 0.25) + 1))  # coherency 1, complexity 1/4, drop 0
    assert found["rank_accuracy"] == found["focus"] == 1
    assert found["entropy"] == pytest.approx(np.log(16) / np.log(64))
    assert found["gini"] == pytest.approx(0.75)
    # The map is the picture: noise of 0.02 at most on 64 pixels moves it by 0.02 * 8, of a length of 4.
    assert 0.01 < found["sensitivity"] <= 0.04
    assert np.isnan([found[name] for name in ("gain", "random_logit", "randomised", "rise")]).all()


@pytest.mark.usefixtures("long")
def test_road_takes_the_hottest_away_and_then_the_coldest() -> None:
    """Of 64 pixels 13, 26, 38 and 51 go. The coldest are not in the square until 51 of them are."""
    picture, road = square_picture()[0, ..., 0], square_of()["road"]
    # The weights are 0 outside of the square, so that only what is filled in there counts; by the equations of the
    # neighbours, each pixel by the mean of the 8 around it, until nothing moves.
    order = np.argsort(-picture, axis=None, kind="stable"), np.argsort(picture, axis=None, kind="stable")
    curves = []
    for places in order:
        curve = []
        for count in (13, 26, 38, 51):
            removed = np.zeros(64, bool)
            removed[places[:count]] = True
            filled = relaxed(picture, removed.reshape(8, 8))
            curve.append(filled[SQUARE].mean())
        curves.append(np.array(curve))
    assert road == pytest.approx((curves[1] - curves[0]).mean(), abs=0.01)  # the noise is 0.01 of the deviation
    np.testing.assert_allclose(curves[1][:3], 1)
    assert road > 0.5
    assert square_of(Inverted)["road"] < -0.4


def relaxed(picture: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """The picture with each removed pixel at the weighted mean of its neighbours, by repeating that."""
    filled = np.where(removed, 0.5, picture)
    for _ in range(2000):
        total, weights = np.zeros((8, 8)), np.zeros((8, 8))
        padded, there = np.pad(filled, 1), np.pad(np.ones((8, 8)), 1)
        for down in range(3):
            for right in range(3):
                weight = {0: 0, 1: 1 / 6, 2: 1 / 12}[(down != 1) + (right != 1)]
                total += weight * padded[down : down + 8, right : right + 8]
                weights += weight * there[down : down + 8, right : right + 8]
        filled = np.where(removed, total / weights, picture)
    return filled


def test_a_bad_map_is_worse_in_the_new_measures_too() -> None:
    """The map turned inside out."""
    good, bad = square_of(), square_of(Inverted)
    assert bad["infidelity"] == 1
    assert bad["adcc"] == 0  # all confidence is lost
    assert bad["rank_accuracy"] == bad["focus"] == 0
    assert bad["road"] < 0 < good["road"]


# ---- Controls ----


@pytest.mark.usefixtures("long")
def test_maps_that_know_nothing_stand_beside_each_method() -> None:
    """By all measures, with curves of their own; not one that needs weights where none were to be shuffled."""
    probes = ProbeSet(pictures(), targets=[0, 1])
    result = evaluate(Explainer(small_model()), probes, steps=3)
    assert list(result.controls) == ["random weights", "random map", "centred Gaussian", "edges"]
    for control in result.controls.values():
        assert control.deletion_curves.shape == result.deletion_curves.shape
        assert list(control.values) == list(result.values)
        for name in ("road", "insertion", "deletion", "drop", "adcc", "infidelity", "random_logit"):
            assert np.isfinite(control.values[name]).any(), name
    for name in ("random map", "centred Gaussian", "edges"):
        assert (result.controls[name].values["random_logit"] == 1).all()  # the same for every class
        assert (result.controls[name].values["randomised"] == 1).all()  # and for every weight
    gaussian = result.controls["centred Gaussian"].values
    assert (gaussian["sensitivity"] == 0).all()
    without = evaluate(Explainer(small_model()), probes, steps=1, randomise=False)
    assert list(without.controls) == ["random map", "centred Gaussian", "edges"]


def test_the_ends_of_all_curves_are_the_same() -> None:
    """They are the picture, the blurred one, and the one without colours: whatever the map."""
    result = evaluate(Explainer(small_model()), ProbeSet(pictures(), targets=[0, 1]), steps=3)
    for control in result.controls.values():
        np.testing.assert_array_equal(control.deletion_curves[..., [0, -1]], result.deletion_curves[..., [0, -1]])
        np.testing.assert_array_equal(control.insertion_curves[..., [0, -1]], result.insertion_curves[..., [0, -1]])


def test_the_control_with_random_weights_is_the_method_under_them() -> None:
    """Its maps are those of the shuffled model; the confidences are those of the model as it is."""
    model = small_model()
    explainer, probes = Explainer(model), ProbeSet(pictures(), targets=[0, 3])
    control = evaluate(explainer, probes, steps=3, seed=4).controls["random weights"]
    before, rng = model.get_weights(), np.random.default_rng(4)
    for name in ("head", "conv"):
        layer = model.get_layer(name)
        layer.set_weights([randomised(weight, rng) for weight in layer.get_weights()])
    heat = explainer(probes).heatmaps()
    model.set_weights(before)
    for n, image in enumerate(pictures()):
        for k, target in enumerate((0, 3)):
            masked = np.asarray(model(image[None] * heat[n, k][..., None]))[0, target]
            whole = np.asarray(model(image[None]))[0, target]
            expected = max(0, whole - masked) / whole
            assert control.values["drop"][n, k] == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("long")
def test_all_weights_at_once_are_the_last_stage_of_the_cascade() -> None:
    """`randomise="whole"` costs one explanation and gives what the whole cascade comes to."""
    explainer, probes = Explainer(deep_model()), ProbeSet(pictures(), targets=[0, 1])
    cascade, whole = (evaluate(explainer, probes, steps=2, randomise=how) for how in (True, "whole"))
    assert list(whole.correlations) == list(cascade.correlations)[-1:]
    assert whole.sanity == cascade.sanity
    for name, values in cascade.values.items():
        np.testing.assert_array_equal(whole.values[name], values)
    for name, values in cascade.controls["random weights"].values.items():
        np.testing.assert_array_equal(whole.controls["random weights"].values[name], values)


@pytest.mark.usefixtures("long")
def test_a_model_that_does_not_look_is_said_to() -> None:
    """A constant network may score an increase of 1; so do maps that know nothing, and one sentence says why."""
    model = small_model()
    model.get_layer("head").kernel.assign(1e-4 * model.get_layer("head").kernel)
    result = evaluate(Explainer(model), ProbeSet(pictures(8), targets=["predicted"]), steps=3)
    (sentence,) = result.sentences
    assert sentence.startswith("Whatever is done to the pictures, the confidence changes by 0.0 % of itself at most")
    assert sentence in result.summary()
    assert evaluate([Explainer(model)] * 2, pictures(8), steps=1).recommendation is None


class Blind(Explainer):
    """Gives the same map of every picture: hot in the last row."""

    def __call__(self, probes: Any) -> Explanation:
        explanation = super().__call__(probes)
        maps = np.zeros_like(explanation.maps)
        maps[..., -1, :] = 1
        return replace(explanation, maps=maps, health=np.full_like(explanation.health, "ok"))


def squares_of(count: int) -> ProbeSet:
    """Pictures on which the square is more or less bright, and the rest is noise that says nothing."""
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 0.2, (count, 8, 8, 1)).astype(np.float32)
    images[(slice(None), *SQUARE)] += rng.uniform(0.6, 1, (count, 1, 1, 1)).astype(np.float32)
    return ProbeSet(images, targets=[1])


def test_a_method_that_does_not_beat_a_control_is_told_so() -> None:
    """A map of the last row loses against a Gaussian in the middle, where the square is; a good one against none."""
    bad = evaluate(Blind(square_model()), squares_of(6), steps=4, randomise="whole")
    own, other = bad.values["road"].mean(), bad.controls["centred Gaussian"].values["road"].mean()
    assert own < other
    (said,) = [sentence for sentence in bad.sentences if "does not beat" in sentence]
    assert said.startswith(f"gradcam, with a ROAD of {own:.3f}, does not beat itself with random weights ({own:.3f})")
    assert f"a centred Gaussian ({other:.3f})" in said
    assert said in bad.summary()
    good = evaluate(Explainer(square_model()), squares_of(6), steps=4, randomise=False)
    assert good.sentences == ()


def test_few_pictures_tell_nothing_from_chance() -> None:
    """Of five pictures that agree, chance is 2 in 32."""
    few = evaluate(Explainer(square_model()), squares_of(5), steps=2, randomise=False)
    assert few.sentences == ("5 pictures cannot tell a difference from chance; that takes 6.",)


# ---- Several methods ----


@pytest.mark.usefixtures("long")
def test_several_methods_are_measured_as_one_by_one() -> None:
    """What is shared does not change a number."""
    model, probes = deep_model(), ProbeSet(pictures(3), targets=[0, 1])
    explainers = [Explainer(model, method=method) for method in ("gradcam", "layercam")]
    both = evaluate(explainers, probes, steps=3)
    assert isinstance(both, Comparison)
    assert [each.name for each in both] == ["gradcam", "layercam"]
    for explainer in explainers:
        alone, beside = evaluate(explainer, probes, steps=3), both[explainer.method]
        for name, values in alone.values.items():
            np.testing.assert_allclose(beside.values[name], values, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(beside.insertion_curves, alone.insertion_curves, atol=1e-6)
        assert beside.cascade == pytest.approx(alone.cascade, nan_ok=True)
    with pytest.raises(ValueError, match=r"No 'scorecam' was measured\. There are: gradcam, layercam\."):
        both["scorecam"]


@pytest.mark.usefixtures("long")
def test_no_changed_picture_goes_through_twice() -> None:
    """Three methods with the same maps cost their explanations and nothing more; two targets share the controls."""
    model, counting = counting_model()
    probes = ProbeSet(pictures(2), targets=[1])

    def pictures_through(methods: tuple[str, ...]) -> tuple[int, int]:
        explainers = [Explainer(model, method=method) for method in methods]
        evaluate(explainers, probes, steps=4, randomise="whole")  # traces, and learns what it must
        counting.passes.clear()
        found = evaluate(explainers, probes, steps=4, randomise="whole")
        return sum(counting.passes), found.evaluations[0].passes

    alone, changed = pictures_through(("gradcam",))
    # Of the two pictures: themselves, masked, under 10 draws of noise; with random weights, and masked then.
    explained = 2 * (1 + 1 + 10 + 1 + 1)
    filled = 0 if IS_TENSORFLOW else 2  # JAX takes the last batch of the masked ones as large as those before
    assert alone in range(changed + explained, changed + explained + filled + 1)
    three, changed_by_three = pictures_through(("gradcam", "hirescam", "xgradcam"))
    assert changed_by_three <= changed + 2 * (2 * 4 + 8 + 1)  # rounding may move a pixel of one of them
    assert three - (changed_by_three + 3 * explained) in range(3 * filled + 1)
    # A picture: its whole self, the ends of the curves, 64 squares; 5 maps with 3 + 3 on the way, 4 + 4, and 1 masked.
    assert changed <= 2 * (3 + 64 + 5 * (2 * 3 + 8 + 1))


def test_a_second_target_costs_no_control() -> None:
    """Maps that know nothing are the same for all targets of a picture."""
    model = small_model()
    one = evaluate(Explainer(model), ProbeSet(pictures(2), targets=[1]), steps=4, randomise=False).passes
    two = evaluate(Explainer(model), ProbeSet(pictures(2), targets=[1, 2]), steps=4, randomise=False).passes
    assert two - one <= 2 * (2 * 3 + 8 + 1)


@pytest.mark.usefixtures("long")
def test_the_better_method_is_recommended_with_its_figures() -> None:
    """The square's map against one of the last row, on eight pictures; its twin is named."""
    model = square_model()
    explainers = [Blind(model), Explainer(model, method="gradcam"), Explainer(model, method="xgradcam")]
    found = evaluate(explainers, squares_of(8), steps=4, randomise=False)
    names = ["gradcam at conv (1)", "gradcam at conv (2)", "xgradcam"]
    assert [each.name for each in found] == names
    roads = [float(each.values["road"].mean()) for each in found]
    assert roads[1] == pytest.approx(roads[2], abs=1e-3)
    assert roads[1] > roads[0]
    low, high = interval((found[names[1]].values["road"] - found[names[0]].values["road"])[:, 0])
    said = found.recommendation
    assert said is not None
    best, twin = (names[1], names[2]) if roads[1] >= roads[2] else (names[2], names[1])
    assert said.startswith(f"Choose {best} ({twin} gives the same maps): its ROAD is {max(roads):.3f}, ")
    interval_said = f"(95 % interval {low:.3f} to {high:.3f}, 8 pictures)"
    assert f"{max(roads) - roads[0]:.3f} more than that of {names[0]}, the next best {interval_said}, and " in said
    assert said.endswith("of the best control, centred Gaussian.")
    assert found.summary().endswith(found.recommendation)
    few = evaluate(explainers[:2], squares_of(5), steps=4, randomise=False)
    assert few.recommendation is None


@pytest.mark.usefixtures("long")
def test_methods_that_the_pictures_do_not_tell_apart_are_not_ranked() -> None:
    """Twins have nothing between them, and on noise the difference lies within its interval."""
    model = small_model()
    probes = ProbeSet(pictures(8), targets=["predicted"])
    explainers = [Explainer(model, method=method) for method in ("gradcam", "gradcam++")]
    assert evaluate(explainers, probes, steps=2, randomise=False).recommendation is None
    twins = [Explainer(square_model(), method="gradcam")] * 2
    assert evaluate(twins, squares_of(8), steps=2, randomise=False).recommendation is None


def test_progress_is_told_up_to_the_end() -> None:
    """It never falls, and ends with all that there was."""
    told: list[tuple[int, int]] = []
    explainers = [Explainer(small_model(), method="gradcam")]
    evaluate(explainers, pictures(2), steps=1, on_progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1]


# ---- What people see ----


def test_the_tables_have_methods_and_controls() -> None:
    """Each mean stands where it should; what is no better than a control is marked, and what is unknown is a dash."""
    result = evaluate(Explainer(small_model()), ProbeSet(pictures(), targets=[0, 1]), steps=2)
    lines = result.summary().splitlines()
    assert lines[0] == "Faithfulness of gradcam at 'conv', 5 pictures x 2 targets"
    (heads, rows), (more_heads, more_rows), (last_heads, _) = Comparison((result,)).tables()
    assert heads == ["ROAD ↑", "insertion ↑", "deletion ↓", "infidelity ↓", "drop ↓", "increase ↑", "gain ↑"]
    assert more_heads == [
        "ADCC ↑",
        "sensitivity ↓",
        "other class ↓",
        "random weights →0",
        "rise ↑",
    ]
    assert last_heads == ["entropy", "Gini"]
    names = ["gradcam", "  random weights", "random map", "centred Gaussian", "edges"]
    assert [row[0] for row in rows] == [row[0] for row in more_rows] == names
    own = [float(cell.rstrip("*")) for cell in rows[0][1:]]
    numbers = [result.values[name].mean() for name in ("road", "insertion", "deletion")]
    assert own[:3] == pytest.approx(numbers, abs=5e-4)
    assert own[4:6] == pytest.approx([result.average_drop, result.increase_rate], abs=5e-4)
    for column, name in enumerate(("road", "insertion"), 1):
        best = max(control.values[name].mean() for control in result.controls.values())
        assert rows[0][column].endswith("*") == (result.values[name].mean() <= best + 1e-6)
    assert more_rows[1][2] == "–"  # the sensitivity with random weights is not measured
    for number in (result.average_drop, result.increase_rate, result.mean_deletion, result.mean_insertion):
        assert f"{number:.3f}" in repr(result)


def test_what_was_not_measured_is_said() -> None:
    """Without shuffled weights there is no column of them, and a line says so."""
    without = evaluate(Explainer(small_model()), pictures(), steps=2, randomise=False)
    assert without.correlations == {}
    assert np.isnan(without.sanity)
    assert "Random weights: not measured." in without.summary().splitlines()
    assert "random weights →0" not in without.summary()


def test_the_description_is_json_with_intervals() -> None:
    """Mean, interval and number of maps of each measure, of each method and control; what is unknown is null."""
    probes = ProbeSet(pictures(), targets=[0])
    explainers = [Explainer(model := small_model()), Explainer(model, method="layercam")]
    result = evaluate(explainers, probes, steps=2)
    told = json.loads(json.dumps(result.description(), allow_nan=False))
    assert list(told["methods"]) == list(told["random_weights"]) == ["gradcam", "layercam"]
    assert list(told["controls"]) == ["random map", "centred Gaussian", "edges"]
    for name, values in result["layercam"].values.items():
        entry = told["methods"]["layercam"][name]
        if np.isfinite(values).all():
            assert entry["mean"] == pytest.approx(values.mean())
            assert entry["low"] <= entry["mean"] <= entry["high"]
            assert entry["maps"] == 5
    assert told["methods"]["gradcam"]["focus"] == {"mean": None, "low": None, "high": None, "maps": 0}
    assert told["passes"] == result.evaluations[0].passes
    assert told["recommendation"] is None


@pytest.mark.usefixtures("long")
def test_the_plot_has_a_line_a_method_and_the_controls_grey() -> None:
    """The mean curves, with their areas in the legend; of several methods one line for random weights."""
    model, probes = small_model(), ProbeSet(pictures(), targets=[0, 1])
    result = evaluate([Explainer(model), Explainer(model, method="layercam")], probes, steps=3, randomise="whole")
    for ax, curves, quality in zip(
        result.plot().axes, ("insertion_curves", "deletion_curves"), ("insertion", "deletion"), strict=True
    ):
        lines = {line.get_label().partition("  ")[2]: line for line in ax.get_lines()}
        assert list(lines) == ["gradcam", "layercam", "random weights", "random map", "centred Gaussian", "edges"]
        for each in result:
            np.testing.assert_allclose(lines[each.name].get_ydata(), getattr(each, curves).mean(axis=(0, 1)), rtol=1e-5)
            label = lines[each.name].get_label()
            assert float(label.split()[0]) == pytest.approx(each.values[quality].mean(), abs=5e-4)
        colours = {name: line.get_color() for name, line in lines.items()}
        assert len({colours[name] for name in list(lines)[2:]}) == 1
        assert len(set(colours.values())) == 3
        own = [getattr(each.controls["random weights"], curves).mean(axis=(0, 1)) for each in result]
        np.testing.assert_allclose(lines["random weights"].get_ydata(), np.mean(own, axis=0), rtol=1e-5)
    alone = result["gradcam"].plot()
    assert len(alone.axes[0].get_lines()) == 5
