"""Uploader: sends what a journal holds and a run lacks, in order, each item once."""

from __future__ import annotations

import io
import json
import logging
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.publishing.metrics import step_metrics
from gradcam_callbacks.publishing.mlflow_store import has_hung_up, maps_of, nobody_answers, report_path
from gradcam_callbacks.publishing.strip import strip
from gradcam_callbacks.publishing.tiles import animation, step_tile
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import DESCRIBING
from gradcam_callbacks.record.step import BASELINE, HEALTHS, Step
from gradcam_callbacks.reviewing.report import build, read_steps

logger = logging.getLogger(__name__)


# images/<key with another slash>+step+<step>+timestamp+<ms>+<id>.png, and a small copy beside it; older ones of MLflow
# separate by %. The groups: what the two have in common, the probe, the step, what they have not.
_IMAGE = re.compile(
    r"(images/gradcam[~#](.+)[+%]step[+%](\d+)[+%]timestamp[+%]\d+[+%][^+%]+?)(\.png|[+%]compressed\.webp)"
)


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
                if nobody_answers(error):
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
                if is_again or not has_hung_up(error):
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
        numbers = step_metrics(recorded, self.journal.manifest)
        metrics = [Metric(key, value, _milliseconds(recorded), recorded.step) for key, value in numbers.items()]
        for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def _send_image(self, slug: str, recorded: Step) -> None:
        manifest, pictures = self.journal.manifest, self._pictures_of_probes()
        n = manifest["probe_slugs"].index(slug)
        tile = _made(lambda: step_tile(recorded, manifest, pictures, n))
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
        steps = read_steps(self.journal)
        content = _made(lambda: animation(steps, manifest, pictures, n))
        self._send_file("gradcam/animation", Path(f"{slug}.webp"), content)

    def _send_report(self) -> None:
        """The review page, the strip, and in the run's description, after what the user wrote there, a link."""
        self._fetch_earlier()
        run = self.client.get_run(self.run_id)
        steps = read_steps(self.journal)
        pictures = self._pictures_of_probes()
        page = _made(lambda: build([self.journal], names=[run.info.run_name or self.run_id], steps=[steps]))
        self._send_file("gradcam", Path("report.html"), page.encode())
        content = io.BytesIO()
        Image.fromarray(_made(lambda: strip(steps, self.journal.manifest, pictures))).save(content, "PNG")
        self._send_file("gradcam", Path("strip.png"), content.getvalue())
        note = run.data.tags.get("mlflow.note.content", "")
        if "gradcam%2Fstrip.png" not in note:
            link = report_path(run.info.experiment_id, self.run_id)
            picture = f"get-artifact?path=gradcam%2Fstrip.png&run_uuid={self.run_id}"
            ours = f"[![Open the Grad-CAM review]({picture})]({link})"
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
                content = self.earlier[step] if step in self.earlier else maps_of(self.client, self.run_id, step)
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
