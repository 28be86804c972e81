"""Networks of many kinds: the layer that an expert would name, on the picture's grid, with the right values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import IS_TENSORFLOW, gradient, needs_tensorflow

from gradcam_callbacks import GradCAMError, explain

if IS_TENSORFLOW:
    import tensorflow as tf
else:
    import jax

Array = np.ndarray[Any, np.dtype[Any]]
TARGETS = (0, 1, 2)


class Code(keras.layers.Layer):
    """A layer whose code is a function; the shape of what it gives is said where Keras cannot infer it on JAX."""

    def __init__(
        self, function: Callable[..., Any], shape: tuple[int | None, ...] | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.function, self.shape = function, shape

    def compute_output_spec(self, *given: Any) -> Any:
        return keras.KerasTensor(self.shape) if self.shape else super().compute_output_spec(*given)

    def call(self, *given: Any) -> Any:
        return self.function(*given)


class ClassToken(keras.layers.Layer):
    """Tokens of its own before or after those that come in."""

    def __init__(self, count: int = 1, *, is_last: bool = False) -> None:
        super().__init__()
        self.count, self.is_last = count, is_last

    def build(self, shape: Any) -> None:
        self.tokens = self.add_weight(shape=(1, self.count, shape[-1]), initializer="normal")

    def call(self, h: Any) -> Any:
        own = ops.repeat(self.tokens, ops.shape(h)[0], 0)
        return ops.concatenate([h, own] if self.is_last else [own, h], axis=1)


@dataclass(frozen=True)
class Case:
    """A network and what is right.

    Attributes:
        model: the network.
        layer: the layer that must be picked.
        grid: of its map.
        tensor: of the layer, where the network is cut there; None where other ways lead around it.
        order: brings its output into the order (N, *grid, C).
        inputs: by name, where there are several; the first is the picture shown.
    """

    model: keras.Model
    layer: str
    grid: tuple[int, ...]
    tensor: Any = None
    order: Callable[[Array], Array] = lambda output: output
    inputs: Mapping[str, Array] | None = None


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((1, *shape), np.float32)


def conv(name: str | None = None, filters: int = 6, size: int = 3, **settings: Any) -> layers.Layer:
    return layers.Conv2D(filters, size, padding="same", activation="relu", name=name, **settings)


def flat(inputs: Any, h: Any) -> keras.Model:
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h)))


def pooled(inputs: Any, h: Any) -> keras.Model:
    mean = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D, 5: layers.GlobalAveragePooling3D}
    return keras.Model(inputs, layers.Dense(3)(mean[len(h.shape)]()(h)))


def right_maps(case: Case, inputs: Any) -> Array:
    """relu(sum over channels of the mean gradient times the activation), of the network run layer by layer."""
    if case.tensor is not None:
        activations = at = keras.Model(case.model.inputs, case.tensor)(inputs)
        scores: Callable[[Any], Any] = keras.Model(case.tensor, case.model.output)
    else:
        activations = moved(case, inputs, 0.0)[1]
        at, scores = ops.zeros_like(activations), lambda added: moved(case, inputs, added)[0]
    output, maps = case.order(ops.convert_to_numpy(activations)), []
    for target in TARGETS:
        found = gradient(lambda given, target=target: scores(given)[:, target], at)
        gradients = case.order(ops.convert_to_numpy(found))
        weights = gradients.mean(tuple(range(1, gradients.ndim - 1)), keepdims=True)
        maps.append(np.maximum((weights * output).sum(axis=-1), 0))
    return np.stack(maps, axis=1)


def moved(case: Case, inputs: Any, added: Any) -> tuple[Any, Any]:
    """The scores, and the output of the layer, after something was added to this."""
    layer, seen = case.model.get_layer(case.layer), []
    given = layer.call

    def call(*args: Any, **settings: Any) -> Any:
        seen.append(given(*args, **settings) + added)
        return seen[-1]

    layer.call = call
    try:
        return case.model(inputs), seen[-1]
    finally:
        layer.call = given


# ---- Tokens ----


def patches(inputs: Any, size: int = 4) -> Any:
    h = layers.Conv2D(8, size, size, name="patches")(inputs)
    return layers.Reshape((h.shape[1] * h.shape[2], 8))(h)


def block(h: Any, number: int) -> Any:
    n = layers.LayerNormalization(name=f"norm{number}")(h)
    h = layers.Add(name=f"attended{number}")([h, layers.MultiHeadAttention(2, 4)(n, n)])
    n = layers.LayerNormalization()(h)
    return layers.Add(name=f"out{number}")([h, layers.Dense(8, "gelu")(n)])


def tokens(cut: slice, *grid: int) -> Callable[[Array], Array]:
    return lambda output: output[:, cut].reshape(len(output), *grid, output.shape[-1])


def transformer(with_tokens: Any, head: Callable[[Any], Any], embed: Callable[[Any], Any] = patches) -> keras.Model:
    inputs = keras.Input((16, 32, 3))
    h = with_tokens(embed(inputs))
    for number in range(2):
        h = block(h, number)
    h = layers.LayerNormalization(name="last")(h)
    return keras.Model(inputs, layers.Dense(3)(head(h)))


def class_token_at_the_end() -> Case:
    """After the last attention only the class token goes on: the norm before it is explained."""
    model = transformer(ClassToken(is_last=True), lambda h: h[:, -1])
    return Case(model, "norm1", (4, 8), order=tokens(slice(0, 32), 4, 8))


def two_class_tokens() -> Case:
    """As with one, two of them are cut off."""
    model = transformer(ClassToken(2), lambda h: layers.Concatenate()([h[:, 0], h[:, 1]]))
    return Case(model, "norm1", (4, 8), order=tokens(slice(2, 34), 4, 8))


def class_tokens_at_both_ends() -> Case:
    """One is cut off at each end."""
    model = transformer(
        lambda h: ClassToken(is_last=True)(ClassToken()(h)), lambda h: layers.Concatenate()([h[:, 0], h[:, -1]])
    )
    return Case(model, "norm1", (4, 8), order=tokens(slice(1, 33), 4, 8))


def mean_of_all_tokens() -> Case:
    """The places matter up to the mean, so the last norm is explained."""
    model = transformer(ClassToken(), layers.GlobalAveragePooling1D())
    return Case(model, "last", (4, 8), order=tokens(slice(1, 33), 4, 8))


def registers_removed_for_a_class_token() -> Case:
    """Places that are put beside a class token that alone goes on do not matter there."""
    inputs = keras.Input((16, 32, 3))
    h = block(block(ClassToken(5)(patches(inputs)), 0), 1)
    h = layers.LayerNormalization(name="last")(Code(lambda t: ops.concatenate([t[:, :1], t[:, 5:]], axis=1))(h))
    model = keras.Model(inputs, layers.Dense(3)(Code(lambda t: t[:, 0])(h)))
    return Case(model, "norm1", (4, 8), order=tokens(slice(5, 37), 4, 8))


def registers_removed_for_a_mean() -> Case:
    """Where the places' mean goes on, they do."""
    inputs = keras.Input((16, 32, 3))
    h = block(block(ClassToken(5)(patches(inputs)), 0), 1)
    h = layers.LayerNormalization(name="last")(Code(lambda t: ops.concatenate([t[:, :1], t[:, 5:]], axis=1))(h))
    model = keras.Model(inputs, layers.Dense(3)(Code(lambda t: ops.mean(t[:, 1:], axis=1))(h)))
    return Case(model, "last", (4, 8), order=tokens(slice(1, 33), 4, 8))


