"""Where MLflow begins: a run as a `Store`, and how runs are found. The only file that imports mlflow.

What we rely on of MLflow that it does not promise stands here too: that its HTTP settings are asked for through objects
whose `get` can be replaced, where it makes its client of S3, how it names the files of images, and the words of its
errors.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import shlex
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow

from gradcam_callbacks.versions import refuse_older

# First of all: older ones lack some of what is imported next.
refuse_older(mlflow, "MLflow", "Before 3.11.1 all pictures of a run overwrite one file where a server takes them.")

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModel,
    LoggedModelStatus,
    Metric,
    RunTag,
)
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_RUN_ID,
    MLFLOW_S3_ENDPOINT_URL,
    MLFLOW_S3_IGNORE_TLS,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from mlflow.tracking.context import registry as context_registry
from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri
from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError, NotInstalledError
from gradcam_callbacks.probes.slugs import ascii_slugs, is_told, slugs
from gradcam_callbacks.publishing.credentials import remove_credentials, without_credentials
from gradcam_callbacks.publishing.metrics import ARRIVED
from gradcam_callbacks.publishing.store import EncodedTile, HungUpError, Item, Kind, Review, UnreachableError
from gradcam_callbacks.publishing.tiles import encoded
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import DECIDING, Manifest
from gradcam_callbacks.record.parts import part_folder
from gradcam_callbacks.reviewing.verdict import Verdict

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 10.0
"""Seconds that one request of ours may take."""
TAGS = ("layer", "place", "method", "output", "score_kind", "probes", "unit", "engine", "version")
"""What of a manifest is a tag of the run, "gradcam.<name>", or "gradcam.<number>.<name>" of a later part.

A run with the first of them is one that we wrote to.
"""
_METRICS_AT_ONCE, _TAGS_AT_ONCE = 1000, 100
"""The most that MLflow takes in one request."""
_LONGEST_TAG = 5000
"""Characters that the tag of a run has at most."""
DATASET = "gradcam_probes"
"""What the probe set is called among the data sets of a run."""
_DIGEST = 8
"""How many characters of a digest MLflow's own data sets have; it takes 36."""

# images/<key with another slash>+step+<step>+timestamp+<ms>+<id>.png, and a small copy beside it; older ones of MLflow
# separate by %. The groups: what the two have in common, the probe, the step, what they have not.
_IMAGE = re.compile(
    r"(images/gradcam[~#](.+)[+%]step[+%](\d+)[+%]timestamp[+%]\d+[+%][^+%]+?)(\.png|[+%]compressed\.webp)"
)
_FILES = {Kind.MAPS: ("maps", "npz"), Kind.TEST: ("tests", "json")}  # of a step: the folder, and the ending
# Our line in a run's description. It is found again by its first words, so that the user's text stays as it is.
_VERDICT_LINE = re.compile(r"^\*\*Grad-CAM verdict: [a-z]+\.\*\*.*$", re.MULTILINE)
_PART = re.compile(r"gradcam/parts/([1-9]\d{0,5})")
_TAG_OF_PART = re.compile(rf"gradcam\.(?:([1-9]\d*)\.)?({'|'.join((*DECIDING, 'engine'))})")
_STRIP = "[![Open the Grad-CAM review]("


