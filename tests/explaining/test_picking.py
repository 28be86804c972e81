"""What is explained where no layer is named: the last map that all of the score goes through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import by_numpy, compiled, gradient, looped

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet, explain

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES = [0, 1, 2]


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def conv(name: str, size: int = 3, filters: int = 6, activation: str = "relu") -> layers.Layer:
    return layers.Conv2D(filters, size, padding="same", activation=activation, name=name)


def pooled_maps(features: Any, kernel: Any) -> Array:
    """Grad-CAM in closed form where the features are averaged and weighted: relu(A w) / places."""
    places = int(np.prod(features.shape[1:3]))
    maps: Array = np.maximum(np.einsum("nhwc,ck->nkhw", np.asarray(features), np.asarray(kernel)) / places, 0)
    return maps


def close(ours: Array, right: Array) -> None:
    np.testing.assert_allclose(ours, right, rtol=0, atol=1e-5 * right.max())


# ---- Ways side by side ----


class Joined(keras.Model):
    """Several ways from the picture to one mean, joined in code."""

    def __init__(self, join: Callable[[dict[str, Any], Any], Any]) -> None:
        super().__init__()
        self.parts = {"stem": conv("stem"), "one": conv("one"), "two": conv("two", 5), "gate": conv("gate", 3, 1)}
        self.join, self.dense = join, layers.Dense(3)

    def build(self, shape: Any) -> None:
        for name, part in self.parts.items():
            part.build((None, 16, 16, 6 if name == "gate" else 3))
        self.dense.build((None, self.features(ops.zeros((1, 16, 16, 3))).shape[-1]))

    def features(self, images: Any) -> Any:
        return self.join(self.parts, images)

    def call(self, images: Any) -> Any:
        return self.dense(ops.mean(self.features(images), (1, 2)))


JOINED: dict[str, tuple[Callable[[dict[str, Any], Any], Any], str]] = {
    "a gate": (lambda part, x: (f := part["stem"](x)) * part["gate"](f), "gate>Mul"),
    "a concatenation": (lambda part, x: ops.concatenate([part["one"](x), part["two"](x)], -1), "two>Concat"),
    "a gate with a way past it": (lambda part, x: (f := part["one"](x)) + f * part["gate"](f), "gate>Add"),
    "the larger of two": (lambda part, x: ops.maximum(part["one"](x), part["two"](x)), "two>Maximum"),
    "a layer after the sum": (lambda part, x: part["stem"](part["one"](x)[..., :3] + x), "stem"),
}


@pytest.mark.parametrize("case", JOINED)
def test_ways_joined_in_code_are_explained_where_they_are_joined(case: str) -> None:
    """The maps are those of the joined features, in closed form, and can be asked for by the name that is said."""
    keras.utils.set_random_seed(4)
    join, name = JOINED[case]
    model, images = Joined(join), noise(2, 16, 16, 3)
    model(images)
    explained = explain(model, images, targets=CLASSES)
    assert explained.layer == name
    assert explained.notes == ()
    right = pooled_maps(model.features(images), model.dense.kernel)
    close(explained.maps, right)
    close(explain(model, images, targets=CLASSES, layer=name).maps, right)


@pytest.mark.parametrize("size", [3, 5])
def test_networks_that_are_averaged_are_fused(size: int) -> None:
    """An ensemble has no map that all of the score goes through; those of its networks are fused, as layer=[…] does."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 3))
    networks = [
        keras.Sequential(
            [keras.Input((16, 16, 3)), conv("last", width), layers.GlobalAveragePooling2D(), layers.Dense(3)], name=name
        )
        for name, width in (("first", 3), ("second", size))
    ]
    model = keras.Model(inputs, layers.Average()([network(inputs) for network in networks]))
    images = noise(2, 16, 16, 3)
    explained = explain(model, images, targets=CLASSES)
    assert set(explained.layer.split(" + ")) == {"first/last", "second/last"}
    np.testing.assert_array_equal(
        explained.maps, explain(model, images, targets=CLASSES, layer=explained.layer.split(" + ")).maps
    )


