"""How sure a mean is."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_callbacks.explaining.evaluating.bootstrap import by_probe, interval


def test_the_interval_of_normal_values_is_that_of_the_textbook() -> None:
    """Of 200 values it is the mean plus and minus 1.96 standard errors, nearly."""
    values = np.random.default_rng(0).normal(3, 2, 200)
    error = 1.96 * values.std() / np.sqrt(200)
    assert interval(values) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.05)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Another one gives another, and what is unknown is left out."""
    values = np.array([0.1, 0.5, 0.9, np.nan, 0.2, 0.4])
    assert interval(values) == interval(values[np.isfinite(values)])
    assert interval(values) != interval(values, seed=1)


def test_one_value_has_no_interval() -> None:
    """Nor has none; equal values have one of no width."""
    assert np.isnan(interval(np.array([0.5, np.nan]))).all()
    assert interval(np.full(6, 0.5)) == (0.5, 0.5)


def test_probes_are_means_of_their_targets() -> None:
    """The targets of one picture are not independent, so they count once."""
    np.testing.assert_allclose(by_probe(np.array([[1.0, 3.0], [np.nan, 2.0], [np.nan, np.nan]])), [2, 2, np.nan])
