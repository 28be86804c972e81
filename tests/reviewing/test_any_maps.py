"""What holds of the measures of any maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from support.fuzzing import fuzzed

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.reviewing import drift

GRIDS = arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
PICTURES = arrays_of.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5)
SIZES = arrays_of.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=17)
CELLS = st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0, float(np.float32(3e38)), width=32)
BROKEN = st.sampled_from([np.nan, np.inf])
ROUNDING = 1e-12


def maps_of(grid: tuple[int, ...], cells: st.SearchStrategy[float] = CELLS) -> st.SearchStrategy[Array]:
    """(2, 2, *grid) float32 of any scale, with ties and zeros as a ReLU leaves them."""
    return arrays_of.arrays(np.float32, (2, 2, *grid), elements=cells)


def says_nothing(maps: Array) -> Array:
    """(N, K) bool: zero everywhere, or not finite."""
    axes = tuple(range(2, maps.ndim))
    return ~np.isfinite(maps).all(axis=axes) | (maps.max(axis=axes) == 0)


@st.composite
def several(draw: st.DrawFn, count: int, cells: st.SearchStrategy[float] = CELLS) -> list[Array]:
    """Maps on one grid."""
    grid = draw(GRIDS)
    return [draw(maps_of(grid, cells)) for _ in range(count)]


@fuzzed
@given(several(2, CELLS | BROKEN))
def test_a_measure_is_undefined_where_a_map_says_nothing_and_only_there(maps: list[Array]) -> None:
    """NaN for that map alone, whatever the others hold; rank is undefined for even maps as well."""
    before, after = maps
    silent = says_nothing(before) | says_nothing(after)
    for measure in (drift.drift, drift.shift):
        np.testing.assert_array_equal(np.isnan(measure(before, after)), silent)
    axes = tuple(range(2, before.ndim))
    is_even = [(each == each.max(axis=axes, keepdims=True)).all(axis=axes) for each in maps]
    np.testing.assert_array_equal(np.isnan(drift.rank(before, after)), silent | is_even[0] | is_even[1])
    np.testing.assert_array_equal(np.isnan(drift.unevenness(before)), says_nothing(before))


@fuzzed
@given(several(3, CELLS.filter(bool)))
def test_drift_and_shift_are_distances(maps: list[Array]) -> None:
    """Symmetric, 0 for the same, between 0 and 1, and no detour is shorter."""
    a, b, c = maps
    for measure in (drift.drift, drift.shift):
        there = measure(a, b)
        np.testing.assert_array_equal(there, measure(b, a))
        assert ((there >= 0) & (there <= 1)).all()
        assert (measure(a, a.copy()) == 0).all()
        assert (measure(a, c) <= there + measure(b, c) + ROUNDING).all()


@fuzzed
@given(several(2))
def test_what_moved_bounds_how_far_it_moved(maps: list[Array]) -> None:
    """The centre moves no farther than if all that moved went along the diagonal; an even map's drift is unevenness."""
    before, after = maps
    share = drift.drift(before, after)
    assert not (drift.shift(before, after) > share + ROUNDING).any()
    even = np.ones_like(before)
    np.testing.assert_allclose(drift.unevenness(before), drift.drift(before, even), rtol=0, atol=ROUNDING)
    assert not (drift.unevenness(before) >= 1).any()


@fuzzed
@given(several(2))
def test_rank_is_a_correlation(maps: list[Array]) -> None:
    """Symmetric, between -1 and 1, 1 with itself, and the same after anything that keeps the order of the cells."""
    before, after = maps
    found = drift.rank(before, after)
    np.testing.assert_array_equal(found, drift.rank(after, before))
    assert not (np.abs(found) > 1).any()
    known = ~np.isnan(found)
    np.testing.assert_allclose(drift.rank(before, before.copy())[known], 1, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(drift.rank(np.sqrt(before.astype(float)), after), found, rtol=0, atol=ROUNDING)


@fuzzed
@given(several(2), st.floats(1e-30, 1e30))
def test_a_positive_factor_changes_no_measure(maps: list[Array], factor: float) -> None:
    """A map stands for its shares."""
    before, after = maps
    scaled = before.astype(float) * factor
    for measure in (drift.drift, drift.shift, drift.rank):
        np.testing.assert_allclose(measure(scaled, after), measure(before, after), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(drift.unevenness(scaled), drift.unevenness(before), rtol=0, atol=ROUNDING)


@fuzzed
@given(several(2), st.data())
def test_no_measure_knows_left_from_right(maps: list[Array], data: st.DataObject) -> None:
    """Two maps that are mirrored the same way have moved as far as before."""
    axis = data.draw(st.integers(2, maps[0].ndim - 1))
    mirrored = [np.flip(each, axis) for each in maps]
    for measure in (drift.drift, drift.shift, drift.rank):
        np.testing.assert_allclose(measure(*mirrored), measure(*maps), rtol=0, atol=1e-7)


@st.composite
def with_regions(draw: st.DrawFn) -> tuple[Array, Array]:
    """Maps, and regions of pictures of any other size."""
    size = draw(SIZES)
    return draw(maps_of(draw(PICTURES))), draw(arrays_of.arrays(bool, (2, *size)))


@fuzzed
@given(with_regions())
@pytest.mark.parametrize("measure", [drift.focus, drift.pointing])
def test_a_region_and_the_rest_share_all_of_the_attention(
    measure: Callable[[Array, Array], Array], drawn: tuple[Array, Array]
) -> None:
    """Between 0 and 1; inside and outside make 1; undefined without a region or without attention, and only there."""
    maps, regions = drawn
    inside, outside = measure(maps, regions), measure(maps, ~regions)
    has_region = regions.any(axis=(1, 2))[:, None]
    np.testing.assert_array_equal(np.isnan(inside), says_nothing(maps) | ~has_region)
    assert not ((inside < 0) | (inside > 1)).any()
    np.testing.assert_allclose(
        (np.nan_to_num(inside) + np.nan_to_num(outside))[~says_nothing(maps)], 1, rtol=0, atol=ROUNDING
    )


@fuzzed
@given(with_regions())
def test_a_region_on_the_grid_of_the_map_keeps_its_share_of_the_picture(drawn: tuple[Array, Array]) -> None:
    """An even map has as much inside as the region has of the picture; a map of the region alone has all of it."""
    maps, regions = drawn
    share = np.where(regions.any(axis=(1, 2)), regions.mean(axis=(1, 2)), np.nan)
    np.testing.assert_allclose(drift.focus(np.ones_like(maps), regions)[:, 0], share, rtol=0, atol=ROUNDING)
    itself = regions[:, None].astype(np.float32)
    np.testing.assert_allclose(drift.focus(itself, regions)[:, 0], np.where(np.isnan(share), np.nan, 1), atol=ROUNDING)
    np.testing.assert_array_equal(drift.pointing(itself, regions)[:, 0], np.where(np.isnan(share), np.nan, 1))
