"""Where MLflow begins. The only file that imports mlflow."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import DECIDING, DESCRIBING, differences
from gradcam_callbacks.record.step import HEALTHS

logger = logging.getLogger(__name__)
REQUEST_TIMEOUT = 10.0
"""Seconds that one request of ours may take."""


def has_hung_up(error: BaseException) -> bool:
    """Whether the server closed the connection instead of an answer, as it may after an error; a new one may do."""
    return "Connection aborted" in str(error)


def nobody_answers(error: BaseException | None) -> bool:
    """Whether the network failed, so that the next request would fail too, after another time-out."""
    while error is not None:
        if "error responses" in str(error) or has_hung_up(error):  # somebody did: "too many 500 error responses"
            return False
        if type(error).__module__.partition(".")[0] in ("requests", "urllib3") or isinstance(error, ConnectionError):
            return True
        if "failed with exception" in str(error) or "Read timed out" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


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


@dataclass(frozen=True)
class Run:
    """The run to log to.

    Attributes:
        run_id: its id.
        name: what people call it.
        experiment_id: of its experiment.
        tracking_uri: of its server or store; one on this machine as an absolute path.
        is_deleted: whether somebody deleted it.
        is_ours: whether it was started here, so that it must be ended here too.
        was_empty: whether it held nothing of ours when it was opened.
        is_new: whether it can hold nothing of ours yet.
    """

    run_id: str
    name: str
    experiment_id: str
    tracking_uri: str
    was_empty: bool
    is_deleted: bool = False
    is_ours: bool = False
    is_new: bool = False

    def client(self) -> MlflowClient:
        """A client of its server."""
        return MlflowClient(self.tracking_uri)

    def link(self) -> str | None:
        """Where its image cards are on its server; None for a store without one."""
        is_server = self.tracking_uri.startswith(("http://", "https://"))
        return f"{self.tracking_uri.rstrip('/')}/{ui_path(self.experiment_id, self.run_id)}" if is_server else None

    def where_to_look(self) -> str:
        """Lines for a person: the links to the pictures and the review, and how to start a server if there is none."""
        is_server = self.tracking_uri.startswith(("http://", "https://"))
        address = self.tracking_uri.rstrip("/") if is_server else "http://127.0.0.1:5000"
        lines = [
            f"  pictures  {address}/{ui_path(self.experiment_id, self.run_id)}",
            f"  review    {address}/{report_path(self.experiment_id, self.run_id)}",
        ]
        if not is_server:
            lines.append(f"  after     mlflow server --port 5000 --backend-store-uri {self.tracking_uri}")
        return "\n".join(lines)


def choose_run(run_id: str | None, *, experiment: str | None = None) -> Run:
    """The run to log to.

    Args:
        run_id: the one that the user named, or None for the active one, or a new one.
        experiment: the name of the experiment of a new one; then the active one is not taken.

    Raises:
        mlflow.MlflowException: if there is no such run, or no tracking server.
    """
    uri = default_uri()
    active = mlflow.active_run()
    with bounded_requests(REQUEST_TIMEOUT):
        if run_id is not None:
            return find_run(run_id, uri)
        if active is not None and experiment is None:
            return _as_run(active, uri)
        started: Any
        if experiment is None:
            started = mlflow.start_run()
        else:  # not as the active run: MLflow would make its experiment the one of the process
            client = MlflowClient(uri)
            known = client.get_experiment_by_name(experiment)
            experiment_id = client.create_experiment(experiment) if known is None else known.experiment_id
            started = client.create_run(experiment_id)
        return replace(_as_run(started, uri), is_ours=True, is_new=True)


def has_active_run() -> bool:
    """Whether the user has started a run in this thread."""
    return mlflow.active_run() is not None


def find_run(run_id: str, tracking_uri: str) -> Run:
    """A run that is there.

    Raises:
        mlflow.MlflowException: if there is no such run, or nobody answers.
    """
    with bounded_requests(REQUEST_TIMEOUT):
        return _as_run(MlflowClient(tracking_uri).get_run(run_id), tracking_uri)


def _as_run(found: Any, tracking_uri: str) -> Run:
    info = found.info
    was_empty = f"gradcam.{DESCRIBING[0]}" not in found.data.tags
    is_deleted = info.lifecycle_stage == LifecycleStage.DELETED
    return Run(info.run_id, info.run_name or info.run_id, info.experiment_id, tracking_uri, was_empty, is_deleted)


def fetch_journal(run: Run, directory: Path) -> Journal:
    """The journal of a run, as its artifacts hold it.

    Args:
        run: the run.
        directory: an empty folder for it.

    Raises:
        ValueError: if the run holds no maps of ours.
        mlflow.MlflowException: if nobody answers.
    """
    client = run.client()
    with bounded_requests(REQUEST_TIMEOUT):
        held = {entry.path for entry in client.list_artifacts(run.run_id, "gradcam")}
        if not {"gradcam/manifest.json", "gradcam/maps"} <= held:
            raise ValueError(f"Run {run.run_id} holds no maps of gradcam_callbacks.")
        manifest = client.download_artifacts(run.run_id, "gradcam/manifest.json", str(directory))
        maps = client.download_artifacts(run.run_id, "gradcam/maps", str(directory))
    folder = directory / "journal"
    folder.mkdir()
    Path(manifest).rename(folder / "manifest.json")
    Path(maps).rename(folder / "steps")
    return Journal(folder)


def steps_of(run: Run) -> set[int]:
    """The steps that a run holds.

    Raises:
        mlflow.MlflowException: if nobody answers.
    """
    with bounded_requests(REQUEST_TIMEOUT):
        history = run.client().get_metric_history(run.run_id, f"gradcam_health/{HEALTHS[-1]}")
    return {int(metric.step) for metric in history}


def fetch_maps(run: Run, step: int) -> bytes:
    """The file of a step that a run holds.

    Raises:
        mlflow.MlflowException: if it does not, or nobody answers.
    """
    with bounded_requests(REQUEST_TIMEOUT):
        return maps_of(run.client(), run.run_id, step)


def maps_of(client: MlflowClient, run_id: str, step: int) -> bytes:
    """The file of a step, as bytes."""
    with tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
        return Path(client.download_artifacts(run_id, f"gradcam/maps/{step}.npz", temporary)).read_bytes()


def download(uri: str, directory: Path) -> Path:
    """Artifacts of a run ("runs:/ID/folder") or of a registered model ("models:/NAME/VERSION").

    Args:
        uri: which.
        directory: an empty folder for them.

    Returns:
        Where they are.

    Raises:
        mlflow.MlflowException: if there are none.
    """
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(directory)))


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
    before = {name: tags.get(f"gradcam.{name}") for name in DECIDING}
    different = differences(before, manifest)
    if different and before["layer"] is not None:
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
    for _ in range(2):  # a server hangs up on a connection from before an error of its own
        try:
            with bounded_requests(REQUEST_TIMEOUT):
                active = mlflow.active_run()
                if active is not None and active.info.run_id == run.run_id:
                    mlflow.end_run(status)  # it is not active any more then, whatever happens
                else:
                    run.client().set_terminated(run.run_id, status)
            return True
        except Exception as error:
            if not has_hung_up(error):
                return False
    return False


def default_uri() -> str:
    """MLflow's own tracking URI."""
    return absolute_uri(mlflow.get_tracking_uri())


def absolute_uri(uri: str) -> str:
    """A tracking URI that means the same from any working directory."""
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////") and ":memory:" not in uri:
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def report_path(experiment_id: str, run_id: str) -> str:
    """Where a run's review page is, below the address of an MLflow server."""
    page = "artifacts/gradcam/report.html"
    return f"#/experiments/{experiment_id}/runs/{run_id}/{page}?workflowType=machine_learning"


def ui_path(experiment_id: str, run_id: str) -> str:
    """Where a run's image cards are, below the address of an MLflow server."""
    # Without the workflow type MLflow 3 opens its view for language models, two clicks away from the pictures.
    return f"#/experiments/{experiment_id}/runs/{run_id}/model-metrics?workflowType=machine_learning"
