"""The numbers of a step, by MLflow key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.step import HEALTHS, Step

_KINDS = {"scores": "score", "probabilities": "probability", "drift": "drift", "focus": "focus", "pointing": "pointing"}


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
