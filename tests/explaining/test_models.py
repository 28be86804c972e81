"""Whatever a model is made of, its maps are those of a trunk and a head that were split by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import compiled, gradient
from support.models import pictures

from gradcam_callbacks import Explainer, ProbeSet, explain

CLASSES = [0, 3, 1]


@dataclass
class Case:
    """A model, what it is fed, and the same computation in two pieces.

    Attributes:
        model: what is explained.
        inputs: what it is fed.
        trunk: from the inputs to the activations of the target layer.
        head: from the activations to the (N, classes) logits.
        picked: the layer that must be picked, or that was asked for.
        settings: of `Explainer`.
        close: the tolerance, as a share of the highest value.
        as_map: from (N, ..., C) activations to (N, *grid, C).
        pictures: what people see, where the inputs do not tell.
    """

    model: keras.Model
    inputs: Any
    trunk: Callable[[Any], Any]
    head: Callable[[Any], Any]
    picked: str
    settings: dict[str, Any] = field(default_factory=dict)
    close: float = 1e-5
    as_map: Callable[[Any], Any] = np.asarray
    pictures: np.ndarray | None = None


def maps_by_hand(case: Case, classes: list[int]) -> np.ndarray:
    """Grad-CAM with the gradient of the head alone, one class at a time."""
    activations = ops.convert_to_tensor(case.trunk(case.inputs))
    maps = []
    for index in classes:
        gradients = gradient(lambda a, index=index: case.head(a)[:, index], activations)
        a, g = (case.as_map(np.asarray(ops.cast(array, "float32"))) for array in (activations, gradients))
        weights = g.mean(axis=tuple(range(1, g.ndim - 1)), keepdims=True)
        maps.append(np.maximum((weights * a).sum(-1), 0))
    return np.stack(maps, axis=1)


def conv(name: str = "conv", filters: int = 6, **settings: Any) -> layers.Layer:
    return layers.Conv2D(filters, 3, activation="relu", name=name, **settings)


def dense(classes: int = 4, **settings: Any) -> layers.Dense:
    return layers.Dense(classes, **({"name": "head", "activation": "softmax"} | settings))


def linear(layer: layers.Dense) -> Callable[[Any], Any]:
    """The dense layer without its activation."""
    return lambda x: ops.cast(x, "float32") @ ops.cast(layer.kernel, "float32") + ops.cast(layer.bias, "float32")


def mean(x: Any) -> Any:
    return ops.mean(x, axis=tuple(range(1, x.ndim - 1)))


def pooled(inputs: Any, x: Any, **settings: Any) -> tuple[keras.Model, layers.Dense]:
    """A model that ends with global average pooling and a dense layer."""
    rank = len(x.shape) - 2
    x = getattr(layers, f"GlobalAveragePooling{rank}D")()(x)
    last = dense(**settings)
    return keras.Model(inputs, last(x)), last


def flattened() -> Case:
    """No pooling: the gradient differs from place to place."""
    last = dense()
    model = keras.Sequential([keras.Input((16, 16, 3)), conv(), layers.Flatten(), last])
    head = linear(last)
    return Case(model, pictures(), model.layers[0], lambda a: head(ops.reshape(a, (len(a), -1))), "conv")


def in_the_middle() -> Case:
    """A layer with convolutions, batch normalisation, pooling and a residual after it."""
    inputs = keras.Input((16, 16, 3))
    first = conv("first", 4, padding="same")
    body = keras.Sequential(
        [
            keras.Input((16, 16, 4)),
            layers.SeparableConv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
        ],
        name="body",
    )
    a = first(inputs)
    x = layers.MaxPooling2D()(layers.Add()([a, body(a)]))
    model, last = pooled(inputs, x)
    head = linear(last)
    return Case(
        model,
        pictures(),
        first,
        lambda a: head(mean(ops.max_pool(a + body(a, training=False), 2, 2, "valid"))),
        "first",
        {"layer": "first"},
    )


def grouped_and_enlarged() -> Case:
    """What TensorFlow's vectorised map cannot do: the gradients of a grouped convolution and of a resizing."""
    inputs = keras.Input((16, 16, 3))
    first, grouped = conv("first", 8), layers.Conv2D(8, 3, groups=4, activation="relu")
    larger = layers.UpSampling2D(interpolation="bilinear")
    model, last = pooled(inputs, larger(grouped(first(inputs))))
    head = linear(last)
    return Case(
        model, pictures(), first, lambda a: head(mean(larger(grouped(a)))), "first", {"layer": "first"}, close=1e-4
    )


