"""The numbers of a step, by the key of their metric."""

from __future__ import annotations

import math

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.health import HEALTHS
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.measures import MEASURES
from gradcam_callbacks.record.step import Step

ARRIVED = "gradcam_health/non-finite"
"""The metric that says that all of a step have arrived, because it is sent last. Runs of every version have it."""


def step_metrics(recorded: Step, manifest: Manifest) -> dict[str, float]:
    """What a step says in numbers; what is not finite is left out. `ARRIVED` comes last."""
    metrics = {}
    for measure in MEASURES.values():
        if not measure.is_recorded or measure.name not in recorded.arrays:
            continue
        values = recorded.measured(measure.name)
        if measure.section is not None and measure.has_each:
            for n, probe in enumerate(manifest.probe_slugs):
                for k, target in enumerate(manifest.target_slugs):
                    metrics[f"{measure.section}/{probe}.{target}"] = float(values[n, k])
        if measure.mean is not None:
            metrics[measure.mean] = _mean(values)
    if "lost" in recorded.arrays:
        metrics["gradcam_health/lost"] = float(recorded.lost)
    for state in HEALTHS:
        metrics[f"gradcam_health/{state}"] = float((recorded.health == state).sum())
    metrics[ARRIVED] = metrics.pop(ARRIVED)
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def _mean(values: Array) -> float:
    """Of what is known; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
