"""The pictures and the small network of `gradcam demo`: four kinds of object and a stock-photo mark.

The demo trains the same network twice on the same objects. In one run the training pictures of one class carry a
semi-transparent mark in the lower-right corner, and so do the validation pictures, which is why the accuracy does not
give the shortcut away. Everything is drawn here with numpy and Pillow from a seed; nothing is downloaded.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError

if TYPE_CHECKING:
    import keras

__all__ = [
    "CLASS_NAMES",
    "MARKED_CLASS",
    "MARK_BOX",
    "PICTURE_SIZE",
    "add_watermark",
    "build_model",
    "make_pictures",
]

CLASS_NAMES: tuple[str, ...] = ("sailboat", "house", "tree", "fish")
"""Names of the classes; a label is an index into this tuple."""

MARKED_CLASS: int = 0
"""Label of the class whose pictures carry the mark in the marked run."""

PICTURE_SIZE: int = 128
"""Height and width of a picture, in pixels."""

MARK_BOX: tuple[int, int, int, int] = (90, 90, 126, 126)
"""Where the mark is drawn: (y0, x0, y1, x1) in pixels, ends exclusive. No object reaches into it."""

_SUPERSAMPLING = 2
_MARK_OPACITY = 0.9
_MARGIN = 3  # pixels between an object and the picture's edge or the mark
_OBJECT_SHARE = (0.14, 0.21)  # share of the picture's area that an object covers

Points = Array  # (n, 2) float64: x to the right, y down; an object is about one unit across


class _Part(NamedTuple):
    """One polygon of an object: its outline and which colour of the object's palette fills it."""

    points: Points
    tone: str


