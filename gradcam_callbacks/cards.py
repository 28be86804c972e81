"""What MLflow shows of a record: the metrics of a step, tiles, the strip, animations. Pure functions of a journal."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gradcam_callbacks import render
from gradcam_callbacks.journal import BASELINE, HEALTHS, Step
from gradcam_callbacks.probes import explained_name, region

Array = np.ndarray[Any, np.dtype[Any]]

_KINDS = {"scores": "score", "probabilities": "probability", "drift": "drift", "focus": "focus", "pointing": "pointing"}
# MLflow shows 87 pixels of a description, and fades out what is longer, so that it cannot be clicked: room for a line
# of the user's and this.
_STRIP_HEIGHT, _STRIP_CAPTION, _STRIP_TITLE, _STRIP_GAP, _STRIP_FRAMES = 55, 13, 66, 3, 12
_ANIMATION_FRAMES, _FRAME_MILLISECONDS = 60, 600


def step_metrics(recorded: Step, manifest: Mapping[str, Any]) -> dict[str, float]:
    """What a step says in numbers, by MLflow key; what is not finite is left out."""
    arrays = recorded.arrays
    metrics = {}
    for array, kind in _KINDS.items():
        if array not in arrays:
            continue
        for n, probe in enumerate(manifest["probe_slugs"]):
            for k, target in enumerate(manifest["target_slugs"]):
                metrics[f"gradcam_{kind}/{probe}.{target}"] = float(arrays[array][n, k])
        if kind in ("drift", "focus", "pointing"):
            metrics[f"gradcam_{kind}/mean"] = _mean(arrays[array])
    if "floor" in arrays:
        metrics["gradcam_drift/noise_floor"] = _mean(arrays["floor"])
    if "lost" in arrays:
        metrics["gradcam_health/lost"] = float(arrays["lost"])
    for state in HEALTHS:  # last, so that the last of them says that all have arrived
        metrics[f"gradcam_health/{state}"] = float((arrays["health"] == state).sum())
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def _mean(values: Array) -> float:
    """Of what is known; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def step_tile(recorded: Step, manifest: Mapping[str, Any], pictures: Array, n: int) -> Array:
    """The tile of one probe: the picture and one overlay a target, with their names burnt in; the region is outlined.

    Args:
        recorded: the step.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.
        n: which probe.

    Returns:
        (height, width, 3) uint8.
    """
    arrays = recorded.arrays
    captions = [
        (explained_name(manifest, k, arrays["explained"][n, k]), _value_of(arrays, n, k))
        for k in range(len(manifest["targets"]))
    ]
    return render.tile(
        pictures[n],
        _overlays(recorded, manifest, pictures, n),
        title=f"{_when(recorded, manifest)}: {manifest['names'][n]}",
        captions=captions,
        region=region(manifest, n),
    )


def strip(steps: Sequence[Step], manifest: Mapping[str, Any], pictures: Array) -> Array:
    """A low band of the map that moved the most, at up to 12 steps from the first to the last; made to be a link.

    Args:
        steps: at least one, in order.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.

    Returns:
        (55, width, 3) uint8.
    """
    moved = np.zeros(steps[0].arrays["scores"].shape)
    for recorded in steps:
        moved += np.nan_to_num(recorded.arrays.get("drift", 0.0))
    n, k = np.unravel_index(int(moved.argmax()), moved.shape)
    font = ImageFont.truetype(render.font_path(), 10)
    height, width = pictures.shape[1:3]
    size = (max(20, round((_STRIP_HEIGHT - _STRIP_CAPTION) * width / height)), _STRIP_HEIGHT - _STRIP_CAPTION)
    frames = _thinned(steps, _STRIP_FRAMES)
    sheet = Image.new("RGB", (_STRIP_TITLE + len(frames) * (size[0] + _STRIP_GAP) - _STRIP_GAP, _STRIP_HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    middle = (_STRIP_HEIGHT + _STRIP_CAPTION) / 2
    title = ImageFont.truetype(render.font_path(), 12)
    draw.text((0, middle), "Grad-CAM\nreview ›", fill="#2272b4", font=title, anchor="lm")
    for place, recorded in enumerate(frames):
        overlay = _overlays(recorded, manifest, pictures, int(n))[k]
        x = _STRIP_TITLE + place * (size[0] + _STRIP_GAP)
        sheet.paste(Image.fromarray(overlay).resize(size, Image.Resampling.LANCZOS), (x, _STRIP_CAPTION))
        number = "start" if recorded.step == BASELINE else str(recorded.step)
        draw.text((x + size[0] / 2, _STRIP_CAPTION / 2), number, fill="#444444", font=font, anchor="mm")
    return np.asarray(sheet)


def animation(steps: Sequence[Step], manifest: Mapping[str, Any], pictures: Array, n: int) -> bytes:
    """The tiles of one probe as an animated WebP, at up to 60 steps.

    Args:
        steps: at least one, in order.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.
        n: which probe.
    """
    frames = [
        Image.fromarray(step_tile(recorded, manifest, pictures, n)) for recorded in _thinned(steps, _ANIMATION_FRAMES)
    ]
    buffer = io.BytesIO()
    durations = [_FRAME_MILLISECONDS] * (len(frames) - 1) + [3 * _FRAME_MILLISECONDS]
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80, method=2
    )
    return buffer.getvalue()


def _thinned(steps: Sequence[Step], most: int) -> list[Step]:
    """Evenly spaced ones, the first and the last among them."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    return [steps[place] for place in places]


def _overlays(recorded: Step, manifest: Mapping[str, Any], pictures: Array, n: int) -> Array:
    """(K, H, W, 3) uint8, of one probe."""
    maps = recorded.arrays["maps"][n : n + 1]
    heatmaps = render.heatmaps(maps, pictures.shape[1:3], slices=manifest["slices"])
    overlays: Array = render.overlays(pictures[n : n + 1], heatmaps)[0]
    return overlays


def _when(recorded: Step, manifest: Mapping[str, Any]) -> str:
    if recorded.step == BASELINE:
        return "before training"
    return f"{manifest['unit']} {recorded.step}{' (cut short)' if 'cut_short' in recorded.arrays else ''}"


def _value_of(arrays: Mapping[str, Array], n: int, k: int) -> str:
    """The probability of what an overlay explains, or its score, or what is wrong with the map."""
    if arrays["health"][n, k] != "ok":
        return str(arrays["health"][n, k])
    if "probabilities" in arrays and np.isfinite(arrays["probabilities"][n, k]):
        return f"{arrays['probabilities'][n, k]:.2f}"
    return f"{arrays['scores'][n, k]:.1f}"
