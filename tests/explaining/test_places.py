"""Place ij of a map is place ij of the picture shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import IS_TENSORFLOW, needs_tensorflow

from gradcam_callbacks import Explanation, GradCAMError, explain

Array = np.ndarray[Any, np.dtype[Any]]


class Custom(keras.layers.Layer):
    """A layer whose code is a function, of no known operations' kind for Keras."""

    def __init__(self, function: Callable[[Any], Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)


if IS_TENSORFLOW:
    import tensorflow as tf
else:
    import jax


def mirrored(x: Any) -> Any:
    """Pictures of 16x32 mirrored by an operation that is not followed."""
    x = ops.cast(x, "float32")
    if not IS_TENSORFLOW:  # a loop over the columns
        return ops.moveaxis(jax.lax.map(lambda column: x[:, :, column], ops.arange(31, -1, -1)), 0, 2)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=tf.constant([[-1.0, 0, 31, 0, 1, 0, 0, 0]]),
        output_shape=[16, 32],
        interpolation="NEAREST",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def conv(name: str | None = None, filters: int = 6, size: int = 3, **settings: Any) -> layers.Layer:
    return layers.Conv2D(filters, size, padding="same", activation="relu", name=name, **settings)


def ending_in(inputs: Any, maps: Any) -> keras.Model:
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(maps)))


def stroke(rows: slice, columns: slice, shape: tuple[int, int] = (16, 32)) -> Array:
    """A dark picture with a bright patch."""
    picture = np.zeros((1, *shape, 3), np.float32)
    picture[:, rows, columns] = 1
    return picture


def centre(model: keras.Model, picture: Array, **settings: Any) -> tuple[Array, Explanation]:
    """Where the heatmaps of three classes together lie, as shares of height and width."""
    explained = explain(model, picture, targets=[(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)], **settings)
    heat = explained.heatmaps()[0].sum(axis=0)
    places = [(np.arange(side) + 0.5) / side for side in heat.shape]
    return np.array([(heat.sum(axis=1 - n) * places[n]).sum() / heat.sum() for n in (0, 1)]), explained


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda x: x,
    "height and width exchanged by Permute": layers.Permute((2, 1, 3)),
    "height and width exchanged in code": lambda x: ops.swapaxes(x, 1, 2),
    "mirrored": lambda x: ops.flip(x, axis=2),
    "mirrored by a slice": lambda x: x[:, ::-1],
    "turned by half": lambda x: x[:, ::-1, ::-1],
    "turned by a quarter": lambda x: ops.rot90(x, axes=(1, 2)),
    "mirrored twice": lambda x: ops.flip(ops.flip(x, axis=1), axis=1),
    "cells to channels by hand": lambda x: ops.reshape(
        ops.transpose(ops.reshape(x, (-1, 8, 2, 16, 2, 3)), (0, 1, 3, 2, 4, 5)), (-1, 8, 16, 12)
    ),
    "every second cell": lambda x: x[:, ::2, 1::2],
    "enlarged": layers.UpSampling2D(2),
    "enlarged by resizing": lambda x: ops.image.resize(x, (24, 48)),
    "halves changed and put back": lambda x: ops.concatenate([x[:, :, :16] * 1.0, x[:, :, 16:] * 1.0], axis=2),
    "padded a little": layers.ZeroPadding2D(1),
    "cut a little": layers.Cropping2D(1),
    "channels taken in another order": lambda x: x[..., ::-1],
    "gathered backwards": lambda x: ops.take(x, list(range(31, -1, -1)), axis=2),
}
if IS_TENSORFLOW:
    CHANGES |= {
        "exchanged by an Einstein sum": lambda x: tf.einsum("nhwc->nwhc", x),
        "mirrored by tf.image": lambda x: tf.image.flip_left_right(x),
        "cells to channels": lambda x: tf.nn.space_to_depth(x, 2),
        "enlarged by tf.image": lambda x: tf.image.resize(x, (24, 48)),
        "gathered backwards by tf.gather": lambda x: tf.gather(x, list(range(31, -1, -1)), axis=2),
    }


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("corner", [(slice(1, 5), slice(22, 28)), (slice(10, 14), slice(2, 8))])
def test_the_heat_lies_on_the_stroke(change: str, corner: tuple[slice, slice]) -> None:
    """Whatever a model does to the picture before its convolution: the map lies on the stroke in the picture shown."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 32, 3))
    function = CHANGES[change]
    changed = function(inputs) if isinstance(function, keras.layers.Layer) else Custom(function)(inputs)
    found, explained = centre(ending_in(inputs, conv("conv", use_bias=False)(changed)), stroke(*corner))
    assert explained.layer == "conv"
    assert set(explained.health.ravel()) <= {"ok", "empty"}
    wanted = [(side.start + side.stop) / 2 / size for side, size in zip(corner, (16, 32), strict=True)]
    np.testing.assert_allclose(found, wanted, atol=0.1)


MISPLACED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "the middle cut out": (lambda x: x[:, 4:12, 8:24], "cover its height from 25% to 75% only"),
    "a half": (lambda x: x[:, :, 16:], "cover its width from 50% to 100% only"),
    "much added": (layers.ZeroPadding2D(8), "cover its height from -50% to 150% only"),
    "moved in a circle": (lambda x: ops.roll(x, 8, axis=2), "are moved in a circle along its width"),
    "with its mirror image": (
        lambda x: ops.concatenate([x, ops.flip(x, axis=2)], axis=-1),
        "along its width put together what lies apart, such as the picture and its mirror image",
    ),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_a_map_that_lies_elsewhere_is_said_to_be_misplaced(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is not picked; named, it is explained with one warning, and its health is never "ok"."""
    function, sentence = MISPLACED[case]
    inputs = keras.Input((16, 32, 3))
    changed = function(inputs) if isinstance(function, keras.layers.Layer) else Custom(function)(inputs)
    model = ending_in(inputs, conv("conv")(changed))
    with pytest.raises(GradCAMError, match="no spatial layer to explain") as refused:
        explain(model, stroke(slice(0, 9), slice(0, 9)))
    assert f"'conv': its places {sentence}" in str(refused.value)
    explained = explain(model, stroke(slice(0, 16), slice(0, 32)), layer="conv", targets=[0, 1, 2])
    assert "ok" not in explained.health
    assert "misplaced" in explained.health
    assert f"The places of layer 'conv' {sentence}, so its maps are misplaced." in caplog.messages


