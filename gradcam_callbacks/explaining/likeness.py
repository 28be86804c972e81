"""What pictures of a class have in common, pixel by pixel, and other pictures do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from gradcam_callbacks.arrays import Array

_SIDE = 64  # of what is compared: pictures are reduced to this shorter side
_WINDOW, _STRIDE, _MOST_WINDOWS = 10, 2, 120
_CONTRAST = 0.06  # of the range of the pictures: the least standard deviation of a window
# A window is in common where it is found again in another picture of the class, and nowhere else.
_SAME, _BEYOND = 0.95, 0.4
_NEARLY = 0.6  # where reduced pictures are compared
_SAME_IN_PLACE = 0.9  # of a whole area, at the same place of another picture


@dataclass(frozen=True, eq=False)
class _Windows:
    """The windows of one picture, each of mean 0 and length 1."""

    values: Array
    contrast: Array
    corners: Array


class Likeness:
    """Compares pictures window by window; what is computed of a picture is kept."""

    def __init__(self, images: Array) -> None:
        """Reduces the pictures.

        Args:
            images: (N, H, W, C).
        """
        self._images = images
        self._size = images.shape[1:3]
        self._small, self._scale = _reduced(images)
        self._limit = _CONTRAST * (float(self._small.max()) - float(self._small.min()))
        self._windows: dict[int, _Windows] = {}

    def shared_areas(self, same: Sequence[int], others: Sequence[int]) -> dict[int, Array]:
        """Where each picture of a class shows what another one of them shows, and no picture of another class does.

        Args:
            same: the pictures of the class.
            others: pictures of other classes.

        Returns:
            By picture (H, W) bool; a picture without such an area is left out.
        """
        if min(self._small.shape[1:3]) <= _WINDOW:
            return {}
        areas = {}
        for n in same:
            corners = self._shared_windows(n, [m for m in same if m != n], others)
            if not len(corners):
                continue
            area = np.zeros(self._small.shape[1:3], bool)
            for y, x in corners.tolist():
                area[y : y + _WINDOW, x : x + _WINDOW] = True
            places = (
                np.minimum((np.arange(size) * self._scale).astype(int), reduced - 1)
                for size, reduced in zip(self._size, area.shape, strict=True)
            )
            areas[n] = area[np.ix_(*places)]
        return areas

    def _shared_windows(self, n: int, same: Sequence[int], others: Sequence[int]) -> Array:
        """(M, 2) the corners of the windows of a picture that another of its class has, and none of another class."""
        windows = self._of(n)
        is_asked = (windows.corners % _STRIDE == 0).all(axis=1) & (windows.contrast >= self._limit)
        asked = np.flatnonzero(is_asked)
        asked = asked[np.argsort(-windows.contrast[asked], kind="stable")][:_MOST_WINDOWS]
        within, matched = np.full(len(asked), -1.0), np.zeros((len(asked), 3), int)
        for m in same:
            found, corners = self._found(windows.values[asked], m)
            is_better = found > within
            within = np.where(is_better, found, within)
            matched[is_better] = np.concatenate([np.full((len(asked), 1), m), corners], axis=1)[is_better]
        if self._scale < 1:  # reduced pictures differ where the same lies half a pixel further: look at the whole ones
            for number in np.flatnonzero((within >= _NEARLY) & (within < _SAME)).tolist():
                m, *corner = matched[number].tolist()
                within[number] = max(within[number], self._closely(n, windows.corners[asked[number]], m, corner))
        asked, within = asked[within >= _SAME], within[within >= _SAME]
        for m in others:  # most windows are soon found there
            if not len(asked):
                break
            is_own = within - self._found(windows.values[asked], m)[0] >= _BEYOND
            asked, within = asked[is_own], within[is_own]
        return windows.corners[asked]

    def _found(self, values: Array, n: int) -> tuple[Array, Array]:
        """(M,) the highest correlation of M windows with one of a picture, and (M, 2) that one's corner."""
        windows = self._of(n)
        if not len(windows.values):
            return np.full(len(values), -1.0), np.zeros((len(values), 2), int)
        products = values @ windows.values.T
        best = products.argmax(axis=1)
        return products[np.arange(len(values)), best], windows.corners[best]

    def _closely(self, n: int, corner: Sequence[int], m: int, other: Sequence[int]) -> float:
        """The highest correlation of a window with those around its match, in the pictures before they were reduced."""
        side, reach = round(_WINDOW / self._scale), int(np.ceil(1 / self._scale)) + 1
        y, x = (round(place / self._scale) for place in corner)
        own = _levelled(self._images[n][y : y + side, x : x + side].reshape(-1, self._images.shape[-1]))
        best = -1.0
        top, left = (round(place / self._scale) for place in other)
        for row in range(max(0, top - reach), top + reach + 1):
            for column in range(max(0, left - reach), left + reach + 1):
                part = self._images[m][row : row + side, column : column + side]
                values = part.reshape(-1, part.shape[-1])
                if values.shape == own.shape:
                    best = max(best, float((own * _levelled(values)).sum()))
        return best

    def _of(self, n: int) -> _Windows:
        if n not in self._windows:
            self._windows[n] = _windows(self._small[n], self._limit / 2)
        return self._windows[n]


def alike_in_place(images: Array, area: Array, n: int, same: Sequence[int], others: Sequence[int]) -> bool:
    """Whether another picture of a class shows the same at the same place, and no picture of another class does.

    Args:
        images: (N, H, W, C).
        area: (H, W) bool.
        n: the picture that the area is of.
        same: other pictures of its class.
        others: pictures of other classes.
    """
    own = _levelled(images[n][area])
    if not own.any():
        return False
    within = max((float((own * _levelled(images[m][area])).sum()) for m in same), default=-1.0)
    beyond = max((float((own * _levelled(images[m][area])).sum()) for m in others), default=0.0)
    return within >= _SAME_IN_PLACE and within - beyond >= _BEYOND


def _levelled(values: Array) -> Array:
    """(P, C) pixels with mean 0 in each channel, all together of length 1; zeros where they are the same."""
    values = values.astype(np.float32)
    if (values == values[:1]).all():  # what rounding leaves of them after the mean would pass for a form
        return np.zeros_like(values)
    values = values - values.mean(axis=0)
    length = float(np.linalg.norm(values))
    result: Array = values / length if length > 0 else values
    return result


def _windows(image: Array, least: float) -> _Windows:
    """The windows of a picture with some contrast at least."""
    views = sliding_window_view(image, (_WINDOW, _WINDOW), axis=(0, 1))
    rows, columns, channels = views.shape[:3]
    values = views.reshape(rows * columns, channels, -1).astype(np.float32)
    values = (values - values.mean(axis=2, keepdims=True)).reshape(rows * columns, -1)
    lengths = np.linalg.norm(values, axis=1)
    corners = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    contrast = lengths / np.sqrt(values.shape[1])
    usable = (contrast >= least) & (lengths > 0)
    return _Windows(values[usable] / lengths[usable, None], contrast[usable], corners[usable])


def _reduced(images: Array) -> tuple[Array, float]:
    """The pictures at the shorter side at which they are compared, float32, and how far they were reduced."""
    height, width = images.shape[1:3]
    scale = min(1.0, _SIDE / min(height, width))
    if scale == 1:
        return images.astype(np.float32), 1.0
    size = (round(width * scale), round(height * scale))
    reduced = [
        np.stack(
            [
                np.asarray(Image.fromarray(image[..., c].astype(np.float32)).resize(size, Image.Resampling.BOX))
                for c in range(image.shape[-1])
            ],
            axis=-1,
        )
        for image in images
    ]
    return np.stack(reduced), scale
