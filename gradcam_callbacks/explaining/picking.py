"""Which of the layers is explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.graph import reached_from
from gradcam_callbacks.explaining.views import View

Tensor = Any
# Layers whose map repeats that of the layer before them, and shows no more than that.
_REPEATERS = (
    *(
        getattr(keras.layers, f"{kind}{rank}D")
        for kind in ("MaxPooling", "AveragePooling", "ZeroPadding", "Cropping", "UpSampling")
        for rank in (1, 2, 3)
    ),
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Identity,
)
# Operations that multiply with learned weights. Before the first of them every map is the picture itself, only scaled.
_MIXING = frozenset(
    {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        *("MatMul", "BatchMatMulV2", "Einsum", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
    }
)
_SAY_GRID = "Say the grid's height and width with {argument}."


def named(
    views: Sequence[View], wanted: Sequence[tuple[str, int]], has_gradient: Callable[[Tensor], bool]
) -> list[View]:
    """The views of the layers that the user named, in that order. Any layer that has a map and a gradient will do.

    Args:
        views: of all calls of these layers.
        wanted: paths, each with the number of the call; negative numbers count from the last.
        has_gradient: whether the score has a gradient with respect to a tensor.

    Raises:
        GradCAMError: if one was not called, or cannot be explained.
    """
    chosen = []
    for path, number in wanted:
        calls = [view for view in views if re.sub(r"\[\d+\]$", "", view.info.path) == path or view.info.path == path]
        if not calls:
            problem: str | None = "the model does not call it when it predicts, so the score does not depend on it"
        elif not -len(calls) <= number < len(calls):
            problem = f"it has {len(calls)} calls, [0] to [{len(calls) - 1}]; [{number}] is none of them"
        elif calls[number].problem is None and not has_gradient(calls[number].output):
            problem = "the score depends on it only through operations that have no gradient"
        else:
            problem = calls[number].problem
        if problem is not None:
            refused = f"Layer '{path}' cannot be explained: {problem}."
            if any(view.lacks_grid for view in calls):
                raise GradCAMError(refused, _SAY_GRID, argument="grid")
            raise GradCAMError(refused, argument="layer")
        chosen.append(calls[number])
    return chosen


def pick(views: Sequence[View], scored: Any, has_gradient: Callable[[Tensor], bool]) -> list[View]:
    """The views among which one is picked where the user named no layer: the last on the way to the score comes first.

    Left out are single numbers a channel (1x1), layers that only repeat the map before them, the picture itself and the
    inside of attention.

    Args:
        views: of all calls of all layers, in the order of the calls.
        scored: see `Head`.
        has_gradient: whether the score has a gradient with respect to a tensor.

    Raises:
        GradCAMError: if there is none.
    """
    graph = tf.nest.flatten(scored)[0].graph
    learned = reached_from(graph, lambda operation: operation.type in _MIXING)
    tokens = {view.output.op.name: view.grid for view in views if view.problem is None and view.has_tokens}
    after_tokens = reached_from(graph, lambda operation: operation.name in tokens)

    def shows_something(view: View) -> bool:
        if view.problem is not None or set(view.grid) == {1} or isinstance(view.layer, _REPEATERS):
            return False
        name = view.output.op.name
        # What is made of tokens but is not on their grid is the inside of attention: (batch, heads, tokens, tokens).
        return name in learned and (name not in after_tokens or view.grid in tokens.values())

    candidates = [view for view in reversed(views) if shows_something(view)]
    candidates = [view for view in candidates if not view.is_guess] or candidates
    for position, view in enumerate(candidates):
        if has_gradient(view.output):
            return candidates[position:]
    problem = (
        "The model has no spatial layer to explain: no layer on the way to the score makes a map (batch, h, w, "
        "channels) larger than 1x1 from learned weights."
    )
    for view in reversed(views):
        if view.lacks_grid:
            hint = f"Layer '{view.info.path}' might have one, but {view.problem}."
            raise GradCAMError(f"{problem} {hint}", _SAY_GRID, argument="grid")
    raise GradCAMError(problem, "Grad-CAM needs a convolutional model, or a transformer whose tokens are places.")