def attention_pooling() -> Case:
    """A sum weighted by attention goes through all places."""

    def head(h: Any) -> Any:
        weights = layers.Softmax(axis=1)(layers.Dense(1)(h))
        return Code(lambda w, t: ops.matmul(ops.swapaxes(w, 1, 2), t)[:, 0])(weights, h)

    return Case(transformer(lambda h: h, head), "last", (4, 8), order=tokens(slice(0, 32), 4, 8))


def class_attention() -> Case:
    """A class token that is put in late asks the places twice: their last map is explained."""
    inputs = keras.Input((16, 32, 3))
    h = layers.LayerNormalization(name="body")(block(patches(inputs), 0))
    c = Code(lambda t: t[:, :1])(ClassToken()(h))
    for _ in range(2):
        n = layers.LayerNormalization()(layers.Concatenate(axis=1)([c, h]))
        c = layers.Add()([c, layers.MultiHeadAttention(2, 4)(Code(lambda t: t[:, :1])(n), n)])
    return Case(flat(inputs, c), "body", (4, 8), order=tokens(slice(0, 32), 4, 8))


def convolution_among_tokens() -> Case:
    """The class token is taken off, the places go through a convolution, and it is put back."""
    inputs = keras.Input((16, 32, 3))
    h = block(ClassToken()(patches(inputs)), 0)
    deep = layers.DepthwiseConv2D(3, padding="same")
    deep.build((None, 4, 8, 8))

    def mixed(t: Any) -> Any:
        of_class, places = t[:, :1], t[:, 1:]
        count = ops.shape(t)[0]
        changed = ops.reshape(deep(ops.reshape(places, (count, 4, 8, 8))), (count, -1, 8))
        return ops.concatenate([of_class, places + changed], axis=1)

    h = block(Code(mixed)(h), 1)
    model = keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(h)[:, 0]))
    return Case(model, "norm1", (4, 8), order=tokens(slice(1, 33), 4, 8))


