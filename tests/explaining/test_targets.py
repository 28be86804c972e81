"""What can be asked of a model, and how many forward passes the answers cost."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from support.engines import IS_TENSORFLOW
from support.models import counting_model, pictures, small_model

from gradcam_callbacks import METHODS, Explainer, Explanation, ProbeSet, explain
from gradcam_callbacks.explaining import explainer
from gradcam_callbacks.explaining.methods import attends
from gradcam_callbacks.record.health import HEALTH


def same(a: Explanation, b: Explanation, columns: list[int] | slice = slice(None)) -> None:
    np.testing.assert_allclose(a.maps, b.maps[:, columns], atol=1e-7)
    np.testing.assert_allclose(a.scores, b.scores[:, columns], atol=1e-6)


def third(outputs: Any) -> Any:
    """The score of class 2."""
    return outputs[:, 2]


def spread(outputs: Any) -> Any:
    """How far the scores lie apart."""
    return ops.max(outputs, axis=1) - ops.min(outputs, axis=1)


@pytest.mark.usefixtures("long")
def test_each_probe_can_have_targets_of_its_own() -> None:
    """An (N, K) array explains for each probe its own classes, as explaining each probe alone does."""
    model = small_model()
    classes = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [2, 2]])
    together = explain(model, pictures(), targets=classes)
    np.testing.assert_array_equal(together.explained, classes)
    assert together.target_names == ("target_0", "target_1")
    for n, row in enumerate(classes.tolist()):
        alone = explain(model, pictures()[n : n + 1], targets=row)
        np.testing.assert_allclose(together.maps[n : n + 1], alone.maps, atol=1e-7)


def test_a_function_of_the_outputs_is_a_target() -> None:
    """A function that takes the logit of a class has that class's map, wherever it stands among the targets."""
    model = small_model()
    explanation = explain(model, pictures(), targets=[third, 1, "predicted", spread, 2, (2, 1)])
    assert explanation.target_names[0] == "third"
    same(explain(model, pictures(), targets=[2]), explanation, [0])
    np.testing.assert_allclose(explanation.maps[:, 0], explanation.maps[:, 4], atol=1e-7)
    np.testing.assert_allclose(explanation.scores[:, 0], explanation.scores[:, 4], atol=1e-6)
    assert explanation.explained[:, [0, 3]].tolist() == [[-1, -1]] * 5
    assert np.isnan(explanation.probabilities[:, [0, 3, 5]]).all()
    assert not np.isnan(explanation.probabilities[:, [1, 2, 4]]).any()
    assert explanation.question(0, 3) == "What made spread high?"


def test_a_function_alone_needs_no_classifier() -> None:
    """Regression by one number: the map of the function is that of class 1; and the digest knows the function."""
    model = small_model(classes=1, activation=None)
    number = lambda outputs: outputs[:, 0]  # noqa: E731
    probes = ProbeSet(pictures(), targets=number)
    explanation = Explainer(model)(probes)
    same(explain(model, pictures(), targets=[1]), explanation)
    assert explanation.target_names == ("function_0",)
    assert len({ProbeSet(pictures(), targets=target).digest for target in (number, third, spread, 1)}) == 4


