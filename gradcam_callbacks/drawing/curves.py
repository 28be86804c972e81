"""A figure of curves side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gradcam_callbacks.drawing.shown_figure import ShownFigure

# Okabe and Ito 2008: told apart also by people who see few colours. Yellow is left out: it is not seen on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_GREY_DASHES = ((0, (6, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (2, 2)))


def curves(
    x: NDArray[Any],
    panels: Sequence[tuple[str, Mapping[str, NDArray[Any]], Mapping[str, float]]],
    *,
    grey: Collection[str] = (),
    x_titles: Sequence[str],
    y_title: str,
) -> ShownFigure:
    """Panels of curves over the same x axis and on the same y axis; the legend of each says the number of each curve.

    Args:
        x: (T,).
        panels: for each its title, the curves (T,) by name, and the number of each, which sorts the legend.
        grey: the names of those that are only there to compare with.
        x_titles: one a panel.
        y_title: of all.

    Returns:
        A figure that pyplot does not know: save it, or let a notebook show it.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from gradcam_callbacks.drawing.shown_figure import ShownFigure

    names = [name for name in panels[0][1] if name not in grey]
    styles: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        styles[name] = {"color": _COLOURS[number % len(_COLOURS)], "linestyle": dash, "linewidth": 1.8, "zorder": 3}
    for number, name in enumerate(grey):
        styles[name] = {"color": "#8a8a8a", "linestyle": _GREY_DASHES[number % len(_GREY_DASHES)], "linewidth": 1.3}
    rows = max(len(lines) for _, lines, _ in panels)
    layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08)  # inches; the legends below the axes need some
    sheet = ShownFigure(figsize=(4.6 * len(panels), 3.5 + 0.2 * rows), layout=layout)
    axes = sheet.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (title, lines, numbers), x_title in zip(axes, panels, x_titles, strict=True):
        for name, line in lines.items():
            ax.plot(x, line, label=f"{numbers[name]:.3f}  {name}", **styles[name])
        ax.set_title(title, fontsize=11, loc="left")
        ax.set_xlabel(x_title, fontsize=9)
        ax.set_xlim(float(np.min(x)), float(np.max(x)))
        ax.tick_params(labelsize=8, length=3)
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        order = sorted(range(len(lines)), key=lambda i: -list(numbers.values())[i])
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            title="area under the curve",
            title_fontsize=8,
            alignment="left",
            fontsize=8,
            frameon=False,
            handlelength=3.2,
            loc="upper left",
            bbox_to_anchor=(0, -0.14),
        )
    axes[0].set_ylabel(y_title, fontsize=9)
    if min(np.min(line) for _, lines, _ in panels for line in lines.values()) >= 0:
        axes[0].set_ylim(bottom=0)  # so that a small change looks small
    return sheet
