"""Activations and gradients of any Keras model, in one traced graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.attending import attended
from gradcam_callbacks.explaining.axes import followed
from gradcam_callbacks.explaining.calls import Call, calls_watched, numbered
from gradcam_callbacks.explaining.engines.engine import Forward, Marker, Run, engine
from gradcam_callbacks.explaining.feeding import check_inputs, filled
from gradcam_callbacks.explaining.graph import handed_on_as
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.layers import Layers
from gradcam_callbacks.explaining.locating import UNKNOWN, can_be_measured, footprints, spoilt, why_misplaced
from gradcam_callbacks.explaining.maps import maps_of_targets
from gradcam_callbacks.explaining.masking import changes_of_scores
from gradcam_callbacks.explaining.methods import attends, takes_gradients
from gradcam_callbacks.explaining.picking import Choice, Picker, named
from gradcam_callbacks.explaining.places import of_picture
from gradcam_callbacks.explaining.recurrent import RECURRENT, places_of_recurrent
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.touching import may_touch
from gradcam_callbacks.explaining.views import LayerInfo, Picture, Reader, Video, View
from gradcam_callbacks.probes.inputs import Inputs, picture_of
from gradcam_callbacks.probes.targets import NO_CLASS

Tensor = Any
Values = Any
_MEASURED = (
    "On the way to the layer are operations that are not understood. That its map lies as the picture does was "
    "measured once, with the weights of the beginning."
)
_ASSUMED = (
    "On the way to the layer are operations that are not understood, and nothing can be measured through them: it is "
    "assumed that its map lies as the picture does."
)
_PICKS = 3
"""How many layers are tried at most of which a measurement says that they lie elsewhere."""


@dataclass(frozen=True)
class Capture:
    """One traced graph from what the model is fed and a target matrix to raw maps.

    Attributes:
        layers: those that are explained, in the order in which they were asked for.
        place: where these stand in the model, whatever they are called, with the shapes of their outputs; see
            `Layers.place`.
        explainable: all that have a map of more than one place, in the order of their calls.
        runners_up: those that would be picked next where none was asked for, the best first.
        notes: what a user must know of the layers explained, in whole sentences.
        misplaced: for each of the layers, why its places are not those of the picture; None where they are.
        score_kind: what a score is: "logit", or "probability" where the model does more with its logits than a softmax
            or sigmoid, so that they cannot be had.
        classes: how many classes a target may name; None where that depends on the picture, 0 where the model is no
            classifier.
        has_probabilities: whether the model's outputs are probabilities.
        floats: how many numbers one target of one picture needs on its way to a map.
        kept: how many numbers the activations of one picture are, and the gradients of one target of it, where they are
            given.
        may_touch: whether pictures of a batch may influence each other's maps; only a run tells. See `touching`.
    """

    layers: tuple[LayerInfo, ...]
    place: str
    explainable: tuple[LayerInfo, ...]
    runners_up: tuple[LayerInfo, ...]
    notes: tuple[str, ...]
    misplaced: tuple[str | None, ...]
    score_kind: str
    classes: int | None
    has_probabilities: bool
    floats: int
    kept: tuple[int, int]
    may_touch: bool
    _graph: Callable[..., Mapping[str, Any]] = field(repr=False)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that a user must know of the layers explained."""
        wrong = (
            f"The places of layer '{info.path}' {reason}, so its maps are misplaced."
            for info, reason in zip(self.layers, self.misplaced, strict=True)
            if reason is not None
        )
        return (*self.notes, *wrong)

    def __call__(self, inputs: Inputs, targets: Array, *, only: int | None = None) -> dict[str, Any]:
        """Runs the graph once.

        Args:
            inputs: N of what the model is fed, in the shapes and dtypes that were traced.
            targets: (N, K, 2) int32 of the targets that name classes; `[..., 0]` is the class explained or
                `PREDICTED`, `[..., 1]` the class whose score is subtracted or `NO_CLASS`.
            only: the one picture whose scores the gradients are taken of; by default those of all pictures.

        Returns:
            maps, a list with (N, K + F, *grid) float32 for each layer, the F functions after the classes; scores and
            gradient_peak (N, K + F) float32, the largest absolute gradient; explained (N, K + F) int32; predicted
            (N,) int32 and outputs (N, classes) float32, where the model is a classifier. Where they were asked for,
            for each layer also activations (N, *grid, C) and gradients (N, K + F, *grid, C), or (N, K + F, 1, ..., 1,
            C) where they are the same everywhere.
        """
        counted = np.ones(len(targets), np.float32) if only is None else np.eye(len(targets), dtype=np.float32)[only]
        return dict(self._graph(inputs, targets, counted))