def test_a_segmentation_is_explained_by_the_mean_logit_of_a_region() -> None:
    """For a model of (N, H, W, classes) a function chooses class and region; its map lies where the region looks."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1, activation="softmax", name="classes")(x))

    def corner(outputs: Any) -> Any:
        return ops.mean(outputs[:, :4, :4, 1], axis=(1, 2))

    explanation = Explainer(model, layer="conv")(ProbeSet(pictures(), targets=[corner]))
    kernel, bias = model.get_layer("classes").get_weights()
    activations = np.asarray(keras.Model(inputs, x)(pictures()))
    logits = activations @ kernel[0, 0] + bias
    np.testing.assert_allclose(explanation.scores[:, 0], logits[:, :4, :4, 1].mean(axis=(1, 2)), atol=1e-5)
    expected = np.maximum((activations * kernel[0, 0, :, 1] / 256).sum(-1), 0)
    np.testing.assert_allclose(explanation.maps[:, 0], expected, atol=1e-7)
    assert explanation.outputs is None
    assert explanation.probabilities is None
    with pytest.raises(ValueError, match="no classes to predict"):
        explanation.predictions()
    local = Explainer(model, layer="conv", method="hirescam")(ProbeSet(pictures(), targets=[corner])).maps
    assert local[:, 0, :4, :4].max() > 0
    assert local[:, 0, 4:, :].max() == local[:, 0, :, 4:].max() == 0


def test_a_function_may_take_several_outputs() -> None:
    """Without output= a function gets all of a model's heads, each before its softmax."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    heads = [keras.layers.Dense(n, activation="softmax", name=name)(x) for n, name in ((4, "kind"), (2, "sex"))]
    model = keras.Model(inputs, heads)
    both = explain(model, pictures(), targets=[lambda outputs: outputs[0][:, 3] + outputs[1][:, 0]])
    kind, sex = (explain(model, pictures(), targets=[index], output=name) for name, index in (("kind", 3), ("sex", 0)))
    np.testing.assert_allclose(both.scores, kind.scores + sex.scores, atol=1e-5)
    signed = [
        explain(model, pictures(), targets=[(lambda outputs, s=s: s * (outputs[0][:, 3] + outputs[1][:, 0]))])
        for s in (1, -1)
    ]
    np.testing.assert_array_equal(both.maps, signed[0].maps)
    assert (signed[0].maps * signed[1].maps == 0).all()


def test_a_function_that_gives_no_score_a_picture_is_refused() -> None:
    """A scalar is not one score a picture."""

    def total(outputs: Any) -> Any:
        return ops.sum(outputs)

    with pytest.raises(ValueError, match=r"The target function 'total' gave shape \(\); expected one score a picture"):
        explain(small_model(), pictures(), targets=[total])


def test_a_thousand_targets_of_one_picture_are_one_forward_pass() -> None:
    """Any number of targets, one pass and one trace; and the maps are those of each target alone."""
    model, counting = counting_model()
    explainer = Explainer(model)
    many = [n % 4 for n in range(1000)]
    explanation = explainer(ProbeSet(pictures(1), targets=many))
    assert counting.passes == [1]
    alone = explainer(ProbeSet(pictures(1), targets=[0, 1, 2, 3]))
    np.testing.assert_allclose(explanation.maps, alone.maps[:, many], atol=1e-7)
    assert explainer.traces == 1


@pytest.mark.usefixtures("long")
def test_many_targets_are_split_where_memory_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """First fewer pictures go through at once, then fewer targets of a picture; the maps stay the same."""
    model, counting = counting_model()
    targets = [0, third, 1, 2, 3, "predicted"]
    whole = Explainer(model)(ProbeSet(pictures(), targets=targets))
    floats = Explainer(model).prepare(pictures()).floats
    assert floats == 6 + 14 * 14  # the mean of each channel, and the map
    monkeypatch.setattr(explainer, "_FLOATS_AT_ONCE", floats * 12)
    counting.passes.clear()
    fewer_pictures = Explainer(model)(ProbeSet(pictures(), targets=targets))
    assert counting.passes == [2, 2, 1 if IS_TENSORFLOW else 2]  # JAX would compile again for one
    monkeypatch.setattr(explainer, "_FLOATS_AT_ONCE", floats * 3)
    counting.passes.clear()
    fewer_targets = Explainer(model)(ProbeSet(pictures(), targets=targets))
    assert counting.passes == [1] * 10
    for split in (fewer_pictures, fewer_targets):
        same(split, whole)
        np.testing.assert_array_equal(split.explained, whole.explained)


