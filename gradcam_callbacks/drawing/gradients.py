"""A Matplotlib figure of what one map is made of: its values, the gradients, and the channels that decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcam_callbacks.drawing.colours import COLORMAP, check_rgb
from gradcam_callbacks.drawing.fonts import families, without_bitmaps, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradcam_callbacks.drawing.shown_figure import ShownFigure

# Red speaks for the target and blue against it, white not at all; people who see few colours tell them apart.
_SIGNED = "RdBu_r"
_FOR, _AGAINST = "#b2182b", "#2166ac"
_BINS = 61
_MOST_NUMBERS = 16  # along a side of a map, that fit into its cells


def gradient_figure(
    overlay: NDArray[np.uint8],
    raw: NDArray[Any],
    gradients: NDArray[Any],
    contributions: NDArray[Any],
    *,
    title: str,
    summary: str,
    layer: str,
    method: str,
    most: int = 6,
) -> ShownFigure:
    """A figure of one map: the picture, the map with its values, the gradients as a histogram, and the channels.

    Args:
        overlay: (H, W, 3) uint8, the picture under its heat.
        raw: (*grid) the map, on a grid of 1 to 3 dimensions; slices of a volume are put side by side.
        gradients: (*grid, C), of any values; those that are not finite are left out.
        contributions: (*grid, C), what each channel adds to the score at each place.
        title: of the figure.
        summary: a sentence on the gradients, below the title.
        layer: its path.
        method: its name.
        most: how many channels at most that speak for the target, and as many against it.

    Returns:
        A figure that pyplot does not know: save it, or let a notebook show it.
    """
    from gradcam_callbacks.drawing.shown_figure import ShownFigure

    check_rgb("overlay", overlay, "(H, W, 3)", ndim=3)
    finite = np.nan_to_num(np.asarray(contributions, np.float64), nan=0, posinf=0, neginf=0)
    totals = finite.sum(axis=tuple(range(finite.ndim - 1)))
    order = np.argsort(-totals, kind="stable")
    speaking = [c for c in order[:most] if totals[c] > 0], [c for c in order[::-1][:most] if totals[c] < 0]
    rows = [channels for channels in speaking if channels]
    heading = f"{wrap(title, characters=100)}\n{wrap(summary, characters=120)}"
    fonts = families([heading])
    sheet = ShownFigure(figsize=(12, 4.7 + 2.2 * len(rows)), layout="constrained")
    sheet.suptitle(without_bitmaps(heading), fontsize=11, parse_math=False, fontfamily=fonts)
    parts = sheet.subfigures(1 + len(rows), 1, height_ratios=[4, *[2.2] * len(rows)], squeeze=False)[:, 0]
    picture, values, histogram = parts[0].subplots(1, 3, width_ratios=[1, 1.15, 1.15])
    picture.imshow(overlay)
    picture.set_axis_off()
    picture.set_title("the picture under its heat", fontsize=9)
    _draw_map(values, raw)
    grid = " x ".join(map(str, raw.shape))
    values.set_title(f"the raw map, {grid}: {method} at {layer}", fontsize=9, parse_math=False)
    _draw_histogram(histogram, gradients)
    largest = max((np.abs(finite[..., c]).max() for channels in rows for c in channels), default=0.0)
    for part, channels in zip(parts[1:], rows, strict=True):
        _draw_channels(part, finite, totals, channels, most, largest)
    return sheet


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """A grid of any dimension as a picture: a signal as one row, the slices of a volume side by side."""
    if values.ndim == 3:
        return np.concatenate(list(values), axis=1)
    return values[None] if values.ndim == 1 else values


def _draw_map(ax: Axes, raw: NDArray[Any]) -> None:
    """The values as colours with their scale, and as numbers where these fit into the cells."""
    shown = _flat(raw)
    height, width = shown.shape
    highest = float(shown.max())
    image = ax.imshow(shown, cmap=COLORMAP, vmin=0, vmax=highest or 1, aspect="equal" if height > 1 else "auto")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.ax.tick_params(labelsize=7)
    ax.tick_params(labelsize=7)
    if height == 1:
        ax.set_yticks([])
    if max(height, width) > _MOST_NUMBERS:
        return
    power = math.floor(math.log10(highest)) if highest > 0 else 0
    unit = 10.0**power if abs(power) > 2 else 1.0
    decimals = max(0, 1 - (0 if unit != 1 else power))
    for (y, x), value in np.ndenumerate(shown):
        # The colours are dark at 0 and bright at the maximum.
        ink = "black" if value > 0.6 * highest > 0 else "white"
        text = f"{value / unit:.{decimals}f}" if value else "0"
        ax.text(x, y, text, ha="center", va="center", color=ink, fontsize=min(8, 66 / max(height, width)))
    if unit != 1:
        ax.set_xlabel(f"numbers in units of 1e{power}", fontsize=7)


def _draw_histogram(ax: Axes, gradients: NDArray[Any]) -> None:
    """How many gradients have which value; the counts on a scale of logarithms, which shows single ones, too."""
    values = np.asarray(gradients, np.float64)
    values = values[np.isfinite(values)]
    ax.set_title("the gradients dy/dA of the score y", fontsize=9)
    ax.set_xlabel("gradient", fontsize=8)
    ax.set_ylabel("how many", fontsize=8)
    ax.tick_params(labelsize=7)
    if not values.size:
        ax.text(0.5, 0.5, "none is finite", ha="center", va="center", transform=ax.transAxes)
        return
    reach = float(np.abs(values).max())
    counts, edges = np.histogram(values, bins=_BINS, range=(-reach, reach) if reach else (-1, 1))
    middle = _BINS // 2
    colours = [_AGAINST] * middle + ["#777777"] + [_FOR] * (_BINS - middle - 1)
    ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours)
    ax.set_yscale("log")
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    ax.xaxis.get_offset_text().set_fontsize(7)
    low, median, high = values.min(), np.median(np.abs(values)), values.max()
    said = f"min {low:.2e}   median |g| {median:.1e}   max {high:.2e}\n{(values == 0).mean():.0%} are exactly zero"
    ax.text(0.5, 1.0, said, ha="center", va="bottom", transform=ax.transAxes, fontsize=7)
    ax.set_title("the gradients dy/dA of the score y", fontsize=9, pad=22)


def _draw_channels(
    part: Any,
    contributions: NDArray[np.float64],
    totals: NDArray[np.float64],
    channels: list[int],
    most: int,
    largest: float,
) -> None:
    """One row of small maps, all on one scale, each with what its channel brings in all."""
    is_for = totals[channels[0]] > 0
    part.suptitle(
        f"the channels that speak most {'for the target' if is_for else 'against it'}: number, and what it adds in all",
        fontsize=9,
        color=_FOR if is_for else _AGAINST,
    )
    axes = part.subplots(1, most, squeeze=False)[0]
    image = None
    for ax in axes[len(channels) :]:
        ax.set_axis_off()
    for ax, channel in zip(axes, channels, strict=False):
        shown = _flat(contributions[..., channel])
        aspect = "equal" if len(shown) > 1 else "auto"
        image = ax.imshow(shown, cmap=_SIGNED, vmin=-largest, vmax=largest, aspect=aspect)
        ax.set_title(f"{channel}:  {totals[channel]:+.3g}".replace("-", "−"), fontsize=8)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color="#cccccc", linewidth=0.5)
    bar = part.colorbar(image, ax=axes, shrink=0.8, aspect=12)
    bar.ax.tick_params(labelsize=7)
