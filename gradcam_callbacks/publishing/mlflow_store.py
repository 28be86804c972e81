"""Where MLflow begins: a run as a `Store`, and how runs are found. The only file that imports mlflow.

What we rely on of MLflow that it does not promise stands here too: that its HTTP settings are asked for through objects
whose `get` can be replaced, how it names the files of images, and the words of its errors.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, RunTag
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_RUN_ID,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.slugs import ascii_slugs, is_told
from gradcam_callbacks.publishing.credentials import remove_credentials, without_credentials
from gradcam_callbacks.publishing.metrics import ARRIVED
from gradcam_callbacks.publishing.store import EncodedTile, HungUpError, Item, Kind, Review, UnreachableError
from gradcam_callbacks.publishing.tiles import encoded
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import DECIDING, Manifest
from gradcam_callbacks.reviewing.verdict import Verdict

REQUEST_TIMEOUT = 10.0
"""Seconds that one request of ours may take."""
TAGS = ("layer", "method", "output", "score_kind", "probes", "version")
"""What of a manifest is a tag of the run, "gradcam.<name>". A run with the first of them is one that we wrote to."""
_METRICS_AT_ONCE, _TAGS_AT_ONCE = 1000, 100
"""The most that MLflow takes in one request."""
_LONGEST_TAG = 5000
"""Characters that the tag of a run has at most."""

# images/<key with another slash>+step+<step>+timestamp+<ms>+<id>.png, and a small copy beside it; older ones of MLflow
# separate by %. The groups: what the two have in common, the probe, the step, what they have not.
_IMAGE = re.compile(
    r"(images/gradcam[~#](.+)[+%]step[+%](\d+)[+%]timestamp[+%]\d+[+%][^+%]+?)(\.png|[+%]compressed\.webp)"
)
_FILES = {  # of a step: the folder, the ending, and what a path looks like
    Kind.MAPS: ("gradcam/maps", "npz", re.compile(r"gradcam/maps/(-1|\d+)\.npz")),
    Kind.TEST: ("gradcam/tests", "json", re.compile(r"gradcam/tests/(-1|\d+)\.json")),
}
# Our line in a run's description. It is found again by its first words, so that the user's text stays as it is.
_VERDICT_LINE = re.compile(r"^\*\*Grad-CAM verdict: [a-z]+\.\*\*.*$", re.MULTILINE)
_STRIP = "[![Open the Grad-CAM review]("


class MLflowStore:
    """A run of MLflow as a `Store`; see there for what the methods promise.

    Attributes:
        run_id: of the run.
        name: what people called it when it was opened.
        experiment_id: of its experiment.
        address: the tracking URI without name and password; of a store on this machine with an absolute path.
        title: "MLflow".
        is_deleted: whether somebody deleted it.
        is_ours: whether it was started here, or for this process, so that it must be ended here too.
        is_new: whether it can hold nothing of ours yet.
        was_empty: whether it held nothing of ours when it was opened.
        verdict: what its record comes to, as the word in the last review; "" before there is one.
        summary: why, in a few sentences; "" before.
        tiles_at_once: see `Store`.
    """

    tiles_at_once = 4

    def __init__(self, found: mlflow.entities.Run, address: str, *, is_ours: bool = False) -> None:
        """Takes a run as MLflow gives it; one of ours is a new one."""
        info = found.info
        self.run_id: str = info.run_id
        self.name: str = info.run_name or info.run_id
        self.experiment_id: str = info.experiment_id
        self.address = without_credentials(address)
        self.title = "MLflow"
        self.is_deleted = info.lifecycle_stage == LifecycleStage.DELETED
        self.is_ours = self.is_new = is_ours
        self.was_empty = f"gradcam.{TAGS[0]}" not in found.data.tags
        self.verdict: str = found.data.tags.get("gradcam.verdict", "")
        self.summary: str = found.data.tags.get("gradcam.summary", "")
        self._client = MlflowClient(address)
        self._uri = address
        self._halves: dict[Item, str] = {}
        self._is_tagged = False  # that the run has images
        self._tagging = threading.Lock()

    @property
    def takes_encoded_tiles(self) -> bool:
        """Whether tiles come as files; else MLflow makes them, whose names are not known here."""
        return names_are_known()

    def current_name(self) -> str:
        """What people call the run now: they may have renamed it."""
        with _asking():
            self.name = self._client.get_run(self.run_id).info.run_name or self.run_id
        return self.name

    def description(self) -> Mapping[str, str | None]:
        """The run's tags that say what decided its maps."""
        with _asking():
            tags = self._client.get_run(self.run_id).data.tags
        return {name: tags[f"gradcam.{name}"] for name in DECIDING if f"gradcam.{name}" in tags}

    def held(self, kind: Kind) -> Set[Item]:
        """Which metrics, maps or tiles have arrived; a tile whose small copy is missing has not."""
        with _asking():
            if kind is Kind.METRICS:
                history = self._client.get_metric_history(self.run_id, ARRIVED)
                return {Item(kind, int(metric.step)) for metric in history}
            if kind in _FILES:
                folder, _, pattern = _FILES[kind]
                paths = [entry.path for entry in self._client.list_artifacts(self.run_id, folder)]
                return {Item(kind, int(match[1])) for match in map(pattern.fullmatch, paths) if match}
            return self._whole_tiles() if kind is Kind.TILE else set()

    def put(self, item: Item, content: Any, time: float) -> None:
        """Sends an item; see `Store.put`."""
        with _asking():
            if item.kind is Kind.DESCRIPTION:
                self._put_description(content)
            elif item.kind is Kind.METRICS:
                self._put_metrics(item, content, _milliseconds(time))
            elif item.kind in _FILES:
                folder, ending, _ = _FILES[item.kind]
                self._put_file(folder, f"{item.step}.{ending}", content)
            elif item.kind is Kind.TILE:
                self._put_tile(item, content, _milliseconds(time))
            elif item.kind is Kind.ANIMATION:
                self._put_file("gradcam/animation", f"{item.probe}.webp", content)
            elif item.kind is Kind.REVIEW:
                self._put_review(content)

    def fetch(self, step: int, kind: Kind = Kind.MAPS) -> bytes:
        """The file of a step's maps, or of its test."""
        folder, ending, _ = _FILES[kind]
        with _asking(), tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
            path = self._client.download_artifacts(self.run_id, f"{folder}/{step}.{ending}", temporary)
            return Path(path).read_bytes()

    def finish(self, status: str) -> None:
        """Ends the run. Where it is this thread's active run, it is not active any more then, even if that fails."""
        with _asking():
            active = mlflow.active_run()
            if active is not None and active.info.run_id == self.run_id:
                mlflow.end_run(status)
            else:
                self._client.set_terminated(self.run_id, status)

    def tidy(self) -> None:
        """Deletes images that are there twice, because one arrived after it had been given up."""
        with _asking():
            artifacts = get_artifact_repository(
                self._client.get_run(self.run_id).info.artifact_uri, tracking_uri=self._uri
            )
            for copies in self._images().values():
                for files in sorted(copies.values(), key=len)[:-1]:
                    for path in files.values():
                        artifacts.delete_artifacts(path)  # type: ignore[no-untyped-call]

    def link(self) -> str | None:
        """Where its image cards are on its server; None for a store without one."""
        return f"{self.address.rstrip('/')}/{ui_path(self.experiment_id, self.run_id)}" if self._has_server else None

    def where_to_look(self) -> str:
        """Lines for a person: the links to the pictures and the review, and how to start a server if there is none."""
        server = self.address.rstrip("/") if self._has_server else "http://127.0.0.1:5000"
        lines = [
            f"  pictures  {server}/{ui_path(self.experiment_id, self.run_id)}",
            f"  review    {server}/{report_path(self.experiment_id, self.run_id)}",
        ]
        if not self._has_server:
            lines.append(f"  after     mlflow server --port 5000 --backend-store-uri {shlex.quote(self.address)}")
        return "\n".join(lines)

    @property
    def _has_server(self) -> bool:
        return self.address.startswith(("http://", "https://"))

    def _put_description(self, manifest: Manifest) -> None:
        for name in TAGS:
            if getattr(manifest, name):
                self._client.set_tag(self.run_id, f"gradcam.{name}", getattr(manifest, name), synchronous=True)
        real = [RunTag(f"gradcam.{key}", _sendable(name)[:_LONGEST_TAG]) for key, name in _real_names(manifest).items()]
        for start in range(0, len(real), _TAGS_AT_ONCE):
            self._client.log_batch(self.run_id, tags=real[start : start + _TAGS_AT_ONCE], synchronous=True)
        self._put_file("gradcam", "manifest.json", manifest.encoded())

    def _put_metrics(self, item: Item, values: Mapping[str, float], time: int) -> None:
        metrics = [Metric(key, value, time, item.step or 0) for key, value in values.items()]
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + _METRICS_AT_ONCE], synchronous=True)

    def _put_tile(self, item: Item, tile: Array | EncodedTile, time: int) -> None:
        """An image with its small copy, as `log_image` puts it; MLflow shows it once the run has a tag."""
        half = self._halves.get(item)
        if not isinstance(tile, EncodedTile):
            if half is None:
                key = f"gradcam/{item.probe}"
                self._client.log_image(self.run_id, tile, key=key, step=item.step, timestamp=time, synchronous=True)
                return
            tile = encoded(tile)
        if half is None:
            # The same name whenever it is put: what arrives after it was given up replaces itself.
            own = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.run_id}/{item}")
            stem = f"gradcam~{(item.probe or '').replace('/', '~')}+step+{item.step}+timestamp+{time}+{own}"
            files = {f"{stem}.png": tile.png, f"{stem}{_small_end(stem)}": tile.small}
        else:  # the server was lost between the picture and its small copy
            missing = Path(half)
            files = {missing.name: tile.png if missing.suffix == ".png" else tile.small}
        for name, content in files.items():
            self._put_file("images", name, content)
        with self._tagging:
            if not self._is_tagged:
                self._client.set_tag(self.run_id, "mlflow.loggedImages", True, synchronous=True)
                self._is_tagged = True

    def _put_review(self, review: Review) -> None:
        """The verdict as tags, the page, the strip, and in the run's description verdict and link."""
        if review.verdict is not None:
            self.verdict, self.summary = review.verdict.name, review.verdict.summary
            self._client.set_tag(self.run_id, "gradcam.verdict", self.verdict, synchronous=True)
            self._client.set_tag(self.run_id, "gradcam.summary", self.summary, synchronous=True)
        self._put_file("gradcam", "report.html", review.page.encode())
        if review.strip is not None:
            self._put_file("gradcam", "strip.png", review.strip)
        before = self._client.get_run(self.run_id).data.tags.get("mlflow.note.content", "")
        note = before
        if review.verdict is not None:
            note = _with_verdict(before, review.verdict)
        if "gradcam%2Fstrip.png" not in note:
            strip = f"get-artifact?path=gradcam%2Fstrip.png&run_uuid={self.run_id}"
            note = f"{note}\n\n{_STRIP}{strip})]({report_path(self.experiment_id, self.run_id)})".strip()
        if note != before:
            self._client.set_tag(self.run_id, "mlflow.note.content", note, synchronous=True)

    def _put_file(self, folder: str, name: str, content: bytes) -> None:
        """An artifact. It goes through a folder of our own, so that no other file of that name can be meant."""
        with tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
            file = Path(temporary, name)
            file.write_bytes(content)
            self._client.log_artifact(self.run_id, str(file), folder)

    def _whole_tiles(self) -> set[Item]:
        """The tiles that have both files; for the others, the file that is missing is remembered."""
        whole = set()
        self._halves = {}
        for item, copies in self._images().items():
            if any(len(files) == 2 for files in copies.values()):
                whole.add(item)
                continue
            stem, (end,) = next(iter(copies.items()))
            self._halves[item] = f"{stem}{'.png' if end != '.png' else _small_end(stem)}"
        return whole

    def _images(self) -> dict[Item, dict[str, dict[str, str]]]:
        """For each tile of the run, by what their names have in common, the paths of image and small copy."""
        found: dict[Item, dict[str, dict[str, str]]] = {}
        for entry in self._client.list_artifacts(self.run_id, "images"):
            match = _IMAGE.fullmatch(entry.path)
            if match:
                stem, slug, step, end = match.groups()
                found.setdefault(Item(Kind.TILE, int(step), slug), {}).setdefault(stem, {})[end] = entry.path
        return found


