"""How sure a model is of its targets on changed copies of pictures."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.explainer import Explainer


class Confidences:
    """How sure a model is of K targets on changed copies of N pictures.

    What is asked twice of a picture goes through the model once: the ends of the curves are the same for all maps,
    controls are the same for all targets, and some methods give the same maps.

    Attributes:
        passes: how many pictures went through the model so far.
        low: (N, K) the least confidence so far.
        high: (N, K) the greatest.
    """

    def __init__(self, explainer: Explainer, images: Array, targets: Array) -> None:
        """Takes what is asked about.

        Args:
            explainer: of the model.
            images: (N, H, W, C), what the model is fed.
            targets: (N, K, 2) classes, see `ProbeSet.target_matrix`.
        """
        self._explainer, self._targets = explainer, targets
        self._dtype = images.dtype
        self._known: list[dict[bytes, Array]] = [{} for _ in images]
        self.passes = 0
        self.low, self.high = np.full(targets.shape[:2], np.inf), np.full(targets.shape[:2], -np.inf)

    def of(self, n: int, pictures: Array) -> Array:
        """The confidence in each target of picture n on M changed copies of it.

        Args:
            n: which picture.
            pictures: (M, H, W, C) of any dtype; rounded where the model is fed whole numbers.

        Returns:
            (M, K) float32.
        """
        fed = as_fed(pictures, self._dtype)
        known = self._known[n]
        keys = [digest(picture) for picture in fed]
        new = {key: m for m, key in enumerate(keys) if key not in known}
        if new:
            asked = np.tile(self._targets[n], (len(new), 1, 1))
            found = self._explainer.confidences(fed[list(new.values())], asked)
            known.update(zip(new, found, strict=True))
            self.passes += len(new)
            self.low[n] = np.fmin(self.low[n], found.min(axis=0))
            self.high[n] = np.fmax(self.high[n], found.max(axis=0))
        return np.stack([known[key] for key in keys])


def as_fed(pictures: Array, dtype: np.dtype[Any]) -> Array:
    """Changed pictures in the type that the model is fed, rounded where that is one of whole numbers."""
    return (np.rint(pictures) if dtype.kind in "ui" else pictures).astype(dtype)


def digest(array: Array) -> bytes:
    """16 bytes by which arrays of the same shape and dtype are told apart."""
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()
