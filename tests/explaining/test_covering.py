"""Areas of pictures: found by their heat, covered by what surrounds them, and moved elsewhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gradcam_callbacks.explaining.covering import FILLINGS, border, elsewhere, filled, grown, hottest


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (40, 40)) -> np.ndarray:
    area = np.zeros(size, bool)
    area[top:bottom, left:right] = True
    return area


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).random(shape).astype(np.float32)


def ramp(size: tuple[int, int] = (40, 40)) -> np.ndarray:
    """(H, W, 3) a picture that gets brighter from left to right, darker, and brighter from top to bottom."""
    rows, columns = np.indices(size) / (max(size) - 1)
    return np.stack([columns, 1 - columns, rows], axis=-1).astype(np.float32)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.75, 0.9, 1.0])
def test_the_hottest_area_is_the_smallest_that_holds_the_share(share: float) -> None:
    """No area of fewer pixels holds as much: all areas of a small map are tried."""
    for seed in range(8):
        heat = np.random.default_rng(seed).random((3, 4)) ** 3
        holding = [
            int(sum(chosen))
            for chosen in product((False, True), repeat=heat.size)
            if heat.ravel()[list(chosen)].sum() >= share * heat.sum() * (1 - 1e-9)
        ]
        area = hottest(heat, share)
        assert area.sum() == min(holding)
        assert heat[area].sum() >= share * heat.sum() * (1 - 1e-9)


def test_the_hottest_area_of_known_heat() -> None:
    """Of 4, 3, 2 and 1 tenths, two pixels hold 70 %, and three are needed for a little more."""
    heat = np.array([[0.1, 0.4], [0.3, 0.2]])
    np.testing.assert_array_equal(hottest(heat, 0.7), [[False, True], [True, False]])
    np.testing.assert_array_equal(hottest(heat, 0.71), [[False, True], [True, True]])


def test_what_is_excluded_takes_no_part_in_the_heat() -> None:
    """The share is of the heat that is left, and the area has no excluded pixel even where all of it is asked for."""
    heat = np.array([[8.0, 0.4], [0.3, 0.2]])
    outside = heat == 8
    np.testing.assert_array_equal(hottest(heat, 0.7, outside=outside), [[False, True], [True, False]])
    np.testing.assert_array_equal(hottest(heat, 1.0, outside=outside), ~outside)
    assert heat[0, 0] == 8
    for seed in range(5):
        heat, outside = noise(9, 7), np.random.default_rng(seed).random((9, 7)) < 0.4
        assert not (hottest(heat, 0.9, outside=outside) & outside).any()


def test_the_hottest_area_is_never_larger_than_allowed() -> None:
    """Of even heat, 90 % would need 90 of 100 pixels; with a limit of 35 % it takes the 35 hottest."""
    heat = np.arange(1000, 1100).reshape(10, 10)
    area = hottest(heat, 0.9, most=0.35)
    np.testing.assert_array_equal(area, heat >= 1065)
    assert hottest(heat, 0.2, most=0.35).sum() < 25


def test_no_heat_has_no_hottest_area() -> None:
    """Neither a map of zeros, nor one whose heat is all excluded."""
    assert not hottest(np.zeros((4, 4)), 0.5).any()
    heat = box(0, 0, 2, 2, (4, 4)).astype(float)
    assert not hottest(heat, 0.5, outside=heat > 0).any()


@pytest.mark.parametrize("filling", FILLINGS)
def test_known_pixels_stay(filling: str) -> None:
    """Only the area is covered, and neither the picture that is passed nor the area is changed."""
    image, area = noise(40, 40, 3), box(5, 7, 19, 30)
    before, covered = image.copy(), area.copy()
    result = filled(image, area, filling)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[~area], image[~area])
    assert not np.allclose(result[area], image[area])
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(area, covered)
    np.testing.assert_array_equal(filled(image, np.zeros_like(area), filling), image)


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("area", [box(12, 10, 25, 31), box(0, 0, 9, 9), border((40, 40), 0.1)], ids=range(3))
def test_even_surroundings_cover_with_their_colour(filling: str, area: np.ndarray) -> None:
    """Whatever is below: nothing of it shines through."""
    colour = np.array([0.2, 0.5, 0.9], np.float32)
    image = np.where(area[..., None], noise(40, 40, 3), colour).astype(np.float32)
    np.testing.assert_allclose(filled(image, area, filling), np.broadcast_to(colour, image.shape), atol=1e-6)


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_covered_picture_tells_nothing_of_what_is_below(filling: str) -> None:
    """Two pictures that differ in the area alone are the same once it is covered."""
    area, image = grown(box(18, 12, 20, 24), 5.5), noise(40, 40, 3)
    other = np.where(area[..., None], 1 - image, image)
    np.testing.assert_allclose(filled(image, area, filling), filled(other, area, filling), atol=1e-6)


def test_surroundings_run_into_each_other() -> None:
    """A picture that gets brighter evenly is continued so, within 6 % of its range, and never leaves that range."""
    image = ramp()
    for area in (box(14, 14, 24, 24), box(9, 20, 21, 27), grown(box(20, 20, 21, 21), 6)):
        covered = filled(image, area, "smooth")
        assert np.abs(covered - image).max() < 0.06
        assert covered.min() >= image.min() - 1e-6
        assert covered.max() <= image.max() + 1e-6


def test_the_nearest_edge_and_the_mirrored_place() -> None:
    """Beside a covered strip the one repeats the last column that is known, the other goes back from it."""
    image = np.broadcast_to(np.arange(12, dtype=np.float32)[None, :, None], (6, 12, 1))
    area = box(0, 8, 6, 12, (6, 12))  # the last four columns: 8, 9, 10, 11
    np.testing.assert_array_equal(filled(image, area, "nearest")[0, :, 0], [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7])
    np.testing.assert_array_equal(filled(image, area, "mirrored")[0, :, 0], [0, 1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 3])


def test_a_mirrored_place_that_is_covered_too_gives_the_edge() -> None:
    """Between two covered strips lies one known column: all others repeat it."""
    image = np.broadcast_to(np.arange(7, dtype=np.float32)[None, :, None], (4, 7, 1))
    area = ~box(0, 3, 4, 4, (4, 7))
    np.testing.assert_array_equal(filled(image, area, "mirrored")[0, :, 0], [3] * 7)


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("size", [(7, 7), (41, 33), (33, 48), (1, 9), (9, 1), (2, 3)])
def test_full_rows_corners_and_odd_sizes_are_covered(filling: str, size: tuple[int, int]) -> None:
    """The pixels are finite and within the range of those that are known; one known pixel is enough."""
    image = noise(*size, 3)
    row, corner, all_but_one = (np.zeros(size, bool) for _ in range(3))
    row[0 : max(size[0] // 2, size[0] == 1)] = size[0] > 1
    corner[-1:, -1:] = True
    all_but_one[...] = True
    all_but_one[0, -1] = False
    for area in (row, corner, all_but_one):
        covered, known = filled(image, area, filling), image[~area]
        assert np.isfinite(covered).all()
        np.testing.assert_array_equal(covered[~area], known)
        assert (covered >= known.min(axis=0) - 1e-6).all()
        assert (covered <= known.max(axis=0) + 1e-6).all()
    np.testing.assert_allclose(
        filled(image, all_but_one, filling), np.broadcast_to(image[0, -1], image.shape), atol=1e-6
    )


@pytest.mark.parametrize("filling", FILLINGS)
def test_pictures_of_whole_numbers_and_of_one_channel_are_covered(filling: str) -> None:
    """Bytes do not run over: beside 250 lies no 4."""
    image = np.full((20, 21, 1), 250, np.uint8)
    image[8:12, 8:12] = 3
    covered = filled(image, box(7, 7, 13, 13, (20, 21)), filling)
    np.testing.assert_allclose(covered, np.full((20, 21, 1), 250.0), atol=1e-4)


@pytest.mark.parametrize(
    "area", [box(2, 3, 8, 11), box(0, 0, 5, 5), grown(box(10, 10, 14, 11), 3)], ids=["box", "corner", "round"]
)
def test_areas_elsewhere_are_as_large_and_of_the_same_form(area: np.ndarray) -> None:
    """Where there is room, a tenth of each at most is in the area, or in what is forbidden."""
    forbidden = box(20, 20, 34, 34)
    found = elsewhere(area, forbidden, 6, np.random.default_rng(0))
    assert len(found) == 6
    for other in found:
        assert other.sum() == area.sum()
        assert (other & (area | forbidden)).sum() <= 0.1 * area.sum()
        assert (
            np.sort(other.sum(axis=0)[other.any(axis=0)]).tolist()
            == np.sort(area.sum(axis=0)[area.any(axis=0)]).tolist()
        )
    again = elsewhere(area, forbidden, 6, np.random.default_rng(0))
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, elsewhere(area, forbidden, 6, np.random.default_rng(1)))


def test_an_area_that_fits_nowhere_else_is_strewn_over_what_is_free() -> None:
    """A border has one place: patches of as many pixels are taken from the middle."""
    area = border((40, 40), 0.1)
    found = elsewhere(area, np.zeros_like(area), 3, np.random.default_rng(0))
    assert [int(other.sum()) for other in found] == [int(area.sum())] * 3
    assert not any((other & area).any() for other in found)
    assert not np.array_equal(found[0], found[1])


def test_where_there_is_no_room_nothing_is_elsewhere() -> None:
    """An area of more than half of the picture, and one beside which everything is forbidden, have no counterpart."""
    large, none = box(0, 0, 40, 28), np.zeros((40, 40), bool)
    assert elsewhere(large, none, 3, np.random.default_rng(0)) == []
    small = box(0, 0, 8, 8)
    assert elsewhere(small, ~small, 3, np.random.default_rng(0)) == []


def test_the_border_is_as_wide_as_a_share_of_the_shorter_side() -> None:
    """Of 40 × 60 pixels, a tenth is four pixels on all four sides; a picture of ten pixels still has one of one."""
    expected = np.ones((40, 60), bool)
    expected[4:-4, 4:-4] = False
    np.testing.assert_array_equal(border((40, 60), 0.1), expected)
    thin = np.ones((10, 12), bool)
    thin[1:-1, 1:-1] = False
    np.testing.assert_array_equal(border((10, 12), 0.02), thin)


def test_a_grown_area_has_all_that_is_near() -> None:
    """By Euclid: around one pixel 5 within 1, 9 within 1.5, and 29 within 3; cut at the edge of the picture."""
    point = box(20, 20, 21, 21)
    assert [int(grown(point, pixels).sum()) for pixels in (0, 0.9, 1, 1.5, 3)] == [1, 1, 5, 9, 29]
    assert grown(box(0, 0, 1, 1), 1).sum() == 3
    area = box(3, 4, 9, 10)
    for pixels in (0.5, 2.0, 7.3):
        rows, columns = np.indices(area.shape)
        squares = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in np.argwhere(area)]
        np.testing.assert_array_equal(grown(area, pixels), np.min(squares, axis=0) <= pixels**2)


def test_nothing_grows_from_nothing() -> None:
    """An empty area stays empty, and what is returned can be written to without changing the area."""
    assert not grown(np.zeros((5, 5), bool), 3).any()
    area = box(1, 1, 2, 2)
    grown(area, 0)[...] = True
    assert area.sum() == 1


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_picture_that_is_covered_as_a_whole_becomes_its_mean(filling: str) -> None:
    """Nothing surrounds the area, and no colour is made up."""
    image = np.random.default_rng(0).random((9, 12, 3)).astype(np.float32)
    covered = filled(image, np.ones((9, 12), bool), filling)
    np.testing.assert_allclose(covered, np.broadcast_to(image.mean(axis=(0, 1)), image.shape), atol=1e-6)
