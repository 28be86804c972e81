"""Explanation: what a model looked at, in numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks import drawing, notebook
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import AlreadyThereError, GradCAMError
from gradcam_callbacks.explaining.gradients import summary_of_gradients
from gradcam_callbacks.names import class_name
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.probes.targets import NO_CLASS
from gradcam_callbacks.record.health import HEALTH, in_place, value_of

if TYPE_CHECKING:
    from gradcam_callbacks.drawing.shown_figure import ShownFigure

_SHOWN_BY_NOTEBOOKS = 4  # pictures


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
        health: (N, K) str, the state of each map: a key of `HEALTH`. "ok", "empty" (nothing positive), "flat" (the same
            everywhere), "zero-gradient" (the score does not react to the layer), "non-finite" (NaN or infinity; the map
            is then zero) or "misplaced" (its places are not those of the picture, over which it is not drawn).
        score_kind: "logit" or "probability".
        layer: the path of the layer; of several joined by " + ".
        method: the name of the CAM method.
        notes: what to know of the layer, in whole sentences, such as a guess that was made, or where its places lie.
        probes: the pictures and targets that were explained.
        activations: (N, *grid, C) float32, A, what the layer gave; None unless gradients were kept.
        gradients: (N, K, *grid, C) float32, dy/dA of each target's score y; None unless they were kept. Not to be
            written to: where all places of the grid have the same gradient, it is in memory once.
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
    notes: tuple[str, ...]
    probes: ProbeSet
    activations: Array | None = None
    gradients: Array | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """N names of the pictures."""
        return self.probes.names

    @property
    def target_names(self) -> tuple[str, ...]:
        """K names of the targets."""
        return self.probes.target_names

    @property
    def weights(self) -> Array | None:
        """(N, K, C) float32, how much Grad-CAM counts each channel: the mean of its gradients (2017, eq. 1)."""
        return None if self.gradients is None else self.gradients.mean(axis=tuple(range(2, self.gradients.ndim - 1)))

    def __repr__(self) -> str:
        (n, k), grid = self.maps.shape[:2], "x".join(map(str, self.maps.shape[2:]))
        return f"Explanation({n} pictures x {k} targets, maps {grid}, layer={self.layer!r}, method={self.method!r})"

    def heatmaps(self, *, scale: str = "map") -> Array:
        """The maps at the pictures' size.

        Args:
            scale: "map" divides each map by its own maximum, "shared" all of them by the one maximum of all.

        Returns:
            (N, K, H, W) float32 in [0, 1]; a zero map stays zero, and a misplaced one is zero. Of a signal along the
            picture of its curve, of a volume on the picture of its slices.
        """
        return self._heatmaps(self.probes.pictures.shape[1:3], scale)

    def overlays(self, *, alpha: float = drawing.ALPHA, colormap: str = drawing.COLORMAP, scale: str = "map") -> Array:
        """The heatmaps in colour over the pictures.

        Args:
            alpha: share of the colour where the heat is highest, in [0, 1]; where there is none, there is no colour.
            colormap: any name that matplotlib knows. The default is brightest at the maximum; "turbo" and "jet" are
                dark there.
            scale: see `heatmaps`.

        Returns:
            (N, K, H, W, 3) uint8.
        """
        return drawing.overlays(self.probes.pictures, self.heatmaps(scale=scale), alpha=alpha, colormap=colormap)

    def overlays_on(
        self,
        n: int,
        picture: Array,
        *,
        alpha: float = drawing.ALPHA,
        colormap: str = drawing.COLORMAP,
        scale: str = "map",
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
        heatmaps = self._heatmaps(picture.shape[:2], scale)[n : n + 1]
        overlays: Array = drawing.overlays(picture[None], heatmaps, alpha=alpha, colormap=colormap)[0]
        return overlays

    def predictions(self, top: int = 5) -> list[list[tuple[int, str, float]]]:
        """The classes that the model thinks most likely.

        Returns:
            For each picture (index, name, probability), the likeliest first. A model whose outputs are not
            probabilities gives its score instead.

        Raises:
            GradCAMError: if the model is no classifier.
        """
        if self.outputs is None:
            raise GradCAMError("The model has no classes to predict: its output is not (batch, classes).")
        order = np.argsort(-self.outputs, axis=1, kind="stable")[:, :top]
        return [
            [(int(c), self.probes.class_name(int(c)), float(self.outputs[n, c])) for c in classes]
            for n, classes in enumerate(order)
        ]

    def question(self, n: int, k: int) -> str:
        """What a map answers: "What made you think tabby?", or of a label that is not predicted what speaks for it."""
        return self._question(n, k, self.probes.class_name)

    def _question(self, n: int, k: int, name_of: Callable[[int], str]) -> str:
        explained = int(self.explained[n, k])
        if explained == NO_CLASS:
            return f"What made {self.target_names[k]} high?"
        name = name_of(explained)
        if self.probes.targets[k] == "label":
            is_predicted = explained == int(self.predicted[n])
            return f"What made you think {name}, the label?" if is_predicted else f"What speaks for {name}, the label?"
        against = int(self.probes.target_matrix[n, k, 1])
        rather = "" if against == NO_CLASS else f" rather than {name_of(against)}"
        return f"What made you think {name}{rather}?"

    def title(self, n: int, k: int) -> str:
        """The title of a panel: the question, and the probability, or the score, or what is wrong with the map."""
        probability = np.nan if self.probabilities is None else self.probabilities[n, k]
        value = value_of(self.health[n, k], probability, self.scores[n, k])
        return f"{self._question(n, k, self._written_class)} ({value})"

    def _written_class(self, index: int) -> str:
        """The name of a class as figures say it; by number where no font can write it."""
        return drawing.said(self.probes.class_name(index), class_name(None, index))

    def problems(self) -> list[str]:
        """A sentence on each kind of map that is not "ok": which they are, what that means and what to try."""
        found = []
        for state, advice in HEALTH.items():
            if state == "ok":
                continue
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

    def plot(
        self, *, alpha: float = drawing.ALPHA, colormap: str = drawing.COLORMAP, scale: str = "map"
    ) -> ShownFigure:
        """One row a picture: the picture, then one panel a target with its question as title."""
        return self._panels(len(self.names), alpha, colormap, scale)

    def _repr_html_(self) -> str:
        """What a notebook shows: the panels of the first pictures with their scores, and what is wrong with maps."""
        shown = min(_SHOWN_BY_NOTEBOOKS, len(self.names))
        panels = self._panels(shown, drawing.ALPHA, drawing.COLORMAP, "map").png()
        texts = [repr(self), *self.notes, *self.problems()]
        if shown < len(self.names):
            texts.append(f"The first {shown} of {len(self.names)} pictures are shown; plot() draws all.")
        return notebook.picture(panels, repr(self)) + "".join(notebook.paragraph(text) for text in texts)

    def _panels(self, count: int, alpha: float, colormap: str, scale: str) -> ShownFigure:
        """See `plot`; of the first pictures."""
        classes = {int(index) for index in self.explained.flat if index >= 0}
        drawing.warn_of_missing([*self.names, *map(self.probes.class_name, classes)])
        heatmaps = self.heatmaps(scale=scale)[:count]
        return drawing.figure(
            self.probes.pictures[:count],
            drawing.overlays(self.probes.pictures[:count], heatmaps, alpha=alpha, colormap=colormap),
            titles=[[self.title(n, k) for k in range(len(self.target_names))] for n in range(count)],
            picture_titles=[drawing.said(name, f"probe_{n}") for n, name in enumerate(self.names[:count])],
            colormap=colormap,
            scale=scale,
        )

    def gradient_summary(self, n: int = 0, k: int = 0) -> str:
        """Whether the gradients of a map vanish, explode or are well, in one sentence with the numbers behind it.

        Args:
            n: which picture.
            k: which target.

        Raises:
            GradCAMError: if the gradients were not kept.
        """
        activations, gradients = self._gradients_kept()
        return summary_of_gradients(activations[n], gradients[n, k])

    def plot_gradients(self, n: int = 0, k: int = 0, *, channels: int = 6) -> ShownFigure:
        """What one map is made of: the map with its values, the gradients, and the channels that decide.

        Above the picture under its heat, the raw map on the layer's grid, and a histogram of the gradients. Below the
        channels that speak most for the target, and those that speak most against it: `weights` times activations, of
        which Grad-CAM's map is the sum over all channels, where that is positive.

        Args:
            n: which picture.
            k: which target.
            channels: how many of each kind at most.

        Raises:
            GradCAMError: if the gradients were not kept, or `channels` is not positive.
        """
        if channels < 1:
            raise GradCAMError(f"At least 1 channel is drawn, not {channels}.", argument="channels")
        activations, gradients = self._gradients_kept()
        weights = gradients[n, k].mean(axis=tuple(range(gradients.ndim - 3)))
        drawing.warn_of_missing([self.names[n]])
        return drawing.gradient_figure(
            self.overlays_on(n, self.probes.pictures[n])[k],
            self.maps[n, k],
            gradients[n, k],
            weights * activations[n],
            title=f"{drawing.said(self.names[n], f'probe_{n}')}: {self.title(n, k)}",
            summary=self.gradient_summary(n, k),
            layer=self.layer,
            method=self.method,
            most=channels,
        )

    def _gradients_kept(self) -> tuple[Array, Array]:
        """The activations and the gradients.

        Raises:
            GradCAMError: if they were not kept.
        """
        if self.activations is None or self.gradients is None:
            raise GradCAMError(
                "The gradients of this explanation were not kept.",
                "Explain with {argument}.",
                argument="keep_gradients",
                value=True,
            )
        return self.activations, self.gradients

    def save(
        self, directory: str | Path, *, overwrite: bool = False, pictures: Iterable[Array] | None = None
    ) -> list[Path]:
        """Writes the overlays as PNG, the numbers as maps.npz and their description as manifest.json.

        Args:
            directory: made if it is missing.
            overwrite: whether files of an earlier explanation may be replaced.
            pictures: N of (H, W, 3) uint8, each of any size, to draw on; the probes' own by default. One is taken after
                the other, so that they need not be in memory together.

        Returns:
            The files written.

        Raises:
            AlreadyThereError: if one of the files is there and `overwrite` is false; then nothing is written.
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
        if not overwrite:
            refuse_to_replace(files)
        folder.mkdir(parents=True, exist_ok=True)
        drawn_on = self.probes.pictures if pictures is None else pictures
        maps = in_place(self.maps, self.health)
        for probe, picture in zip(range(len(probe_slugs)), drawn_on, strict=True):
            of_probe = [(file, k) for file, (n, k) in places.items() if n == probe]
            for file, k in of_probe:  # one at a time, for the memory
                heat = drawing.heatmaps(maps[probe, k][None, None], picture.shape[:2], slices=self.probes.slices)
                Image.fromarray(drawing.overlays(picture[None], heat)[0, 0]).save(file)
        np.savez_compressed(folder / "maps.npz", **self.arrays())  # type: ignore[arg-type]
        manifest = self.description() | {"files": [file.name for file in places]}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
        return files

    def _heatmaps(self, size: tuple[int, int], scale: str) -> Array:
        """See `heatmaps`; (N, K, *size)."""
        maps = in_place(self.maps, self.health)
        return drawing.heatmaps(maps, size, scale=scale, slices=self.probes.slices)

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
            "notes": list(self.notes),
            **self.probes.description(),
        }


def refuse_to_replace(files: Sequence[Path]) -> None:
    """Raises if one of the files is there.

    Raises:
        AlreadyThereError: and nothing has been written.
    """
    there = [file for file in files if file.exists()]
    if there:
        raise AlreadyThereError(
            f"'{there[0]}' is there already;",
            "choose another folder or pass {argument}.",
            argument="overwrite",
            value=True,
        )
