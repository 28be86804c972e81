"""Recorder: one run with its journal and its worker, where the explanations of every driver go."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import gradcam_callbacks
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.publishing.uploader import Upload
from gradcam_callbacks.publishing.worker import Tracker
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import BASELINE, parse_step
from gradcam_callbacks.reviewing import drift

logger = logging.getLogger(__name__)


FLOOR_EVERY = 5
"""How many records share one measurement of the noise."""
_MOST_LEFT = 64 * 2**20


@dataclass
class _Left:
    """The steps of the last training, in a run that it left open."""

    run_id: str = ""
    steps: dict[int, bytes] = field(default_factory=dict)


_left = _Left()


class Recorder:
    """Measures and journals explanations; a worker sends them to MLflow.

    Attributes:
        run: the MLflow run.
        journal: on disk.
        earlier: the steps that journal or run held before.
        next_free: the step after the last of them.
        recorded: the steps of this recorder.
        drift: the mean drift of the last record, or None where it is not known.
        problems: how many steps could not be explained.
    """

    def __init__(
        self,
        probes: ProbeSet,
        run: mlflow_store.Run,
        *,
        layer: str,
        method: str,
        score_kind: str,
        unit: str = "epoch",
        output: str | int | None = None,
        source: str | None = None,
        journal_dir: str | Path | None = None,
        keep_journal: bool = False,
        animation: bool = False,
        flush_timeout: float = 60,
        strict: bool = False,
        verbose: bool = True,
    ) -> None:
        """Opens the journal and starts the worker.

        Args:
            probes: what is explained.
            run: see `mlflow_store.choose_run`; it is ended if that fails.
            layer: the path of the explained layer.
            method: the name of the CAM method.
            score_kind: "logit" or "probability".
            unit: what a step counts: "epoch" or "batch".
            output: the head that was asked for.
            source: what is swept, if this is no training; an interrupted sweep goes on with the journal, which stays.
            journal_dir: by default ".gradcam/<run id>".
            keep_journal: whether the journal stays when all has arrived.
            animation: whether to log an animated picture of each probe at the end.
            flush_timeout: how many seconds to wait for MLflow at most.
            strict: whether problems raise at once; each step then waits until it has arrived.
            verbose: whether to print where the pictures are when all has arrived.

        Raises:
            ValueError: if the journal or the run hold maps of other probes, another layer or another method, or the
                journal is of another run.
            RuntimeError: if the run may hold steps, and nobody answers who knows which.
            OSError: if strict, and the disk does not take the journal.
        """
        self.run = run
        self.recorded: set[int] = set()
        self.drift: float | None = None
        self.problems = 0
        self._probes = probes
        self._keep_journal = keep_journal or journal_dir is not None
        self._is_sweep = source is not None
        self._flush_timeout = flush_timeout
        self._strict = strict
        self._verbose = verbose
        self._previous: tuple[int, Array, Array] | None = None  # step, maps, the classes that they explain
        self._warned_of_disk = False
        self._has_raised = False
        manifest = {
            "version": gradcam_callbacks.__version__,
            "run_id": run.run_id,
            "run_name": run.name,
            "tracking_uri": run.tracking_uri,
            "layer": layer,
            "method": method,
            "score_kind": score_kind,
            "unit": unit,
            "output": "" if output is None else str(output),
            "source": source,
            **probes.description(),
        }
        try:
            mlflow_store.check_run(run, manifest)
            self.journal = _open(journal_dir, run, manifest, probes.pictures, strict=strict)
            if self.journal.status is not None:  # the training before could not end its run: that is for this one
                self.run = run = replace(run, is_ours=True)
                self.journal.leave_status(None)
            journaled = self.journal.steps()
            left = _left.steps if _left.run_id == run.run_id else {}
            self.earlier = frozenset(journaled) | left.keys() | self._steps_of_run(left)
            self.next_free = max(self.earlier, default=-1) + 1
            if self.next_free > 0 and self.next_free - 1 not in journaled:
                self._previous = self._last_of_run(left)
            upload = Upload(
                self.journal, run.client(), run.run_id, is_new=run.is_new, has_animation=animation, earlier=left
            )
            self._tracker: Tracker | None = Tracker(upload)
        except BaseException:
            mlflow_store.end_run(run, "FAILED")
            raise
        for step in journaled:  # which may not have arrived
            self._tracker.put(step)

    def wants_noise(self) -> bool:
        """Whether it is the turn of the next record to measure the noise floor."""
        return len(self.recorded) % FLOOR_EVERY == 0

    def record(
        self,
        step: int,
        arrays: Mapping[str, Array],
        logs: Mapping[str, float],
        *,
        noisy: Mapping[str, Array] | None = None,
        is_cut_short: bool = False,
    ) -> None:
        """Measures a step, writes it to the journal, and lets the worker send it.

        Args:
            step: the 0-based epoch.
            arrays: of an `Explanation`.
            logs: the epoch's metrics.
            noisy: the arrays of the same weights under `ProbeSet.jittered`.
            is_cut_short: whether the epoch has not ended.

        Raises:
            RuntimeError: if strict, and it does not arrive, or parts of it cannot be drawn.
            OSError: if strict, and the disk does not take it.
        """
        arrays = {**arrays, **self._measures(step, arrays, noisy), "lost": np.array(self.problems)}
        if is_cut_short:
            arrays["cut_short"] = np.array(True)
        self.journal.append(step, arrays, logs)
        self.recorded.add(step)
        self._previous = (step, arrays["maps"], arrays["explained"])
        known = arrays.get("drift", np.array(np.nan))
        self.drift = float(np.nanmean(known)) if np.isfinite(known).any() else None
        if self.journal.trouble is not None and not self._warned_of_disk:
            self._warned_of_disk = True
            logger.warning(
                "The journal '%s' could not be written (%s); it goes on. What the disk does not take is kept in memory "
                "and sent to MLflow from there.",
                self.journal.directory,
                self.journal.trouble,
            )
        if self._tracker is None:
            return
        self._tracker.put(step)
        if not self._strict:
            return
        has_arrived = self._tracker.wait(self._flush_timeout)
        if not has_arrived or self._tracker.upload.error is not None:
            raise RuntimeError(
                f"Step {step} has not arrived in MLflow, and strict=True: {self._tracker.upload.error}. It is kept in "
                f"'{self.journal.directory}'."
            )

    def failed(self, step: int) -> None:
        """Takes note of a step that could not be recorded; called where the error is handled.

        Raises:
            Exception: that error, if strict.
        """
        if self._strict:
            self._has_raised = True
            raise
        self.problems += 1
        self.drift = None
        if self.problems == 1:
            logger.exception("Step %d could not be explained; it goes on.", step)

    @property
    def is_open(self) -> bool:
        """Whether it takes records: it was not closed, and did not raise."""
        return self._tracker is not None and not self._has_raised

    def close(self, status: str) -> None:
        """Waits until everything has arrived, ends a run of ours, and says where it is, or what is missing."""
        if self._tracker is None:
            return
        tracker, self._tracker = self._tracker, None
        try:
            # Where strict has raised, that was waited for already.
            tracker.close(0 if self._has_raised else self._flush_timeout)
        finally:  # also where somebody does not want to wait
            is_ended = mlflow_store.end_run(self.run, status)
            with contextlib.suppress(OSError):  # strict, and said before
                if not is_ended:
                    self.journal.leave_status(status)
                self.journal.flush()
            if self._is_sweep and status != "FINISHED":
                self._keep_journal = True
            self._say_goodbye(tracker.upload.missing())

    def _say_goodbye(self, missing: list[str]) -> None:
        """Says what is missing, or where to look; a journal that is not needed any more is removed."""
        directory = self.journal.directory
        if self.problems:
            logger.warning("%d steps could not be explained, and are not recorded.", self.problems)
        if missing:
            logger.warning(
                "%d items have not arrived in MLflow. `gradcam upload %s` sends the rest.%s",
                len(missing),
                directory,
                f" What the disk did not take is lost ({self.journal.trouble})." * bool(self.journal.held),
            )
            return
        if self._verbose:
            print(f"Grad-CAM of {len(self._probes)} probes:\n{self.run.where_to_look()}")  # noqa: T201
        if not self._keep_journal:
            if not self.run.is_ours:  # another `fit` may follow in it
                self._leave_steps()
            with contextlib.suppress(OSError):
                shutil.rmtree(directory)
            with contextlib.suppress(OSError):  # other runs still keep theirs there
                directory.parent.rmdir()

    def _steps_of_run(self, left: Mapping[int, bytes]) -> Set[int]:
        """The steps that the run holds.

        Raises:
            RuntimeError: if it may hold some that are not known here, and nobody answers.
        """
        if self.run.is_new:
            return frozenset()
        try:
            return mlflow_store.steps_of(self.run)
        except Exception as error:
            if self.run.was_empty or left:
                return frozenset()
            raise RuntimeError(
                f"MLflow does not say which steps run {self.run.run_id} holds already, so that new ones could replace "
                f"them: {error}. Try again when it answers, or use a new run."
            ) from error

    def _last_of_run(self, left: Mapping[int, bytes]) -> tuple[int, Array, Array] | None:
        """The last step before, to compare the next one with; None if nobody has it now."""
        step = self.next_free - 1
        try:
            content = left[step] if step in left else mlflow_store.fetch_maps(self.run, step)
            arrays = parse_step(self.journal.path(step), content).arrays
        except Exception:  # whatever store or network it is
            return None
        return step, arrays["maps"], arrays["explained"]

    def _leave_steps(self) -> None:
        """Keeps the last steps in memory, so that a next `fit` in this run need not fetch them."""
        _left.run_id, _left.steps = self.run.run_id, {}
        size = 0
        with contextlib.suppress(OSError):
            for step in reversed(self.journal.steps()):
                content = self.journal.content(step)
                size += len(content)
                if size > _MOST_LEFT:
                    return
                _left.steps[step] = content

    def _before(self, step: int) -> tuple[int, Array, Array] | None:
        """The last record before a step: of this recorder, or of an earlier one."""
        earlier = max((number for number in self.earlier if number < step), default=BASELINE - 1)
        if self._previous is not None and earlier <= self._previous[0] < step:
            return self._previous
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
            arrays = self.journal.read(earlier).arrays
            return earlier, arrays["maps"], arrays["explained"]
        return None

    def _measures(self, step: int, arrays: Mapping[str, Array], noisy: Mapping[str, Array] | None) -> dict[str, Array]:
        """Where the attention lies, how much of it moved since the record before, and the noise of that."""
        maps, explained = arrays["maps"], arrays["explained"]
        measures = {}
        before = self._before(step)
        if before is not None and before[1].shape == maps.shape:
            measures["drift"] = np.where(explained == before[2], drift.drift(before[1], maps), np.nan)
        if self._probes.regions is not None:
            measures["focus"] = drift.focus(maps, self._probes.regions)
            measures["pointing"] = drift.pointing(maps, self._probes.regions)
        if noisy is not None:
            measures["floor"] = np.where(explained == noisy["explained"], drift.drift(maps, noisy["maps"]), np.nan)
        return measures


def _open(
    directory: str | Path | None, run: mlflow_store.Run, manifest: Mapping[str, Any], pictures: Array, *, strict: bool
) -> Journal:
    """The journal of a run, new or gone on with.

    Raises:
        ValueError: if it holds other maps, or those of another run.
    """
    journal = Journal.create(
        directory or Path(".gradcam") / run.run_id, manifest=manifest, pictures=pictures, strict=strict
    )
    other = journal.manifest["run_id"]
    if other != run.run_id:
        raise ValueError(
            f"Journal '{directory}' holds the maps of run {other}, and this training logs to run {run.run_id}. Pass "
            f"run_id='{other}' to go on with that run, or another journal_dir."
        )
    return journal
