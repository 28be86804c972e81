"""Maps of all targets from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.ablating import drops_of_scores
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.methods import COMPARED, REFERENCES, ablates, compares, takes_gradients
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.targets import NO_CLASS

Tensor = Any
Made = dict[str, Any]
"""Of one target: `maps`, for each layer (N, *grid); `gradient_peak`, the (N,) largest absolute gradients of all layers;
and, where they are kept, `gradients`, for each layer (N, *grid, C) or (N, 1, ..., 1, C)."""


def maps_of_targets(
    asked: Request,
    head: Head,
    views: Sequence[View | Video],
    targets: Tensor,
    counted: Tensor,
    *,
    tape: tf.GradientTape,
    changes: Callable[[View | Video, Tensor], Tensor],
) -> dict[str, Any]:
    """The tensors that a `Capture` gives.

    Args:
        asked: what is explained.
        head: of the forward pass.
        views: of the layers to explain.
        targets: (N, K, 2).
        counted: (N,) 1 for the pictures whose scores the gradients are taken of, and 0 for the others.
        tape: of the forward pass.
        changes: for methods that mask or occlude: (view, targets) -> (N, K + F, C) or (N, K + F, *grid).
    """
    scores, classes = head.scores(targets, asked.functions)
    fixed = tf.stack([classes, targets[..., 1]], axis=-1)  # the targets, with a class where "predicted" was asked for
    maker = _MapMaker(asked, views)
    if ablates(asked.method):
        parts = [maker.of_seconds([drops_of_scores(asked, head, view, fixed, scores) for view in views], scores)]
    elif not takes_gradients(asked.method):
        parts = [maker.of_seconds([changes(view, fixed) for view in views], scores)]
    else:
        parts = [maker.of_classes(head, fixed, scores, counted, tape)] if asked.name_classes else []
        parts += [maker.of_function(scores[:, index], counted) for index in range(-len(asked.functions), 0)]
    result = tf.nest.map_structure(lambda *tensors: _swapped(tf.concat(tensors, axis=0)), *parts)
    result |= {"scores": tf.cast(scores, tf.float32), "explained": classes}
    if asked.keep_gradients:
        result["activations"] = [tf.cast(view.activations(), tf.float32) for view in views]
    if head.logits is not None:
        result["outputs"] = tf.cast(head.outputs, tf.float32)
        result["predicted"] = tf.argmax(head.logits, axis=-1, output_type=tf.int32)
    return result  # type: ignore[no-any-return]


class _MapMaker:
    """Applies a method to several layers, target by target. Its results have the targets as their first axis."""

    def __init__(self, asked: Request, views: Sequence[View | Video]) -> None:
        self._method, self._name = asked.method, asked.method_name
        self._views = views
        self._activations = [view.activations() for view in views]
        self._sources = [view.sources for view in views]
        self._keep = asked.keep_gradients
        self._like: Made = {
            "maps": [tf.TensorSpec((None, *view.grid)) for view in views],
            "gradient_peak": tf.TensorSpec((None,)),
        }
        if self._keep:
            self._like["gradients"] = [tf.TensorSpec((None, *view.gradient_shape)) for view in views]

    def of_classes(self, head: Head, targets: Tensor, scores: Tensor, counted: Tensor, tape: tf.GradientTape) -> Made:
        """Of K targets that are classes, all of one forward pass.

        Where the pictures of a batch do not touch each other, the gradient of the sum of their scores is each one's
        own. Where they do, one of them is counted at a time: see `touching`.
        """

        def of_class(target_and_score: tuple[Tensor, Tensor]) -> Made:
            target, score = target_and_score
            classes, dtype = head.logits.shape[-1], head.logits.dtype  # type: ignore[union-attr]
            seed = tf.one_hot(target[:, 0], classes, dtype=dtype) - tf.one_hot(target[:, 1], classes, dtype=dtype)
            if compares(self._method):
                alone = tf.cast(target[:, 1] == NO_CLASS, dtype)[:, None]
                seed -= COMPARED * alone * _references(head.logits, target[:, 0])
            seed *= tf.cast(counted, dtype)[:, None]
            # Not tf.gradients, which cannot look out of the loop below.
            return self._of_gradients(tape.gradient(head.logits, self._sources, output_gradients=seed), score)

        by_target = (tf.transpose(targets, [1, 0, 2]), tf.transpose(scores[:, : tf.shape(targets)[1]]))
        # What follows a global pooling is small: all targets at once. What may be half a network: one at a time.
        if all(view.pooled is not None for view in self._views):
            return tf.vectorized_map(of_class, by_target)  # type: ignore[no-any-return]
        return tf.map_fn(  # type: ignore[no-any-return]
            of_class, by_target, fn_output_signature=self._like, parallel_iterations=1
        )

    def of_function(self, score: Tensor, counted: Tensor) -> Made:
        """Of one target that is a function, from its (N,) scores."""
        of_counted = score * tf.cast(counted, score.dtype)
        raw = gradients_of(of_counted, tf.nest.flatten(self._sources), zero=True)
        made = self._of_gradients(tf.nest.pack_sequence_as(self._sources, raw), score)
        return tf.nest.map_structure(lambda tensor: tensor[None], made)  # type: ignore[no-any-return]

    def of_seconds(self, seconds: Sequence[Tensor], scores: Tensor) -> Made:
        """Of all targets, from what comes in the place of the gradients: for each layer (N, K + F, ...)."""
        return tf.map_fn(  # type: ignore[no-any-return]
            lambda index: self._made([tensor[:, index] for tensor in seconds], scores[:, index]),
            tf.range(tf.shape(scores)[1]),
            fn_output_signature=self._like,
        )

    def _of_gradients(self, raw: Sequence[Sequence[Tensor]], score: Tensor) -> Made:
        return self._made([view.gradients(one) for view, one in zip(self._views, raw, strict=True)], score)

    def _made(self, seconds: Sequence[Tensor], score: Tensor) -> Made:
        """What the method makes of the activations and its second argument, the gradients or what is in their place."""
        maps = []
        for view, tensor, second in zip(self._views, self._activations, seconds, strict=True):
            made = self._called(tensor, tf.cast(second, tensor.dtype), tf.cast(score, tensor.dtype))
            self._check(made, view, tensor)
            maps.append(tf.cast(made, tf.float32))
        peaks = [tf.reduce_max(tf.abs(second), axis=list(range(1, second.shape.rank))) for second in seconds]
        made = {"maps": maps, "gradient_peak": tf.cast(tf.reduce_max(tf.stack(peaks), axis=0), tf.float32)}
        return made | ({"gradients": [tf.cast(second, tf.float32) for second in seconds]} if self._keep else {})

    def _called(self, activations: Tensor, second: Tensor, score: Tensor) -> Any:
        """What the method gives; an error of a function of the user's says whose it is."""
        try:
            return self._method(activations, second, score)
        except Exception as error:
            raise GradCAMError(
                f"The method '{self._name}' raised {type(error).__name__}: {error}", argument="method"
            ) from error

    def _check(self, made: Any, view: View | Video, activations: Tensor) -> None:
        """Raises if what a method gave is not one map a picture."""
        expected = tf.TensorShape((None, *view.grid))
        if not tf.is_tensor(made) or not made.shape.is_compatible_with(expected):
            came = f"shape {made.shape}" if tf.is_tensor(made) else f"a {type(made).__name__}"
            raise GradCAMError(
                f"The method '{self._name}' gave {came} for activations {activations.shape}; expected one map a "
                f"picture, {expected}.",
                argument="method",
            )


