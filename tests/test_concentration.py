"""How much of a map lies in few places."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_callbacks.concentration import entropy, gini


def test_entropy_of_numbers() -> None:
    """One place 0, an even map 1, half in each of two of four ln 2 / ln 4; unknown shares are NaN."""
    shares = np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [np.nan] * 4])
    np.testing.assert_allclose(entropy(shares), [0, 1, 0.5, np.nan])
    assert np.isnan(entropy(np.ones((1, 1))))


def test_gini_of_numbers() -> None:
    """An even map 0, one place of four 3/4, half in each of two of four 1/2; unknown shares are NaN."""
    shares = np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [np.nan] * 4])
    np.testing.assert_allclose(gini(shares), [0.75, 0, 0.5, np.nan], atol=1e-12)


def test_gini_is_the_mean_difference_of_any_two() -> None:
    """`sum |p_i - p_j| / (2 n)`, which is how economists write it; the order does not matter."""
    shares = np.random.default_rng(0).dirichlet(np.full(30, 0.3))
    by_pairs = np.abs(shares[:, None] - shares[None]).sum() / (2 * 30)
    assert gini(shares) == pytest.approx(by_pairs)
    assert gini(shares[::-1].copy()) == pytest.approx(by_pairs)
