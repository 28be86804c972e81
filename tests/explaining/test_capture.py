"""The maps are right, cost one forward pass, and leave the model as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from support.engines import IS_TENSORFLOW, needs_tensorflow
from support.models import counting_model, pictures, small_model, trunk_and_head

from gradcam_callbacks import Explainer, ProbeSet, explain


def functional() -> keras.Model:
    return small_model()


def sequential_with_input() -> keras.Model:
    return keras.Sequential([keras.Input((16, 16, 3)), *trunk_and_head()])


def sequential_called() -> keras.Model:
    model = keras.Sequential(trunk_and_head())
    model(pictures())
    return model


def nested() -> keras.Model:
    """Transfer learning as people write it: the convolution is inside a backbone."""
    backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(6, 3, activation="relu", name="conv")])
    backbone.name = "backbone"
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="head")(x))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.pool, self.head = trunk_and_head()

    def call(self, images: Any) -> Any:
        return self.head(self.pool(self.convolution(images)))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(pictures())
    return model


MODELS = [functional, sequential_with_input, sequential_called, nested, subclassed]


def closed_form(model: keras.Model, images: np.ndarray, classes: list[int]) -> np.ndarray:
    """relu(sum_k w_k A_k) / (h w): Grad-CAM of convolution, global average pooling and dense, without a gradient."""
    kernel, bias, weights, _ = model.get_weights()
    activations = np.asarray(keras.ops.relu(keras.ops.conv(images, kernel, 1, "valid") + bias))
    h, w = activations.shape[1:3]
    return np.maximum(np.einsum("nhwc,ck->nkhw", activations, weights[:, classes]) / (h * w), 0)


@pytest.mark.parametrize("build", MODELS)
def test_maps_have_the_closed_form(build: Callable[[], keras.Model]) -> None:
    """Grad-CAM of conv -> pooling -> dense is relu(sum w A)/(h w), however the model is put together."""
    model = build()
    explanation = explain(model, pictures(), targets=[0, 3, 1])
    expected = closed_form(model, pictures(), [0, 3, 1])
    assert explanation.layer.endswith("conv")
    np.testing.assert_allclose(explanation.maps, expected, atol=1e-6)
    assert expected.max() > 1e-3


@pytest.mark.parametrize("build", MODELS)
def test_scores_are_logits_and_probabilities_the_softmax(build: Callable[[], keras.Model]) -> None:
    """The score is what goes into the softmax, and the probability what comes out."""
    model = build()
    explanation = explain(model, pictures(), targets=[0, 1, 2, 3])
    kernel, bias = model.get_weights()[2:]
    conv, conv_bias = model.get_weights()[:2]
    pooled = np.asarray(keras.ops.relu(keras.ops.conv(pictures(), conv, 1, "valid") + conv_bias)).mean(axis=(1, 2))
    np.testing.assert_allclose(explanation.scores, pooled @ kernel + bias, atol=1e-5)
    assert explanation.score_kind == "logit"
    np.testing.assert_allclose(explanation.probabilities, model.predict(pictures(), verbose=0), atol=1e-6)


@needs_tensorflow  # which alone computes in float64 without being told to
def test_gradients_agree_with_finite_differences() -> None:
    """A central finite difference of the logit gives the gradients, in float64."""
    inputs = keras.Input((6, 6, 2), dtype="float64")
    conv = keras.layers.Conv2D(3, 3, activation="tanh", name="conv", dtype="float64")(inputs)
    flat = keras.layers.Flatten(dtype="float64")(conv)
    hidden = keras.layers.Dense(5, activation="tanh", name="hidden", dtype="float64")(flat)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", dtype="float64")(hidden), dtype="float64")
    trunk = keras.Model(inputs, conv)
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    weights = [layer.get_weights() for layer in model.layers[-2:]]

    def logit(activations: np.ndarray) -> float:
        hidden = np.tanh(activations.reshape(1, -1) @ weights[0][0] + weights[0][1])
        return float((hidden @ weights[1][0] + weights[1][1])[0, 2])

    activations = np.asarray(trunk(image))
    assert activations.dtype == np.float64
    gradients = np.zeros_like(activations)
    for index in np.ndindex(activations.shape):
        step = np.zeros_like(activations)
        step[index] = 1e-5
        gradients[index] = (logit(activations + step) - logit(activations - step)) / 2e-5
    expected = np.maximum((activations * gradients.mean(axis=(1, 2), keepdims=True)).sum(-1), 0)
    maps = explain(model, image, targets=[2]).maps
    assert expected.max() > 1e-3
    np.testing.assert_allclose(maps[:, 0], expected, rtol=1e-5, atol=1e-8)


def test_all_targets_of_all_probes_cost_one_forward_pass() -> None:
    """Five probes with four targets each are one forward pass, every time, and one trace for ever."""
    model, counting = counting_model()
    explainer = Explainer(model)
    probes = ProbeSet(pictures(), targets=[0, 1, "predicted", (2, 3)])
    for _ in range(3):
        explainer(probes)
    assert counting.passes == [5, 5, 5]
    assert explainer.traces == 1


def test_batch_size_splits_the_probes() -> None:
    """With batch_size=2 five probes run as 2, 2 and 1, and give the same maps."""
    model, counting = counting_model()
    split = Explainer(model, batch_size=2)(pictures())
    assert counting.passes == [2, 2, 1 if IS_TENSORFLOW else 2]  # JAX would compile again for one
    np.testing.assert_allclose(split.maps, Explainer(model)(pictures()).maps, atol=1e-7)


def test_the_graph_follows_the_weights() -> None:
    """A later change of the weights changes the maps, without a new trace."""
    model = small_model()
    explainer = Explainer(model)
    probes = ProbeSet(pictures(), targets=[1])
    before = explainer(probes).maps
    model.set_weights([weight * 2 for weight in model.get_weights()])
    np.testing.assert_allclose(explainer(probes).maps, closed_form(model, pictures(), [1]), atol=1e-6)
    assert np.abs(explainer(probes).maps - before).max() > before.max()
    assert explainer.traces == 1


def every_layer(model: keras.Model) -> list[keras.layers.Layer]:
    return list(model._flatten_layers())


@pytest.mark.parametrize("build", MODELS)
def test_the_model_is_left_as_it_was_found(build: Callable[[], keras.Model]) -> None:
    """Weights, attributes, the last activation and the compiled state are those from before."""
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    before = {id(layer): set(layer.__dict__) for layer in every_layer(model)}
    weights, optimizer, trainable = model.get_weights(), model.optimizer, len(model.trainable_weights)
    explain(model, pictures(), targets=[0, "predicted"])
    assert {id(layer): set(layer.__dict__) for layer in every_layer(model)} == before
    assert not any("call" in layer.__dict__ for layer in every_layer(model))
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert model.optimizer is optimizer
    assert len(model.trainable_weights) == trainable
    assert model.get_layer("head").activation is keras.activations.softmax


class Fragile(keras.layers.Layer):
    """Fails when told to."""

    fails = False

    def call(self, images: Any) -> Any:
        if self.fails:
            raise RuntimeError("broken on purpose")
        return images * 1.0


def test_the_model_is_left_as_it_was_found_after_an_error() -> None:
    """An error in the middle of the trace leaves no layer wrapped, and a user's own `call` attribute in place."""
    fragile = Fragile()
    model = keras.Sequential([keras.Input((16, 16, 3)), *trunk_and_head()[:1], fragile, *trunk_and_head()[1:]])
    own = model.layers[0].call
    model.layers[0].__dict__["call"] = own
    fragile.fails = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        explain(model, pictures())
    assert model.layers[0].__dict__["call"] is own
    assert [layer for layer in every_layer(model) if "call" in layer.__dict__ and layer is not model.layers[0]] == []
    fragile.fails = False
    assert explain(model, pictures()).health.shape == (5, 1)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(("method", "count"), [("gradcam", 5), ("scorecam", 3)])
