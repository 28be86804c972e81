"""Maps are compared by Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gradcam_callbacks.ranks import rank_correlation


def test_rank_correlation_is_that_of_scipy() -> None:
    """Also with ties, and for several maps at once; a map that is the same everywhere has none."""
    rng = np.random.default_rng(2)
    p, q = rng.random((2, 3, 49)), np.maximum(rng.normal(size=(2, 3, 49)), 0)
    found = rank_correlation(p, q)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert found[index] == pytest.approx(stats.spearmanr(p[index], q[index]).statistic)
    assert rank_correlation(q, np.exp(q)) == pytest.approx(1)
    assert rank_correlation(q, -q) == pytest.approx(-1)
    assert np.isnan(rank_correlation(p, np.zeros(p.shape))).all()
    assert np.isnan(rank_correlation(np.ones(q.shape), q)).all()


def test_a_map_that_holds_nan_has_none_and_does_not_touch_the_others() -> None:
    """Each map is ranked by itself."""
    p = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(rank_correlation(p, np.array([[1.0, 2.0, 3.0]] * 2)), [np.nan, 1])