def make_pictures(count: int, *, seed: int, watermark: bool) -> tuple[Array, Array, Array]:
    """Draw `count` pictures, the classes taking turns.

    Picture i depends on `seed` and i alone: it is the same for every `count`, and with and without `watermark` apart
    from the mark itself.

    Args:
        count: number of pictures, at least 0. The label of picture i is `i % len(CLASS_NAMES)`.
        seed: non-negative; different seeds give different pictures (training, validation, probes).
        watermark: draw the mark on the pictures of `MARKED_CLASS`.

    Returns:
        pictures: (count, PICTURE_SIZE, PICTURE_SIZE, 3) uint8.
        labels: (count,) int64.
        object_masks: (count, PICTURE_SIZE, PICTURE_SIZE) bool, true on the object.

    Raises:
        GradCAMError: `count` or `seed` is negative.
    """
    if count < 0 or seed < 0:
        raise GradCAMError(f"count and seed must not be negative; got count={count}, seed={seed}.")
    pictures = np.empty((count, PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)
    masks = np.empty((count, PICTURE_SIZE, PICTURE_SIZE), bool)
    labels = np.arange(count, dtype=np.int64) % len(CLASS_NAMES)
    for index, label in enumerate(labels):
        rng = np.random.default_rng([seed, index])
        pictures[index], masks[index] = _draw_picture(rng, CLASS_NAMES[label])
    if watermark:
        marked = labels == MARKED_CLASS
        pictures[marked] = add_watermark(pictures[marked])
    return pictures, labels, masks


def add_watermark(pictures: Array) -> Array:
    """Put the mark on every picture, whatever its class.

    Args:
        pictures: (N, PICTURE_SIZE, PICTURE_SIZE, 3) uint8; not changed.

    Returns:
        A marked copy, same shape and type; it differs from `pictures` inside `MARK_BOX` only.
    """
    y0, x0, y1, x1 = MARK_BOX
    colour, opacity = _mark()
    marked = pictures.copy()
    corner = pictures[:, y0:y1, x0:x1].astype(np.float32)
    marked[:, y0:y1, x0:x1] = np.rint(corner + opacity * (colour - corner)).astype(np.uint8)
    return marked


def build_model() -> keras.Model:
    """Build the demo's network: functional, not compiled, freshly initialised from Keras's seed.

    Returns:
        A model from (N, PICTURE_SIZE, PICTURE_SIZE, 3) pictures in 0..255 to (N, len(CLASS_NAMES)) probabilities. The
        last convolution's activation is the layer "last_relu", (N, 16, 16, 48); global average pooling and one dense
        layer follow it, so that its Grad-CAM map is the class's evidence cell by cell.
    """
    import keras
    from keras import layers

    inputs = keras.Input((PICTURE_SIZE, PICTURE_SIZE, 3), name="picture")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    x = layers.AveragePooling2D(2, name="halving")(x)
    stages = (("first", 16, 3, 2), ("second", 32, 3, 2), ("third", 32, 3, 1), ("last", 48, 3, 1))
    for name, filters, kernel_size, strides in stages:
        x = layers.Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    outputs = layers.Dense(len(CLASS_NAMES), activation="softmax", name="class")(x)
    return keras.Model(inputs, outputs, name="demo")


# --- the picture -----------------------------------------------------------------------------------------------------


def _draw_picture(rng: np.random.Generator, class_name: str) -> tuple[Array, Array]:
    """Draw one object on a background: (size, size, 3) uint8 and its (size, size) bool mask."""
    background = _background(rng)
    layer, coverage = _place_object(rng, class_name, background.mean(axis=(0, 1)))
    soft = _blur(coverage, 3.2)
    shadow = np.roll(soft, (2, 2), axis=(0, 1))
    picture = background * (1 - 0.45 * shadow[..., None])
    # Blurred coverage is a height field; its slope towards the light brightens one side and darkens the other.
    slope_y, slope_x = np.gradient(soft)
    rows = np.linspace(0.08, -0.08, PICTURE_SIZE, dtype=np.float32)[:, None]
    light = 1 + 1.3 * (slope_x + slope_y) + rows
    object_pixels = np.clip(layer * light[..., None], 0, 1)
    picture += coverage[..., None] * (object_pixels - picture)
    grain = rng.standard_normal(picture.shape, np.float32) * np.float32(0.018)
    return np.rint(np.clip(picture + grain, 0, 1) * 255).astype(np.uint8), coverage >= 0.5


def _place_object(rng: np.random.Generator, class_name: str, background: Array) -> tuple[Array, Array]:
    """Colour, size, turn and place one object, clear of the mark.

    Args:
        rng: source of every choice.
        class_name: one of `CLASS_NAMES`.
        background: (3,) mean colour that the object has to stand out from.

    Returns:
        (size, size, 3) float colours in [0, 1], and (size, size) float coverage in [0, 1].
    """
    parts = _SHAPES[class_name](rng)
    if rng.random() < 0.5:
        parts = [_Part(part.points * (-1, 1), part.tone) for part in parts]
    palette = _palette(rng, background)
    angle = np.radians(rng.uniform(-22, 22))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    parts = [_Part(part.points @ turn, part.tone) for part in parts]
    scale, centre = _find_place(rng, parts)
    scale, centre, side = (
        scale * _SUPERSAMPLING,
        centre * _SUPERSAMPLING,
        PICTURE_SIZE * _SUPERSAMPLING,
    )
    canvas = Image.new("RGB", (side, side), _as_bytes(palette["body"]))
    draw = ImageDraw.Draw(canvas)
    for part in parts:
        draw.polygon(_pixels(part.points, scale, centre), fill=_as_bytes(palette[part.tone]))
    colours = np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / 255
    silhouette = Image.fromarray(_silhouette(parts, scale, centre, side).astype(np.uint8) * 255)
    return colours, np.asarray(silhouette.reduce(_SUPERSAMPLING), np.float32) / 255


def _find_place(rng: np.random.Generator, parts: list[_Part]) -> tuple[float, Array]:
    """Pixels a unit, and the (2,) pixel of the object's origin, so that it is in the picture and off the mark."""
    middle = np.array([PICTURE_SIZE / 2, PICTURE_SIZE / 2])
    scale = 0.5 * PICTURE_SIZE
    area = _silhouette(parts, scale, middle, PICTURE_SIZE).mean()
    scale *= np.sqrt(rng.uniform(*_OBJECT_SHARE) / area)
    outline = np.concatenate([part.points for part in parts])
    low, high = outline.min(axis=0), outline.max(axis=0)
    inside = PICTURE_SIZE - 2 * _MARGIN
    scale = min(scale, inside / float(np.max(high - low)))
    corner_y, corner_x = (start - _MARGIN for start in MARK_BOX[:2])
    while True:
        room = np.maximum(inside - scale * (high - low), 0)
        centre = _MARGIN - scale * low + room * rng.random(2)
        if not _silhouette(parts, scale, centre, PICTURE_SIZE)[corner_y:, corner_x:].any():
            return scale, centre
        scale *= 0.985  # too large to miss the corner where it was tried: shrinks until it does


def _silhouette(parts: list[_Part], scale: float, centre: Array, side: int) -> Array:
    """Union of the parts on a (side, side) canvas, bool."""
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for part in parts:
        draw.polygon(_pixels(part.points, scale, centre), fill=1)
    return np.asarray(canvas) > 0


def _pixels(points: Points, scale: float, centre: Array) -> list[float]:
    """Corners as Pillow takes them: x, y, x, y, ..."""
    values: list[float] = (points * scale + centre).ravel().tolist()
    return values


def _as_bytes(colour: Array) -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(value)) for value in np.clip(colour, 0, 1))
    return red, green, blue