def test_two_backbones_of_one_picture_are_fused() -> None:
    """Joined as vectors they have no map in common."""
    inputs = keras.Input((16, 16, 3))
    ways = [layers.GlobalAveragePooling2D()(conv(name, size)(inputs)) for name, size in (("fine", 1), ("coarse", 5))]
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(ways)))
    assert set(explain(model, noise(1, 16, 16, 3)).layer.split(" + ")) == {"fine", "coarse"}


def test_a_stem_in_common_is_what_all_goes_through() -> None:
    """Two ways that part after a layer have that layer in common; those that come later are named."""
    inputs = keras.Input((16, 16, 3))
    stem = conv("stem")(inputs)
    ways = [layers.GlobalAveragePooling2D()(conv(name, size)(stem)) for name, size in (("fine", 1), ("coarse", 5))]
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(ways)))
    explained = explain(model, noise(1, 16, 16, 3))
    assert explained.layer == "stem"
    assert explained.notes == (
        "All of the score goes through layer 'stem'. Side by side after it are 'coarse', 'fine'; "
        "layer=['coarse', 'fine'] fuses these.",
    )


@pytest.mark.parametrize("kind", ["circular", "replicated"])
def test_padding_with_parts_of_the_picture_itself_keeps_its_places(kind: str) -> None:
    """Panoramas are padded with their other end: the last layer is explained, and its map lies on the picture."""

    def padded(x: Any) -> Any:
        ends = (x[:, :, -1:], x[:, :, :1]) if kind == "circular" else (x[:, :, :1], x[:, :, -1:])
        return ops.concatenate([ends[0], x, ends[1]], axis=2)

    inputs = keras.Input((16, 32, 3))
    h = inputs
    for name in ("one", "two", "three"):
        h = layers.Lambda(padded)(h)
        h = layers.ZeroPadding2D((1, 0))(h)
        h = layers.Conv2D(6, 3, activation="relu", name=name)(h)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(h)))
    explained = explain(model, noise(1, 16, 32, 3))
    assert (explained.layer, explained.maps.shape[2:], explained.notes) == ("three", (16, 32), ())


def test_a_side_that_became_channels_leaves_a_map_of_the_other() -> None:
    """Columns in an order of their own are no places; the rows are."""
    inputs = keras.Input((16, 16, 3))
    mixed = layers.Lambda(lambda x: ops.take(x, [n // 2 for n in range(16)], axis=2))(inputs)
    h = layers.Conv2D(6, (3, 1), padding="same", activation="relu", name="conv")(mixed)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(h)))
    explained = explain(model, noise(1, 16, 16, 3))
    assert explained.maps.shape[2:] in ((16, 1), (16, 16))
    assert explained.layer == "conv"


# ---- Several pictures ----


def siamese() -> keras.Model:
    keras.utils.set_random_seed(1)
    encoder = keras.Sequential(
        [keras.Input((16, 16, 3)), conv("conv"), layers.GlobalAveragePooling2D()], name="encoder"
    )
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    return keras.Model([left, right], layers.Dense(3)(layers.Concatenate()([encoder(left), encoder(right)])))


@pytest.mark.parametrize(("picture", "layer"), [("left", "encoder/conv[0]"), ("right", "encoder/conv[1]")])
@pytest.mark.parametrize("named", [None, "conv"])
def test_the_map_is_of_the_picture_that_is_shown(picture: str, layer: str, named: str | None) -> None:
    """`picture=` names it. The map changes with that picture and with no other, as a change of each shows."""
    model = siamese()
    images = {"left": noise(2, 16, 16, 3), "right": noise(2, 16, 16, 3)[::-1]}
    explained = explain(model, images, targets=CLASSES, picture=picture, layer=named)
    assert (explained.layer, explained.probes.picture_key) == (layer, picture)
    assert set(explained.health.ravel()) <= {"ok", "empty"}
    for key in images:
        changed = explain(model, images | {key: 1 - images[key]}, targets=CLASSES, picture=picture, layer=named)
        assert bool((changed.maps != explained.maps).any()) == (key == picture)


def test_a_map_of_another_picture_is_misplaced(caplog: pytest.LogCaptureFixture) -> None:
    """Named with its number it is explained, and never called right."""
    images = {"left": noise(2, 16, 16, 3), "right": noise(2, 16, 16, 3)}
    explained = explain(siamese(), images, targets=CLASSES, layer="conv[1]")
    assert "ok" not in explained.health
    sentence = "The places of layer 'encoder/conv[1]' are those of input 'right', not of 'left', which is shown"
    assert sentence in caplog.text
    assert any(sentence in note for note in explained.notes)


@pytest.mark.usefixtures("long")
def test_the_branch_of_the_picture_shown_is_explained_in_any_order() -> None:
    """[depth, rgb], each with a network of its own: the one that is called last is not taken for the other."""
    for first in ("depth", "rgb"):
        inputs = {name: keras.Input((16, 16, channels), name=name) for name, channels in (("depth", 1), ("rgb", 3))}
        order = [first, *({"depth", "rgb"} - {first})]
        ways = [layers.GlobalAveragePooling2D()(conv(f"of_{name}")(inputs[name])) for name in order]
        model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(ways)))
        images = {"depth": noise(1, 16, 16, 1), "rgb": noise(1, 16, 16, 3)}
        for picture in images:
            assert explain(model, images, picture=picture).layer == f"of_{picture}"


