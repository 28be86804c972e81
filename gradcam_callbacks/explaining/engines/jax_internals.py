"""What we rely on in JAX that it does not promise to keep. No other file touches it.

Each function has a test in `test_jax_internals.py` that says what breaks here when JAX changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import Literal

__all__ = ["Literal", "bound", "inner_of", "is_effectful"]


def bound(equation: Any, given: Sequence[Any]) -> list[Any]:
    """What the primitive of an equation of a jaxpr gives for numbers.

    Args:
        equation: of a jaxpr.
        given: the numbers of its inputs, in their order.
    """
    params = equation.primitive.get_bind_params(equation.params)
    functions: Sequence[Any] = ()
    if isinstance(params, tuple):  # before JAX 0.10
        functions, params = params
    with equation.ctx.manager:
        result = equation.primitive.bind(*functions, *given, **params)
    return list(result) if equation.primitive.multiple_results else [result]


def inner_of(equation: Any) -> tuple[Any, Sequence[Any]]:
    """The jaxpr of the function that an equation calls, and its constants."""
    params = equation.params
    inner = next(params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in params)
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def is_effectful(equation: Any) -> bool:
    """Whether an equation does more than give its results, such as printing."""
    return bool(equation.effects)
