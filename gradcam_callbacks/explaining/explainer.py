"""Explainer: explains pictures to a model again and again, through one traced graph."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.backend import refuse_other_backends
from gradcam_callbacks.explaining.explanation import Explanation
from gradcam_callbacks.explaining.health import is_flat
from gradcam_callbacks.explaining.keras2 import refuse_keras2
from gradcam_callbacks.explaining.methods import METHODS, Method, attends, find_method, takes_gradients
from gradcam_callbacks.probes.inputs import each
from gradcam_callbacks.probes.probe_set import ProbeSet, as_probes
from gradcam_callbacks.probes.targets import NO_CLASS, PREDICTED

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.capture import Capture
    from gradcam_callbacks.explaining.views import LayerInfo

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_FLOATS_AT_ONCE = 2**26
"""How many numbers may be on their way to maps at once: 256 MB. More targets or pictures are split."""
_NOISE = 0.15
"""Standard deviation of the noise that smooths a map, as a share of the picture's range; 0.1 to 0.2 in the paper."""
_FLOATS_KEPT = 250_000_000
"""How many numbers of activations and gradients are kept with an explanation at most: 1 GB."""


class Explainer:
    """Explains pictures to a model again and again, through one traced graph.

    The model is left exactly as it was found: also the seeds of random layers, the states of recurrent ones, moving
    statistics and whatever else a prediction changes are put back after each run. Later changes of its weights are
    followed, those of its layers are not: make a new one after adding, removing, adapting or quantising layers.

    Attributes:
        model: the model.
        method: the name of the method; of a function its own.
        batch_size: how many pictures go through the model at once, at most. A model that takes a fixed number at once
            gets that number.
        smooth: of how many noisy copies a map is the mean; 0 for the picture as it is.
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
        same_noise: bool = False,
        smooth: int = 0,
    ) -> None:
        """Takes the model; the graph is traced when the first pictures come.

        Args:
            model: a built Keras model.
            layer: the path ("backbone/top_conv") or unique name of the layer; None picks the last map that all of the
                score goes through, or, where there is none, the last ones of the ways that lead to it side by side. Of
                a layer that is called several times "conv[0]" is the first call; by default it is the last one on the
                picture shown. Maps of several layers are fused. "gate>Mul" is the product after layer "gate" in the
                code of a model.
            method: a name in `gradcam_callbacks.METHODS`, or a function (activations, gradients, scores) -> maps as
                described in `gradcam_callbacks.explaining.methods`.
            output: the head of a multi-output model, by name or index.
            batch_size: how many pictures go through the model at once, at most.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.
            same_noise: whether layers that are random when they predict, such as a dropout that is always on, draw the
                same numbers of `keras.random` each time, so that two maps differ by what the model learned and not by
                the noise; the callback and `explain_checkpoints` do so. By default they draw what a prediction would
                draw now.
            smooth: of how many copies of each picture, with noise of 15 % of its range, the map is the mean, after
                Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise". Any method can be smoothed; what is
                explained is the class of the picture itself. It costs so many passes more. The noise is the same each
                time. 0 explains the picture as it is.

        Raises:
            GradCAMError: if Keras runs on neither TensorFlow nor JAX, the model is one of Keras 2, the method does
                not exist or takes other arguments, `layer` holds no names, `batch_size` is not positive or
                `smooth` is negative.
        """
        refuse_other_backends()
        refuse_keras2(model)
        self.method, self._method = find_method(method)
        if batch_size < 1:
            raise GradCAMError(
                f"A batch has at least 1 picture, not {batch_size}.",
                "Leave {argument}.",
                argument="batch_size",
                value=32,
            )
        if smooth < 0:
            raise GradCAMError(f"A map is the mean of some copies, not of {smooth}.", argument="smooth")
        _check_names(layer)
        self.model = model
        self.smooth = smooth
        self.batch_size = batch_size
        self._layer = layer
        self._output = output
        self._grid = grid
        self._is_listing = False
        self._same_noise = same_noise
        self._fixed_batch: int | None = None
        self._touches: dict[tuple[Any, ...], bool] = {}
        self._captures: dict[tuple[Any, ...], Capture] = {}
        self._scorers: dict[tuple[Any, ...], Any] = {}

    def __repr__(self) -> str:
        layers = {" + ".join(info.path for info in capture.layers) for capture in self._captures.values()}
        asked = "chosen when the first pictures come" if self._layer is None else repr(self._layer)
        layer = " or ".join(map(repr, sorted(layers))) or asked
        return f"Explainer({self.model.name!r}, layer={layer}, method={self.method!r})"

    @property
    def traces(self) -> int:
        """How many graphs were traced: one for each shape and dtype of what the model is fed and set of functions."""
        return len(self._captures)

    def prepare(self, probes: Any) -> Capture:
        """Traces the graph for these probes, and checks them against the model.

        The graph is run for three of the probes, where it takes a run to tell whether pictures of a batch influence
        each other, and for one, where the method is a function of the user's, to check it.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.

        Raises:
            GradCAMError: if the model, the layer or the probes cannot be explained, or the method gives no maps; the
                message says what to do.
        """
        probes = self._as_probes(probes)
        return self._in_batches_that_fit(lambda: self._prepared(probes))

    def __call__(self, probes: Any, *, keep_gradients: bool = False) -> Explanation:
        """Explains every probe for every target, in one forward pass of each probe.

        Where the maps of all targets of a batch would need more than 256 MB on their way, fewer pictures go through
        the model at once, and of one picture's targets only as many as that allows.

        Where the pictures of a batch influence each other, as under batch normalisation in training mode, each map is
        of its picture's own score in its batch: the probes in their order, `batch_size` at a time. That costs a forward
        pass of the batch a picture, and is said in a warning.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.
            keep_gradients: whether the explanation has the activations and gradients that its maps are made of, from
                the same forward pass: 4 bytes a number. A graph of its own is traced for it.

        Raises:
            GradCAMError: see `prepare`; and where gradients are to be kept if they would take more than 1 GB, several
                layers are fused, or the method takes none.
        """
        probes = self._as_probes(probes)
        return self._in_batches_that_fit(lambda: self._explanation(probes, keep_gradients=keep_gradients))

    def pictures_touch(self, probes: Any) -> bool:
        """Whether the pictures of a batch influence each other's maps; False where there is but one probe.

        Args:
            probes: see `prepare`.

        Raises:
            GradCAMError: see `prepare`.
        """
        probes = self._as_probes(probes)
        self.prepare(probes)
        return self._touches.get(_key(probes), False)

    def _as_probes(self, probes: Any) -> ProbeSet:
        """What a user gave as probes; of a model of several inputs a tuple of two arrays is not (images, labels)."""
        from gradcam_callbacks.explaining.feeding import is_labelled

        return (
            ProbeSet(probes) if isinstance(probes, tuple) and not is_labelled(self.model, probes) else as_probes(probes)
        )

    def _in_batches_that_fit(self, work: Callable[[], _Result]) -> _Result:
        """Does work, and again in batches of the size of the first one, where the model turns out to take no other."""
        from gradcam_callbacks.explaining.engines.engine import engine
        from gradcam_callbacks.explaining.feeding import FixedBatch

        try:
            return work()
        except engine.WRONG_SIZE:
            fixed = FixedBatch.of(self.model)
            if fixed is None or self._fixed_batch is not None:
                raise
            self._fixed_batch = fixed.size
            self._captures.clear()
            self._scorers.clear()
            return work()

    def _prepared(self, probes: ProbeSet, *, keep_gradients: bool = False) -> Capture:
        from gradcam_callbacks.explaining.capture import trace
        from gradcam_callbacks.explaining.request import Request

        key = (*_key(probes), keep_gradients)
        if key not in self._captures:
            self._learn_fixed_batch()
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
                name_classes=len(probes.functions) < len(probes.targets),
                batch=self._fixed_batch,
                same_noise=self._same_noise,
                is_listing=self._is_listing,
                at_once=self._fixed_batch or self.batch_size,
                keep_gradients=keep_gradients,
            )
            traced = trace(request)
            others = ", ".join(info.path for info in traced.runners_up[:3])
            for sentence in () if self._is_listing else traced.sentences:
                logger.warning(sentence)
            for info in traced.layers:
                logger.info("Explaining layer %s %s%s", info.path, info.shape, f" (or: {others})" if others else "")
            if traced.score_kind == "probability" and not self._is_listing:
                logger.warning(
                    "Model '%s' does more than a softmax or sigmoid with its logits, so its probabilities are "
                    "explained. Where they saturate, the maps vanish.",
                    self.model.name,
                )
            is_own = METHODS.get(self.method) is not self._method
            if is_own and not keep_gradients:  # of a function of the user's, only a run tells all
                _with_health(self._captured(traced, probes, most=1), self.method)
            self._captures[key] = traced
        traced = self._captures[key]
        _check_classes(probes, traced.classes, self.model.name)
        if len(probes) > 1 and self._fixed_batch != 1 and _key(probes) not in self._touches:
            self._learn_whether_pictures_touch(traced, probes)
        return traced

    def _learn_fixed_batch(self) -> None:
        """Takes note of how many pictures the model takes at once, where it surely takes no other number."""
        from gradcam_callbacks.explaining.feeding import FixedBatch

        fixed = FixedBatch.of(self.model)
        if fixed is not None and fixed.is_certain:
            self._fixed_batch = fixed.size

    def _learn_whether_pictures_touch(self, traced: Capture, probes: ProbeSet) -> None:
        """Takes note of whether the pictures of a batch influence each other, and says so once.

        Raises:
            GradCAMError: if they do, and the method runs the network again.
        """
        from gradcam_callbacks.explaining.touching import maps_touch, outputs_touch

        some = np.arange(self._fixed_batch or 3) % len(probes)
        inputs = each(lambda array: array[some], probes.inputs)
        if not traced.may_touch:
            touches: bool | None = False
        elif not takes_gradients(self._method):
            touches = outputs_touch(self.model, inputs, batch=self._fixed_batch)
        else:
            classes = [number for number, target in enumerate(probes.targets) if not callable(target)]
            touches = maps_touch(traced, inputs, probes.target_matrix[some][:, classes[:1]])
        if touches is None:
            return
        if touches and not takes_gradients(self._method):
            raise GradCAMError(
                f"The pictures of a batch influence each other in model '{self.model.name}', and '{self.method}' "
                "changes all pictures of a batch at once.",
                "Choose a method that takes gradients, such as {argument}.",
                argument="method",
                value="gradcam",
            )
        self._touches[_key(probes)] = touches
        if touches:
            logger.warning(
                "The pictures of a batch influence each other in model '%s', as under batch normalisation in training "
                "mode. Each map is of its picture's own score in a batch of up to %d probes, in their order, which "
                "takes a run of the batch for each picture.",
                self.model.name,
                self._fixed_batch or self.batch_size,
            )

    def _explanation(self, probes: ProbeSet, *, keep_gradients: bool = False) -> Explanation:
        if keep_gradients and (attends(self._method) or not takes_gradients(self._method)):
            raise GradCAMError(
                f"The method '{self.method}' takes no gradients, so there are none to keep.",
                "Choose a method that takes gradients, such as {argument}.",
                argument="method",
                value="gradcam",
            )
        if keep_gradients and self.smooth:
            raise GradCAMError(
                f"A map that is the mean of {self.smooth} has no gradients of its own to keep.",
                "Keep them with {argument}.",
                argument="smooth",
                value=0,
            )
        traced = self._prepared(probes, keep_gradients=keep_gradients)
        if keep_gradients:
            _check_kept(traced, len(probes), len(probes.targets))
        captured = self._captured(traced, probes)
        notes = traced.sentences
        if self.smooth:
            captured["maps"] = self._smoothed(traced, probes, captured["explained"])
            notes += (
                f"Each map is the mean of {self.smooth}, of the picture with noise of {_NOISE:.0%} of its range.",
            )
        maps, health = _with_health(captured, self.method)
        return Explanation(
            maps=maps,
            scores=captured["scores"],
            probabilities=_probabilities(captured, probes) if traced.has_probabilities else None,
            outputs=captured.get("outputs"),
            predicted=captured.get("predicted", np.full(len(probes), NO_CLASS, np.int32)),
            explained=captured["explained"],
            health=np.where(np.isin(health, ("ok", "flat")), "misplaced", health) if any(traced.misplaced) else health,
            score_kind=traced.score_kind,
            layer=" + ".join(info.path for info in traced.layers),
            method=self.method,
            notes=notes,
            probes=probes,
            **_kept(captured),
        )

    def _smoothed(self, traced: Capture, probes: ProbeSet, explained: Array) -> Array:
        """(N, K, *grid) the mean of the maps of noisy copies, of the classes that the pictures themselves explain."""
        matrix = np.stack([explained, probes.target_matrix[..., 1]], axis=-1)
        copies = (probes.noisy(_NOISE, seed=turn) for turn in range(self.smooth))
        mean: Array = np.mean([self._captured(traced, copy, matrix=matrix)["maps"] for copy in copies], axis=0)
        return mean

    def _captured(
        self, traced: Capture, probes: ProbeSet, *, most: int | None = None, matrix: Array | None = None
    ) -> dict[str, Array]:
        """What a `Capture` gives of the probes and targets, in their order, with the maps of several layers fused.

        Args:
            traced: the graph.
            probes: what is explained.
            most: how many of the probes at most.
            matrix: other targets than theirs, as in `ProbeSet.target_matrix`.
        """
        from gradcam_callbacks.explaining.feeding import filled

        matrix = probes.target_matrix if matrix is None else matrix
        is_function = np.array([callable(target) for target in probes.targets])
        classes = np.flatnonzero(~is_function)
        touch = self._touches.get(_key(probes), False)
        fitting = int(np.clip(_FLOATS_AT_ONCE // (traced.floats * len(probes.targets)), 1, self.batch_size))
        count = len(probes) if most is None else min(most, len(probes))
        pictures = self._fixed_batch or (self.batch_size if touch else _evened(count, fitting))
        whole = self._fixed_batch or (None if touch else self._whole_batch(count, pictures))
        targets = _evened(len(classes), max(1, _FLOATS_AT_ONCE // (traced.floats * min(pictures, count))))
        batches = []
        for start in range(0, count, pictures):
            part = slice(start, min(count, start + pictures))
            inputs = filled(probes.batch(part.start, part.stop), whole)
            asked = filled(matrix[part][:, classes], whole)
            runs = []
            for first in range(0, max(1, len(classes)), targets):
                # The last ones begin with some that were explained before, so that there are as many each time.
                begin = min(first, max(0, len(classes) - targets))
                run = _run(traced, inputs, asked[:, begin : begin + targets], one_by_one=touch)
                runs.append(_without_first(run, first - begin))
            batch = _joined(runs, functions=len(probes.functions))
            batches.append({name: values[: part.stop - part.start] for name, values in batch.items()})
        captured = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        # The functions come last out of the graph.
        order = np.argsort(np.concatenate([classes, np.flatnonzero(is_function)]))
        for name in captured.keys() & {"maps", "scores", "explained", "gradient_peak", "gradients"}:
            captured[name] = captured[name][:, order]
        return captured

    @staticmethod
    def _whole_batch(count: int, pictures: int) -> int | None:
        """To how many pictures a batch that is not full is filled; None where it is left as it is.

        An engine that compiles for one number of pictures would compile again for the last ones.
        """
        from gradcam_callbacks.explaining.engines.engine import engine

        return pictures if engine.COMPILES_EACH_SIZE and count > pictures else None

    def layers(self, probes: Any = None) -> list[LayerInfo]:
        """The layers that can be explained, in the order in which the model calls them.

        No target is needed, so that a segmentation, a detector or a model of several outputs is listed, too.

        Args:
            probes: see `prepare`; needed where the model does not say what size of picture it takes. Of their targets
                only functions matter.

        Returns:
            Their paths, classes and output shapes; `picked` marks the one that `layer=None` explains: for the targets
            that are functions, or else for all that the model gives, or the one output that `output` names.

        Raises:
            GradCAMError: if no layer can be explained, or the model cannot take the probes.
        """
        probes = stand_in(self.model) if probes is None else as_probes(probes)
        asking = probes if probes.functions else probes.asking(_all_outputs)
        lister = Explainer(self.model, output=self._output, grid=self._grid)
        lister._is_listing = True
        traced = lister.prepare(asking)
        return [replace(info, picked=info in traced.layers) for info in traced.explainable]

    def confidences(self, images: Array, targets: Array) -> Array:
        """How sure the model is of classes, in a plain forward pass of any pictures.

        Args:
            images: (M, ...), what the model is fed.
            targets: (M, K, 2) int32 as in `ProbeSet.target_matrix`.

        Returns:
            (M, K) float32: probabilities where the model has them and the target is a plain class, else scores.
        """

        def parts() -> Array:
            scores, probabilities, _ = self._scored(images, targets)
            return np.where(np.isnan(probabilities), scores, probabilities)

        return self._in_batches_that_fit(parts)

    def answers(self, inputs: Any) -> Array:
        """Which class a classifier answers, in a plain forward pass.

        Args:
            inputs: M of what the model is fed: an array, or a dict or tuple of arrays.

        Returns:
            (M,) int32.

        Raises:
            GradCAMError: if the model is no classifier.
        """
        several = inputs.values() if isinstance(inputs, dict) else inputs
        count = len(next(iter(several)) if isinstance(inputs, dict | tuple) else inputs)
        targets = np.tile(np.array([[[PREDICTED, NO_CLASS]]], np.int32), (count, 1, 1))
        return self._in_batches_that_fit(lambda: self._scored(inputs, targets)[2][:, 0])

    def _scored(self, inputs: Any, targets: Array) -> tuple[Array, Array, Array]:
        """The (M, K) scores, probabilities and classes of targets (M, K, 2); see `trace_scores`."""
        from gradcam_callbacks.explaining.capture import trace_scores
        from gradcam_callbacks.explaining.feeding import filled

        key = _kind(inputs)
        if key not in self._scorers:
            self._learn_fixed_batch()
            self._scorers[key] = trace_scores(self.model, output=self._output, inputs=inputs, batch=self._fixed_batch)
        parts = []
        touch = any(self._touches.values())
        pictures = self._fixed_batch or (self.batch_size if touch else _evened(len(targets), self.batch_size))
        whole = self._fixed_batch or (None if touch else self._whole_batch(len(targets), pictures))
        for start in range(0, len(targets), pictures):
            some = slice(start, start + pictures)
            batch = each(operator.itemgetter(some), inputs), targets[some]
            found = self._scorers[key](*(filled(given, whole) for given in batch))
            parts.append([values[: len(batch[1])] for values in found])
        scores, probabilities, classes = (np.concatenate(of_all) for of_all in zip(*parts, strict=True))
        return scores, probabilities, classes


def refuse_model(explainer: Any) -> None:
    """Refuses the model itself where its explainer is asked for.

    Raises:
        GradCAMError: if it is one.
    """
    import keras

    if isinstance(explainer, keras.Model):
        raise GradCAMError(
            f"Expected an Explainer, not the model '{explainer.name}' itself.",
            "Pass Explainer(model), with the layer and the method that are asked about.",
        )


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


def _key(probes: ProbeSet) -> tuple[Any, ...]:
    """What decides whether a traced graph explains the probes."""
    return (*_kind(probes.inputs), probes.functions, len(probes.functions) < len(probes.targets))


def _kind(inputs: Any) -> tuple[Any, ...]:
    """What decides whether a traced graph takes the inputs: their names, shapes and dtypes."""
    if not isinstance(inputs, dict | tuple):
        return (None, inputs.shape[1:], inputs.dtype)
    entries = inputs.items() if isinstance(inputs, dict) else enumerate(inputs)
    return tuple((key, array.shape[1:], array.dtype) for key, array in entries)


def stand_in(model: keras.Model, image_size: tuple[int, int] | None = None) -> ProbeSet:
    """One picture of noise of the size that a model takes, with whatever else it takes.

    Args:
        model: a built Keras model.
        image_size: (height, width) where the model takes any.

    Raises:
        GradCAMError: if the model does not say the size, or takes no picture, signal or volume.
    """
    noise = np.random.default_rng(0)
    expected = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    named = expected if isinstance(expected, dict) else {t.name: t for t in getattr(model, "inputs", None) or []}
    shapes = {name: _sized(tuple(tensor.shape[1:]), image_size) for name, tensor in named.items()}
    if not named and image_size is not None:
        shapes = {"pictures": (*image_size, 3)}
    if not shapes or any(None in shape for shape in shapes.values()):
        raise GradCAMError(
            f"Model '{model.name}' does not say what size of picture it takes; pass an array of pictures of that size."
        )
    arrays: dict[str, Any] = {}
    for name, shape in shapes.items():
        is_whole = name in named and "int" in str(named[name].dtype)  # 0 and 1 are words of any vocabulary
        arrays[name] = noise.integers(0, 2, (1, *shape)) if is_whole else noise.random((1, *shape), dtype=np.float32)
    try:
        return ProbeSet(arrays if len(arrays) > 1 else next(iter(arrays.values())))
    except GradCAMError as error:
        listed = ", ".join(str(shape) for shape in shapes.values())
        raise GradCAMError(
            f"Model '{model.name}' takes arrays {listed}. What is explained are the places of a picture (height, "
            "width, channels), a signal (length, channels) or a volume (depth, height, width, channels)."
        ) from error


def _sized(shape: tuple[Any, ...], image_size: tuple[int, int] | None) -> tuple[Any, ...]:
    """The shape of an input with its open sides filled in, where it is one of pictures."""
    if image_size is None or len(shape) != 3 or None not in shape:
        return shape
    if shape[0] is not None and shape[1:] == (None, None):  # the channels come first
        return (shape[0], *image_size)
    return (*(own or wanted for own, wanted in zip(shape[:2], image_size, strict=True)), shape[2] or 3)


def _all_outputs(outputs: Any) -> Any:
    """(N,) an arbitrary mixture of all numbers that a model gives: of a sum, those of a softmax would cancel out."""
    import keras
    from keras import ops

    mixed = []
    for tensor in keras.tree.flatten(outputs):
        if keras.backend.is_float_dtype(tensor.dtype) and tensor.ndim:
            weighted = tensor * ops.cast(keras.random.normal(ops.shape(tensor), seed=1), tensor.dtype)
            mixed.append(ops.sum(ops.cast(weighted, "float32"), axis=tuple(range(1, tensor.ndim))))
    return sum(mixed)


def _run(traced: Capture, inputs: Any, targets: Array, *, one_by_one: bool) -> dict[str, Any]:
    """What a `Capture` gives of a batch; `one_by_one`, each picture's maps are from a run for its score alone."""
    if not one_by_one:
        return traced(inputs, targets)
    runs = [traced(inputs, targets, only=n) for n in range(len(targets))]
    own: dict[str, Any] = {"gradient_peak": np.stack([run["gradient_peak"][n] for n, run in enumerate(runs)])}
    for name in runs[0].keys() & {"maps", "gradients"}:
        layers = zip(*(run[name] for run in runs), strict=True)
        own[name] = [np.stack([array[n] for n, array in enumerate(layer)]) for layer in layers]
    return runs[0] | own