def cut_by_hand() -> Case:
    """Patches cut with a reshape and a transposition, without a class token."""

    def embed(x: Any) -> Any:
        def cut(t: Any) -> Any:
            t = ops.transpose(ops.reshape(t, (-1, 4, 4, 8, 4, 3)), (0, 1, 3, 2, 4, 5))
            return ops.reshape(t, (-1, 32, 48))

        return layers.Dense(8)(Code(cut)(x))

    model = transformer(lambda h: h, layers.GlobalAveragePooling1D(), embed)
    return Case(model, "last", (4, 8), order=tokens(slice(0, 32), 4, 8))


def cut_into_pieces_of_rows() -> Case:
    """Without the transposition each token is a half of one row: the grid is 16x2."""
    embed = [Code(lambda t: ops.reshape(t, (-1, 32, 48))), layers.Dense(8)]
    model = transformer(lambda h: h, layers.GlobalAveragePooling1D(), lambda x: embed[1](embed[0](x)))
    return Case(model, "last", (16, 2), order=tokens(slice(0, 32), 16, 2))


def unfolded_by_keras(t: Any, width: int, step: int, padding: str) -> Any:
    return ops.image.extract_patches(t, width, step, padding=padding)


def unfolded_by_tensorflow(t: Any, width: int, step: int, padding: str) -> Any:
    return tf.image.extract_patches(t, [1, width, width, 1], [1, step, step, 1], [1, 1, 1, 1], padding.upper())


def cut(unfolded: Callable[..., Any] = unfolded_by_keras) -> Case:
    """`ops.image.extract_patches`."""

    def embed(x: Any) -> Any:
        return layers.Dense(8)(layers.Reshape((32, 48))(Code(lambda t: unfolded(t, 4, 4, "valid"))(x)))

    model = transformer(ClassToken(), lambda h: h[:, 0], embed)
    return Case(model, "norm1", (4, 8), order=tokens(slice(1, 33), 4, 8))


def cut_by_tensorflow() -> Case:
    """`tf.image.extract_patches`."""
    return cut(unfolded_by_tensorflow)


def overlapping_patches(unfolded: Callable[..., Any] = unfolded_by_keras) -> Case:
    """Tokens to tokens: windows that overlap, twice."""
    inputs = keras.Input((16, 32, 3))
    h = layers.Dense(8)(layers.Reshape((32, 147))(Code(lambda t: unfolded(t, 7, 4, "same"))(inputs)))
    h = Code(lambda t: unfolded(ops.reshape(t, (-1, 4, 8, 8)), 3, 2, "same"))(block(h, 0))
    h = layers.LayerNormalization(name="last")(block(layers.Dense(8)(layers.Reshape((8, 72))(h)), 1))
    return Case(pooled(inputs, h), "last", (2, 4), h, tokens(slice(0, 8), 2, 4))


def overlapping_patches_by_tensorflow() -> Case:
    """The same with `tf.image.extract_patches`."""
    return overlapping_patches(unfolded_by_tensorflow)


def shuffled_tokens() -> Case:
    """Tokens taken in any order are no places: the last map before is explained."""
    order = np.random.default_rng(0).permutation(32)
    inputs = keras.Input((16, 32, 3))
    h = layers.Conv2D(8, 4, 4, name="patches")(inputs)
    t = Code(lambda t: ops.take(t, order, axis=1))(layers.Reshape((32, 8))(h))
    return Case(flat(inputs, layers.Dense(6, "relu")(t)), "patches", (4, 8), h)