# ---- Runs ----


def choose_run(run_id: str | None, *, experiment: str | None = None) -> MLflowStore:
    """The run to log to.

    Args:
        run_id: the one that the user named, or None for the active one, that of MLFLOW_RUN_ID, or a new one.
        experiment: the name of the experiment of a new one; then the active one is not taken.

    Raises:
        mlflow.MlflowException: if there is no such run, or no tracking server.
    """
    uri = default_uri()
    active = mlflow.active_run()
    with _bounded_requests(REQUEST_TIMEOUT):
        if run_id is not None:
            return find_run(run_id, uri)
        if active is not None and experiment is None:
            return MLflowStore(active, uri)
        named = os.environ.get(MLFLOW_RUN_ID.name)
        if named and experiment is None:  # of `mlflow run`, or of a job that is started again
            resumed = find_run(named, uri)
            resumed.is_ours = True
            return resumed
        return MLflowStore(_started(uri, experiment), uri, is_ours=True)


def _started(uri: str, experiment: str | None) -> Any:
    """A new run, which is not the active one: it would stay that where `fit` is interrupted."""
    if experiment is None:
        run = mlflow.start_run(log_system_metrics=False)  # with MLflow's own tags, in its own experiment
        with suppress(Exception):
            mlflow.end_run("RUNNING")  # it is not active now, and `mlflow.last_active_run()` still finds it
        return run
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(experiment)
    experiment_id = client.create_experiment(experiment) if known is None else known.experiment_id
    return client.create_run(experiment_id)


