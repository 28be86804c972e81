"""What each rule says of a training: the record that the callback would have made, the tests, and the verdict.

- ours: the maps of every epoch, a test when they first look like a shortcut (and at most twice more), one at the end.
- focus alone: what the maps say without a test, as the review did before there was one.
- edges: the test at the end, on areas where the picture has edges instead of attention.
- untrained: the test at the end, on areas where the maps of the untrained network are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy import ndimage

from gradcam_callbacks import Explainer, Explanation, ProbeSet
from gradcam_callbacks.explaining.reliance import Tester, measure_reliance
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import suspicion
from gradcam_callbacks.reviewing.events import find_events
from gradcam_callbacks.reviewing.measuring import Explained, measure, measure_step
from gradcam_callbacks.reviewing.verdict import find_verdict
from gradcam_callbacks.training.asking import MOST_EARLY
from planted import training
from planted.training import Settings, Training

__all__ = ["RULES", "judge"]

Array = np.ndarray[Any, np.dtype[Any]]

RULES = ("ours", "focus alone", "edges", "untrained")
_EXPLAINERS: dict[int, Explainer] = {}


def judge(settings: Settings, work: Path) -> Iterator[str]:
    """What each rule says, with the objects' masks as regions, and "ours" also without them: lines of JSON."""
    trained = training.load(training.path(settings, work))
    model = training.network(trained, epoch=0)
    explainer = _EXPLAINERS.setdefault(id(model), Explainer(model, same_noise=True))
    for regions in (True, False):
        probes = ProbeSet(
            trained.images.astype(np.float32),
            pictures=trained.images,
            labels=trained.labels,
            targets=["label"],
            regions=list(trained.regions) if regions else None,
        )
        verdict, alarm, focus_alarm = _ours(trained, explainer, probes)
        yield _line(settings, "ours", regions, verdict, alarm)
        if not regions:
            continue
        yield _line(settings, "focus alone", regions, "ok" if focus_alarm is None else "shortcut", focus_alarm)
        explanation = explainer(probes.asking("predicted"))
        training.network(trained, epoch=-1)
        untrained = explainer(probes.asking("predicted")).maps[:, 0]
        training.network(trained, epoch=_epochs(trained) - 1)
        edges = np.stack([_edges(image) for image in trained.images])
        for rule, maps in (("edges", edges), ("untrained", untrained)):
            is_confirmed = bool(_test(explainer, probes, maps, explanation).confirmed)
            last = _epochs(trained) - 1
            yield _line(settings, rule, regions, "shortcut" if is_confirmed else "ok", last if is_confirmed else None)


def _line(settings: Settings, rule: str, regions: bool, verdict: str, alarm: int | None) -> str:
    return json.dumps(
        {"training": settings.name, "rule": rule, "regions": regions, "verdict": verdict, "alarm_epoch": alarm}
    )


def _epochs(trained: Training) -> int:
    return len(trained.weights) - 1


def _ours(trained: Training, explainer: Explainer, probes: ProbeSet) -> tuple[str, int | None, int | None]:
    """The verdict, the epoch at which a test first confirmed it, and that of the first alarm by the maps alone."""
    layer, method = explainer.prepare(probes).layers[0].path, explainer.method
    manifest = Manifest(**probes.description(), layer=layer, method=method).made_now(probes.pictures)
    steps: list[Step] = []
    tests: dict[int, Reliance] = {}
    next_test = 0
    focus_alarm = None
    for epoch in range(_epochs(trained)):
        training.network(trained, epoch=epoch)
        explanation = explainer(probes)
        arrays = explanation.arrays()
        before = Explained(steps[-1].shown, steps[-1].explained) if steps else None
        now = Explained(explanation.maps, arrays["explained"])
        measured = measure_step(now, before=before, regions=probes.regions)
        logs = {name: float(trained.logs[name][epoch]) for name in ("loss", "accuracy", "val_accuracy")}
        steps.append(Step(epoch, arrays | measured, logs, 0.0))
        if probes.regions is None:
            continue
        measures = measure(steps)
        if suspicion.find_look(steps, measures, manifest) and len(tests) < MOST_EARLY and len(steps) >= next_test:
            next_test = 2 * len(steps)
            tests[epoch] = measure_reliance(explainer, probes)
        with mock.patch.object(suspicion, "_WELL_ABOVE", np.inf):  # as before: a fall alone was a sign
            looks = suspicion.find_look(steps, measures, manifest) is not None
        focus_alarm = (epoch if focus_alarm is None else focus_alarm) if looks else None
    last = _epochs(trained) - 1
    if last not in tests:
        tests[last] = measure_reliance(explainer, probes)
    measures = measure(steps)
    events = find_events(steps, measures, manifest, tests)
    verdict = find_verdict(steps, measures, manifest, events, tests)
    confirmed = [epoch for epoch, test in tests.items() if test.confirmed]
    return verdict.name, min(confirmed) if verdict.name == "shortcut" else None, focus_alarm


def _test(explainer: Explainer, probes: ProbeSet, maps: Array, explanation: Explanation) -> Reliance:
    """The test where something else than the maps says where to look first."""
    return Tester(
        lambda which, pictures: explainer.answers(pictures),
        probes.images,
        maps,
        explanation.predicted,
        probes.labels,
        probes.regions,
    ).run()


def _edges(image: Array) -> Array:
    """Where a picture has edges: the length of Sobel's gradient of its brightness, (h, w) on a grid of 8 × 8 cells."""
    brightness = image.astype(np.float64).mean(axis=-1)
    lengths = np.hypot(ndimage.sobel(brightness, 0), ndimage.sobel(brightness, 1))
    cells = len(lengths) // 8
    means: Array = lengths[: 8 * cells, : 8 * cells].reshape(8, cells, 8, cells).mean(axis=(1, 3))
    return means
