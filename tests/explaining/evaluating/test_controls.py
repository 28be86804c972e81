"""Maps that know nothing are what they are called."""

from __future__ import annotations

import numpy as np

from gradcam_callbacks.explaining.evaluating.controls import CONTROLS, centred_gaussian, edges, random_map


def test_all_have_the_grid_and_are_maps() -> None:
    """(M, h, w), nowhere negative, and not the same everywhere."""
    images = np.random.default_rng(1).random((3, 32, 24, 3)).astype(np.float32)
    for control in CONTROLS.values():
        maps = control(images, (4, 6), np.random.default_rng(0))
        assert maps.shape == (3, 4, 6)
        assert maps.dtype == np.float32
        assert (maps >= 0).all()
        assert (maps.max(axis=(1, 2)) > maps.min(axis=(1, 2))).all()


def test_the_random_map_is_drawn_anew_and_the_same_from_a_seed() -> None:
    """Two pictures have two maps; the seed decides."""
    images = np.zeros((2, 8, 8, 3))
    first, again, other = (random_map(images, (5, 5), np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first != other).any()


def test_the_gaussian_is_a_quarter_of_each_side_wide() -> None:
    """1 in the middle of an odd grid, and exp(-1/2) a quarter of the side away from it."""
    (gaussian,) = centred_gaussian(np.zeros((1, 8, 8, 3)), (9, 17), np.random.default_rng(0))
    assert gaussian[4, 8] == 1
    cells = np.exp(-(((np.arange(9) - 4) / 9 / 0.25) ** 2) / 2)
    np.testing.assert_allclose(gaussian[:, 8], cells, rtol=1e-6)
    np.testing.assert_allclose(gaussian, gaussian[::-1, ::-1])


def test_edges_are_where_the_picture_changes() -> None:
    """A step between the halves of a picture: only the cells that touch it are hot. An even picture has none."""
    image = np.zeros((1, 16, 16, 3), np.float32)
    image[:, :, 8:] = 1
    (found,) = edges(image, (4, 4), np.random.default_rng(0))
    assert (found[:, [0, 3]] == 0).all()
    assert (found[:, [1, 2]] > 0).all()
    np.testing.assert_allclose(found[0], found[3], rtol=1e-5)
    assert not edges(np.ones((1, 16, 16, 3)), (4, 4), np.random.default_rng(0)).any()
