"""Explainer and Explanation: the core that every driver shares."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks import render
from gradcam_callbacks.probes import NO_CLASS, ProbeSet, as_probes, slugs

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from gradcam_callbacks.capture import Capture
    from gradcam_callbacks.layers import LayerInfo

Array = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

_FLOATS_AT_ONCE = 2**26
"""How many numbers may be on their way to maps at once: 256 MB. More targets or pictures are split."""

HEALTH = {
    "empty": "Nothing in this layer speaks for the target: every place speaks against it or not at all. Common while "
    "the network is untrained or sure of another class; look at the probability, ask for a contrast (a, b), or try "
    'method="hirescam".',
    "flat": "Every place of the map counts the same, so it says nothing about where. The layer's output does not "
    "depend on the picture: dead or constant activations, or a layer too close to the pooling; try an earlier layer.",
    "zero-gradient": "The score does not react to this layer at all. Its weights on the way to the score are zero, a "
    "ReLU after it is dead, or a probability is saturated (see score_kind); try an earlier layer, and check the "
    "learning rate.",
    "non-finite": "The score or the map is NaN or infinite, so the map was set to zero. The weights or the input have "
    "diverged: lower the learning rate, clip the gradients, or keep the last layers in float32.",
}
"""What each state of a map but "ok" means, and what to try."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model looked at: N pictures times K targets, in numbers.

    Attributes:
        maps: (N, K, h, w) float32, >= 0, not normalised, on the layer's own grid: comparable between epochs. (N, K, l)
            for signals and (N, K, d, h, w) for volumes. Fused maps of several layers are the mean of each map divided
            by its own maximum.
        scores: (N, K) float32, the logit (or probability, see `score_kind`) that was explained.
        probabilities: (N, K) float32 in [0, 1], or None where the model's outputs are not probabilities, and NaN for
            contrast targets and functions.
        outputs: (N, classes) float32, what the model answered, or None where it is no classifier.
        predicted: (N,) int32, the class with the highest score; `NO_CLASS` where the model is no classifier.
        explained: (N, K) int32, the class that each map explains; `NO_CLASS` for functions.
        health: (N, K) str: "ok", "empty" (nothing positive), "flat" (the same everywhere), "zero-gradient" (the score
            does not react to the layer) or "non-finite" (NaN or infinity; the map is then zero).
        score_kind: "logit" or "probability".
        layer: the path of the layer; of several joined by " + ".
        method: the name of the CAM method.
        probes: the pictures and targets that were explained.
    """

    maps: Array
    scores: Array
    probabilities: Array | None
    outputs: Array | None
    predicted: Array
    explained: Array
    health: Array
    score_kind: str
    layer: str
    method: str
    probes: ProbeSet

    @property
    def names(self) -> tuple[str, ...]:
        """N names of the pictures."""
        return self.probes.names

    @property
    def target_names(self) -> tuple[str, ...]:
        """K names of the targets."""
        return self.probes.target_names

    def __repr__(self) -> str:
        (n, k), grid = self.maps.shape[:2], "x".join(map(str, self.maps.shape[2:]))
        return f"Explanation({n} pictures x {k} targets, maps {grid}, layer={self.layer!r}, method={self.method!r})"

    def heatmaps(self, *, scale: str = "map") -> Array:
        """The maps at the pictures' size.

        Args:
            scale: "map" divides each map by its own maximum, "shared" all of them by the one maximum of all.

        Returns:
            (N, K, H, W) float32 in [0, 1]; a zero map stays zero. Of a signal along the picture of its curve, of a
            volume on the picture of its slices.
        """
        return render.heatmaps(self.maps, self.probes.pictures.shape[1:3], scale=scale, slices=self.probes.slices)

    def overlays(self, *, alpha: float = 0.4, colormap: str = "turbo", scale: str = "map") -> Array:
        """The heatmaps in colour over the pictures.

        Args:
            alpha: share of the colour in the blend, in [0, 1].
            colormap: any name that matplotlib knows.
            scale: see `heatmaps`.

        Returns:
            (N, K, H, W, 3) uint8.
        """
        return render.overlays(self.probes.pictures, self.heatmaps(scale=scale), alpha=alpha, colormap=colormap)

    def overlays_on(
        self, n: int, picture: Array, *, alpha: float = 0.4, colormap: str = "turbo", scale: str = "map"
    ) -> Array:
        """The heatmaps of one probe over another version of its picture, such as the photograph at its own size.

        Args:
            n: which probe.
            picture: (H, W, 3) uint8, of the same content as what the model was fed.
            alpha: see `overlays`.
            colormap: see `overlays`.
            scale: see `heatmaps`.

        Returns:
            (K, H, W, 3) uint8.
        """
        heatmaps = render.heatmaps(self.maps, picture.shape[:2], scale=scale, slices=self.probes.slices)[n : n + 1]
        overlays: Array = render.overlays(picture[None], heatmaps, alpha=alpha, colormap=colormap)[0]
        return overlays

    def predictions(self, top: int = 5) -> list[list[tuple[int, str, float]]]:
        """The classes that the model thinks most likely.

        Returns:
            For each picture (index, name, probability), the likeliest first. A model whose outputs are not
            probabilities gives its score instead.

        Raises:
            ValueError: if the model is no classifier.
        """
        if self.outputs is None:
            raise ValueError("The model has no classes to predict: its output is not (batch, classes).")
        order = np.argsort(-self.outputs, axis=1, kind="stable")[:, :top]
        return [
            [(int(c), self.probes.class_name(int(c)), float(self.outputs[n, c])) for c in classes]
            for n, classes in enumerate(order)
        ]

    def question(self, n: int, k: int) -> str:
        """The title of a panel: "What made you think tabby?"."""
        if int(self.explained[n, k]) == NO_CLASS:
            return f"What made {self.target_names[k]} high?"
        asked = f"What made you think {self.probes.class_name(int(self.explained[n, k]))}"
        against = int(self.probes.target_matrix[n, k, 1])
        if against != NO_CLASS:
            asked += f" rather than {self.probes.class_name(against)}"
        return f"{asked}?"

    def problems(self) -> list[str]:
        """A sentence on each kind of map that is not "ok": which they are, what that means and what to try."""
        found = []
        for state, advice in HEALTH.items():
            where = [
                f"{self.names[n]} / {self.target_names[k]}"
                for n, k in zip(*np.nonzero(self.health == state), strict=True)
            ]
            if where:
                listed = ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
                found.append(
                    f"{len(where)} of {self.health.size} maps {'is' if len(where) == 1 else 'are'} {state} "
                    f"({listed}). {advice}"
                )
        return found

    def plot(self, *, alpha: float = 0.4, colormap: str = "turbo", scale: str = "map") -> Figure:
        """One row a picture: the picture, then one panel a target with its question as title."""
        return render.figure(
            self.probes.pictures,
            self.overlays(alpha=alpha, colormap=colormap, scale=scale),
            titles=[[self.question(n, k) for k in range(len(self.target_names))] for n in range(len(self.names))],
            picture_titles=self.names,
            colormap=colormap,
            scale=scale,
        )

    def save(
        self, directory: str | Path, *, overwrite: bool = False, pictures: Sequence[Array] | None = None
    ) -> list[Path]:
        """Writes the overlays as PNG, the numbers as maps.npz and their description as manifest.json.

        Args:
            directory: made if it is missing.
            overwrite: whether files of an earlier explanation may be replaced.
            pictures: N of (H, W, 3) uint8, each of any size, to draw on; the probes' own by default.

        Returns:
            The files written.

        Raises:
            FileExistsError: if one of the files is there and `overwrite` is false; then nothing is written.
        """
        from PIL import Image

        folder = Path(directory)
        probe_slugs, target_slugs = slugs(self.names), slugs(self.target_names)
        places = {
            folder / f"{probe}.{target}.png": (n, k)
            for n, probe in enumerate(probe_slugs)
            for k, target in enumerate(target_slugs)
        }
        files = [*places, folder / "maps.npz", folder / "manifest.json"]
        there = [file for file in files if file.exists()]
        if there and not overwrite:
            raise FileExistsError(f"'{there[0]}' is there already; choose another folder or pass overwrite=True.")
        folder.mkdir(parents=True, exist_ok=True)
        drawn_on = self.probes.pictures if pictures is None else pictures
        overlays = [self.overlays_on(n, picture) for n, picture in enumerate(drawn_on)]
        for file, (n, k) in places.items():
            Image.fromarray(overlays[n][k]).save(file)
        np.savez_compressed(folder / "maps.npz", **self.arrays())  # type: ignore[arg-type]
        manifest = self.description() | {"files": [file.name for file in places]}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
        return files

    def arrays(self) -> dict[str, Array]:
        """The numbers by name, as they are kept in files; `probabilities` is left out where there are none."""
        named = {
            "maps": self.maps,
            "scores": self.scores,
            "probabilities": self.probabilities,
            "predicted": self.predicted,
            "explained": self.explained,
            "health": self.health,
        }
        return {name: array for name, array in named.items() if array is not None}

    def description(self) -> dict[str, Any]:
        """What the numbers mean, as JSON takes it."""
        return {
            "layer": self.layer,
            "method": self.method,
            "score_kind": self.score_kind,
            **self.probes.description(),
        }


class Explainer:
    """Explains pictures to a model again and again, through one traced graph.

    The model is left exactly as it was found. Later changes of its weights are followed, those of its layers are not:
    make a new one after adding, removing, adapting or quantising layers.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        layer: str | Sequence[str] | None = None,
        method: str = "gradcam",
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
            method: a name in `gradcam_callbacks.methods.METHODS`.
            output: the head of a multi-output model, by name or index.
            batch_size: how many pictures go through the model at once, at most.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.

        Raises:
            ValueError: if the method does not exist or batch_size is not positive.
        """
        from gradcam_callbacks.methods import METHODS

        if method not in METHODS:
            raise ValueError(f"No method '{method}'. The methods: {', '.join(sorted(METHODS))}.")
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}.")
        for name in [layer] if layer is None or isinstance(layer, str) else list(_listed(layer)):
            if not isinstance(name, str | None):
                raise ValueError(f"layer= takes paths or names of layers, such as 'backbone/top_conv'; got {name!r}.")
        self.model = model
        self.method = method
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
        """Traces the graph for these probes, and checks them against the model, without running it.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.

        Raises:
            ValueError: if the model, the layer or the probes cannot be explained; the message says what to do.
        """
        from gradcam_callbacks import capture

        probes = as_probes(probes)
        names_classes = len(probes.functions) < len(probes.targets)
        key = (*_kind(probes.inputs), probes.functions, names_classes)
        if key not in self._captures:
            traced = capture.trace(
                self.model,
                self.method,
                layer=self._layer,
                output=self._output,
                grid=self._grid,
                inputs=probes.inputs,
                picture=probes.picture_key,
                functions=probes.functions,
                name_classes=names_classes,
                at_once=self.batch_size,
            )
            others = ", ".join(info.path for info in traced.runners_up[:3])
            for info in traced.layers:
                logger.info("Explaining layer %s %s%s", info.path, info.shape, f" (or: {others})" if others else "")
            if traced.score_kind == "probability":
                logger.warning(
                    "Model '%s' does more than a softmax or sigmoid with its logits, so its probabilities are "
                    "explained. Where they saturate, the maps vanish.",
                    self.model.name,
                )
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
            ValueError: see `prepare`.
        """
        probes = as_probes(probes)
        traced = self.prepare(probes)
        matrix = probes.target_matrix
        is_function = np.array([callable(target) for target in probes.targets])
        classes = np.flatnonzero(~is_function)
        per_picture = traced.floats * len(probes.targets)
        pictures = int(np.clip(_FLOATS_AT_ONCE // per_picture, 1, self.batch_size))
        targets = max(1, _FLOATS_AT_ONCE // traced.floats)
        batches = []
        for start in range(0, len(probes), pictures):
            part = slice(start, start + pictures)
            inputs = probes.batch(start, start + pictures)
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
        maps, health = _with_health(captured)
        outputs = captured.get("outputs")
        probabilities = None
        if outputs is not None and traced.has_probabilities:
            probabilities = np.take_along_axis(outputs, np.maximum(captured["explained"], 0), axis=1)
            if outputs.min(initial=0) < 0 or outputs.max(initial=0) > 1.001:  # a sigmoid times something, or a gate
                probabilities = None
        if probabilities is not None:
            is_plain = (matrix[..., 1] == NO_CLASS) & ~is_function
            probabilities = np.where(is_plain, probabilities, np.float32(np.nan))
        return Explanation(
            maps=maps,
            scores=captured["scores"],
            probabilities=probabilities,
            outputs=outputs,
            predicted=captured.get("predicted", np.full(len(probes), NO_CLASS, np.int32)),
            explained=captured["explained"],
            health=health,
            score_kind=traced.score_kind,
            layer=" + ".join(info.path for info in traced.layers),
            method=self.method,
            probes=probes,
        )

    def layers(self, probes: Any = None) -> list[LayerInfo]:
        """The layers that can be explained, in the order in which the model calls them.

        Args:
            probes: see `prepare`; needed where the model does not say what size of picture it takes.

        Returns:
            Their paths, classes and output shapes; `picked` marks the one that `layer=None` explains.

        Raises:
            ValueError: see `prepare`.
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
        from gradcam_callbacks import capture

        key = _kind(images)
        if key not in self._scorers:
            self._scorers[key] = capture.trace_scores(self.model, output=self._output, inputs=images)
        parts = []
        for start in range(0, len(images), self.batch_size):
            scores, probabilities = self._scorers[key](
                images[start : start + self.batch_size], targets[start : start + self.batch_size]
            )
            parts.append(np.where(np.isnan(probabilities), scores, probabilities))
        return np.concatenate(parts)


def _listed(layer: Any) -> Sequence[Any]:
    return layer if isinstance(layer, list | tuple) else [layer]


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
        raise ValueError(
            f"Model '{model.name}' does not say what size of picture it takes; pass an array of pictures of that size."
        )
    arrays = {name: noise.random((1, *shape), dtype=np.float32) for name, shape in shapes.items()}
    return ProbeSet(arrays if len(arrays) > 1 else next(iter(arrays.values())))


def _joined(runs: Sequence[Mapping[str, Any]], *, functions: int) -> dict[str, Array]:
    """One batch of what several runs gave, each for some of the classes and all of the functions; maps fused."""
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
    """The maps of one layer as they are; of several the mean of their shares of their maxima, on the largest grid."""
    if len(maps) == 1:
        return maps[0]
    largest = max((layer.shape[2:] for layer in maps), key=lambda grid: int(np.prod(grid)))
    axes = tuple(range(2, maps[0].ndim))
    shares = []
    for layer in maps:
        peaks = layer.max(axis=axes, keepdims=True)
        shares.append(render.resize_maps(np.divide(layer, peaks, out=np.zeros_like(layer), where=peaks != 0), largest))
    fused: Array = np.mean(shares, axis=0)
    return fused


def _check_classes(probes: ProbeSet, classes: int | None, model_name: str) -> None:
    """Raises if a probe asks for a class that the model does not have."""
    if not classes:
        return
    highest = int(probes.target_matrix.max())
    if highest >= classes:
        raise ValueError(
            f"Class {highest} is out of range: model '{model_name}' has {classes} classes, 0 to {classes - 1}."
        )
    if probes.class_names is not None and len(probes.class_names) != classes:
        raise ValueError(f"{len(probes.class_names)} class_names, but model '{model_name}' has {classes} classes.")


def _with_health(captured: Mapping[str, Array]) -> tuple[Array, Array]:
    """The maps, zero where they are not finite, and what to think of each."""
    raw = captured["maps"]
    axes = tuple(range(2, raw.ndim))
    finite = np.isfinite(raw).all(axis=axes) & np.isfinite(captured["scores"])
    maps = np.where(np.expand_dims(finite, axes), raw, np.float32(0))
    highest, lowest = maps.max(axis=axes), maps.min(axis=axes)
    flat = highest - lowest <= 1e-6 * highest
    health = np.select(
        [~finite, captured["gradient_peak"] == 0, highest == 0, flat],
        ["non-finite", "zero-gradient", "empty", "flat"],
        "ok",
    )
    return maps, health
