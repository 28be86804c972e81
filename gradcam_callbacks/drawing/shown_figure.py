"""A figure that notebooks show. In a file of its own because Matplotlib's figures take long to load."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A `Figure` that a notebook shows as a picture, also where pyplot was never loaded."""

    def png(self) -> bytes:
        """The content of a PNG file of it, at 100 pixels an inch."""
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=100)
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()
