"""Four kinds of pictures with four classes each, and the object's mask: what the trainings learn from.

- drawn: the pictures of `gradcam demo`.
- disks: disks on blotchy ground; the class is the disk's texture (plain, striped, ringed, dotted), and colours tell
  nothing.
- cutouts: objects cut out of photographs, before pieces of other photographs that all classes share.
- crops: pieces of the same four photographs that hold the object; here what is around it tells the class too.

The photographs ship inside scikit-image. All pictures are drawn at 160 x 160 (drawn: at 128 x 128) and resized by
area averaging. A set has the parts "training", "validation" and "probes", which share no picture, and there is one set
for the half of the seeds on which thresholds are chosen, and another for the half that is reported.
"""

from __future__ import annotations

import colorsys
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter

from gradcam_callbacks.demo.pictures import make_pictures

__all__ = ["CLASSES", "KINDS", "PARTS", "Pictures", "load"]

Array = np.ndarray[Any, np.dtype[Any]]
Drawer = Callable[[int, np.random.Generator], tuple[Array, Array]]

CLASSES = 4
PARTS = {"training": 1200, "validation": 200, "probes": 96}
"""How many pictures each part has; picture i is of class i % CLASSES."""

_SIDE = 160
_FORMAT = 1
"""Goes up when other pictures are drawn, so that those in a working folder are not taken for them."""


class Pictures(NamedTuple):
    """Pictures (N, side, side, 3) uint8, labels (N,) int64 and where the object is, (N, side, side) bool."""

    images: Array
    labels: Array
    masks: Array


def load(kind: str, side: int, half: int, work: Path) -> dict[str, Pictures]:
    """The parts of a set, drawn the first time and read from `work` afterwards.

    Args:
        kind: one of `KINDS`.
        side: height and width of the pictures.
        half: 0 or 1; the sets of the two halves share no picture.
        work: folder of the file.

    Returns:
        A `Pictures` for each name in `PARTS`.
    """
    path = work / "pictures" / f"{kind}-{side}-{half}-v{_FORMAT}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Array] = {}
        for number, (part, count) in enumerate(PARTS.items()):
            images, masks = KINDS[kind](count, 1000 + 10 * number + half)
            arrays[f"{part}_images"], arrays[f"{part}_masks"] = _resized(images, masks, side)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        temporary.replace(path)
    with np.load(path) as arrays:
        return {
            part: Pictures(arrays[f"{part}_images"], np.arange(count) % CLASSES, arrays[f"{part}_masks"])
            for part, count in PARTS.items()
        }


def _resized(images: Array, masks: Array, side: int) -> tuple[Array, Array]:
    """Pictures by area averaging, masks by the half of each pixel that is covered."""
    if images.shape[1] == side:
        return images, masks
    resample = Image.Resampling.BOX if side < images.shape[1] else Image.Resampling.BICUBIC
    smaller = [np.asarray(Image.fromarray(image).resize((side, side), resample)) for image in images]
    covered = [
        np.asarray(Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
        for mask in masks
    ]
    return np.stack(smaller), np.stack(covered) >= 0.5


def _each(draw: Drawer) -> Callable[[int, int], tuple[Array, Array]]:
    """A function of count and seed, from one that draws a picture of a class: float in [0, 1], and its mask."""

    def drawn(count: int, seed: int) -> tuple[Array, Array]:
        images, masks = np.empty((count, _SIDE, _SIDE, 3), np.uint8), np.empty((count, _SIDE, _SIDE), bool)
        for index in range(count):
            image, mask = draw(index % CLASSES, np.random.default_rng([seed, index]))
            images[index], masks[index] = np.rint(np.clip(image, 0, 1) * 255), mask
        return images, masks

    return drawn


def _demo(count: int, seed: int) -> tuple[Array, Array]:
    images, _, masks = make_pictures(count, seed=seed, watermark=False)
    return images, masks


# ---- Disks ----


def _disk(label: int, rng: np.random.Generator) -> tuple[Array, Array]:
    ground = _blotches(rng)
    radius = rng.uniform(0.2, 0.3) * _SIDE
    y0, x0 = rng.uniform(radius + 3, _SIDE - radius - 3, 2)
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    distance = np.hypot(y - y0, x - x0)
    coverage = np.clip(radius - distance + 0.5, 0, 1)
    first, second = _two_colours(rng, ground.mean(axis=(0, 1)))
    period = rng.uniform(0.12, 0.15) * _SIDE
    angle = rng.uniform(0, np.pi)
    along, across = _turned(x - x0, y - y0, angle)
    waves = (
        np.full_like(y, -1),
        np.sin(2 * np.pi * along / period + rng.uniform(0, 6)),
        np.sin(2 * np.pi * distance / period + rng.uniform(0, 6)),
        2.6 * np.sin(np.pi * along / period * 1.3) ** 2 * np.sin(np.pi * across / period * 1.3) ** 2 - 1.1,
    )
    share = np.clip(waves[label] * 2 + 0.5, 0, 1)[..., None]
    if label == 0 and rng.random() < 0.5:
        first, second = second, first
    filling = (1 - share) * first + share * second
    light = 1 + rng.uniform(-0.25, 0.25) * ((x - x0) / radius)[..., None]
    image = ground + coverage[..., None] * (filling * light - ground)
    return image + rng.standard_normal(image.shape) * 0.015, coverage >= 0.5


def _blotches(rng: np.random.Generator) -> Array:
    """Ground of a few soft patches of colour, (side, side, 3) in [0, 1]."""
    base = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.35, 0.8)))
    ground = np.zeros((_SIDE, _SIDE, 3))
    for cells, strength in ((4, 0.16), (9, 0.12), (20, 0.06)):
        noise = np.clip(128 + 60 * rng.standard_normal((cells, cells, 3)), 0, 255).astype(np.uint8)
        large = Image.fromarray(noise).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        ground += strength * (np.asarray(large, np.float32) / 128 - 1)
    return np.clip(base + ground, 0, 1)


