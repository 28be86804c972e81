"""From a journal to MLflow, on a worker thread. The only file that imports mlflow."""

from __future__ import annotations

import io
import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from PIL import Image

from gradcam_callbacks import cards, report
from gradcam_callbacks.journal import BASELINE, DECIDING, HEALTHS, Journal, Step, differences

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

REQUEST_TIMEOUT = 10.0
"""Seconds that one request of ours may take."""
REPORT_EVERY = 5
"""Steps after which the review page is written anew, at least; of a long training more."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries while a server is away, at most."""
DESCRIBING = ("layer", "method", "output", "score_kind", "probes", "version")
"""What of a manifest is a tag of the run too."""

# images/<key with another slash>+step+<step>+timestamp+<ms>+<id>.png, and a small copy beside it; older ones of MLflow
# separate by %. The groups: what the two have in common, the probe, the step, what they have not.
_IMAGE = re.compile(
    r"(images/gradcam[~#](.+)[+%]step[+%](\d+)[+%]timestamp[+%]\d+[+%][^+%]+?)(\.png|[+%]compressed\.webp)"
)


# ---- One run, item by item ----


class _UnusableError(Exception):
    """What cannot be read or drawn: no later try will help, and no other item suffers."""


@dataclass
class Upload:
    """Sends what a journal holds and a run lacks, in order, each item once.

    An item is "description", of a step "metrics/<step>", "maps/<step>" or "image/<probe>/<step>", then of the whole
    record "animation/<probe>/<last step>", "report/<last step>", and "status", which ends the run. What has arrived is
    marked in the journal. Where that is not sure, the run is asked.

    Attributes:
        journal: where the steps are read from.
        client: of the server.
        run_id: the run.
        is_new: whether the run can hold nothing of ours yet, so that it need not be asked.
        has_animation: whether each probe gets an animated picture.
        earlier: files of steps that the run holds and the journal does not, by number; others are taken from the run.
        error: what went wrong in the last pass, or None.
    """

    journal: Journal
    client: MlflowClient
    run_id: str
    is_new: bool = False
    has_animation: bool = False
    earlier: Mapping[int, bytes] = field(default_factory=dict)
    error: Exception | None = None
    _pictures: Array | None = None
    _present: dict[str, Set[str]] = field(default_factory=dict, init=False)
    _halves: dict[str, str] = field(default_factory=dict, init=False)
    _sent: set[str] = field(default_factory=set, init=False)
    _unusable: set[str] = field(default_factory=set, init=False)
    _is_own: bool = field(default=False, init=False)
    _is_tidy: bool = field(default=False, init=False)
    _has_earlier: bool = field(default=False, init=False)
    _recorded: Step | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._is_own = self.run_id == self.journal.manifest["run_id"]  # else the journal is copied to another run
        if self._is_own:
            self._sent.update(self.journal.uploaded())
        if self.is_new:
            self._present = {"metrics": frozenset(), "image": frozenset()}
            self._is_tidy = self._has_earlier = True

    def missing(self, steps: Collection[int] | None = None, *, whole: bool = True) -> list[str]:
        """The items that are not known to have arrived, in the order in which they are sent.

        Args:
            steps: of which steps; all of the journal by default.
            whole: whether to count what is of the whole record.
        """
        manifest, recorded = self.journal.manifest, self.journal.steps()
        items = ["description"]
        for step in recorded if steps is None else sorted(steps):
            if step != BASELINE:
                items.append(f"metrics/{step}")
            items.append(f"maps/{step}")
            if step != BASELINE:
                items += [f"image/{slug}/{step}" for slug in manifest["probe_slugs"]]
        if whole and recorded:
            items += [f"animation/{slug}/{recorded[-1]}" for slug in manifest["probe_slugs"] if self.has_animation]
            items.append(f"report/{recorded[-1]}")
        if whole and self._is_own and self.journal.status is not None:
            items.append("status")
        return [item for item in items if item not in self._sent]

    def send(
        self,
        steps: Collection[int] | None = None,
        *,
        whole: bool = True,
        stop: Callable[[], bool] = lambda: False,
        on_item: Callable[[str], None] = lambda item: None,
    ) -> bool:
        """Tries each missing item once, but no more of a kind that failed, and nothing more when nobody answers.

        Args:
            steps: which steps; all of the journal by default.
            whole: whether to send what is of the whole record.
            stop: asked before each item.
            on_item: told of each item that has arrived.

        Returns:
            Whether everything has arrived that can be read.
        """
        self.error = None
        failed: set[str] = set()
        for item in self.missing(steps, whole=whole):
            kind, *where = item.split("/")
            if stop():
                return False
            if kind in failed or item in self._unusable:
                continue
            try:
                self._deliver(item, kind, where)
            except _UnusableError as error:
                self.error = self.error or error
                self._unusable.add(item)
                logger.warning("'%s' cannot be sent to MLflow: %s", item, error)
                logger.debug("The reason:", exc_info=error)
                continue
            except Exception as error:  # whatever store or network it is: the item is kept, and tried again
                failed.add(kind)
                self.error = self.error or error
                if _nobody_answers(error):
                    return False
                continue
            self._sent.add(item)
            on_item(item)
            if self._is_own:
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

    def _deliver(self, item: str, kind: str, where: list[str]) -> None:
        """Sends what the run lacks; again where the server hung up on a connection from before an error of its own."""
        for is_again in (False, True):
            try:
                if not self._is_there(item, kind):
                    self._send(kind, where)
                return
            except _UnusableError:
                raise
            except Exception as error:
                self._present.pop(kind, None)  # it may have arrived although it failed, and it may still arrive
                self._is_tidy = False
                if is_again or not _has_hung_up(error):
                    raise

    def _send(self, kind: str, where: list[str]) -> None:
        if kind == "description":
            manifest = self.journal.manifest
            for name in DESCRIBING:
                if manifest.get(name):
                    self.client.set_tag(self.run_id, f"gradcam.{name}", manifest[name])
            self._send_file("gradcam", self.journal.directory / "manifest.json", json.dumps(manifest).encode())
        elif kind == "metrics":
            self._send_metrics(self._read(int(where[0])))
        elif kind == "maps":
            step = int(where[0])
            self._read(step)
            self._send_file("gradcam/maps", self.journal.path(step), self.journal.content(step))
        elif kind == "image":
            self._send_image(where[0], self._read(int(where[1])))
        elif kind == "animation":
            self._send_animation(where[0])
        elif kind == "report":
            self._send_report()
        else:
            self.client.set_terminated(self.run_id, self.journal.status)

    def _read(self, step: int) -> Step:
        if self._recorded is None or self._recorded.step != step:
            self._recorded = _made(lambda: self.journal.read(step))
        return self._recorded

    def _pictures_of_probes(self) -> Array:
        if self._pictures is None:
            self._pictures = _made(self.journal.pictures)
        return self._pictures

    def _send_metrics(self, recorded: Step) -> None:
        numbers = cards.step_metrics(recorded, self.journal.manifest)
        metrics = [Metric(key, value, _milliseconds(recorded), recorded.step) for key, value in numbers.items()]
        for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def _send_image(self, slug: str, recorded: Step) -> None:
        manifest, pictures = self.journal.manifest, self._pictures_of_probes()
        n = manifest["probe_slugs"].index(slug)
        tile = _made(lambda: cards.step_tile(recorded, manifest, pictures, n))
        half = self._halves.get(f"image/{slug}/{recorded.step}")
        if half is None:
            self.client.log_image(
                self.run_id,
                tile,
                key=f"gradcam/{slug}",
                step=recorded.step,
                timestamp=_milliseconds(recorded),
                synchronous=True,
            )
            return
        # The server was lost between the picture and its small copy: another pair would be there twice.
        missing = Path(half)
        image, content = Image.fromarray(tile), io.BytesIO()
        if missing.suffix == ".webp":
            image.thumbnail((256, 256))
        image.save(content, missing.suffix[1:])
        self._send_file("images", missing, content.getvalue())
        self.client.set_tag(self.run_id, "mlflow.loggedImages", True)

    def _send_animation(self, slug: str) -> None:
        manifest, pictures = self.journal.manifest, self._pictures_of_probes()
        n = manifest["probe_slugs"].index(slug)
        steps = report.read_steps(self.journal)
        content = _made(lambda: cards.animation(steps, manifest, pictures, n))
        self._send_file("gradcam/animation", Path(f"{slug}.webp"), content)

    def _send_report(self) -> None:
        """The review page, the strip, and in the run's description, after what the user wrote there, a link."""
        self._fetch_earlier()
        run = self.client.get_run(self.run_id)
        steps = report.read_steps(self.journal)
        pictures = self._pictures_of_probes()
        page = _made(lambda: report.build([self.journal], names=[run.info.run_name or self.run_id], steps=[steps]))
        self._send_file("gradcam", Path("report.html"), page.encode())
        content = io.BytesIO()
        Image.fromarray(_made(lambda: cards.strip(steps, self.journal.manifest, pictures))).save(content, "PNG")
        self._send_file("gradcam", Path("strip.png"), content.getvalue())
        note = run.data.tags.get("mlflow.note.content", "")
        if "gradcam%2Fstrip.png" not in note:
            link = report_path(run.info.experiment_id, self.run_id)
            strip = f"get-artifact?path=gradcam%2Fstrip.png&run_uuid={self.run_id}"
            ours = f"[![Open the Grad-CAM review]({strip})]({link})"
            self.client.set_tag(self.run_id, "mlflow.note.content", f"{note}\n\n{ours}".strip())

    def _fetch_earlier(self) -> None:
        """Takes the steps of earlier trainings back, where their journal is gone."""
        if self._has_earlier or not self._is_own:
            return
        known = set(self.journal.steps())
        for entry in self.client.list_artifacts(self.run_id, "gradcam/maps"):
            match = re.fullmatch(r"gradcam/maps/(-1|\d+)\.npz", entry.path)
            if match and int(match[1]) not in known:
                step = int(match[1])
                content = self.earlier[step] if step in self.earlier else _maps(self.client, self.run_id, step)
                _made(lambda step=step, content=content: self.journal.add(step, content))  # type: ignore[misc]
                slugs = self.journal.manifest["probe_slugs"]
                items = [f"metrics/{step}", f"maps/{step}", *(f"image/{slug}/{step}" for slug in slugs)]
                self._sent.update(items)
                self.journal.mark_uploaded(*items)
        self._has_earlier = True

    def _send_file(self, folder: str, path: Path, content: bytes) -> None:
        """An artifact that is on disk, or that may be in memory only."""
        if path.is_file():
            self.client.log_artifact(self.run_id, str(path), folder)
            return
        with tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
            file = Path(temporary, path.name)
            file.write_bytes(content)
            self.client.log_artifact(self.run_id, str(file), folder)

    def _is_there(self, item: str, kind: str) -> bool:
        """Whether the run holds the metrics or the image; what else there is can be sent twice and is there once."""
        if kind not in ("metrics", "image"):
            return False
        if kind not in self._present:
            self._present[kind] = self._metrics_there() if kind == "metrics" else self._images_there()
        return item in self._present[kind]

    def _metrics_there(self) -> set[str]:
        history = self.client.get_metric_history(self.run_id, f"gradcam_health/{HEALTHS[-1]}")
        return {f"metrics/{metric.step}" for metric in history}

    def _images_there(self) -> set[str]:
        found = set()
        self._halves = {}
        for item, copies in self._images().items():
            if any(len(files) == 2 for files in copies.values()):
                found.add(item)
                continue
            stem, (end,) = next(iter(copies.items()))
            self._halves[item] = f"{stem}{'.png' if end != '.png' else _small_end(stem)}"
        return found

    def _images(self) -> dict[str, dict[str, dict[str, str]]]:
        """For each image item of the run, by what their names have in common, the paths of picture and small copy."""
        found: dict[str, dict[str, dict[str, str]]] = {}
        for entry in self.client.list_artifacts(self.run_id, "images"):
            match = _IMAGE.fullmatch(entry.path)
            if match:
                stem, slug, step, end = match.groups()
                found.setdefault(f"image/{slug}/{step}", {}).setdefault(stem, {})[end] = entry.path
        return found