class MLflowStore:
    """A run of MLflow as a `Store`, or a part of one; see there for what the methods promise.

    Attributes:
        run_id: of the run.
        number: of the part; 1 is the run as it is opened.
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
        self.number = 1
        self.name: str = info.run_name or info.run_id
        self.experiment_id: str = info.experiment_id
        self._artifact_uri: str = info.artifact_uri or "unknown:"
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
        self._model_in_training = ""  # the LoggedModel that was begun for this training, once it was looked for
        self._is_of_autolog = False  # whether autolog has begun it
        self._refused: set[str] = set()  # LoggedModels that metrics cannot be linked to
        self._logged: set[str] = set()  # those whose files have been saved
        self._takes_datasets: bool | None = None  # whether metrics may name one; None until that was tried
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

    def part(self, number: int) -> MLflowStore:
        """A part of the run."""
        if number == self.number:
            return self
        part = copy.copy(self)
        part.number, part._halves = number, {}
        return part

    def descriptions(self) -> Mapping[int, Mapping[str, str | None]]:
        """The run's tags that say what decided the maps of each part, and on which engine they were computed.

        A part without a layer was not told yet.
        """
        with _asking():
            tags = self._client.get_run(self.run_id).data.tags
        told: dict[int, dict[str, str | None]] = {}
        for tag, value in tags.items():
            if match := _TAG_OF_PART.fullmatch(tag):
                told.setdefault(int(match[1] or 1), {})[match[2]] = value
        return {number: decided for number, decided in sorted(told.items()) if "layer" in decided}

    def held(self, kind: Kind) -> Set[Item]:
        """Which metrics, maps or tiles have arrived; a tile whose small copy is missing has not."""
        with _asking():
            if kind is Kind.METRICS:
                history = self._client.get_metric_history(self.run_id, ARRIVED)
                return {Item(kind, int(metric.step)) for metric in history}
            if kind in _FILES:
                name, ending = _FILES[kind]
                folder = f"{self._folder}/{name}"
                pattern = re.compile(rf"{re.escape(folder)}/(-1|\d+)\.{ending}")
                paths = [entry.path for entry in self._artifacts().list_artifacts(folder)]
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
                name, ending = _FILES[item.kind]
                self._put_file(f"{self._folder}/{name}", f"{item.step}.{ending}", content)
            elif item.kind is Kind.TILE:
                self._put_tile(item, content, _milliseconds(time))
            elif item.kind is Kind.ANIMATION:
                self._put_file(f"{self._folder}/animation", f"{item.probe}.webp", content)
            elif item.kind is Kind.REVIEW:
                self._put_review(content)

    def find_model_in_training(self) -> None:
        """Looks for the LoggedModel that this thread has begun for the training, as autolog does before `fit`.

        Where it cannot be asked for, metrics are linked to the active model alone.
        """
        try:
            with _bounded_requests(REQUEST_TIMEOUT):
                model = mlflow.last_logged_model()  # the last of this thread; a request only if there is one
        except Exception:
            logger.debug("The model that is being trained cannot be asked for.", exc_info=True)
            return
        if model is not None and model.status == LoggedModelStatus.PENDING and model.source_run_id == self.run_id:
            self._model_in_training, self._is_of_autolog = model.model_id, _autologging() is not None

    def model_in_training(self) -> str | None:
        """The LoggedModel that this thread trains: the one that was begun for it, or else MLflow's active one."""
        return self._model_in_training or mlflow.get_active_model_id()

    def fetch(self, step: int | None, kind: Kind = Kind.MAPS) -> bytes:
        """The file of a step's maps, or of its test, or the manifest."""
        name, ending = _FILES.get(kind, ("", ""))
        file = f"{name}/{step}.{ending}" if name else "manifest.json"
        with _asking(), tempfile.TemporaryDirectory(prefix="gradcam-") as temporary:
            return Path(self._artifacts().download_artifacts(f"{self._folder}/{file}", temporary)).read_bytes()

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
            artifacts = self._artifacts()
            for copies in self._images().values():
                for files in sorted(copies.values(), key=len)[:-1]:
                    for path in files.values():
                        artifacts.delete_artifacts(path)

    def link(self) -> str | None:
        """Where its image cards are on its server; None for a store without one."""
        return f"{self.address.rstrip('/')}/{ui_path(self.experiment_id, self.run_id)}" if self._has_server else None

    def where_to_look(self) -> str:
        """Lines for a person: the links to the pictures and the review, and how to start a server if there is none."""
        server = self.address.rstrip("/") if self._has_server else "http://127.0.0.1:5000"
        lines = [
            f"  pictures  {server}/{ui_path(self.experiment_id, self.run_id)}",
            f"  review    {server}/{report_path(self.experiment_id, self.run_id, self._folder)}",
        ]
        if not self._has_server:
            lines.append(f"  after     mlflow server --port 5000 --backend-store-uri {shlex.quote(self.address)}")
        return "\n".join(lines)

    def review_file(self) -> Path | None:
        """Where the review lies on this machine; None where the run's artifacts are elsewhere."""
        place = urlsplit(self._artifact_uri)
        if place.scheme not in ("", "file") or place.netloc not in ("", "localhost"):
            return None
        folder = Path(url2pathname(place.path) if place.scheme else self._artifact_uri)
        return folder.absolute() / self._folder / "report.html"

    @property
    def _has_server(self) -> bool:
        return self.address.startswith(("http://", "https://"))

    @property
    def _folder(self) -> str:
        """Where the artifacts of the part are."""
        return "gradcam" if self.number == 1 else f"gradcam/parts/{self.number}"

    def _put_description(self, manifest: Manifest) -> None:
        prefix = "gradcam." if self.number == 1 else f"gradcam.{self.number}."
        told = {name: getattr(manifest, name) for name in TAGS if getattr(manifest, name)} | _real_names(manifest)
        tags = [RunTag(f"{prefix}{key}", _sendable(value)[:_LONGEST_TAG]) for key, value in told.items()]
        for start in range(0, len(tags), _TAGS_AT_ONCE):
            self._client.log_batch(self.run_id, tags=tags[start : start + _TAGS_AT_ONCE], synchronous=True)
        self._put_file(self._folder, "manifest.json", manifest.encoded())
        self._put_dataset(manifest)

    def _put_dataset(self, manifest: Manifest) -> None:
        """The probe set as an input of the run; MLflow takes the same one a second time as the first."""
        tags = self._client.get_run(self.run_id).data.tags
        try:
            self._client.log_inputs(self.run_id, datasets=[_dataset_input(manifest, tags)])
        except Exception as error:
            if _has_hung_up(error) or _nobody_answers(error):
                raise
            logger.debug("Run %s takes no data set.", self.run_id, exc_info=True)

    def _put_metrics(self, item: Item, values: Mapping[str, float], time: int) -> None:
        """Sends metrics with the model and the data set that they are of, or without, where that is refused."""
        step, model_id = item.step or 0, getattr(values, "model_id", None)
        if model_id is None or model_id in self._refused:
            self._log_metrics(values, time, step)
            return
        try:
            self._log_linked(values, time, step, model_id)
        except Exception as error:
            if _has_hung_up(error) or _nobody_answers(error):
                raise
            self._log_metrics(values, time, step)
            if "error responses" not in str(error):  # those may be better at the next step
                self._refused.add(model_id)
            logger.debug("Metrics cannot be linked to model %s.", model_id, exc_info=error)

    def _log_linked(self, values: Mapping[str, float], time: int, step: int, model_id: str) -> None:
        if self._takes_datasets is False or not self._may_name_dataset(model_id, step):
            self._log_metrics(values, time, step, model_id=model_id)
            return
        digest = _digest(getattr(values, "probes", ""))
        self._log_metrics(values, time, step, model_id=model_id, dataset_name=DATASET, dataset_digest=digest)
        if self._takes_datasets is None:
            # MLflow's store in plain files, also of a server, reads metrics that name a data set as those of step 0.
            history = self._client.get_metric_history(self.run_id, ARRIVED)
            is_right = step in {metric.step for metric in history}
            self._takes_datasets = is_right and not any(metric.dataset_name for metric in history)
            if not is_right:
                self._log_metrics(values, time, step, model_id=model_id)

    def _may_name_dataset(self, model_id: str, step: int) -> bool:
        """Whether a metric of a model may name the data set, too.

        When a model is saved as of a step, MLflow copies to it the run's metrics of that step, without the data set.
        Where the model has the same ones with a data set, that fails, and with it the saving. Autolog saves at step 0;
        at which step a user will save is not known.
        """
        if model_id == self._model_in_training and self._is_of_autolog and step > 0:
            return True
        if model_id not in self._logged and self._client.get_logged_model(model_id).status == LoggedModelStatus.READY:
            self._logged.add(model_id)
        return model_id in self._logged

    def _log_metrics(self, values: Mapping[str, float], time: int, step: int, **of: str) -> None:
        metrics = [Metric(key, value, time, step, **of) for key, value in values.items()]
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
        self._put_file(self._folder, "report.html", review.page.encode())
        if review.strip is not None:
            self._put_file(self._folder, "strip.png", review.strip)
        before = self._client.get_run(self.run_id).data.tags.get("mlflow.note.content", "")
        note = before
        if review.verdict is not None:
            note = _with_verdict(before, review.verdict)
        path = f"{self._folder}/strip.png".replace("/", "%2F")
        if path not in note:
            strip = f"get-artifact?path={path}&run_uuid={self.run_id}"
            page = report_path(self.experiment_id, self.run_id, self._folder)
            note = f"{note}\n\n{_STRIP}{strip})]({page})".strip()
        if note != before:
            self._client.set_tag(self.run_id, "mlflow.note.content", note, synchronous=True)

    def _artifacts(self) -> Any:
        """Where the run's artifacts are. One request lists a folder.

        MLflow's client makes four requests: it asks for the run twice, and for a LoggedModel of the folder's name.
        """
        uri = add_databricks_profile_info_to_artifact_uri(self._artifact_uri, self._uri)  # type: ignore[no-untyped-call]
        return get_artifact_repository(uri, tracking_uri=self._uri)

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
        for entry in self._artifacts().list_artifacts("images"):
            match = _IMAGE.fullmatch(entry.path)
            if match:
                stem, slug, step, end = match.groups()
                probe = slug.replace("~", "/").replace("#", "/")
                found.setdefault(Item(Kind.TILE, int(step), probe), {}).setdefault(stem, {})[end] = entry.path
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
    return client.create_run(experiment_id, tags=context_registry.resolve_tags())  # user, source, git, as MLflow's own


