"""What JAX does not promise is still as we rely on it. JAX need not be Keras's engine here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs JAX: pip install 'gradcam_callbacks[jax]'")

from gradcam_callbacks.explaining.engines.jax_internals import Literal, bound, inner_of, is_effectful  # noqa: E402

NUMBERS = np.array([-2.0, 0.0, 3.0], np.float32)


def equations(function: Any) -> list[Any]:
    """What JAX traces of a function of one array."""
    return list(jax.make_jaxpr(function)(NUMBERS).jaxpr.eqns)


def test_one_equation_is_computed_by_itself() -> None:
    """Without it no tensor in the middle of a model could be moved, and so none be explained."""
    (equation,) = equations(lambda x: x - 1)
    (left, right) = equation.invars
    assert not isinstance(left, Literal)
    assert isinstance(right, Literal)
    (result,) = bound(equation, [NUMBERS, right.val])
    np.testing.assert_array_equal(result, NUMBERS - 1)


def test_a_gradient_of_its_own_stays() -> None:
    """That of `jax.nn.relu` is 0 at 0. That of the maximum that it consists of is 0.5, so the maps would be others."""
    (equation,) = equations(jax.nn.relu)
    gradient = jax.grad(lambda x: bound(equation, [x])[0].sum())(NUMBERS)
    np.testing.assert_array_equal(gradient, [0, 0, 1])


@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint, jax.nn.relu], ids=["jit", "checkpoint", "relu"])
def test_the_inside_of_a_function_is_had(around: Any) -> None:
    """Without it the operations of a model under `jax.jit`, or of an activation, would not be known."""
    function = around if around is jax.nn.relu else around(lambda x: x * 2)
    inner, consts = inner_of(equations(function)[0])
    assert len(inner.eqns) == 1
    assert len(inner.constvars) == len(consts)


def test_what_prints_is_told_from_what_computes() -> None:
    """A constant that is worked out while a graph is read must not print."""
    printing, computing = equations(lambda x: (jax.debug.print("{}", x), x + 1)[1])
    assert is_effectful(printing)
    assert not is_effectful(computing)