def _evened(count: int, most: int) -> int:
    """How many go at once, where `most` may, so that all parts are about as large."""
    return -(-count // max(1, -(-count // most))) or most


def _without_first(run: Mapping[str, Any], known: int) -> Mapping[str, Any]:
    """What a run gives, without the first targets."""
    if not known:
        return run
    of_targets = {name: run[name][:, known:] for name in ("scores", "gradient_peak", "explained")}
    of_layers = {name: [of_one[:, known:] for of_one in run[name]] for name in run.keys() & {"maps", "gradients"}}
    return {**run, **of_targets, **of_layers}


def _joined(runs: Sequence[Mapping[str, Any]], *, functions: int) -> dict[str, Array]:
    """One batch from several runs of it, which explained some of the classes and all of the functions each.

    The maps of several layers are fused. Activations and gradients are kept of one layer alone.
    """
    first = {name: value for name, value in runs[0].items() if name in ("outputs", "predicted")}
    if "activations" in runs[0]:
        (first["activations"],) = runs[0]["activations"]
    by_target = []
    for number, run in enumerate(runs):
        values = {name: run[name] for name in ("scores", "gradient_peak")}
        values["maps"] = _fused(run["maps"])
        if "gradients" in run:
            (values["gradients"],) = run["gradients"]
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


def _check_kept(traced: Capture, pictures: int, targets: int) -> None:
    """Raises where activations and gradients cannot be kept, before any picture goes through the model."""
    if len(traced.layers) > 1:
        raise GradCAMError(
            f"Activations and gradients are kept of one layer, and here {len(traced.layers)} are fused.",
            "Name one of them with {argument}.",
            argument="layer",
            value=traced.layers[-1].path,
        )
    (activations, gradients), layer = traced.kept, traced.layers[0]
    each_picture = activations + targets * gradients
    if pictures * each_picture > _FLOATS_KEPT:
        fit = _FLOATS_KEPT // each_picture
        fewer = f"Explain at most {fit} pictures at once" if fit else "Explain fewer targets at once"
        raise GradCAMError(
            f"The activations and gradients of {pictures} pictures x {targets} targets at layer '{layer.path}' take "
            f"{4 * pictures * each_picture / 1e9:.1f} GB, more than the {4 * _FLOATS_KEPT / 1e9:.1f} GB that are kept.",
            f"{fewer}, or choose a later layer.",
        )


def _kept(captured: Mapping[str, Array]) -> dict[str, Array]:
    """The activations and gradients for an explanation, where there are any, each gradient at every place."""
    if "gradients" not in captured:
        return {}
    activations, gradients = captured["activations"], captured["gradients"]
    n, *shape = activations.shape
    return {
        "activations": activations,
        "gradients": np.broadcast_to(gradients, (n, gradients.shape[1], *shape)),  # takes no memory
    }


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
    health = np.select(
        [~finite, captured["gradient_peak"] == 0, highest == 0, is_flat(maps)],
        ["non-finite", "zero-gradient", "empty", "flat"],
        "ok",
    )
    return maps, health
