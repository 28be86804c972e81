"""From a journal to MLflow, on a worker thread. The only file that imports mlflow."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from PIL import Image

from gradcam_callbacks import render
from gradcam_callbacks.journal import DECIDING, Journal, Step, differences
from gradcam_callbacks.probes import class_name

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

REQUEST_TIMEOUT = 10.0
"""Seconds that one request of ours may take."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries while a server is away, at most."""
DESCRIBING = ("layer", "method", "score_kind", "probes", "version")
"""What of a manifest is a tag of the run too."""
STATES = ("ok", "empty", "flat", "zero-gradient", "non-finite")

# images/<key with another slash>+step+<step>+timestamp+<ms>+<id>.png, and a small copy beside it; older ones of MLflow
# separate by %. The groups: what the two have in common, the probe, the step, what they have not.
_IMAGE = re.compile(
    r"(images/gradcam[~#](.+)[+%]step[+%](\d+)[+%]timestamp[+%]\d+[+%][^+%]+?)(\.png|[+%]compressed\.webp)"
)


# ---- One run, item by item ----


@dataclass
class Upload:
    """Sends what a journal holds and a run lacks, in order, each item once.

    An item is "description", of a step "metrics/<step>", "maps/<step>" or "image/<probe>/<step>", or "status", which
    ends the run. What has arrived is marked in the journal. Where that is not sure, the run is asked.

    Attributes:
        journal: where the steps are read from.
        client: of the server.
        run_id: the run.
        is_new: whether the run can hold nothing of ours yet, so that it need not be asked.
        error: what went wrong in the last pass, or None.
    """

    journal: Journal
    client: MlflowClient
    run_id: str
    is_new: bool = False
    error: Exception | None = None
    _pictures: Array | None = None
    _present: frozenset[str] | None = field(default=None, init=False)
    _halves: dict[str, str] = field(default_factory=dict, init=False)
    _sent: set[str] = field(default_factory=set, init=False)
    _unreadable: set[str] = field(default_factory=set, init=False)
    _has_marks: bool = field(default=False, init=False)
    _is_tidy: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._has_marks = self.run_id == self.journal.manifest["run_id"]  # else it is copied to another run
        if self._has_marks:
            self._sent.update(self.journal.uploaded())
        if self.is_new:
            self._present = frozenset()
            self._is_tidy = True

    def missing(self, steps: Collection[int] | None = None) -> list[str]:
        """The items that are not known to have arrived, in the order in which they are sent."""
        items = ["description"]
        for step in sorted(self.journal.steps() if steps is None else steps):
            items += [f"metrics/{step}", f"maps/{step}"]
            items += [f"image/{slug}/{step}" for slug in self.journal.manifest["probe_slugs"]]
        if self._has_marks and self.journal.status is not None:
            items.append("status")
        return [item for item in items if item not in self._sent]

    def send(
        self,
        steps: Collection[int] | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_item: Callable[[str], None] = lambda item: None,
    ) -> bool:
        """Tries each missing item once, but no more of a kind that failed, and nothing more when nobody answers.

        Args:
            steps: which steps; all of the journal by default.
            stop: asked before each item.
            on_item: told of each item that has arrived.

        Returns:
            Whether everything has arrived that can be read.
        """
        self.error = None
        failed: set[str] = set()
        recorded: Step | None = None
        for item in self.missing(steps):
            kind, *where = item.split("/")
            if stop():
                return False
            if kind in failed:
                continue
            if item in self._unreadable:
                continue
            try:
                if where and (recorded is None or recorded.step != int(where[-1])):
                    recorded = self.journal.read(int(where[-1]))
            except (OSError, ValueError) as error:  # gone or damaged: no later try will help, and no other step suffers
                self.error = self.error or error
                self._unreadable.add(item)
                continue
            try:
                if self._present is None:
                    self._present = self._arrived()
                if item not in self._present:
                    self._send(kind, where, recorded)
            except Exception as error:  # whatever store or network it is: the item is kept, and tried again
                failed.add(kind)
                self.error = self.error or error
                self._present = None  # it may have arrived although it failed, and it may still arrive
                self._is_tidy = False
                if _nobody_answers(error):
                    return False
                continue
            self._sent.add(item)
            on_item(item)
            if self._has_marks:
                try:
                    self.journal.mark_uploaded(item)
                except OSError as error:  # of a strict journal
                    self.error = error
                    return False
        return not failed

    def tidy(self) -> None:
        """Deletes images that are there twice, because one arrived after it had been given up. Problems are ignored."""
        if self._is_tidy:
            return
        with suppress(Exception):
            artifacts = get_artifact_repository(
                self.client.get_run(self.run_id).info.artifact_uri, tracking_uri=self.client.tracking_uri
            )
            for copies in self._images().values():
                for files in sorted(copies.values(), key=len)[:-1]:
                    for path in files.values():
                        artifacts.delete_artifacts(path)  # type: ignore[no-untyped-call]
            self._is_tidy = True

    def _send(self, kind: str, where: list[str], recorded: Step | None) -> None:
        if kind == "status":
            self.client.set_terminated(self.run_id, self.journal.status)
            return
        if recorded is None:
            manifest = self.journal.manifest
            for name in DESCRIBING:
                self.client.set_tag(self.run_id, f"gradcam.{name}", manifest[name])
            self._send_file("gradcam", self.journal.directory / "manifest.json", json.dumps(manifest).encode())
            return
        step, timestamp = recorded.step, int(recorded.time * 1000)
        if kind == "metrics":
            numbers = step_metrics(recorded, self.journal.manifest)
            metrics = [Metric(key, value, timestamp, step) for key, value in numbers.items()]
            for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
                self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        elif kind == "maps":
            self._send_file("gradcam/maps", self.journal.path(step), self.journal.content(step))
        else:
            self._send_image(where[0], recorded, timestamp)

    def _send_image(self, slug: str, recorded: Step, timestamp: int) -> None:
        if self._pictures is None:
            self._pictures = self.journal.pictures()
        n = self.journal.manifest["probe_slugs"].index(slug)
        tile = step_tile(recorded, self.journal.manifest, self._pictures, n)
        half = self._halves.get(f"image/{slug}/{recorded.step}")
        if half is None:
            key = f"gradcam/{slug}"
            self.client.log_image(self.run_id, tile, key=key, step=recorded.step, timestamp=timestamp, synchronous=True)
            return
        # The server was lost between the picture and its small copy: another pair would be there twice.
        missing = Path(half)
        image, content = Image.fromarray(tile), io.BytesIO()
        if missing.suffix == ".webp":
            image.thumbnail((256, 256))
        image.save(content, missing.suffix[1:])
        self._send_file("images", missing, content.getvalue())
        self.client.set_tag(self.run_id, "mlflow.loggedImages", True)

    def _send_file(self, folder: str, path: Path, content: bytes) -> None:
        """An artifact that is on disk, or that may be in memory only."""
        if path.is_file():
            self.client.log_artifact(self.run_id, str(path), folder)
            return
        with tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
            file = Path(temporary, path.name)
            file.write_bytes(content)
            self.client.log_artifact(self.run_id, str(file), folder)

    def _arrived(self) -> frozenset[str]:
        """The metrics and images that the run holds. What else there is can be sent twice and is there once."""
        history = self.client.get_metric_history(self.run_id, f"gradcam_health/{STATES[-1]}")
        found = {f"metrics/{metric.step}" for metric in history}
        self._halves = {}
        for item, copies in self._images().items():
            if any(len(files) == 2 for files in copies.values()):
                found.add(item)
                continue
            stem, (end,) = next(iter(copies.items()))
            self._halves[item] = f"{stem}{'.png' if end != '.png' else _small_end(stem)}"
        return frozenset(found)

    def _images(self) -> dict[str, dict[str, dict[str, str]]]:
        """For each image item of the run, by what their names have in common, the paths of picture and small copy."""
        found: dict[str, dict[str, dict[str, str]]] = {}
        for entry in self.client.list_artifacts(self.run_id, "images"):
            match = _IMAGE.fullmatch(entry.path)
            if match:
                stem, slug, step, end = match.groups()
                found.setdefault(f"image/{slug}/{step}", {}).setdefault(stem, {})[end] = entry.path
        return found