def maximum_pooling() -> Case:
    inputs = keras.Input((16, 16, 3))
    layer, last = conv(), dense()
    model = keras.Model(inputs, last(layers.GlobalMaxPooling2D()(layer(inputs))))
    head = linear(last)
    return Case(model, pictures(), layer, lambda a: head(ops.max(a, axis=[1, 2])), "conv")


def mean_and_maximum() -> Case:
    """The mean is not all that the score takes of the map."""
    inputs = keras.Input((16, 16, 3))
    layer, last = conv(), dense()
    x = layer(inputs)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    head = linear(last)
    model = keras.Model(inputs, last(x))
    both = lambda a: ops.concatenate([mean(a), ops.max(a, axis=[1, 2])], axis=1)  # noqa: E731
    return Case(model, pictures(), layer, lambda a: head(both(a)), "conv")


def recurrent() -> Case:
    """Sixteen columns of a map are no 4x4 grid, although an LSTM makes sixteen vectors of them."""
    inputs = keras.Input((8, 16, 3))
    layer, last = conv(padding="same"), dense()
    columns = layers.Reshape((16, 8 * 6))(layers.Permute((2, 1, 3))(layer(inputs)))
    lstm = keras.Sequential([layers.LSTM(5, return_sequences=True), layers.LSTM(4)])
    model = keras.Model(inputs, last(lstm(columns)))
    head = linear(last)

    def rest(a: Any) -> Any:
        return head(lstm(ops.reshape(ops.transpose(a, [0, 2, 1, 3]), (len(a), 16, -1))))

    images = np.random.default_rng(0).random((5, 8, 16, 3), dtype=np.float32)
    return Case(model, images, layer, rest, "conv")


def shared_by_two_backbones(layer: str) -> Case:
    """The layer has a path in each; what is explained is its call in the one that is named."""
    shared, last = conv("shared", padding="same"), dense()
    inputs = keras.Input((16, 16, 3))
    first, second = (
        keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(scale), shared], name=name)
        for scale, name in ((1.0, "first"), (-0.5, "second"))
    )
    pool = layers.GlobalAveragePooling2D()
    model = keras.Model(inputs, last(layers.Concatenate()([pool(first(inputs)), pool(second(inputs))])))
    head, is_first = linear(last), layer.startswith("first")
    other = mean((second if is_first else first)(pictures()))

    def rest(a: Any) -> Any:
        return head(ops.concatenate([mean(a), other] if is_first else [other, mean(a)], axis=1))

    return Case(model, pictures(), first if is_first else second, rest, layer, {"layer": layer})


class Namesakes(keras.Model):
    """Two layers of the same name."""

    def __init__(self) -> None:
        super().__init__(name="namesakes")
        self.fine, self.coarse = conv("conv", 4), conv("conv", 6, strides=2)
        self.pool, self.head = layers.GlobalAveragePooling2D(), dense()

    def call(self, images: Any) -> Any:
        return self.head(self.pool(self.coarse(self.fine(images))))


def namesakes() -> Case:
    model = Namesakes()
    model(pictures())
    head = linear(model.head)
    return Case(model, pictures(), lambda x: model.coarse(model.fine(x)), lambda a: head(mean(a)), "conv#2")


def labels_put_together() -> Case:
    inputs = keras.Input((16, 16, 3))
    layer = conv()
    x = layers.GlobalAveragePooling2D()(layer(inputs))
    heads = [layers.Dense(1, activation="sigmoid") for _ in range(4)]
    model = keras.Model(inputs, layers.Concatenate()([head(x) for head in heads]))
    rest: Callable[[Any], Any] = lambda a: ops.concatenate([linear(head)(mean(a)) for head in heads], axis=1)  # noqa: E731
    return Case(model, pictures(), layer, rest, "conv")