def _references(logits: Tensor, classes: Tensor) -> Tensor:
    """(N, classes): equal shares, that add up to 1, of the classes whose logits are next to that of a class (N,)."""
    count = logits.shape[-1]
    own = tf.one_hot(classes, count, dtype=tf.float32)
    wide = tf.cast(logits, tf.float32)
    distances = tf.abs(wide - tf.reduce_sum(own * wide, axis=-1, keepdims=True))
    references = min(REFERENCES, count - 1)
    _, nearest = tf.math.top_k(-tf.where(own > 0, np.float32(np.inf), distances), references)
    return tf.cast(tf.reduce_mean(tf.one_hot(nearest, count), axis=1), logits.dtype)


def gradients_of(scored: Any, sources: Sequence[Tensor], *, zero: bool = False) -> list[Tensor | None]:
    """d(sum of all scores)/d(source); None, or zeros, where nothing connects them."""
    scores = [tensor for tensor in tf.nest.flatten(scored) if tensor.dtype.is_floating]
    missing = tf.UnconnectedGradients.ZERO if zero else tf.UnconnectedGradients.NONE
    return tf.gradients(scores, list(sources), unconnected_gradients=missing)  # type: ignore[no-any-return]


def _swapped(tensor: Tensor) -> Tensor:
    """The first two axes exchanged."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
