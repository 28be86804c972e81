"""What methods that mask or occlude need: how each score changes when parts of the picture are taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.engines.engine import Forward, Run, engine
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.methods import occludes
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.inputs import Inputs, each, picture_of, with_picture

Values = Any


def changes_of_scores(
    asked: Request,
    run: Run,
    head: Head,
    batch: Inputs,
    view: View | Video,
    activations: Values,
    targets: Values,
    *,
    channels_first: bool,
) -> Values:
    """How each score changes with what is left of the picture.

    For methods that mask: how much the places of each channel bring by themselves. Wang et al. 2020, "Score-CAM",
    definition 3: f(X * up(s(A^k))) - f(X_b) with s a scaling to [0, 1] and, as the baseline X_b, zeros.

    For methods that occlude: how much is lost without each place, f(X) - f(X * m + mean(X) * (1 - m)) with m zero in
    the part of the picture that belongs to the place, and the mean of each channel over the whole picture.

    Args:
        asked: what is explained.
        run: of the forward pass.
        head: of the model.
        batch: the numbers that the model is fed.
        view: of the layer whose C channels are the masks, or whose grid has the places.
        activations: (N, *grid, C) of it.
        targets: (N, K, 2), without `PREDICTED`.
        channels_first: whether the picture's channels come first.

    Returns:
        (N, K + F, C), or (N, K + F, *grid) where the method occludes.
    """
    images = picture_of(batch, asked.picture)
    size = images.shape[2:] if channels_first else images.shape[1:-1]
    sides = tuple(range(1, 1 + len(size)) if channels_first else range(len(size)))
    at_once = asked.at_once
    hides_places = occludes(asked.method)
    count = math.prod(view.grid) if hides_places else view.channels
    rounds = math.ceil((count + 1) / at_once)  # one mask more gives the baseline: of ones, or of zeros
    masks = None if hides_places else _masks(view, activations, rounds * at_once)

    def read(forward: Forward) -> tuple[Any, Any]:
        return Head.of(asked.model, forward, asked.output, name_classes=asked.name_classes).tensors

    def masked(image: Values, turn: Values, own: Values) -> Values:
        """(at_once, *size, channels): the picture as each mask of a turn leaves it."""
        if hides_places:
            numbers = ops.reshape(turn * at_once + ops.arange(at_once), (-1, *[1] * len(size)))
            some = ops.cast(ops.not_equal(_places(view.grid, size), numbers), "float32")
        else:
            some = _enlarged(own[turn], size)
        some = ops.expand_dims(some, 1 if channels_first else -1)
        wide = ops.cast(image, some.dtype)
        left = wide * some
        if hides_places:
            left += ops.mean(wide, axis=sides, keepdims=True) * (1 - some)
            is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(image.dtype))
            left = left if is_float else ops.round(left)
        return ops.reshape(ops.cast(left, image.dtype), (at_once, *images.shape[1:]))

    def of_picture(given: tuple[Inputs, Values, Values]) -> Values:
        inputs_of_one, targets_of_one, own = given
        own = None if hides_places else ops.reshape(own, (rounds, at_once, *view.grid))
        repeated = each(lambda array: ops.repeat(array[None], at_once, axis=0), inputs_of_one)
        targets_repeated = ops.repeat(targets_of_one[None], at_once, axis=0)

        def of_turn(turn: Values) -> Values:
            image = masked(picture_of(inputs_of_one, asked.picture), turn, own)
            another = head.of_numbers(*run.again(with_picture(repeated, asked.picture, image), read))
            return ops.cast(another.scores(targets_repeated, asked.functions)[0], "float32")

        scores = engine.one_by_one(of_turn, ops.arange(rounds), keras.KerasTensor((at_once, None), "float32"))
        scores = ops.reshape(scores, (rounds * at_once, ops.shape(scores)[-1]))
        rises = ops.transpose(scores[:count] - scores[count])
        return ops.reshape(-rises, (-1, *view.grid)) if hides_places else rises

    like = keras.KerasTensor((None, *(view.grid if hides_places else (count,))), "float32")
    return engine.one_by_one(of_picture, (batch, targets, targets if masks is None else masks), like)


def _masks(view: View | Video, activations: Values, count: int) -> Values:
    """(N, count, *grid): the map of each channel, scaled to [0, 1], and zeros after the last of them."""
    axes = tuple(range(1, 1 + len(view.grid)))
    lowest = ops.min(activations, axis=axes, keepdims=True)
    masks = ops.divide_no_nan(activations - lowest, ops.max(activations, axis=axes, keepdims=True) - lowest)
    masks = ops.transpose(masks, [0, 1 + len(axes), *axes])
    return ops.pad(masks, [[0, 0], [0, count - view.channels], *[[0, 0]] * len(axes)])


def _places(grid: Sequence[int], size: Sequence[int]) -> Array:
    """(*size) int32: for each pixel the number of the place of the grid that it belongs to, in reading order."""
    along = [(np.arange(wanted) + 0.5) * have // wanted for have, wanted in zip(grid, size, strict=True)]
    numbers: Array = np.ravel_multi_index(np.meshgrid(*map(np.int64, along), indexing="ij"), tuple(grid))
    return numbers.astype(np.int32)


def _enlarged(maps: Values, size: Sequence[int]) -> Values:
    """(M, *grid) maps at another size, linear between the centres of the cells."""
    for axis, wanted in enumerate(size, start=1):
        have = maps.shape[axis]
        centres = np.clip((np.arange(wanted) + 0.5) * have / wanted - 0.5, 0, have - 1)
        lower = np.floor(centres).astype(int)
        weights = np.zeros((have, wanted))
        np.add.at(weights, (lower, np.arange(wanted)), 1 - (centres - lower))
        np.add.at(weights, (np.minimum(lower + 1, have - 1), np.arange(wanted)), centres - lower)
        maps = ops.moveaxis(ops.tensordot(maps, ops.cast(weights, maps.dtype), axes=[[axis], [0]]), -1, axis)
    return maps
