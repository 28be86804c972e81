"""Which of the maps is explained: the named one, or the last on the way to the score."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from gradcam_callbacks.explaining.graph import reached_from
from gradcam_callbacks.explaining.views import View

Tensor = Any


# Layers whose map repeats that of the layer before them, at best at the same resolution.
_REPEATERS = (
    *(getattr(keras.layers, f"{kind}{rank}D") for kind in ("MaxPooling", "AveragePooling") for rank in (1, 2, 3)),
    *(
        getattr(keras.layers, f"{kind}{rank}D")
        for kind in ("ZeroPadding", "Cropping", "UpSampling")
        for rank in (1, 2, 3)
    ),
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Identity,
)
# Operations that mix channels or places with weights: a map that none of them made is still the input picture.
_MIXING = frozenset(
    {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        *("MatMul", "BatchMatMulV2", "Einsum", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
    }
)


def named(
    views: Sequence[View], wanted: Sequence[tuple[str, int]], has_gradient: Callable[[Tensor], bool]
) -> list[View]:
    """The views that the user named: of them only the possible is asked, not the sensible.

    Raises:
        ValueError: if one was not called, or cannot be explained.
    """
    chosen = []
    for path, number in wanted:
        calls = [view for view in views if re.sub(r"\[\d+\]$", "", view.info.path) == path or view.info.path == path]
        if not calls:
            problem: str | None = "the model does not call it when it predicts, so the score does not depend on it"
        elif not -len(calls) <= number < len(calls):
            problem = f"it has {len(calls)} calls, [0] to [{len(calls) - 1}]; [{number}] is none of them"
        else:
            view = calls[number]
            problem = view.problem
            if problem is None and not has_gradient(view.output):
                problem = "the score depends on it only through operations that have no gradient"
        if problem is not None:
            raise ValueError(f"Layer '{path}' cannot be explained: {problem}.")
        chosen.append(view)
    return chosen


def pick(views: Sequence[View], scored: Any, has_gradient: Callable[[Tensor], bool]) -> list[View]:
    """The views that are worth explaining, the best first: the last on the way to the score.

    Raises:
        ValueError: if there is none.
    """
    graph = tf.nest.flatten(scored)[0].graph
    learned = reached_from(graph, lambda operation: operation.type in _MIXING)
    tokens = {view.output.op.name: view.grid for view in views if view.problem is None and view.has_tokens}
    after_tokens = reached_from(graph, lambda operation: operation.name in tokens)

    def is_worth_it(view: View) -> bool:
        if view.problem is not None or set(view.grid) == {1} or isinstance(view.layer, _REPEATERS):
            return False
        name = view.output.op.name
        # What is made of tokens and is no map of them is the inside of an attention: (batch, heads, tokens, tokens).
        return name in learned and (name not in after_tokens or view.grid in tokens.values())

    worth = [view for view in reversed(views) if is_worth_it(view)]
    worth = [view for view in worth if not view.is_guess] or worth
    for position, view in enumerate(worth):
        if has_gradient(view.output):
            return worth[position:]
    hints = [f" Layer '{view.info.path}': {view.problem}." for view in views if "grid=" in (view.problem or "")]
    raise ValueError(
        "The model has no spatial layer to explain: no layer on the way to the score makes a map (batch, h, w, "
        f"channels) larger than 1x1 from learned weights.{''.join(hints[-1:])} Grad-CAM needs a convolutional model, "
        "or a transformer whose tokens are places."
    )