def test_a_picture_that_is_none_of_the_inputs_is_refused() -> None:
    """The message names those that are."""
    with pytest.raises(GradCAMError, match=r"no picture 'rgb'; their pictures: 'left', 'right'.*picture="):
        ProbeSet({"left": noise(1, 8, 8, 3), "right": noise(1, 8, 8, 3)}, picture="rgb")
    with pytest.raises(GradCAMError, match=r"There is one input, so none is chosen. Leave picture=None"):
        ProbeSet(noise(1, 8, 8, 3), picture="rgb")
    one, other = (ProbeSet({"a": noise(1, 8, 8, 3), "b": noise(1, 8, 8, 3)}, picture=key) for key in "ab")
    assert one.digest != other.digest


# ---- Text lines and spectrograms ----


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("pooling", ["pooled", "averaged"])
def test_the_steps_of_a_text_line_run_along_its_width(pooling: str) -> None:
    """CNN to height 1, Permute, LSTM: the map has a row of 12 places, and the last ones lie at the right."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 48, 1))
    h = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(inputs)
    if pooling == "pooled":
        h = layers.Permute((2, 1, 3))(layers.MaxPooling2D((8, 4))(h))
        h = layers.Reshape((12, 6))(h)
    else:
        h = ops.mean(layers.MaxPooling2D((1, 4))(h), axis=1)
    lstm = layers.LSTM(5, return_sequences=True, name="lstm")(h)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(lstm)))
    images = np.zeros((1, 8, 48, 1), np.float32)
    images[:, :, 40:44] = 5
    explained = explain(model, images, targets=[(0, 1), (1, 0)])
    assert explained.maps.shape == (1, 2, 1, 12)
    heat = explained.heatmaps()[0]
    np.testing.assert_array_equal(np.ptp(heat, axis=1), 0)
    steps = np.asarray(keras.Model(inputs, lstm)(images))[0]
    weights = np.asarray(model.layers[-1].kernel) / 12
    close(explained.maps[0, 0, 0], np.maximum(steps @ (weights[:, 0] - weights[:, 1]), 0))


def test_where_nothing_better_is_there_one_side_will_do() -> None:
    """Rows of a spectrogram as the channels of a Conv1D: its map has steps along the width alone."""
    inputs = keras.Input((16, 32, 1))
    steps = layers.Permute((2, 1))(layers.Reshape((16, 32))(inputs))
    h = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv")(steps)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(h)))
    explained = explain(model, noise(1, 16, 32, 1), targets=CLASSES)
    assert (explained.layer, explained.maps.shape) == ("conv", (1, 3, 1, 32))


# ---- Tokens ----


class Embed(layers.Layer):
    """Patches as tokens after a class token, flattened with or without their number."""

    def __init__(self, is_static: bool) -> None:
        super().__init__(name="embed")
        self.is_static = is_static
        self.patch = layers.Conv2D(8, 4, 4, name="patch")

    def build(self, shape: Any) -> None:
        self.patch.build(shape)
        self.count = (shape[1] // 4) * (shape[2] // 4)
        self.token = self.add_weight(shape=(1, 1, 8), initializer="normal")
        self.place = self.add_weight(shape=(1, self.count + 1, 8), initializer="normal")

    def call(self, x: Any) -> Any:
        h = self.patch(x)
        h = ops.reshape(h, (-1, self.count, 8) if self.is_static else (ops.shape(h)[0], -1, 8))
        return ops.concatenate([ops.repeat(self.token, ops.shape(h)[0], 0), h], 1) + self.place

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], (shape[1] // 4) * (shape[2] // 4) + 1, 8)


def transformer(is_static: bool, shape: tuple[int, int]) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((*shape, 3))
    h = Embed(is_static)(inputs)
    for block in range(2):
        n = layers.LayerNormalization(name=f"norm1_{block}")(h)
        h = layers.Add()([h, layers.MultiHeadAttention(2, 4, name=f"attention_{block}")(n, n)])
        n = layers.LayerNormalization(name=f"norm2_{block}")(h)
        h = layers.Add()([h, layers.Dense(8, "gelu", name=f"mlp_{block}")(n)])
    return keras.Model(inputs, layers.Dense(5)(layers.LayerNormalization(name="last")(h)[:, 0]))


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(("shape", "grid"), [((16, 16), (4, 4)), ((8, 32), (2, 8)), ((12, 20), (3, 5))])
def test_tokens_lie_where_their_patches_did(shape: tuple[int, int], grid: tuple[int, int]) -> None:
    """Flattened with "-1" or with a number, in pictures of any proportions: the last block's first norm, same maps."""
    images = noise(2, *shape, 3)
    static, dynamic = (explain(transformer(is_static, shape), images, targets=[0, 1]) for is_static in (True, False))
    assert (static.layer, dynamic.layer) == ("norm1_1", "norm1_1")
    assert static.maps.shape == dynamic.maps.shape == (2, 2, *grid)
    assert set(static.health.ravel()) <= {"ok", "empty"}
    np.testing.assert_allclose(static.maps, dynamic.maps, rtol=1e-5, atol=1e-8)
    asked = explain(transformer(False, shape), images, targets=[0, 1], grid=grid)
    np.testing.assert_array_equal(asked.maps, dynamic.maps)
    assert dynamic.notes == ()


