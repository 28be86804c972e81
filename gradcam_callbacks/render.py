"""Maps and probes in, pictures out: heatmaps, overlays, labelled tiles and figures.

A signal is shown as its curve and a volume as a mosaic of its slices, so that everything after
that has one RGB picture a probe, and heat on its plane.

Every function here is pure: arrays go in, an array (or a `Figure` that nobody else holds) comes
out. Values are resized, never colours, and a map with no evidence in it is shown as the plain
picture.
"""

from __future__ import annotations

import bisect
import difflib
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "colour",
    "figure",
    "heatmaps",
    "overlays",
    "resize_maps",
    "signal_pictures",
    "slice_count",
    "tile",
    "volume_pictures",
]

_SCALES = {
    "map": "evidence, share of the map's maximum",
    "shared": "evidence, share of the largest maximum",
}

# A panel's long side on a tile, in pixels: small pictures are enlarged to the first, big ones
# shrunk to the second.
_PANEL = (192, 384)
# MLflow's cards are 256 px wide: text of 1/25 of the tile's long side is then about 10 px tall.
_FONT_SHARE = 1 / 25
_BACKGROUND = (17, 17, 17)
_NAME = (216, 216, 216)
_VALUE = (255, 255, 255)
_MUTED = (150, 150, 150)
_ELLIPSIS = "…"

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

_MOST_SLICES = 16
# A mosaic's long side is at least this, in pixels.
_MOSAIC = 200
_NO_SLICE = 255


