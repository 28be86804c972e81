"""Maps of all targets from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.methods import masks
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View

Tensor = Any
MapsAndPeak = tuple[list[Tensor], Tensor]
"""Of one target: for each layer the (N, *grid) maps, and the (N,) largest absolute gradients of all layers."""


def maps_of_targets(
    asked: Request,
    head: Head,
    views: Sequence[View | Video],
    targets: Tensor,
    counted: Tensor,
    *,
    tape: tf.GradientTape,
    increases: Callable[[View | Video, Tensor], Tensor],
) -> dict[str, Any]:
    """The tensors that a `Capture` gives.

    Args:
        asked: what is explained.
        head: of the forward pass.
        views: of the layers to explain.
        targets: (N, K, 2).
        counted: (N,) 1 for the pictures whose scores the gradients are taken of, and 0 for the others.
        tape: of the forward pass.
        increases: for methods that mask: (view, targets) -> (N, K + F, C).
    """
    scores, classes = head.scores(targets, asked.functions)
    fixed = tf.stack([classes, targets[..., 1]], axis=-1)  # the targets, with a class where "predicted" was asked for
    maker = _MapMaker(asked, views)
    if masks(asked.method):
        parts = [maker.of_increases([increases(view, fixed) for view in views], scores)]
    else:
        parts = [maker.of_classes(head, fixed, scores, counted, tape)] if asked.name_classes else []
        parts += [maker.of_function(scores[:, index], counted) for index in range(-len(asked.functions), 0)]
    maps, peak = tf.nest.map_structure(lambda *tensors: _swapped(tf.concat(tensors, axis=0)), *parts)
    result = {"maps": maps, "gradient_peak": peak, "scores": tf.cast(scores, tf.float32), "explained": classes}
    if head.logits is not None:
        result["outputs"] = tf.cast(head.outputs, tf.float32)
        result["predicted"] = tf.argmax(head.logits, axis=-1, output_type=tf.int32)
    return result


class _MapMaker:
    """Applies a method to several layers, target by target. Its results have the targets as their first axis."""

    def __init__(self, asked: Request, views: Sequence[View | Video]) -> None:
        self._method, self._name = asked.method, asked.method_name
        self._views = views
        self._activations = [view.activations() for view in views]
        self._sources = [view.sources for view in views]
        self._like = ([tf.TensorSpec((None, *view.grid), tf.float32) for view in views], tf.TensorSpec((None,)))

    def of_classes(
        self, head: Head, targets: Tensor, scores: Tensor, counted: Tensor, tape: tf.GradientTape
    ) -> MapsAndPeak:
        """Of K targets that are classes, all of one forward pass.

        Where the pictures of a batch do not touch each other, the gradient of the sum of their scores is each one's
        own. Where they do, one of them is counted at a time: see `touching`.
        """

        def of_class(target_and_score: tuple[Tensor, Tensor]) -> MapsAndPeak:
            target, score = target_and_score
            classes, dtype = head.logits.shape[-1], head.logits.dtype  # type: ignore[union-attr]
            seed = tf.one_hot(target[:, 0], classes, dtype=dtype) - tf.one_hot(target[:, 1], classes, dtype=dtype)
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

    def of_function(self, score: Tensor, counted: Tensor) -> MapsAndPeak:
        """Of one target that is a function, from its (N,) scores."""
        of_counted = score * tf.cast(counted, score.dtype)
        raw = gradients_of(of_counted, tf.nest.flatten(self._sources), zero=True)
        made = self._of_gradients(tf.nest.pack_sequence_as(self._sources, raw), score)
        return tf.nest.map_structure(lambda tensor: tensor[None], made)  # type: ignore[no-any-return]

    def of_increases(self, increases: Sequence[Tensor], scores: Tensor) -> MapsAndPeak:
        """Of all targets, from how much each channel alone brings: for each layer (N, K + F, C)."""
        return tf.map_fn(  # type: ignore[no-any-return]
            lambda index: self._made([tensor[:, index] for tensor in increases], scores[:, index]),
            tf.range(tf.shape(scores)[1]),
            fn_output_signature=self._like,
        )

    def _of_gradients(self, raw: Sequence[Sequence[Tensor]], score: Tensor) -> MapsAndPeak:
        return self._made([view.gradients(one) for view, one in zip(self._views, raw, strict=True)], score)

    def _made(self, seconds: Sequence[Tensor], score: Tensor) -> MapsAndPeak:
        """What the method makes of the activations and its second argument, the gradients or the increases."""
        maps = []
        for view, tensor, second in zip(self._views, self._activations, seconds, strict=True):
            made = self._called(tensor, tf.cast(second, tensor.dtype), tf.cast(score, tensor.dtype))
            self._check(made, view, tensor)
            maps.append(tf.cast(made, tf.float32))
        peaks = [tf.reduce_max(tf.abs(second), axis=list(range(1, second.shape.rank))) for second in seconds]
        return maps, tf.cast(tf.reduce_max(tf.stack(peaks), axis=0), tf.float32)

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


def gradients_of(scored: Any, sources: Sequence[Tensor], *, zero: bool = False) -> list[Tensor | None]:
    """d(sum of all scores)/d(source); None, or zeros, where nothing connects them."""
    scores = [tensor for tensor in tf.nest.flatten(scored) if tensor.dtype.is_floating]
    missing = tf.UnconnectedGradients.ZERO if zero else tf.UnconnectedGradients.NONE
    return tf.gradients(scores, list(sources), unconnected_gradients=missing)  # type: ignore[no-any-return]


def _swapped(tensor: Tensor) -> Tensor:
    """The first two axes exchanged."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
