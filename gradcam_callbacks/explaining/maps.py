"""Maps of all targets from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.ablating import drops_of_scores
from gradcam_callbacks.explaining.engines.engine import Run, engine
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.methods import COMPARED, REFERENCES, ablates, compares, takes_gradients
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.views import Video, View
from gradcam_callbacks.probes.targets import NO_CLASS

Values = Any
Made = dict[str, Any]
"""Of one target: `maps`, for each layer (N, *grid); `gradient_peak`, the (N,) largest absolute gradients of all layers;
and, where they are kept, `gradients`, for each layer (N, *grid, C) or (N, 1, ..., 1, C)."""


def maps_of_targets(
    asked: Request,
    run: Run,
    head: Head,
    views: Sequence[View | Video],
    targets: Values,
    counted: Values,
    *,
    changes: Callable[[View | Video, Values, Values], Values],
) -> dict[str, Any]:
    """The arrays that a `Capture` gives.

    Args:
        asked: what is explained.
        run: the forward pass.
        head: of its tensors.
        views: of the layers to explain.
        targets: (N, K, 2).
        counted: (N,) 1 for the pictures whose scores the gradients are taken of, and 0 for the others.
        changes: for methods that mask or occlude: (view, activations, targets) -> (N, K + F, C) or (N, K + F, *grid).
    """
    floats = [tensor for tensor in keras.tree.flatten(head.scored) if tensor.dtype.is_floating]
    sources = [source for view in views for source in view.sources]
    others = {"head": (head.scored, head.given), "outputs": [view.outputs for view in views]}
    _, numbers, pull = run.differentiated(floats, sources, others)
    head_of_graph, head = head, head.of_numbers(*numbers["head"])
    scores, classes = head.scores(targets, asked.functions)
    fixed = ops.stack([classes, targets[..., 1]], axis=-1)  # the targets, with a class where "predicted" was asked for
    outputs: list[list[Values]] = numbers["outputs"]
    maker = _MapMaker(asked, views, outputs, pull)
    if ablates(asked.method):
        pairs = zip(views, outputs, strict=True)
        drops = [drops_of_scores(asked, run, head_of_graph, view, given, fixed, scores) for view, given in pairs]
        parts = [maker.of_seconds(drops, scores)]
    elif not takes_gradients(asked.method):
        pairs = zip(views, maker.activations, strict=True)
        parts = [maker.of_seconds([changes(view, given, fixed) for view, given in pairs], scores)]
    else:
        parts = [maker.of_classes(head, fixed, scores, counted)] if asked.name_classes else []
        parts += [
            maker.of_function(function, head.scored, scores[:, number - len(asked.functions)], counted)
            for number, function in enumerate(asked.functions)
        ]
    result: dict[str, Any] = keras.tree.map_structure(
        lambda *arrays: ops.swapaxes(ops.concatenate(arrays, axis=0), 0, 1), *parts
    )
    result |= {"scores": ops.cast(scores, "float32"), "explained": classes}
    if asked.keep_gradients:
        result["activations"] = [ops.cast(given, "float32") for given in maker.activations]
    if head.given is not None:
        result["outputs"] = ops.cast(head.outputs, "float32")
        result["predicted"] = head.predicted
    return result


class _MapMaker:
    """Applies a method to several layers, target by target. Its results have the targets as their first axis."""

    def __init__(
        self,
        asked: Request,
        views: Sequence[View | Video],
        outputs: Sequence[Sequence[Values]],
        pull: Callable[[Sequence[Values]], list[Values]],
    ) -> None:
        self._method, self._name = asked.method, asked.method_name
        self._views, self._outputs, self._pull = views, outputs, pull
        self.activations = [view.activations(given) for view, given in zip(views, outputs, strict=True)]
        self._keeps_gradients = asked.keep_gradients
        self._like: Made = {
            "maps": [keras.KerasTensor((None, *view.grid), "float32") for view in views],
            "gradient_peak": keras.KerasTensor((None,), "float32"),
        }
        if self._keeps_gradients:
            self._like["gradients"] = [keras.KerasTensor((None, *view.gradient_shape), "float32") for view in views]

    def of_classes(self, head: Head, targets: Values, scores: Values, counted: Values) -> Made:
        """Of K targets that are classes, all of one forward pass.

        Where the pictures of a batch do not touch each other, the gradient of the sum of their scores is each one's
        own. Where they do, one of them is counted at a time: see `touching`.
        """

        def of_class(target_and_score: tuple[Values, Values]) -> Made:
            target, score = target_and_score
            signs = head.signs(target)
            if compares(self._method):
                alone = ops.cast(target[:, 1] == NO_CLASS, signs.dtype)[:, None]
                signs -= COMPARED * alone * _references(head.logits, target[:, 0])
            seed = head.seeds(signs)
            return self._of_gradients(self._pull([seed * ops.cast(counted, seed.dtype)[:, None]]), score)

        by_target = (ops.transpose(targets, [1, 0, 2]), ops.transpose(scores[:, : ops.shape(targets)[1]]))
        # What follows a global pooling is small: all targets at once. What may be half a network: one at a time.
        if all(view.pooled is not None for view in self._views):
            return ops.vectorized_map(of_class, by_target)  # type: ignore[no-any-return]
        return engine.one_by_one(of_class, by_target, self._like)  # type: ignore[no-any-return]

    def of_function(self, function: Callable[[Any], Values], scored: Any, score: Values, counted: Values) -> Made:
        """Of one target that is a function of what is scored, from its (N,) scores."""
        flat = keras.tree.flatten(scored)
        is_float = [keras.backend.is_float_dtype(keras.backend.standardize_dtype(array.dtype)) for array in flat]

        def of_counted(floats: Sequence[Values]) -> Values:
            given = iter(floats)
            whole = [next(given) if changes else array for array, changes in zip(flat, is_float, strict=True)]
            result = function(keras.tree.pack_sequence_as(scored, whole))
            return ops.sum(result * ops.cast(counted, result.dtype))

        floats = [array for array, changes in zip(flat, is_float, strict=True) if changes]
        made = self._of_gradients(self._pull(engine.gradient(of_counted, floats)), score)
        return keras.tree.map_structure(lambda array: array[None], made)  # type: ignore[no-any-return]

    def of_seconds(self, seconds: Sequence[Values], scores: Values) -> Made:
        """Of all targets, from what comes in the place of the gradients: for each layer (N, K + F, ...)."""
        by_target = ([ops.swapaxes(array, 0, 1) for array in seconds], ops.transpose(scores))
        return engine.one_by_one(lambda one: self._made(*one), by_target, self._like)  # type: ignore[no-any-return]

    def _of_gradients(self, raw: Sequence[Values], score: Values) -> Made:
        rest, seconds = iter(raw), []
        for view, given in zip(self._views, self._outputs, strict=True):
            seconds.append(view.gradients([next(rest) for _ in view.sources], given))
        return self._made(seconds, score)

    def _made(self, seconds: Sequence[Values], score: Values) -> Made:
        """What the method makes of the activations and its second argument, the gradients or what is in their place."""
        maps = []
        for view, array, second in zip(self._views, self.activations, seconds, strict=True):
            made = self._called(array, ops.cast(second, array.dtype), ops.cast(score, array.dtype))
            self._check(made, view, array)
            maps.append(ops.cast(made, "float32"))
        peaks = [ops.max(ops.abs(second), axis=tuple(range(1, second.ndim))) for second in seconds]
        made = {"maps": maps, "gradient_peak": ops.cast(ops.max(ops.stack(peaks), axis=0), "float32")}
        return made | (
            {"gradients": [ops.cast(second, "float32") for second in seconds]} if self._keeps_gradients else {}
        )

    def _called(self, activations: Values, second: Values, score: Values) -> Any:
        """What the method gives; an error of a function of the user's says whose it is."""
        try:
            return self._method(activations, second, score)
        except Exception as error:
            raise GradCAMError(
                f"The method '{self._name}' raised {type(error).__name__}: {error}", argument="method"
            ) from error

    def _check(self, made: Any, view: View | Video, activations: Values) -> None:
        """Raises if what a method gave is not one map a picture."""
        expected = (None, *view.grid)
        if not ops.is_tensor(made) or not _may_be(made.shape, expected):
            came = f"shape {made.shape}" if ops.is_tensor(made) else f"a {type(made).__name__}"
            raise GradCAMError(
                f"The method '{self._name}' gave {came} for activations {activations.shape}; expected one map a "
                f"picture, {expected}.",
                argument="method",
            )


def _may_be(shape: Any, expected: Sequence[int | None]) -> bool:
    """Whether a shape can be the expected one, as far as both are known."""
    if getattr(shape, "rank", 0) is None:
        return True
    return len(shape) == len(expected) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(shape, expected, strict=True)
    )


def _references(logits: Values, classes: Values) -> Values:
    """(N, classes): equal shares, that add up to 1, of the classes whose logits are next to that of a class (N,)."""
    count = logits.shape[-1]
    own = ops.one_hot(classes, count, dtype="float32")
    wide = ops.cast(logits, "float32")
    distances = ops.abs(wide - ops.sum(own * wide, axis=-1, keepdims=True))
    references = min(REFERENCES, count - 1)
    _, nearest = ops.top_k(-ops.where(own > 0, np.float32(np.inf), distances), references)
    return ops.cast(ops.mean(ops.one_hot(nearest, count, dtype="float32"), axis=1), logits.dtype)