@pytest.mark.usefixtures("long")
def test_maps_of_several_layers_are_fused_on_the_largest_grid() -> None:
    """Each map is divided by its maximum, enlarged, and averaged; a layer with an empty map adds nothing."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", padding="same", name="fine"),
            keras.layers.Conv2D(6, 3, strides=2, activation="relu", padding="same", name="coarse"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    fused = explain(model, pictures(), targets=[0, 2], layer=["coarse", "fine"])
    fine, coarse = (explain(model, pictures(), targets=[0, 2], layer=name) for name in ("fine", "coarse"))
    assert fused.layer == "coarse + fine"
    enlarged = np.asarray(ops.image.resize(shares(coarse).reshape(10, 8, 8, 1), (16, 16))).reshape(5, 2, 16, 16)
    np.testing.assert_allclose(fused.maps, (shares(fine) + enlarged) / 2, atol=1e-6)
    assert fused.maps.max() <= 1


def shares(explanation: Explanation) -> np.ndarray:
    peaks = explanation.maps.max(axis=(2, 3), keepdims=True)
    return np.divide(explanation.maps, peaks, out=np.zeros_like(explanation.maps), where=peaks > 0)


@pytest.mark.parametrize("batch_size", [2, 32])
def test_scorecam_masks_the_picture_with_each_channel(batch_size: int) -> None:
    """Its maps are those of a loop over the channels, and it makes forward passes only: C + 1 masks, in batches."""
    model, counting = counting_model()
    explainer = Explainer(model, method="scorecam", batch_size=batch_size)
    targets = [3, "predicted", (0, 1), third]
    explainer(ProbeSet(pictures(2), targets=targets))  # which traces, and learns where the layer's places lie
    counting.passes.clear()
    explanation = explainer(ProbeSet(pictures(2), targets=targets))
    rounds = math.ceil(7 / batch_size)
    assert counting.passes == [2] + [batch_size] * rounds * 2
    conv, head = model.layers[1], model.layers[-1]
    for n, image in enumerate(pictures(2)):
        activations = np.asarray(conv(image[None])[0])
        masked = [image * 0]
        for channel in np.moveaxis(activations, -1, 0):
            unit = (channel - channel.min()) / (channel.max() - channel.min() or 1)
            masked.append(image * np.asarray(ops.image.resize(unit[..., None], (16, 16))))
        pooled = np.asarray(conv(np.stack(masked))).mean(axis=(1, 2))
        logits = pooled @ np.asarray(head.kernel) + np.asarray(head.bias)
        best = int(explanation.predicted[n])
        for k, scores in enumerate([logits[:, 3], logits[:, best], logits[:, 0] - logits[:, 1], logits[:, 2]]):
            rises = np.exp(scores[1:] - scores[0])
            expected = np.maximum(activations @ (rises / rises.sum()), 0)
            np.testing.assert_allclose(explanation.maps[n, k], expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [7, 300])
def test_occlusion_covers_each_place_with_the_mean_colour(batch_size: int) -> None:
    """Its maps are those of a loop over the places, and it makes forward passes only: one a place, and one without."""
    inputs = keras.Input((9, 12, 3))
    x = keras.layers.Conv2D(6, 3, strides=3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    images = np.random.default_rng(0).random((2, 9, 12, 3), dtype=np.float32)
    explainer = Explainer(model, method="occlusion", batch_size=batch_size)
    explanation = explainer(ProbeSet(images, targets=[3, "predicted", (0, 1), third]))
    for n, image in enumerate(images):
        covered = []
        for place in range(12):
            row, column = divmod(place, 4)
            changed = image.copy()
            changed[3 * row : 3 * row + 3, 3 * column : 3 * column + 3] = image.mean(axis=(0, 1))
            covered.append(changed)
        before, after = np.asarray(model(image[None]))[0], np.asarray(model(np.stack(covered)))
        lost, best = before - after, int(explanation.predicted[n])
        for k, drops in enumerate([lost[:, 3], lost[:, best], lost[:, 0] - lost[:, 1], lost[:, 2]]):
            np.testing.assert_allclose(explanation.maps[n, k], np.maximum(drops, 0).reshape(3, 4), atol=1e-5)


def test_occlusion_of_whole_numbers() -> None:
    """A picture of bytes is covered by its rounded mean."""
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    conv = keras.layers.Conv2D(5, 2, strides=2, activation="relu", name="conv")(keras.layers.Rescaling(1.0)(inputs))
    of_bytes = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(conv)))
    found = explain(of_bytes, images, targets=[1], method="occlusion", layer="conv")
    covered = []
    for place in range(16):
        row, column = divmod(place, 4)
        changed = images.copy()
        mean = np.rint(images.mean(axis=(1, 2)))[:, None, None]
        changed[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = mean
        covered.append(np.asarray(of_bytes(changed))[:, 1])
    drops = np.asarray(of_bytes(images))[:, 1] - np.stack(covered)
    np.testing.assert_allclose(found.maps[:, 0].reshape(2, 16).T, np.maximum(drops, 0), rtol=1e-4, atol=1e-2)


def test_finercam_compares_with_the_classes_next_to_it() -> None:
    """Of six classes those three whose logits are nearest are its references, each by 0.6 / 3, in one pass."""
    model, counting = counting_model()
    x = model.layers[-1].input
    head = keras.layers.Dense(6, activation="softmax", name="six")
    model = keras.Model(model.inputs, head(x))
    kernel = head.kernel.numpy()
    head.bias.assign([0.0, 10, 11, 13, 40, 80])  # which decide what is near
    counting.passes.clear()
    explanation = Explainer(model, method="finercam")(ProbeSet(pictures(), targets=[1, 5, (3, 0), third]))
    assert counting.passes == [5]
    activations = np.asarray(model.layers[2](pictures()))
    columns = [
        kernel[:, 1] - 0.2 * (kernel[:, 2] + kernel[:, 3] + kernel[:, 0]),
        kernel[:, 5] - 0.2 * (kernel[:, 4] + kernel[:, 3] + kernel[:, 2]),
        kernel[:, 3] - kernel[:, 0],  # a contrast says itself what is compared
        kernel[:, 2],  # and so does a function
    ]
    for k, column in enumerate(columns):
        np.testing.assert_allclose(explanation.maps[:, k], np.maximum(activations @ column, 0) / 196, atol=1e-6)
    plain = Explainer(model)(ProbeSet(pictures(), targets=[1, 5, (3, 0), third]))
    np.testing.assert_allclose(explanation.scores, plain.scores, atol=1e-5)


@pytest.mark.parametrize("classes", [1, 2])
def test_finercam_of_few_classes_compares_with_those_that_there_are(classes: int) -> None:
    """Of two classes the other one is the reference; a single unit z is z - 0.6 (-z) = 1.6 z."""
    model = small_model(classes=classes, activation="sigmoid" if classes == 1 else "softmax")
    found = explain(model, pictures(), targets=[1, 0], method="finercam").maps
    kernel = model.get_layer("head").kernel.numpy()
    activations = np.asarray(model.get_layer("conv")(pictures()))
    first, second = (kernel[:, 0], -kernel[:, 0]) if classes == 1 else (kernel[:, 1], kernel[:, 0])
    for k, column in enumerate((first - 0.6 * second, second - 0.6 * first)):
        np.testing.assert_allclose(found[:, k], np.maximum(activations @ column, 0) / 196, atol=1e-6)


@pytest.mark.parametrize("method", sorted(name for name in METHODS if not attends(METHODS[name])))
def test_every_method_runs_on_a_model(method: str) -> None:
    """By name, on a layer in the middle, with all kinds of targets, finite and not all zero."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="middle"),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    targets = [0, 1, (2, 3), "predicted", third]
    explanation = explain(model, pictures(), targets=targets, method=method, layer="middle")
    assert explanation.maps.shape == (5, 5, 14, 14)
    assert np.isfinite(explanation.maps).all()
    assert (explanation.maps >= 0).all()
    assert explanation.maps.max() > 0
    assert explanation.method == method


