"""The tiles of a step, and animations of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401 (else Pillow loads all formats that it knows when the first one is saved)
)

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.probes.slugs import ascii_slugs
from gradcam_callbacks.publishing.store import EncodedTile
from gradcam_callbacks.record.health import value_of
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import BASELINE, Step

_PNG_LEVEL, _WEBP_METHOD = 3, 2
MOST_FRAMES = 60
"""Of an animation."""
_FRAME_MILLISECONDS = 600


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        probes: which are on it.
        row: for one row of them, how many pixels wide each is; else the sheet is nearly square.
    """

    probes: tuple[int, ...]
    row: int | None = None


def step_tile(recorded: Step, manifest: Manifest, pictures: Array, n: int) -> Array:
    """The tile of one probe: the picture and one overlay a target, with their names burnt in; the region is outlined.

    Args:
        recorded: the step.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.
        n: which probe.

    Returns:
        (height, width, 3) uint8.
    """
    probabilities = recorded.measured("probabilities")
    captions = [
        (
            _explained(manifest, k, int(recorded.explained[n, k])),
            value_of(recorded.health[n, k], probabilities[n, k], recorded.scores[n, k]),
        )
        for k in range(len(manifest.targets))
    ]
    return drawing.tile(
        pictures[n],
        overlays_of(recorded, manifest, pictures, n),
        title=f"{_when(recorded, manifest)}: {drawing.said(manifest.names[n], ascii_slugs(manifest.probe_slugs)[n])}",
        captions=captions,
        region=manifest.region(n),
    )


def step_sheet(recorded: Step, manifest: Manifest, pictures: Array, shown: Sheet) -> Array:
    """The contact sheet of a step: one picture a probe, under the heat of the first target.

    Captions have the names of the probes, and what is wrong with a map; of many probes there are none. The title says
    how many maps say nothing about where.

    Args:
        recorded: the step.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.
        shown: which probes.

    Returns:
        (height, width, 3) uint8.
    """
    probes = list(shown.probes)
    heatmaps = drawing.heatmaps(recorded.shown[probes][:, :1], pictures.shape[1:3], slices=manifest.slices)
    keys = ascii_slugs(manifest.probe_slugs)
    states = [str(recorded.health[n, 0]) for n in probes]
    silent = sum(state != "ok" for state in states)
    title = f"{_when(recorded, manifest)}: {drawing.said(manifest.targets[0], 'target_0')}"
    return drawing.sheet(
        drawing.overlays(pictures[probes], heatmaps)[:, 0],
        title=f"{title}, {silent} say nothing" if silent else title,
        captions=[
            (drawing.said(manifest.names[n], keys[n]), "" if state == "ok" else state)
            for n, state in zip(probes, states, strict=True)
        ],
        regions=[manifest.region(n) for n in probes],
        row=shown.row,
    )


def encoded(tile: Array) -> EncodedTile:
    """A tile as MLflow keeps it.

    Args:
        tile: (height, width, 3) uint8.
    """
    image, png, small = Image.fromarray(tile), io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", compress_level=_PNG_LEVEL)
    factor = min(drawing.CARD[0] / image.height, drawing.CARD[1] / image.width)
    size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
    image.resize(size).save(small, "WEBP", method=_WEBP_METHOD)
    return EncodedTile(png.getvalue(), small.getvalue())


def animation(steps: Sequence[Step], manifest: Manifest, pictures: Array, n: int) -> bytes:
    """The tiles of one probe as an animated WebP, at up to 60 steps.

    Args:
        steps: at least one, in order.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.
        n: which probe.
    """
    frames = [Image.fromarray(step_tile(recorded, manifest, pictures, n)) for recorded in thinned(steps, MOST_FRAMES)]
    buffer = io.BytesIO()
    durations = [_FRAME_MILLISECONDS] * (len(frames) - 1) + [3 * _FRAME_MILLISECONDS]
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80, method=2
    )
    return buffer.getvalue()


def thinned(steps: Sequence[Step], most: int) -> list[Step]:
    """Evenly spaced ones, the first and the last among them."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    return [steps[place] for place in places]


def overlays_of(recorded: Step, manifest: Manifest, pictures: Array, n: int) -> Array:
    """(K, H, W, 3) uint8, of one probe."""
    maps = recorded.shown[n : n + 1]
    heatmaps = drawing.heatmaps(maps, pictures.shape[1:3], slices=manifest.slices)
    overlays: Array = drawing.overlays(pictures[n : n + 1], heatmaps)[0]
    return overlays


def _explained(manifest: Manifest, k: int, explained: int) -> str:
    """What a map explains; by number where no font can write it."""
    number = f"class_{explained}" if explained >= 0 else f"target_{k}"
    return drawing.said(manifest.explained_name(k, explained), number)


def _when(recorded: Step, manifest: Manifest) -> str:
    if recorded.step == BASELINE:
        return "before training"
    return f"{manifest.unit} {recorded.step}{' (cut short)' * recorded.is_cut_short}"
