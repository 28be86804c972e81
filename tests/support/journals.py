"""Journals made by hand: attention that jumps, names that bite."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.manifests import a_manifest

from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import drift

Array = np.ndarray[Any, np.dtype[Any]]

HOSTILE = "</script><script>document.title='x'</script>"
JAPANESE = "青い花"


def encoded_mask(mask: Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def blob_at(x: float, y: float, height: int = 7, width: int = 7, spread: float = 0.12) -> Array:
    """(height, width) float32 with one peak; x and y in shares of the sides."""
    rows, columns = np.mgrid[:height, :width]
    far = ((columns + 0.5) / width - x) ** 2 + ((rows + 0.5) / height - y) ** 2
    return np.exp(-far / (2 * spread**2)).astype(np.float32)


def place_of(step: int, n: int = 0, k: int = 0, width: int = 7) -> tuple[float, float]:
    """Where the blob of `make_journal` is: the centre of a cell, another one at each step."""
    return ((step + 2 * k + 1) % width + 0.5) / width, ((n + step // 3 + 1) % width + 0.5) / width


def make_journal(
    folder: Path,
    *,
    names: Sequence[str] = ("cat", "dog"),
    targets: Sequence[str] = ("predicted", "tabby"),
    class_names: Sequence[str] | None = ("tabby", "beagle", "cup"),
    steps: Sequence[int] = tuple(range(-1, 5)),
    pictures: Array | None = None,
    maps: Mapping[int, Array] | None = None,
    grid: tuple[int, ...] = (7, 7),
    regions: Sequence[Array | None] | None = None,
    empty: tuple[int, int] | None = None,
    states: Mapping[tuple[int, int], str] | None = None,
    digest: str = "a" * 64,
    has_probabilities: bool = True,
    **manifest: Any,
) -> Journal:
    """A journal whose blobs move by a cell a step, unless other maps are given; `states` are of (probe, target)."""
    count, kinds = len(names), len(targets)
    if pictures is None:
        pictures = np.full((count, 48, 64, 3), 255, np.uint8)
    described = {
        "probes": digest,
        "labels": [n % 3 for n in range(count)],
        "class_names": class_names,
        "layer": "top_conv",
        "run_id": folder.name,
        "regions": None if regions is None else [None if mask is None else encoded_mask(mask) for mask in regions],
        **manifest,
    }
    content = a_manifest(names, targets, **described)
    journal = Journal.create(folder, manifest=content, pictures=pictures)
    for step in steps:
        if maps is not None:
            now = maps[step]
        else:
            blobs = [[blob_at(*place_of(step, n, k), *grid) for k in range(kinds)] for n in range(count)]
            now = np.array(blobs, np.float32) * (2 + max(step, 0))
        if empty is not None:
            now[empty] = 0
        predicted = np.array([n % 3 if step > 1 else (n + 1) % 3 for n in range(count)], np.int32)
        explained = np.stack([predicted, *[np.full(count, k, np.int32) for k in range(kinds - 1)]], axis=1)
        axes = tuple(range(2, now.ndim))
        arrays: dict[str, Array] = {
            "maps": now,
            "scores": np.full((count, kinds), 2.5, np.float32) + step,
            "predicted": predicted,
            "explained": explained,
            "health": np.where(now.max(axis=axes) > 0, "ok", "empty").astype("<U13"),
            "floor": np.full((count, kinds), 0.02),
        }
        for place, state in (states or {}).items():
            arrays["health"][place] = state
        if has_probabilities:
            arrays["probabilities"] = np.full((count, kinds), 0.25, np.float32)
        if regions is not None:
            masks = np.stack([np.zeros(pictures.shape[1:3], bool) if mask is None else mask for mask in regions])
            arrays["focus"] = drift.focus(now, masks)
        logs = {} if step < 0 else {"accuracy": 0.5 + step / 100, "loss": 2 - step / 100}
        journal.append(step, arrays, logs)
    return journal


def jumping(steps: Sequence[int], at: int, count: int = 1, kinds: int = 1) -> dict[int, Array]:
    """Maps that rest, and jump once to the other side."""
    maps = {}
    for step in steps:
        x = 0.2 if step < at else 0.8
        maps[step] = np.broadcast_to(blob_at(x, 0.5, spread=0.08), (count, kinds, 7, 7)).copy()
    return maps
