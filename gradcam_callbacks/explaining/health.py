"""Which maps say nothing about where, because all their places count the same."""

from __future__ import annotations

from gradcam_callbacks.arrays import Array

FLAT = 0.05
"""How far the lowest place of a map lies below the highest at least, as a share of the highest; less is "flat".

`benchmarks/saying_nothing.py` measures it. A MobileNetV2 whose batch-normalisation statistics make it ignore its input
has maps of 0.015 to 0.21, the median of an epoch being 0.04 to 0.08. Of networks that are well, the least of all maps
is 0.83 (EfficientNet-Lite0 with its ImageNet weights, on photographs), 0.51 (six of `keras.applications` with random
weights), 0.21 (small ones of sigmoids, untrained) and, on a grid of 2x2, 0.06. So 5 % calls none of these flat, and not
each broken one: where the answers are the same whatever the picture, the review says that from the scores.
"""


def is_flat(maps: Array) -> Array:
    """Whether the lowest place of a map is within `FLAT` of the highest: `max - min <= FLAT * max`.

    Args:
        maps: (N, K, *grid), non-negative.

    Returns:
        (N, K) bool; True of a map that is zero everywhere, too.
    """
    axes = tuple(range(2, maps.ndim))
    highest, lowest = maps.max(axis=axes), maps.min(axis=axes)
    flat: Array = highest - lowest <= FLAT * highest
    return flat
