"""The edge of a region as an SVG path."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gradcam_callbacks.arrays import Array

_MOST_CORNERS = 3000
_LONG_EDGE, _STRAIGHT = 3, 0.34


def outline(mask: Array | None) -> str | None:
    """The edge of a region as an SVG path in shares of the picture's sides, times 1000; None where there is none."""
    if mask is None or not mask.any():
        return None
    path = [_smoothed(ring) for ring in _traced(mask)]
    while sum(map(len, path)) > _MOST_CORNERS and min(mask.shape) > 16:  # ragged: half the size will do
        mask = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).reduce(2)) > 127
        path = [_smoothed(ring) for ring in _traced(mask)]
    height, width = mask.shape
    return "".join(
        "M" + "L".join(f"{round(1000 * x / width)} {round(1000 * y / height)}" for y, x in ring) + "Z" for ring in path
    )


def _traced(mask: Array) -> list[list[tuple[int, int]]]:
    """The rings around the regions of a mask: their corners (y, x) on the edges of the pixels."""
    padded = np.pad(mask.astype(bool), 1)
    # Each edge runs with the inside on its right: from one corner of the pixels to the next.
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for axis, start, end in ((0, (0, 0), (0, 1)), (1, (1, 0), (0, 0))):
        before, after = (padded[:-1, 1:], padded[1:, 1:]) if axis == 0 else (padded[1:, :-1], padded[1:, 1:])
        for y, x in np.argwhere(~before & after).tolist():
            following.setdefault((y + start[0], x + start[1]), []).append((y + end[0], x + end[1]))
        for y, x in np.argwhere(before & ~after).tolist():
            following.setdefault((y + end[0], x + end[1]), []).append((y + start[0], x + start[1]))
    rings = []
    while following:
        first = place = next(iter(following))
        ring: list[tuple[int, int]] = []
        while True:
            nexts = following[place]
            after_this = nexts.pop()
            if not nexts:
                del following[place]
            ring[len(ring) - _is_straight([*ring[-2:], place]) :] = [place]
            place = after_this
            if place == first:
                break
        if _is_straight([*ring[-2:], first]):
            del ring[-1]
        if _is_straight([ring[-1], *ring[:2]]):
            del ring[0]
        rings.append(ring)
    return rings


def _is_straight(places: Sequence[tuple[int, int]]) -> bool:
    """Whether three corners lie on one horizontal or vertical line."""
    return len(places) == 3 and any(len({place[axis] for place in places}) == 1 for axis in (0, 1))


def _smoothed(ring: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """A ring of pixels' edges without its stairs: through the middle of each edge, and the corners of long ones.

    Points that lie within a third of a pixel of the line between others are left out.

    Reference:
        Douglas and Peucker 1973, "Algorithms for the reduction of the number of points".
    """
    corners = np.array(ring, np.float64)
    nexts = np.roll(corners, -1, axis=0)
    is_long = np.abs(nexts - corners).sum(axis=1) >= _LONG_EDGE
    is_corner = is_long & np.roll(is_long, 1)
    path = np.stack([corners, (corners + nexts) / 2], axis=1).reshape(-1, 2)
    path = path[np.stack([is_corner, np.ones_like(is_corner)], axis=1).reshape(-1)]
    points = np.concatenate([path, path[:1]])
    middle = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    kept, waiting = {0, middle}, [(0, middle), (middle, len(points) - 1)]
    while waiting:
        start, end = waiting.pop()
        if end - start < 2:
            continue
        between, (dy, dx) = points[start + 1 : end] - points[start], points[end] - points[start]
        # The two points are apart, also where the ring touches itself: a point is kept for its distance from both.
        distances = np.abs(between @ [dx, -dy]) / math.hypot(dy, dx)
        farthest = int(np.argmax(distances))
        if distances[farthest] > _STRAIGHT:
            place = start + 1 + farthest
            kept.add(place)
            waiting += [(start, place), (place, end)]
    return [(float(y), float(x)) for y, x in points[sorted(kept)]]