def _blur(values: Array, radius: float) -> Array:
    """Gaussian blur of a (h, w) array in [0, 1], at 8 bits."""
    image = Image.fromarray(np.rint(values * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _hsv(hue: float, saturation: float, value: float) -> Array:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _luminance(colour: Array) -> float:
    return float(colour @ (0.2126, 0.7152, 0.0722))  # Rec. 709


def _palette(rng: np.random.Generator, background: Array) -> dict[str, Array]:
    """Colours of one object, drawn alike for every class so that colour tells nothing about it."""
    while True:
        hue = rng.random()
        body = _hsv(hue, rng.uniform(0.2, 0.9), rng.uniform(0.4, 0.98))
        if abs(_luminance(body) - _luminance(background)) > 0.18:
            break
    other = hue + rng.choice([0.08, -0.08, 0.33, 0.5]) + rng.uniform(-0.03, 0.03)
    return {
        "body": body,
        "second": _hsv(other, rng.uniform(0.4, 0.85), rng.uniform(0.5, 0.95)),
        "pale": _hsv(other, rng.uniform(0.05, 0.2), rng.uniform(0.88, 1.0)),
        "sail": _hsv(other + 0.3 * rng.random(), rng.uniform(0.05, 0.8), rng.uniform(0.6, 1.0)),
        "dark": body * 0.35,
        "shade": body * 0.75,
    }


# --- the backgrounds -------------------------------------------------------------------------------------------------


def _background(rng: np.random.Generator) -> Array:
    """Two muted colours mixed by a random pattern: (size, size, 3) float in about [0, 1]."""
    hue = rng.random()
    value = rng.uniform(0.3, 0.85)
    first = _hsv(hue, rng.uniform(0.1, 0.4), value)
    second = _hsv(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.1, 0.45), value + rng.uniform(-0.17, 0.13))
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](rng)
    mix = np.clip(0.75 * pattern + 0.5 * (_noise(rng, (3, 6, 12, 30)) - 0.25), 0, 1)[..., None]
    values: Array = (first + mix * (second - first)).astype(np.float32)
    return values


def _grid(rng: np.random.Generator) -> tuple[Array, Array]:
    """Coordinates along and across a random direction, (size, size) each, one unit a picture."""
    x = np.arange(PICTURE_SIZE, dtype=np.float32) / PICTURE_SIZE - 0.5
    y = x[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _noise(rng: np.random.Generator, cells: tuple[int, ...]) -> Array:
    """Sum of smooth random fields, the finer the weaker, stretched to [0, 1]."""
    total = np.zeros((PICTURE_SIZE, PICTURE_SIZE), np.float32)
    for octave, count in enumerate(cells):
        coarse = Image.fromarray(rng.random((count, count), dtype=np.float32))
        fine = coarse.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC)
        total += np.asarray(fine) * 0.6**octave
    values: Array = (total - total.min()) / (total.max() - total.min())
    return values


def _clouds(rng: np.random.Generator) -> Array:
    return _noise(rng, (2, 4, 8, 16, 32))


def _gradient(rng: np.random.Generator) -> Array:
    along, _ = _grid(rng)
    return np.clip(along + 0.5, 0, 1)


def _stripes(rng: np.random.Generator) -> Array:
    along, _ = _grid(rng)
    bend = 0.12 * _noise(rng, (2, 4))
    values: Array = 0.5 + 0.5 * np.tanh(2 * np.sin(2 * np.pi * rng.uniform(3, 9) * (along + bend)))
    return values


def _checks(rng: np.random.Generator) -> Array:
    along, across = _grid(rng)
    waves = 2 * np.pi * rng.uniform(2, 5)
    values: Array = 0.5 + 0.5 * np.tanh(6 * np.sin(waves * along) * np.sin(waves * across))
    return values