def has_active_run() -> bool:
    """Whether the user has started a run in this thread."""
    return mlflow.active_run() is not None


def find_run(run_id: str, tracking_uri: str) -> MLflowStore:
    """A run that is there.

    Raises:
        mlflow.MlflowException: if there is no such run, or nobody answers.
    """
    ours = default_uri()  # a journal knows the address without name and password, and MLflow's own setting with them
    uri = ours if without_credentials(ours).rstrip("/") == tracking_uri.rstrip("/") else tracking_uri
    with _bounded_requests(REQUEST_TIMEOUT):
        return MLflowStore(MlflowClient(uri).get_run(run_id), uri)


def find_run_of(
    journal: Journal,
    run_id: str | None = None,
    tracking_uri: str | None = None,
    *,
    argument: str | None = None,
    is_trusted: Callable[[str], bool] = lambda address: False,
) -> MLflowStore:
    """The run that a journal belongs to.

    An address that only the journal names is not used before somebody says yes. Whoever wrote the journal could get
    the credentials that MLflow sends by itself, and a database at any path would be made, or get MLflow's tables.

    Args:
        journal: the journal.
        run_id: the run; by default the one that the journal names.
        tracking_uri: where it is, if the user has said so; by default the address that the journal names.
        argument: what the caller's user passes to say so; None where MLflow's own setting is the only way.
        is_trusted: gets an address that neither the user nor MLflow's own setting names, and says whether to go on.

    Raises:
        GradCAMError: if nobody trusts the address.
        mlflow.MlflowException: if there is no such run, or nobody answers.
    """
    address = tracking_uri or journal.manifest.tracking_uri
    plain = without_credentials(address)
    is_ours = plain.rstrip("/") == without_credentials(default_uri()).rstrip("/")
    if tracking_uri is None and not is_ours and not is_trusted(plain):
        raise GradCAMError(
            f"Only journal '{journal.directory}' names the address {plain!r}: it could get credentials of yours, or "
            "become a new database.",
            "If you trust it, pass {argument}." if argument else "If you trust it, set MLFLOW_TRACKING_URI to it.",
            argument=argument,
            value=plain,
        )
    return find_run(run_id or journal.manifest.run_id, address)


