"""Explainer and Explanation: the core that every driver shares."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks import render
from gradcam_callbacks.probes import NO_CLASS, ProbeSet, as_probes, slugs

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from gradcam_callbacks.capture import Capture

Array = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model looked at: N pictures times K targets, in numbers.

    Attributes:
        maps: (N, K, h, w) float32, >= 0, not normalised, on the layer's own grid: comparable between epochs.
        scores: (N, K) float32, the logit (or probability, see `score_kind`) that was explained.
        probabilities: (N, K) float32 in [0, 1], or None where the model's outputs are not probabilities, and NaN for
            contrast targets.
        outputs: (N, classes) float32, what the model answered.
        predicted: (N,) int32, the class with the highest score.
        explained: (N, K) int32, the class that each map explains.
        health: (N, K) str: "ok", "empty" (nothing positive), "flat" (the same everywhere), "zero-gradient" (the score
            does not react to the layer) or "non-finite" (NaN or infinity; the map is then zero).
        score_kind: "logit" or "probability".
        layer: the path of the layer.
        method: the name of the CAM method.
        probes: the pictures and targets that were explained.
    """

    maps: Array
    scores: Array
    probabilities: Array | None
    outputs: Array
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
        n, k, h, w = self.maps.shape
        return f"Explanation({n} pictures x {k} targets, maps {h}x{w}, layer={self.layer!r}, method={self.method!r})"

    def heatmaps(self, *, scale: str = "map") -> Array:
        """The maps at the pictures' size.

        Args:
            scale: "map" divides each map by its own maximum, "shared" all of them by the one maximum of all.

        Returns:
            (N, K, H, W) float32 in [0, 1]; a zero map stays zero.
        """
        return render.heatmaps(self.maps, self.probes.pictures.shape[1:3], scale=scale)

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

    def predictions(self, top: int = 5) -> list[list[tuple[int, str, float]]]:
        """The classes that the model thinks most likely.

        Returns:
            For each picture (index, name, probability), the likeliest first. A model whose outputs are not
            probabilities gives its score instead.
        """
        order = np.argsort(-self.outputs, axis=1, kind="stable")[:, :top]
        return [
            [(int(c), self.probes.class_name(int(c)), float(self.outputs[n, c])) for c in classes]
            for n, classes in enumerate(order)
        ]

    def question(self, n: int, k: int) -> str:
        """The title of a panel: "What made you think tabby?"."""
        asked = f"What made you think {self.probes.class_name(int(self.explained[n, k]))}"
        against = int(self.probes.target_matrix[n, k, 1])
        if against != NO_CLASS:
            asked += f" rather than {self.probes.class_name(against)}"
        return f"{asked}?"

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

    def save(self, directory: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Writes the overlays as PNG, the numbers as maps.npz and their description as manifest.json.

        Args:
            directory: made if it is missing.
            overwrite: whether files of an earlier explanation may be replaced.

        Returns:
            The files written.

        Raises:
            FileExistsError: if one of the files is there and `overwrite` is false; then nothing is written.
        """
        from PIL import Image

        folder = Path(directory)
        probe_slugs, target_slugs = slugs(self.names), slugs(self.target_names)
        pictures = {
            folder / f"{probe}.{target}.png": (n, k)
            for n, probe in enumerate(probe_slugs)
            for k, target in enumerate(target_slugs)
        }
        files = [*pictures, folder / "maps.npz", folder / "manifest.json"]
        there = [file for file in files if file.exists()]
        if there and not overwrite:
            raise FileExistsError(f"'{there[0]}' is there already; choose another folder or pass overwrite=True.")
        folder.mkdir(parents=True, exist_ok=True)
        overlays = self.overlays()
        for file, (n, k) in pictures.items():
            Image.fromarray(overlays[n, k]).save(file)
        np.savez_compressed(folder / "maps.npz", **self.arrays())  # type: ignore[arg-type]
        manifest = self.description() | {"files": [file.name for file in pictures]}
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

    The model is left exactly as it was found; later changes of its weights are followed.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        layer: str | None = None,
        method: str = "gradcam",
        output: str | int | None = None,
        batch_size: int = 32,
    ) -> None:
        """Takes the model; the graph is traced when the first pictures come.

        Args:
            model: a built Keras model on the TensorFlow backend.
            layer: the path ("backbone/top_conv") or unique name of the layer; None picks the last map on the way to
                the score.
            method: a name in `gradcam_callbacks.methods.METHODS`.
            output: the head of a multi-output model, by name or index.
            batch_size: how many pictures go through the model at once.

        Raises:
            ValueError: if the method does not exist or batch_size is not positive.
        """
        from gradcam_callbacks.methods import METHODS

        if method not in METHODS:
            raise ValueError(f"No method '{method}'. The methods: {', '.join(sorted(METHODS))}.")
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}.")
        self.model = model
        self.method = method
        self.batch_size = batch_size
        self._layer = layer
        self._output = output
        self._captures: dict[tuple[Any, ...], Capture] = {}

    @property
    def traces(self) -> int:
        """How many graphs were traced: one for each shape and dtype of pictures and number of targets."""
        return len(self._captures)

    def prepare(self, probes: Any) -> Capture:
        """Traces the graph for these probes, and checks them against the model, without running it.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.

        Raises:
            ValueError: if the model, the layer or the probes cannot be explained; the message says what to do.
        """
        from gradcam_callbacks import capture
        from gradcam_callbacks.methods import METHODS

        probes = as_probes(probes)
        key = (probes.images.shape[1:], probes.images.dtype, len(probes.targets))
        if key not in self._captures:
            traced = capture.trace(
                self.model,
                METHODS[self.method],
                layer=self._layer,
                output=self._output,
                images=probes.images,
                target_count=len(probes.targets),
            )
            others = ", ".join(info.path for info in traced.runners_up[:3])
            logger.info(
                "Explaining layer %s %s%s", traced.layer.path, traced.layer.shape, f" (or: {others})" if others else ""
            )
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
        """Explains every probe for every target, in one forward pass a batch.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.

        Raises:
            ValueError: see `prepare`.
        """
        probes = as_probes(probes)
        traced = self.prepare(probes)
        batches = [
            traced(
                probes.images[start : start + self.batch_size],
                probes.target_matrix[start : start + self.batch_size],
            )
            for start in range(0, len(probes), self.batch_size)
        ]
        captured = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        maps, health = _with_health(captured)
        probabilities = None
        if traced.has_probabilities:
            probabilities = np.take_along_axis(captured["outputs"], captured["explained"], axis=1)
            probabilities = np.where(probes.target_matrix[..., 1] == NO_CLASS, probabilities, np.float32(np.nan))
        return Explanation(
            maps=maps,
            scores=captured["scores"],
            probabilities=probabilities,
            outputs=captured["outputs"],
            predicted=captured["predicted"],
            explained=captured["explained"],
            health=health,
            score_kind=traced.score_kind,
            layer=traced.layer.path,
            method=self.method,
            probes=probes,
        )


def _check_classes(probes: ProbeSet, classes: int | None, model_name: str) -> None:
    """Raises if a probe asks for a class that the model does not have."""
    if classes is None:
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
    finite = np.isfinite(raw).all(axis=(2, 3)) & np.isfinite(captured["scores"])
    maps = np.where(finite[..., None, None], raw, np.float32(0))
    highest, lowest = maps.max(axis=(2, 3)), maps.min(axis=(2, 3))
    flat = highest - lowest <= 1e-6 * highest
    health = np.select(
        [~finite, captured["gradient_peak"] == 0, highest == 0, flat],
        ["non-finite", "zero-gradient", "empty", "flat"],
        "ok",
    )
    return maps, health
