"""Pictures are changed where and as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_callbacks.explaining.evaluating.spoiling import coldest_first, filled_in, hottest_first, squares


def test_orders_are_by_heat_and_then_by_reading() -> None:
    """The hottest is 0 in one order and the last in the other; of equal ones the first that is read comes first."""
    heat = np.array([[0.5, 1.0], [0.5, 0.2]])
    np.testing.assert_array_equal(hottest_first(heat), [[1, 0], [2, 3]])
    np.testing.assert_array_equal(coldest_first(heat), [[1, 3], [2, 0]])


def test_a_lonely_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    """Those beside it count 1/6, those across 1/12; in a corner, of those that are there."""
    image = np.arange(9, dtype=np.float32).reshape(3, 3, 1) ** 2
    middle, corner = np.zeros((2, 3, 3), bool)
    middle[1, 1] = corner[0, 0] = True
    still = np.zeros_like(image)
    beside, across = (1 + 9 + 25 + 49) / 6, (0 + 4 + 36 + 64) / 12
    assert filled_in(image, middle, still)[1, 1, 0] == pytest.approx(beside + across)
    assert filled_in(image, corner, still)[0, 0, 0] == pytest.approx(
        (1 / 6 + 9 / 6 + 16 / 12) / (1 / 6 + 1 / 6 + 1 / 12)
    )


def test_many_removed_pixels_hold_the_equation_each() -> None:
    """Each is the weighted mean of its neighbours, which may be guessed themselves; the others stay, in each colour."""
    rng = np.random.default_rng(0)
    image, removed = rng.random((9, 11, 3)).astype(np.float32), rng.random((9, 11)) < 0.7
    found = filled_in(image, removed, np.zeros_like(image))
    np.testing.assert_array_equal(found[~removed], image[~removed])
    for y, x in np.argwhere(removed):
        total, weights = np.zeros(3), 0.0
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if (down or right) and 0 <= y + down < 9 and 0 <= x + right < 11:
                    weight = 1 / 12 if down and right else 1 / 6
                    total += weight * found[y + down, x + right]
                    weights += weight
        np.testing.assert_allclose(found[y, x], total / weights, atol=1e-5)


def test_a_plane_is_guessed_as_it_was() -> None:
    """Inside of an even slope, nothing that is taken away is lost; the noise is added to what is guessed alone."""
    down, across = np.mgrid[:8, :8].astype(np.float32)
    image, removed = (2 * down + across)[..., None], np.zeros((8, 8), bool)
    removed[2:6, 2:6] = True
    noise = np.full_like(image, 0.25)
    np.testing.assert_allclose(filled_in(image, removed, noise), image + 0.25 * removed[..., None], atol=1e-4)
    assert filled_in(image, np.zeros((8, 8), bool), noise) is image


@pytest.mark.parametrize(("size", "count"), [((224, 224), 64), ((17, 33), 64), ((5, 16), 40)])
def test_the_squares_tile_the_picture(size: tuple[int, int], count: int) -> None:
    """Each pixel lies in one of them, and none is empty."""
    areas = np.stack(list(squares(size)))
    assert len(areas) == count
    assert (areas.sum(axis=0) == 1).all()
    assert areas.any(axis=(1, 2)).all()
