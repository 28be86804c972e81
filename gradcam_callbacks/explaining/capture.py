"""Activations and gradients of any Keras model, in one traced graph. The only file that differentiates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.feeding import check_inputs
from gradcam_callbacks.explaining.graph import PASSING, InsideFunctionError, functions_inlined, has_inner_functions
from gradcam_callbacks.explaining.head import Answer
from gradcam_callbacks.explaining.layers import Call, all_layers, calling_order, find, is_channels_first, watch
from gradcam_callbacks.explaining.masking import increases_of_scores
from gradcam_callbacks.explaining.methods import MASKING, METHODS
from gradcam_callbacks.explaining.picking import named, pick
from gradcam_callbacks.explaining.views import LayerInfo, View, read_as_maps
from gradcam_callbacks.probes.inputs import Inputs
from gradcam_callbacks.probes.targets import NO_CLASS

Tensor = Any
_TRACING = threading.Lock()
"""While a graph is traced the layers are wrapped, so only one thread may do it."""


@dataclass(frozen=True)
class Capture:
    """One traced graph from what the model is fed and a target matrix to raw maps.

    Attributes:
        layers: those that are explained, as they were asked for.
        explainable: all that could be and have more than one place, in the order of their calls.
        runners_up: those that would be picked next, the best first.
        score_kind: "logit", or "probability" where the model does more than squash its logits.
        classes: how many classes a target may name; None where only the pictures decide, 0 where the model is no
            classifier.
        has_probabilities: whether the model's outputs are probabilities.
        floats: how many numbers one target of one picture needs on its way to a map.
    """

    layers: tuple[LayerInfo, ...]
    explainable: tuple[LayerInfo, ...]
    runners_up: tuple[LayerInfo, ...]
    score_kind: str
    classes: int | None
    has_probabilities: bool
    floats: int
    _graph: Callable[..., Mapping[str, Any]] = field(repr=False)

    def __call__(self, inputs: Inputs, targets: Array) -> dict[str, Any]:
        """Runs the graph once.

        Args:
            inputs: N of what the model is fed, in the shapes and dtypes that were traced.
            targets: (N, K, 2) int32 of the targets that name classes; `[..., 0]` is the class explained or
                `PREDICTED`, `[..., 1]` the class whose score is subtracted or `NO_CLASS`.

        Returns:
            maps, a list with (N, K + F, *grid) float32 for each layer, the F functions after the classes; scores and
            gradient_peak (N, K + F) float32, the largest absolute gradient; explained (N, K + F) int32; predicted
            (N,) int32 and outputs (N, classes) float32, where the model is a classifier.
        """
        result = self._graph(tf.nest.map_structure(tf.constant, inputs), tf.constant(targets))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), dict(result))  # type: ignore[no-any-return]


def trace(
    model: keras.Model,
    method: str,
    *,
    layer: str | Sequence[str] | None,
    output: str | int | None,
    grid: tuple[int, int] | None,
    inputs: Inputs,
    picture: Any,
    functions: Sequence[Callable[[Any], Tensor]] = (),
    name_classes: bool = True,
    at_once: int = 32,
) -> Capture:
    """Traces one graph that explains any number of targets a picture in one forward pass.

    The layers' outputs are seen by wrapping `call` on the layer instances while the graph is traced, and only then,
    so that nested, subclassed and Sequential models all work and nothing stays patched.

    Args:
        model: a built Keras model on the TensorFlow backend.
        method: a name in `METHODS`.
        layer: its path or unique name, or several of them; None picks one.
        output: the head of a multi-output model, by name or index.
        grid: (h, w) of the tokens of a transformer; None infers it.
        inputs: what the model will be fed; the number of pictures does not matter.
        picture: the key of the picture among the inputs, None where it is the only one.
        functions: targets that are functions of the model's outputs.
        name_classes: whether there will be targets that name classes.
        at_once: how many masked pictures go through the model at once, by methods that mask.

    Raises:
        ValueError: if the layer or the output does not exist or cannot be explained, or the model cannot take
            the inputs.
    """
    image = inputs if picture is None else inputs[picture]
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built: it has no weights to explain. Call it once, fit it, load its weights, "
            f"or call model.build({(None, *image.shape[1:])}) first."
        )
    check_inputs(model, inputs)
    layers, inner = all_layers(model)
    names = [layer] if isinstance(layer, str) else layer
    if names is not None and not names:
        raise ValueError("layer=[] names no layer; leave layer=None to have one picked.")
    wanted = [find(layers, name) for name in names] if names is not None else None
    watched = {path for path, _ in wanted} if wanted else set(layers) - inner
    turns = calling_order(model, layers)
    channels_first = is_channels_first(layers.values())
    size = tuple(image.shape[2:] if channels_first else image.shape[1:-1])
    found: dict[str, Any] = {}

    def graph(batch: Inputs, targets: Tensor) -> dict[str, Any]:
        calls: list[Call] = []
        tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with tape, watch(model, layers, watched, turns, calls, tape.watch):
            answer = Answer.of(model, batch, output, name_classes=name_classes)
        if not tf.config.functions_run_eagerly() and has_inner_functions(answer.scored):
            raise InsideFunctionError
        views = read_as_maps(calls, size, grid, answer.scored, channels_first=channels_first)

        def has_gradient(tensor: Tensor) -> bool:
            return _gradients(answer.scored, [tensor])[0] is not None

        worth = pick(views, answer.scored, has_gradient) if wanted is None else named(views, wanted, has_gradient)
        chosen = worth[:1] if wanted is None else worth
        classes = 0 if answer.logits is None else answer.logits.shape[-1]
        found.update(
            layers=tuple(view.info for view in chosen),
            runners_up=tuple(view.info for view in worth[len(chosen) :]),
            explainable=tuple(view.info for view in views if view.problem is None and set(view.grid) != {1}),
            score_kind=answer.score_kind,
            classes=classes,
            has_probabilities=answer.has_probabilities,
            floats=sum(view.floats for view in chosen),
        )
        if wanted is None and chosen[0].extra_tokens:  # the last tokens that matter may not be the last tokens
            found["candidates"] = [view.info.path for view in worth]
            return {"peaks": _peaks(worth, answer.scored)}
        increases = None
        if method in MASKING:
            increases = partial(
                increases_of_scores,
                model,
                batch,
                output=output,
                functions=functions,
                name_classes=name_classes,
                picture=picture,
                channels_first=channels_first,
                at_once=at_once,
            )
        return _explain(
            chosen,
            METHODS[method],
            answer,
            targets,
            functions,
            tape=tape,
            name_classes=name_classes,
            increases=increases,
        )

    def traced() -> Any:
        return tf.function(graph, input_signature=_signature(inputs), autograph=False).get_concrete_function()

    with _TRACING:
        try:
            concrete = traced()
        except InsideFunctionError:
            with functions_inlined():
                concrete = traced()
    candidates = found.pop("candidates", None)
    if candidates is None:
        return Capture(_graph=concrete, **found)
    one = tf.nest.map_structure(lambda array: tf.constant(array[:1]), inputs)
    peaks = concrete(one, tf.zeros((1, 0, 2), tf.int32))["peaks"].numpy()
    first = int(np.argmax(peaks > 0))
    capture = trace(
        model,
        method,
        layer=candidates[first],
        output=output,
        grid=grid,
        inputs=inputs,
        picture=picture,
        functions=functions,
        name_classes=name_classes,
        at_once=at_once,
    )
    return replace(capture, explainable=found["explainable"], runners_up=found["runners_up"][first:])


def trace_scores(
    model: keras.Model, *, output: str | int | None, inputs: Inputs
) -> Callable[[Inputs, Array], tuple[Array, Array]]:
    """Traces a plain forward pass to the scores of classes.

    Args:
        model: as for `trace`.
        output: the head of a multi-output model.
        inputs: what the model will be fed; the number of pictures does not matter.

    Returns:
        A function of the inputs and an (N, K, 2) target matrix that gives (N, K) scores and (N, K) probabilities, NaN
        where there are none.
    """

    def graph(batch: Inputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        answer = Answer.of(model, batch, output, name_classes=True)
        scores, explained = answer.scores(targets, ())
        probabilities = tf.fill(tf.shape(explained), np.float32(np.nan))
        if answer.outputs is not None and answer.has_probabilities:
            probabilities = tf.cast(tf.gather(answer.outputs, explained, batch_dims=1), tf.float32)
            probabilities = tf.where(targets[..., 1] == NO_CLASS, probabilities, np.nan)
        return scores, probabilities

    concrete = tf.function(graph, input_signature=_signature(inputs), autograph=False).get_concrete_function()

    def scores_of(batch: Inputs, targets: Array) -> tuple[Array, Array]:
        scores, probabilities = concrete(tf.nest.map_structure(tf.constant, batch), tf.constant(targets))
        return scores.numpy(), probabilities.numpy()

    return scores_of


def _signature(inputs: Inputs) -> list[Any]:
    """Any number of pictures, any number of targets."""
    specs = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), inputs)
    return [specs, tf.TensorSpec((None, None, 2), tf.int32)]


def _explain(
    views: Sequence[View],
    method: Callable[..., Tensor],
    answer: Answer,
    targets: Tensor,
    functions: Sequence[Callable[[Any], Tensor]],
    *,
    tape: tf.GradientTape,
    name_classes: bool,
    increases: Callable[[View, Tensor], Tensor] | None,
) -> dict[str, Any]:
    """The tensors that a `Capture` gives.

    Args:
        views: of the layers to explain.
        method: (activations, gradients or increases, scores) -> maps.
        answer: the forward pass.
        targets: (N, K, 2).
        functions: F targets that are no classes.
        tape: of the forward pass.
        name_classes: whether K may be more than 0.
        increases: for methods that mask: (view, targets) -> (N, K + F, C); None for those that take gradients.
    """
    scores, explained = answer.scores(targets, functions)
    activations = [view.activations() for view in views]
    sources = [view.source for view in views]
    pooled = all(view.pooled is not None for view in views)
    maps_like = [tf.TensorSpec((None, *view.grid), tf.float32) for view in views]
    like = (maps_like, tf.TensorSpec((None,), tf.float32))

    def maps_of(seconds: Sequence[Tensor], score: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = [
            tf.cast(method(tensor, tf.cast(second, tensor.dtype), tf.cast(score, tensor.dtype)), tf.float32)
            for tensor, second in zip(activations, seconds, strict=True)
        ]
        peaks = [tf.reduce_max(tf.abs(second), axis=list(range(1, second.shape.rank))) for second in seconds]
        return maps, tf.cast(tf.reduce_max(tf.stack(peaks), axis=0), tf.float32)

    # The pictures of a batch do not touch each other at inference, so the gradient of their sum is each one's own.
    def of_class(target_and_score: tuple[Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
        target, score = target_and_score
        classes, dtype = answer.logits.shape[-1], answer.logits.dtype  # type: ignore[union-attr]
        seed = tf.one_hot(target[:, 0], classes, dtype=dtype) - tf.one_hot(target[:, 1], classes, dtype=dtype)
        # Not tf.gradients, which cannot look out of the loop below.
        raw = tape.gradient(answer.logits, sources, output_gradients=seed)
        return maps_of([view.gradients(one) for view, one in zip(views, raw, strict=True)], score)

    def of_increases(index: Tensor) -> tuple[list[Tensor], Tensor]:
        return maps_of([tensor[:, index] for tensor in risen], scores[:, index])

    if increases is not None:
        fixed = tf.stack([explained, targets[..., 1]], axis=-1)
        risen = [increases(view, fixed) for view in views]
        parts = [tf.map_fn(of_increases, tf.range(tf.shape(scores)[1]), fn_output_signature=like)]
    else:
        parts = []
        if name_classes:
            count = tf.shape(targets)[1]
            fixed = tf.stack([explained, targets[..., 1]], axis=-1)
            by_target = (tf.transpose(fixed, [1, 0, 2]), tf.transpose(scores[:, :count]))
            # What follows a global pooling is small: all targets at once. What may be half a network: one at a time.
            if pooled:
                parts.append(tf.vectorized_map(of_class, by_target))
            else:
                parts.append(tf.map_fn(of_class, by_target, fn_output_signature=like, parallel_iterations=1))
        for index in range(-len(functions), 0):
            raw = _gradients(scores[:, index], sources, zero=True)
            made = maps_of([view.gradients(one) for view, one in zip(views, raw, strict=True)], scores[:, index])
            parts.append(tf.nest.map_structure(lambda tensor: tensor[None], made))
    maps, peak = tf.nest.map_structure(lambda *tensors: _swapped(tf.concat(tensors, axis=0)), *parts)
    result = {"maps": maps, "gradient_peak": peak, "scores": tf.cast(scores, tf.float32), "explained": explained}
    if answer.logits is not None:
        result["outputs"] = tf.cast(answer.outputs, tf.float32)
        result["predicted"] = tf.argmax(answer.logits, axis=-1, output_type=tf.int32)
    return result


def _gradients(scored: Any, sources: Sequence[Tensor], *, zero: bool = False) -> list[Tensor | None]:
    """d(sum of all scores)/d(source); None, or zeros, where nothing connects them."""
    scores = [tensor for tensor in tf.nest.flatten(scored) if tensor.dtype.is_floating]
    missing = tf.UnconnectedGradients.ZERO if zero else tf.UnconnectedGradients.NONE
    return tf.gradients(scores, list(sources), unconnected_gradients=missing)  # type: ignore[no-any-return]


def _peaks(views: Sequence[View], scored: Any) -> Tensor:
    """(V,) the largest absolute gradient at the places of each view, of an arbitrary mixture of what the head takes.

    Not of the scores: a head that starts from zero, as in fine-tuning, would hide what it is going to see.
    """
    mixed = []
    for tensor in tf.nest.flatten(scored):
        if tensor.dtype.is_floating:
            taken = _before_the_head(tensor)
            mixed.append(taken * tf.cast(tf.random.stateless_normal(tf.shape(taken), seed=(1, 2)), taken.dtype))
    raw = _gradients(mixed, [view.source for view in views], zero=True)
    return tf.stack([tf.reduce_max(tf.abs(view.gradients(one))) for view, one in zip(views, raw, strict=True)])


def _before_the_head(logits: Tensor) -> Tensor:
    """What the last dense layer takes; the logits themselves where something else gives them."""
    operation = logits.op
    while operation.type in {*PASSING, "BiasAdd", "AddV2", "Reshape", "Squeeze"}:
        operation = operation.inputs[0].op
    return operation.inputs[0] if operation.type in ("MatMul", "BatchMatMulV2", "Einsum") else logits


def _swapped(tensor: Tensor) -> Tensor:
    """The first two axes exchanged."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
