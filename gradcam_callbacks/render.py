"""Maps and pictures in, pictures out: heatmaps, overlays, labelled tiles and figures.

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

__all__ = ["colour", "figure", "heatmaps", "overlays", "resize_maps", "tile"]

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


def resize_maps(maps: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps at another size, bilinear, with half-pixel centres.

    Upscaling gives what `tf.image.resize(method="bilinear")` gives. Downscaling averages over the
    pixels that fall together, as `tf.image.resize(antialias=True)` does.

    Args:
        maps: (..., h, w) numbers of any scale.
        size: (H, W) wanted, in pixels: height first.

    Returns:
        (..., H, W) float32 on the scale of `maps`, never outside a map's own minimum and maximum.

    Raises:
        ValueError: `maps` has fewer than two axes, an empty h or w, or `size` is not positive.
    """
    maps = np.asarray(maps, np.float32)
    height, width = size
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ValueError(f"Expected maps of shape (..., h, w) with h, w > 0; got {maps.shape}.")
    if height < 1 or width < 1:
        raise ValueError(f"Expected a size (height, width) of at least (1, 1); got {size}.")
    flat = maps.reshape(-1, *maps.shape[-2:])
    resized = np.empty((len(flat), height, width), np.float32)
    for source, target in zip(flat, resized, strict=True):
        # Pillow's triangle filter is centred on (i + 0.5) / scale - 0.5 and renormalised at the
        # border, which is the same as repeating the border pixel.
        image = Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR)
        target[...] = np.asarray(image)
    return resized.reshape(*maps.shape[:-2], height, width)


def heatmaps(maps: NDArray[Any], size: tuple[int, int], *, scale: str = "map") -> NDArray[np.float32]:
    """Raw maps as heat between 0 and 1 at the size of the picture.

    Args:
        maps: (N, K, h, w) raw maps, non-negative. A map that holds a NaN or an infinity counts as
            zero.
        size: (H, W) of the pictures, in pixels.
        scale: "map" divides each map by its own maximum, so that each one shows where its evidence
            is. "shared" divides all by the one maximum of the whole array, so that a weak map looks
            weak.

    Returns:
        (N, K, H, W) float32 in [0, 1]. A zero map stays zero.

    Raises:
        ValueError: `scale` is unknown, `maps` is not (N, K, h, w) or holds a negative value.
    """
    if scale not in _SCALES:
        raise ValueError(_unknown_scale(scale))
    maps = np.asarray(maps, np.float32)
    if maps.ndim != 4:
        raise ValueError(f"Expected maps of shape (N, K, h, w); got {maps.shape}.")
    finite = np.isfinite(maps).all(axis=(-2, -1), keepdims=True)
    maps = np.where(finite, maps, np.float32(0))
    if (maps < 0).any():
        raise ValueError(f"Expected maps >= 0; the lowest value is {maps.min():.3g}. Apply a ReLU first.")
    heat = resize_maps(maps, size)
    axes = (-2, -1) if scale == "map" else None
    peak = heat.max(axis=axes, keepdims=True, initial=0.0)
    shares: NDArray[np.float32] = np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0)
    return shares


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


def tile(
    picture: NDArray[np.uint8],
    overlays: NDArray[np.uint8],
    *,
    title: str,
    captions: Sequence[tuple[str, str]],
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
    font = ImageFont.truetype(_font_path(), grid.font)
    sheet = Image.new("RGB", (grid.width, grid.height), _BACKGROUND)
    for index, (panel, (name, value)) in enumerate(zip([picture, *overlays], [(title, ""), *captions], strict=True)):
        x, y = grid.corner(index)
        shown = Image.fromarray(panel).resize((grid.panel_width, grid.panel_height), Image.Resampling.LANCZOS)
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


def _font_path() -> Path:
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