def trace(asked: Request, *, without: frozenset[str] = frozenset()) -> Capture:
    """Traces one graph that explains any number of targets a picture in one forward pass.

    The layers' outputs are seen by wrapping `call` on the layer instances while the graph is traced, and only then,
    so that nested, subclassed and Sequential models all work and nothing stays patched.

    Args:
        asked: which maps of which model.
        without: the paths of layers that are not to be picked.

    Raises:
        GradCAMError: if the layer or the output does not exist or cannot be explained, or the model cannot take the
            inputs, or has made weights only now, or the method does not give maps.
    """
    _check(asked)
    tracing, weights = _Tracing(asked, without), {id(weight) for weight in asked.model.weights}
    graph, measuring = _traced(tracing, asked)
    made = [weight for weight in asked.model.weights if id(weight) not in weights]
    if made:  # as `model.build` marks a subclassed model as built, and makes no weights
        count = f"{len(made)} of {len(asked.model.weights)}"
        raise GradCAMError(
            f"{count} weights of model '{asked.model.name}' were made only now, while it was traced, and are random: "
            f"'{made[0].path}' is one. The model has them from now on.",
            _CALL_IT,
        )
    if measuring is not None:
        tracing.measured(measuring(filled(spoilt(asked.inputs), asked.batch)))
        wrong = tracing.measured_wrong
        if asked.layer is None and wrong and len(without) < _PICKS:
            with suppress(GradCAMError):  # where there is no other, this one is explained, and called misplaced
                return trace(asked, without=without | wrong)
    return Capture(_graph=graph, **tracing.found)


def _traced(tracing: _Tracing, asked: Request) -> tuple[Any, Any]:
    """The graph of any number of pictures and targets, and that of the footprints where a picture must tell."""
    targets, counted = keras.KerasTensor((None, None, 2), "int32"), keras.KerasTensor((None,), "float32")
    graph = engine.traced(
        asked.model,
        tracing.read,
        tracing.compute,
        asked.inputs,
        targets,
        counted,
        watching=tracing.watching,
        batch=asked.batch,
        same_noise=asked.same_noise,
    )
    if not tracing.is_unsure:
        return graph, None
    measuring = engine.traced(
        asked.model,
        tracing.read_views,
        tracing.footprints,
        asked.inputs,
        watching=tracing.watching,
        batch=asked.batch,
    )
    return graph, measuring


_CALL_IT = "Fit it, or call it once on pictures, and then load its weights if they are in a file."


def _check(asked: Request) -> None:
    """Raises where nothing can be traced."""
    model = asked.model
    if not model.built:
        raise GradCAMError(
            f"Model '{model.name}' is not built: it has no weights to explain.",
            _CALL_IT,
        )
    check_inputs(model, asked.inputs)


