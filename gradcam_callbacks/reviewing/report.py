"""The review page: journals in, one HTML file out that needs no network.

Template, style and the modules of the script lie in the folder `page`; the data is in the page as JSON. What that is,
down to the numbers in an array, is described once, by the typedef `PageData` in `page/js/types.js`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.files import write_whole
from gradcam_callbacks.record.health import HEALTHS
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.measures import MEASURES, Measure
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing import findings
from gradcam_callbacks.reviewing.assessing import Assessment, assess
from gradcam_callbacks.reviewing.events import CONSTANT, Event
from gradcam_callbacks.reviewing.measuring import Measures, step_means
from gradcam_callbacks.reviewing.outlines import outline
from gradcam_callbacks.reviewing.proof import proof
from gradcam_callbacks.reviewing.script import script
from gradcam_callbacks.reviewing.sentences import SETTLED, SETTLED_TIMES_FLOOR
from gradcam_callbacks.reviewing.suspicion import own_focus
from gradcam_callbacks.reviewing.verdict import Verdict
from gradcam_callbacks.reviewing.words import quoted

logger = logging.getLogger(__name__)

COLORMAPS = (drawing.COLORMAP, "viridis", "inferno", "turbo", "jet", "Greys")
# All the maps of a page take this many bytes at most, and no page has more steps than this; others are left out.
_MAP_BYTES, _MOST_STEPS = 2_000_000, 400
# The longest side of a grid, in cells. Where the next smaller one saves steps from being left out, it is taken.
_GRIDS, _FEW_STEPS = (28, 20, 14, 10), 40
_SIGNAL_CELLS, _VOLUME_CELLS = 128, 56
# The longest side of a picture on the page, in pixels: of few probes, and of many.
_PICTURE, _SMALL_PICTURE, _MANY_PROBES = 448, 256, 24
_WEBP_QUALITY = 82
_LOSSLESS_SIDE = 64
# How many events of a kind are listed.
_MOST_EVENTS = 200
_WARNINGS = (CONSTANT, "moved", "suspect", "shortcut")


@dataclass(frozen=True, eq=False)
class _Run:
    """A journal that was read and measured."""

    name: str
    link: str | None
    manifest: Manifest
    steps: Sequence[Step]
    measures: Measures
    events: Sequence[Event]
    summary: str
    damaged: int
    tests: Mapping[int, Reliance]
    verdict: Verdict

    @property
    def flagged(self) -> set[int]:
        """The steps of the warnings, and for each the step before: from where the attention moved."""
        warned = {event.step for event in self.events if event.kind in _WARNINGS}
        numbers = self.measures.steps
        return warned | {before for before, step in itertools.pairwise(numbers) if step in warned}


def build(
    journals: Sequence[Journal],
    *,
    names: Sequence[str] | None = None,
    links: Sequence[str | None] | None = None,
    assessments: Sequence[Assessment] | None = None,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The review page of one journal, or of several side by side, aligned by probe and step.

    Args:
        journals: of the same probes; the first one's names of them are shown.
        names: of the runs; by default the name or id that the journal has, or its folder's.
        links: an address (http or https) of each run, or None.
        assessments: of each journal, where it has been assessed already.
        title: of the page; by default the names of the runs.
        notes: what a reader has to know beside.

    Returns:
        HTML that loads nothing else.

    Raises:
        GradCAMError: if there is no journal, one has no step, the probes differ, or names and links do not fit.
    """
    journals = list(journals)
    if not journals:
        raise GradCAMError("No journal to report; pass at least one.")
    names = distinct([_default_name(journal) for journal in journals] if names is None else names)
    links = [None] * len(journals) if links is None else list(links)
    if not len(names) == len(links) == len(journals):
        raise GradCAMError(f"{len(journals)} journals, but {len(names)} names and {len(links)} links; pass one each.")
    for link in links:
        if link is not None and not re.match(r"https?://", link):
            raise GradCAMError(f"A link starts with http:// or https://, not {link!r}.")
    for journal, name in zip(journals[1:], names[1:], strict=True):
        check_same_probes(journals[0], journal, names[0], name)
    units = [journal.manifest.unit for journal in journals]
    for name, unit in zip(names, units, strict=True):
        if unit != units[0]:
            raise GradCAMError(
                f"A step of '{names[0]}' is one {units[0]}, of '{name}' one {unit}: they cannot be aligned, so "
                "write two pages."
            )
    if assessments is None:
        assessments = [assess(journal, read_steps(journal)) for journal in journals]
    runs = [_run(*of_run) for of_run in zip(journals, assessments, names, links, strict=True)]
    data = _content(runs, journals[0].pictures(), notes)
    return _page(
        data, title or ", ".join(names), " ".join(f"Verdict: {run.verdict.name}. {run.summary}" for run in runs)
    )