def _small_end(stem: str) -> str:
    """How the name of a small copy ends whose picture is named so."""
    return "%compressed.webp" if "%step%" in stem else "+compressed.webp"


def _nobody_answers(error: BaseException | None) -> bool:
    """Whether the network failed, so that the next request would fail too, after another time-out."""
    while error is not None:
        if "error responses" in str(error):  # such as "too many 500 error responses": somebody did answer
            return False
        if type(error).__module__.partition(".")[0] in ("requests", "urllib3") or isinstance(error, ConnectionError):
            return True
        if "failed with exception" in str(error) or "Read timed out" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


# ---- The worker ----


class Tracker:
    """Uploads the steps of a journal to one MLflow run, in order, on a thread of its own.

    MLflow's active run belongs to a thread, so everything here names the run by its id. After a failure there is one
    warning, then quiet tries with growing pauses until the server is back.
    """

    def __init__(self, upload: Upload, *, timeout: float = REQUEST_TIMEOUT) -> None:
        """Starts the worker; what describes the run is uploaded first.

        Args:
            upload: of the journal to the run.
            timeout: seconds that a request may take.
        """
        self.upload = upload
        self.failures = 0
        self._timeout = timeout
        self._steps: set[int] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._stopping = False
        self._is_done = False
        self._thread = threading.Thread(target=self._work, name="gradcam-tracker", daemon=True)
        self._thread.start()

    def put(self, step: int) -> None:
        """Asks for the upload of a recorded step; returns at once."""
        with self._changed:
            self._steps.add(step)
            self._is_done = False
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Whether everything so far has arrived within so many seconds; earlier if a try failed."""
        before = self.failures
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or self.failures > before, timeout)
            return self._is_done

    def close(self, timeout: float) -> list[str]:
        """Waits until everything has arrived, and ends the worker.

        Args:
            timeout: seconds to wait at most.

        Returns:
            The items that have not arrived; they are still in the journal.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        try:
            self._thread.join(min(1.0, timeout))
            if self._thread.is_alive() and timeout > 1:
                print(f"Waiting up to {timeout:.0f} s for MLflow to take the last heatmaps …", flush=True)  # noqa: T201
            self._thread.join(max(0.0, deadline - time.monotonic()))
        finally:  # also after Ctrl-C
            with self._changed:
                self._stopping = True  # it ends by itself after the request that holds it
                self._changed.notify_all()
        self._thread.join(0.5)
        return self.upload.missing(self._steps)

    def _work(self) -> None:
        pause = 0.0
        with bounded_requests(self._timeout):
            while not self._stopping:
                steps = set(self._steps)
                arrived = self.upload.send(steps, stop=lambda: self._stopping)
                pause = 0.0 if arrived else min(2 * pause or 1.0, LONGEST_PAUSE)
                if not arrived and not self._stopping:
                    self._failed()
                with self._changed:
                    if arrived:
                        self._steps -= steps
                    self._is_done = arrived and not self._steps
                    self._changed.notify_all()
                    if self._is_done and self._closing:
                        break
                    if self._is_done:
                        self._changed.wait_for(lambda: self._closing or not self._is_done)
                    elif not arrived:
                        self._changed.wait_for(lambda: self._closing, pause)
                        if self._closing:  # somebody waits: no long pauses any more
                            self._changed.wait_for(lambda: self._stopping, min(pause, 1.0))
            if not self._stopping:
                self.upload.tidy()

    def _failed(self) -> None:
        error = self.upload.error
        self.failures += 1
        if self.failures == 1:
            logger.warning(
                "MLflow did not take the heatmaps of run %s (%s); training goes on. They are kept in '%s' and sent "
                "when it takes them again.",
                self.upload.run_id,
                (str(error).strip().splitlines() or [type(error).__name__])[0],
                self.upload.journal.directory,
            )