def test_explained_models_can_be_collected(method: str, count: int) -> None:
    """Nothing global holds a model or an explainer: several different ones leave none behind."""
    references = []
    for classes in range(2, 2 + count):
        model = small_model(classes=classes)
        explainer = Explainer(model, method=method)
        explainer(pictures())
        references += [weakref.ref(model), weakref.ref(explainer)]
    del model, explainer
    gc.collect()
    assert [reference() for reference in references] == [None] * 2 * count


@pytest.mark.parametrize("layer", ["backbone/conv", "conv", "backbone"])
def test_a_nested_layer_is_named_by_path_or_name_and_the_backbone_is_one_too(layer: str) -> None:
    """The same map comes from the inner layer by its path, by its name, and from the backbone as a whole."""
    model = nested()
    explanation = explain(model, pictures(), targets=[2], layer=layer)
    assert explanation.layer == ("backbone" if layer == "backbone" else "backbone/conv")
    np.testing.assert_allclose(explanation.maps, closed_form(model, pictures(), [2]), atol=1e-6)


def test_the_activation_after_the_last_convolution_is_picked() -> None:
    """Of convolution, batch norm, ReLU, pooling and dropout it is the ReLU; of rescaling alone, nothing."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Conv2D(4, 3, name="last_conv"),
            keras.layers.BatchNormalization(name="last_norm"),
            keras.layers.ReLU(name="last_relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    explainer = Explainer(model)
    capture = explainer.prepare(pictures(size=32))
    assert capture.layers[0].path == "last_relu"
    assert [info.path for info in capture.runners_up[:2]] == ["last_norm", "last_conv"]


def test_a_one_by_one_convolution_after_the_pooling_is_not_picked() -> None:
    """A head made of 1x1 convolutions, as in MobileNetV3, is no map."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Conv2D(4, 1, name="logits")(x)
    model = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Flatten()(x)))
    explanation = explain(model, pictures())
    assert explanation.layer == "conv"
    assert explanation.score_kind == "logit"


