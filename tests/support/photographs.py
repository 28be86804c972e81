"""Photographs of a cat and of a cup of espresso, for tests with a trained network.

They ship inside scikit-image, so nothing is downloaded. Both are CC0: Chelsea the cat by Stefan
van der Walt, the espresso by Rachel Michetti (https://scikit-image.org/docs/stable/api/).
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

Photograph: TypeAlias = npt.NDArray[np.uint8]

SIDE = 224

# Classes of ILSVRC 2012, by their index in the network's output.
TABBY, TIGER_CAT, EGYPTIAN_CAT, ESPRESSO = 281, 282, 285, 967

# Loaders by way of Any: scikit-image has no annotations.
_DATA: Any = skimage.data


def cat() -> Photograph:
    """Return the face of a cat, (224, 224, 3) uint8 RGB."""
    # A little left of the centre, where both eyes are in the square.
    return _window(_DATA.cat(), left=45, width=300)


def espresso() -> Photograph:
    """Return a cup of espresso on its saucer, (224, 224, 3) uint8 RGB."""
    return _window(_DATA.coffee(), left=100, width=400)


def cat_beside_espresso() -> Photograph:
    """Return the cat in columns 0 to 111 and the cup in 112 to 223, (224, 224, 3) uint8 RGB.

    Each half is a full-height window, squeezed by a quarter or so to hold both eyes and the whole
    cup. The network sees both: its two first classes are "espresso" and "Egyptian cat".
    """
    left = _window(_DATA.cat(), left=125, width=210, columns=SIDE // 2)
    right = _window(_DATA.coffee(), left=140, width=250, columns=SIDE // 2)
    return np.concatenate([left, right], axis=1)


def crops(photograph: Photograph, count: int, seed: int) -> Photograph:
    """Cut random squares out of a photograph, half of them mirrored.

    Args:
        photograph: (h, w, 3) uint8 RGB.
        count: how many squares.
        seed: of the random draw; the same seed gives the same squares.

    Returns:
        (count, 224, 224, 3) uint8 RGB. Each comes from a square of 60 to 100 % of the shorter side.
    """
    generator = np.random.default_rng(seed)
    height, width = photograph.shape[:2]
    shorter = min(height, width)
    squares = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for index in range(count):
        side = int(generator.integers(round(0.6 * shorter), shorter, endpoint=True))
        top = int(generator.integers(0, height - side, endpoint=True))
        left = int(generator.integers(0, width - side, endpoint=True))
        square = _resize(photograph[top : top + side, left : left + side])
        squares[index] = square[:, ::-1] if generator.random() < 0.5 else square
    return squares


def _window(photograph: Photograph, *, left: int, width: int, columns: int = SIDE) -> Photograph:
    """Cut a full-height window of `width` columns and resize it to (224, columns, 3)."""
    return _resize(photograph[:, left : left + width], columns)


def _resize(photograph: Photograph, columns: int = SIDE) -> Photograph:
    image = Image.fromarray(photograph).resize((columns, SIDE), Image.Resampling.BICUBIC)
    return np.array(image)