def broken(kind: str) -> tuple[keras.Model, str]:
    """A model whose map of class 0 is in a bad state."""
    model = small_model(activation=None)
    kernel, bias = model.get_layer("conv").get_weights()
    head, head_bias = model.get_layer("head").get_weights()
    if kind == "empty":
        head[:, 0] = -1
    if kind == "zero-gradient":
        head[:, 0] = 0
    if kind == "flat":
        kernel, bias, head[:, 0] = kernel * 0, bias + 1, 1
    if kind == "non-finite":
        head = head * np.nan  # not in the convolution: some CPUs make the ReLU of NaN 0
    model.get_layer("conv").set_weights([kernel, bias])
    model.get_layer("head").set_weights([head, head_bias])
    return model, kind


@pytest.mark.parametrize("kind", ["empty", "flat", "zero-gradient", "non-finite"])
def test_a_map_in_a_bad_state_says_so_and_what_to_try(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each state is found, explained in a sentence with the probes it concerns, and warned about by explain()."""
    model, kind = broken(kind)
    explanation = explain(model, pictures(), targets=[0])
    assert set(explanation.health.ravel()) == {kind}
    (sentence,) = explanation.problems()
    assert sentence.startswith(f"5 of 5 maps are {kind} (probe_0 / class_0, probe_1 / class_0, probe_2 / class_0 and 2")
    assert HEALTH[kind] in sentence
    assert [record.getMessage() for record in caplog.records] == [sentence]
    assert np.isfinite(explanation.maps).all()


def test_a_good_map_has_no_problem() -> None:
    """Nothing is said where nothing is wrong."""
    model = small_model(activation=None)
    head, bias = model.get_layer("head").get_weights()
    model.get_layer("head").set_weights([np.abs(head), bias])
    assert explain(model, pictures()).problems() == []


def test_the_layers_that_can_be_explained_are_listed() -> None:
    """In the order of the model, with what is picked; without 1x1 maps and what is no map."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.MaxPooling2D(name="pooling")(x)
    x = keras.layers.Conv2D(4, 1, name="one")(keras.layers.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    found = Explainer(model).layers()
    assert [(info.path, info.kind, info.shape, info.picked) for info in found] == [
        ("conv", "Conv2D", (None, 14, 14, 6), True),
        ("pooling", "MaxPooling2D", (None, 7, 7, 6), False),
    ]
    assert [info.path for info in Explainer(model).layers(pictures(1))] == ["conv", "pooling"]
    any_size = keras.Sequential([keras.Input((None, None, 3)), *model.layers[1:2]], name="any")
    with pytest.raises(ValueError, match="Model 'any' does not say what size of picture it takes; pass an array"):
        Explainer(any_size).layers()


def test_a_list_needs_no_target() -> None:
    """A segmentation is listed; what is picked is what a function of its output explains, whatever the probes ask."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="features")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, activation="softmax", name="out")(x))

    def corner(outputs: Any) -> Any:
        return keras.ops.mean(outputs[:, :8, :8, 1], (1, 2))

    picked = explain(model, pictures(1), targets=[corner]).layer
    for probes in (None, pictures(2), ProbeSet(pictures(1), targets=[corner]), (pictures(2), np.array([0, 1]))):
        found = Explainer(model).layers(probes)
        assert [info.path for info in found if info.picked] == [picked] == ["features"]


def test_what_is_picked_is_that_of_the_output_that_is_named() -> None:
    """Of two outputs each has a way of its own; without a name, the list is that of both."""
    inputs = keras.Input((16, 16, 3))
    ways = [keras.layers.Conv2D(4, 3, activation="relu", name=name)(inputs) for name in ("left", "right")]
    heads = [keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(way)) for way in ways]
    model = keras.Model(inputs, {"first": heads[0], "second": heads[1]})
    for output, layer in (("first", "left"), ("second", "right")):
        assert [info.path for info in Explainer(model, output=output).layers() if info.picked] == [layer]
        assert explain(model, pictures(), targets=[1], output=output).layer == layer
    assert {info.path for info in Explainer(model).layers()} == {"left", "right"}
