"""Activations and gradients of any Keras model, in one traced graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.calls import calls_watched
from gradcam_callbacks.explaining.feeding import check_inputs, filled
from gradcam_callbacks.explaining.graph import InsideFunctionError, has_inner_functions
from gradcam_callbacks.explaining.head import Head
from gradcam_callbacks.explaining.layers import Layers
from gradcam_callbacks.explaining.maps import gradients_of, maps_of_targets, peaks_of_gradients
from gradcam_callbacks.explaining.masking import increases_of_scores
from gradcam_callbacks.explaining.methods import masks
from gradcam_callbacks.explaining.picking import named, pick
from gradcam_callbacks.explaining.request import Request
from gradcam_callbacks.explaining.state import read, traced
from gradcam_callbacks.explaining.tensorflow_internals import functions_inlined
from gradcam_callbacks.explaining.touching import may_touch
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
        layers: those that are explained, in the order in which they were asked for.
        explainable: all that have a map of more than one place, in the order of their calls.
        runners_up: those that would be picked next where none was asked for, the best first.
        score_kind: what a score is: "logit", or "probability" where the model does more with its logits than a softmax
            or sigmoid, so that they cannot be had.
        classes: how many classes a target may name; None where that depends on the picture, 0 where the model is no
            classifier.
        has_probabilities: whether the model's outputs are probabilities.
        floats: how many numbers one target of one picture needs on its way to a map.
        may_touch: whether pictures of a batch may influence each other's maps; only a run tells. See `touching`.
    """

    layers: tuple[LayerInfo, ...]
    explainable: tuple[LayerInfo, ...]
    runners_up: tuple[LayerInfo, ...]
    score_kind: str
    classes: int | None
    has_probabilities: bool
    floats: int
    may_touch: bool
    _graph: Callable[..., Mapping[str, Any]] = field(repr=False)

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
            (N,) int32 and outputs (N, classes) float32, where the model is a classifier.
        """
        counted = np.ones(len(targets), np.float32) if only is None else np.eye(len(targets), dtype=np.float32)[only]
        result = self._graph(tf.nest.map_structure(tf.constant, inputs), tf.constant(targets), tf.constant(counted))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), dict(result))  # type: ignore[no-any-return]


def trace(asked: Request) -> Capture:
    """Traces one graph that explains any number of targets a picture in one forward pass.

    The layers' outputs are seen by wrapping `call` on the layer instances while the graph is traced, and only then,
    so that nested, subclassed and Sequential models all work and nothing stays patched.

    Args:
        asked: which maps of which model.

    Raises:
        GradCAMError: if the layer or the output does not exist or cannot be explained, or the model cannot take the
            inputs, or the method does not give maps.
    """
    _check(asked)
    tracing = _Tracing(asked)
    with _TRACING:
        try:
            graph = _traced(tracing, asked)
        except InsideFunctionError:
            with functions_inlined():
                graph = _traced(tracing, asked)
    if masks(asked.method) and graph.written and not asked.written:
        return trace(replace(asked, written=graph.written))
    if not tracing.candidates:
        return Capture(_graph=graph, **tracing.found)
    # Which of the candidates have a gradient at their places, a picture tells.
    one = filled(tf.nest.map_structure(lambda array: array[:1], asked.inputs), asked.batch)
    fed = tf.nest.map_structure(tf.constant, one)
    peaks = graph(fed, tf.zeros((asked.batch or 1, 0, 2), tf.int32), tf.ones(asked.batch or 1))["peaks"].numpy()
    first = int(np.argmax(peaks > 0))
    capture = trace(replace(asked, layer=tracing.candidates[first].path))
    return replace(capture, explainable=tracing.found["explainable"], runners_up=tuple(tracing.candidates[first + 1 :]))


def _traced(tracing: _Tracing, asked: Request) -> Any:
    """The graph of any number of pictures and targets."""
    targets, counted = tf.TensorSpec((None, None, 2), tf.int32), tf.TensorSpec((None,), tf.float32)
    same_noise_in = asked.model if asked.same_noise else None
    return traced(tracing.graph, asked.inputs, targets, counted, batch=asked.batch, same_noise_in=same_noise_in)


def _check(asked: Request) -> None:
    """Raises where nothing can be traced."""
    model = asked.model
    if not model.built:
        raise GradCAMError(
            f"Model '{model.name}' is not built: it has no weights to explain.",
            f"Call it once, fit it, load its weights, or call model.build({(None, *asked.image.shape[1:])}) first.",
        )
    check_inputs(model, asked.inputs)


class _Tracing:
    """One graph while it is traced, and what it turns out to be.

    Attributes:
        found: the attributes of its `Capture`.
        candidates: the layers to choose from, where a picture must tell which is explained. The graph then gives the
            largest gradient of each, and no maps.
    """

    def __init__(self, asked: Request) -> None:
        self.found: dict[str, Any] = {}
        self.candidates: list[LayerInfo] = []
        self._asked = asked
        self._layers = Layers(asked.model)
        self._wanted: list[tuple[str, int]] | None = None
        if asked.layer is not None:
            names = [asked.layer] if isinstance(asked.layer, str) else asked.layer
            self._wanted = [self._layers.find(name) for name in names]

    def graph(self, batch: Inputs, targets: Tensor, counted: Tensor) -> dict[str, Any]:
        """What is traced: from what the model is fed, a target matrix and which pictures count to maps."""
        asked, channels_first = self._asked, self._layers.channels_first
        before = read(asked.written)
        tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with tape, calls_watched(self._layers, self._watched, tape.watch) as calls:
            head = Head.of(asked.model, batch, asked.output, name_classes=asked.name_classes)
        if not tf.config.functions_run_eagerly() and has_inner_functions(head.scored):
            raise InsideFunctionError
        shape = asked.image.shape
        size = tuple(shape[2:] if channels_first else shape[1:-1])
        views = read_as_maps(calls, size, asked.grid, head.scored, channels_first=channels_first)
        chosen, others = self._choose(views, head)
        self._note(batch, head, views, chosen, others)
        if self._wanted is None and chosen[0].extra_tokens:
            # After the last attention a head may take the class token alone. The layers there have a gradient, but not
            # at the places: the layer to explain is the last with one there.
            self.candidates = [view.info for view in (*chosen, *others)]
            return {"peaks": peaks_of_gradients([*chosen, *others], head.scored)}
        increases = partial(increases_of_scores, asked, batch, before=before, channels_first=channels_first)
        return maps_of_targets(asked, head, chosen, targets, counted, tape=tape, increases=increases)

    @property
    def _watched(self) -> set[str]:
        """The paths of the layers whose calls matter."""
        if self._wanted is not None:
            return {path for path, _ in self._wanted}
        return set(self._layers.by_path) - self._layers.in_attention

    def _choose(self, views: list[View], head: Head) -> tuple[list[View], list[View]]:
        """The views that are explained, and those that would be picked next."""

        def has_gradient(tensor: Tensor) -> bool:
            return gradients_of(head.scored, [tensor])[0] is not None

        if self._wanted is not None:
            return named(views, self._wanted, has_gradient), []
        best, *others = pick(views, head.scored, has_gradient)
        return [best], others

    def _note(self, batch: Inputs, head: Head, views: list[View], chosen: list[View], others: list[View]) -> None:
        """Keeps what is known of the graph."""
        self.found = {
            "layers": tuple(view.info for view in chosen),
            "runners_up": tuple(view.info for view in others),
            "explainable": tuple(view.info for view in views if view.problem is None and set(view.grid) != {1}),
            "score_kind": head.score_kind,
            "classes": 0 if head.logits is None else head.logits.shape[-1],
            "has_probabilities": head.has_probabilities,
            "floats": sum(view.floats for view in chosen),
            "may_touch": may_touch(
                batch if masks(self._asked.method) else [view.source for view in chosen], head.scored
            ),
        }


def trace_scores(
    model: keras.Model, *, output: str | int | None, inputs: Inputs, batch: int | None
) -> Callable[[Inputs, Array], tuple[Array, Array]]:
    """Traces a plain forward pass to the scores of classes.

    Args:
        model: a built Keras model on the TensorFlow backend.
        output: the head of a multi-output model.
        inputs: what the model will be fed; the number of pictures does not matter.
        batch: how many pictures it takes at once where that is fixed.

    Returns:
        A function of the inputs and an (N, K, 2) target matrix that gives (N, K) scores and (N, K) probabilities, NaN
        where there are none.
    """

    def graph(fed: Inputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        head = Head.of(model, fed, output, name_classes=True)
        scores, classes = head.scores(targets, ())
        probabilities = tf.fill(tf.shape(classes), np.float32(np.nan))
        if head.outputs is not None and head.has_probabilities:
            probabilities = tf.cast(tf.gather(head.outputs, classes, batch_dims=1), tf.float32)
            probabilities = tf.where(targets[..., 1] == NO_CLASS, probabilities, np.nan)
        return scores, probabilities

    concrete = traced(graph, inputs, tf.TensorSpec((None, None, 2), tf.int32), batch=batch)

    def scores_of(fed: Inputs, targets: Array) -> tuple[Array, Array]:
        scores, probabilities = concrete(tf.nest.map_structure(tf.constant, fed), tf.constant(targets))
        return scores.numpy(), probabilities.numpy()

    return scores_of
