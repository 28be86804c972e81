"""What methods that attend need: how much each token tells each other one, in every block of a transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import numpy as np
from keras import ops

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.engines.engine import engine
from gradcam_callbacks.explaining.graph import ancestors, at_least_float32
from gradcam_callbacks.explaining.views import Video, View

Tensor = Any
Values = Any


@dataclass(frozen=True)
class Attended(View):
    """A layer's tokens as a map that is made of the attention between them, and not of their gradients.

    Attributes:
        attentions: of each block, the first one first, what the softmax gives: (N, T, T) or (N, heads, T, T), or more
            axes, which are of one.
        order: of the T tokens: first the places, in the map's order, then what is no place, such as a class token.
    """

    attentions: tuple[Tensor, ...] = ()
    order: tuple[int, ...] = ()

    @property
    def outputs(self) -> list[Tensor]:
        """See `View`."""
        return [self.output, *self.attentions]

    @property
    def sources(self) -> list[Tensor]:
        """What to differentiate by."""
        return list(self.attentions)

    @property
    def floats(self) -> int:
        """See `View`."""
        return sum(math.prod(side or 1 for side in attention.shape[1:]) for attention in self.attentions)

    def gradients(self, raw: Sequence[Values], outputs: Sequence[Values]) -> Values:
        """(N, blocks, T, T): of each block the mean over its heads of ReLU(dy/dA * A)."""
        pictures, tokens, blocks = ops.shape(outputs[0])[0], len(self.order), []
        for attention, gradient in zip(outputs[1:], raw, strict=True):
            told = ops.relu(at_least_float32(gradient) * at_least_float32(attention))
            told = ops.mean(ops.reshape(told, (pictures, -1, tokens, tokens)), axis=1)
            blocks.append(ops.take(ops.take(told, self.order, axis=1), self.order, axis=2))
        return ops.stack(blocks, axis=1)


def attended(view: View | Video, scored: Any, method: str) -> Attended:
    """A layer of tokens with the attention between them in all blocks.

    Attention is known by what it is in the graph, whoever wrote the layer: a softmax that gives one number for each
    pair of tokens, and that the score depends on.

    Args:
        view: of the layer.
        scored: see `Head`.
        method: what it is called in messages.

    Raises:
        GradCAMError: if there is no attention between all the tokens of this layer.
    """
    shape = view.output.shape
    tokens = int(shape[1] or 0) if shape.rank == 3 and isinstance(view, View) else 0
    on_the_way = ancestors([tensor.op for tensor in keras.tree.flatten(scored)])
    found = [
        operation.outputs[0]
        for operation in view.output.graph.get_operations()
        if id(operation) in on_the_way
        and operation.type == "Softmax"
        and engine.has_numbers(operation.outputs[0])
        and operation.outputs[0].shape.rank in (3, 4, 5)
        and tuple(operation.outputs[0].shape[-2:]) == (tokens, tokens)
    ]
    if not found or isinstance(view, Video):
        raise GradCAMError(
            f"The method '{method}' asks what the tokens of a transformer tell each other, and of layer "
            f"'{view.info.path}' there is no attention between all places.",
            "Choose a method that takes gradients, such as {argument}.",
            argument="method",
            value="gradcam",
        )
    own = {field.name: getattr(view, field.name) for field in fields(View)} | {"pooled": None}
    return Attended(**own, attentions=tuple(found), order=_order(view, tokens))


def _order(view: View, tokens: int) -> tuple[int, ...]:
    """The numbers of the tokens: first those of the places, in the map's order, then the others."""
    numbers = np.broadcast_to(np.arange(tokens)[None, :, None], (1, tokens, view.output.shape[2]))
    places = view.reading.of(numbers, np)[0, ..., 0].ravel().tolist()
    return (*places, *sorted(set(range(tokens)) - set(places)))