def has_active_run() -> bool:
    """Whether the user has started a run in this thread."""
    return mlflow.active_run() is not None


def find_run(run_id: str, tracking_uri: str) -> MLflowStore:
    """A run that is there.

    Args:
        run_id: of the run, or its beginning.
        tracking_uri: where it is.

    Raises:
        GradCAMError: if that would be a new database, or several runs begin so.
        mlflow.MlflowException: if there is no such run, or nobody answers.
    """
    ours = default_uri()  # a journal knows the address without name and password, and MLflow's own setting with them
    uri = ours if without_credentials(ours).rstrip("/") == tracking_uri.rstrip("/") else tracking_uri
    _refuse_new_database(uri)
    with _bounded_requests(REQUEST_TIMEOUT):
        client = MlflowClient(uri)
        return MLflowStore(client.get_run(_whole_id(client, run_id)), uri)


def _refuse_new_database(uri: str) -> None:
    """Raises where MLflow would make an empty database, in which no run can be."""
    path = uri.removeprefix("sqlite:///")
    if path != uri and path and ":memory:" not in path and not Path(path).exists():
        raise GradCAMError(
            f"There is no database '{path}', so that no run can be in it.",
            "Set MLFLOW_TRACKING_URI to the address of the MLflow server, or to the store that has the run.",
        )


