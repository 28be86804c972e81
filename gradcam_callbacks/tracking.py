"""From a journal to MLflow, on a worker thread. The only file that imports mlflow."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric

from gradcam_callbacks import render
from gradcam_callbacks.journal import Journal, Step
from gradcam_callbacks.probes import class_name

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]


class Tracker:
    """Renders and uploads the steps of a journal to one MLflow run, in order, on a thread of its own.

    MLflow's active run belongs to a thread, so everything here names the run by its id.
    """

    def __init__(self, journal: Journal, run_id: str) -> None:
        """Starts the worker; what describes the run is uploaded first.

        Args:
            journal: where the steps are read from.
            run_id: the run at the current tracking URI.
        """
        self.run_id = run_id
        self._journal = journal
        self._client = MlflowClient(mlflow.get_tracking_uri())
        self._steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gradcam-tracker", daemon=True)
        self._thread.start()

    def put(self, step: int) -> None:
        """Asks for the upload of a recorded step; returns at once."""
        self._steps.put(step)

    def close(self, timeout: float) -> bool:
        """Waits until everything has arrived.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether everything arrived. What did not is still in the journal.
        """
        self._steps.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._given_up.set()  # it ends by itself after the request that holds it
        return not self._given_up.is_set()

    def _work(self) -> None:
        try:
            pictures = self._journal.pictures()
            upload_description(self._client, self.run_id, self._journal)
            for step in iter(self._steps.get, None):
                if self._given_up.is_set():
                    return
                upload_step(self._client, self.run_id, self._journal, pictures, step)
        except Exception:
            # Nothing more is sent: each further try could block for minutes, and the journal has it all.
            self._given_up.set()
            logger.warning(
                "MLflow did not take the heatmaps of run %s; training goes on, and they stay in '%s'.",
                self.run_id,
                self._journal.directory,
                exc_info=True,
            )


def upload_description(client: MlflowClient, run_id: str, journal: Journal) -> None:
    """Sends the settings as tags and the manifest as an artifact."""
    manifest = journal.manifest
    for name in ("layer", "method", "score_kind", "probes", "version"):
        client.set_tag(run_id, f"gradcam.{name}", manifest[name])
    client.log_artifact(run_id, str(journal.directory / "manifest.json"), "gradcam")


def upload_step(client: MlflowClient, run_id: str, journal: Journal, pictures: Array, step: int) -> None:
    """Sends one step: its maps, its metrics in one request, and one tile a probe."""
    recorded = journal.read(step)
    client.log_artifact(run_id, str(journal.path(step)), "gradcam/maps")
    timestamp = int(recorded.time * 1000)
    metrics = [Metric(key, value, timestamp, step) for key, value in step_metrics(recorded, journal.manifest).items()]
    for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    for slug, tile in zip(
        journal.manifest["probe_slugs"], step_tiles(recorded, journal.manifest, pictures), strict=True
    ):
        client.log_image(run_id, tile, key=f"gradcam/{slug}", step=step, timestamp=timestamp, synchronous=True)


def step_metrics(recorded: Step, manifest: Mapping[str, Any]) -> dict[str, float]:
    """What a step says in numbers, by MLflow key; what is not finite is left out."""
    arrays = {"score": recorded.arrays["scores"]}
    for name in ("probabilities", "focus"):
        if name in recorded.arrays:
            arrays[{"probabilities": "probability"}.get(name, name)] = recorded.arrays[name]
    metrics = {}
    for kind, values in arrays.items():
        for n, probe in enumerate(manifest["probe_slugs"]):
            for k, target in enumerate(manifest["target_slugs"]):
                metrics[f"gradcam_{kind}/{probe}.{target}"] = float(values[n, k])
    if "focus" in arrays and np.isfinite(arrays["focus"]).any():
        metrics["gradcam_focus/mean"] = float(np.nanmean(arrays["focus"]))
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def step_tiles(recorded: Step, manifest: Mapping[str, Any], pictures: Array) -> Iterator[Array]:
    """One tile a probe: the picture and one overlay a target, with their names burnt in."""
    arrays = recorded.arrays
    heatmaps = render.heatmaps(arrays["maps"], pictures.shape[1:3], slices=manifest["slices"])
    overlays = render.overlays(pictures, heatmaps)
    for n, name in enumerate(manifest["names"]):
        captions = [(_caption(arrays, manifest, n, k), _value(arrays, n, k)) for k in range(len(manifest["targets"]))]
        yield render.tile(pictures[n], overlays[n], title=f"epoch {recorded.step}: {name}", captions=captions)


def _caption(arrays: Mapping[str, Array], manifest: Mapping[str, Any], n: int, k: int) -> str:
    """What an overlay explains; a target that is not the same class for every probe also says which it is."""
    target: str = manifest["targets"][k]
    explained = int(arrays["explained"][n, k])
    name = class_name(manifest["class_names"], explained)
    if explained < 0 or name == target or " − " in target:  # a function, a class, a contrast
        return target
    return f"{name} ({target})"


def _value(arrays: Mapping[str, Array], n: int, k: int) -> str:
    """The probability of what an overlay explains, or its score, or what is wrong with the map."""
    if arrays["health"][n, k] != "ok":
        return str(arrays["health"][n, k])
    if "probabilities" in arrays and np.isfinite(arrays["probabilities"][n, k]):
        return f"{arrays['probabilities'][n, k]:.2f}"
    return f"{arrays['scores'][n, k]:.1f}"


def choose_run(run_id: str | None) -> tuple[str, bool]:
    """The run to log to.

    Args:
        run_id: the one that the user named, or None for the active one, or a new one.

    Returns:
        Its id, and whether it was started here, so that it must be ended here too.

    Raises:
        mlflow.MlflowException: if there is no such run, or no tracking server.
    """
    if run_id is not None:
        return MlflowClient().get_run(run_id).info.run_id, False
    active = mlflow.active_run()
    if active is not None:
        return active.info.run_id, False
    return mlflow.start_run().info.run_id, True


def end_run(status: str = "FINISHED") -> None:
    """Ends the run that `choose_run` started."""
    mlflow.end_run(status)


def ui_path(experiment_id: str, run_id: str) -> str:
    """Where a run's image cards are, below the address of an MLflow server."""
    # Without the workflow type MLflow 3 opens its view for language models, two clicks away from the pictures.
    return f"#/experiments/{experiment_id}/runs/{run_id}/model-metrics?workflowType=machine_learning"


def where_to_look(run_id: str) -> str:
    """A sentence for a person: the link to the pictures, and how to start a server where there is none."""
    path = ui_path(MlflowClient().get_run(run_id).info.experiment_id, run_id)
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http://", "https://")):
        return f"{uri.rstrip('/')}/{path}"
    return f"http://127.0.0.1:5000/{path} after `mlflow server --port 5000 --backend-store-uri {uri}`"