def test_a_grid_that_is_not_that_of_the_patches_is_refused() -> None:
    """Where it is known how the tokens lie, no other grid is drawn."""
    with pytest.raises(GradCAMError, match=r"tokens are those of a grid of 2x8\. Say .* grid="):
        explain(transformer(False, (8, 32)), noise(1, 8, 32, 3), layer="norm1_1", grid=(4, 4))


def test_a_guess_of_the_grid_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing tells how tokens lie, a grid in the picture's proportions is a guess, in words and in the notes."""

    class Triangular(layers.Layer):
        """Tokens that come out of an operation of which nothing is known."""

        def call(self, x: Any) -> Any:
            return ops.qr(ops.reshape(x, (-1, 24, 8)))[1]

    inputs = keras.Input((8, 16, 3))
    patches = layers.Conv2D(24, 4, 4, name="patch")(inputs)
    tokens = layers.Dense(6, "relu", name="mixed")(Triangular()(patches))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(tokens)))
    explained = explain(model, noise(1, 8, 16, 3), layer="mixed")
    assert explained.maps.shape[2:] == (2, 4)
    note = explained.notes[0]
    assert note == (
        "The 8 tokens of layer 'mixed' are read as a grid of 2x4: a guess from their number and the picture's "
        "proportions."
    )
    assert note in caplog.messages