def nested_twice(layer: str | None, picked: str) -> Case:
    inner = keras.Sequential([keras.Input((16, 16, 3)), conv("first"), conv("second")], name="inner")
    outer_inputs = keras.Input((16, 16, 3))
    backbone = keras.Model(outer_inputs, inner(layers.Rescaling(0.5)(outer_inputs)), name="backbone")
    inputs = keras.Input((16, 16, 3))
    model, last = pooled(inputs, backbone(inputs))
    head = linear(last)
    return Case(model, pictures(), backbone, lambda a: head(mean(a)), picked, {"layer": layer})


def frozen_backbone() -> Case:
    case = nested_twice(None, "backbone/inner/second")
    case.model.get_layer("backbone").trainable = False
    return case


class WithFunctional(keras.Model):
    """Subclassed, with a functional model and a list of layers inside."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        inputs = keras.Input((16, 16, 3))
        self.backbone = keras.Model(inputs, conv("inside")(inputs), name="backbone")
        self.last_layers = [layers.GlobalAveragePooling2D(), dense()]

    def call(self, images: Any) -> Any:
        x = self.backbone(images)
        for layer in self.last_layers:
            x = layer(x)
        return x


class Decorated(WithFunctional):
    """Its call is compiled by itself, as many people write it."""

    @compiled
    def call(self, images: Any) -> Any:
        return super().call(images)


def subclassed(kind: type[WithFunctional]) -> Case:
    model = kind()
    model(pictures())
    head = linear(model.last_layers[1])
    return Case(model, pictures(), model.backbone, lambda a: head(mean(a)), "backbone/inside")


def two_inputs(kind: type) -> Case:
    """A picture and a row of numbers, as a dict by name or as a tuple."""
    image, numbers = keras.Input((16, 16, 3), name="image"), keras.Input((2,), name="numbers")
    layer = conv()
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(layer(image)), numbers])
    last = dense()
    model = keras.Model([image, numbers], last(x))
    row = np.arange(10, dtype=np.float32).reshape(5, 2)
    inputs: Any = {"numbers": row, "image": pictures()} if kind is dict else (pictures(), row)
    head = linear(last)
    trunk: Callable[[Any], Any] = lambda given: layer(given["image"] if kind is dict else given[0])  # noqa: E731
    return Case(model, inputs, trunk, lambda a: head(ops.concatenate([mean(a), row], axis=1)), "conv")


def shared_by_two_pictures(layer: str | None, picked: str) -> Case:
    """One convolution over two pictures: each call has a map of its own."""
    left, right = (keras.Input((16, 16, 3), name=name) for name in ("left", "right"))
    shared, last = conv("conv"), dense()
    pools = [layers.GlobalAveragePooling2D()(shared(image)) for image in (left, right)]
    model = keras.Model([left, right], last(layers.Concatenate()(pools)))
    given = {"left": pictures(), "right": pictures()[::-1] * 0.5}
    asked = "left" if picked == "conv[0]" else "right"

    def head(a: Any) -> Any:
        other = mean(shared(given["right" if asked == "left" else "left"]))
        return linear(last)(ops.concatenate([mean(a), other] if asked == "left" else [other, mean(a)], axis=1))

    return Case(model, given, lambda inputs: shared(inputs[asked]), head, picked, {"layer": layer})


def called_twice_in_a_row(layer: str | None, picked: str) -> Case:
    shared = conv("conv", 3, padding="same")
    inputs = keras.Input((16, 16, 3))
    model, last = pooled(inputs, shared(shared(inputs)))
    head = linear(last)
    if picked == "conv[0]":
        return Case(model, pictures(), shared, lambda a: head(mean(shared(a))), picked, {"layer": layer})
    return Case(model, pictures(), lambda x: shared(shared(x)), lambda a: head(mean(a)), picked, {"layer": layer})


def ending(end: Callable[[Any], Any] | None, **settings: Any) -> Case:
    """Something at the end of a model; the logits are what goes into it."""
    inputs = keras.Input((16, 16, 3))
    layer, last = conv(), dense(**({"activation": None} | settings))
    logits = last(layers.GlobalAveragePooling2D()(layer(inputs)))
    model = keras.Model(inputs, logits if end is None else end(logits))
    head = linear(last)
    return Case(model, pictures(), layer, lambda a: head(mean(a)), "conv")


def half_precision(policy: str, close: float) -> Case:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((16, 16, 3))
        layer, last = conv(), dense(activation=None, dtype="float32")
        x = last(layers.GlobalAveragePooling2D()(layer(inputs)))
        model = keras.Model(inputs, layers.Activation("softmax", dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy(before)
    assert layer.compute_dtype in ("float16", "bfloat16")
    head = linear(last)
    return Case(model, pictures(), layer, lambda a: head(mean(ops.cast(a, "float32"))), "conv", close=close)


def with_layers_for_training() -> Case:
    """Augmentation, dropout and batch normalisation inside the model: at rest when it predicts."""
    last, norm, layer = dense(), layers.BatchNormalization(name="norm"), layers.Conv2D(6, 3, name="conv")
    relu, drop = layers.ReLU(name="relu"), layers.SpatialDropout2D(0.5)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.RandomFlip(),
            layers.RandomRotation(0.3),
            layers.GaussianNoise(1.0),
            *(layer, norm, relu, drop),
            *(layers.GlobalAveragePooling2D(), layers.Dropout(0.5), last),
        ]
    )
    head = linear(last)
    return Case(model, pictures(), lambda x: relu(norm(layer(x), training=False)), lambda a: head(mean(a)), "relu")


def one_dimension() -> Case:
    inputs = keras.Input((40, 2))
    layer = layers.Conv1D(6, 5, strides=2, activation="relu", name="conv")
    model, last = pooled(inputs, layer(inputs))
    signals = np.random.default_rng(0).normal(size=(5, 40, 2)).astype(np.float32)
    head = linear(last)
    return Case(model, signals, layer, lambda a: head(mean(a)), "conv")


def three_dimensions() -> Case:
    inputs = keras.Input((6, 12, 10, 1))
    layer = layers.Conv3D(6, 3, activation="relu", name="conv")
    last = dense()
    model = keras.Model(inputs, last(layers.Flatten()(layer(inputs))))
    volumes = np.random.default_rng(0).random((5, 6, 12, 10, 1), dtype=np.float32)
    head = linear(last)
    return Case(model, volumes, layer, lambda a: head(ops.reshape(a, (len(a), -1))), "conv")


class ConvChannelsFirst(layers.Layer):
    """A channels-first convolution that runs on a CPU, where TensorFlow has none of its own."""

    data_format = "channels_first"

    def __init__(self) -> None:
        super().__init__(name="conv")
        self.convolution = layers.Conv2D(6, 3, data_format="channels_last")

    def call(self, images: Any) -> Any:
        return ops.transpose(self.convolution(ops.transpose(images, [0, 2, 3, 1])), [0, 3, 1, 2])


def channels_first() -> Case:
    inputs = keras.Input((3, 16, 12))
    layer, relu, last = ConvChannelsFirst(), layers.ReLU(name="relu"), dense()
    model = keras.Model(inputs, last(layers.Flatten()(relu(layer(inputs)))))
    head = linear(last)
    return Case(
        model,
        np.random.default_rng(0).random((5, 3, 16, 12), dtype=np.float32),
        lambda x: relu(layer(x)),
        lambda a: head(ops.reshape(a, (len(a), -1))),
        "relu",
        as_map=lambda a: np.moveaxis(a, 1, -1),
    )


class ClassToken(layers.Layer):
    """Puts a learned token before the others, and tells the places apart."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="normal")
        self.places = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), initializer="normal")

    def call(self, tokens: Any) -> Any:
        first = ops.repeat(self.token, ops.shape(tokens)[0], axis=0)
        return ops.concatenate([first, tokens], axis=1) + self.places

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], shape[1] + 1, shape[2])