def test_a_single_sigmoid_has_two_classes() -> None:
    """Target 1 is the logit, target 0 its negative, and their probabilities add up to one."""
    model = small_model(classes=1, activation="sigmoid")
    explanation = explain(model, pictures(), targets=[0, 1, "predicted"])
    np.testing.assert_array_equal(explanation.scores[:, 0], -explanation.scores[:, 1])
    np.testing.assert_allclose(explanation.probabilities[:, :2].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(explanation.maps[:, 1:2], closed_form(model, pictures(), [0]), atol=1e-6)
    np.testing.assert_array_equal(explanation.explained[:, 2], model.predict(pictures(), verbose=0)[:, 0] > 0.5)


def test_a_contrast_target_explains_the_difference_of_two_scores() -> None:
    """(a, b) has the score of a minus that of b, and the map of that difference."""
    model = small_model()
    explanation = explain(model, pictures(), targets=[(0, 3), 0, 3])
    np.testing.assert_allclose(explanation.scores[:, 0], explanation.scores[:, 1] - explanation.scores[:, 2], atol=1e-6)
    model.layers[-1].kernel.assign(model.layers[-1].kernel - model.layers[-1].kernel[:, 3:])
    np.testing.assert_allclose(explanation.maps[:, :1], closed_form(model, pictures(), [0]), atol=1e-6)


def test_a_model_without_activation_gives_logits_and_no_probabilities() -> None:
    """Where the outputs are logits they are the scores, and no probability is made up."""
    model = small_model(activation=None)
    explanation = explain(model, pictures(), targets=[2])
    np.testing.assert_allclose(explanation.scores[:, 0], model.predict(pictures(), verbose=0)[:, 2], atol=1e-6)
    assert explanation.probabilities is None
    assert explanation.score_kind == "logit"


def test_something_after_the_softmax_is_explained_as_a_probability(caplog: pytest.LogCaptureFixture) -> None:
    """Where the logits cannot be had the score is the probability, and one warning says so."""
    base = small_model()
    model = keras.Model(base.inputs, keras.layers.Rescaling(0.9, 0.025)(base.outputs[0]))
    explainer = Explainer(model)
    explanation = [explainer(pictures()) for _ in range(2)][1]
    assert explanation.score_kind == "probability"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    np.testing.assert_allclose(explanation.scores[:, 0], model.predict(pictures(), verbose=0).max(axis=1), atol=1e-6)


@pytest.mark.usefixtures("long")
def test_a_head_of_several_is_chosen_by_name_or_index() -> None:
    """output= picks the head; its maps are those of that head alone."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    heads = [keras.layers.Dense(n, activation="softmax", name=name)(x) for n, name in ((4, "kind"), (2, "sex"))]
    model = keras.Model(inputs, heads)
    alone = explain(keras.Model(inputs, heads[1]), pictures(), targets=[1]).maps
    assert alone.max() > 0
    for output in ("sex", 1):
        np.testing.assert_array_equal(explain(model, pictures(), targets=[1], output=output).maps, alone)
    with pytest.raises(ValueError, match=r"has 2 outputs. Choose one with output=: 'kind', 'sex'"):
        explain(model, pictures())
    with pytest.raises(ValueError, match=r"No output 'age'. The outputs of model '.*': 'kind', 'sex'"):
        explain(model, pictures(), output="age")


def test_health_says_what_is_wrong_with_a_map() -> None:
    """Nothing positive, nothing at all, the same everywhere, and NaN are told apart; no map is ever NaN."""
    model = small_model(activation=None)
    kernel, bias = model.get_layer("conv").get_weights()
    head, head_bias = model.get_layer("head").get_weights()
    head[:, 0], head[:, 1], head[:, 2] = -1, 0, 1
    model.get_layer("head").set_weights([head, head_bias])
    explanation = explain(model, pictures(), targets=[0, 1, 2])
    assert explanation.health[0].tolist() == ["empty", "zero-gradient", "ok"]
    assert explanation.heatmaps()[0, 0].max() == 0
    model.get_layer("conv").set_weights([kernel * 0, bias + 1])
    assert explain(model, pictures(), targets=[2]).health[0].tolist() == ["flat"]
    model.get_layer("head").set_weights([head * np.nan, head_bias])  # some CPUs make the ReLU of NaN 0
    explanation = explain(model, pictures(), targets=[2])
    assert explanation.health[0].tolist() == ["non-finite"]
    assert not explanation.maps.any()


def test_mixed_precision_gives_float32_maps() -> None:
    """A mixed_float16 model gives finite float32 maps near those of its float32 twin."""
    twin = small_model()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_model(dtype="float32")
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(twin.get_weights())
    maps = explain(model, pictures(), targets=[1]).maps
    assert maps.dtype == np.float32
    expected = closed_form(twin, pictures(), [1])
    np.testing.assert_allclose(maps, expected, atol=0.01 * expected.max())
    assert maps.max() > 0


@pytest.mark.usefixtures("long")
def test_the_place_of_a_layer_does_not_depend_on_its_name() -> None:
    """Class, number among its kind beside it, and shape; of a layer inside another one the way to it."""

    def place_of(model: keras.Model, layer: str | list[str] | None = None) -> str:
        return Explainer(model, layer=layer).prepare(pictures(2)).place

    def backbone() -> keras.Model:
        layers = [keras.layers.Conv2D(3, 3), keras.layers.ReLU(), keras.layers.Conv2D(5, 3), keras.layers.ReLU()]
        return keras.Sequential([keras.Input((16, 16, 3)), *layers])

    def whole() -> keras.Model:
        return keras.Sequential([backbone(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)])

    models = [whole(), whole()]
    for model in models:
        model.build((None, 16, 16, 3))
        assert place_of(model) == "Sequential 1 of 1 > ReLU 2 of 2, 12x12x5"
    named = [[layer.name for layer in model.layers[0].layers[:3:2]] for model in models]
    assert named[0] != named[1]
    for model, names in zip(models, named, strict=True):
        assert place_of(model, names) == (
            "Sequential 1 of 1 > Conv2D 1 of 2, 14x14x3 + Sequential 1 of 1 > Conv2D 2 of 2, 12x12x5"
        )
    assert place_of(subclassed()) == "Conv2D 1 of 1, 14x14x6"
    shared = keras.layers.Conv2D(3, 3, padding="same")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(shared(shared(inputs)))
    assert place_of(keras.Model(inputs, keras.layers.Dense(4)(x))) == "Conv2D 1 of 1[1], 16x16x3"
