"""Sheets of captioned panels, made to be read in MLflow's cards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_callbacks.drawing.colours import COLORMAP, check_rgb, colour, find_colormap
from gradcam_callbacks.drawing.fonts import Face, break_line, clean, shorten
from gradcam_callbacks.drawing.overlays import outline

# A panel's long side on a tile, in pixels: smaller pictures are enlarged by a whole factor to the
# first or more, bigger ones shrunk to the second. Two panels of the first are as wide as a card.
_PANEL = (128, 256)
CARD = (200, 256)
"""The height and width that a card of MLflow 3.17 has for a picture; what is higher is cut off."""
# The same in a window of 1280 pixels with MLflow's assistant open. A picture is made as narrow as that.
_SHOWN = (200, 189)
_LETTERS = 9 / _SHOWN[1]
"""How high letters are, as a share of the width: 9 pixels there."""
_SHEET = 512
"""How wide a contact sheet is, in pixels."""
_LEAST_NAME = 8
"""How many letters of a name there is room for on a contact sheet, or else it has none."""
_BACKGROUND = (17, 17, 17)
_NAME = (216, 216, 216)
_VALUE = (255, 255, 255)
_MUTED = (150, 150, 150)


def tile(
    picture: NDArray[np.uint8],
    overlays: NDArray[np.uint8],
    *,
    title: str,
    captions: Sequence[tuple[str, str]],
    region: NDArray[np.bool_] | None = None,
    colormap: str = COLORMAP,
) -> NDArray[np.uint8]:
    """One near-square sheet: the picture, then its overlays, each with a caption, and a colour bar.

    Made to be read on MLflow's cards, see `CARD`, and seen there whole. The layout and the size depend
    only on K and on the picture's shape, never on the words, so that the steps of a run lie exactly
    on each other.

    Args:
        picture: (H, W, 3) uint8. Enlarged by a whole factor, each pixel as it is, or shrunk, so that
            the long side lies between 128 and 256 pixels.
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
        GradCAMError: Matplotlib has no such colour map.
        ValueError: the shapes do not go together, there are not K captions, or the arrays are not
            uint8.
    """
    picture, overlays = np.asarray(picture), np.asarray(overlays)
    check_rgb("picture", picture, "(H, W, 3)", ndim=3)
    check_rgb("overlays", overlays, "(K, H, W, 3)", ndim=4)
    if overlays.shape[1:] != picture.shape:
        raise ValueError(f"Expected overlays of the picture's shape {picture.shape}; got {overlays.shape[1:]}.")
    if len(captions) != len(overlays):
        raise ValueError(f"Expected one caption an overlay, {len(overlays)} in all; got {len(captions)}.")
    find_colormap(colormap)

    grid = _best_grid(1 + len(overlays), picture.shape[0], picture.shape[1])
    font = Face(grid.font)
    drawn = Image.new("RGB", (grid.width, grid.height), _BACKGROUND)
    for index, (panel, (name, value)) in enumerate(zip([picture, *overlays], [(title, ""), *captions], strict=True)):
        x, y = grid.corner(index)
        drawn.paste(_caption(grid, font, name, value), (x, y))
        drawn.paste(_panel(grid, panel, region), (x, y + grid.caption))
    _draw_colour_bar(drawn, grid, font, colormap)
    return np.asarray(drawn, np.uint8)


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
    above: int = 0  # height of a title over all

    @property
    def filled(self) -> int:
        """The width of the panels and the gaps between them."""
        return self.columns * (self.panel_width + self.gap) + self.gap

    @property
    def width(self) -> int:
        """So much that a card shows the whole height."""
        return max(self.filled, math.ceil(self.height * _SHOWN[1] / _SHOWN[0]))

    @property
    def height(self) -> int:
        return self.above + self.rows * (self.caption + self.panel_height + self.gap) + self.bar + self.gap // 2

    def corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self.columns)
        return (
            (self.width - self.filled) // 2 + self.gap + column * (self.panel_width + self.gap),
            self.above + row * (self.caption + self.panel_height + self.gap),
        )


def sheet(
    panels: NDArray[np.uint8],
    *,
    title: str,
    captions: Sequence[tuple[str, str]],
    regions: Sequence[NDArray[np.bool_] | None] | None = None,
    row: int | None = None,
) -> NDArray[np.uint8]:
    """A contact sheet: panels side by side, each with a caption, under one title.

    The layout depends only on their number and shape, as that of a tile does. It is the one that shows them largest on
    512 pixels, nearly square. Captions are left away where they would have room for few letters, and take it from small
    panels: of more than 12 square ones.

    Args:
        panels: (N, H, W, 3) uint8, such as overlays, at least one.
        title: stands above them.
        captions: N pairs (name, value); see `tile`.
        regions: for each panel an (H, W) bool mask that is outlined on it, or None.
        row: for all panels in one row, the width of each, in pixels; letters then have the size that they have in text.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: the panels are not (N, H, W, 3) uint8, or there are not N captions.
    """
    panels = np.asarray(panels)
    check_rgb("panels", panels, "(N, H, W, 3)", ndim=4)
    if len(captions) != len(panels) or not captions:
        raise ValueError(f"Expected one caption a panel, {len(panels)} in all, at least one; got {len(captions)}.")
    count, height, width = panels.shape[:3]
    grid = _sheet_grid(count, height, width) if row is None else _row_grid(count, height, width, row)
    font = Face(grid.font)
    drawn = Image.new("RGB", (grid.width, grid.height), _BACKGROUND)
    left, space = grid.corner(0)[0], grid.width - 2 * grid.gap
    font.draw(drawn, (left, 0.8 * grid.font), shorten(clean(title), space, font), _VALUE, "lm")
    for index, (panel, (name, value)) in enumerate(zip(panels, captions, strict=True)):
        x, y = grid.corner(index)
        if grid.caption:
            drawn.paste(_caption(grid, font, name, value), (x, y))
        drawn.paste(_panel(grid, panel, None if regions is None else regions[index]), (x, y + grid.caption))
    return np.asarray(drawn, np.uint8)


def _panel(grid: _Grid, panel: NDArray[np.uint8], region: NDArray[np.bool_] | None) -> Image.Image:
    """A picture at the size of its grid, with a region outlined."""
    # Pixels that stay as they are make a small PNG.
    how = Image.Resampling.NEAREST if grid.panel_width >= 2 * panel.shape[1] else Image.Resampling.LANCZOS
    shown = Image.fromarray(panel).resize((grid.panel_width, grid.panel_height), how)
    if region is None:
        return shown
    mask = Image.fromarray(region).resize(shown.size, Image.Resampling.NEAREST)
    return Image.fromarray(outline(np.asarray(shown), np.asarray(mask)))


def _sheet_grid(count: int, height: int, width: int) -> _Grid:
    """The layout of a contact sheet that shows `count` panels of shape (height, width) largest."""
    font = math.ceil(_LETTERS * _SHEET)
    gap, above = round(0.25 * font), round(1.6 * font)

    def layout(columns: int, caption: int) -> _Grid:
        rows = math.ceil(count / columns)
        across = (_SHEET - gap) // columns - gap
        down = (_SHEET * _SHOWN[0] // _SHOWN[1] - above - gap // 2) // rows - caption - gap
        panel_width = max(1, min(across, int(down * width / height)))
        panel_height = max(1, round(panel_width * height / width))
        return _Grid(columns, rows, panel_width, panel_height, gap, font, 1, caption, 0, count, above)

    def largest(caption: int) -> _Grid:
        return max((layout(columns, caption) for columns in range(1, count + 1)), key=lambda grid: grid.panel_width)

    named = largest(round(1.3 * font))
    return named if named.panel_width >= _LEAST_NAME * 0.6 * font else largest(0)


def _row_grid(count: int, height: int, width: int, panel_width: int) -> _Grid:
    font = 13
    panel_height = max(1, round(panel_width * height / width))
    return _Grid(count, 1, panel_width, panel_height, 6, font, 1, round(1.4 * font), 0, count, round(1.6 * font))


def _best_grid(count: int, height: int, width: int) -> _Grid:
    """The layout of `count` panels of shape (height, width) that shows them largest on a card."""
    grids = [_grid(count, columns, height, width) for columns in range(1, count + 1)]
    return min(grids, key=lambda grid: grid.width)


def _grid(count: int, columns: int, height: int, width: int) -> _Grid:
    long_side = max(height, width)
    factor = min(math.ceil(_PANEL[0] / long_side), _PANEL[1] / long_side)
    panel_width, panel_height = max(1, round(width * factor)), max(1, round(height * factor))
    rows = math.ceil(count / columns)
    least = round(_LETTERS * max(columns * panel_width, rows * panel_height))
    for font in range(least, 3 * least):  # captions make the tile larger, too
        # About 0.6 of the font's size a letter: under 16 letters a line, a name gets a second line.
        lines = 1 if panel_width >= 16 * 0.6 * font else 2
        grid = _Grid(
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
        if font >= _LETTERS * grid.width:
            break
    return grid


def _caption(grid: _Grid, font: Face, name: str, value: str) -> Image.Image:
    """A caption bar: the name on the left, in one or two lines, the value in full on the right.

    The value stands beside the last line, or beside the first one where only so nothing of the name is cut off.
    """
    strip = Image.new("RGB", (grid.panel_width, grid.caption), _BACKGROUND)
    value = shorten(clean(value), grid.panel_width, font)
    name = clean(name)
    space = grid.panel_width
    beside = space - font.getlength(value) - 0.6 * font.size if value else space
    of_value = 0  # counted from below
    if grid.lines == 1 or font.getlength(name) <= beside:
        texts = [shorten(name, beside, font)]
    else:
        first, rest = break_line(name, space, font)
        of_value = int(font.getlength(first) <= beside < font.getlength(rest) <= space)
        texts = [first, rest if of_value else shorten(rest, beside, font)]
    # The last line stands at the same height on every caption, just above its panel.
    last = grid.caption - 0.85 * font.size
    for line, text in enumerate(reversed(texts)):
        font.draw(strip, (0, last - 1.2 * line * font.size), text, _NAME, "lm")
    font.draw(strip, (space, last - 1.2 * of_value * font.size), value, _VALUE, "rm")
    return strip


def _draw_colour_bar(sheet: Image.Image, grid: _Grid, font: Face, colormap: str) -> None:
    """Draws a bar from "0" to "max" in the first free cell, or along the bottom without one."""
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
    font.draw(sheet, (left, labels), "0", _MUTED, "lm")
    font.draw(sheet, (right, labels), "max", _MUTED, "rm")
    if stop > start:
        ramp = colour(np.linspace(0, 1, stop - start), colormap=colormap)
        band = np.repeat(ramp[None], thick, axis=0)
        sheet.paste(Image.fromarray(band), (start, round(middle - thick / 2)))