# ---- Videos, and inputs without channels ----


@pytest.mark.usefixtures("long")
def test_the_frames_of_a_video_are_one_map() -> None:
    """TimeDistributed: a map (time, height, width), the gradient averaged over all of it."""
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((16, 16, 3)), conv("conv"), layers.GlobalAveragePooling2D()], name="cnn")
    lstm, dense = layers.LSTM(4), layers.Dense(3)
    model = keras.Sequential([keras.Input((5, 16, 16, 3)), layers.TimeDistributed(network, name="frames"), lstm, dense])
    videos = noise(2, 5, 16, 16, 3)
    explained = explain(model, videos, targets=CLASSES)
    assert explained.layer == "frames/cnn/conv"
    activations = ops.reshape(network.layers[0](videos.reshape(-1, 16, 16, 3)), (2, 5, 16, 16, 6))
    score = lambda a, index: dense(lstm(ops.mean(a, (2, 3))))[:, index]  # noqa: E731
    gradients = [gradient(partial(score, index=index), activations) for index in CLASSES]
    weights = [ops.mean(one, (1, 2, 3), keepdims=True) for one in gradients]
    right = np.stack([ops.relu(ops.sum(activations * weight, -1)) for weight in weights], axis=1)
    close(explained.maps, right)
    np.testing.assert_array_equal(explain(model, videos, targets=CLASSES, layer="conv").maps, explained.maps)


def test_frames_that_are_put_into_the_batch_by_hand_are_one_map() -> None:
    """(N, time, h, w, C) reshaped to (N * time, h, w, C), a convolution, and back: its map has all three sides."""
    inputs = keras.Input((5, 16, 16, 3))
    layer = conv("conv")
    h = layer(ops.reshape(inputs, (-1, 16, 16, 3)))
    model = keras.Model(inputs, layers.Dense(3)(ops.mean(ops.reshape(h, (-1, 5, 16, 16, 6)), (1, 2, 3))))
    videos = noise(2, 5, 16, 16, 3)
    explained = explain(model, videos, targets=CLASSES, layer="conv")
    features = np.asarray(layer(videos.reshape(-1, 16, 16, 3))).reshape(2, 5, 16, 16, 6)
    kernel = np.asarray(model.layers[-1].kernel)
    close(explained.maps, np.maximum(np.einsum("nthwc,ck->nkthw", features, kernel) / (5 * 16 * 16), 0))