def _whole_id(client: MlflowClient, run_id: str) -> str:
    """The id of the one run whose id begins so; what is no beginning of an id is left as it is."""
    if not re.fullmatch("[0-9a-f]{1,31}", run_id):
        return run_id
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"attributes.run_id LIKE '{run_id}%'", max_results=2)
    if len(found) > 1:
        raise GradCAMError(f"The ids of several runs begin with {run_id}. Name more of the id.")
    return str(found[0].info.run_id) if found else run_id


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
    """The journal of a run, as its artifacts hold it; those of later parts lie in it, see `record.parts`.

    Args:
        run: the run.
        directory: an empty folder for it.

    Returns:
        That of the first part.

    Raises:
        GradCAMError: if the run holds no maps of ours.
        mlflow.MlflowException: if nobody answers.
    """
    artifacts = run._artifacts()
    folder = directory / "journal"
    with _bounded_requests(REQUEST_TIMEOUT):
        held = [entry.path for entry in artifacts.list_artifacts("gradcam")]
        later = artifacts.list_artifacts("gradcam/parts") if "gradcam/parts" in held else []
        matches = (_PART.fullmatch(entry.path) for entry in later)
        parts = [run.part(1), *(run.part(int(match[1])) for match in matches if match)]
        found = [part.number for part in parts if _fetch_part(part, directory, part_folder(folder, part.number))]
    if not found:
        raise GradCAMError(f"Run {run.run_id} holds no maps of gradcam_callbacks.")
    return Journal(part_folder(folder, min(found)))


