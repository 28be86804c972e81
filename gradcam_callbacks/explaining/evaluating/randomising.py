"""Weights that are shuffled, and given back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array


def randomised(weight: Array, rng: np.random.Generator) -> Array:
    """A weight that has forgotten what it learned, on the same scale.

    Its elements change places, so that their distribution stays and a variance stays positive. A kernel (two axes or
    more) whose elements are all the same gets normal values instead, of that magnitude, or of 1 / sqrt(fan-in) where it
    is zero. Other constants (a bias of zero, a scale of one) and whole numbers that are all the same stay.

    Args:
        weight: of any shape.
        rng: where the randomness comes from.

    Returns:
        A new array of the same shape and dtype, different from `weight` unless it is such a constant.
    """
    elements = weight.ravel()
    if (elements == elements[:1]).all():
        if weight.ndim < 2 or weight.size == 0 or weight.dtype.kind in "biu":
            return weight.copy()
        scale = abs(float(elements[0])) or math.prod(weight.shape[:-1]) ** -0.5
        return np.asarray(rng.normal(0, scale, weight.shape)).astype(weight.dtype)
    shuffled = elements
    while np.array_equal(shuffled, elements):  # of few elements, the same order may come out
        shuffled = rng.permutation(elements)
    return shuffled.reshape(weight.shape)


@contextmanager
def restored(weights: Sequence[Any]) -> Iterator[None]:
    """Gives the weights back their values at the end, whatever happened."""
    before = [weight.numpy() for weight in weights]
    try:
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