def resize_maps(maps: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Maps on another grid of the same rank, linear along each axis, with half-pixel centres.

    Upscaling gives what `tf.image.resize(method="bilinear")` gives. Downscaling averages over the
    pixels that fall together, as `tf.image.resize(antialias=True)` does.

    Args:
        maps: (..., *grid) numbers of any scale: (..., l), (..., h, w) or (..., d, h, w).
        size: the wanted grid, one length an axis: (L,), (H, W) or (D, H, W).

    Returns:
        (..., *size) float32 on the scale of `maps`, never outside a map's own minimum and maximum.

    Raises:
        ValueError: `maps` has fewer axes than `size`, an empty grid, or `size` is not positive.
    """
    maps = np.asarray(maps, np.float32)
    if not size or min(size) < 1:
        raise ValueError(f"Expected a size of at least 1 along each axis, such as (height, width); got {size}.")
    if maps.ndim < len(size) or 0 in maps.shape[-len(size) :]:
        raise ValueError(f"Expected maps of a grid with {len(size)} axes, none empty, last; got {maps.shape}.")
    leading = maps.shape[: -len(size)]
    if 0 in leading:
        return np.zeros((*leading, *size), np.float32)
    # The last axis first, as Pillow does in a picture: the values are the same to the last bit.
    for axis in range(-1, -len(size) - 1, -1):
        maps = _resize_axis(maps, axis, size[axis])
    return np.array(maps, order="C")


def _resize_axis(maps: NDArray[np.float32], axis: int, length: int) -> NDArray[np.float32]:
    """`maps` with another length along one axis, as a view that may be read-only."""
    rows = np.moveaxis(maps, axis, -1)
    image = Image.fromarray(np.ascontiguousarray(rows).reshape(-1, rows.shape[-1]))
    # Pillow's triangle filter is centred on (i + 0.5) / scale - 0.5 and renormalised at the
    # border, which is the same as repeating the border pixel.
    resized = np.asarray(image.resize((length, image.height), Image.Resampling.BILINEAR))
    return np.moveaxis(resized.reshape(*rows.shape[:-1], length), -1, axis)


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
        ValueError: `scale` is unknown, `maps` has another rank or holds a negative value, `slices`
            does not go with the rank, or `size` is not that of a mosaic of so many slices.
    """
    if scale not in _SCALES:
        raise ValueError(_unknown_scale(scale))
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
    rows, columns = _mosaic_shape(slices)
    if height % rows or width % columns:
        raise ValueError(
            f"Expected pictures of {slices} slices, {rows} rows of {columns}, as volume_pictures makes them: "
            f"{size} cannot be divided so."
        )
    return _mosaic(resize_maps(maps, (slices, height // rows, width // columns)), empty=0)


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
    signals = _as_finite("signals", signals, "(N, L, C)", ndim=3)
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


def volume_pictures(volumes: NDArray[Any]) -> NDArray[np.uint8]:
    """Each volume as a mosaic of its slices, row by row, without gaps.

    At most 16 slices are shown, taken evenly: slice floor((s + 0.5) * D / S) at place s of S. Small
    slices are enlarged by a whole factor, so that the mosaic's long side has 200 pixels or more.

    Args:
        volumes: (N, D, H, W, C) finite numbers. With 3 channels they are taken as RGB; with any
            other number the first is shown in grey. uint8 is taken as it is, other numbers are
            scaled once by the minimum and maximum of the whole set.

    Returns:
        (N, H', W', 3) uint8 RGB; cells of the mosaic that have no slice are white.

    Raises:
        ValueError: `volumes` is not (N, D, H, W, C), has an empty axis, or does not hold finite
            numbers.
    """
    volumes = _as_finite("volumes", volumes, "(N, D, H, W, C)", ndim=5)
    if volumes.shape[-1] != 3:
        volumes = volumes[..., :1]
    depth, height, width = volumes.shape[1:4]
    count = slice_count(depth)
    shown = volumes[:, (2 * np.arange(count) + 1) * depth // (2 * count)]
    if volumes.dtype != np.uint8:
        low, high = float(volumes.min()), float(volumes.max())
        shown = np.rint((shown.astype(np.float64) - low) * (255 / (high - low or 1))).astype(np.uint8)
    # Channels before the slices: (N, 3, S, H, W), as maps are.
    cells = np.moveaxis(np.broadcast_to(shown, (*shown.shape[:-1], 3)), -1, 1)
    rows, columns = _mosaic_shape(count)
    factor = math.ceil(_MOSAIC / max(rows * height, columns * width))
    if factor > 1:
        cells = np.rint(resize_maps(cells, (factor * height, factor * width))).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(_mosaic(cells, empty=_NO_SLICE), 1, -1))


def slice_count(depth: int) -> int:
    """How many slices of a volume `depth` slices deep are shown: all of them, or 16 of more."""
    return min(depth, _MOST_SLICES)


def _mosaic_shape(slices: int) -> tuple[int, int]:
    """(rows, columns) of the mosaic of so many slices: near-square, no row empty."""
    columns = math.ceil(math.sqrt(slices))
    return math.ceil(slices / columns), columns


def _mosaic(cells: NDArray[Any], *, empty: int) -> NDArray[Any]:
    """(..., S, h, w) slices as (..., rows * h, columns * w), row by row; cells without one `empty`."""
    *leading, slices, height, width = cells.shape
    rows, columns = _mosaic_shape(slices)
    sheet = np.full((*leading, rows * columns, height, width), empty, cells.dtype)
    sheet[..., :slices, :, :] = cells
    grid = sheet.reshape(*leading, rows, columns, height, width).swapaxes(-3, -2)
    return grid.reshape(*leading, rows * height, columns * width)


def _as_finite(name: str, values: NDArray[Any], shape: str, *, ndim: int) -> NDArray[Any]:
    """`values` as an array, if it has this rank, no empty axis and nothing but finite numbers."""
    array = np.asarray(values)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"Expected {name} of shape {shape}, no axis empty; got {array.shape}.")
    if array.dtype.kind not in "buif":
        raise ValueError(f"Expected {name} of real numbers; got dtype {array.dtype}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Expected finite {name}; they hold NaN or infinity.")
    return array


def colour(heatmaps: NDArray[Any], *, colormap: str = "turbo") -> NDArray[np.uint8]:
    """Heat as colour.

    Args:
        heatmaps: (...) floats in [0, 1]; values outside take the colour of the nearer end.
        colormap: the name of a Matplotlib colour map.

    Returns:
        (..., 3) uint8 RGB.

    Raises:
        ValueError: Matplotlib has no colour map of that name; the message has the names that are
            close.
    """
    # Not asarray alone: a colour map reads integers as indices into its table.
    values = np.asarray(heatmaps, np.float32)
    return np.asarray(_find_colormap(colormap)(values, bytes=True), np.uint8)[..., :3]


def overlays(
    pictures: NDArray[np.uint8],
    heatmaps: NDArray[Any],
    *,
    alpha: float = 0.4,
    colormap: str = "turbo",
) -> NDArray[np.uint8]:
    """Pictures with the heat laid over them: picture * (1 - alpha) + colour * alpha.

    Where a whole map is zero the picture comes back untouched: no evidence is shown as no colour,
    and not as a picture tinted with the colour of 0, which would look like a finding.

    Args:
        pictures: (N, H, W, 3) uint8.
        heatmaps: (N, K, H, W) floats in [0, 1].
        alpha: weight of the colour, in [0, 1].
        colormap: the name of a Matplotlib colour map.

    Returns:
        (N, K, H, W, 3) uint8, rounded to the nearest integer.

    Raises:
        ValueError: `alpha` is outside [0, 1], the shapes do not go together, the pictures are not
            uint8, or Matplotlib has no such colour map.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"Expected alpha between 0 (only the picture) and 1 (only the heat); got {alpha}.")
    pictures, heatmaps = np.asarray(pictures), np.asarray(heatmaps)
    _check_rgb("pictures", pictures, "(N, H, W, 3)", ndim=4)
    count, height, width, _ = pictures.shape
    if heatmaps.ndim != 4 or heatmaps.shape[::2] + heatmaps.shape[3:] != (count, height, width):
        raise ValueError(
            f"Expected heatmaps of shape ({count}, K, {height}, {width}) for pictures of shape "
            f"{pictures.shape}; got {heatmaps.shape}."
        )
    _find_colormap(colormap)
    blended = np.repeat(pictures[:, None], heatmaps.shape[1], axis=1)
    # One map at a time: the float copies of a whole probe set of large pictures would take
    # gigabytes.
    for n, k in np.argwhere(heatmaps.any(axis=(-2, -1))):
        tint = colour(heatmaps[n, k], colormap=colormap)
        mixed = pictures[n] * np.float32(1 - alpha) + tint * np.float32(alpha)
        blended[n, k] = np.rint(mixed)
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


def tile(
    picture: NDArray[np.uint8],
    overlays: NDArray[np.uint8],
    *,
    title: str,
    captions: Sequence[tuple[str, str]],
    region: NDArray[np.bool_] | None = None,
    colormap: str = "turbo",
) -> NDArray[np.uint8]:
    """One near-square sheet: the picture, then its overlays, each with a caption, and a colour bar.

    Made to be read at 256 pixels wide, the size of MLflow's cards. The layout and the size depend
    only on K and on the picture's shape, never on the words, so that the steps of a run lie exactly
    on each other.

    Args:
        picture: (H, W, 3) uint8. Enlarged or shrunk so that the long side lies between 192 and 384
            pixels.
        overlays: (K, H, W, 3) uint8.
        title: caption of the picture.
        captions: K pairs (name, value), such as ("tabby", "0.87"). The name stands on the left and
            ends in an ellipsis where it is too long; the value stands on the right in full.
        region: (H, W) bool, outlined on every panel.
        colormap: the one that the overlays were made with, for the colour bar. The bar has the pure
            colours: the overlays have them mixed with the picture.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: the shapes do not go together, there are not K captions, the arrays are not
            uint8, or Matplotlib has no such colour map.
    """
    picture, overlays = np.asarray(picture), np.asarray(overlays)
    _check_rgb("picture", picture, "(H, W, 3)", ndim=3)
    _check_rgb("overlays", overlays, "(K, H, W, 3)", ndim=4)
    if overlays.shape[1:] != picture.shape:
        raise ValueError(f"Expected overlays of the picture's shape {picture.shape}; got {overlays.shape[1:]}.")
    if len(captions) != len(overlays):
        raise ValueError(f"Expected one caption an overlay, {len(overlays)} in all; got {len(captions)}.")
    _find_colormap(colormap)

    grid = _best_grid(1 + len(overlays), picture.shape[0], picture.shape[1])
    font = ImageFont.truetype(font_path(), grid.font)
    sheet = Image.new("RGB", (grid.width, grid.height), _BACKGROUND)
    for index, (panel, (name, value)) in enumerate(zip([picture, *overlays], [(title, ""), *captions], strict=True)):
        x, y = grid.corner(index)
        shown = Image.fromarray(panel).resize((grid.panel_width, grid.panel_height), Image.Resampling.LANCZOS)
        if region is not None:
            mask = Image.fromarray(region).resize(shown.size, Image.Resampling.NEAREST)
            shown = Image.fromarray(outline(np.asarray(shown), np.asarray(mask)))
        sheet.paste(_caption(grid, font, name, value), (x, y))
        sheet.paste(shown, (x, y + grid.caption))
    _draw_colour_bar(sheet, grid, font, colormap)
    return np.asarray(sheet, np.uint8)


def figure(
    pictures: NDArray[np.uint8],
    overlays: NDArray[np.uint8],
    *,
    titles: Sequence[Sequence[str]],
    picture_titles: Sequence[str],
    colormap: str = "turbo",
    scale: str = "map",
) -> Figure:
    """A Matplotlib figure: one row an image, the picture and then one panel a target.

    Args:
        pictures: (N, H, W, 3) uint8.
        overlays: (N, K, H, W, 3) uint8.
        titles: N lists of K titles, such as "What made you think tabby?". Long ones are wrapped;
            "$" is a dollar.
        picture_titles: N titles for the pictures.
        colormap: the one that the overlays were made with, for the colour bar.
        scale: the `scale` that the heat was made with, for the words at the colour bar.

    Returns:
        A `Figure` that pyplot does not know: save it, or let a notebook show it.

    Raises:
        ValueError: the shapes or the numbers of titles do not go together, `scale` is unknown, the
            arrays are not uint8, or Matplotlib has no such colour map.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    if scale not in _SCALES:
        raise ValueError(_unknown_scale(scale))
    pictures, overlays = np.asarray(pictures), np.asarray(overlays)
    _check_rgb("pictures", pictures, "(N, H, W, 3)", ndim=4)
    _check_rgb("overlays", overlays, "(N, K, H, W, 3)", ndim=5)
    rows, targets = overlays.shape[:2]
    if overlays.shape[:1] + overlays.shape[2:] != pictures.shape or not rows:
        raise ValueError(
            f"Expected overlays of shape (N, K, H, W, 3), N > 0, for pictures of shape "
            f"{pictures.shape}; got {overlays.shape}."
        )
    if [len(row) for row in titles] != [targets] * rows or len(picture_titles) != rows:
        raise ValueError(
            f"Expected {rows} picture titles and {rows} lists of {targets} titles; "
            f"got {len(picture_titles)} and {[len(row) for row in titles]}."
        )
    cmap = _find_colormap(colormap)

    height, width = pictures.shape[1:3]
    inches = 3.0 / max(height, width)
    wrapped = [
        [_wrap(text, characters=max(12, round(12 * inches * width))) for text in (first, *others)]
        for first, others in zip(picture_titles, titles, strict=True)
    ]
    lines = [max(text.count("\n") + 1 for text in row) for row in wrapped]
    sheet = Figure(
        figsize=(
            (1 + targets) * (inches * width + 0.12) + 0.75,
            rows * (inches * height + 0.2) + 0.17 * sum(lines),
        ),
        layout="compressed",
    )
    axes = sheet.subplots(rows, 1 + targets, squeeze=False)
    for n in range(rows):
        for ax, panel, text in zip(axes[n], [pictures[n], *overlays[n]], wrapped[n], strict=True):
            ax.imshow(panel)
            ax.set_axis_off()
            ax.set_title(text, fontsize=10, parse_math=False)
    bar = sheet.colorbar(
        ScalarMappable(cmap=cmap),
        ax=axes,
        aspect=28,
        fraction=0.15 / (1 + targets),
        pad=0.012,
        shrink=min(1.0, 1.6 / rows),
        ticks=[0, 0.5, 1],
    )
    bar_inches = inches * height * min(rows, 1.6)
    bar.set_label(_wrap(_SCALES[scale], characters=max(12, round(14 * bar_inches))), fontsize=8)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    return sheet


class _Grid(NamedTuple):
    """Where things stand on a tile, in pixels. Each cell is a caption and, under it, a panel."""

    columns: int
    rows: int
    panel_width: int
    panel_height: int
    gap: int
    font: int
    lines: int
    caption: int
    bar: int  # height of the colour bar's strip along the bottom; 0 where the bar has a cell
    panels: int

    @property
    def width(self) -> int:
        return self.columns * (self.panel_width + self.gap) + self.gap

    @property
    def height(self) -> int:
        return self.rows * (self.caption + self.panel_height + self.gap) + self.bar + self.gap // 2

    def corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self.columns)
        return (
            self.gap + column * (self.panel_width + self.gap),
            row * (self.caption + self.panel_height + self.gap),
        )


def _best_grid(count: int, height: int, width: int) -> _Grid:
    """The layout of `count` panels of shape (height, width) that shows them largest in a square."""
    grids = [_grid(count, columns, height, width) for columns in range(1, count + 1)]
    return min(grids, key=lambda grid: max(grid.width, grid.height))


def _grid(count: int, columns: int, height: int, width: int) -> _Grid:
    long_side = max(height, width)
    factor = min(max(long_side, _PANEL[0]), _PANEL[1]) / long_side
    panel_width, panel_height = max(1, round(width * factor)), max(1, round(height * factor))
    rows = math.ceil(count / columns)
    font = round(_FONT_SHARE * max(columns * panel_width, rows * panel_height))
    # About 0.6 of the font's size a letter: under 18 letters a line, a name gets a second line.
    lines = 1 if panel_width >= 18 * 0.6 * font else 2
    return _Grid(
        columns=columns,
        rows=rows,
        panel_width=panel_width,
        panel_height=panel_height,
        gap=max(4, round(0.4 * font)),
        font=font,
        lines=lines,
        caption=round((1.2 * lines + 0.5) * font),
        bar=0 if count < columns * rows else round(1.5 * font),
        panels=count,
    )


def _caption(grid: _Grid, font: ImageFont.FreeTypeFont, name: str, value: str) -> Image.Image:
    """A caption bar: the name on the left, in one or two lines, the value in full on the right."""
    strip = Image.new("RGB", (grid.panel_width, grid.caption), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    value = _shorten(_clean(value), grid.panel_width, font)
    name = _clean(name)
    space = grid.panel_width
    beside = space - font.getlength(value) - 0.6 * font.size if value else space
    if grid.lines == 1 or font.getlength(name) <= beside:
        texts = [_shorten(name, beside, font)]
    else:
        first, rest = _break(name, space, font)
        texts = [first, _shorten(rest, beside, font)]
    # The last line stands at the same height on every caption, just above its panel.
    last = grid.caption - 0.85 * font.size
    for line, text in enumerate(reversed(texts)):
        draw.text((0, last - 1.2 * line * font.size), text, _NAME, font, anchor="lm")
    draw.text((space, last), value, _VALUE, font, anchor="rm")
    return strip


def _draw_colour_bar(sheet: Image.Image, grid: _Grid, font: ImageFont.FreeTypeFont, colormap: str) -> None:
    """Draws a bar from "0" to "max" in the first free cell, or along the bottom without one."""
    draw = ImageDraw.Draw(sheet)
    thick = max(3, round(0.45 * font.size))
    if grid.bar:
        left, right = grid.gap, grid.width - grid.gap
        start = round(left + font.getlength("0") + 0.5 * font.size)
        stop = round(right - font.getlength("max") - 0.5 * font.size)
        middle = labels = grid.height - (grid.gap + grid.bar) / 2
    else:
        x, y = grid.corner(grid.panels)
        inset = 0.12 * grid.panel_width
        left, right = round(x + inset), round(x + grid.panel_width - inset)
        start, stop = left, right
        middle = y + grid.caption + grid.panel_height / 2 - 0.6 * font.size
        labels = middle + 1.2 * font.size
    draw.text((left, labels), "0", _MUTED, font, anchor="lm")
    draw.text((right, labels), "max", _MUTED, font, anchor="rm")
    if stop > start:
        ramp = colour(np.linspace(0, 1, stop - start), colormap=colormap)
        band = np.repeat(ramp[None], thick, axis=0)
        sheet.paste(Image.fromarray(band), (start, round(middle - thick / 2)))


def _shorten(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """`text`, or its longest beginning that fits `width` pixels with an ellipsis after it."""
    if font.getlength(text) <= width:
        return text
    cut = _fitting(text, width - font.getlength(_ELLIPSIS), font)
    return text[:cut].rstrip() + _ELLIPSIS if cut else ""


def _break(text: str, width: float, font: ImageFont.FreeTypeFont) -> tuple[str, str]:
    """`text` in two: what fits `width` pixels, broken between words if it can be, and the rest."""
    if font.getlength(text) <= width:
        return text, ""
    cut = _fitting(text, width, font)
    # A space may fall just outside; a hyphen, an underscore or a slash stays on the first line.
    ends = [n for n in range(1, cut + 1) if text[n] == " " or text[n - 1] in "-_/"]
    cut = ends[-1] if ends else cut
    return text[:cut], text[cut:].lstrip()


def _fitting(text: str, width: float, font: ImageFont.FreeTypeFont) -> int:
    """How many of the first characters of `text` fit `width` pixels."""
    lengths = range(1, len(text) + 1)
    return bisect.bisect_right(lengths, width, key=lambda n: font.getlength(text[:n]))


def _wrap(text: str, *, characters: int) -> str:
    """At most three lines of at most `characters`, about as long as each other."""
    text = _clean(text)
    lines = textwrap.wrap(text, characters)
    if len(lines) > 3:
        lines = textwrap.wrap(text, characters, max_lines=3, placeholder=_ELLIPSIS)
    elif lines:
        longest_word = max(map(len, text.split()))
        tighter = (textwrap.wrap(text, width) for width in range(longest_word, characters))
        lines = next((wrapped for wrapped in tighter if len(wrapped) == len(lines)), lines)
    return "\n".join(lines)


def _clean(text: str) -> str:
    """One line that can be drawn: no line breaks, no half characters (undecodable file names)."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def font_path() -> Path:
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def _find_colormap(name: str) -> Colormap:
    try:
        return matplotlib.colormaps[name]
    except KeyError:
        known = {known.lower(): known for known in matplotlib.colormaps}
        close = [known[match] for match in difflib.get_close_matches(name.lower(), known)]
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"No colormap {name!r}.{hint} `matplotlib.colormaps` lists all {len(known)}.") from None


def _unknown_scale(scale: str) -> str:
    return f"Expected scale 'map' (each map over its own maximum) or 'shared' (all over one maximum); got {scale!r}."


def _check_rgb(name: str, array: NDArray[Any], shape: str, *, ndim: int) -> None:
    if array.ndim != ndim or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise ValueError(f"Expected {name} of shape {shape} and dtype uint8; got {array.shape} and {array.dtype}.")
