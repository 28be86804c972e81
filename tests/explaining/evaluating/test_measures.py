"""Each formula gives the numbers that are worked out by hand, and NaN where it is undefined."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_callbacks.explaining.evaluating import measures
from gradcam_callbacks.explaining.evaluating.measures import QUALITIES

nan = np.nan


def test_drop_and_increase_of_numbers() -> None:
    """Known values; zero, negative and unknown confidences are NaN."""
    before, after = np.array([0.8, 0.5, 0.0, -1.0, nan]), np.array([0.2, 0.7, 0.1, -2.0, 0.5])
    np.testing.assert_allclose(measures.drop(before, after), [0.75, 0, nan, nan, nan])
    np.testing.assert_array_equal(measures.increase(before, after), [0, 1, 1, 0, nan])


def test_gain_is_the_share_of_what_lacks_to_certainty() -> None:
    """From 0.6 to 0.9 is three quarters of the way to 1; a fall is 0; scores and a certain model have none."""
    before, after = np.array([0.6, 0.6, 1.0, 3.0, -0.5]), np.array([0.9, 0.2, 1.0, 4.0, 0.5])
    np.testing.assert_allclose(measures.gain(before, after), [0.75, 0, nan, nan, nan])


def test_area_is_that_of_trapezoids() -> None:
    """A line from 0 to 1 has the area 1/2, also in uneven steps; a corner is exact where a step ends on it."""
    shares = np.array([0, 0.25, 0.4, 1])
    curves = np.stack([shares, 1 - shares, np.minimum(shares, 0.4)])
    np.testing.assert_allclose(measures.area(curves, shares), [0.5, 0.5, 0.32])


def test_road_is_the_distance_between_the_curves() -> None:
    """Coldest first 0.8 and 0.6, hottest first 0.3 and 0.1: half of 0.5 + 0.5; turned round it is negative."""
    hottest, coldest = np.array([0.3, 0.1]), np.array([0.8, 0.6])
    assert measures.road(hottest, coldest) == pytest.approx(0.5)
    assert measures.road(coldest, hottest) == pytest.approx(-0.5)


def test_infidelity_is_what_the_heat_does_not_tell() -> None:
    """S = (1, 0), d = (3, 4): E[sd]^2 / (E[s^2] E[d^2]) = 1.5^2 / (0.5 * 12.5), so 0.64; and no scale matters."""
    change = np.array([3.0, 4.0])
    assert measures.infidelity(np.array([1.0, 0.0]), change) == pytest.approx(0.64)
    assert measures.infidelity(np.array([0.6, 0.8]), change) == pytest.approx(0)
    assert measures.infidelity(np.array([600.0, 0.0]), change / 7) == pytest.approx(0.64)


def test_infidelity_is_the_least_squared_error_as_a_share() -> None:
    """It is min over b of E[(b s - d)^2] / E[d^2], which is Yeh's at the scale that fits best."""
    rng = np.random.default_rng(0)
    heat, change = rng.random(64), rng.normal(0.3, 1, 64)
    scales = np.linspace(0, 3, 30001)[:, None]
    least = ((scales * heat - change) ** 2).mean(axis=1).min() / (change**2).mean()
    assert measures.infidelity(heat, change) == pytest.approx(least, abs=1e-6)