class _Tracing:
    """One graph while it is traced, and what it turns out to be.

    Attributes:
        found: the attributes of its `Capture`.
        is_unsure: whether a picture must tell where the maps lie.
    """

    def __init__(self, asked: Request, without: frozenset[str]) -> None:
        self._without = without
        self.found: dict[str, Any] = {}
        self.is_unsure = False
        self._asked = asked
        self._layers = Layers(asked.model)
        self._wanted: list[tuple[str, int | None]] | None = None
        self._picked: list[tuple[str, int | None]] | None = None
        if asked.layer is not None:
            self._wanted = list(map(self._name, [asked.layer] if isinstance(asked.layer, str) else asked.layer))

    def _name(self, name: str) -> tuple[str, int | None]:
        """The path of what is asked for, and the number of its call, if one is asked for."""
        return (name, None) if ">" in name else self._layers.find(name)

    def watching(self, marker: Marker) -> AbstractContextManager[list[Call]]:
        """Has the calls of the layers noted that matter."""
        return calls_watched(self._layers, self._watched, marker)

    def read(self, forward: Forward) -> tuple[Inputs, Head, Choice]:
        """What is explained; takes note of all that is known of it."""
        fed, head, choice, views = self._read(forward)
        if attends(self._asked.method):
            name = self._asked.method_name
            choice = replace(choice, views=[attended(view, head.scored, name) for view in choice.views])
        self._note(fed, head, views, choice)
        picture = picture_of(fed, self._asked.picture)
        unsure = [view for view in choice.views if not view.is_certain]
        self.is_unsure = any(can_be_measured(view, picture) for view in unsure)
        if unsure and not self.is_unsure:
            self.found["notes"] += (_ASSUMED,)
        return fed, head, choice

    def compute(self, run: Run, plan: tuple[Inputs, Head, Choice], targets: Values, counted: Values) -> dict[str, Any]:
        """The maps, from a target matrix and which pictures count."""
        asked, (fed, head, choice) = self._asked, plan
        if asked.is_listing:
            return {}

        def changes(view: View | Video, activations: Values, targets: Values) -> Values:
            batch, channels_first = run.values(fed), self._layers.channels_first
            return changes_of_scores(asked, run, head, batch, view, activations, targets, channels_first=channels_first)

        return maps_of_targets(asked, run, head, choice.views, targets, counted, changes=changes)

    def read_views(self, forward: Forward) -> tuple[Inputs, Choice]:
        """What is explained, where a picture must tell."""
        fed, _, choice, _ = self._read(forward)
        return fed, choice

    def footprints(self, run: Run, plan: tuple[Inputs, Choice]) -> list[Values]:
        """The footprints of each layer that is explained."""
        fed, choice = plan
        picture = picture_of(fed, self._asked.picture)
        nothing = keras.ops.zeros((1, *picture.shape[1:]))
        seen = [None if view.is_certain else _seen(run, view, picture) for view in choice.views]
        return [nothing if one is None else one for one in seen]

    def measured(self, seen: Sequence[Array]) -> None:
        """Takes note of what the footprints say."""
        found = [
            known or why_misplaced(one, grid, channels_first=self._layers.channels_first)
            for known, one, grid in zip(self.found["misplaced"], seen, self._grids, strict=True)
        ]
        self.found["misplaced"] = tuple(reason or None for reason in found)
        if UNKNOWN in found:
            self.found["notes"] += (_ASSUMED,)
        elif not any(found):
            self.found["notes"] += (_MEASURED,)

    @property
    def measured_wrong(self) -> frozenset[str]:
        """The paths of the layers that a measurement has found elsewhere."""
        pairs = zip(self.found["layers"], self.found["misplaced"], strict=True)
        return frozenset(info.path for info, reason in pairs if reason is not None)

    def _read(self, forward: Forward) -> tuple[Inputs, Head, Choice, list[View]]:
        """What the model is fed, its head, what is explained, and the views of all calls."""
        asked = self._asked
        head = Head.of(asked.model, forward, asked.output, name_classes=asked.name_classes)
        choice, views = self._choose(forward, head)
        self._grids = [view.grid for view in choice.views]
        return forward.fed, head, choice, views

    @property
    def _watched(self) -> set[str]:
        """The paths of the layers whose calls matter."""
        everything = set(self._layers.by_path) - self._layers.in_attention
        if self._wanted is None or any(">" in path for path, _ in self._wanted):
            return everything
        recurrent = {path for path in everything if isinstance(self._layers.by_path[path], RECURRENT)}
        return {path for path, _ in self._wanted} | recurrent

    def _choose(self, forward: Forward, head: Head) -> tuple[Choice, list[View]]:
        """What is explained, and the views of all calls."""
        asked, channels_first = self._asked, self._layers.channels_first
        batch, calls = forward.fed, forward.calls
        shape = asked.image.shape[1:]
        picture: Tensor = picture_of(batch, asked.picture)
        scores = head.explained(forward, asked.functions, name_classes=asked.name_classes)
        start = {id(picture): of_picture(shape, channels_first=channels_first)}
        places = followed(picture.graph, start, places_of_recurrent(calls), forward.batch)
        size = tuple(shape[1:] if channels_first else shape[:-1])
        reader = Reader(places, Picture(size, asked.picture, asked.grid, channels_first), scores)
        paths = numbered([_after_gradient(call) for call in calls])
        views = reader.read_all(paths)
        if any(view.is_elsewhere for view in views):
            views = self._of_other_pictures(views, paths, forward, scores)

        def has_gradient(tensor: Tensor) -> bool:
            return engine.has_gradient(scores, tensor)

        scored = keras.tree.flatten(head.scored)
        picker = Picker(views, paths, reader, places, picture, scores, scored, has_gradient, self._without)
        wanted = self._wanted or self._picked
        if wanted is None:
            try:
                choice = picker.pick()
            except GradCAMError:
                if asked.is_listing and any(view.has_map for view in views):
                    return Choice([]), views  # there are layers to name, though none is picked
                raise
            # Where it is read again, for another number of pictures, no other layer is to be picked.
            self._picked = [self._name(view.info.path) for view in choice.views]
            return choice, views
        if any(">" in path for path, _ in wanted):
            views = [*views, *picker.joined_views.values()]
        return named(views, wanted, has_gradient), views

    def _of_other_pictures(
        self, views: list[View], paths: list[tuple[str, Call]], forward: Forward, scores: list[Tensor]
    ) -> list[View]:
        """The views, with those that are maps of another picture than the one shown read as what they are."""
        asked, channels_first, batch = self._asked, self._layers.channels_first, forward.fed
        keys = batch if isinstance(batch, dict) else range(len(batch)) if isinstance(batch, tuple) else ()
        for key in keys:
            shape = asked.inputs[key].shape
            if key == asked.picture or len(shape) != asked.image.ndim:
                continue
            start = {id(batch[key]): of_picture(shape[1:], channels_first=channels_first)}
            places = followed(batch[key].graph, start, places_of_recurrent(forward.calls), forward.batch)
            size = tuple(shape[2:] if channels_first else shape[1:-1])
            others = Reader(places, Picture(size, key, asked.grid, channels_first), scores).read_all(paths)
            sentence = f"are those of input {key!r}, not of {asked.picture!r}, which is shown"
            views = [
                replace(other, misplaced=sentence) if view.is_elsewhere and other.problem is None else view
                for view, other in zip(views, others, strict=True)
            ]
        return views

    def _note(self, batch: Inputs, head: Head, views: list[View], choice: Choice) -> None:
        """Keeps what is known of the graph."""
        chosen = choice.views
        kept = sum(math.prod(view.gradient_shape) for view in chosen)
        listed = [view.info for view in views if view.has_map]
        listed += [view.info for view in chosen if view.info not in listed]
        self.found = {
            "layers": tuple(view.info for view in chosen),
            "place": " + ".join(f"{self._layers.place(view.info.path)}, {_shape_of(view.info)}" for view in chosen),
            "runners_up": tuple(view.info for view in choice.others),
            "notes": choice.notes,
            "misplaced": tuple(view.misplaced for view in chosen),
            "explainable": tuple(listed),
            "score_kind": head.score_kind,
            "classes": head.classes,
            "has_probabilities": head.has_probabilities,
            "floats": sum(view.floats for view in chosen) + kept * self._asked.keep_gradients,
            "kept": (sum(math.prod((*view.grid, view.channels)) for view in chosen), kept),
            "may_touch": may_touch(
                [source for view in chosen for source in view.sources]
                if takes_gradients(self._asked.method)
                else batch,
                head.scored,
            ),
        }