class Block(layers.Layer):
    """A transformer's block, with its attention."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.norm1, self.norm2 = layers.LayerNormalization(name="norm1"), layers.LayerNormalization(name="norm2")
        self.attention = layers.MultiHeadAttention(2, 4, name="attention")
        self.mlp = keras.Sequential([layers.Dense(16, activation="gelu"), layers.Dense(8)], name="mlp")

    def rest(self, x: Any, normed: Any) -> Any:
        x = x + self.attention(normed, normed)
        return x + self.mlp(self.norm2(x))

    def call(self, x: Any) -> Any:
        return self.rest(x, self.norm1(x))


def vision_transformer(*, size: tuple[int, int] = (16, 16), class_token: bool) -> Case:
    """Patches of 4x4, two blocks, and a head on the class token or on the mean of the tokens."""
    inputs = keras.Input((*size, 3))
    embed = layers.Conv2D(8, 4, strides=4, name="patches")
    grid = (size[0] // 4, size[1] // 4)
    tokens = layers.Reshape((grid[0] * grid[1], 8))(embed(inputs))
    extra = ClassToken(name="class_token")
    if class_token:
        tokens = extra(tokens)
    blocks = [Block("block0"), Block("block1")]
    before = blocks[0](tokens)
    last_norm, last = layers.LayerNormalization(name="last_norm"), dense()
    x = last_norm(blocks[1](before))
    head = linear(last)
    if class_token:
        model = keras.Model(inputs, last(x[:, 0]))
        # The patches' tokens no longer matter after the last attention: its input is the last place to look.
        entry = keras.Model(inputs, before)
        return Case(
            model,
            pictures(size=size[0]),
            lambda images: blocks[1].norm1(entry(images)),
            lambda a: head(last_norm(blocks[1].rest(entry(pictures(size=size[0])), a))[:, 0]),
            "block1/norm1",
            as_map=lambda a: a[:, 1:].reshape(len(a), *grid, 8),
        )
    model = keras.Model(inputs, last(layers.GlobalAveragePooling1D()(x)))
    images = np.random.default_rng(1).random((5, *size, 3), dtype=np.float32)
    return Case(
        model,
        images,
        keras.Model(inputs, x),
        lambda a: head(ops.mean(a, axis=1)),
        "last_norm",
        as_map=lambda a: a.reshape(len(a), *grid, 8),
    )


def by_given_grid() -> Case:
    """Tokens that do not say their grid: 12 of them, with two others before."""
    inputs = keras.Input((16, 16, 3))
    tokens = layers.Dense(8, activation="relu", name="tokens")(layers.Reshape((48, 16))(inputs)[:, :14])
    model, last = pooled(inputs, tokens)
    head = linear(last)
    return Case(
        model,
        pictures(),
        keras.Model(inputs, tokens),
        lambda a: head(mean(a)),
        "tokens",
        {"grid": (3, 4), "layer": "tokens"},
        as_map=lambda a: a[:, 2:].reshape(len(a), 3, 4, 8),
    )


CASES: dict[str, Callable[[], Case]] = {
    "flattened": flattened,
    "a layer in the middle": in_the_middle,
    "global maximum pooling": maximum_pooling,
    "mean and maximum": mean_and_maximum,
    "columns for an LSTM": recurrent,
    "shared by two backbones, in the first": lambda: shared_by_two_backbones("first/shared"),
    "shared by two backbones, in the second": lambda: shared_by_two_backbones("second/shared"),
    "two layers of one name": namesakes,
    "sigmoids put together": labels_put_together,
    "a grouped convolution and a resizing after it": grouped_and_enlarged,
    "nested twice": lambda: nested_twice(None, "backbone/inner/second"),
    "nested twice, by path": lambda: nested_twice("backbone/inner/second", "backbone/inner/second"),
    "nested twice, by name": lambda: nested_twice("second", "backbone/inner/second"),
    "nested twice, the inner model": lambda: nested_twice("backbone/inner", "backbone/inner"),
    "nested twice, the backbone": lambda: nested_twice("backbone", "backbone"),
    "a frozen backbone": frozen_backbone,
    "subclassed with a functional model": lambda: subclassed(WithFunctional),
    "subclassed with a compiled call": lambda: subclassed(Decorated),
    "two inputs by name": lambda: two_inputs(dict),
    "two inputs in order": lambda: two_inputs(tuple),
    "shared by two pictures": lambda: shared_by_two_pictures(None, "conv[0]"),
    "shared, the first call": lambda: shared_by_two_pictures("conv[0]", "conv[0]"),
    "shared, by its name": lambda: shared_by_two_pictures("conv", "conv[0]"),
    "called twice in a row": lambda: called_twice_in_a_row(None, "conv[1]"),
    "called twice in a row, the first": lambda: called_twice_in_a_row("conv[0]", "conv[0]"),
    "logits": lambda: ending(None),
    "a Softmax layer": lambda: ending(layers.Softmax()),
    "an Activation layer": lambda: ending(layers.Activation("softmax")),
    "keras.ops.softmax": lambda: ending(keras.ops.softmax),
    "log_softmax": lambda: ending(layers.Activation("log_softmax")),
    "sigmoids of many labels": lambda: ending(None, activation="sigmoid"),
    "mixed_float16": lambda: half_precision("mixed_float16", 2e-3),
    "mixed_bfloat16": lambda: half_precision("mixed_bfloat16", 2e-2),
    "layers for training": with_layers_for_training,
    "Conv1D": one_dimension,
    "Conv3D": three_dimensions,
    "channels first": channels_first,
    "a vision transformer": lambda: vision_transformer(class_token=False),
    "a wide vision transformer": lambda: vision_transformer(size=(8, 24), class_token=False),
    "a vision transformer with a class token": lambda: vision_transformer(class_token=True),
    "tokens with a given grid": by_given_grid,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield CASES[request.param]()
    keras.backend.clear_session()


def test_maps_are_those_of_a_trunk_and_a_head(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """The right layer is found; its maps are finite float32 and those of the pieces; nothing is said or left behind."""
    expected = maps_by_hand(case, CLASSES)
    before = {id(layer): set(layer.__dict__) for layer in case.model._flatten_layers()}
    caplog.clear()  # TensorFlow 2.18 warns of what the pieces do
    explainer = Explainer(case.model, **case.settings)
    probes = ProbeSet(case.inputs, targets=CLASSES, pictures=case.pictures)
    explanation = explainer(probes)
    assert explanation.layer == case.picked
    assert explanation.maps.dtype == np.float32
    assert expected.max() > 1e-4
    np.testing.assert_allclose(explanation.maps, expected, atol=case.close * expected.max())
    np.testing.assert_array_equal(explainer(probes).maps, explanation.maps)
    assert not caplog.records
    logits = np.asarray(case.head(case.trunk(case.inputs)))
    np.testing.assert_allclose(explanation.scores, logits[:, CLASSES], atol=20 * case.close)
    assert explanation.score_kind == "logit"
    assert explanation.overlays().shape == (*explanation.maps.shape[:2], *probes.pictures.shape[1:])
    assert {id(layer): set(layer.__dict__) for layer in case.model._flatten_layers()} == before


@pytest.mark.parametrize(
    "end",
    [
        lambda logits: keras.ops.softmax(logits) ** (1 / 2),
        lambda logits: keras.ops.clip(keras.ops.softmax(logits), 1e-3, 0.999),
        lambda logits: layers.Rescaling(0.9, 0.025)(layers.Softmax()(logits)),
    ],
    ids=["temperature", "clipping", "smoothing"],
)
def test_what_follows_a_softmax_makes_probabilities(
    end: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the logits cannot be had the probability is explained, as by hand, and one warning says so."""
    case = ending(end)
    logits = case.head
    case.head = lambda a: end(logits(a))
    explanation = explain(case.model, pictures(), targets=CLASSES)
    assert explanation.score_kind == "probability"
    np.testing.assert_allclose(explanation.maps, maps_by_hand(case, CLASSES), atol=1e-6)
    np.testing.assert_array_equal(explanation.probabilities, explanation.scores)
    warnings = [record for record in caplog.records if record.levelname == "WARNING" and "softmax" in record.message]
    assert len(warnings) == 1


