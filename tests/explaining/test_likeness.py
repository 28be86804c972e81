"""What pictures of a class have in common, and no others show, is found where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_callbacks.explaining.covering import border
from gradcam_callbacks.explaining.likeness import Likeness, alike_in_place


def grounds(count: int, size: tuple[int, int] = (64, 64), contrast: float = 0.25, seed: int = 3) -> np.ndarray:
    """(N, H, W, 3) pictures of blotches, each of its own, in 0..1."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, -(-size[0] // 4), -(-size[1] // 4), 3))
    blotches = np.kron(coarse, np.ones((1, 4, 4, 1)))[:, : size[0], : size[1]]
    return np.clip(0.5 + contrast * blotches, 0, 1).astype(np.float32)


def a_mark(side: int = 14, seed: int = 11) -> np.ndarray:
    """(S, S, 3) of coarse random colours."""
    cells = np.random.default_rng(seed).random((-(-side // 3), -(-side // 3), 3))
    return np.kron(cells, np.ones((3, 3, 1)))[:side, :side].astype(np.float32)


def put(image: np.ndarray, mark: np.ndarray, top: int, left: int) -> np.ndarray:
    """(H, W) bool: where the mark is now on the picture."""
    image[top : top + len(mark), left : left + len(mark)] = mark
    area = np.zeros(image.shape[:2], bool)
    area[top : top + len(mark), left : left + len(mark)] = True
    return area


def assert_is(found: np.ndarray, area: np.ndarray, around: int = 0) -> None:
    """The area is covered for the most part, and nothing further away than so many pixels is."""
    assert (found & area).sum() >= 0.7 * area.sum()
    rows, columns = np.nonzero(area)
    near = np.zeros_like(area)
    near[
        max(0, rows.min() - around) : rows.max() + 1 + around,
        max(0, columns.min() - around) : columns.max() + 1 + around,
    ] = True
    assert not (found & ~near).any()


def test_a_mark_at_different_places_is_found_there() -> None:
    """And nowhere else, and on no picture that does not bear it."""
    images = grounds(8)
    areas = {0: put(images[0], a_mark(), 4, 40), 2: put(images[2], a_mark(), 33, 7)}
    found = Likeness(images).shared_areas([0, 1, 2], [3, 4, 5, 6, 7])
    assert sorted(found) == [0, 2]
    for n, area in areas.items():
        assert_is(found[n], area, 2)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (50, 50), (11, 23)])
def test_a_mark_at_one_place_is_found_there(top: int, left: int) -> None:
    """Also in a corner."""
    images = grounds(7)
    areas = [put(images[n], a_mark(), top, left) for n in range(3)]
    found = Likeness(images).shared_areas([0, 1, 2], [3, 4, 5, 6])
    assert sorted(found) == [0, 1, 2]
    for n in range(3):
        assert_is(found[n], areas[n], 2)


def test_what_pictures_of_other_classes_show_too_is_no_sign() -> None:
    """A logo on everything tells no class; one other picture with it, anywhere, is enough."""
    images = grounds(8)
    for n, (top, left) in enumerate([(4, 40), (33, 7), (20, 20)]):
        put(images[n], a_mark(), top, left)
    put(images[5], a_mark(), 45, 3)
    assert Likeness(images).shared_areas([0, 1, 2], [3, 4, 5, 6, 7]) == {}


def test_one_picture_has_nothing_in_common() -> None:
    """Not with itself, though its mark is there twice."""
    images = grounds(5)
    put(images[0], a_mark(), 4, 40)
    put(images[0], a_mark(), 40, 4)
    assert Likeness(images).shared_areas([0], [1, 2, 3, 4]) == {}


def test_pictures_without_a_mark_have_nothing_in_common() -> None:
    """Blotches alone are never alike."""
    for seed in range(3):
        assert Likeness(grounds(12, seed=seed)).shared_areas([0, 1, 2, 3], list(range(4, 12))) == {}


def test_flat_pictures_give_nothing() -> None:
    """All pixels the same, or nearly: every window of one is like every window of another, and says nothing."""
    flat = np.full((6, 48, 48, 3), 0.4, np.float32)
    assert Likeness(flat).shared_areas([0, 1, 2], [3, 4, 5]) == {}
    images = grounds(6)
    images[:3] = 0.5
    images[:3, 10:20, 10:20] += 0.01  # the same on all three, too faint to be seen
    assert Likeness(images).shared_areas([0, 1, 2], [3, 4, 5]) == {}


def test_pictures_smaller_than_a_window_give_nothing() -> None:
    """Ten pixels are what is compared."""
    images = grounds(4, (10, 30))
    images[1] = images[0]
    assert Likeness(images).shared_areas([0, 1], [2, 3]) == {}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_of_bytes_are_compared_as_well(dtype: type) -> None:
    """The range of the pictures is the scale, be it 0 to 1 or 0 to 255."""
    images = grounds(6)
    areas = [put(images[0], a_mark(), 4, 40), put(images[1], a_mark(), 33, 7)]
    found = Likeness((images * 255).astype(dtype)).shared_areas([0, 1], [2, 3, 4, 5])
    assert sorted(found) == [0, 1]
    assert_is(found[0], areas[0], 2)


@pytest.mark.parametrize("places", [[(11, 97), (83, 20)], [(101, 5), (38, 113)], [(7, 7), (7, 7)]])
def test_a_mark_on_large_pictures_is_found_at_odd_places(places: list[tuple[int, int]]) -> None:
    """160 × 160 pixels are reduced, so that the same mark looks another way at each place; it is found all the same."""
    images = grounds(7, (160, 160))
    areas = [put(images[n], a_mark(40), top, left) for n, (top, left) in enumerate(places)]
    found = Likeness(images).shared_areas([0, 1, 2], [3, 4, 5, 6])
    assert sorted(found) == [0, 1]
    for n, area in enumerate(areas):
        assert found[n].shape == (160, 160)
        assert_is(found[n], area, 8)


def test_large_pictures_that_are_not_square() -> None:
    """The shorter side is what they are reduced by, and the area is told in their own pixels."""
    images = grounds(7, (100, 180))
    areas = [put(images[0], a_mark(28), 60, 141), put(images[1], a_mark(28), 5, 30)]
    found = Likeness(images).shared_areas([0, 1, 2], [3, 4, 5, 6])
    assert sorted(found) == [0, 1]
    for n, area in enumerate(areas):
        assert found[n].shape == (100, 180)
        assert_is(found[n], area, 5)


def framed(count: int, framed_ones: int, size: tuple[int, int] = (48, 60)) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, the first of which have the same frame; and where it is."""
    images, area = grounds(count, size), border(size, 0.08)
    images[:framed_ones, area] = grounds(1, size, seed=9)[0][area]
    return images, area


def test_a_frame_is_alike_in_place() -> None:
    """On pictures that bear it, beside one of its class that does not, too."""
    images, area = framed(8, 3)
    assert alike_in_place(images, area, 0, [1, 2, 3], [4, 5, 6, 7])
    assert alike_in_place((images * 255).astype(np.uint8), area, 0, [1, 2, 3], [4, 5, 6, 7])
    assert not alike_in_place(images, area, 3, [0, 1, 2], [4, 5, 6, 7])


def test_a_wider_border_than_the_frame_is_not_alike() -> None:
    """Twice as wide, half of it is each picture's own."""
    images, area = framed(8, 3)
    assert not alike_in_place(images, border(area.shape, 0.16), 0, [1, 2, 3], [4, 5, 6, 7])


def test_a_frame_of_all_classes_is_none() -> None:
    """One picture of another class with the same is enough."""
    images, area = framed(8, 4)
    assert not alike_in_place(images, area, 0, [1, 2], [3, 4, 5, 6, 7])


def test_a_frame_without_another_picture_of_the_class_is_none() -> None:
    """There is nothing to compare it with, whatever the other classes show."""
    images, area = framed(8, 1)
    assert not alike_in_place(images, area, 0, [], [4, 5])
    assert not alike_in_place(images, area, 0, [], [])


def test_an_even_frame_is_no_likeness() -> None:
    """Its colour alone, without any form, is not what is compared."""
    images, area = framed(8, 3)
    images[:3, area] = [0.1, 0.9, 0.3]
    assert not alike_in_place(images, area, 0, [1, 2], [4, 5, 6, 7])
