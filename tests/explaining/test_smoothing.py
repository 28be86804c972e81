"""A smoothed map is the mean over noisy copies of the picture, of any method."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from support.models import counting_model, pictures, small_model

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet, explain
from gradcam_callbacks.explaining.explainer import _NOISE


def third(outputs: Any) -> Any:
    """The score of class 2."""
    return outputs[:, 2]


def deep_model() -> keras.Model:
    """The gradient depends on the picture."""
    convolutions = [keras.layers.Conv2D(4, 3, activation="relu", name="conv"), keras.layers.Conv2D(4, 3)]
    rest = [keras.layers.Activation("relu"), keras.layers.Flatten(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((16, 16, 3)), *convolutions, *rest])


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("method", ["gradcam", "layercam", "occlusion"])
def test_it_is_the_mean_of_the_maps_of_the_copies(method: str) -> None:
    """Each copy explained by itself, for the class that the picture itself is taken for."""
    model, targets = deep_model(), [0, "predicted", (1, 2), third]
    smoothed = explain(model, pictures(2), targets=targets, method=method, layer="conv", smooth=3)
    plain = explain(model, pictures(2), targets=targets, method=method, layer="conv")
    np.testing.assert_allclose(smoothed.scores, plain.scores, atol=1e-5)
    assert plain.notes == ()
    assert smoothed.notes == ("Each map is the mean of 3, of the picture with noise of 15% of its range.",)
    probes = ProbeSet(pictures(2))
    of_copies = []
    for seed in range(3):
        noisy = probes.noisy(_NOISE, seed=seed).images
        for_all = [0, third, (1, 2)]
        maps = explain(model, noisy, targets=for_all, method=method, layer="conv").maps
        best = explain(model, noisy, targets=plain.predicted[:, None], method=method, layer="conv").maps
        of_copies.append(np.stack([maps[:, 0], best[:, 0], maps[:, 2], maps[:, 1]], axis=1))
    np.testing.assert_allclose(smoothed.maps, np.mean(of_copies, axis=0), atol=1e-5)
    assert np.abs(smoothed.maps - plain.maps).max() > 0.01 * plain.maps.max()


def test_it_costs_so_many_passes_more_and_is_the_same_each_time() -> None:
    """One pass of the pictures and three of their copies; the second time gives the same bits."""
    model, counting = counting_model()
    explainer = Explainer(model, smooth=3)
    first = explainer(pictures())
    assert counting.passes == [5] * 4
    np.testing.assert_array_equal(first.maps, explainer(pictures()).maps)
    assert explainer.traces == 1


def test_the_other_inputs_have_no_noise() -> None:
    """Of several inputs only the picture that is explained is changed, and whole numbers stay whole."""
    rng = np.random.default_rng(0)
    inputs = {"age": rng.random((2, 1)), "photo": rng.integers(0, 256, (2, 8, 8, 3), np.uint8)}
    probes = ProbeSet(inputs)
    noisy = probes.noisy(0.15, seed=0)
    np.testing.assert_array_equal(noisy.inputs["age"], probes.inputs["age"])
    assert noisy.images is noisy.inputs["photo"]
    assert noisy.images.dtype == np.uint8
    assert 20 < np.abs(noisy.images.astype(int) - probes.images).mean() < 40  # 0.15 * 255 * sqrt(2 / pi) is 31
    floats = ProbeSet(np.stack([pictures(1)[0], 100 * pictures(1)[0]]))
    changed = (floats.noisy(0.15, seed=1).images - floats.images).std(axis=(1, 2, 3))
    np.testing.assert_allclose(changed, [0.15, 15], rtol=0.1)


def test_a_negative_number_is_refused() -> None:
    """There is no mean of -1 copies."""
    with pytest.raises(GradCAMError, match="not of -1"):
        explain(small_model(), pictures(), smooth=-1)