def test_infidelity_of_a_map_that_is_wrong_or_empty_is_1() -> None:
    """A map that is high where covering raises the confidence is not turned round; no change at all is unknown."""
    heat = np.array([[0.0, 1.0], [0.0, 0.0], [0.3, 0.4]])
    change = np.array([[1.0, -1.0], [1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(measures.infidelity(heat, change), [1, 1, nan])


def test_sensitivity_is_the_longest_way_as_a_share() -> None:
    """The map (3, 4) has length 5; it moves by 1 and by 10, so 2; a zero map has none."""
    original = np.array([[3.0, 4.0], [0.0, 0.0]])
    noisy = np.array([[[3.0, 5.0], [1.0, 0.0]], [[9.0, 12.0], [0.0, 0.0]]])
    np.testing.assert_allclose(measures.sensitivity(original, noisy), [2, nan])


def test_coherency_is_the_correlation_between_0_and_1() -> None:
    """The same map is 1, its opposite 0, one that has nothing to do with it 0.5, and an empty one 0."""
    heat = np.array([[0.0, 0.0, 1.0, 1.0]] * 4)
    masked = np.array([[0.0, 0.0, 7.0, 7.0], [1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(measures.coherency(heat, masked), [1, 0, 0.5, 0])


def test_adcc_is_the_harmonic_mean_of_three() -> None:
    """Coherency 1/2, complexity 3/4 and drop 0: 3 / (2 + 4 + 1); 0 where one is 0; unknown with the drop."""
    found = measures.adcc(np.array([0.5, 0.0, 0.5, 0.5]), np.array([0.75, 0.5, 0.5, 0.5]), np.array([0, 0.5, nan, 1.5]))
    np.testing.assert_allclose(found, [3 / 7, 0, nan, nan])


def test_random_logit_compares_the_targets_of_a_picture() -> None:
    """Ranks 1234 and 1243 correlate by 0.8, 1234 and 4321 by -1: the first target has their mean."""
    maps = np.array([[[1.0, 2, 3, 4], [1, 2, 4, 3], [4, 3, 2, 1]]])
    targets = np.array([[[0, -1], [1, -1], [2, -1]]])
    np.testing.assert_allclose(measures.random_logit(maps, targets), [[-0.1, 0.0, -0.9]])


def test_random_logit_needs_another_target() -> None:
    """One target alone, the same one twice, and a flat map say nothing; a contrast is a target of its own."""
    maps = np.array([[[1.0, 2, 3], [1, 2, 3]]])
    assert np.isnan(measures.random_logit(maps[:, :1], np.array([[[5, -1]]]))).all()
    assert np.isnan(measures.random_logit(maps, np.array([[[5, -1], [5, -1]]]))).all()
    assert np.isnan(measures.random_logit(np.ones_like(maps), np.array([[[5, -1], [6, -1]]]))).all()
    np.testing.assert_allclose(measures.random_logit(maps, np.array([[[5, -1], [5, 6]]])), 1)


def test_the_rise_is_that_of_the_entropy_of_the_values() -> None:
    """Two values alike have ln 2, four have ln 4: twice as much, a rise of 1; a flat map has none."""
    two, four = np.repeat([0.0, 1.0], 2), np.array([0.0, 0.3, 0.6, 1.0])
    assert measures.complexity_rise(two, four) == pytest.approx(1)
    assert measures.complexity_rise(four, two) == pytest.approx(-0.5)
    assert np.isnan(measures.complexity_rise(np.ones(4), four))


def test_rank_accuracy_counts_the_hottest_pixels_inside() -> None:
    """A region of two pixels, of which one is among the two hottest: 1/2. A flat map, and no region, say nothing."""
    heat = np.array([[[[0.9, 0.1], [0.8, 0.2]], [[0.5, 0.5], [0.5, 0.5]]]] * 2)
    regions = np.array([[[True, True], [False, False]], [[False, False], [False, False]]])
    np.testing.assert_allclose(measures.rank_accuracy(heat, regions), [[0.5, nan], [nan, nan]])


def test_focus_is_the_heat_inside() -> None:
    """0.9 + 0.1 of 2.0 lies inside; an empty map, and no region, say nothing."""
    heat = np.array([[[[0.9, 0.1], [0.8, 0.2]], [[0.0, 0.0], [0.0, 0.0]]]] * 2)
    regions = np.array([[[True, True], [False, False]], [[False, False], [False, False]]])
    np.testing.assert_allclose(measures.focus(heat, regions), [[0.5, nan], [nan, nan]])


def test_better_is_said_in_one_place() -> None:
    """Higher, lower and near 0; equal means, and unknown ones, beat nothing."""
    assert QUALITIES["road"].beats(0.2, 0.1)
    assert not QUALITIES["road"].beats(0.1, 0.1)
    assert QUALITIES["deletion"].beats(0.1, 0.2)
    assert QUALITIES["randomised"].beats(-0.1, 0.2)
    assert not QUALITIES["randomised"].beats(-0.3, 0.2)
    assert not any(quality.beats(nan, 0) or quality.beats(0, nan) for quality in QUALITIES.values())


def test_each_row_says_what_it_is() -> None:
    """Title, words, range and source, and no two of a title."""
    titles = [quality.title for quality in QUALITIES.values()]
    assert len(set(titles)) == len(titles)
    for name, quality in QUALITIES.items():
        assert quality.name == name
        assert quality.says
        assert quality.range
        assert quality.source[-4:].isdigit()
