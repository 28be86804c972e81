"""What methods that mask need: how much of each score the places of each channel bring by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gradcam_callbacks.explaining.engine import Forward, Run, engine
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.inputs import Inputs, each, picture_of, with_picture

Values = Any


def increases_of_scores(
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
    """How much of each score the places of each channel bring by themselves.

    Wang et al. 2020, "Score-CAM", definition 3: f(X * up(s(A^k))) - f(X_b) with s a scaling to [0, 1] and, as the
    baseline X_b, zeros.

    Args:
        asked: what is explained.
        run: of the forward pass.
        head: of the model.
        batch: what the model is fed.
        view: of the layer whose C channels are the masks.
        activations: (N, *grid, C) of it.
        targets: (N, K, 2), without `PREDICTED`.
        channels_first: whether the picture's channels come first.

    Returns:
        (N, K + F, C).
    """
    images = picture_of(batch, asked.picture)
    size = images.shape[2:] if channels_first else images.shape[1:-1]
    at_once = asked.at_once
    rounds = math.ceil((view.channels + 1) / at_once)  # one mask more, of zeros, gives the baseline
    masks = _masks(view, activations, rounds * at_once)

    def read(forward: Forward) -> tuple[Any, Any]:
        return Head.of(asked.model, forward, asked.output, name_classes=asked.name_classes).tensors

    def of_masks(masks_of_one: Values, inputs_of_one: Inputs, targets_of_one: Values) -> Values:
        some = _enlarged(masks_of_one, size)
        image = picture_of(inputs_of_one, asked.picture)
        masked = ops.cast(image, some.dtype)[None] * ops.expand_dims(some, 1 if channels_first else -1)
        masked = ops.reshape(ops.cast(masked, image.dtype), (at_once, *images.shape[1:]))
        fed = each(lambda array: ops.repeat(array[None], at_once, axis=0), inputs_of_one)
        masked_head = head.of_numbers(*run.again(with_picture(fed, asked.picture, masked), read))
        return ops.cast(
            masked_head.scores(ops.repeat(targets_of_one[None], at_once, axis=0), asked.functions)[0], "float32"
        )

    like = keras.KerasTensor((None, None), "float32")

    def of_picture(given: tuple[Values, Inputs, Values]) -> Values:
        own, inputs_of_one, targets_of_one = given
        by_round = ops.reshape(own, (rounds, at_once, *view.grid))
        scores = engine.one_by_one(
            lambda some: of_masks(some, inputs_of_one, targets_of_one),
            by_round,
            keras.KerasTensor((at_once, None), "float32"),
        )
        scores = ops.reshape(scores, (rounds * at_once, ops.shape(scores)[-1]))
        return ops.transpose(scores[: view.channels] - scores[view.channels])

    return engine.one_by_one(of_picture, (masks, batch, targets), like)


def _masks(view: View | Video, activations: Values, count: int) -> Values:
    """(N, count, *grid): the map of each channel, scaled to [0, 1], and zeros after the last of them."""
    axes = tuple(range(1, 1 + len(view.grid)))
    lowest = ops.min(activations, axis=axes, keepdims=True)
    masks = ops.divide_no_nan(activations - lowest, ops.max(activations, axis=axes, keepdims=True) - lowest)
    masks = ops.transpose(masks, [0, 1 + len(axes), *axes])
    return ops.pad(masks, [[0, 0], [0, count - view.channels], *[[0, 0]] * len(axes)])


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
