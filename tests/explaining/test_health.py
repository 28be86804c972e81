"""Maps that say nothing about where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.models import pictures, small_model
from support.photographs import EGYPTIAN_CAT, ESPRESSO, cat, cat_beside_espresso, espresso

from gradcam_callbacks import ProbeSet, explain
from gradcam_callbacks.explaining.health import FLAT, is_flat
from gradcam_callbacks.record.health import HEALTH


@pytest.mark.parametrize("grid", [(2, 2), (7, 7), (16,), (3, 4, 5)])
def test_a_map_is_flat_where_its_places_differ_by_less_than_a_share_of_the_highest(grid: tuple[int, ...]) -> None:
    """At any scale and on any grid; 96 % of the maximum everywhere is flat, and 94 % somewhere is not."""
    assert FLAT == 0.05
    assert "less than 5 % of its maximum" in HEALTH["flat"]
    maps = np.full((3, 2, *grid), 1e-3, np.float32)
    maps[0, 1].flat[0] = 0.96e-3
    maps[1, 0].flat[0] = 0.94e-3
    maps[1, 1] *= 1e6
    maps[2, 0] = 0
    maps[2, 0].flat[0] = 1
    np.testing.assert_array_equal(is_flat(maps), [[True, True], [False, True], [False, True]])


def that_ignores_its_input(share: float) -> keras.Model:
    """Its map is 1 at the border, where the padding is, and `1 - share` inside."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(1, 3, padding="same", name="before")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(1, 3, padding="same", activation="relu", name="conv")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").moving_variance.assign([1e14])
    model.get_layer("norm").beta.assign([1.0])
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 1] = -share  # of the upper neighbour, which the first row does not have
    model.get_layer("conv").set_weights([kernel, np.ones(1, np.float32)])
    model.get_layer("head").set_weights([np.ones((1, 2), np.float32), np.zeros(2, np.float32)])
    return model


def test_what_ignores_its_input_is_flat_in_spite_of_the_border() -> None:
    """Zero padding makes a border also where the pictures do not count; a weak one does not hide that."""
    explanation = explain(that_ignores_its_input(0.04), pictures(2), targets=[0], layer="conv")
    np.testing.assert_allclose(explanation.maps[:, 0, 1:] / explanation.maps[:, 0, :1], 0.96, rtol=1e-5)
    assert explanation.health.ravel().tolist() == ["flat", "flat"]
    explanation = explain(that_ignores_its_input(0.06), pictures(2), targets=[0], layer="conv")
    assert explanation.health.ravel().tolist() == ["ok", "ok"]


@pytest.mark.usefixtures("large_network")
def test_true_maps_of_photographs_are_not_flat() -> None:
    """Of a network with its ImageNet weights, for what is in the picture and what is not, on 7x7 and on 2x2 places."""
    network = efficientnet_lite0()
    photographs = np.stack([cat(), espresso(), cat_beside_espresso()])
    asked: dict[str, Any] = {"targets": [EGYPTIAN_CAT, ESPRESSO, 1, 500], "preprocess": preprocess}
    assert "flat" not in explain(network, ProbeSet(photographs, **asked)).health
    tiny = keras.models.clone_model(network, input_tensors=keras.Input((64, 64, 3)))
    tiny.set_weights(network.get_weights())
    small = np.stack([np.asarray(Image.fromarray(photograph).resize((64, 64))) for photograph in photographs])
    explanation = explain(tiny, ProbeSet(small, **asked))
    assert explanation.maps.shape[2:] == (2, 2)
    assert "flat" not in explanation.health


def test_a_misplaced_map_is_never_drawn() -> None:
    """Its overlay is the picture itself, at any size and scale; its numbers stay, and the title says it."""
    model = small_model(activation=None)
    model.get_layer("head").kernel.assign(np.abs(model.get_layer("head").kernel))
    right = explain(model, pictures(2), targets=[0, 1])
    health = np.array([["misplaced", "ok"], ["ok", "ok"]])
    wrong = replace(right, health=health)
    np.testing.assert_array_equal(wrong.maps, right.maps)
    np.testing.assert_array_equal(wrong.overlays()[0, 0], wrong.probes.pictures[0])
    np.testing.assert_array_equal(wrong.overlays()[0, 1], right.overlays()[0, 1])
    large = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    np.testing.assert_array_equal(wrong.overlays_on(0, large)[0], large)
    assert (wrong.overlays_on(0, large)[1] != large).any()
    assert wrong.heatmaps(scale="shared")[0, 0].max() == 0
    assert wrong.title(0, 0) == "What made you think class_0? (misplaced)"
    assert wrong.title(0, 1) == f"What made you think class_1? ({wrong.scores[0, 1]:.1f})"
    (sentence,) = wrong.problems()
    assert sentence.startswith("1 of 4 maps is misplaced (probe_0 / class_0). Its places are not those of the picture")
    titles = [axes.get_title().replace("\n", " ") for axes in wrong.plot().axes]
    assert "What made you think class_0? (misplaced)" in titles


def test_the_figure_says_what_the_tile_says() -> None:
    """An empty map is "empty" in words; label and prediction are asked differently, and each says its probability.

    A label that the model does not predict did not make it think anything: what speaks for it is asked.
    """
    model = small_model()
    guess = int(explain(model, pictures(1)).predicted[0])
    other = 1 - min(guess, 1)
    for label, asked in (
        (guess, f"What made you think class_{guess}, the label?"),
        (other, f"What speaks for class_{other}, the label?"),
    ):
        both = explain(model, ProbeSet(pictures(1), labels=[label], targets=["predicted", "label"]))
        probabilities = both.probabilities
        assert probabilities is not None
        drawn = replace(both, health=np.array([["ok", "ok"]]))
        assert drawn.title(0, 0) == f"What made you think class_{guess}? ({probabilities[0, 0]:.2f})"
        assert drawn.title(0, 1) == f"{asked} ({probabilities[0, 1]:.2f})"
        empty = replace(both, health=np.array([["ok", "empty"]]))
        assert empty.title(0, 1) == f"{asked} (empty)"
        assert f"{asked} (empty)" in [" ".join(axes.get_title().split()) for axes in empty.plot().axes]
