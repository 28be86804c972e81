"""Pictures that are changed place by place, to see what the model makes of them. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcam_callbacks.arrays import Array

BLUR = 0.05
"""Standard deviation of the Gaussian blur that insertion starts from, as a share of the picture's shorter side."""
SQUARES = 8
"""Into how many squares a side of the picture is cut where they are covered one by one."""
REMOVED = (0.2, 0.4, 0.6, 0.8)
"""Which shares of the pixels ROAD takes away. Each costs two systems of equations a map, 0.1 s at 224 x 224."""
NOISE = 0.01
"""Standard deviation of the noise on pixels that ROAD fills in, as a share of the picture's own."""
# Of the eight neighbours of a pixel: row, column, weight, as in Rong et al. 2022.
_NEIGHBOURS = tuple(
    (row, column, 1 / 12 if row and column else 1 / 6) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column
)


def hottest_first(heat: Array) -> Array:
    """(H, W) int, the place of each pixel in the order of falling heat; equal ones come in reading order."""
    place = np.empty(heat.size, np.int64)
    place[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    return place.reshape(heat.shape)


def coldest_first(heat: Array) -> Array:
    """(H, W) int, the place of each pixel in the order of rising heat; equal ones come in reading order."""
    return hottest_first(-heat)


def uncovered(start: Array, end: Array, heat: Array, counts: Array) -> Array:
    """A picture that turns into another, the hottest pixels first.

    Args:
        start: (H, W, C), the picture before.
        end: what it becomes; broadcasts to (H, W, C).
        heat: (H, W) numbers of any scale. Pixels of the same heat follow each other in reading order.
        counts: (T,) how many pixels are changed.

    Returns:
        (T, H, W, C), in the dtype of the two.

    Reference:
        Petsiuk et al. 2018, "RISE": deletion, where `start` is the picture, and insertion, where `end` is.
    """
    changed = hottest_first(heat) < np.asarray(counts)[:, None, None]
    return np.where(changed[..., None], end, start)


def blurred(image: Array) -> Array:
    """A picture without its details.

    Args:
        image: (H, W, C).

    Returns:
        (H, W, C) float32, under a Gaussian of standard deviation 0.05 * min(H, W) pixels, cut off at four of them; the
        border pixels are repeated outwards.
    """
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * min(image.shape[:2])
    result: Array = gaussian_filter(np.asarray(image, np.float32), (sigma, sigma, 0), mode="nearest")
    return result


def filled_in(image: Array, removed: Array, noise: Array) -> Array:
    """A picture whose removed pixels are guessed from those around them: noisy linear imputation.

    Each removed pixel is the weighted mean of its eight neighbours, 1/6 for those beside it and 1/12 for those across;
    at the border, of those that are there. That is one sparse system of linear equations for all of them.

    Args:
        image: (H, W, C).
        removed: (H, W) bool, not all of them True.
        noise: (H, W, C), added to the removed pixels, so that they do not tell by their smoothness which they were.

    Returns:
        (H, W, C) float32.

    Reference:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
        "noisy linear imputation".
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    image = np.asarray(image, np.float32)
    if not removed.any():
        return image
    height, width = removed.shape
    rows, columns = np.nonzero(removed)
    number = np.full(removed.shape, -1)  # of its unknown
    number[rows, columns] = np.arange(len(rows))
    weights = np.zeros(len(rows))  # of the neighbours that are there
    known = np.zeros((len(rows), image.shape[2]))
    entries: list[tuple[Array, Array, Array]] = []
    for down, right, weight in _NEIGHBOURS:
        y, x = rows + down, columns + right
        inside = np.flatnonzero((y >= 0) & (x >= 0) & (y < height) & (x < width))
        y, x = y[inside], x[inside]
        weights[inside] += weight
        other = number[y, x]
        is_known = other < 0
        known[inside[is_known]] += weight * image[y[is_known], x[is_known]]
        entries.append((inside[~is_known], other[~is_known], np.full((~is_known).sum(), -weight)))
    entries.append((np.arange(len(rows)), np.arange(len(rows)), weights))
    at, of, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = csc_matrix((values, (at, of)), shape=(len(rows), len(rows)))
    # The system is symmetric and diagonally dominant: no pivoting is needed, and this order fills in least.
    solver = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    result = image.copy()
    result[rows, columns] = solver.solve(known) + noise[rows, columns]
    return result


def squares(size: tuple[int, int]) -> Iterator[Array]:
    """The areas that the picture is cut into, 8 x 8 of them, or as many as it has pixels: (H, W) bool each."""
    edges = [np.rint(np.linspace(0, side, min(SQUARES, side) + 1)).astype(int) for side in size]
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            area = np.zeros(size, bool)
            area[top:bottom, left:right] = True
            yield area
