"""The states that a map can be in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcam_callbacks.arrays import Array

HEALTH: Mapping[str, str] = {
    "ok": "Some places of the map speak for the target more than others.",
    "empty": "Nothing in this layer speaks for the target: every place speaks against it or not at all. Common while "
    "the network is untrained or sure of another class; look at the probability, ask for a contrast (a, b), or try "
    "the method hirescam.",
    "flat": "All places of the map count the same: they differ by less than 5 % of its maximum, or by less than a tiny "
    "change of the input moves it. So it says nothing about where. Activations are dead or constant, "
    "batch-normalisation statistics do not fit the pictures, or the layer is too close to the pooling; try an earlier "
    "layer, and look whether the scores of two pictures differ.",
    "zero-gradient": "The score does not react to this layer at all. Its weights on the way to the score are zero, a "
    "ReLU after it is dead, or a probability is explained that is saturated; try an earlier layer, and check the "
    "learning rate.",
    "non-finite": "The score or the map is NaN or infinite, so the map was set to zero. The weights or the input have "
    "diverged: lower the learning rate, clip the gradients, or keep the last layers in float32.",
    "misplaced": "Its places are not those of the picture shown: the layer sees a part of the picture, or the picture "
    "together with its mirror image, or another input. Over the picture it would point at the wrong places, so it is "
    "drawn without colours and not measured. Name a layer whose map lies like the picture; of several pictures, name "
    "the one to explain with picture=.",
}
"""Each state with what it means and, but for "ok", what to try. Records and pages keep this order."""

HEALTHS = tuple(HEALTH)
"""The names of the states."""


def in_place(maps: Array, health: Array) -> Array:
    """The maps as they may be laid over the pictures: zero where their places are not those of the picture.

    Args:
        maps: (N, K, *grid).
        health: (N, K) str.
    """
    axes = tuple(range(2, maps.ndim))
    is_elsewhere = np.expand_dims(health == "misplaced", axes)
    return np.where(is_elsewhere, maps.dtype.type(0), maps) if is_elsewhere.any() else maps


def value_of(health: str, probability: float, score: float) -> str:
    """What stands beside the name of a map: its probability, or the score where there is none, or what is wrong."""
    if health != "ok":
        return str(health)
    return f"{probability:.2f}" if np.isfinite(probability) else f"{score:.1f}"
