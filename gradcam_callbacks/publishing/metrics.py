"""The numbers of a step, by the key of their metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.record.health import HEALTHS
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.measures import MEASURES
from gradcam_callbacks.record.step import Step

ARRIVED = "gradcam_health/non-finite"
"""The metric that says that all of a step have arrived, because it is sent last. Runs of every version have it."""
MOST_CLASSES = 10
"""With probes of more classes than this there is no mean a class: that would be dozens of metrics."""


class Metrics(dict[str, float]):
    """The finite values of a step by the key of their metric, and what they are of.

    Attributes:
        model_id: the LoggedModel of MLflow whose maps were measured, or None.
        probes: the digest of the probe set that they were measured on; see `ProbeSet.digest`.
    """

    model_id: str | None = None
    probes: str = ""


def chosen_metrics(metrics: str | Sequence[str]) -> str:
    """Which metrics a run gets, as a manifest says it, from what the user passed for `metrics`.

    Raises:
        GradCAMError: if that is neither "means" nor "all" nor ().
    """
    if isinstance(metrics, list | tuple) and not metrics:
        return "none"
    if isinstance(metrics, str) and metrics in ("means", "all"):
        return metrics
    raise GradCAMError(
        f"The metrics of a run are 'means', 'all' or none at all, (), not {metrics!r}.",
        "Pass {argument}, for example.",
        argument="metrics",
        value="means",
    )


def step_metrics(recorded: Step, manifest: Manifest) -> Metrics:
    """What a step says in numbers; what is not finite is left out. `ARRIVED` comes last.

    By default these are means over all maps, and over the maps of each class that probes are of, if there are several
    and no more than `MOST_CLASSES`. Where the manifest asks for all, each map has its own beside them.
    """
    metrics = Metrics()
    metrics.model_id, metrics.probes = recorded.model_id, manifest.probes
    if manifest.metrics == "none":
        return metrics
    for measure in MEASURES.values():
        if not measure.is_recorded or measure.name not in recorded.arrays:
            continue
        values = recorded.measured(measure.name)
        if manifest.metrics == "all" and measure.section is not None and measure.has_each:
            for n, probe in enumerate(manifest.probe_slugs):
                for k, target in enumerate(manifest.target_slugs):
                    metrics[f"{measure.section}/{probe}.{target}"] = float(values[n, k])
        if measure.mean is not None:
            metrics[measure.mean] = _mean(values)
            if measure.has_each:
                for name, members in _classes(manifest):
                    metrics[f"{measure.mean} of {name}"] = _mean(values[members])
    if "lost" in recorded.arrays:
        metrics["gradcam_health/lost"] = float(recorded.lost)
    for state in HEALTHS:
        metrics[f"gradcam_health/{state}"] = float((recorded.health == state).sum())
    metrics[ARRIVED] = metrics.pop(ARRIVED)
    for key in [key for key, value in metrics.items() if not math.isfinite(value)]:
        del metrics[key]
    return metrics


def _classes(manifest: Manifest) -> Iterator[tuple[str, Array]]:
    """The classes that the probes are of, as keys of metrics, each with (N,) bool: which probes.

    A name of a probe has no space, so that "mean of cat" is no name of a probe and a target.
    """
    labels = np.array([] if manifest.labels is None else manifest.labels)
    known = sorted(set(labels.tolist()))
    if 1 < len(known) <= MOST_CLASSES:
        for label, name in zip(known, slugs(manifest.class_name(label) for label in known), strict=True):
            yield name, labels == label


def _mean(values: Array) -> float:
    """Of what is known; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