def _fetch_part(part: MLflowStore, directory: Path, folder: Path) -> bool:
    """Fetches the journal of a part into a folder of its own; false where it holds no maps.

    Args:
        part: of a run.
        directory: where downloads go.
        folder: what becomes the journal.
    """
    artifacts = part._artifacts()
    held = {entry.path for entry in artifacts.list_artifacts(part._folder)}
    names = {"manifest.json": "manifest.json", "maps": "steps", "tests": "tests"}
    if not {f"{part._folder}/manifest.json", f"{part._folder}/maps"} <= held:
        return False
    folder.mkdir(parents=True)
    for name, ours in names.items():
        if f"{part._folder}/{name}" in held:
            fetched = artifacts.download_artifacts(f"{part._folder}/{name}", str(directory))
            Path(fetched).rename(folder / ours)
    return True


@dataclass(frozen=True)
class Downloaded:
    """What MLflow keeps, on this machine.

    Attributes:
        path: the folder or file.
        model_id: of the LoggedModel that it is, or None.
        step: at which that was logged, if it is known.
        created: when it was logged, in milliseconds since 1970; 0 where it is no LoggedModel.
    """

    path: Path
    model_id: str | None = None
    step: int | None = None
    created: int = 0


def download(uri: str, directory: Path) -> list[Downloaded]:
    """Artifacts and models.

    Args:
        uri: "runs:/ID/folder" are artifacts of a run, "models:/NAME/VERSION" is a registered model, "models:/ID" a
            LoggedModel, and "runs:/ID/models" are all LoggedModels of a run, or its artifacts of that name where it
            has logged no model.
        directory: an empty folder for them.

    Returns:
        Where they are, LoggedModels in the order in which they were logged.

    Raises:
        mlflow.MlflowException: if there are none.
    """
    try:
        one, all_of_run = re.fullmatch(r"models:/([^/@]+)", uri), re.fullmatch(r"runs:/([^/]+)/models/?", uri)
        client = MlflowClient()
        found: list[tuple[LoggedModel, int | None]] = []
        if one is not None:
            model = client.get_logged_model(one[1])
            found = [(model, _steps_said(client, model.source_run_id).get(model.model_id))]
        elif all_of_run is not None:
            found = _models_of(client, all_of_run[1])
        if not found:
            return [Downloaded(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(directory))))]
        return [_downloaded(model, step, directory) for model, step in found]
    except Exception as error:
        remove_credentials(error)
        raise