def _two_colours(rng: np.random.Generator, away_from: Array) -> tuple[Array, Array]:
    """Two colours that differ from each other and from a third."""
    while True:
        one, other = (
            np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1), rng.uniform(0.15, 1))) for _ in range(2)
        )
        brightness = np.array([0.3, 0.6, 0.1])
        if abs((one - other) @ brightness) > 0.4 and min(np.abs(c - away_from).max() for c in (one, other)) > 0.2:
            return one, other


def _turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


# ---- Photographs ----


class _Photograph(NamedTuple):
    """A shipped photograph, its object's box (x0, y0, x1, y1) for crops, and the outline for cutouts, in pixels."""

    name: str
    box: tuple[int, int, int, int]
    polygons: tuple[tuple[tuple[int, int], ...], ...]
    ellipses: tuple[tuple[int, int, int, int], ...] = ()
    stretch: float = 1.0


_PHOTOGRAPHS = (
    _Photograph(
        "chelsea",
        (100, 70, 330, 275),
        (
            (
                *((42, 60), (60, 25), (110, 3), (230, 3), (330, 20), (350, 75), (352, 130)),
                *((335, 190), (295, 255), (230, 282), (170, 275), (105, 225), (55, 165), (35, 110)),
            ),
        ),
    ),
    _Photograph("coffee", (172, 17, 410, 212), (), ((78, 72, 478, 388), (172, 17, 410, 212))),
    _Photograph(
        "rocket",
        (298, 125, 347, 410),
        (((322, 125), (334, 148), (334, 176), (339, 182), (338, 395), (305, 395), (306, 182), (310, 176), (311, 148)),),
        stretch=2.2,
    ),
    _Photograph(
        "astronaut",
        (150, 14, 304, 195),
        (((205, 160), (262, 160), (258, 188), (232, 194), (205, 182)),),
        ((153, 14, 302, 135), (178, 60, 270, 190)),
    ),
)
_GROUNDS = (
    "brick",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "stereo_motorcycle",
    "moon",
    "page",
)


@functools.cache
def _objects() -> tuple[tuple[Image.Image, Image.Image], ...]:
    """Each photograph and the soft mask of its object, "L"."""
    return tuple(_with_mask(photograph) for photograph in _PHOTOGRAPHS)


def _with_mask(photograph: _Photograph) -> tuple[Image.Image, Image.Image]:
    image = Image.fromarray(getattr(skimage.data, photograph.name)())
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    for polygon in photograph.polygons:
        draw.polygon(polygon, fill=255)
    for ellipse in photograph.ellipses:
        draw.ellipse(ellipse, fill=255)
    return image, mask.filter(ImageFilter.GaussianBlur(2))


