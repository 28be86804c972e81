"""Matplotlib figures: of an explanation, and a contact sheet of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcam_callbacks.drawing.colours import COLORMAP, check_rgb, find_colormap
from gradcam_callbacks.drawing.fonts import families, without_bitmaps, wrap
from gradcam_callbacks.drawing.overlays import SCALES, check_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradcam_callbacks.drawing.shown_figure import ShownFigure


def figure(
    pictures: NDArray[np.uint8],
    overlays: NDArray[np.uint8],
    *,
    titles: Sequence[Sequence[str]],
    picture_titles: Sequence[str],
    colormap: str = COLORMAP,
    scale: str = "map",
) -> ShownFigure:
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
        A figure that pyplot does not know: save it, or let a notebook show it.

    Raises:
        GradCAMError: `scale` is unknown, or Matplotlib has no such colour map.
        ValueError: the shapes or the numbers of titles do not go together, or the arrays are not
            uint8.
    """
    from gradcam_callbacks.drawing.shown_figure import ShownFigure

    check_scale(scale)
    pictures, overlays = np.asarray(pictures), np.asarray(overlays)
    _check(pictures, overlays, titles, picture_titles)
    find_colormap(colormap)
    rows, targets = overlays.shape[:2]
    height, width = pictures.shape[1:3]
    inches = 3.0 / max(height, width)  # of a pixel
    wrapped = [
        [wrap(text, characters=max(12, round(12 * inches * width))) for text in (first, *others)]
        for first, others in zip(picture_titles, titles, strict=True)
    ]
    fonts = families(text for row in wrapped for text in row)
    lines = [max(text.count("\n") + 1 for text in row) for row in wrapped]
    sheet = ShownFigure(
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
            ax.set_title(without_bitmaps(text), fontsize=10, parse_math=False, fontfamily=fonts)
    _add_colour_bar(sheet, axes, colormap, SCALES[scale], row_inches=inches * height)
    return sheet


def contact_sheet(pictures: NDArray[np.uint8], titles: Sequence[str]) -> ShownFigure:
    """A figure of pictures, up to 8 in a row, each with its title.

    Args:
        pictures: (N, H, W, 3) uint8, N > 0.
        titles: N texts; long ones are wrapped.
    """
    from gradcam_callbacks.drawing.shown_figure import ShownFigure

    check_rgb("pictures", pictures, "(N, H, W, 3)", ndim=4)
    columns = min(8, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures.shape[1:3]
    inches = 1.3 / max(height, width)  # of a pixel
    wrapped = [wrap(text, characters=max(10, round(14 * inches * width))) for text in titles]
    fonts = families(wrapped)
    lines = max(text.count("\n") + 1 for text in wrapped)
    sheet = ShownFigure(
        figsize=(columns * (inches * width + 0.1), rows * (inches * height + 0.1 + 0.14 * lines)), layout="compressed"
    )
    axes = sheet.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, shown, text in zip(axes, pictures, wrapped, strict=False):
        ax.imshow(shown)
        ax.set_title(without_bitmaps(text), fontsize=7, parse_math=False, fontfamily=fonts)
    return sheet


def _check(
    pictures: NDArray[Any], overlays: NDArray[Any], titles: Sequence[Sequence[str]], picture_titles: Sequence[str]
) -> None:
    """Raises `ValueError` where pictures, overlays and titles do not go together."""
    check_rgb("pictures", pictures, "(N, H, W, 3)", ndim=4)
    check_rgb("overlays", overlays, "(N, K, H, W, 3)", ndim=5)
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


def _add_colour_bar(sheet: Figure, axes: NDArray[Any], colormap: str, label: str, *, row_inches: float) -> None:
    """Adds one colour bar for all panels on the right, at most as tall as 1.6 rows."""
    from matplotlib.cm import ScalarMappable

    rows, columns = axes.shape
    bar = sheet.colorbar(
        ScalarMappable(cmap=find_colormap(colormap)),
        ax=axes,
        aspect=28,
        fraction=0.15 / columns,
        pad=0.012,
        shrink=min(1.0, 1.6 / rows),
        ticks=[0, 0.5, 1],
    )
    bar.set_label(wrap(label, characters=max(12, round(14 * row_inches * min(rows, 1.6)))), fontsize=8)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
