"""Curves side by side."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from gradcam_callbacks import drawing


def test_each_panel_has_its_curves_and_numbers() -> None:
    """Lines lie where they should, the legend has the largest number first, and what is to compare with is grey."""
    x = np.linspace(0, 1, 5)
    panels = [
        ("up", {"a": x, "b": x**2, "c": x * 0}, {"a": 0.5, "b": 1 / 3, "c": 0.0}),
        ("down", {"a": 1 - x, "b": 1 - x**2, "c": x * 0 + 1}, {"a": 0.5, "b": 2 / 3, "c": 1.0}),
    ]
    figure = drawing.curves(x, panels, grey=["c"], x_titles=("share", "share"), y_title="confidence")
    for ax, (title, lines, _) in zip(figure.axes, panels, strict=True):
        assert ax.get_title(loc="left") == title
        for line, (name, values) in zip(ax.get_lines(), lines.items(), strict=True):
            assert str(line.get_label()).endswith(name)
            np.testing.assert_array_equal(line.get_ydata(), values)
        colours = [line.get_color() for line in ax.get_lines()]
        assert len(set(colours)) == 3
        assert colours[2] == "#8a8a8a"
    texts = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert texts == [["0.500  a", "0.333  b", "0.000  c"], ["1.000  c", "0.667  b", "0.500  a"]]


def test_many_curves_are_told_apart() -> None:
    """Twenty lines have twenty looks, by colour and dash, and the legend lies on the picture."""
    x = np.linspace(0, 1, 3)
    names = [f"method {number}" for number in range(20)]
    lines = {name: x * number for number, name in enumerate(names)}
    figure = drawing.curves(x, [("t", lines, dict.fromkeys(names, 0.0))], x_titles=("x",), y_title="y")
    looks = {
        (line.get_color(), str(line.get_linestyle()), str(line._dash_pattern)) for line in figure.axes[0].get_lines()
    }
    assert len(looks) == 20
    with Image.open(io.BytesIO(figure.png())) as picture:
        width, height = picture.size
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