Made = TypeVar("Made")


def _made(make: Callable[[], Made]) -> Made:
    """What is read or drawn here.

    Raises:
        _UnusableError: if it cannot be.
    """
    try:
        return make()
    except Exception as error:
        raise _UnusableError(str(error) or type(error).__name__) from error


def _milliseconds(recorded: Step) -> int:
    return int(recorded.time * 1000)


def _small_end(stem: str) -> str:
    """How the name of a small copy ends whose picture is named so."""
    return "%compressed.webp" if "%step%" in stem else "+compressed.webp"


def _has_hung_up(error: BaseException) -> bool:
    """Whether the server closed the connection instead of an answer, as it may after an error; a new one may do."""
    return "Connection aborted" in str(error)


def _nobody_answers(error: BaseException | None) -> bool:
    """Whether the network failed, so that the next request would fail too, after another time-out."""
    while error is not None:
        if "error responses" in str(error) or _has_hung_up(error):  # somebody did: "too many 500 error responses"
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
        self._unreported = 0
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

    def close(self, timeout: float) -> None:
        """Waits until everything has arrived, and ends the worker.

        Args:
            timeout: seconds to wait at most.
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

    def _work(self) -> None:
        pause = 0.0
        with bounded_requests(self._timeout):
            while not self._stopping:
                steps, is_last = set(self._steps), self._closing
                due = max(REPORT_EVERY, len(self.upload.journal.steps()) // 5)
                whole = is_last or self._unreported + len(steps) >= due
                arrived = self.upload.send(steps, whole=whole, stop=lambda: self._stopping)
                pause = 0.0 if arrived else min(2 * pause or 1.0, LONGEST_PAUSE)
                if not arrived and not self._stopping:
                    self._failed()
                with self._changed:
                    if arrived:
                        self._steps -= steps
                        self._unreported = 0 if whole else self._unreported + len(steps)
                    self._is_done = arrived and not self._steps
                    self._changed.notify_all()
                    if self._is_done and is_last:
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


# ---- Runs ----


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
        return _maps(run.client(), run.run_id, step)


def _maps(client: MlflowClient, run_id: str, step: int) -> bytes:
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
            if not _has_hung_up(error):
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
