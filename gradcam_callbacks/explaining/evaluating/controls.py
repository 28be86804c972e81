"""Maps that know nothing of the model: what a method must beat to be worth anything. Pure functions of arrays.

They lie on the grid of the maps that they stand beside, so that they are as coarse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array

Control = Callable[[Array, tuple[int, int], np.random.Generator], Array]
"""(images (M, H, W, C), grid (h, w), where randomness comes from) -> maps (M, h, w) float32, >= 0."""


def random_map(images: Array, grid: tuple[int, int], rng: np.random.Generator) -> Array:
    """Each place drawn from 0 to 1, anew for each picture."""
    return rng.random((len(images), *grid), np.float32)


def centred_gaussian(images: Array, grid: tuple[int, int], rng: np.random.Generator) -> Array:
    """A Gaussian in the middle, of a standard deviation of a quarter of each side: photographs are of what is there."""
    del rng
    # The centre of cell i of n is at (i + 1/2) / n of the side.
    down, across = (np.exp(-((((np.arange(cells) + 0.5) / cells - 0.5) / 0.25) ** 2) / 2) for cells in grid)
    return np.repeat(np.outer(down, across)[None], len(images), axis=0).astype(np.float32)


def edges(images: Array, grid: tuple[int, int], rng: np.random.Generator) -> Array:
    """How strong the edges of the picture are: the magnitude of its Sobel derivatives, averaged over each cell.

    Reference:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", compare methods with an edge detector.
    """
    from scipy.ndimage import sobel

    del rng
    grey = np.asarray(images, np.float32).mean(axis=-1)
    magnitude = np.hypot(sobel(grey, axis=1, mode="nearest"), sobel(grey, axis=2, mode="nearest"))
    return drawing.resize_maps(magnitude, grid)


CONTROLS: Mapping[str, Control] = {
    "random map": random_map,
    "centred Gaussian": centred_gaussian,
    "edges": edges,
}
"""By the names that tables and plots give them."""
RANDOM_WEIGHTS = "random weights"
"""The name of the control that is the method itself, on the model with all its weights shuffled."""
