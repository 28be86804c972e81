"""Explainer: explains pictures to a model again and again, through one traced graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.explanation import Explanation
from gradcam_callbacks.explaining.methods import METHODS, Method, find_method
from gradcam_callbacks.probes.probe_set import ProbeSet, as_probes
from gradcam_callbacks.probes.targets import NO_CLASS

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.capture import Capture
    from gradcam_callbacks.explaining.views import LayerInfo

logger = logging.getLogger(__name__)
_FLOATS_AT_ONCE = 2**26
"""How many numbers may be on their way to maps at once: 256 MB. More targets or pictures are split."""


class Explainer:
    """Explains pictures to a model again and again, through one traced graph.

    The model is left exactly as it was found. Later changes of its weights are followed, those of its layers are not:
    make a new one after adding, removing, adapting or quantising layers.

    Attributes:
        model: the model.
        method: the name of the method; of a function its own.
        batch_size: how many pictures go through the model at once, at most.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        layer: str | Sequence[str] | None = None,
        method: str | Method = "gradcam",
        output: str | int | None = None,
        batch_size: int = 32,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """Takes the model; the graph is traced when the first pictures come.

        Args:
            model: a built Keras model on the TensorFlow backend.
            layer: the path ("backbone/top_conv") or unique name of the layer; None picks the last map on the way to
                the score. Of a layer that is called several times "conv[0]" is the first call; by default it is the
                last. Maps of several layers are fused.
            method: a name in `gradcam_callbacks.METHODS`, or a function (activations, gradients, scores) -> maps as
                described in `gradcam_callbacks.explaining.methods`.
            output: the head of a multi-output model, by name or index.
            batch_size: how many pictures go through the model at once, at most.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.

        Raises:
            GradCAMError: if the method does not exist or takes other arguments, `layer` holds no names or `batch_size`
                is not positive.
        """
        self.method, self._method = find_method(method)
        if batch_size < 1:
            raise GradCAMError(
                f"A batch has at least 1 picture, not {batch_size}.",
                "Leave {argument}.",
                argument="batch_size",
                value=32,
            )
        _check_names(layer)
        self.model = model
        self.batch_size = batch_size
        self._layer = layer
        self._output = output
        self._grid = grid
        self._captures: dict[tuple[Any, ...], Capture] = {}
        self._scorers: dict[tuple[Any, ...], Any] = {}

    @property
    def traces(self) -> int:
        """How many graphs were traced: one for each shape and dtype of what the model is fed and set of functions."""
        return len(self._captures)

    def prepare(self, probes: Any) -> Capture:
        """Traces the graph for these probes, and checks them against the model.

        The graph is not run, unless the method is a function of the user's: then it is, for one probe, to check it.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.

        Raises:
            GradCAMError: if the model, the layer or the probes cannot be explained, or the method gives no maps; the
                message says what to do.
        """
        from gradcam_callbacks.explaining.capture import trace
        from gradcam_callbacks.explaining.request import Request

        probes = as_probes(probes)
        names_classes = len(probes.functions) < len(probes.targets)
        key = (*_kind(probes.inputs), probes.functions, names_classes)
        if key not in self._captures:
            request = Request(
                model=self.model,
                method=self._method,
                method_name=self.method,
                layer=self._layer,
                output=self._output,
                grid=self._grid,
                inputs=probes.inputs,
                picture=probes.picture_key,
                functions=probes.functions,
                name_classes=names_classes,
                at_once=self.batch_size,
            )
            traced = trace(request)
            others = ", ".join(info.path for info in traced.runners_up[:3])
            for note in traced.notes:
                logger.warning(note)
            for info, misplaced in zip(traced.layers, traced.misplaced, strict=True):
                if misplaced is not None:
                    logger.warning("The places of layer '%s' %s, so its maps are misplaced.", info.path, misplaced)
                logger.info("Explaining layer %s %s%s", info.path, info.shape, f" (or: {others})" if others else "")
            if traced.score_kind == "probability":
                logger.warning(
                    "Model '%s' does more than a softmax or sigmoid with its logits, so its probabilities are "
                    "explained. Where they saturate, the maps vanish.",
                    self.model.name,
                )
            if METHODS.get(self.method) is not self._method:  # of a function of the user's, only a run tells all
                _with_health(self._captured(traced, probes, most=1), self.method)
            self._captures[key] = traced
        traced = self._captures[key]
        _check_classes(probes, traced.classes, self.model.name)
        return traced

    def __call__(self, probes: Any) -> Explanation:
        """Explains every probe for every target, in one forward pass of each probe.

        Where the maps of all targets of a batch would need more than 256 MB on their way, fewer pictures go through
        the model at once, and of one picture's targets only as many as that allows.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.

        Raises:
            GradCAMError: see `prepare`.
        """
        probes = as_probes(probes)
        traced = self.prepare(probes)
        captured = self._captured(traced, probes)
        maps, health = _with_health(captured, self.method)
        return Explanation(
            maps=maps,
            scores=captured["scores"],
            probabilities=_probabilities(captured, probes) if traced.has_probabilities else None,
            outputs=captured.get("outputs"),
            predicted=captured.get("predicted", np.full(len(probes), NO_CLASS, np.int32)),
            explained=captured["explained"],
            health=np.where(health == "ok", "misplaced", health) if any(traced.misplaced) else health,
            score_kind=traced.score_kind,
            layer=" + ".join(info.path for info in traced.layers),
            method=self.method,
            probes=probes,
        )

    def _captured(self, traced: Capture, probes: ProbeSet, *, most: int | None = None) -> dict[str, Array]:
        """What a `Capture` gives of the probes and targets, in their order, with the maps of several layers fused.

        Args:
            traced: the graph.
            probes: what is explained.
            most: how many of the probes at most.
        """
        matrix = probes.target_matrix
        is_function = np.array([callable(target) for target in probes.targets])
        classes = np.flatnonzero(~is_function)
        per_picture = traced.floats * len(probes.targets)
        pictures = int(np.clip(_FLOATS_AT_ONCE // per_picture, 1, self.batch_size))
        targets = max(1, _FLOATS_AT_ONCE // traced.floats)
        batches = []
        count = len(probes) if most is None else min(most, len(probes))
        for start in range(0, count, pictures):
            part = slice(start, min(count, start + pictures))
            inputs = probes.batch(part.start, part.stop)
            runs = [
                traced(inputs, matrix[part][:, classes[first : first + targets]])
                for first in range(0, max(1, len(classes)), targets)
            ]
            batches.append(_joined(runs, functions=len(probes.functions)))
        captured = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        # The functions come last out of the graph.
        order = np.argsort(np.concatenate([classes, np.flatnonzero(is_function)]))
        for name in ("maps", "scores", "explained", "gradient_peak"):
            captured[name] = captured[name][:, order]
        return captured

    def layers(self, probes: Any = None) -> list[LayerInfo]:
        """The layers that can be explained, in the order in which the model calls them.

        Args:
            probes: see `prepare`; needed where the model does not say what size of picture it takes.

        Returns:
            Their paths, classes and output shapes; `picked` marks the one that `layer=None` explains.

        Raises:
            GradCAMError: see `prepare`.
        """
        if probes is None:
            probes = _stand_in(self.model)
        traced = Explainer(self.model, output=self._output, grid=self._grid).prepare(probes)
        return [replace(info, picked=info == traced.layers[0]) for info in traced.explainable]

    def confidences(self, images: Array, targets: Array) -> Array:
        """How sure the model is of classes, in a plain forward pass of any pictures.

        Args:
            images: (M, ...), what the model is fed.
            targets: (M, K, 2) int32 as in `ProbeSet.target_matrix`.

        Returns:
            (M, K) float32: probabilities where the model has them and the target is a plain class, else scores.
        """
        from gradcam_callbacks.explaining.capture import trace_scores

        key = _kind(images)
        if key not in self._scorers:
            self._scorers[key] = trace_scores(self.model, output=self._output, inputs=images)
        parts = []
        for start in range(0, len(images), self.batch_size):
            scores, probabilities = self._scorers[key](
                images[start : start + self.batch_size], targets[start : start + self.batch_size]
            )
            parts.append(np.where(np.isnan(probabilities), scores, probabilities))
        return np.concatenate(parts)


def _check_names(layer: Any) -> None:
    """Raises where `layer=` holds anything but names."""
    names = layer if isinstance(layer, list | tuple) else [layer]
    if not names:
        raise GradCAMError(
            "An empty list names no layer.", "Leave {argument} to have one picked.", argument="layer", value=None
        )
    for name in names:
        if not isinstance(name, str) and layer is not None:
            raise GradCAMError(
                f"A layer is given by its path or name, such as 'backbone/top_conv'; got {name!r}.", argument="layer"
            )


def _kind(inputs: Any) -> tuple[Any, ...]:
    """What decides whether a traced graph takes the inputs: their names, shapes and dtypes."""
    if not isinstance(inputs, dict | tuple):
        return (None, inputs.shape[1:], inputs.dtype)
    entries = inputs.items() if isinstance(inputs, dict) else enumerate(inputs)
    return tuple((key, array.shape[1:], array.dtype) for key, array in entries)


def _stand_in(model: keras.Model) -> ProbeSet:
    """One picture of noise of the size that a model takes."""
    noise = np.random.default_rng(0)
    expected = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    if isinstance(expected, dict):
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in expected.items()}
    else:
        shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []}
    if not shapes or any(None in shape for shape in shapes.values()):
        raise GradCAMError(
            f"Model '{model.name}' does not say what size of picture it takes; pass an array of pictures of that size."
        )
    arrays = {name: noise.random((1, *shape), dtype=np.float32) for name, shape in shapes.items()}
    return ProbeSet(arrays if len(arrays) > 1 else next(iter(arrays.values())))


def _joined(runs: Sequence[Mapping[str, Any]], *, functions: int) -> dict[str, Array]:
    """One batch from several runs of it, which explained some of the classes and all of the functions each.

    The maps of several layers are fused.
    """
    first = {name: value for name, value in runs[0].items() if name in ("outputs", "predicted")}
    by_target = []
    for number, run in enumerate(runs):
        values = {name: run[name] for name in ("scores", "gradient_peak")}
        values["maps"] = _fused(run["maps"])
        values["explained"] = np.pad(run["explained"], [(0, 0), (0, functions)], constant_values=NO_CLASS)
        if functions and number + 1 < len(runs):  # every run has the functions; the last one's are taken
            values = {name: value[:, :-functions] for name, value in values.items()}
        by_target.append(values)
    return first | {name: np.concatenate([values[name] for values in by_target], axis=1) for name in by_target[0]}


def _fused(maps: Sequence[Array]) -> Array:
    """The maps of one layer as they are; of several the mean, each divided by its maximum and on the largest grid."""
    if len(maps) == 1:
        return maps[0]
    largest = max((layer.shape[2:] for layer in maps), key=lambda grid: int(np.prod(grid)))
    axes = tuple(range(2, maps[0].ndim))
    shares = []
    for layer in maps:
        peaks = layer.max(axis=axes, keepdims=True)
        shares.append(drawing.resize_maps(np.divide(layer, peaks, out=np.zeros_like(layer), where=peaks != 0), largest))
    fused: Array = np.mean(shares, axis=0)
    return fused


def _check_classes(probes: ProbeSet, classes: int | None, model_name: str) -> None:
    """Raises if a probe asks for a class that the model does not have."""
    if not classes:
        return
    highest = int(probes.target_matrix.max())
    if highest >= classes:
        raise GradCAMError(
            f"Class {highest} is out of range: model '{model_name}' has {classes} classes, 0 to {classes - 1}."
        )
    if probes.class_names is not None and len(probes.class_names) != classes:
        raise GradCAMError(
            f"There are {len(probes.class_names)} class names, but model '{model_name}' has {classes} classes.",
            "Give {argument} one name a class, in the order of the model's output.",
            argument="class_names",
        )


def _probabilities(captured: Mapping[str, Array], probes: ProbeSet) -> Array | None:
    """(N, K) probabilities of the classes explained, NaN for contrasts and functions; None where there are none."""
    outputs = captured.get("outputs")
    if outputs is None or outputs.min(initial=0) < 0 or outputs.max(initial=0) > 1.001:
        return None  # it is no classifier, or what it gives are no probabilities, being outside of [0, 1]
    probabilities = np.take_along_axis(outputs, np.maximum(captured["explained"], 0), axis=1)
    is_function = np.array([callable(target) for target in probes.targets])
    is_plain = (probes.target_matrix[..., 1] == NO_CLASS) & ~is_function
    return np.where(is_plain, probabilities, np.float32(np.nan))


def _with_health(captured: Mapping[str, Array], method: str) -> tuple[Array, Array]:
    """The maps, zero where they are not finite, and the state of each."""
    raw = captured["maps"]
    axes = tuple(range(2, raw.ndim))
    finite = np.isfinite(raw).all(axis=axes) & np.isfinite(captured["scores"])
    maps = np.where(np.expand_dims(finite, axes), raw, np.float32(0))
    highest, lowest = maps.max(axis=axes), maps.min(axis=axes)
    if (lowest < 0).any():
        raise GradCAMError(
            f"The method '{method}' gave negative numbers, down to {lowest.min():.3g}.",
            "A map is what speaks for the target: let the method end with keras.ops.relu.",
            argument="method",
        )
    flat = highest - lowest <= 1e-6 * highest
    health = np.select(
        [~finite, captured["gradient_peak"] == 0, highest == 0, flat],
        ["non-finite", "zero-gradient", "empty", "flat"],
        "ok",
    )
    return maps, health