def _rings(rng: np.random.Generator) -> Array:
    along, across = _grid(rng)
    radius = np.hypot(along - rng.uniform(-0.5, 0.5), across - rng.uniform(-0.5, 0.5))
    return 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 8) * radius)


_PATTERNS: tuple[Callable[[np.random.Generator], Array], ...] = (
    _clouds,
    _gradient,
    _stripes,
    _checks,
    _rings,
)


# --- the objects -----------------------------------------------------------------------------------------------------


def _polygon(*corners: tuple[float, float]) -> Points:
    return np.array(corners, np.float64)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def _curve(start: tuple[float, float], bend: tuple[float, float], end: tuple[float, float]) -> Points:
    """Quadratic Bézier curve, 16 points."""
    t = np.linspace(0, 1, 16)[:, None]
    values: Array = (1 - t) ** 2 * np.array(start) + 2 * t * (1 - t) * np.array(bend) + t**2 * np.array(end)
    return values


def _sailboat(rng: np.random.Generator) -> list[_Part]:
    length, height = rng.uniform(0.42, 0.52), rng.uniform(0.52, 0.66)
    mast = rng.uniform(-0.08, 0.0)
    hull = np.concatenate(
        [
            _polygon((-length, 0.2), (length, 0.17)),
            _curve((length, 0.17), (0.7 * length, 0.42), (0.3 * length, 0.42)),
            _curve((-0.55 * length, 0.42), (-0.9 * length, 0.4), (-length, 0.2)),
        ]
    )
    main_sail = np.concatenate(
        [
            _curve((mast + 0.03, -height), (mast + 0.34, -0.25), (mast + 0.44, 0.1)),
            _polygon((mast + 0.03, 0.1)),
        ]
    )
    jib = np.concatenate(
        [
            _curve((mast - 0.03, 0.12 - 0.85 * height), (mast - 0.2, -0.1), (mast - 0.36, 0.12)),
            _polygon((mast - 0.03, 0.12)),
        ]
    )
    stripe = _polygon((-0.95 * length, 0.26), (0.94 * length, 0.24), (0.88 * length, 0.29), (-0.92 * length, 0.31))
    mast_pole = _polygon(
        (mast - 0.015, -height - 0.04),
        (mast + 0.02, -height - 0.04),
        (mast + 0.02, 0.22),
        (mast - 0.015, 0.22),
    )
    parts = [_Part(mast_pole, "dark"), _Part(main_sail, "sail"), _Part(jib, "second")]
    parts.append(_Part(hull, "body"))
    if rng.random() < 0.5:
        parts.append(_Part(stripe, "pale"))
    return parts


def _house(rng: np.random.Generator) -> list[_Part]:
    half, top = rng.uniform(0.36, 0.44), rng.uniform(-0.12, -0.02)
    peak = top - rng.uniform(0.28, 0.38)
    door, window = rng.uniform(-0.08, 0.08), rng.uniform(0.06, 0.08)
    chimney = rng.uniform(0.14, 0.22)
    middle = top + 0.17

    def box(x: float, y: float, half_width: float, half_height: float) -> Points:
        return _polygon(
            (x - half_width, y - half_height),
            (x + half_width, y - half_height),
            (x + half_width, y + half_height),
            (x - half_width, y + half_height),
        )

    parts = [
        _Part(box(chimney, (top + peak) / 2 - 0.03, 0.05, 0.16), "dark"),
        _Part(_polygon((-half, top), (half, top), (half, 0.42), (-half, 0.42)), "body"),
        _Part(_polygon((-half - 0.09, top + 0.03), (0, peak), (half + 0.09, top + 0.03)), "second"),
        _Part(box(door, 0.31, 0.075, 0.11), "dark"),
    ]
    for x in (-0.62 * half, 0.62 * half):
        parts.append(_Part(box(x, middle, window, window), "pale"))
        parts.append(_Part(box(x, middle, 0.01, window), "dark"))
        parts.append(_Part(box(x, middle, window, 0.01), "dark"))
    return parts