@pytest.mark.usefixtures("long")
def test_the_last_state_of_a_convolutional_recurrence_is_of_all_frames() -> None:
    """ConvLSTM2D without sequences: one map over height and width for the whole video."""
    model = keras.Sequential(
        [keras.Input((4, 12, 12, 1)), layers.ConvLSTM2D(4, 3, name="recurrent"), conv("conv"),
         layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )  # fmt: skip
    videos = noise(2, 4, 12, 12, 1)
    explained = explain(model, videos, targets=CLASSES)
    features = model.get_layer("conv")(model.get_layer("recurrent")(videos))
    close(explained.maps[:, :, 0], pooled_maps(features, model.layers[-1].kernel))
    assert explained.maps.shape == (2, 3, 1, 10, 10)


def test_pictures_and_signals_without_channels_are_taken_with_one() -> None:
    """A model of (28, 28) or (120,) that makes a picture or a signal of it gets (N, 28, 28, 1) or (N, 120, 1)."""

    def head() -> list[layers.Layer]:
        return [conv("conv"), layers.GlobalAveragePooling2D(), layers.Dense(3)]

    digits = keras.Sequential([keras.Input((28, 28)), layers.Reshape((28, 28, 1)), *head()])
    images = noise(2, 28, 28, 1)
    inputs = keras.Input((28, 28, 1))
    wrapped = keras.Model(inputs, digits(layers.Reshape((28, 28))(inputs)))
    explained = explain(digits, images, targets=CLASSES)
    assert explained.layer == "conv"
    np.testing.assert_array_equal(explained.maps, explain(wrapped, images, targets=CLASSES).maps)
    with pytest.raises(GradCAMError, match=r"takes its input for a picture.*images\[\.\.\., None\]"):
        explain(digits, images[..., 0])
    with pytest.raises(GradCAMError, match=r"takes its input for a picture\. Pass .*images\[\.\.\., None\]"):
        explain(digits, images[..., 0], layer="conv")
    signal = keras.Sequential(
        [keras.Input((120,)), layers.Reshape((120, 1)), layers.Conv1D(6, 5, name="conv"), layers.GlobalMaxPooling1D(),
         layers.Dense(3)]
    )  # fmt: skip
    assert explain(signal, noise(2, 120, 1)).maps.shape == (2, 1, 116)
    with pytest.raises(GradCAMError, match=r"images\[\.\.\., None\]"):
        explain(signal, noise(2, 120))


# ---- Inside of functions ----


class Compiled(keras.Model):
    """Its call is a function that XLA compiles by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.dense = conv("conv"), layers.GlobalAveragePooling2D(), layers.Dense(3)

    @compiled
    def call(self, images: Any) -> Any:
        return self.dense(self.pool(self.conv(images)))


@pytest.mark.parametrize("layer", [None, "conv"])
def test_the_inside_of_a_compiled_call_is_explained(layer: str | None) -> None:
    """The closed form, also once the function was traced before."""
    model, images = Compiled(), noise(2, 16, 16, 3)
    model(images)
    for _ in range(2):
        explained = explain(model, images, targets=CLASSES, layer=layer)
        close(explained.maps, pooled_maps(model.conv(images), model.dense.kernel))


@pytest.mark.parametrize("last", [layers.GlobalAveragePooling2D, layers.Flatten])
def test_layers_that_are_rematerialised_are_explained(last: type[layers.Layer]) -> None:
    """Under `RematScope` a layer's output has a gradient only after the operation that forgets it."""
    keras.utils.set_random_seed(2)
    pooling = last()  # Keras itself cannot rematerialise Flatten
    with keras.RematScope(mode="larger_than", output_size_threshold=10):
        inputs = keras.Input((16, 16, 3))
        h = conv("last")(conv("first")(inputs))
        model = keras.Model(inputs, layers.Dense(3)(pooling(h)))
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    images = noise(2, 16, 16, 3)
    explained = explain(model, images, targets=CLASSES)
    assert explained.layer == "last"
    features = plain.get_layer("last")(plain.get_layer("first")(images))
    kernel = np.asarray(model.layers[-1].kernel)
    weights = kernel.reshape(16, 16, 6, 3).mean(axis=(0, 1)) if last is layers.Flatten else kernel / 256
    close(explained.maps, np.maximum(np.einsum("nhwc,ck->nkhw", features, weights), 0))


class Looping(keras.Model):
    """Calls its convolution once a picture, in a loop of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = conv("conv"), layers.Dense(3)

    def call(self, images: Any) -> Any:
        return self.dense(looped(lambda image: ops.mean(self.conv(image[None]), (1, 2))[0], images, (6,)))


@pytest.mark.usefixtures("long")
def test_a_layer_inside_a_loop_is_refused_as_such() -> None:
    """Its output belongs to the loop; that is said, and not that the model is no convolutional one."""
    model, images = Looping(), noise(2, 16, 16, 3)
    model(images)
    for layer in (None, "conv"):
        with pytest.raises(GradCAMError, match="inside a loop or a branch of the graph") as refused:
            explain(model, images, layer=layer)
        assert "needs a convolutional model" not in str(refused.value)


class Bare(keras.Model):
    """Calls no layer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = self.add_weight(shape=(3, 3, 3, 6), initializer="glorot_uniform")
        self.dense = self.add_weight(shape=(6, 3), initializer="glorot_uniform")

    def call(self, images: Any) -> Any:
        features = ops.relu(ops.conv(images, self.kernel, 1, "same"))
        return ops.mean(features * ops.sigmoid(features), (1, 2)) @ self.dense


def test_a_model_without_layers_is_explained_where_its_ways_join() -> None:
    """Operations alone: the last product of the features is named by what it is."""
    model, images = Bare(), noise(2, 16, 16, 3)
    model(images)
    explained = explain(model, images, targets=CLASSES)
    features = ops.relu(ops.conv(images, model.kernel, 1, "same"))
    assert explained.layer == ">Mul"
    np.testing.assert_array_equal(explain(model, images, targets=CLASSES, layer=">Mul").maps, explained.maps)
    with pytest.raises(GradCAMError, match=r"'>Add' cannot be explained: no ways join so; where some do: '>Mul'"):
        explain(model, images, layer=">Add")
    close(explained.maps, pooled_maps(features * ops.sigmoid(features), model.dense))


# ---- The score ----


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("is_resized", [False, True])
def test_the_scored_tensor_is_no_layer_to_explain(activation: str | None, is_resized: bool) -> None:
    """A segmentation head is the score, with a softmax or without one, also where it is enlarged."""
    inputs = keras.Input((32, 32, 3))
    h = layers.Conv2D(2, 1, name="out")(conv("decoder")(inputs))
    h = layers.Resizing(64, 64)(h) if is_resized else h
    model = keras.Model(inputs, layers.Activation(activation)(h) if activation else h)
    target = lambda outputs: ops.mean(outputs[:, :8, :8, 1], (1, 2))  # noqa: E731
    assert explain(model, noise(1, 32, 32, 3), targets=[target]).layer == "decoder"


def test_a_function_s_own_score_decides() -> None:
    """Of two heads with layers of their own, each function's is picked from its own head."""
    inputs = keras.Input((16, 16, 3))
    stem = conv("stem")(inputs)
    heads = {
        name: layers.Dense(2, name=name)(layers.GlobalAveragePooling2D()(conv(f"of_{name}")(stem)))
        for name in ("one", "two")
    }
    model = keras.Model(inputs, heads)
    for name in heads:
        explained = explain(model, noise(1, 16, 16, 3), targets=[lambda outputs, name=name: outputs[name][:, 1]])
        assert explained.layer == f"of_{name}"
    both = explain(model, noise(1, 16, 16, 3), targets=[lambda outputs: outputs["one"][:, 1] + outputs["two"][:, 0]])
    assert both.layer == "stem"


def test_a_way_without_a_map_is_said() -> None:
    """Wide and deep: what goes past the convolutions, from the pixels themselves, is in no map. The notes say so."""
    inputs = keras.Input((16, 16, 3))
    deep = layers.GlobalAveragePooling2D()(conv("conv")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([deep, layers.Flatten()(inputs)])))
    explained = explain(model, noise(1, 16, 16, 3))
    assert explained.layer == "conv"
    assert explained.notes == ("Not all of the score goes through 'conv', which is explained.",)


