"""What methods that mask need: how much of each score the places of each channel bring by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_callbacks.explaining.head import Answer
from gradcam_callbacks.explaining.views import View
from gradcam_callbacks.probes.inputs import Inputs

Tensor = Any


def increases_of_scores(
    model: keras.Model,
    batch: Inputs,
    view: View,
    targets: Tensor,
    *,
    output: str | int | None,
    functions: Sequence[Callable[[Any], Tensor]],
    name_classes: bool,
    picture: Any,
    channels_first: bool,
    at_once: int,
) -> Tensor:
    """How much of each score the places of each channel bring by themselves.

    Wang et al. 2020, "Score-CAM", definition 3: f(X * up(s(A^k))) - f(X_b) with s a scaling to [0, 1] and, as the
    baseline X_b, zeros.

    Args:
        model: what is explained.
        batch: what it is fed.
        view: of the layer whose C channels are the masks.
        targets: (N, K, 2), without `PREDICTED`.
        output: the head.
        functions: F targets that are no classes.
        name_classes: whether K may be more than 0.
        picture: the key of the picture among the inputs, which is masked.
        channels_first: whether the picture's channels come first.
        at_once: how many masked pictures go through the model at once.

    Returns:
        (N, K + F, C).
    """
    images = batch if picture is None else batch[picture]
    size = images.shape[2:] if channels_first else images.shape[1:-1]
    activations = view.activations()
    axes = list(range(1, 1 + len(view.grid)))
    lowest = tf.reduce_min(activations, axis=axes, keepdims=True)
    masks = tf.math.divide_no_nan(activations - lowest, tf.reduce_max(activations, axis=axes, keepdims=True) - lowest)
    masks = tf.transpose(masks, [0, 1 + len(axes), *axes])
    rounds = math.ceil((view.channels + 1) / at_once)  # one mask more, of zeros, gives the baseline
    masks = tf.pad(masks, [[0, 0], [0, rounds * at_once - view.channels], *[[0, 0]] * len(axes)])

    def of_picture(n: Tensor) -> Tensor:
        def of_masks(turn: Tensor) -> Tensor:
            some = _enlarged(masks[n, turn * at_once : (turn + 1) * at_once], size)
            masked = tf.cast(images[n], some.dtype) * tf.expand_dims(some, 1 if channels_first else -1)
            masked = tf.ensure_shape(tf.cast(masked, images.dtype), (at_once, *images.shape[1:]))
            fed = tf.nest.map_structure(lambda tensor: tf.repeat(tensor[n : n + 1], at_once, axis=0), batch)
            if picture is None:
                fed = masked
            elif isinstance(fed, dict):
                fed[picture] = masked
            else:
                fed = tuple(masked if key == picture else tensor for key, tensor in enumerate(fed))
            answer = Answer.of(model, fed, output, name_classes=name_classes)
            return tf.cast(answer.scores(tf.repeat(targets[n : n + 1], at_once, axis=0), functions)[0], tf.float32)

        scores = tf.map_fn(of_masks, tf.range(rounds), fn_output_signature=tf.float32, parallel_iterations=1)
        scores = tf.reshape(scores, (rounds * at_once, -1))
        return tf.transpose(scores[: view.channels] - scores[view.channels])

    return tf.map_fn(of_picture, tf.range(tf.shape(images)[0]), fn_output_signature=tf.float32, parallel_iterations=1)


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