class _Bounds(threading.local):
    """The bounds on the requests of a thread; none by default."""

    by_name: Mapping[str, float] | None = None


_bounds = _Bounds()
_lock = threading.Lock()
_bounded_threads = 0
_VARIABLES = (MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT)


@contextmanager
def bounded_requests(timeout: float) -> Iterator[None]:
    """Bounds the requests of this thread alone: no retries, and so many seconds each.

    MLflow has such settings for the whole process only, as environment variables; it asks an object for each. While
    somebody is in here, that object asks which thread is asking.
    """
    global _bounded_threads
    with _lock:
        _bounded_threads += 1
        if _bounded_threads == 1:
            for variable in _VARIABLES:
                variable.__dict__["get"] = partial(_value, variable)
    before = _bounds.by_name
    _bounds.by_name = {MLFLOW_HTTP_REQUEST_MAX_RETRIES.name: 0, MLFLOW_HTTP_REQUEST_TIMEOUT.name: timeout}
    try:
        yield
    finally:
        _bounds.by_name = before
        with _lock:
            _bounded_threads -= 1
            if _bounded_threads == 0:
                for variable in _VARIABLES:
                    del variable.__dict__["get"]


def _value(variable: Any) -> Any:
    """What a setting is to the thread that asks."""
    if _bounds.by_name is not None:
        return _bounds.by_name[variable.name]
    return type(variable).get(variable)


