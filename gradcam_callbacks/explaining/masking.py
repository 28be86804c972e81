"""What methods that mask or occlude need: how each score changes when parts of the picture are taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.methods import occludes
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.state import write
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.inputs import Inputs, picture_of, with_picture

Tensor = Any


def changes_of_scores(
    asked: Request,
    batch: Inputs,
    view: View | Video,
    targets: Tensor,
    *,
    before: Sequence[Tensor],
    channels_first: bool,
) -> Tensor:
    """How each score changes with what is left of the picture.

    For methods that mask: how much the places of each channel bring by themselves. Wang et al. 2020, "Score-CAM",
    definition 3: f(X * up(s(A^k))) - f(X_b) with s a scaling to [0, 1] and, as the baseline X_b, zeros.

    For methods that occlude: how much is lost without each place, f(X) - f(X * m + mean(X) * (1 - m)) with m zero in
    the part of the picture that belongs to the place, and the mean of each channel over the whole picture.

    Args:
        asked: what is explained.
        batch: what the model is fed.
        view: of the layer whose C channels are the masks, or whose grid has the places.
        targets: (N, K, 2), without `PREDICTED`.
        before: the values of `Request.written` that each prediction begins with.
        channels_first: whether the picture's channels come first.

    Returns:
        (N, K + F, C), or (N, K + F, *grid) where the method occludes.
    """
    images = picture_of(batch, asked.picture)
    size = images.shape[2:] if channels_first else images.shape[1:-1]
    at_once = asked.at_once
    hides_places = occludes(asked.method)
    count = math.prod(view.grid) if hides_places else view.channels
    rounds = math.ceil((count + 1) / at_once)  # one mask more gives the baseline: of ones, or of zeros
    masks = None if hides_places else _masks(view, rounds * at_once)
    places = tf.constant(_places(view.grid, size))

    def of_masks(n: Tensor, turn: Tensor) -> Tensor:
        if masks is None:
            numbers = turn * at_once + tf.range(at_once)
            some = tf.cast(places != tf.reshape(numbers, (-1, *[1] * len(size))), tf.float32)
        else:
            some = _enlarged(masks[n, turn * at_once : (turn + 1) * at_once], size)
        some = tf.expand_dims(some, 1 if channels_first else -1)
        image = tf.cast(images[n], some.dtype)
        masked = image * some
        if hides_places:
            sides = range(1, 1 + len(size)) if channels_first else range(len(size))
            masked += tf.reduce_mean(image, axis=list(sides), keepdims=True) * (1 - some)
            masked = masked if tf.as_dtype(images.dtype).is_floating else tf.round(masked)
        masked = tf.ensure_shape(tf.cast(masked, images.dtype), (at_once, *images.shape[1:]))
        fed = tf.nest.map_structure(lambda tensor: tf.repeat(tensor[n : n + 1], at_once, axis=0), batch)
        fed = with_picture(fed, asked.picture, masked)
        write(asked.written, before)
        head = Head.of(asked.model, fed, asked.output, name_classes=asked.name_classes)
        return tf.cast(head.scores(tf.repeat(targets[n : n + 1], at_once, axis=0), asked.functions)[0], tf.float32)

    def of_picture(n: Tensor) -> Tensor:
        scores = _one_by_one(lambda turn: of_masks(n, turn), rounds)
        scores = tf.reshape(scores, (rounds * at_once, -1))
        rises = tf.transpose(scores[:count] - scores[count])
        return tf.reshape(-rises, (-1, *view.grid)) if hides_places else rises

    return _one_by_one(of_picture, tf.shape(images)[0])


def _one_by_one(function: Any, count: Any) -> Tensor:
    """What a function gives for 0, 1, … of `count`, never two at a time, for the memory."""
    return tf.map_fn(function, tf.range(count), fn_output_signature=tf.float32, parallel_iterations=1)


def _masks(view: View | Video, count: int) -> Tensor:
    """(N, count, *grid): the map of each channel, scaled to [0, 1], and zeros after the last of them."""
    activations = view.activations()
    axes = list(range(1, 1 + len(view.grid)))
    lowest = tf.reduce_min(activations, axis=axes, keepdims=True)
    masks = tf.math.divide_no_nan(activations - lowest, tf.reduce_max(activations, axis=axes, keepdims=True) - lowest)
    masks = tf.transpose(masks, [0, 1 + len(axes), *axes])
    return tf.pad(masks, [[0, 0], [0, count - view.channels], *[[0, 0]] * len(axes)])


def _places(grid: Sequence[int], size: Sequence[int]) -> Array:
    """(*size) int32: for each pixel the number of the place of the grid that it belongs to, in reading order."""
    along = [(np.arange(wanted) + 0.5) * have // wanted for have, wanted in zip(grid, size, strict=True)]
    numbers: Array = np.ravel_multi_index(np.meshgrid(*map(np.int64, along), indexing="ij"), tuple(grid))
    return numbers.astype(np.int32)


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(M, *grid) maps at another size, linear between the centres of the cells."""
    for axis, wanted in enumerate(size, start=1):
        have = maps.shape[axis]
        centres = np.clip((np.arange(wanted) + 0.5) * have / wanted - 0.5, 0, have - 1)
        lower = np.floor(centres).astype(int)
        weights = np.zeros((have, wanted))
        np.add.at(weights, (lower, np.arange(wanted)), 1 - (centres - lower))
        np.add.at(weights, (np.minimum(lower + 1, have - 1), np.arange(wanted)), centres - lower)
        moved = tf.tensordot(maps, tf.constant(weights, maps.dtype), [[axis], [0]])
        maps = tf.transpose(moved, [*range(axis), moved.shape.rank - 1, *range(axis, moved.shape.rank - 1)])
    return maps
