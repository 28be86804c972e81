"""The film: one picture of what the maps of runs did, drawn without a browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.drawing.fonts import Face, clean, shorten
from gradcam_callbacks.probes.slugs import ascii_slugs
from gradcam_callbacks.record.health import value_of
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing.assessing import Assessment
from gradcam_callbacks.reviewing.report import check_same_probes

MOST_FRAMES, MOST_ROWS = 12, 48
"""How many steps a film shows, and how many rows it has."""
# In pixels: the longer side of a frame, between frames, a line of text, and the column of names.
_FRAME, _GAP, _LINE, _NAMES = 112, 6, 17, 190
_TEXT, _MUTED, _WARNING, _EDGE = (29, 28, 26), (99, 95, 88), (168, 60, 0), (217, 212, 202)


@dataclass(frozen=True, eq=False)
class _Run:
    """A run, and at each step of the film the last one that it had by then, or None."""

    name: str
    journal: Journal
    found: Assessment
    steps: Sequence[Step | None]

    def is_flagged(self, step: int, n: int, k: int) -> bool:
        """Whether the attention of a map jumped at a step."""
        about = (step, n, k)
        return any(
            event.kind == "moved" and (event.step, event.probe, event.target) == about for event in self.found.events
        )


def film(names: Sequence[str], journals: Sequence[Journal], assessments: Sequence[Assessment]) -> Array:
    """A row each probe, target and run, in it the map at up to 12 steps, the first and the last among them.

    Below each map stands its probability, or the score, or what is wrong with it; in orange where attention jumped. Of
    more than 48 rows those are shown that moved the most, and that is said.

    Args:
        names: of the runs.
        journals: one a run, of the same probes.
        assessments: of the journals.

    Returns:
        (height, width, 3) uint8.

    Raises:
        GradCAMError: if the probes of the journals differ.
    """
    for journal, name in zip(journals[1:], names[1:], strict=True):
        check_same_probes(journals[0], journal, names[0], name)
    numbers = sorted({step.step for found in assessments for step in found.steps})
    places = np.unique(np.linspace(0, len(numbers) - 1, min(MOST_FRAMES, len(numbers))).round().astype(int))
    shown = [numbers[place] for place in places]
    runs = [
        _Run(name, journal, found, [_last_up_to(found.steps, number) for number in shown])
        for name, journal, found in zip(names, journals, assessments, strict=True)
    ]
    maps = _chosen(runs)
    return _drawn(runs, shown, maps)


def _last_up_to(steps: Sequence[Step], number: int) -> Step | None:
    return next((step for step in reversed(steps) if step.step <= number), None)


def _chosen(runs: Sequence[_Run]) -> list[tuple[int, int]]:
    """Probe and target of the rows, in the order of the record."""
    moved = sum(np.nan_to_num(run.found.measures["drift"]).sum(axis=0) for run in runs)
    most = max(1, MOST_ROWS // len(runs))
    order = np.argsort(-np.ravel(moved), kind="stable")[:most]
    return [divmod(int(place), np.shape(moved)[1]) for place in sorted(order)]


def _drawn(runs: Sequence[_Run], shown: Sequence[int], maps: Sequence[tuple[int, int]]) -> Array:
    manifest = runs[0].journal.manifest
    pictures = runs[0].journal.pictures()
    height, width = pictures.shape[1:3]
    scale = _FRAME / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    wide, high = max(size[0], 34) + _GAP, max(size[1], 3 * _LINE) + _LINE + _GAP
    left, top = _NAMES + 2 * _GAP, 3 * _LINE
    sheet = Image.new("RGB", (left + len(shown) * wide + _GAP, top + len(runs) * len(maps) * high + _GAP), "white")
    title, text, small = Face(14), Face(12), Face(11)
    room = sheet.width - 2 * _GAP
    title.draw(sheet, (_GAP, 0.8 * _LINE), shorten(_title(runs, len(maps)), room, title), _TEXT, "lm")
    for place, number in enumerate(shown):
        said = "before" if number == BASELINE else str(number)
        text.draw(sheet, (left + place * wide + size[0] / 2, 2.2 * _LINE), said, _MUTED, "mm")
    text.draw(sheet, (_GAP, 2.2 * _LINE), manifest.unit, _MUTED, "lm")
    for row, (n, k, run) in enumerate((n, k, run) for n, k in maps for run in runs):
        y = top + row * high
        probe = drawing.said(manifest.names[n], ascii_slugs(manifest.probe_slugs)[n])
        target = drawing.said(manifest.targets[k], ascii_slugs(manifest.target_slugs)[k])
        for line, words in enumerate([probe, target, *([run.name] if len(runs) > 1 else [])]):
            shade = _MUTED if line else _TEXT
            text.draw(sheet, (_GAP, y + (line + 0.6) * _LINE), shorten(clean(words), _NAMES, text), shade, "lm")
        for place, (picture, words, is_flagged) in enumerate(_frames(run, pictures[n], size, n, k)):
            x = left + place * wide
            sheet.paste(_EDGE, (x - 1, y - 1, x + size[0] + 1, y + size[1] + 1))
            sheet.paste(picture, (x, y))
            shade = _WARNING if is_flagged else _MUTED
            small.draw(sheet, (x + size[0] / 2, y + size[1] + 0.55 * _LINE), words, shade, "mm")
    return np.asarray(sheet)


def _title(runs: Sequence[_Run], count: int) -> str:
    manifest = runs[0].journal.manifest
    layers = {run.journal.manifest.layer: None for run in runs}
    methods = {run.journal.manifest.method: None for run in runs}
    every = len(manifest.names) * len(manifest.targets)
    left = f" · the {count} of {every} maps that moved the most" if count < every else ""
    about = f"{', '.join(run.name for run in runs)} · {', '.join(layers)} · {', '.join(methods)}"
    return f"{about} · each map over its own maximum{left}"


def _frames(
    run: _Run, picture: Array, size: tuple[int, int], n: int, k: int
) -> Iterator[tuple[Image.Image, str, bool]]:
    """The picture at each step with its heat, what is said of it, and whether that warns."""
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    for step in run.steps:
        if step is None:
            yield Image.blend(Image.fromarray(small), Image.new("RGB", size, "white"), 0.6), "–", False
            continue
        slices = run.journal.manifest.slices
        ground = small if slices is None else picture  # the slices of a volume do not go into any size
        heat = drawing.heatmaps(step.shown[n : n + 1, k : k + 1], ground.shape[:2], slices=slices)
        overlay = Image.fromarray(drawing.overlays(ground[None], heat)[0, 0])
        said = value_of(step.health[n, k], step.measured("probabilities")[n, k], step.scores[n, k])
        yield overlay.resize(size, Image.Resampling.LANCZOS), said, run.is_flagged(step.step, n, k)
