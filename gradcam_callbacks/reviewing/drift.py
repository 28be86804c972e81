"""Measures of where the attention lies and moves. Pure functions of maps.

Maps are (N, K, *grid), non-negative and of any scale: N probes, K targets, and a grid (h, w) of a picture, (l,) of a
signal or (d, h, w) of a volume. A map stands for its shares `p = map / sum(map)`, so no measure depends on its scale.
Results are (N, K) float64, and NaN where a map says nothing: where it is zero everywhere or not finite.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np

from gradcam_callbacks import concentration
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.ranks import rank_correlation


def drift(before: Array, after: Array) -> Array:
    """Share of the attention that moved: the total variation distance `1/2 sum |p - q|`.

    Args:
        before: (N, K, *grid) maps.
        after: maps of the same shape.

    Returns:
        (N, K) float64 in [0, 1], exactly 0 for equal maps; NaN where either map says nothing.

    Reference:
        Levin, Peres and Wilmer, "Markov Chains and Mixing Times", 4.1.
    """
    difference = _shares(before) - _shares(after)
    distance: Array = np.abs(difference, out=difference).sum(axis=-1) / 2
    return distance.clip(max=1)  # the sum may round up


def shift(before: Array, after: Array) -> Array:
    """Distance between the centres of mass, as a share of the diagonal.

    The cells are equal boxes that tile the picture. Each axis is measured in shares of its own side, so a picture that
    is not square counts as if it were stretched to a square.

    Args:
        before: (N, K, *grid) maps.
        after: maps of the same shape.

    Returns:
        (N, K) float64 in [0, 1), exactly 0 for equal maps; NaN where either map says nothing.
    """
    grid = before.shape[2:]
    places = (
        np.indices(grid).reshape(len(grid), -1).T / grid
        # Corners stand for centres: the half cell between them cancels in the difference.
    )
    moved = (_shares(after) - _shares(before)) @ places
    distance: Array = np.sqrt((moved**2).mean(axis=-1))
    return distance


def rank(before: Array, after: Array) -> Array:
    """Spearman's rank correlation of the cells; equal cells share their average rank.

    Args:
        before: (N, K, *grid) maps.
        after: maps of the same shape.

    Returns:
        (N, K) float64 in [-1, 1]; NaN where either map says nothing or is the same everywhere.
    """
    return rank_correlation(_shares(before), _shares(after))


def focus(maps: Array, regions: Array) -> Array:
    """Share of the attention that lies inside the region where a person says the model should look.

    The region is averaged over the cells of the map's grid, so that a cell half inside counts half:
    `sum_ij p_ij * covered_ij`.

    Args:
        maps: (N, K, h, w) maps.
        regions: (N, H, W) bool, on the picture; a probe without a region is empty.

    Returns:
        (N, K) float64 in [0, 1]; NaN where the map says nothing or the region is empty, and on other grids.

    Reference:
        The "energy-based pointing game" of Wang et al. 2020, "Score-CAM", section 4.3.
    """
    if maps.ndim != 4:
        return np.full(maps.shape[:2], np.nan)
    height, width = maps.shape[2:]
    covered: Array = _kept(f"covered {height} {width}", regions, lambda: _averaged(regions, height, width))
    inside = np.einsum("nkc,nc->nk", _shares(maps), covered)
    shares: Array = np.where(_has_region(regions), inside.clip(max=1), np.nan)
    return shares


def pointing(maps: Array, regions: Array) -> Array:
    """Whether the peak lies inside the region: whether the pixel under the centre of the highest cell is in it.

    Where several cells are the highest, it is the share of them that lie inside: the chance of a peak drawn from them.

    Args:
        maps: (N, K, h, w) maps.
        regions: (N, H, W) bool, see `focus`.

    Returns:
        (N, K) float64, 1 or 0 where there is one peak; NaN where the map says nothing or the region is empty, and on
        other grids.

    Reference:
        The "pointing game" of Zhang et al. 2018, "Top-down neural attention by excitation backprop", section 4.2.
    """
    if maps.ndim != 4:
        return np.full(maps.shape[:2], np.nan)
    # The centre of cell i of n is at (i + 1/2) / n of the side.
    rows, columns = (
        (2 * np.arange(cells) + 1) * pixels // (2 * cells)
        for cells, pixels in zip(maps.shape[2:], regions.shape[1:], strict=True)
    )
    hits = regions[:, rows[:, None], columns].reshape(len(regions), 1, -1)
    shares = _shares(maps)
    peaks = shares == shares.max(axis=-1, keepdims=True)
    count = peaks.sum(axis=-1)  # 0 where the map says nothing: NaN equals nothing
    known = _has_region(regions) & (count > 0)
    chances: Array = np.divide((peaks & hits).sum(axis=-1), count, out=np.full(count.shape, np.nan), where=known)
    return chances


def entropy(maps: Array) -> Array:
    """How evenly the attention is spread; see `concentration.entropy`.

    Args:
        maps: (N, K, *grid) maps.

    Returns:
        (N, K) float64 in [0, 1]; NaN where the map says nothing.
    """
    return concentration.entropy(_shares(maps))


def gini(maps: Array) -> Array:
    """How much of the attention lies in few places; see `concentration.gini`.

    Args:
        maps: (N, K, *grid) maps.

    Returns:
        (N, K) float64 in [0, 1); NaN where the map says nothing.
    """
    return concentration.gini(_shares(maps))


def unevenness(maps: Array) -> Array:
    """How far a map is from one in which all places count the same: the share of the attention that would have to move.

    It is the total variation distance to the even map, `1/2 sum |p - 1/cells|`, and thus on the scale of `drift`.

    Args:
        maps: (N, K, *grid) maps.

    Returns:
        (N, K) float64 in [0, 1), 0 for an even map; NaN where the map says nothing.
    """
    shares = _shares(maps)
    difference = shares - 1 / shares.shape[-1]
    distance: Array = np.abs(difference, out=difference).sum(axis=-1) / 2
    return distance


def _shares(maps: Array) -> Array:
    """(N, K, cells) float64 that sum to 1; NaN where the map says nothing."""
    return _kept("shares", maps, lambda: _divided(maps))


def _divided(maps: Array) -> Array:
    cells = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    total = cells.sum(axis=-1, keepdims=True)
    known = np.isfinite(total) & (total > 0)
    shares: Array = np.divide(cells, total, out=cells, where=known)
    shares[~known[..., 0]] = np.nan
    return shares


def _averaged(regions: Array, height: int, width: int) -> Array:
    """(N, cells) float64, which share of each cell lies in the region."""
    rows, columns = (_overlap(*sides) for sides in zip((height, width), regions.shape[1:], strict=True))
    return np.stack([(rows @ region.astype(np.float64) @ columns.T).ravel() for region in regions])


def _overlap(cells: int, pixels: int) -> Array:
    """(cells, pixels) float64, which share of each cell each pixel covers, along one side that both divide evenly."""
    edges, pixel = np.arange(cells + 1) * pixels / cells, np.arange(pixels)
    common = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shares: Array = common.clip(min=0) / (pixels / cells)
    return shares


_made: dict[tuple[str, int], tuple[weakref.ref[Array], Array]] = {}


def _kept(what: str, source: Array, make: Callable[[], Array]) -> Array:
    """What is made of an array, once: the measures of a step ask for the same, and the training waits for them.

    It is kept as long as the array lives, and only where nobody can change that.
    """
    if source.flags.writeable or not source.flags.owndata:
        return make()
    key = (what, id(source))
    made = _made.get(key)
    if made is None or made[0]() is not source:
        made = _made[key] = weakref.ref(source, lambda _: _made.pop(key, None)), make()
    return made[1]


def _has_region(regions: Array) -> Array:
    """(N, 1) bool."""
    known: Array = np.any(regions, axis=(1, 2))[:, None]
    return known
