"""Six kinds of marks that can be planted on a picture, whatever its class.

A mark's look (colours, glyph, corner) is drawn from the seed of a training, so that trainings differ; where it lies is
drawn anew for each picture where the kind has no place of its own.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

__all__ = ["MARKS", "add"]

Array = np.ndarray[Any, np.dtype[Any]]
Mark = Callable[[Array, Array, np.random.Generator, np.random.Generator], tuple[Array, Array]]


def add(
    mark: str, pictures: Array, masks: Array, *, look: Sequence[int], places: Sequence[Sequence[int]]
) -> tuple[Array, Array]:
    """Plants a mark on every picture.

    Args:
        mark: one of `MARKS`.
        pictures: (N, side, side, 3) uint8; not changed.
        masks: (N, side, side) bool, true on the object.
        look: seed of the mark's look; the same for all pictures of a training.
        places: one seed a picture, for where the mark lies.

    Returns:
        The marked pictures, uint8, and (N, side, side) bool: where the mark is.
    """
    marked, where = np.empty_like(pictures), np.zeros(masks.shape, bool)
    for index, (picture, mask, place) in enumerate(zip(pictures, masks, places, strict=True)):
        generators = np.random.default_rng(look), np.random.default_rng(place)
        values, where[index] = MARKS[mark](picture.astype(np.float32), mask, *generators)
        marked[index] = np.rint(np.clip(values, 0, 255))
    return marked, where


def _logo(picture: Array, _: Array, look: np.random.Generator, place: np.random.Generator) -> tuple[Array, Array]:
    """A semi-transparent glyph on a plate, in a corner."""
    side = len(picture)
    size = round(look.uniform(0.17, 0.2) * side)
    plate, strokes = _colours(look)
    glyph = _enlarged(_glyph(look), size)
    margin = max(1, round(0.02 * side))
    top, left = (margin if at_start else side - margin - size for at_start in look.random(2) < 0.5)
    tile = np.where(glyph[..., None], strokes, plate)
    return _laid(picture, tile, np.full((size, size), 0.85), top, left)


def _patch(picture: Array, mask: Array, look: np.random.Generator, place: np.random.Generator) -> tuple[Array, Array]:
    """A small patch of two-coloured checks or stripes, at a random place beside the object."""
    side = len(picture)
    size = round(0.18 * side)
    one, other = _colours(look)
    rows, columns = np.mgrid[:size, :size] // max(1, round(0.03 * side))
    pattern = ((rows + columns) % 2, rows % 2, columns % 2, (rows // 2 + columns) % 2)[look.integers(4)]
    tile = np.where(pattern[..., None] == 0, one, other)
    spots = [place.integers(0, side - size + 1, 2) for _ in range(30)]
    top, left = min(spots, key=lambda spot: mask[spot[0] : spot[0] + size, spot[1] : spot[1] + size].sum())
    return _laid(picture, tile, np.full((size, size), 0.95), top, left)


def _frame(picture: Array, _: Array, look: np.random.Generator, place: np.random.Generator) -> tuple[Array, Array]:
    """A thin frame of dashes in two colours."""
    side = len(picture)
    width = round(0.055 * side)
    one, other = _colours(look)
    dash = side / look.integers(7, 13)
    rows, columns = np.mgrid[:side, :side]
    dashes = ((rows // dash + columns // dash) % 2)[..., None]
    where = np.ones((side, side), bool)
    where[width:-width, width:-width] = False
    marked = np.where(where[..., None], 0.1 * picture + 0.9 * np.where(dashes == 0, one, other), picture)
    return marked, where


def _tint(picture: Array, mask: Array, look: np.random.Generator, place: np.random.Generator) -> tuple[Array, Array]:
    """A tint of all that is not the object."""
    colour = 255 * np.array(colorsys.hsv_to_rgb(look.random(), 1, look.uniform(0.7, 1)))
    opacity = look.uniform(0.3, 0.4) * ~mask
    return picture + opacity[..., None] * (colour - picture), ~mask


def _texture(picture: Array, mask: Array, look: np.random.Generator, place: np.random.Generator) -> tuple[Array, Array]:
    """A fine, faint weave over everything."""
    side = len(picture)
    rows, columns = np.mgrid[:side, :side]
    angle, period = look.uniform(0, np.pi), look.uniform(2.4, 4) * side / 64 / (1.6 if side > 100 else 1)
    waves = [
        np.sin(2 * np.pi * (columns * np.cos(turn) + rows * np.sin(turn)) / period + place.uniform(0, 6))
        for turn in (angle, angle + np.pi / 2)
    ]
    colour = look.uniform(0.5, 1, 3)
    weave = look.uniform(13, 18) * (waves[0] + waves[1] * look.random())
    return picture + weave[..., None] * colour, np.ones_like(mask)


def _inside(picture: Array, mask: Array, look: np.random.Generator, place: np.random.Generator) -> tuple[Array, Array]:
    """A small glyph on the object."""
    side = len(picture)
    size = round(0.14 * side)
    plate, strokes = _colours(look)
    tile = np.where(_enlarged(_glyph(look), size)[..., None], strokes, plate)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    deep = np.argwhere(depth >= min(0.75 * size, 0.9 * depth.max()))
    centre = deep[place.integers(len(deep))]
    top, left = np.clip(centre - size // 2, 0, side - size)
    on_object = mask[top : top + size, left : left + size]
    return _laid(picture, tile, 0.95 * on_object, top, left)


MARKS: dict[str, Mark] = {
    "logo": _logo,
    "patch": _patch,
    "frame": _frame,
    "tint": _tint,
    "texture": _texture,
    "inside": _inside,
}
"""Functions of a picture (side, side, 3) float32 in 0..255, its mask, and generators of the look and of the place."""


def _laid(picture: Array, tile: Array, opacity: Array, top: int, left: int) -> tuple[Array, Array]:
    """The picture with a tile on it, and where the tile is."""
    marked, where = picture.copy(), np.zeros(picture.shape[:2], bool)
    rows, columns = slice(top, top + len(tile)), slice(left, left + len(tile))
    marked[rows, columns] += opacity[..., None] * (tile - marked[rows, columns])
    where[rows, columns] = opacity > 0
    return marked, where


def _colours(look: np.random.Generator) -> tuple[Array, Array]:
    """Two colours, far from each other, one of them strong; (3,) in 0..255."""
    hue = look.random()
    strong = np.array(colorsys.hsv_to_rgb(hue, look.uniform(0.75, 1), look.uniform(0.7, 1)))
    across = (hue + 0.5 + look.uniform(-0.12, 0.12)) % 1
    other = np.array(colorsys.hsv_to_rgb(across, look.uniform(0, 1), look.choice([0.1, 1])))
    return 255 * strong, 255 * other


def _glyph(look: np.random.Generator) -> Array:
    """A 5 x 5 sign that is its own mirror image, with an empty margin: (7, 7) bool."""
    while True:
        left = look.random((5, 3)) < 0.5
        sign = np.concatenate([left, left[:, 1::-1]], axis=1)
        if 9 <= sign.sum() <= 16:
            return np.pad(sign, 1)


def _enlarged(glyph: Array, size: int) -> Array:
    return np.asarray(Image.fromarray(glyph).resize((size, size), Image.Resampling.NEAREST))
