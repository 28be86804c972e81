"""Sentences of docs/what-it-explains.md that no other test holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from support.models import pictures, small_model

from gradcam_callbacks import explain
from gradcam_callbacks.record.health import HEALTHS

PAGE = Path(__file__).parents[2] / "docs" / "what-it-explains.md"


def test_the_page_lists_the_states_of_a_map() -> None:
    """All of them, in their order; and README leads to the page."""
    told = PAGE.read_text(encoding="utf-8").partition("## What a map says of itself")[2]
    assert tuple(re.findall(r"^\| `(.+?)` \|", told, re.MULTILINE)) == HEALTHS
    assert "(docs/what-it-explains.md)" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("bias", [100.0, -100.0])
def test_one_linear_unit_is_two_classes_unless_a_function_is_the_target(bias: float) -> None:
    """What is predicted is class_1 with z where z is positive, else class_0 with -z; a function has z in any case."""
    model = small_model(classes=1, activation=None)
    model.get_layer("head").bias.assign([bias])
    values = model.predict(pictures(), verbose=0)[:, 0]

    def unit(outputs: Any) -> Any:
        return outputs[:, 0]

    explanation = explain(model, pictures(), targets=["predicted", unit])
    assert set(explanation.predicted.tolist()) == {int(bias > 0)}
    np.testing.assert_allclose(explanation.scores[:, 0], np.abs(values), rtol=1e-5)
    np.testing.assert_allclose(explanation.scores[:, 1], values, rtol=1e-5)
    assert explanation.question(0, 0) == f"What made you think class_{int(bias > 0)}?"


class Reversal(keras.layers.Layer):
    """Hands on what it gets, and turns the sign of the gradient."""

    def call(self, inputs: Any) -> Any:
        @ops.custom_gradient
        def reversed_gradient(x: Any) -> Any:
            return ops.copy(x), lambda upstream: -upstream

        return reversed_gradient(inputs)


def test_behind_a_gradient_reversal_is_what_speaks_against_the_target() -> None:
    """The layer's own gradient is followed: the map of a class is that of its negative score without the reversal."""
    plain = small_model(activation=None)
    inputs = keras.Input((16, 16, 3))
    x = Reversal()(plain.get_layer("pool")(plain.get_layer("conv")(inputs)))
    model = keras.Model(inputs, plain.get_layer("head")(x))

    def against(outputs: Any) -> Any:
        return -outputs[:, 1]

    expected = explain(plain, pictures(), targets=[against]).maps
    assert expected.max() > 0
    np.testing.assert_allclose(explain(model, pictures(), targets=[1]).maps, expected, rtol=1e-5, atol=1e-9)
