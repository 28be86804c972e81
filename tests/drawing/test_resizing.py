"""What holds of any map on any other grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from support.fuzzing import fuzzed

from gradcam_callbacks.drawing.resizing import resize_maps

RANKS = st.integers(1, 3)


def sides(rank: int, least: int = 1, most: int = 12) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(least, most)] * rank)


@st.composite
def map_and_size(draw: st.DrawFn, largest: float = float(np.float32(3e38))) -> tuple[np.ndarray, tuple[int, ...]]:
    """Two maps of one to three axes, of any scale, and another grid for them."""
    rank = draw(RANKS)
    numbers = st.floats(-largest, largest, width=32)
    maps = draw(arrays_of.arrays(np.float32, (2, *draw(sides(rank, most=6))), elements=numbers))
    return maps, draw(sides(rank))


@fuzzed
@given(map_and_size())
def test_no_value_lies_outside_those_of_its_map(drawn: tuple[np.ndarray, tuple[int, ...]]) -> None:
    """Each map keeps its own bounds, to the last bit; so one that is the same everywhere stays as it is."""
    maps, size = drawn
    resized = resize_maps(maps, size)
    axes = tuple(range(1, maps.ndim))
    assert (resized.min(axis=axes) >= maps.min(axis=axes)).all()
    assert (resized.max(axis=axes) <= maps.max(axis=axes)).all()
    even = resize_maps(np.broadcast_to(maps.min(axis=axes, keepdims=True), maps.shape), size)
    np.testing.assert_array_equal(even, np.broadcast_to(maps.min(axis=axes, keepdims=True), even.shape))


@fuzzed
@given(map_and_size(1e6), st.data())
def test_a_flipped_map_is_resized_to_the_flipped_one(
    drawn: tuple[np.ndarray, tuple[int, ...]], data: st.DataObject
) -> None:
    """No side of a picture is preferred to the other: half-pixel centres lie the same from both."""
    maps, size = drawn
    axis = data.draw(st.integers(1, maps.ndim - 1))
    flipped = np.flip(resize_maps(maps, size), axis)
    np.testing.assert_allclose(resize_maps(np.flip(maps, axis), size), flipped, rtol=0, atol=1e-6 * np.abs(maps).max())


@fuzzed
@given(map_and_size(1e6), st.data())
def test_axes_can_be_swapped(drawn: tuple[np.ndarray, tuple[int, ...]], data: st.DataObject) -> None:
    """Rows are treated as columns are: what is resized and turned is what is turned and resized."""
    maps, size = drawn
    order = data.draw(st.permutations(range(len(size))))
    axes = (0, *(axis + 1 for axis in order))
    turned = resize_maps(maps.transpose(axes), tuple(size[axis] for axis in order))
    np.testing.assert_allclose(turned, resize_maps(maps, size).transpose(axes), rtol=0, atol=1e-6 * np.abs(maps).max())


@fuzzed
@given(map_and_size(1e6), st.data())
def test_the_mean_is_kept_where_each_cell_becomes_as_many(
    drawn: tuple[np.ndarray, tuple[int, ...]], data: st.DataObject
) -> None:
    """A map drawn a whole number of times as large has the attention that it had."""
    maps, _ = drawn
    factors = data.draw(sides(maps.ndim - 1, most=4))
    size = tuple(side * factor for side, factor in zip(maps.shape[1:], factors, strict=True))
    axes = tuple(range(1, maps.ndim))
    np.testing.assert_allclose(
        resize_maps(maps, size).mean(axis=axes, dtype=float),
        maps.mean(axis=axes, dtype=float),
        rtol=0,
        atol=1e-6 * np.abs(maps).max(),
    )


@fuzzed
@given(map_and_size(1e6), st.integers(-60, 60))
def test_the_scale_of_a_map_is_kept(drawn: tuple[np.ndarray, tuple[int, ...]], power: int) -> None:
    """A map of other units is the resized map in those units, and its own size changes nothing."""
    maps, size = drawn
    maps = np.where(np.abs(maps) < 1e-6, 0, maps)  # what falls below float32 loses its last bits
    scaled = resize_maps(np.ldexp(maps, power), size)
    np.testing.assert_allclose(scaled, np.ldexp(resize_maps(maps, size), power), rtol=1e-6, atol=np.ldexp(1e-9, power))
    np.testing.assert_array_equal(resize_maps(maps, maps.shape[1:]), maps)