@pytest.mark.usefixtures("long")
def test_layers_far_from_the_score_are_found_at_once() -> None:
    """Two networks side by side before a long residual head: their last maps, without a look at each block."""
    inputs = keras.Input((16, 16, 3))
    ways = [layers.GlobalAveragePooling2D()(conv(name, size)(inputs)) for name, size in (("fine", 1), ("coarse", 5))]
    h = layers.Concatenate()(ways)
    for _ in range(110):  # with two ways each, more than are ever looked at
        h = layers.Add()([h, layers.Dense(12, "relu")(h)])
    model = keras.Model(inputs, layers.Dense(3)(h))
    assert set(explain(model, noise(1, 16, 16, 3)).layer.split(" + ")) == {"fine", "coarse"}


@pytest.mark.usefixtures("long")
def test_rows_that_are_read_as_features_are_no_places() -> None:
    """An LSTM over the rows of a digit: its steps are rows, its units are no columns."""
    inputs = keras.Input((28, 28, 1))
    steps = layers.LSTM(28, return_sequences=True, name="lstm")(layers.Reshape((28, 28))(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(steps)))
    explained = explain(model, noise(1, 28, 28, 1))
    assert explained.maps.shape == (1, 1, 28, 1)
    assert explained.notes == (
        "Along the picture's width the places of layer 'lstm' were put together, so its map is the same all along it.",
    )