@functools.cache
def _grounds() -> tuple[Image.Image, ...]:
    loaded = (getattr(skimage.data, name)() for name in _GROUNDS)
    pictures = (image[0] if isinstance(image, tuple) else image for image in loaded)
    return tuple(Image.fromarray(picture).convert("RGB") for picture in pictures)


def _cutout(label: int, rng: np.random.Generator) -> tuple[Array, Array]:
    image, mask = _objects()[label]
    box = mask.getbbox()
    assert box is not None
    image, mask = image.crop(box), mask.crop(box)
    width, height = image.size
    width = round(width * _PHOTOGRAPHS[label].stretch)
    scale = rng.uniform(0.45, 0.68) * _SIDE / max(np.sqrt(width * height), 0.75 * max(width, height))
    size = (max(8, round(width * scale * rng.uniform(0.9, 1.1))), max(8, round(height * scale)))
    image, mask = image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.LANCZOS)
    angle = rng.uniform(-25, 25)
    image, mask = (one.rotate(angle, Image.Resampling.BICUBIC, expand=True) for one in (image, mask))
    if rng.random() < 0.5:
        image, mask = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, mask))
    room_x, room_y = _SIDE - image.width, _SIDE - image.height
    place = tuple(int(rng.integers(min(room, -2), max(room, 2) + 1)) for room in (room_x, room_y))
    sheet, coverage = Image.new("RGB", (_SIDE, _SIDE)), Image.new("L", (_SIDE, _SIDE))
    sheet.paste(image, place)
    coverage.paste(mask, place)
    alpha = np.asarray(coverage, np.float32)[..., None] / 255
    front, back = _relit(np.asarray(sheet, np.float32) / 255, rng, 0.12), _ground(rng)
    return back + alpha * (front - back), alpha[..., 0] >= 0.5


def _ground(rng: np.random.Generator) -> Array:
    """A random piece of one of the photographs that no class owns, in any light and a shade of any colour."""
    image = _grounds()[rng.integers(len(_GROUNDS))]
    piece = _square(image, rng, 0.3, 0.9)
    values = np.asarray(piece, np.float32) / 255
    return _relit(values[:, :: rng.choice([-1, 1])], rng, 0.3)


def _square(image: Image.Image, rng: np.random.Generator, smallest: float, largest: float) -> Image.Image:
    side = rng.uniform(smallest, largest) * min(image.size)
    x, y = (rng.uniform(0, length - side) for length in image.size)
    return image.resize((_SIDE, _SIDE), Image.Resampling.BOX, (x, y, x + side, y + side))


def _relit(values: Array, rng: np.random.Generator, colour: float) -> Array:
    """Another brightness, contrast and shade of colour."""
    shade = 1 + colour * rng.uniform(-1, 1, 3)
    return np.clip((values - 0.5) * rng.uniform(0.75, 1.2) + 0.5 + rng.uniform(-0.12, 0.12), 0, 1) * shade


def _crop(label: int, rng: np.random.Generator) -> tuple[Array, Array]:
    image, _ = _objects()[label]
    x0, y0, x1, y1 = _PHOTOGRAPHS[label].box
    longest, shorter = max(x1 - x0, y1 - y0), min(image.size)
    side = rng.uniform(1.1 * longest, min(2.2 * longest, shorter))
    x, y = (
        rng.uniform(max(0, high - side), min(low, length - side))  # the whole box is in the piece
        for low, high, length in ((x0, x1, image.width), (y0, y1, image.height))
    )
    piece = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, (x, y, x + side, y + side))
    values = _relit(np.asarray(piece, np.float32) / 255, rng, 0.25)
    left, right, top, bottom = (
        round((end - start) / side * _SIDE) for end, start in ((x0, x), (x1, x), (y0, y), (y1, y))
    )
    region = np.zeros((_SIDE, _SIDE), bool)
    region[top:bottom, left:right] = True
    if rng.random() < 0.5:
        values, region = values[:, ::-1], region[:, ::-1]
    return values + rng.standard_normal(values.shape) * 0.02, region


KINDS: dict[str, Callable[[int, int], tuple[Array, Array]]] = {
    "drawn": _demo,
    "disks": _each(_disk),
    "cutouts": _each(_cutout),
    "crops": _each(_crop),
}
"""Function of count and seed that draws the pictures and masks of a kind."""