@pytest.mark.usefixtures("long")
def test_a_head_that_starts_from_zero_does_not_hide_where_to_look() -> None:
    """A class-token transformer with a new head of zeros is explained where it will look when it has learned."""
    case = vision_transformer(class_token=True)
    last = case.model.layers[-1]
    last.kernel.assign(last.kernel * 0)
    assert Explainer(case.model).prepare(case.inputs).layers[0].path == "block1/norm1"


def test_two_layers_of_one_name_must_be_told_apart() -> None:
    """Their common name is not enough, and the message says how they are called."""
    with pytest.raises(ValueError, match=r"2 layers are named 'conv'. Name one by its path: 'conv#1', 'conv#2'"):
        explain(namesakes().model, pictures(), layer="conv")


def test_threads_that_trace_one_model_leave_it_as_it_was() -> None:
    """Three at once give the same maps, and no layer stays wrapped."""
    case = flattened()
    maps: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: maps.append(explain(case.model, pictures()).maps)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any("call" in layer.__dict__ for layer in case.model._flatten_layers())
    assert len(maps) == 3
    assert all(np.array_equal(one, maps[0]) for one in maps)


def test_losses_that_layers_add_are_not_left_behind() -> None:
    """A tensor of the traced graph in model.losses would break whoever adds them up."""
    inputs = keras.Input((16, 16, 3))
    model, _ = pooled(inputs, conv(activity_regularizer="l2")(inputs))
    model(pictures())
    before = [float(loss) for loss in model.losses]
    for method in ("gradcam", "scorecam"):  # that runs the model again
        explain(model, pictures(), method=method)
    Explainer(model).confidences(pictures(), ProbeSet(pictures(), targets=[1]).target_matrix)
    assert [float(loss) for loss in model.losses] == before


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("kind", ["pooled", "transformer", "recurrent"])
def test_a_picture_has_the_same_map_alone_and_among_others(kind: str) -> None:
    """Whatever number of pictures is explained first: the layer is the same, too."""
    inputs = keras.Input((16, 16, 3))
    if kind == "pooled":
        model, _ = pooled(inputs, conv()(inputs))
    else:
        x = layers.Reshape((16, 8))(layers.Conv2D(8, 4, strides=4)(inputs))
        if kind == "transformer":
            x = ClassToken()(x)
            for _ in range(2):
                seen = layers.LayerNormalization()(x)
                x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(seen, seen)])
            model = keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(x)[:, 0]))
        else:
            model = keras.Model(inputs, layers.Dense(3)(layers.LSTM(4)(x)))
    for counts in ((5, 1, 2), (1, 5)):
        explainer = Explainer(model, grid=(4, 4))
        found = [explainer(ProbeSet(pictures(count), targets=[0, 1])) for count in counts]
        most = max(found, key=lambda one: len(one.maps))
        assert {one.layer for one in found} == {most.layer}
        for one in found:
            expected = most.maps[: len(one.maps)]
            np.testing.assert_allclose(one.maps, expected, atol=1e-5 * most.maps.max())


