"""A figure that notebooks show. In a file of its own because Matplotlib's figures take long to load."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A `Figure` that a notebook shows as a picture, also where pyplot was never loaded."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=100)
        return content.getvalue()
