"""Areas of pictures: where they are, what they are covered with, and areas as large elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcam_callbacks.arrays import Array

FILLINGS = ("smooth", "nearest", "mirrored")
"""What an area is covered with, all from its surroundings; see `filled`."""
_OVERLAP = 0.1  # of an area with another one that counts as elsewhere
_TRIES = 200


def hottest(heat: Array, share: float, *, outside: Array | None = None, most: float = 1.0) -> Array:
    """The smallest area that holds a share of the heat.

    Args:
        heat: (H, W), 0 or more.
        share: of the heat, in (0, 1].
        outside: (H, W) bool, what is left out, also of the heat that is shared.
        most: the largest share of the picture's pixels that it may take; then it holds less.

    Returns:
        (H, W) bool; empty where there is no heat.
    """
    left = heat if outside is None else np.where(outside, 0, heat)
    order = np.argsort(-left, axis=None, kind="stable")
    sums = np.cumsum(left.ravel()[order], dtype=np.float64)
    area = np.zeros(heat.size, bool)
    if sums[-1] > 0:
        count = int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-9))) + 1
        area[order[: min(count, int(most * heat.size))]] = True
    return area.reshape(heat.shape)


def grown(area: Array, pixels: float) -> Array:
    """An area and all that is at most so many pixels away from it: (H, W) bool."""
    from scipy.ndimage import distance_transform_edt

    if not area.any() or pixels <= 0:
        return area.copy()
    near: Array = distance_transform_edt(~area) <= pixels
    return near


def filled(image: Array, area: Array, filling: str) -> Array:
    """A picture whose area is covered by what surrounds it.

    Args:
        image: (H, W, C).
        area: (H, W) bool. Where it is all of the picture, that becomes its mean.
        filling: "smooth" (the surroundings run into each other), "nearest" (each pixel is that of the edge nearest to
            it) or "mirrored" (each pixel is the one as far outside of that edge).

    Returns:
        (H, W, C) float32.
    """
    image = np.asarray(image, np.float32)
    if not area.any():
        return image.copy()
    if area.all():  # nothing surrounds it
        return np.broadcast_to(image.mean(axis=(0, 1)), image.shape).copy()
    if filling == "smooth":
        return np.where(area[..., None], _smooth(image, ~area), image)
    from scipy.ndimage import distance_transform_edt

    here = np.indices(area.shape)
    edge = distance_transform_edt(area, return_distances=False, return_indices=True)
    if filling == "mirrored":
        limits = np.array(area.shape)[:, None, None] - 1
        beyond = np.clip(2 * edge - here, 0, limits)
        edge = np.where(area[tuple(beyond)], edge, beyond)  # where that is covered, too, the edge itself
    covered: Array = np.where(area[..., None], image[tuple(edge)], image)
    return covered


def _smooth(image: Array, known: Array) -> Array:
    """A picture whose unknown pixels are those of ever coarser means of the known ones.

    Each level halves the picture, weighted by what is known, and back up it fills what the level above does not know.
    """
    weights = known[..., None].astype(np.float32)
    if known.all() or min(known.shape) == 1:
        total = max(float(weights.sum()), 1.0)
        return np.where(weights > 0, image, (image * weights).sum(axis=(0, 1)) / total)
    height, width = known.shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    sums, counts = (
        np.pad(values, padding).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum(axis=(1, 3))
        for values in (image * weights, weights)
    )
    half = _smooth(np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0), counts[..., 0] > 0)
    return np.where(weights > 0, image, _doubled(half)[:height, :width])


def _doubled(image: Array) -> Array:
    """A picture of twice the size, linear between the centres of its pixels."""
    for axis in (0, 1):
        before = np.concatenate([image.take([0], axis), image.take(range(image.shape[axis] - 1), axis)], axis)
        after = np.concatenate([image.take(range(1, image.shape[axis]), axis), image.take([-1], axis)], axis)
        pair = np.stack([0.75 * image + 0.25 * before, 0.75 * image + 0.25 * after], axis=axis + 1)
        shape = list(image.shape)
        shape[axis] *= 2
        image = pair.reshape(shape)
    return image


def elsewhere(area: Array, forbidden: Array, count: int, rng: np.random.Generator) -> list[Array]:
    """Areas as large as one, at other places: of its form where that fits, else patches strewn over what is free.

    Args:
        area: (H, W) bool.
        forbidden: (H, W) bool, where they must not be; at most a tenth of them is, and of the area itself.
        count: how many are wanted.
        rng: where they are drawn from.

    Returns:
        At most so many (H, W) bool, none where there is no room.
    """
    taken = area | forbidden
    found: list[Array] = []
    for moved in _moved(area, rng):
        if (moved & taken).sum() <= _OVERLAP * area.sum():
            found.append(moved)
            if len(found) == count:
                return found
    free = ~taken
    if free.sum() < 0.8 * area.sum():
        return found
    from scipy.ndimage import gaussian_filter

    while len(found) < count:
        field = gaussian_filter(rng.normal(size=area.shape), 0.06 * min(area.shape), mode="wrap")
        order = np.argsort(np.where(free, -field, np.inf), axis=None)[: min(int(area.sum()), int(free.sum()))]
        patches = np.zeros(area.size, bool)
        patches[order] = True
        found.append(patches.reshape(area.shape))
    return found


def _moved(area: Array, rng: np.random.Generator) -> Iterator[Array]:
    """The area at random other places of the picture, also turned over."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    if not rows.size:
        return
    form = area[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    room = np.array(area.shape) - form.shape
    for _ in range(_TRIES):
        turned = form[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        y, x = (int(rng.integers(0, space + 1)) for space in room)
        moved = np.zeros_like(area)
        moved[y : y + form.shape[0], x : x + form.shape[1]] = turned
        yield moved


def border(size: tuple[int, ...], width: float) -> Array:
    """(H, W) bool: the border of a picture, as wide as a share of its shorter side, one pixel at least."""
    rows, columns = np.indices(size)
    near = np.minimum.reduce([rows, columns, size[0] - 1 - rows, size[1] - 1 - columns])
    inside: Array = near < max(1.0, width * min(size))
    return inside