# ---- What a step looks like there ----


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
    if "lost" in recorded.arrays:
        metrics["gradcam_health/lost"] = float(recorded.arrays["lost"])
    for state in STATES:  # last, so that the last of them says that all have arrived
        metrics[f"gradcam_health/{state}"] = float((recorded.arrays["health"] == state).sum())
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def step_tile(recorded: Step, manifest: Mapping[str, Any], pictures: Array, n: int) -> Array:
    """The tile of one probe: the picture and one overlay a target, with their names burnt in."""
    arrays = recorded.arrays
    heatmaps = render.heatmaps(arrays["maps"][n : n + 1], pictures.shape[1:3], slices=manifest["slices"])
    overlays = render.overlays(pictures[n : n + 1], heatmaps)
    captions = [(_caption(arrays, manifest, n, k), _value_of(arrays, n, k)) for k in range(len(manifest["targets"]))]
    when = f"{manifest['unit']} {recorded.step}{' (cut short)' if 'cut_short' in arrays else ''}"
    return render.tile(pictures[n], overlays[0], title=f"{when}: {manifest['names'][n]}", captions=captions)


def _caption(arrays: Mapping[str, Array], manifest: Mapping[str, Any], n: int, k: int) -> str:
    """What an overlay explains; a target that is not the same class for every probe also says which it is."""
    target: str = manifest["targets"][k]
    explained = int(arrays["explained"][n, k])
    name = class_name(manifest["class_names"], explained)
    if explained < 0 or name == target or " − " in target:  # a function, a class, a contrast
        return target
    return f"{name} ({target})"


def _value_of(arrays: Mapping[str, Array], n: int, k: int) -> str:
    """The probability of what an overlay explains, or its score, or what is wrong with the map."""
    if arrays["health"][n, k] != "ok":
        return str(arrays["health"][n, k])
    if "probabilities" in arrays and np.isfinite(arrays["probabilities"][n, k]):
        return f"{arrays['probabilities'][n, k]:.2f}"
    return f"{arrays['scores'][n, k]:.1f}"


# ---- Runs ----