def _models_of(client: MlflowClient, run_id: str) -> list[tuple[LoggedModel, int | None]]:
    """The LoggedModels of a run with their steps, the first one first.

    What autolog saves after a training has step 0, as every model that is logged at no step. It is at the step of the
    last metric that the run has of it; beside checkpoints, one of which has that step, it is left out.
    """
    said = _steps_said(client, run_id)
    models = []
    for model_id in said:
        try:
            models.append(client.get_logged_model(model_id))
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it was deleted meanwhile
                raise
    taken = set(said.values()) if len(set(said.values())) > 1 else set()
    found: list[tuple[LoggedModel, int | None]] = []
    for model in sorted(models, key=lambda model: model.last_updated_timestamp):
        step = said[model.model_id]
        if step == 0:
            step = max((metric.step for metric in model.metrics or [] if metric.run_id == run_id), default=0)
            if step in taken and (step > 0 or any(known == 0 for _, known in found)):
                logger.warning("Model '%s' is left out: another one was logged at step %d.", model.name, step)
                continue
        found.append((model, step))
    return sorted(found, key=lambda pair: pair[0].creation_timestamp)


def _steps_said(client: MlflowClient, run_id: str | None) -> dict[str, int]:
    """The steps at which a run has logged models, by their ids."""
    outputs = client.get_run(run_id).outputs if run_id else None
    return {} if outputs is None else {output.model_id: output.step for output in outputs.model_outputs}


def _downloaded(model: LoggedModel, step: int | None, directory: Path) -> Downloaded:
    """A LoggedModel in a folder of its name, below one of its id."""
    folder = directory / model.model_id / slugs([model.name])[0]
    folder.mkdir(parents=True)
    uri = f"models:/{model.model_id}"
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    return Downloaded(path, model.model_id, step, model.creation_timestamp)


def default_uri() -> str:
    """MLflow's own tracking URI, such that it means the same from any working directory."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////") and ":memory:" not in uri:
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def report_path(experiment_id: str, run_id: str, folder: str = "gradcam") -> str:
    """Where a run's review page is, below the address of an MLflow server; `folder` is that of its artifact."""
    page = f"artifacts/{folder}/report.html"
    return f"#/experiments/{experiment_id}/runs/{run_id}/{page}?workflowType=machine_learning"


def ui_path(experiment_id: str, run_id: str) -> str:
    """Where a run's image cards are, below the address of an MLflow server."""
    # Without the workflow type MLflow 3 opens its view for language models, two clicks away from the pictures.
    return f"#/experiments/{experiment_id}/runs/{run_id}/model-metrics?workflowType=machine_learning"


def refuse_autolog_without_tensorboard() -> None:
    """Raises where MLflow's autologging runs this training and will end it after the first epoch.

    That of TensorFlow, which `mlflow.autolog()` turns on, adds a callback that needs TensorBoard. TensorFlow 2.21 does
    not bring it any more.

    Raises:
        NotInstalledError: if TensorBoard is not installed.
    """
    if _autologging() == "tensorflow" and find_spec("tensorboard") is None:
        raise NotInstalledError(
            "MLflow's autologging of TensorFlow needs TensorBoard, which is not installed here: this training would "
            "end with an error after its first epoch.",
            "pip install 'gradcam_callbacks[autolog]', or use mlflow.keras.autolog(), which does not need it.",
        )


def _autologging() -> str | None:
    """What MLflow's autologging calls itself that has called what runs now; None where none has."""
    with suppress(ImportError, AttributeError):
        from mlflow.utils.autologging_utils import safety

        return safety._AutologgingSessionManager.active_session().integration  # type: ignore[no-any-return, no-untyped-call]
    return None


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
    """Whether MLflow itself cannot be reached.

    Where S3 or another place of artifacts is away, metrics can still be sent. Such a place has errors of its own, some
    of which are those of requests and urllib3, too; so it is MLflow's own words that decide.
    """
    while error is not None:
        request = re.match(r"API request to (\S+) failed with (?:timeout )?exception", str(error))
        if request:
            is_answered = "error responses" in str(error) or _has_hung_up(error)  # "too many 500 error responses"
            # A server that hands artifacts on waits for the place where they are.
            waits_for_artifacts = "/mlflow-artifacts/" in request[1] and "Read timed out" in str(error)
            return not (is_answered or waits_for_artifacts)
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