def taken(t: Any, places: Any) -> Any:
    return ops.take_along_axis(t, places[..., None], axis=1)


def the_best_tokens(gathered: Callable[[Any, Any], Any] = taken) -> Case:
    """Nor are those that a score selects."""
    inputs = keras.Input((16, 32, 3))
    h = block(patches(inputs), 0)

    def best(t: Any) -> Any:
        return gathered(t, ops.top_k(ops.sum(t * t, -1), 16)[1])

    model = pooled(inputs, block(Code(best)(h), 1))
    return Case(model, "out0", (4, 8), h, tokens(slice(0, 32), 4, 8))


def the_best_tokens_gathered_by_tensorflow() -> Case:
    """The same with `tf.gather`."""
    return the_best_tokens(lambda t, places: tf.gather(t, places, batch_dims=1))


def the_best_tokens_sorted() -> Case:
    """The same with an order of all."""
    inputs = keras.Input((16, 32, 3))
    h = block(patches(inputs), 0)
    sort = Code(lambda t: taken(t, ops.argsort(ops.sum(t * t, -1), axis=-1)[:, :16]))
    return Case(pooled(inputs, block(sort(h), 1)), "out0", (4, 8), h, tokens(slice(0, 32), 4, 8))


def latents() -> Case:
    """Learned queries are no places: the tokens that they ask are explained."""

    class Latents(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.queries = self.add_weight(shape=(1, 16, 8))
            self.attention = layers.MultiHeadAttention(2, 4)
            self.attention.build((None, 16, 8), shape)

        def call(self, h: Any) -> Any:
            return self.attention(ops.repeat(self.queries, ops.shape(h)[0], 0), h)

    inputs = keras.Input((16, 32, 3))
    h = layers.LayerNormalization(name="asked")(patches(inputs))
    return Case(pooled(inputs, block(Latents()(h), 0)), "asked", (4, 8), h, tokens(slice(0, 32), 4, 8))


def mixer() -> Case:
    """Places mixed through a dense layer of another size, and added to themselves."""
    inputs = keras.Input((16, 32, 3))
    h = patches(inputs)
    t = layers.Dense(32)(layers.Dense(64, "gelu")(layers.Permute((2, 1))(layers.LayerNormalization()(h))))
    h = layers.LayerNormalization(name="last")(layers.Add()([h, layers.Permute((2, 1))(t)]))
    return Case(pooled(inputs, h), "last", (4, 8), h, tokens(slice(0, 32), 4, 8))


def fourier_mixer() -> Case:
    """Frequencies are no places, but what they are added to is."""
    inputs = keras.Input((16, 32, 3))
    h = patches(inputs)
    mixed = Code(lambda t: t + ops.fft2((t, ops.zeros_like(t)))[0])(h)
    h = layers.LayerNormalization(name="last")(mixed)
    return Case(pooled(inputs, h), "last", (4, 8), h, tokens(slice(0, 32), 4, 8))


def shifted_windows() -> Case:
    """Moved in a circle, cut into windows, and all undone."""

    def windows(t: Any) -> Any:
        t = ops.reshape(ops.roll(t, (-2, -2), (1, 2)), (-1, 2, 4, 2, 4, 8))
        return ops.reshape(ops.transpose(t, (0, 1, 3, 2, 4, 5)), (-1, 16, 8))

    def undone(t: Any) -> Any:
        t = ops.transpose(ops.reshape(t, (-1, 2, 2, 4, 4, 8)), (0, 1, 3, 2, 4, 5))
        return ops.roll(ops.reshape(t, (-1, 8, 8, 8)), (2, 2), (1, 2))

    inputs = keras.Input((16, 16, 3))
    h = layers.Conv2D(8, 2, 2)(inputs)
    w = Code(windows)(layers.LayerNormalization()(h))
    h = layers.Add()([h, Code(undone, (None, 8, 8, 8))(layers.MultiHeadAttention(2, 4)(w, w))])
    h = layers.LayerNormalization(name="last")(h)
    return Case(pooled(inputs, h), "last", (8, 8), h)


def pooled_in_windows() -> Case:
    """Windows that are pooled before they are put back."""

    def cut(t: Any) -> Any:
        return ops.reshape(ops.transpose(ops.reshape(t, (-1, 2, 8, 2, 8, 3)), (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 3))

    def back(t: Any) -> Any:
        return ops.reshape(ops.transpose(ops.reshape(t, (-1, 2, 2, 4, 4, 6)), (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 6))

    inputs = keras.Input((16, 16, 3))
    h = layers.ReLU(name="last")(Code(back, (None, 8, 8, 6))(layers.MaxPooling2D(2)(conv()(Code(cut)(inputs)))))
    return Case(flat(inputs, h), "last", (8, 8), h)


def pooled_tokens() -> Case:
    """Two tokens beside each other become one: half as many columns."""
    inputs = keras.Input((16, 32, 3))
    h = layers.Dense(6, "relu", name="last")(layers.MaxPooling1D(2)(patches(inputs)))
    return Case(flat(inputs, h), "last", (4, 4), h, tokens(slice(0, 16), 4, 4))


def tokens_of_two_pictures() -> Case:
    """In one sequence: those of the other picture are cut off."""
    shown, other = keras.Input((16, 32, 3), name="shown"), keras.Input((16, 32, 3), name="other")
    embed = keras.Sequential([keras.Input((16, 32, 3)), layers.Conv2D(8, 4, 4), layers.Reshape((32, 8))])
    h = layers.LayerNormalization(name="last")(block(layers.Concatenate(axis=1)([embed(other), embed(shown)]), 0))
    inputs = {"shown": noise(16, 32, 3), "other": noise(16, 32, 3, seed=1)}
    return Case(pooled([shown, other], h), "last", (4, 8), h, tokens(slice(32, 64), 4, 8), inputs)


# ---- Convolutions ----


def space_to_channels() -> Case:
    """Every second cell, four times, in channels."""
    inputs = keras.Input((16, 32, 3))
    parts = Code(lambda t: ops.concatenate([t[:, a::2, b::2] for a in (0, 1) for b in (0, 1)], axis=-1))(inputs)
    h = conv("last")(parts)
    return Case(flat(inputs, h), "last", (8, 16), h)


def channels_to_space_by_hand() -> Case:
    """Sub-pixel convolution."""

    def shuffled(t: Any) -> Any:
        t = ops.transpose(ops.reshape(t, (-1, 8, 16, 2, 2, 6)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(t, (-1, 16, 32, 6))

    inputs = keras.Input((16, 32, 3))
    h = conv("last")(Code(shuffled)(layers.MaxPooling2D(2)(conv(filters=24)(inputs))))
    return Case(flat(inputs, h), "last", (16, 32), h)


def scrambled_by_a_reshape() -> Case:
    """The same without the transposition puts cells side by side that lie apart: the map before is explained."""
    inputs = keras.Input((16, 32, 3))
    h = conv("first", filters=24)(inputs)
    return Case(flat(inputs, conv()(layers.Reshape((16, 32, 6))(layers.MaxPooling2D(2)(h)))), "first", (16, 32), h)


def modulated_by_metadata() -> Case:
    """Scale and shift of each channel come from other data."""
    picture, meta = keras.Input((16, 24, 3), name="picture"), keras.Input((4,), name="meta")
    scale, shift = (layers.Reshape((1, 1, 6))(layers.Dense(6)(meta)) for _ in range(2))
    h = layers.ReLU(name="last")(layers.Add()([layers.Multiply()([conv()(picture), scale]), shift]))
    inputs = {"picture": noise(16, 24, 3), "meta": noise(4)}
    return Case(flat([picture, meta], h), "last", (16, 24), h, inputs=inputs)


def two_gates() -> Case:
    """A gate of channels, then one of places: their last product is explained."""
    inputs = keras.Input((16, 32, 3))
    h = conv()(inputs)
    h = layers.Multiply()([h, layers.Reshape((1, 1, 6))(layers.Dense(6, "sigmoid")(layers.GlobalMaxPooling2D()(h)))])
    gate = layers.Conv2D(1, 7, padding="same", activation="sigmoid")(Code(lambda t: ops.max(t, -1, keepdims=True))(h))
    h = layers.Multiply(name="last")([h, gate])
    return Case(pooled(inputs, h), "last", (16, 32), h)


def experts() -> Case:
    """Mixed with weights of their own."""
    inputs = keras.Input((16, 16, 3))
    stem = conv()(inputs)
    weights = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(stem))
    mixed = Code(lambda w, *e: ops.einsum("nk,knhwc->nhwc", w, ops.stack(e)), name="mixed")
    h = mixed(weights, *[conv()(stem) for _ in range(3)])
    return Case(pooled(inputs, h), "mixed", (16, 16), h)


def chosen(choice: Any, of_all: Any) -> Any:
    return ops.take_along_axis(of_all, ops.reshape(ops.argmax(choice, -1), (-1, 1, 1, 1, 1)), axis=1)[:, 0]


def one_expert_of_three(select: Callable[[Any, Any], Any] = chosen) -> Case:
    """Selected by what it says itself."""
    inputs = keras.Input((16, 16, 3))
    stem = conv()(inputs)
    choice = layers.Dense(3)(layers.GlobalAveragePooling2D()(stem))
    selected = Code(lambda c, *e: select(c, ops.stack(e, 1)), name="selected")
    h = selected(choice, *[conv()(stem) for _ in range(3)])
    return Case(flat(inputs, h), "selected", (16, 16), h)


def one_expert_gathered_by_tensorflow() -> Case:
    """The same with `tf.gather`."""
    return one_expert_of_three(lambda c, of_all: tf.gather(of_all, tf.argmax(c, -1), axis=1, batch_dims=1))


def dilated() -> Case:
    """On a picture whose sides are no multiples of the dilation."""
    inputs = keras.Input((37, 53, 3))
    h = conv("last", dilation_rate=2)(conv(dilation_rate=3)(inputs))
    return Case(flat(inputs, h), "last", (37, 53), h)


def atrous_pyramid() -> Case:
    """Branches of several dilations and the mean of the picture, joined and projected."""
    inputs = keras.Input((32, 32, 3))
    h = conv()(inputs)
    branches = [conv(filters=4, dilation_rate=rate)(h) for rate in (1, 2, 4)]
    mean = layers.UpSampling2D(32)(layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(h)))
    h = conv("last", size=1)(layers.Concatenate()([*branches, mean]))
    return Case(flat(inputs, h), "last", (32, 32), h)


def transposed_convolution() -> Case:
    """Back to the picture's size."""
    inputs = keras.Input((16, 18, 3))
    h = layers.MaxPooling2D(2)(conv()(inputs))
    h = layers.Conv2DTranspose(6, 3, 2, padding="same", activation="relu", name="last")(h)
    return Case(flat(inputs, h), "last", (16, 18), h)


# ---- Signals, text lines, videos ----


def turned_spectrogram() -> Case:
    """Frequency by time comes in, time by frequency is convolved: the map lies as the picture does."""
    inputs = keras.Input((16, 32, 1))
    h = conv("last")(layers.MaxPooling2D((2, 1))(conv()(layers.Permute((2, 1, 3))(inputs))))
    return Case(flat(inputs, h), "last", (16, 16), h, lambda output: output.swapaxes(1, 2))


def lines_read_backwards() -> Case:
    """Step t of what a backward layer gives is the step t from the end."""
    inputs = keras.Input((20, 3))
    h = layers.Conv1D(6, 3, padding="same")(inputs)
    h = layers.SimpleRNN(4, return_sequences=True, go_backwards=True, name="last")(h)
    return Case(flat(inputs, h), "last", (20,), h, lambda output: output[:, ::-1])


def backwards_beside_forwards() -> Case:
    """Joined as they come, one the wrong way round, they are no map: the convolution before is explained."""
    inputs = keras.Input((20, 3))
    h = layers.Conv1D(6, 3, padding="same", name="first")(inputs)
    ways = [layers.SimpleRNN(4, return_sequences=True, go_backwards=turned)(h) for turned in (False, True)]
    return Case(flat(inputs, layers.Concatenate()(ways)), "first", (20,), h)


def recurrence_by_hand() -> Case:
    """A loop over the steps, which are stacked again."""
    own, before = layers.Dense(6), layers.Dense(6)
    own.build((None, 6))
    before.build((None, 6))

    def loop(t: Any) -> Any:
        state, states = ops.zeros_like(t[:, 0]), []
        for step in range(16):
            state = ops.tanh(own(t[:, step]) + before(state))
            states.append(state)
        return ops.stack(states, axis=1)

    inputs = keras.Input((16, 3))
    h = Code(loop, name="last")(layers.Conv1D(6, 3, padding="same")(inputs))
    return Case(flat(inputs, h), "last", (16,), h)


def causal_convolutions() -> Case:
    """Each adds cells at the beginning only; its steps are still those of the signal."""
    inputs = keras.Input((64, 3))
    h = layers.Conv1D(6, 1)(inputs)
    for rate in (1, 2, 4, 8):
        deep = layers.Conv1D(6, 3, padding="causal", dilation_rate=rate, activation="relu")(h)
        h = layers.Add(name=f"sum{rate}")([h, deep])
    return Case(pooled(inputs, h), "sum8", (64,), h)


def frames_of_a_video() -> Case:
    """One map a frame, from layers that are called on each."""
    inputs = keras.Input((5, 12, 16, 3))
    h = layers.TimeDistributed(conv(), name="first")(inputs)
    h = layers.TimeDistributed(conv(), name="last")(h)
    return Case(flat(inputs, h), "last", (5, 12, 16), h)


def volume_of_odd_sides() -> Case:
    """Pooled in two directions of three."""
    inputs = keras.Input((7, 13, 19, 1))
    h = layers.MaxPooling3D((1, 2, 2))(layers.Conv3D(6, 3, padding="same", activation="relu")(inputs))
    h = layers.Conv3D(6, 3, padding="same", activation="relu", name="last")(h)
    return Case(flat(inputs, h), "last", (7, 6, 9), h)


CASES = (
    *(class_token_at_the_end, two_class_tokens, class_tokens_at_both_ends, mean_of_all_tokens),
    *(registers_removed_for_a_class_token, registers_removed_for_a_mean, attention_pooling, class_attention),
    *(convolution_among_tokens, cut_by_hand, cut_into_pieces_of_rows, cut, overlapping_patches),
    *(
        shuffled_tokens,
        the_best_tokens,
        the_best_tokens_sorted,
        latents,
        mixer,
        fourier_mixer,
        shifted_windows,
        pooled_in_windows,
    ),
    *(pooled_tokens, tokens_of_two_pictures),
    *(space_to_channels, channels_to_space_by_hand, scrambled_by_a_reshape, modulated_by_metadata, two_gates),
    *(experts, one_expert_of_three, dilated, atrous_pyramid, transposed_convolution),
    *(turned_spectrogram, lines_read_backwards, backwards_beside_forwards, recurrence_by_hand, causal_convolutions),
    *(frames_of_a_video, volume_of_odd_sides),
)
BY_TENSORFLOW = (
    *(cut_by_tensorflow, overlapping_patches_by_tensorflow),
    *(the_best_tokens_gathered_by_tensorflow, one_expert_gathered_by_tensorflow),
)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(
    "build",
    [*CASES, *(pytest.param(build, marks=needs_tensorflow) for build in BY_TENSORFLOW)],
    ids=lambda build: build.__name__,
)
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning")
def test_the_layer_and_its_map_are_right(build: Callable[[], Case]) -> None:
    """The layer is the one that an expert would name, and its map is that of the network run layer by layer."""
    keras.utils.set_random_seed(3)
    case = build()
    inputs: Any = case.inputs or noise(*case.model.input_shape[1:])
    explained = explain(case.model, inputs, targets=list(TARGETS))
    assert (explained.layer, explained.maps.shape[2:]) == (case.layer, case.grid)
    assert set(explained.health.ravel()) <= {"ok", "empty"}
    right = right_maps(case, inputs)
    np.testing.assert_allclose(explained.maps, right, rtol=1e-4, atol=1e-5 * right.max())


def enlarged(t: Any) -> Any:
    """The upper right quarter, by an operation that is not followed."""
    if not IS_TENSORFLOW:
        rows, columns = ops.arange(32) * 20 // 64, ops.arange(32) * 30 // 32 + 30
        return t[:, rows[:, None], columns]
    boxes = tf.tile([[0.0, 0.5, 0.5, 1.0]], (tf.shape(t)[0], 1))
    return tf.image.crop_and_resize(t, boxes, tf.range(tf.shape(t)[0]), (32, 32))


def scaled(t: Any) -> Any:
    """By two; of the result a part."""
    if not IS_TENSORFLOW:
        shape, scale, move = (len(t), 32, 32, 3), ops.array([2.0, 2.0]), ops.array([-32.0, 0.0])
        return jax.image.scale_and_translate(t, shape, (1, 2), scale, move, method="linear")
    return tf.raw_ops.ScaleAndTranslate(
        images=t, size=[32, 32], scale=[2.0, 2.0], translation=[-32.0, 0.0], kernel_type="triangle", antialias=True
    )


def shuffled_cells(t: Any) -> Any:
    cells = np.random.default_rng(0).permutation(20 * 60)
    if not IS_TENSORFLOW:
        return ops.reshape(t[:, cells // 60, cells % 60], (-1, 20, 60, 3))
    order = tf.repeat(cells[None, :, None], tf.shape(t)[0], 0)
    return tf.reshape(tf.gather_nd(tf.reshape(t, (-1, 20 * 60, 3)), order, batch_dims=1), (-1, 20, 60, 3))


ELSEWHERE: dict[str, tuple[Any, str]] = {
    "a margin added": (layers.Resizing(32, 32, pad_to_aspect_ratio=True), "cover its height from -100% to 200% only"),
    "the middle cut out": (layers.Resizing(32, 32, crop_to_aspect_ratio=True), "cover its width from 33% to 67% only"),
    "a part enlarged": (scaled, "cover its height from 80% to 160% only"),
    "a quarter enlarged": (enlarged, "as a measurement shows"),
    "cells shuffled": (shuffled_cells, "as a measurement shows"),
}
if IS_TENSORFLOW:
    ELSEWHERE |= {
        "a margin added by TensorFlow": (
            lambda t: tf.image.resize_with_pad(t, 32, 32),
            "cover its height from -100% to 220% only",
        ),
    }


SHAPES = {"a part enlarged": (None, 32, 32, 3)}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_a_map_of_another_part_of_the_picture_is_never_ok(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Sizes that the network works out itself are followed; what is not understood is measured."""
    keras.utils.set_random_seed(3)
    change, sentence = ELSEWHERE[case]
    inputs = keras.Input((20, 60, 3))
    changed = change(inputs) if isinstance(change, keras.layers.Layer) else Code(change, SHAPES.get(case))(inputs)
    model = flat(inputs, conv("conv")(changed))
    explained = explain(model, noise(20, 60, 3), layer="conv", targets=list(TARGETS))
    assert "ok" not in explained.health
    assert sentence in caplog.text


def test_pictures_of_whole_numbers_are_measured_by_what_they_become() -> None:
    """Bytes have no gradient, the numbers that they are cast to have: turned by half, the map is misplaced."""
    cells = np.stack(np.meshgrid(np.arange(16)[::-1], np.arange(16)[::-1], indexing="ij"), axis=-1)

    def turned(t: Any) -> Any:
        t = ops.transpose(ops.cast(t, "float32") / 255, (1, 2, 0, 3))
        t = tf.gather_nd(t, cells) if IS_TENSORFLOW else t[cells[..., 0], cells[..., 1]]
        return ops.transpose(t, (2, 0, 1, 3))

    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    pictures = (noise(16, 16, 3) * 255).astype(np.uint8)
    for function, is_right in ((turned, False), (lambda t: turned(turned(t) * 255), True)):
        explained = explain(flat(inputs, conv("conv")(Code(function, dtype="uint8")(inputs))), pictures, layer="conv")
        assert ("misplaced" not in explained.health) == is_right


def frequencies(t: Any) -> Any:
    real, imaginary = ops.fft2((t, ops.zeros_like(t)))
    return ops.sqrt(ops.square(real) + ops.square(imaginary))


def frequencies_by_tensorflow(t: Any) -> Any:
    return tf.abs(tf.signal.rfft2d(t))


@pytest.mark.parametrize("transform", [frequencies, pytest.param(frequencies_by_tensorflow, marks=needs_tensorflow)])
def test_a_map_of_frequencies_is_refused(transform: Callable[[Any], Any]) -> None:
    """A Fourier transform leaves no places."""
    inputs = keras.Input((16, 16, 3))
    h = Code(lambda t: transform(ops.transpose(t, (0, 3, 1, 2))))(inputs)
    model = flat(inputs, conv("conv")(ops.transpose(h, (0, 2, 3, 1))))
    with pytest.raises(GradCAMError, match="no spatial layer to explain"):
        explain(model, noise(16, 16, 3))