def fetch_journal(run: MLflowStore, directory: Path) -> Journal:
    """The journal of a run, as its artifacts hold it.

    Args:
        run: the run.
        directory: an empty folder for it.

    Raises:
        GradCAMError: if the run holds no maps of ours.
        mlflow.MlflowException: if nobody answers.
    """
    client = run._client
    with _bounded_requests(REQUEST_TIMEOUT):
        held = {entry.path for entry in client.list_artifacts(run.run_id, "gradcam")}
        if not {"gradcam/manifest.json", "gradcam/maps"} <= held:
            raise GradCAMError(f"Run {run.run_id} holds no maps of gradcam_callbacks.")
        manifest = client.download_artifacts(run.run_id, "gradcam/manifest.json", str(directory))
        maps = client.download_artifacts(run.run_id, "gradcam/maps", str(directory))
        has_tests = "gradcam/tests" in held
        tests = client.download_artifacts(run.run_id, "gradcam/tests", str(directory)) if has_tests else None
    folder = directory / "journal"
    folder.mkdir()
    Path(manifest).rename(folder / "manifest.json")
    Path(maps).rename(folder / "steps")
    if tests is not None:
        Path(tests).rename(folder / "tests")
    return Journal(folder)


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
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(directory)))
    except Exception as error:
        remove_credentials(error)
        raise


def default_uri() -> str:
    """MLflow's own tracking URI, such that it means the same from any working directory."""
    uri = mlflow.get_tracking_uri()
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


# ---- Requests ----


@contextmanager
def _asking() -> Iterator[None]:
    """Bounds the requests inside, and says in the words of `Store` what went wrong with them.

    Raises:
        HungUpError: if the server closed the connection instead of an answer, as it does after an error of its own.
        UnreachableError: if nobody answers.
    """
    try:
        with _bounded_requests(REQUEST_TIMEOUT):
            yield
    except Exception as error:
        if _has_hung_up(error):
            raise HungUpError(str(error)) from error
        if _nobody_answers(error):
            raise UnreachableError(str(error)) from error
        raise


