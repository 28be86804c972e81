"""Maps as heat over pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_callbacks.drawing.colours import ALPHA, COLORMAP, check_rgb, colour, cover, find_colormap
from gradcam_callbacks.drawing.resizing import resize_maps
from gradcam_callbacks.drawing.volumes import mosaic, mosaic_shape
from gradcam_callbacks.errors import GradCAMError

SCALES = {
    "map": "evidence, share of the map's maximum",
    "shared": "evidence, share of the largest maximum",
}

_BAND = 256  # rows that are blended at once


def heatmaps(
    maps: NDArray[Any], size: tuple[int, int], *, scale: str = "map", slices: int | None = None
) -> NDArray[np.float32]:
    """Raw maps as heat between 0 and 1 at the size of the picture.

    The map of a signal is stretched along the width and is the same at every height. The map of a
    volume is resized to `slices` slices, and each is laid over its cell of the mosaic that
    `volume_pictures` makes.

    Args:
        maps: (N, K, h, w), (N, K, l) for signals or (N, K, d, h, w) for volumes: raw maps,
            non-negative. A map that holds a NaN or an infinity counts as zero.
        size: (H, W) of the pictures, in pixels.
        scale: "map" divides each map by its own maximum, so that each one shows where its evidence
            is. "shared" divides all by the one maximum of the whole array, so that a weak map looks
            weak. Both mean the maximum of what is shown, after resizing.
        slices: for volumes, and only for them, how many slices the pictures show: `slice_count` of
            the volumes' depth.

    Returns:
        (N, K, H, W) float32 in [0, 1]. A zero map stays zero, and so do the cells of a mosaic that
        have no slice.

    Raises:
        GradCAMError: `scale` is unknown.
        ValueError: `maps` has another rank or holds a negative value, `slices` does not go with the
            rank, or `size` is not that of a mosaic of so many slices.
    """
    check_scale(scale)
    maps = np.asarray(maps, np.float32)
    if maps.ndim not in (3, 4, 5):
        raise ValueError(f"Expected maps of shape (N, K, l), (N, K, h, w) or (N, K, d, h, w); got {maps.shape}.")
    if (maps.ndim == 5) != (slices is not None):
        raise ValueError(
            "Expected slices=slice_count(depth) with maps (N, K, d, h, w), and with no others; "
            f"got slices={slices} and maps of shape {maps.shape}."
        )
    grid_axes = tuple(range(2, maps.ndim))
    finite = np.isfinite(maps).all(axis=grid_axes, keepdims=True)
    maps = np.where(finite, maps, np.float32(0))
    if (maps < 0).any():
        raise ValueError(f"Expected maps >= 0; the lowest value is {maps.min():.3g}. Apply a ReLU first.")
    heat = _on_picture(maps, size, slices)
    axes = (-2, -1) if scale == "map" else None
    peak = heat.max(axis=axes, keepdims=True, initial=0.0)
    shares: NDArray[np.float32] = np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0)
    return shares


def _on_picture(maps: NDArray[np.float32], size: tuple[int, int], slices: int | None) -> NDArray[np.float32]:
    """(N, K, *grid) maps of any rank as (N, K, H, W): resized, not yet scaled."""
    height, width = size
    if maps.ndim == 3:
        return np.repeat(resize_maps(maps, (width,))[:, :, None], height, axis=2)
    if slices is None:
        return resize_maps(maps, size)
    rows, columns = mosaic_shape(slices)
    if height % rows or width % columns:
        raise ValueError(
            f"Expected pictures of {slices} slices, {rows} rows of {columns}, as volume_pictures makes them: "
            f"{size} cannot be divided so."
        )
    return mosaic(resize_maps(maps, (slices, height // rows, width // columns)), empty=0)


def overlays(
    pictures: NDArray[np.uint8],
    heatmaps: NDArray[Any],
    *,
    alpha: float = ALPHA,
    colormap: str = COLORMAP,
) -> NDArray[np.uint8]:
    """Pictures with the heat laid over them: picture * (1 - share) + colour * share, where share is alpha * `cover`.

    Where there is no evidence the picture comes back untouched: a picture that is tinted with the colour of 0 would
    look like a finding.

    Args:
        pictures: (N, H, W, 3) uint8.
        heatmaps: (N, K, H, W) floats in [0, 1].
        alpha: share of the colour where the heat is highest, in [0, 1].
        colormap: the name of a Matplotlib colour map.

    Returns:
        (N, K, H, W, 3) uint8, rounded to the nearest integer.

    Raises:
        GradCAMError: `alpha` is outside [0, 1], or Matplotlib has no such colour map.
        ValueError: the shapes do not go together, or the pictures are not uint8.
    """
    if not 0 <= alpha <= 1:
        raise GradCAMError(
            f"Expected alpha between 0 (only the picture) and 1 (only the heat); got {alpha}.", argument="alpha"
        )
    pictures, heatmaps = np.asarray(pictures), np.asarray(heatmaps)
    check_rgb("pictures", pictures, "(N, H, W, 3)", ndim=4)
    count, height, width, _ = pictures.shape
    if heatmaps.ndim != 4 or heatmaps.shape[::2] + heatmaps.shape[3:] != (count, height, width):
        raise ValueError(
            f"Expected heatmaps of shape ({count}, K, {height}, {width}) for pictures of shape "
            f"{pictures.shape}; got {heatmaps.shape}."
        )
    find_colormap(colormap)
    blended = np.repeat(pictures[:, None], heatmaps.shape[1], axis=1)
    # Some rows of one map at a time: the float copies of large pictures would take gigabytes.
    for n, k in np.argwhere(heatmaps.any(axis=(-2, -1))):
        for top in range(0, height, _BAND):
            rows = slice(top, top + _BAND)
            heat = heatmaps[n, k, rows]
            share = np.float32(alpha) * cover(heat)[..., None]
            blended[n, k, rows] = np.rint(pictures[n, rows] * (1 - share) + colour(heat, colormap=colormap) * share)
    return blended


def outline(pictures: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The pictures with the edge of a region drawn: white inside, black around it, so that it is seen on any colour.

    Args:
        pictures: (..., H, W, 3) uint8.
        mask: (H, W) bool.

    Returns:
        A copy.
    """
    width = max(1, round(max(mask.shape) / 200))

    def grown(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        for _ in range(width):
            padded = np.pad(inside, 1, mode="edge")
            inside = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        return inside

    drawn = np.array(pictures, copy=True)
    drawn[..., grown(mask) & ~mask, :] = 0
    drawn[..., mask & grown(~mask), :] = 255
    return drawn


def check_scale(scale: str) -> None:
    """Raises `GradCAMError` at a scale that is not in `SCALES`."""
    if scale not in SCALES:
        raise GradCAMError(
            f"Expected scale 'map' (each map over its own maximum) or 'shared' (all over one maximum); got {scale!r}.",
            argument="scale",
        )