def _shape_of(info: LayerInfo) -> str:
    """Of what a layer gives for one picture, such as "14x14x8"; "?" for a side that depends on the picture."""
    return "x".join("?" if side is None else str(side) for side in info.shape[1:])


def _seen(run: Run, view: View | Video, picture: Tensor) -> Values | None:
    """The footprints of a view, where they can be had."""
    return footprints(run, view, picture) if can_be_measured(view, picture) else None


def _after_gradient(call: Call) -> Call:
    """The call with the tensor that the score has a gradient by."""
    is_one = engine.is_tensor(call.output) and call.output.dtype.is_floating
    return replace(call, output=handed_on_as(call.output)) if is_one else call


def trace_scores(
    model: keras.Model, *, output: str | int | None, inputs: Inputs, batch: int | None
) -> Callable[[Inputs, Array], tuple[Array, Array, Array]]:
    """Traces a plain forward pass to the scores of classes.

    Args:
        model: a built Keras model.
        output: the head of a multi-output model.
        inputs: what the model will be fed; the number of pictures does not matter.
        batch: how many pictures it takes at once where that is fixed.

    Returns:
        A function of the inputs and an (N, K, 2) target matrix that gives (N, K) scores, (N, K) probabilities, NaN
        where there are none, and the (N, K) classes that these are of.
    """
    heads = []

    def read(forward: Forward) -> tuple[Any, Any]:
        heads.append(Head.of(model, forward, output, name_classes=True))
        return heads[-1].tensors

    def compute(run: Run, tensors: tuple[Any, Any], targets: Values) -> tuple[Values, Values, Values]:
        ops, head = keras.ops, heads[-1].of_numbers(*run.values(tensors))
        scores, classes = head.scores(targets, ())
        probabilities = ops.full(ops.shape(classes), np.float32(np.nan))
        if head.given is not None and head.has_probabilities:
            probabilities = ops.cast(ops.take_along_axis(head.outputs, classes, axis=1), "float32")
            probabilities = ops.where(targets[..., 1] == NO_CLASS, probabilities, np.float32(np.nan))
        return scores, probabilities, classes

    shape = keras.KerasTensor((None, None, 2), "int32")
    return engine.traced(model, read, compute, inputs, shape, batch=batch)