@dataclass(frozen=True)
class Run:
    """The run to log to.

    Attributes:
        run_id: its id.
        experiment_id: of its experiment.
        tracking_uri: of its server or store; one on this machine as an absolute path.
        is_ours: whether it was started here, so that it must be ended here too.
        is_new: whether it can hold nothing of ours yet.
    """

    run_id: str
    experiment_id: str
    tracking_uri: str
    is_ours: bool
    is_new: bool

    def client(self) -> MlflowClient:
        """A client of its server."""
        return MlflowClient(self.tracking_uri)

    def where_to_look(self) -> str:
        """A sentence for a person: the link to the pictures, and how to start a server where there is none."""
        path = ui_path(self.experiment_id, self.run_id)
        if self.tracking_uri.startswith(("http://", "https://")):
            return f"{self.tracking_uri.rstrip('/')}/{path}"
        start = f"`mlflow server --port 5000 --backend-store-uri {self.tracking_uri}`"
        return f"http://127.0.0.1:5000/{path} after {start}"


def choose_run(run_id: str | None) -> Run:
    """The run to log to.

    Args:
        run_id: the one that the user named, or None for the active one, or a new one.

    Raises:
        mlflow.MlflowException: if there is no such run, or no tracking server.
    """
    uri = absolute_uri(mlflow.get_tracking_uri())
    active = mlflow.active_run()
    with bounded_requests(REQUEST_TIMEOUT):
        if run_id is not None:
            return find_run(run_id, uri)
        if active is not None:
            started = active.info
            return Run(started.run_id, started.experiment_id, uri, is_ours=False, is_new=False)
        started = mlflow.start_run().info
        return Run(started.run_id, started.experiment_id, uri, is_ours=True, is_new=True)


def find_run(run_id: str, tracking_uri: str) -> Run:
    """A run that is there.

    Raises:
        mlflow.MlflowException: if there is no such run, or nobody answers.
    """
    info = MlflowClient(tracking_uri).get_run(run_id).info
    return Run(run_id, info.experiment_id, tracking_uri, is_ours=False, is_new=False)


def next_step(run: Run) -> int:
    """The step after the last one that a run holds; 0 where it holds none, or cannot be asked."""
    with bounded_requests(REQUEST_TIMEOUT), suppress(Exception):
        history = run.client().get_metric_history(run.run_id, f"gradcam_health/{STATES[-1]}")
        return max((int(metric.step) for metric in history), default=-1) + 1
    return 0


def check_run(run: Run, manifest: Mapping[str, Any]) -> None:
    """Refuses a run that holds maps of something else; one that cannot be asked now is not refused.

    Raises:
        ValueError: if the run's maps are of other probes, another layer or another method.
    """
    if run.is_new:
        return
    try:
        with bounded_requests(REQUEST_TIMEOUT):
            tags = run.client().get_run(run.run_id).data.tags
    except Exception:  # the worker will say so
        return
    before = {name: tags.get(f"gradcam.{name}", manifest[name]) for name in DECIDING}
    different = differences(before, manifest)
    if different:
        raise ValueError(
            f"Run {run.run_id} holds maps that were made with {different}. Choose another run, such as a nested one."
        )


def end_run(run: Run, status: str = "FINISHED") -> bool:
    """Ends a run that `choose_run` started; a server that is away does not stop this for long.

    Returns:
        Whether the run is ended, or is not ours to end.
    """
    if not run.is_ours:
        return True
    try:
        with bounded_requests(REQUEST_TIMEOUT):
            active = mlflow.active_run()
            if active is not None and active.info.run_id == run.run_id:
                mlflow.end_run(status)
            else:
                run.client().set_terminated(run.run_id, status)
    except Exception:
        return False
    return True


def absolute_uri(uri: str) -> str:
    """A tracking URI that means the same from any working directory."""
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////") and ":memory:" not in uri:
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def ui_path(experiment_id: str, run_id: str) -> str:
    """Where a run's image cards are, below the address of an MLflow server."""
    # Without the workflow type MLflow 3 opens its view for language models, two clicks away from the pictures.
    return f"#/experiments/{experiment_id}/runs/{run_id}/model-metrics?workflowType=machine_learning"