def write(
    journals: Sequence[Journal],
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    links: Sequence[str | None] | None = None,
    assessments: Sequence[Assessment] | None = None,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes the review page; a page that is there is replaced as a whole.

    Args:
        journals: see `build`.
        path: of the file; its folder is made if it is missing.
        names: see `build`.
        links: see `build`.
        assessments: see `build`.
        title: see `build`.
        notes: see `build`.

    Returns:
        The path.

    Raises:
        GradCAMError: see `build`.
        OSError: if the file cannot be written.
    """
    page = build(journals, names=names, links=links, assessments=assessments, title=title, notes=notes)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page.encode(), is_durable=False)
    return path


def _default_name(journal: Journal) -> str:
    manifest = journal.manifest
    return str(manifest.run_name or manifest.run_id or journal.directory.name)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where they are the same."""
    return [
        name if names[:position].count(name) == 0 else f"{name} ({names[:position].count(name) + 1})"
        for position, name in enumerate(names)
    ]


def check_same_probes(first: Journal, other: Journal, first_name: str, other_name: str) -> None:
    """Raises where two journals were made with different probes, and says how they differ."""
    before, now = first.manifest, other.manifest
    if before.probes == now.probes:
        return
    reasons = []
    for what, then, here in (("probes", before.names, now.names), ("targets", before.targets, now.targets)):
        only_before, only_now = _without(then, here), _without(here, then)
        if only_before:
            reasons.append(f"only '{first_name}' has the {what} {quoted(only_before)}")
        if only_now:
            reasons.append(f"only '{other_name}' has the {what} {quoted(only_now)}")
        if then != here and not only_before and not only_now:
            reasons.append(f"the {what} are in another order")
    if not reasons:
        pairs = zip(before.names, before.pictures, now.pictures, strict=True)
        changed = [name for name, picture, other_picture in pairs if picture != other_picture]
        reasons.append(
            f"the pixels of {quoted(changed)} differ"
            if changed
            else "the pictures look the same, but what the model was fed, or the classes explained, differ"
        )
    raise GradCAMError(f"'{first_name}' and '{other_name}' have different probes: {'; '.join(reasons)}.")


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    left = list(names)
    for name in others:
        if name in left:
            left.remove(name)
    return left


def read_steps(journal: Journal) -> list[Step]:
    """A journal's steps, in order; damaged ones are left out, and those on another grid than most."""
    steps = []
    for number in journal.steps():
        with contextlib.suppress(OSError, ValueError):  # damaged between the two calls
            steps.append(journal.read(number))
    if not steps:
        return []
    usual = Counter(step.maps.shape[2:] for step in steps).most_common(1)[0][0]
    others = [str(step.step) for step in steps if step.maps.shape[2:] != usual]
    if others:
        logger.warning(
            "Most maps of journal '%s' are %s. Those of these steps have another size and cannot be compared, so that "
            "the page leaves them out: %s.",
            journal.directory,
            "×".join(map(str, usual)),
            ", ".join(others),
        )
    return [step for step in steps if step.maps.shape[2:] == usual]


def _run(journal: Journal, found: Assessment, name: str, link: str | None) -> _Run:
    """A journal with what can be said of it."""
    return _Run(
        name=name,
        link=link,
        manifest=journal.manifest,
        steps=found.steps,
        measures=found.measures,
        events=found.events,
        summary=found.summary,
        damaged=max(0, len(list((journal.directory / "steps").glob("*.npz"))) - len(found.steps)),
        tests=found.tests,
        verdict=found.verdict,
    )


def _content(runs: Sequence[_Run], pictures: Array, notes: Sequence[str]) -> dict[str, Any]:
    """What the script gets, as JSON takes it: the `PageData` of `page/js/types.js`."""
    manifest = runs[0].manifest
    grids, kept = _plan(runs, pictures.shape[1:3])
    used: set[int] = set(manifest.labels or ())
    for run in runs:
        used.update(finding.answer for test in run.tests.values() for finding in test.findings)
        for step in run.steps:
            used.update(np.unique(step.predicted).tolist(), np.unique(step.explained).tolist())
    return {
        "unit": manifest.unit,
        "names": manifest.names,
        "targets": manifest.targets,
        "labels": manifest.labels,
        "classes": {str(index): manifest.class_name(index) for index in sorted(used) if index >= 0},
        "size": list(pictures.shape[1:3]),
        "pictures": _encoded(pictures),
        "regions": [outline(manifest.region(n)) for n in range(len(manifest.names))],
        "crowded": len(pictures) > _MANY_PROBES,
        "colormaps": {name: _packed(_paints(name), np.uint8) for name in COLORMAPS},
        "opacity": drawing.ALPHA,
        "healths": HEALTHS,
        "warnings": _WARNINGS,
        "settled": {"drift": SETTLED, "floors": SETTLED_TIMES_FLOOR},
        "measures": {
            name: {"title": row.title, "says": row.says, "unit": row.unit, "low": row.low, "high": row.high}
            for name, row in _shown_measures().items()
        },
        "runs": [_of_run(run, grid, kept, pictures.shape[1:3], notes) for run, grid in zip(runs, grids, strict=True)],
    }


def _of_run(
    run: _Run, grid: tuple[int, int], kept: set[int], size: tuple[int, int], notes: Sequence[str]
) -> dict[str, Any]:
    """What the script gets of a run: the `RunData` of `page/js/types.js`."""
    shown = [s for s, step in enumerate(run.steps) if step.step in kept]
    steps = [run.steps[s] for s in shown]
    maps, peaks = _quantised([_on_grid(step.shown, grid, size, run.manifest.slices) for step in steps])
    measures = run.measures
    probabilities = measures["probabilities"][shown]
    health = np.select([np.stack([step.health for step in steps]) == name for name in HEALTHS], range(len(HEALTHS)))
    return {
        "name": run.name,
        "link": run.link,
        "layer": run.manifest.layer,
        "method": run.manifest.method,
        "score": run.manifest.score_kind,
        "grid": list(grid),
        "shape": list(run.steps[0].maps.shape[2:]),
        "steps": [step.step for step in steps],
        "maps": _packed(maps, np.uint8),
        "peaks": _packed(peaks, np.float32),
        "scores": _packed(measures["scores"][shown], np.float32),
        "probabilities": _packed_shares(probabilities) if np.isfinite(probabilities).any() else None,
        "predicted": _packed(np.stack([step.predicted for step in steps]), np.int32),
        "explained": _packed(np.stack([step.explained for step in steps]), np.int32),
        "health": _packed(health, np.uint8),
        "measures": _packed_measures(measures, shown),
        "curves": _curves(run),
        "verdict": run.verdict.name,
        "summary": _told(run),
        "tests": _tests(run),
        "events": _listed_events(run),
        "notes": [*run.manifest.notes, *_notes(run, len(steps)), *_unlisted_events(run), *notes],
    }


def _plan(runs: Sequence[_Run], size: tuple[int, int]) -> tuple[list[tuple[int, int]], set[int]]:
    """On which grid each run's maps are kept, and which steps: as many as the page has room for."""
    numbers = sorted({step.step for run in runs for step in run.steps})
    grids: list[tuple[int, int]] = []
    most = 0
    for longest in _GRIDS:
        grids = [_grid(run.steps[0].maps.shape, size, longest) for run in runs]
        cells = sum(
            math.prod(run.steps[0].maps.shape[:2]) * height * width
            for run, (height, width) in zip(runs, grids, strict=True)
        )
        most = min(_MOST_STEPS, max(2, _MAP_BYTES // cells))
        if most >= min(len(numbers), _FEW_STEPS):
            break
    ends = {run.steps[end].step for run in runs for end in (0, -1)}
    return grids, _thinned(numbers, ends, set().union(*(run.flagged for run in runs)), most)


def _grid(shape: tuple[int, ...], size: tuple[int, int], longest: int) -> tuple[int, int]:
    """The grid on the page of maps (N, K, *grid): their own, or one of the same proportions with fewer cells."""
    if len(shape) == 3:  # a signal
        return 1, min(shape[2], _SIGNAL_CELLS)
    if len(shape) == 5:  # a volume, laid out as a mosaic of slices
        height, width = size
        longest = max(longest, _VOLUME_CELLS)
    else:
        height, width = shape[2:]
    scale = min(1, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _thinned(numbers: Sequence[int], ends: set[int], flagged: set[int], most: int) -> set[int]:
    """At most so many of the numbers: the ends, the flagged ones, and others at even distances between them."""
    if len(numbers) <= most:
        return set(numbers)
    must = ends | set(_even(sorted(flagged - ends), most - len(ends)))
    return must | set(_even(numbers, most - len(must)))


def _even(numbers: Sequence[int], count: int) -> list[int]:
    if count <= 0:
        return []
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[position] for position in np.linspace(0, len(numbers) - 1, count).round().astype(int)]


def _on_grid(maps: Array, grid: tuple[int, int], size: tuple[int, int], slices: int | None) -> Array:
    """(N, K, *any) maps as (N, K, h, w) float32 on the grid of the page; where one is not finite, it is zero."""
    axes = tuple(range(2, maps.ndim))
    maps = np.where(np.isfinite(maps).all(axis=axes, keepdims=True), maps, 0).astype(np.float32)
    if maps.ndim == 5:
        peaks = maps.max(axis=axes)[..., None, None]
        return drawing.resize_maps(drawing.heatmaps(maps, size, slices=slices) * peaks, grid)
    if maps.ndim == 3:
        maps = maps[:, :, None]
    return maps if maps.shape[2:] == grid else drawing.resize_maps(maps, grid)


def _quantised(maps: Sequence[Array]) -> tuple[Array, Array]:
    """S maps (N, K, h, w) as (S, N, K, h, w) uint8 of 255 shares of each map's own maximum, and these maxima."""
    stacked = np.stack(maps)
    peaks = stacked.max(axis=(3, 4))
    factors = np.divide(255, peaks, out=np.zeros_like(peaks), where=peaks > 0)
    return np.rint(stacked * factors[..., None, None]).clip(0, 255).astype(np.uint8), peaks


def _paints(colormap: str) -> Array:
    """(256, 4) uint8: red, green, blue and cover of a colour map, from no evidence to the maximum."""
    heat = np.linspace(0, 1, 256)
    cover = np.rint(255 * drawing.cover(heat)).astype(np.uint8)
    return np.concatenate([drawing.colour(heat, colormap=colormap), cover[:, None]], axis=1)


def _packed(values: Array, dtype: type[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def _packed_shares(values: Array) -> str:
    """Numbers in [0, 1], or NaN where they are not known."""
    shares = np.where(np.isfinite(values), np.rint(np.clip(values, 0, 1) * 65534), 65535)
    return _packed(shares, np.uint16)


def _shown_measures() -> dict[str, Measure]:
    """What stands in the page's table of a probe; scores and probabilities have columns of their own."""
    return {name: row for name, row in MEASURES.items() if row.of != "model"}


def _packed_measures(measures: Measures, shown: Sequence[int]) -> dict[str, str]:
    """What is known of some step, at the steps shown: as shares of its range, or as it is where it has none."""
    packed = {}
    for name, row in _shown_measures().items():
        values = measures[name]
        if not np.isfinite(values).any():
            continue
        if row.low is None or row.high is None:
            packed[name] = _packed(values[shown], np.float32)
        else:
            packed[name] = _packed_shares((values[shown] - row.low) / (row.high - row.low))
    return packed


def _curves(run: _Run) -> dict[str, Any]:
    """The means over all maps and the metrics, for every step, also those whose maps are left out."""
    part = _on_curves(run)
    measures = run.measures
    focus = own_focus(run.steps, measures["focus"], run.manifest)  # what a suspicion is about
    if not np.isfinite(focus).any():
        focus = measures["focus"]
    names = list(dict.fromkeys(name for step in run.steps for name in step.logs if not name.startswith("gradcam")))
    return {
        "steps": [run.steps[s].step for s in part],
        "drift": _numbers(step_means(measures["drift"][part])),
        "floor": _numbers(step_means(measures["floor"][part])),
        "focus": _numbers(step_means(focus[part])) if np.isfinite(focus).any() else None,
        "metrics": {name: [_number(run.steps[s].logs.get(name)) for s in part] for name in names},
    }


def _on_curves(run: _Run) -> list[int]:
    """The places of the steps that the curves show."""
    every = max(1, math.ceil(len(run.steps) / (5 * _MOST_STEPS)))
    return sorted({*range(0, len(run.steps), every), len(run.steps) - 1})


def _numbers(values: Array) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _told(run: _Run) -> list[tuple[str, bool]]:
    """The summary in pieces, each with whether it is a warning."""
    warnings = [event.text for event in run.events if event.kind in (CONSTANT, "suspect", "shortcut")]
    if any(event.kind == "moved" for event in run.events):
        warnings += re.findall(r"It jumped .+? stayed\.", run.summary)
    pieces: list[tuple[str, bool]] = [(run.summary, False)]
    for warning in warnings:
        pieces = [
            (piece, is_warning or piece == warning)
            for text, is_warning in pieces
            for piece in ([text] if is_warning else _split(text, warning))
        ]
    return pieces


def _tests(run: _Run) -> list[dict[str, Any]]:
    """The tests of a run, each as the `TestData` of `page/js/types.js`."""
    tests = proof(run.tests, run.manifest, run.steps)
    for finding in (each for test in tests for each in test["findings"] if each["attention"] is not None):
        finding["attention"] = _numbers(finding["attention"][_on_curves(run)])
    return tests


def _split(text: str, part: str) -> list[str]:
    before, found, after = text.partition(part)
    return [piece for piece in (before, found, after) if piece]


def _listed_events(run: _Run) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    listed = []
    for event in run.events:
        counts[event.kind] = counts.get(event.kind, 0) + 1
        if counts[event.kind] <= _MOST_EVENTS:
            listed.append(
                {
                    "step": event.step,
                    "kind": event.kind,
                    "probe": event.probe,
                    "target": event.target,
                    "probes": _probes_of(event, run),
                    "text": event.text,
                }
            )
    return listed


def _probes_of(event: Event, run: _Run) -> list[int] | None:
    """The probes that an event is about; None is all of them."""
    if event.probe is not None:
        return [event.probe]
    told = {findings.text(each, run.manifest): each.shown for test in run.tests.values() for each in test.findings}
    about = next((list(shown) for text, shown in told.items() if event.text.startswith(text)), None)
    if about is None and event.kind in ("suspect", "shortcut") and run.manifest.regions is not None:
        about = [n for n, region in enumerate(run.manifest.regions) if region is not None]
    return None if about is None or len(about) == len(run.manifest.names) else about


def _unlisted_events(run: _Run) -> list[str]:
    left = len(run.events) - len(_listed_events(run))
    return [f"{left} more events are not listed."] if left else []


def _notes(run: _Run, shown: int) -> list[str]:
    """What a reader has to know of the record."""
    unit, steps = run.manifest.unit, run.steps
    notes = []
    if shown < len(steps):
        notes.append(
            f"Thinned: the maps of {shown} of the {len(steps)} recorded steps are on this page, among them the "
            "first, the last and the flagged ones. The curve of the mean has all."
        )
    if run.damaged:
        notes.append(f"{_counted(run.damaged, 'step')} could not be read from the journal.")
    lost = max(step.lost for step in steps)
    if lost:
        notes.append(f"{_counted(lost, unit)} could not be explained, and {'is' if lost == 1 else 'are'} missing.")
    cut = [step.step for step in steps if step.is_cut_short]
    if cut:
        notes.append(f"{unit.capitalize()} {', '.join(map(str, cut))} {'was' if len(cut) == 1 else 'were'} cut short.")
    if steps[0].step != BASELINE and run.manifest.source is None:
        notes.append(f"The state before training was not recorded: the first step is {unit} {steps[0].step}.")
    return notes


def _counted(count: int, what: str) -> str:
    plural = "es" if what == "batch" else "s"
    return f"{count} {what}{plural if count != 1 else ''}"


def _encoded(pictures: Array) -> list[str]:
    """(N, H, W, 3) uint8 as WebP data URIs, no larger than the page shows them."""
    longest = _PICTURE if len(pictures) <= _MANY_PROBES else _SMALL_PICTURE
    height, width = pictures.shape[1:3]
    scale = min(1, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    uris = []
    for picture in pictures:
        image = Image.fromarray(picture)
        if scale < 1:
            image = image.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=_WEBP_QUALITY, method=4, lossless=max(size) <= _LOSSLESS_SIDE)
        uris.append("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
    return uris


def _page(data: Mapping[str, Any], title: str, summary: str) -> str:
    """The template with style, script and data in it."""
    template, of_every_page = _of_every_page()
    return template.render(title=title, summary=summary, data=_as_json(data), **of_every_page)


@functools.cache
def _of_every_page() -> tuple[jinja2.Template, dict[str, str]]:
    """The template, and what is the same in each page."""
    resources = files("gradcam_callbacks.reviewing") / "page"
    template, style = ((resources / name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css"))
    whole = script(resources / "js")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template), {
        "style": style,
        "script": whole,
        "style_hash": _hash(style),
        "script_hash": _hash(whole),
    }


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _as_json(data: Mapping[str, Any]) -> str:
    """JSON in ASCII that cannot end the element that it is in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
