"""Heat as colour."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from gradcam_callbacks.errors import GradCAMError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


COLORMAP = "plasma"
"""The colour map of tiles, figures and pages. Its lightness rises all the way to the maximum, so that the hottest spot
is the brightest one, also for people who see few colours. The darkest one of "turbo" is its maximum."""
ALPHA = 0.6
"""The share of the colour where the heat is highest."""


def cover(heatmaps: NDArray[Any]) -> NDArray[np.float32]:
    """The share of its full weight that the colour of a heat gets.

    No evidence is no colour, and little evidence lets the picture through, so that it stays recognisable.

    Args:
        heatmaps: (...) floats in [0, 1].

    Returns:
        (...) float32 in [0, 1]; 0 at 0, and 1 from 0.81 on.
    """
    values = np.asarray(heatmaps, np.float32)
    share: NDArray[np.float32] = np.minimum(np.float32(1), np.float32(1.15) * values ** np.float32(0.65))
    return share


def colour(heatmaps: NDArray[Any], *, colormap: str = COLORMAP) -> NDArray[np.uint8]:
    """Heat as colour.

    Args:
        heatmaps: (...) floats in [0, 1]; values outside take the colour of the nearer end.
        colormap: the name of a Matplotlib colour map.

    Returns:
        (..., 3) uint8 RGB.

    Raises:
        GradCAMError: Matplotlib has no colour map of that name; the message has the names that are
            close.
    """
    # Not asarray alone: a colour map reads integers as indices into its table.
    values = np.asarray(heatmaps, np.float32)
    return np.asarray(find_colormap(colormap)(values, bytes=True), np.uint8)[..., :3]


def find_colormap(name: str) -> Colormap:
    """A colour map of Matplotlib by its name; an unknown name raises, and says which names are close."""
    try:
        return matplotlib.colormaps[name]
    except KeyError:
        known = {known.lower(): known for known in matplotlib.colormaps}
        close = [known[match] for match in difflib.get_close_matches(name.lower(), known)]
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise GradCAMError(
            f"No colormap {name!r}.{hint} `matplotlib.colormaps` lists all {len(known)}.", argument="colormap"
        ) from None


def check_rgb(name: str, array: NDArray[Any], shape: str, *, ndim: int) -> None:
    """Raises where an array is no picture of 8-bit RGB."""
    if array.ndim != ndim or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise ValueError(f"Expected {name} of shape {shape} and dtype uint8; got {array.shape} and {array.dtype}.")