def test_what_is_not_understood_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    """Behind an operation that nobody knows, the gradient by the picture says whether the map lies as the picture."""
    inputs = keras.Input((16, 32, 3))
    for function, is_right in ((mirrored, False), (lambda x: mirrored(mirrored(x)), True)):
        model = ending_in(inputs, conv("conv")(Custom(function)(inputs)))
        explained = explain(model, stroke(slice(0, 16), slice(0, 32)), layer="conv", targets=[0, 1, 2])
        assert ("misplaced" not in explained.health) == is_right
    assert "do not follow the picture along its width, as a measurement shows" in caplog.text


@needs_tensorflow
def test_a_part_that_is_enlarged_is_misplaced() -> None:
    """`tf.image`'s scaling and moving is followed with its numbers."""

    def moved(x: Any) -> Any:
        return tf.raw_ops.ScaleAndTranslate(
            images=x, size=[16, 32], scale=[1.0, 1.0], translation=[8.0, 0.0], kernel_type="triangle", antialias=False
        )

    inputs = keras.Input((16, 32, 3))
    model = ending_in(inputs, conv("conv")(Custom(moved)(inputs)))
    explained = explain(model, stroke(slice(0, 16), slice(0, 32)), layer="conv", targets=[0, 1, 2])
    assert "ok" not in explained.health
    assert "cover its height from -50% to 50% only" in explained.notes[0]


@needs_tensorflow
def test_a_part_that_is_cut_out_with_numbers_of_its_own_is_measured() -> None:
    """`crop_and_resize` to seven tenths of the picture: its map lies elsewhere by more than is tolerated."""

    def cropped(x: Any) -> Any:
        boxes = tf.repeat(tf.constant([[0.3, 0.3, 1.0, 1.0]]), tf.shape(x)[0], axis=0)
        return tf.ensure_shape(
            tf.image.crop_and_resize(x, boxes, tf.range(tf.shape(x)[0]), (16, 32)), (None, 16, 32, 3)
        )

    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 32, 3))
    model = ending_in(inputs, conv("conv")(Custom(cropped)(inputs)))
    assert "ok" not in explain(model, stroke(slice(0, 16), slice(0, 32)), layer="conv", targets=[0, 1, 2]).health


def test_whole_numbers_are_measured_once_they_are_real() -> None:
    """A picture of uint8 has no gradient; what the model makes of it first has."""
    inputs = keras.Input((16, 32, 3), dtype="uint8")
    model = ending_in(inputs, conv("conv")(Custom(mirrored)(inputs)))
    picture = np.random.default_rng(0).integers(0, 255, (1, 16, 32, 3), np.uint8)
    assert "ok" not in explain(model, picture, layer="conv", targets=[0, 1, 2]).health


@pytest.mark.usefixtures("long")
def test_a_layer_that_is_measured_elsewhere_gives_way_to_an_earlier_one() -> None:
    """The last layer lies behind a mirror that nobody knows; the one before it is explained."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 32, 3))
    model = ending_in(inputs, conv("second")(Custom(mirrored)(conv("first")(inputs))))
    explained = explain(model, stroke(slice(0, 16), slice(0, 32)), targets=[0, 1, 2])
    assert explained.layer == "first"
    assert "misplaced" not in explained.health