def test_layers_are_listed_also_where_none_is_picked() -> None:
    """Crops of the picture: each call has a map that can be asked for, and none of the whole picture."""
    inputs = keras.Input((16, 16, 3))
    shared = conv("conv")
    ways = [layers.GlobalAveragePooling2D()(shared(inputs[:, rows, :8])) for rows in (slice(0, 8), slice(8, 16))]
    model = keras.Model(inputs, layers.Dense(3)(layers.Average()(ways)))
    listed = Explainer(model).layers()
    assert [(info.path, info.picked) for info in listed if info.kind == "Conv2D"] == [
        ("conv[0]", False),
        ("conv[1]", False),
    ]
    with pytest.raises(GradCAMError, match=r"Name a layer with layer= to have its maps all the same"):
        explain(model, noise(1, 16, 16, 3))


def test_values_go_through_what_stops_gradients() -> None:
    """A stem that is frozen by `stop_gradient`: the layer after it is explained, without a word."""
    inputs = keras.Input((16, 16, 3))
    h = layers.Lambda(ops.stop_gradient)(conv("stem")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(conv("last")(h))))
    explained = explain(model, noise(1, 16, 16, 3))
    assert (explained.layer, explained.notes) == ("last", ())


def test_what_cannot_be_measured_is_said_to_be_assumed() -> None:
    """Behind a function of NumPy's nothing is known and no gradient gets through; that is in the notes."""

    def mirrored(x: Any) -> Any:
        return by_numpy(lambda batch: batch[:, :, ::-1].copy(), x)

    inputs = keras.Input((16, 16, 3))
    h = conv("conv")(layers.Lambda(mirrored, output_shape=(16, 16, 3))(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h)))
    (note,) = explain(model, noise(1, 16, 16, 3)).notes
    assert "nothing can be measured through them: it is assumed" in note


def test_what_does_not_depend_on_the_picture_is_no_map() -> None:
    """A position embedding (1, L, C) is not listed, and refused by name."""

    class Place(layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="place")
            self.embedding = layers.Embedding(16, 8, name="embedding")

        def call(self, h: Any) -> Any:
            return ops.gelu(h + self.embedding(ops.expand_dims(ops.arange(16), 0)))

    inputs = keras.Input((16, 16, 3))
    tokens = Place()(layers.Reshape((16, 8))(layers.Conv2D(8, 4, 4, name="patch")(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(tokens)))
    assert "place/embedding" not in [info.path for info in Explainer(model).layers()]
    with pytest.raises(GradCAMError, match=r"'place/embedding' cannot be explained: it does not depend on the picture"):
        explain(model, noise(1, 16, 16, 3), layer="place/embedding")


def test_no_layer_to_explain_names_the_reason_of_each() -> None:
    """The layers near the end, and why each is not taken."""
    inputs = keras.Input((16, 16, 3))
    h = layers.GlobalAveragePooling2D(name="pool", keepdims=True)(layers.Rescaling(2.0, name="scaled")(inputs))
    model = keras.Model(inputs, layers.Flatten(name="flat")(layers.Conv2D(3, 1, name="mixed")(h)))
    with pytest.raises(GradCAMError) as refused:
        explain(model, noise(1, 16, 16, 3))
    said = str(refused.value)
    assert "'flat': its output has shape (None, 3), not (batch, h, w, channels)" in said
    assert "'mixed': no axis of its shape (None, 1, 1, 3) runs along the picture any more" in said
    assert "'scaled': it is the picture itself, before any learned weights" in said
