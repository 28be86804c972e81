"""The measures of attention against hand-computed values, known movements and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from gradcam_callbacks.reviewing import drift

GRIDS = [(6,), (5, 7), (3, 4, 5)]
MEASURES = [drift.drift, drift.shift, drift.rank]
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def one(cells: object) -> np.ndarray:
    """The map of one probe and target."""
    return np.array(cells, np.float32)[None, None]


def spike(row: int, column: int, size: tuple[int, int] = (4, 5)) -> np.ndarray:
    maps = np.zeros((1, 1, *size), np.float32)
    maps[0, 0, row, column] = 3
    return maps


def random_maps(seed: int, grid: tuple[int, ...] = (5, 7)) -> np.ndarray:
    """(3, 2, *grid), with ties: about half of the cells are zero, as after a ReLU."""
    return np.maximum(np.random.default_rng(seed).normal(size=(3, 2, *grid)), 0).astype(np.float32)


@pytest.mark.parametrize(
    ("row", "column", "moved"),
    [(1, 2, 1 / 5), (2, 1, 1 / 4), (2, 2, sqrt(1 / 16 + 1 / 25)), (3, 4, sqrt(4 / 16 + 9 / 25))],
)
def test_a_spike_that_moves(row: int, column: int, moved: float) -> None:
    """All of the attention moves, as far as the spike does in shares of the sides."""
    before, after = spike(1, 1), spike(row, column)
    assert drift.drift(before, after) == 1
    np.testing.assert_allclose(drift.shift(before, after), moved / sqrt(2), rtol=1e-14)
    np.testing.assert_allclose(drift.rank(before, after), -1 / 19, rtol=1e-14)  # one of 20 cells is not tied


def test_half_of_the_attention_moves() -> None:
    """Half of the mass moved is 0.5; its distance is half of the way."""
    before, after = one([[2, 0], [0, 0]]), one([[5, 0], [0, 5]])
    assert drift.drift(before, after) == 0.5
    assert drift.shift(before, after) == 0.25
    before, after = one([[3, 1], [0, 0]]), one([[1, 1], [1, 1]])
    assert drift.drift(before, after) == 0.5
    np.testing.assert_allclose(drift.shift(before, after), sqrt((0.25**2 + 0.125**2) / 2))
    assert np.isnan(drift.rank(before, after))


def test_rank_is_computed_with_average_ranks() -> None:
    """Ranks 1.5 1.5 3 4 against 4 1.5 1.5 3: the products of their deviations sum to -0.25, the squares to 4.5."""
    assert drift.rank(one([0, 0, 1, 7]), one([9, 2, 2, 4])) == pytest.approx(-0.25 / 4.5, abs=1e-15)
    assert drift.rank(one([1, 2, 3]), one([2, 20, 21])) == 1
    assert drift.rank(one([1, 2, 3]), one([3, 2, 1])) == -1


@pytest.mark.parametrize("grid", GRIDS)
def test_rank_agrees_with_scipy(grid: tuple[int, ...]) -> None:
    """On random maps with many ties."""
    before, after = random_maps(1, grid), random_maps(2, grid)
    for n in range(3):
        for k in range(2):
            expected = stats.spearmanr(before[n, k].ravel(), after[n, k].ravel()).statistic
            assert drift.rank(before, after)[n, k] == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("factor", [0.5, 2.0**40, 3.7e-30, 1e30])
def test_the_scale_of_a_map_does_not_count(factor: float) -> None:
    """A scaled map has moved nowhere: exactly so for a power of two, within the float32 of the maps for others."""
    maps = random_maps(3)
    scaled = (maps * np.float32(factor)).astype(np.float32)
    limit = 0.0 if np.log2(factor).is_integer() else 1e-7
    assert (drift.drift(maps, scaled) <= limit).all()
    assert (drift.shift(maps, scaled) <= limit).all()
    assert (drift.rank(maps, scaled) == 1).all()
    regions = np.random.default_rng(0).random((3, 10, 14)) > 0.5
    np.testing.assert_allclose(drift.focus(maps, regions), drift.focus(scaled, regions), atol=limit)
    assert (drift.pointing(maps, regions) == drift.pointing(scaled, regions)).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_equal_maps_have_not_moved_at_all(grid: tuple[int, ...]) -> None:
    """Exactly 0, for any number of axes."""
    maps = random_maps(4, grid)
    assert (drift.drift(maps, maps.copy()) == 0).all()
    assert (drift.shift(maps, maps.copy()) == 0).all()
    assert (drift.rank(maps, maps.copy()) == 1).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_drift_and_shift_are_distances(grid: tuple[int, ...]) -> None:
    """Symmetric, within their ranges, and no detour is shorter; the rank is symmetric too."""
    a, b, c = (random_maps(seed, grid) for seed in (5, 6, 7))
    for measure, low, high in zip(MEASURES, (0, 0, -1), (1, 1, 1), strict=True):
        values = measure(a, b)
        assert values.shape == (3, 2)
        assert values.dtype == np.float64
        assert ((low <= values) & (values <= high)).all()
        np.testing.assert_allclose(values, measure(b, a), atol=1e-15)
    for measure in (drift.drift, drift.shift):
        assert (measure(a, c) <= measure(a, b) + measure(b, c) + 1e-15).all()


def test_signals_and_volumes_are_measured_like_pictures() -> None:
    """A picture one row high is a signal, a volume one slice deep is a picture; only the diagonal has more axes."""
    a, b = random_maps(8, (1, 9)), random_maps(9, (1, 9))
    for measure, sides in zip(MEASURES, (1, sqrt(2), 1), strict=True):
        expected = measure(a[:, :, 0], b[:, :, 0])
        np.testing.assert_allclose(measure(a, b) * sides, expected, rtol=1e-12)
    a, b = random_maps(8, (1, 4, 5)), random_maps(9, (1, 4, 5))
    for measure, sides in zip(MEASURES, (1, sqrt(3 / 2), 1), strict=True):
        expected = measure(a[:, :, 0], b[:, :, 0])
        np.testing.assert_allclose(measure(a, b) * sides, expected, rtol=1e-12)
    corners = np.zeros((2, 1, 1, 10, 10, 10))
    corners[0, 0, 0, 0, 0, 0] = corners[1, 0, 0, 9, 9, 9] = 1
    assert drift.shift(*corners) == pytest.approx(0.9)


@pytest.mark.parametrize(
    "cells", [[[0, 0], [0, 0]], [[1, np.nan], [0, 0]], [[1, np.inf], [0, 0]], [[np.inf, np.nan]] * 2]
)
def test_a_map_that_says_nothing_has_no_measure(cells: list[list[float]]) -> None:
    """Zero everywhere, NaN or infinite: NaN for that map, whichever of the two it is, and a value for the others."""
    fine = one([[1, 2], [3, 5]])
    bad = np.concatenate([one(cells), fine], axis=1)
    good = np.concatenate([fine, fine], axis=1)
    for measure in MEASURES:
        for values in (measure(bad, good), measure(good, bad)):
            assert np.isnan(values).tolist() == [[True, False]]
    regions = np.ones((1, 4, 4), bool)
    assert np.isnan(drift.focus(bad, regions)).tolist() == [[True, False]]
    assert np.isnan(drift.pointing(bad, regions)).tolist() == [[True, False]]


def test_a_constant_map_has_no_rank() -> None:
    """It has nothing to sort, but it has a place."""
    flat, other = one([[2, 2], [2, 2]]), one([[1, 2], [3, 4]])
    assert drift.unevenness(flat) == 0
    assert drift.unevenness(other) == pytest.approx(0.2)
    assert drift.unevenness(one([[0, 0], [0, 5]])) == 0.75
    assert np.isnan(drift.unevenness(one([[0, 0], [0, 0]])))
    assert np.isnan(drift.rank(flat, other))
    assert np.isnan(drift.rank(other, flat))
    assert drift.drift(flat, other) == pytest.approx(0.2)
    assert np.isnan(drift.rank(one([[3]]), one([[4]])))
    assert drift.drift(one([[3]]), one([[4]])) == 0


def test_focus_is_the_share_inside() -> None:
    """A cell half inside counts half; all of the attention inside is exactly 1; probes without a region have none."""
    regions = np.zeros((2, 8, 8), bool)
    regions[0, :, :3] = True
    maps = np.concatenate([one([[1, 3], [0, 4]]), one([[5, 0], [0, 0]])], axis=1)
    values = drift.focus(np.concatenate([maps, maps]), regions)
    np.testing.assert_allclose(values[0], [1 / 8 * 3 / 4, 3 / 4])
    assert np.isnan(values[1]).all()


def test_a_cell_that_cuts_pixels_has_its_share_of_each() -> None:
    """Where the grid does not divide the picture: 5 pixels in 2 cells, and 2 pixels in 3."""
    regions = np.zeros((1, 5, 2), bool)
    regions[0, :3, 0] = True
    assert drift.focus(one([[1], [0]]), regions) == pytest.approx(1 / 2)
    assert drift.focus(one([[0], [1]]), regions) == pytest.approx(0.5 / 2.5 / 2)
    assert drift.focus(one([[0, 1, 0]]), regions) == pytest.approx(3 / 5 / 2)


def test_shares_do_not_round_to_more_than_all() -> None:
    """All of the attention moved, or all of it inside, is 1 and no more."""
    maps = np.random.default_rng(0).random((200, 1, 7, 9))
    left = np.arange(9) < 4
    assert (drift.drift(maps * left, maps * ~left) <= 1).all()
    assert (drift.focus(maps, np.ones((200, 23, 31), bool)) <= 1).all()


@pytest.mark.parametrize("grid", [(4,), (2, 3, 4)])
def test_a_region_of_a_picture_says_nothing_on_another_grid(grid: tuple[int, ...]) -> None:
    """Of signals and volumes the share inside is unknown."""
    maps, regions = np.ones((2, 3, *grid)), np.ones((2, 8, 8), bool)
    for values in (drift.focus(maps, regions), drift.pointing(maps, regions)):
        assert np.isnan(values).tolist() == [[True] * 3] * 2


def test_pointing_asks_the_pixel_under_the_peak() -> None:
    """Cell 2 of 3 over 10 pixels has its centre at 8.33: pixel 8 decides, and its neighbours do not."""
    maps = np.zeros((1, 1, 2, 3))
    maps[0, 0, 0, 2] = 1
    for pixel in np.ndindex(12, 10):
        region = np.zeros((1, 12, 10), bool)
        region[0][pixel] = True
        assert drift.pointing(maps, region) == (pixel == (3, 8))


def test_pointing_where_several_cells_are_highest() -> None:
    """The share of the highest cells that lie inside; a flat map thus has the share of the picture."""
    regions = np.zeros((1, 6, 4), bool)
    regions[0, :2] = True
    assert drift.pointing(one([[9, 0], [9, 1], [9, 2]]), regions) == 1 / 3
    assert drift.pointing(one([[5, 5], [5, 5], [5, 5]]), regions) == 1 / 3
    assert drift.pointing(one([[5, 5], [0, 0], [4, 0]]), regions) == 1
    assert np.isnan(drift.pointing(one([[5, 5], [0, 0]]), np.zeros((1, 6, 4), bool)))


def test_a_grid_finer_than_the_picture() -> None:
    """Four cells a pixel: each has the pixel that it lies in."""
    regions = np.zeros((1, 2, 2), bool)
    regions[0, 1, 1] = True
    for cell in np.ndindex(4, 4):
        maps = np.zeros((1, 1, 4, 4))
        maps[0, 0][cell] = 1
        is_inside = min(cell) >= 2
        assert drift.pointing(maps, regions) == is_inside
        assert drift.focus(maps, regions) == is_inside


def test_entropy_and_sparseness_of_maps() -> None:
    """Half in each of two of four places: ln 2 / ln 4 and 1/2; all in one: 0 and 3/4; an empty map has neither."""
    maps = np.concatenate([one([[4, 4], [0, 0]]), one([[0, 9], [0, 0]]), one([[2, 2], [2, 2]]), one([[0, 0], [0, 0]])])
    np.testing.assert_allclose(drift.entropy(maps)[:, 0], [0.5, 0, 1, np.nan], atol=1e-12)
    np.testing.assert_allclose(drift.gini(maps)[:, 0], [0.5, 0.75, 0, np.nan], atol=1e-12)
