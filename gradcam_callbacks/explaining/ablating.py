"""What methods that ablate need: how much of each score is lost when a channel of the layer gives zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from gradcam_callbacks.explaining.engines.engine import Run, engine
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View

Values = Any


def drops_of_scores(
    asked: Request,
    run: Run,
    head: Head,
    view: View | Video,
    outputs: Sequence[Values],
    targets: Values,
    scores: Values,
) -> Values:
    """How much of each score is lost without each channel.

    Only the operations between the layer and the score are run again, for all pictures at once, one channel at zero
    each time. What comes to them from beside the layer, such as a shortcut around it, is what it was.

    Args:
        asked: what is explained.
        run: the forward pass.
        head: of the tensors of the graph.
        view: of the layer.
        outputs: the numbers of the layer's outputs.
        targets: (N, K, 2), without `PREDICTED`.
        scores: (N, K + F), of the forward pass.

    Returns:
        (N, K + F, C): the score minus that with the channel at zero at all places; entries that are no places, such as
        a class token, stay.
    """
    views = view.frames if isinstance(view, Video) else (view,)
    channels = [_channel_of_each_entry(one, output) for one, output in zip(views, outputs, strict=True)]
    rerun = run.rerun(view.outputs, keras.tree.flatten(head.scored))

    def without(channel: Values) -> Values:
        ablated = [
            ops.where(numbers == channel, ops.zeros((), output.dtype), output)
            for output, numbers in zip(outputs, channels, strict=True)
        ]
        changed = head.of_numbers(keras.tree.pack_sequence_as(head.scored, rerun(ablated)), head.given)
        return ops.cast(changed.scores(targets, asked.functions)[0], "float32")

    like = keras.KerasTensor((None, None), "float32")
    left = engine.one_by_one(without, ops.arange(view.channels), like)
    return ops.cast(scores, "float32")[..., None] - ops.transpose(left, [1, 2, 0])


def _channel_of_each_entry(view: View, output: Values) -> Values:
    """Of the shape of a layer's output: the channel of each entry, -1 for what is no place of the map."""
    numbers = ops.arange(1, view.channels + 1, dtype="float32")
    # The gradient of a reading puts each number back to where it was read.
    back = engine.gradient(lambda read: ops.sum(view.reading.of(read) * numbers), ops.zeros_like(output, "float32"))
    return ops.cast(ops.round(back), "int32") - 1