def _has_hung_up(error: BaseException) -> bool:
    return "Connection aborted" in str(error)


def _nobody_answers(error: BaseException | None) -> bool:
    while error is not None:
        if "error responses" in str(error) or _has_hung_up(error):  # somebody did: "too many 500 error responses"
            return False
        if type(error).__module__.partition(".")[0] in ("requests", "urllib3") or isinstance(error, ConnectionError):
            return True
        if "failed with exception" in str(error) or "Read timed out" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _with_verdict(note: str, verdict: Verdict) -> str:
    """A run's description with a line on the verdict: after what the user wrote, and before the strip.

    MLflow shows few lines of a description, so that the line has the first sentence of the summary alone.
    """
    sentence = re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", verdict.sentence)  # as it is, and not as Markdown
    line = f"**Grad-CAM verdict: {verdict.name}.** {sentence}"
    if _VERDICT_LINE.search(note):
        return _VERDICT_LINE.sub(lambda found: line, note, count=1)
    users, strip, rest = note.partition(_STRIP)
    return f"{users.strip()}\n\n{line}\n\n{strip}{rest}".strip()


def _real_names(manifest: Manifest) -> dict[str, str]:
    """The names that the keys of images, or of metrics, do not tell, by "probe.<key>" and "target.<key>"."""
    probes = zip(ascii_slugs(manifest.probe_slugs), manifest.names, strict=True)
    targets = zip(manifest.target_slugs, manifest.targets, strict=True)
    named = {f"probe.{key}": name for key, name in probes if not is_told(name, key)}
    return named | {f"target.{key}": name for key, name in targets if not is_told(name, key)}


def _sendable(text: str) -> str:
    """Text that can be sent: a name of a file may hold what is no character."""
    return text.encode(errors="replace").decode()


def _milliseconds(time: float) -> int:
    return int(time * 1000)


class _Names:
    """Stands in for a client whose `log_image` is called, and notes the files instead of sending them."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def _log_artifact_helper(self, run_id: str, artifact_file: str) -> Iterator[str]:
        self.found.append(artifact_file)
        with tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
            yield str(Path(temporary, Path(artifact_file).name))

    def set_tag(self, *arguments: Any, **more: Any) -> None:
        """Nothing is sent."""


@lru_cache
def names_are_known() -> bool:
    """Whether the MLflow that is installed names the files of images as `MLflowStore` does; older ones do not."""
    names: Any = _Names()
    with suppress(Exception):
        MlflowClient.log_image(
            names, "run", Image.new("RGB", (2, 2)), key="gradcam/a", step=3, timestamp=5, synchronous=True
        )
    found = [re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", name) for name in names.found]
    stem = "images/gradcam~a+step+3+timestamp+5+ID"
    return found == [f"{stem}.png", f"{stem}{_small_end(stem)}"]


def _small_end(stem: str) -> str:
    """How the name of a small copy ends whose picture is named so."""
    return "%compressed.webp" if "%step%" in stem else "+compressed.webp"


class _Bounds(threading.local):
    """The bounds on the requests of a thread; none by default."""

    by_name: Mapping[str, float] | None = None


_bounds = _Bounds()
_lock = threading.Lock()
_bounded_threads = 0
_VARIABLES = (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,  # MLflow prints the tracking URI with its password when a run ends
)


@contextmanager
def _bounded_requests(timeout: float) -> Iterator[None]:
    """Bounds the requests of this thread alone: no retries, and so many seconds each. Errors name no password.

    MLflow has such settings for the whole process only, as environment variables; it asks an object for each. Inside,
    the `get` of that object is replaced by one that gives our values to the threads that asked for bounds, and the
    user's to all others.
    """
    global _bounded_threads
    with _lock:
        _bounded_threads += 1
        if _bounded_threads == 1:
            for variable in _VARIABLES:
                variable.__dict__["get"] = partial(_value, variable)
    before = _bounds.by_name
    _bounds.by_name = {
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.name: 0,
        MLFLOW_HTTP_REQUEST_TIMEOUT.name: timeout,
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name: True,
    }
    try:
        yield
    except Exception as error:
        remove_credentials(error)
        raise
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


def _forked() -> None:
    """Forgets in a child what belongs to the threads of its parent."""
    global _lock, _bounded_threads
    _lock = threading.Lock()
    _bounded_threads = 0
    for variable in _VARIABLES:
        variable.__dict__.pop("get", None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