def _dataset_input(manifest: Manifest, tags: Mapping[str, str]) -> DatasetInput:
    """The probe set as MLflow describes a data set of arrays, made by the code that the tags of a run name."""
    count = len(manifest.names)
    height, width = manifest.picture_size()
    spec = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, height, width, 3]}}
    described = Dataset(
        name=DATASET,
        digest=_digest(manifest.probes),
        source_type="code",
        source=json.dumps({"tags": {key: value for key, value in tags.items() if key.startswith("mlflow.source.")}}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([spec]), "targets": None}}),
        profile=json.dumps(
            {
                "num_rows": count,
                "num_elements": count * height * width * 3,
                "features_shape": [count, height, width, 3],
                "targets": list(manifest.targets),
            }
        ),
    )
    return DatasetInput(described, tags=[InputTag("mlflow.data.context", "probes")])


def _digest(probes: str) -> str:
    return probes[:_DIGEST]


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
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,  # a bar for each file that is fetched would stand in the log of the training
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,  # MLflow prints the tracking URI with its password when a run ends
)


@contextmanager
def _bounded_requests(timeout: float) -> Iterator[None]:
    """Bounds the requests of this thread alone: no retries, and so many seconds each. Errors name no password.

    MLflow has such settings for the whole process only, as environment variables; it asks an object for each. Inside,
    the `get` of that object is replaced by one that gives our values to the threads that asked for bounds, and the
    user's to all others. For S3 it has no such settings: there the threads that asked get a client of their own.
    """
    global _bounded_threads
    with _lock:
        _bounded_threads += 1
        if _bounded_threads == 1:
            for variable in _VARIABLES:
                variable.__dict__["get"] = partial(_value, variable)
            S3ArtifactRepository._get_s3_client = _s3_client  # type: ignore[method-assign]
    before = _bounds.by_name
    _bounds.by_name = {
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name: False,
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
                S3ArtifactRepository._get_s3_client = _s3_client_of_mlflow  # type: ignore[method-assign]


def _value(variable: Any) -> Any:
    """What a setting is to the thread that asks."""
    if _bounds.by_name is not None:
        return _bounds.by_name[variable.name]
    return type(variable).get(variable)


_s3_client_of_mlflow = S3ArtifactRepository._get_s3_client


def _s3_client(artifacts: S3ArtifactRepository) -> Any:
    """The client of S3 that the thread gets which asks."""
    client = _s3_client_of_mlflow(artifacts)  # type: ignore[no-untyped-call]
    if _bounds.by_name is None:
        return client
    keys = artifacts._access_key_id, artifacts._secret_access_key, artifacts._session_token
    return _bounded_s3_client(client, keys, _bounds.by_name[MLFLOW_HTTP_REQUEST_TIMEOUT.name])


@lru_cache(maxsize=8)
def _bounded_s3_client(client: Any, keys: tuple[str | None, str | None, str | None], timeout: float) -> Any:
    """A client of S3 like another one, which tries twice, and so many seconds each: S3 closes idle connections.

    By itself boto waits for 60 seconds, three to five times, on threads that the end of the process waits for.
    """
    import boto3
    from botocore.config import Config

    bounds = Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 2})
    return boto3.client(
        "s3",
        config=client.meta.config.merge(bounds),
        endpoint_url=MLFLOW_S3_ENDPOINT_URL.get(),  # type: ignore[no-untyped-call]
        verify=False if MLFLOW_S3_IGNORE_TLS.get() else None,  # type: ignore[no-untyped-call]
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        aws_session_token=keys[2],
    )


def _forked() -> None:
    """Forgets in a child what belongs to the threads of its parent."""
    global _lock, _bounded_threads
    _lock = threading.Lock()
    _bounded_threads = 0
    for variable in _VARIABLES:
        variable.__dict__.pop("get", None)
    S3ArtifactRepository._get_s3_client = _s3_client_of_mlflow  # type: ignore[method-assign]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