def test_two_ways_that_a_function_joins_are_explained() -> None:
    """`logaddexp` has a gradient of its own on JAX: what is inside of it cannot be differentiated by."""

    class Joined(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = conv("first"), conv("second"), layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.head(mean(ops.logaddexp(self.first(x), self.second(x))))

    model = Joined()
    model(pictures())
    found = explain(model, pictures(), targets=[1])
    assert (found.health == "ok").all()
    assert "first" in found.layer or "second" in found.layer


def test_layers_that_are_asked_for_twice_or_share_what_is_differentiated() -> None:
    """The mean of a map and itself is that map."""
    inputs = keras.Input((16, 16, 3))
    model, _ = pooled(inputs, conv()(inputs))
    once, twice = (explain(model, pictures(), layer=layer).maps for layer in ("conv", ["conv", "conv"]))
    np.testing.assert_allclose(twice, once / once.max(axis=(2, 3), keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("end", "kind", "has_probabilities"),
    [
        (lambda x: layers.Dense(4, activation="log_softmax")(x), "logit", True),
        (lambda x: layers.Dense(4)(x) * 5 * keras.ops.sigmoid(layers.Dense(4)(x)), "logit", False),
        (lambda x: layers.Dense(4, activation="sigmoid")(x) * 100, "probability", False),
        (lambda x: layers.Average()([layers.Dense(4, activation="softmax")(x) for _ in range(2)]), "probability", True),
        (lambda x: layers.Dense(4, activation="relu")(x), "logit", False),
    ],
    ids=["log_softmax", "a gate", "a scaled sigmoid", "an ensemble", "ReLU"],
)
def test_what_is_no_probability_is_not_called_one(
    end: Callable[[Any], Any], kind: str, has_probabilities: bool
) -> None:
    """Probabilities are in [0, 1], or None."""
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, end(layers.GlobalAveragePooling2D()(conv()(inputs))))
    explanation = explain(model, pictures(), targets=[0, 1, 2, 3])
    assert explanation.score_kind == kind
    assert (explanation.probabilities is not None) == has_probabilities
    if has_probabilities:
        np.testing.assert_allclose(explanation.probabilities.sum(axis=1), 1, atol=1e-5)