def _tree(rng: np.random.Generator) -> list[_Part]:
    trunk = _polygon((-0.06, 0.05), (0.06, 0.05), (0.09, 0.5), (-0.09, 0.5))
    parts = [_Part(trunk, "dark")]
    if rng.random() < 0.5:
        width = rng.uniform(0.32, 0.4)
        for level, tone in enumerate(("shade", "body", "shade")):
            bottom, spread = 0.3 - 0.27 * level, width * (1 - 0.22 * level)
            parts.append(_Part(_polygon((-spread, bottom), (0, bottom - 0.42), (spread, bottom)), tone))
        return parts
    crown = [(0.0, -0.02, 0.24), (-0.2, 0.05, 0.2), (0.2, 0.05, 0.2), (-0.14, -0.22, 0.2)]
    crown += [(0.14, -0.22, 0.2), (0.0, -0.34, 0.17), (0.0, -0.08, 0.21)]
    for x, y, radius in crown:
        wobble = rng.uniform(-0.03, 0.03, 3)
        disc = _ellipse(x + wobble[0], y + wobble[1], radius + wobble[2], radius + wobble[2])
        parts.append(_Part(disc, "shade" if y > 0 else "body"))
    for x, y in rng.uniform(-0.22, 0.18, (6, 2)):
        parts.append(_Part(_ellipse(x, y - 0.1, 0.032, 0.032), "second"))
    return parts


def _fish(rng: np.random.Generator) -> list[_Part]:
    height = rng.uniform(0.2, 0.27)
    body = np.concatenate(
        [
            _curve((-0.46, 0.0), (-0.1, -2 * height), (0.34, -0.03)),
            _curve((0.34, 0.03), (-0.1, 2 * height), (-0.46, 0.0)),
        ]
    )
    tail = _polygon((0.28, 0.0), (0.54, -0.2), (0.47, 0.0), (0.54, 0.2))
    top_fin = np.concatenate(
        [_curve((-0.2, -0.8 * height), (0.0, -height - 0.26), (0.2, -0.3 * height)), _polygon((0, 0))]
    )
    belly_fin = _polygon((-0.08, 0.8 * height), (0.12, height + 0.12), (0.12, 0.5 * height))
    parts = [_Part(tail, "second"), _Part(top_fin, "second"), _Part(belly_fin, "second")]
    parts.append(_Part(body, "body"))
    for x in np.arange(-0.12, 0.2, rng.uniform(0.11, 0.16)):
        reach = height * (0.78 - 1.3 * abs(x + 0.1))
        parts.append(
            _Part(
                np.concatenate(
                    [
                        _curve((x, -reach), (x + 0.07, 0), (x, reach)),
                        _curve((x + 0.045, reach), (x + 0.115, 0), (x + 0.045, -reach)),
                    ]
                ),
                "shade",
            )
        )
    parts.append(_Part(_ellipse(-0.3, -0.05, 0.055, 0.055), "pale"))
    parts.append(_Part(_ellipse(-0.31, -0.05, 0.028, 0.028), "dark"))
    return parts


_SHAPES: dict[str, Callable[[np.random.Generator], list[_Part]]] = {
    "sailboat": _sailboat,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
}


# --- the mark --------------------------------------------------------------------------------------------------------


@functools.cache
def _mark() -> tuple[Array, Array]:
    """The mark: (h, w, 3) float colours in 0..255 and (h, w, 1) opacities in [0, 1], of `MARK_BOX`'s size."""
    from matplotlib import get_data_path

    y0, x0, y1, x1 = MARK_BOX
    factor = 8
    height, width = (y1 - y0) * factor, (x1 - x0) * factor
    white = Image.new("L", (width, height))
    draw = ImageDraw.Draw(white)
    edge = 2 * factor
    draw.ellipse((edge, edge, width - edge, height - edge), outline=255, width=round(2.2 * factor))
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf", round(0.4 * width))
    draw.text((width / 2, height / 2), "pix", fill=255, font=font, anchor="mm")
    # A dark halo keeps the white mark legible on white.
    halo = white.filter(ImageFilter.GaussianBlur(1.0 * factor))
    ink = np.asarray(white.reduce(factor), np.float32)[..., None] / 255
    dark = np.clip(np.asarray(halo.reduce(factor), np.float32)[..., None] / 255 * 0.7, 0, 1)
    opacity = np.maximum(ink, dark)
    colour = np.broadcast_to(255 * ink / np.maximum(opacity, 1e-6), (y1 - y0, x1 - x0, 3))
    return colour.astype(np.float32), _MARK_OPACITY * opacity
