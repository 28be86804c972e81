"""What methods that ablate need: how much of each score is lost when a channel of the layer gives zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from gradcam_callbacks.explaining.graph import reached_from
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View

Tensor = Any


def drops_of_scores(asked: Request, head: Head, view: View | Video, targets: Tensor, scores: Tensor) -> Tensor:
    """How much of each score is lost without each channel.

    Only the operations between the layer and the score are run again, for all pictures at once, one channel at zero
    each time. What comes to them from beside the layer, such as a shortcut around it, is what it was.

    Args:
        asked: what is explained.
        head: of the forward pass.
        view: of the layer.
        targets: (N, K, 2), without `PREDICTED`.
        scores: (N, K + F), of the forward pass.

    Returns:
        (N, K + F, C): the score minus that with the channel at zero at all places; entries that are no places, such as
        a class token, stay.
    """
    views = view.frames if isinstance(view, Video) else (view,)
    outputs = [one.output for one in views]
    channels = [_channel_of_each_entry(one) for one in views]
    ends = [head.logits, head.scored] if head.logits is not None else [head.scored]
    again = _Rest(outputs, tf.nest.flatten(ends))

    def without(channel: Tensor) -> Tensor:
        ablated = [
            tf.where(numbers == channel, tf.zeros([], output.dtype), output)
            for output, numbers in zip(outputs, channels, strict=True)
        ]
        *logits, scored = tf.nest.pack_sequence_as(ends, again(ablated))
        changed = replace(head, scored=scored, logits=logits[0] if logits else None)
        return tf.cast(changed.scores(targets, asked.functions)[0], tf.float32)

    left = tf.map_fn(without, tf.range(view.channels), fn_output_signature=tf.float32, parallel_iterations=1)
    return tf.cast(scores, tf.float32)[..., None] - tf.transpose(left, [1, 2, 0])


def _channel_of_each_entry(view: View) -> Tensor:
    """Of the shape of a layer's output: the channel of each entry, -1 for what is no place of the map."""
    output = tf.zeros_like(view.output, tf.float32)
    read = view.reading.of(output)
    # The gradient of a reading puts each number back to where it was read.
    (back,) = tf.gradients(read, [output], grad_ys=tf.zeros_like(read) + tf.range(1.0, view.channels + 1.0))
    return tf.cast(tf.round(back), tf.int32) - 1


class _Rest:
    """The operations from some tensors of the graph to others, to be run again with other values at the beginning."""

    def __init__(self, starts: Sequence[Tensor], ends: Sequence[Tensor]) -> None:
        self._starts, self._ends = starts, ends
        graph = ends[0].graph
        begins = {id(tensor.op) for tensor in starts}
        after = reached_from(graph, lambda operation: id(operation) in begins)
        needed, todo = set[str](), [tensor.op for tensor in ends]
        while todo:
            operation = todo.pop()
            if operation.name in after and operation.name not in needed:
                needed.add(operation.name)
                todo += [tensor.op for tensor in operation.inputs]
        self._operations = [
            operation
            for operation in graph.get_operations()
            if operation.name in needed and id(operation) not in begins
        ]

    def __call__(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The ends, where the starts have these values."""
        graph = tf.compat.v1.get_default_graph()
        known = {id(start): value for start, value in zip(self._starts, values, strict=True)}
        for operation in self._operations:
            copy = graph.create_op(
                operation.type,
                [known.get(id(tensor), tensor) for tensor in operation.inputs],
                [tensor.dtype for tensor in operation.outputs],
                attrs=dict(operation.node_def.attr),
                op_def=operation.op_def,
            )
            for old, new in zip(operation.outputs, copy.outputs, strict=True):
                new.set_shape(old.shape)
                known[id(old)] = new
        return [known.get(id(end), end) for end in self._ends]
