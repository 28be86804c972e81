"""Whether the pictures of a batch influence each other, as under batch normalisation in training mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.engines.engine import engine
from gradcam_callbacks.explaining.graph import ancestors
from gradcam_callbacks.probes.inputs import Inputs, each

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.capture import Capture
    from gradcam_callbacks.explaining.engines.engine import Forward

Tensor = Any
_NOISE = 1e-6
"""What share of a picture's own gradient the others' may be by rounding. Pictures that do not touch have exactly 0."""

# Operations that make of each picture something of its own. Only their first input is a picture's.
_OF_EACH = frozenset(
    {
        *("Cast", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Sigmoid", "Tanh", "Erf", "Exp", "Log"),
        *("Sqrt", "Rsqrt", "Square", "Neg", "Abs", "Softmax", "LogSoftmax", "BiasAdd", "MaxPool", "AvgPool", "MatMul"),
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "FusedBatchNormV3"),
    }
)
# What hands pictures on, and a function of Python's, which cannot be looked into and lets no gradient through.
_OF_ANY_SHAPE = frozenset({"Identity", "EnsureShape", "PyFunc", "EagerPyFunc", "Jax:pure_callback"})
_OF_PAIRS = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum"})
_OVER_AXES = frozenset({"Mean", "Sum", "Max", "Min"})


def may_touch(starts: Any, scored: Any) -> bool:
    """Whether anything on the ways to the score might mix the pictures of a batch.

    Of what usually stands between a convolution and a score it is known that it does not; all else may.

    Args:
        starts: tensors (N, ...), or a structure of them.
        scored: see `Head`.
    """
    on_the_way = ancestors([tensor.op for tensor in keras.tree.flatten(scored)])
    todo = list(keras.tree.flatten(starts))
    of_pictures = {id(tensor) for tensor in todo}
    seen: set[int] = set()
    while todo:
        for taker in todo.pop().consumers():
            if id(taker) in seen or id(taker) not in on_the_way or taker.type == "Shape":
                continue
            seen.add(id(taker))
            todo += taker.outputs
            of_pictures |= {id(tensor) for tensor in taker.outputs}
    return any(not _keeps_apart(on_the_way[number], of_pictures) for number in seen)


def _keeps_apart(operation: Any, of_pictures: set[int]) -> bool:
    """Whether an operation surely makes of each picture something of its own.

    Args:
        operation: of the traced graph.
        of_pictures: the ids of the tensors that are made of pictures; their first axis is the batch.
    """
    if operation.type in _OF_ANY_SHAPE:
        return True
    taken = [id(tensor) in of_pictures for tensor in operation.inputs]
    first, result = operation.inputs[0].shape, operation.outputs[0].shape
    if first.rank is None or result.rank is None:
        return False
    if operation.type in _OF_PAIRS:
        ranks = {tensor.shape.rank for tensor, is_taken in zip(operation.inputs, taken, strict=True) if is_taken}
        return ranks == {result.rank} and result.rank > 1
    if not taken[0] or any(taken[1:]):
        return False
    if operation.type in _OVER_AXES:
        axes = engine.static_value(operation.inputs[1])
        return axes is not None and 0 not in np.ravel(axes) % first.rank
    if operation.type == "Reshape":  # (N, h, w, c) to (N, h * w * c)
        sizes = (first[1:].num_elements(), result[1:].num_elements())
        return sizes[0] is not None and sizes[0] == sizes[1]
    if operation.type == "BroadcastTo":  # along other axes than that of the batch
        return bool(first.rank == result.rank and first[0] == result[0])
    if operation.type == "Einsum":
        (one, *others), result_names = _names(operation)
        return one[:1] == result_names[:1] != "" and not any(one[0] in names for names in others)
    if operation.type == "FusedBatchNormV3":
        return not operation.get_attr("is_training")
    if operation.type == "MatMul":
        return not operation.get_attr("transpose_a")
    return operation.type in _OF_EACH


def _names(operation: Any) -> tuple[list[str], str]:
    """The letters of the axes of an Einstein sum: of each input, and of the result."""
    given, _, result = operation.get_attr("equation").decode().replace(" ", "").partition("->")
    return given.split(","), result


def maps_touch(capture: Capture, inputs: Inputs, targets: Array) -> bool | None:
    """Whether the score of one picture of a batch has a gradient at the places of another.

    Args:
        capture: the graph.
        inputs: the batch.
        targets: of its pictures; see `Capture`.

    Returns:
        None where it cannot be told now: the score has no gradient at its own picture either, as where a head starts
        from zero, or the layer's output has no batch.
    """
    middle = len(targets) // 2
    peaks = capture(inputs, targets, only=middle)["gradient_peak"].max(axis=1)
    if len(peaks) != len(targets):
        return None
    own, others = peaks[middle], np.delete(peaks, middle).max()
    return bool(others > _NOISE * own) if own > 0 else None


def outputs_touch(model: keras.Model, inputs: Inputs, *, batch: int | None) -> bool:
    """Whether what a model says of one picture of a batch changes with the others.

    Args:
        model: a built model.
        inputs: the batch.
        batch: see `Request`.
    """

    def read(forward: Forward) -> list[Tensor]:
        outputs = keras.tree.flatten(forward.outputs)
        return [output for output in outputs if output.dtype.is_floating and output.shape.rank]

    forward = engine.traced(model, read, lambda run, outputs: run.values(outputs), inputs, batch=batch)
    middle = len(keras.tree.flatten(inputs)[0]) // 2

    def said(fed: Inputs) -> list[Array]:
        return [output[middle] for output in forward(fed)]

    first, again = said(inputs), said(inputs)
    others = said(each(lambda array: np.repeat(array[middle : middle + 1], len(array), 0), inputs))
    # What differs from run to run is noise.
    return any(
        np.array_equal(a, b) and not np.allclose(a, c, rtol=1e-3, atol=1e-3 * float(np.abs(a).max(initial=0)))
        for a, b, c in zip(first, again, others, strict=True)
    )
