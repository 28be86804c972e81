"""A signal as a picture of its curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gradcam_callbacks.drawing.volumes import as_finite

# A signal is drawn on (H, W) pixels, the size that a tile shows unchanged, with this share of the
# height left free above and below.
_SIGNAL_SIZE = (160, 384)
_SIGNAL_MARGIN = 0.08
# Drawn this many times larger and averaged, for smooth edges.
_FINER = 4
# Dark, so that they can be told apart under the heat of any colour.
_CURVES = ((16, 16, 16), (176, 16, 32), (0, 72, 184), (0, 104, 48), (120, 32, 144), (136, 80, 0))
# More than six curves are drawn thin, and no more than these: what is shown is then the bundle.
_MOST_CURVES = 24
_ZERO_LINE = (176, 176, 176)


def signal_pictures(signals: NDArray[Any]) -> NDArray[np.uint8]:
    """Each signal as a curve on white, one line a channel.

    Sample i of L stands at (i + 0.5) / L of the width, so that heat of the same width lies over the
    samples that it belongs to. The height is scaled once for the whole set, so that a weak signal
    looks weak. A thin line marks zero where the values reach it. Up to six channels have a colour
    each; more are drawn thin, and only the first 24 of them.

    Args:
        signals: (N, L, C) finite numbers of any scale.

    Returns:
        (N, 160, 384, 3) uint8 RGB.

    Raises:
        ValueError: `signals` is not (N, L, C), has an empty axis, or does not hold finite numbers.
    """
    signals = as_finite("signals", signals, "(N, L, C)", ndim=3)
    shown = signals[..., :_MOST_CURVES].astype(np.float64)
    low, high = float(shown.min()), float(shown.max())
    height, width = (_FINER * side for side in _SIGNAL_SIZE)

    def level(values: NDArray[np.float64]) -> NDArray[np.float64]:
        share = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
        return height * (1 - _SIGNAL_MARGIN - (1 - 2 * _SIGNAL_MARGIN) * share)

    pen = round(_FINER * (1.75 if shown.shape[-1] <= len(_CURVES) else 0.75))
    pictures = np.empty((len(shown), *_SIGNAL_SIZE, 3), np.uint8)
    for signal, picture in zip(shown, pictures, strict=True):
        canvas = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(canvas)
        if low <= 0 <= high and low < high:
            zero = _FINER * int(level(np.zeros(1))[0] / _FINER)
            draw.rectangle((0, zero, width, zero + _FINER - 1), _ZERO_LINE)
        # The first channel last, so that it lies on top.
        for channel in reversed(range(signal.shape[-1])):
            points = _curve(level(signal[:, channel]), width)
            _draw_curve(draw, points, _CURVES[channel % len(_CURVES)], pen, dots=len(signal) <= _SIGNAL_SIZE[1] / 10)
        picture[...] = np.asarray(canvas.reduce(_FINER))
    return pictures


def _curve(levels: NDArray[np.float64], width: int) -> list[tuple[float, float]]:
    """The (x, y) of a curve over `width` pixels: sample i of L at x = (i + 0.5) / L * width.

    Where many samples share a pixel, its highest and lowest stand for all: the same is drawn.
    """
    count = len(levels)
    x = (np.arange(count) + 0.5) / count * width
    if count > 2 * width:
        _, starts = np.unique(x.astype(int), return_index=True)
        ends = np.stack([np.minimum.reduceat(levels, starts), np.maximum.reduceat(levels, starts)], axis=1)
        # Down one pixel and up the next, so that no line runs back across.
        ends[1::2] = ends[1::2, ::-1]
        x, levels = np.repeat(np.arange(width) + 0.5, 2), ends.reshape(-1)
    return list(zip(x.tolist(), levels.tolist(), strict=True))


def _draw_curve(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], rgb: tuple[int, int, int], pen: int, *, dots: bool
) -> None:
    """A line through the points, `pen` pixels thick; with `dots` each point is marked."""
    draw.line(points, rgb, pen, joint="curve")
    for x, y in points if dots else ():
        draw.ellipse((x - 1.5 * pen, y - 1.5 * pen, x + 1.5 * pen, y + 1.5 * pen), rgb)
