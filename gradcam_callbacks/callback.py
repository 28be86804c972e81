"""GradCAMCallback: explains the probes at the end of every epoch of `fit`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import gradcam_callbacks
from gradcam_callbacks import drift
from gradcam_callbacks.heatmap import Explainer
from gradcam_callbacks.journal import Journal
from gradcam_callbacks.probes import as_probes

if TYPE_CHECKING:
    from gradcam_callbacks.tracking import Run, Tracker

logger = logging.getLogger(__name__)


class GradCAMCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Records where a model looks, every epoch, and logs it to MLflow.

    At the end of an epoch the training thread runs one forward pass of the probes and writes one small file; a worker
    renders and uploads. Wrong configuration raises before the first batch; nothing after that ends a training.

    The step of a record is its 0-based epoch. In a second `fit` of one run that starts at epoch 0 again, the steps go
    on after those of the first. Of several workers of a distributed training only the chief records.

    A `fit` that raises, as by Ctrl-C, still leaves its last epoch: where that was not recorded, the model is explained
    as it is then; where the next epoch had begun, as that one, "cut short".
    """

    def __init__(
        self,
        probes: Any,
        *,
        layer: str | Sequence[str] | None = None,
        method: str = "gradcam",
        output: str | int | None = None,
        every: int = 1,
        every_batches: int | None = None,
        run_id: str | None = None,
        journal_dir: str | Path | None = None,
        keep_journal: bool = False,
        flush_timeout: float = 60,
        strict: bool = False,
        verbose: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """Takes the settings; the model comes with `fit`.

        Args:
            probes: a `ProbeSet`, an array of images, or an (images, labels) pair.
            layer: the path or unique name of the layer to explain, or several of them, whose maps are fused; None picks
                the last map on the way to the score. See `Explainer`.
            method: a name in `gradcam_callbacks.methods.METHODS`.
            output: the head of a multi-output model, by name or index.
            every: record every n-th epoch; the first and the last always.
            every_batches: for long epochs: record after every so many batches instead, and at the end of the training.
                A step is then the 0-based number of the batch since the start of the training.
            run_id: the MLflow run; by default the active one, or a new one that ends with the training.
            journal_dir: where the record is kept on disk; it stays there. By default ".gradcam/<run id>", removed when
                all of it has arrived in MLflow.
            keep_journal: whether to keep it there in any case.
            flush_timeout: how many seconds the end of the training waits for MLflow at most.
            strict: whether a problem during the training raises at once; each step then waits until it has arrived.
            verbose: whether to print where the pictures are when all has arrived.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.

        Raises:
            ValueError: if the probes, `every` or `every_batches` make no sense.
        """
        super().__init__()
        if every < 1:
            raise ValueError(f"every is at least 1 epoch, not {every}.")
        if every_batches is not None and every_batches < 1:
            raise ValueError(f"every_batches is at least 1 batch, not {every_batches}.")
        self.probes = as_probes(probes)
        self.layer = layer
        self.method = method
        self.output = output
        self.every = every
        self.every_batches = every_batches
        self.run_id = run_id
        self.journal_dir = journal_dir
        self.keep_journal = keep_journal or journal_dir is not None
        self.flush_timeout = flush_timeout
        self.strict = strict
        self.verbose = verbose
        self.grid = grid
        self.problems = 0
        self.explainer: Explainer | None = None
        self._session: _Session | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything against the model, and opens run, journal and worker.

        Raises:
            ValueError: if the model cannot be explained with these settings.
        """
        if self._session is not None:  # a `fit` that raised while somebody held on to its frames
            self._session.close("FAILED")
            self._session = None
        if not _is_chief():
            return
        model = self.model
        if not model.built:
            model(self.probes.batch(0, 1), training=False)  # as Keras does with the first batch; the same weights
        # A new one for each training: layers may have been added, frozen or adapted since the last.
        self.explainer = Explainer(model, layer=self.layer, method=self.method, output=self.output, grid=self.grid)
        self.explainer.prepare(self.probes)
        self._session = _Session(self, self.explainer)
        # Keras tells callbacks nothing of a `fit` that raises, such as by Ctrl-C. But then its list of callbacks goes.
        frame = sys._getframe(1)
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.CallbackList):
            weakref.finalize(owner, self._session.close, "FAILED")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes note of the epoch."""
        if self._session is not None:
            self._session.epoch_began(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the batch if it is its turn."""
        if self._session is not None and self.every_batches is not None:
            self._session.batch_ended(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch if it is its turn, or the first or the last."""
        if self._session is not None:
            is_last = epoch + 1 == (self.params or {}).get("epochs") or bool(
                getattr(self.model, "stop_training", False)
            )
            self._session.epoch_ended(epoch, logs, is_last=is_last)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until everything has arrived, and says where it is."""
        session, self._session = self._session, None
        if session is not None:
            session.close("FINISHED")


class _Session:
    """One `fit`: its run, its journal and its worker."""

    def __init__(self, callback: GradCAMCallback, explainer: Explainer) -> None:
        """Opens them.

        Raises:
            ValueError: if the journal is that of other probes, another layer or another method.
        """
        from gradcam_callbacks import tracking

        self._callback = callback
        self._explainer = explainer
        self._run: Run = tracking.choose_run(callback.run_id)
        traced = explainer.prepare(callback.probes)
        manifest = {
            "version": gradcam_callbacks.__version__,
            "run_id": self._run.run_id,
            "tracking_uri": self._run.tracking_uri,
            "layer": " + ".join(info.path for info in traced.layers),
            "method": callback.method,
            "score_kind": traced.score_kind,
            "unit": "epoch" if callback.every_batches is None else "batch",
            **callback.probes.description(),
        }
        try:
            tracking.check_run(self._run, manifest)
            self._journal = Journal.create(
                callback.journal_dir or Path(".gradcam") / self._run.run_id,
                manifest=manifest,
                pictures=callback.probes.pictures,
                strict=callback.strict,
            )
        except (OSError, ValueError):
            tracking.end_run(self._run, "FAILED")
            raise
        upload = tracking.Upload(self._journal, self._run.client(), self._run.run_id, is_new=self._run.is_new)
        self._tracker: Tracker | None = tracking.Tracker(upload)
        self._earlier = set(self._journal.steps())
        for step in self._earlier:  # of another `fit`, which may not have arrived
            self._tracker.put(step)
        self._next_free = max(self._earlier, default=-1) + 1
        if not self._earlier and not self._run.is_new:
            self._next_free = tracking.next_step(self._run)
        self._offset: int | None = None
        self._epoch = 0
        self._batches_before = self._next_free
        self._recorded: set[int] = set()
        self._last: tuple[int, dict[str, Any]] | None = None
        self._optimizer = getattr(callback.model, "optimizer", None)  # a loop of one's own has its own
        self._iterations_at_last = self._iterations()
        self._warned_of_disk = False
        self._has_raised = False

    def epoch_began(self, epoch: int) -> None:
        """Takes note of the epoch under way."""
        if self._offset is None:
            # A training that starts anew follows the earlier one; one that is resumed has its own epochs.
            self._offset = self._next_free if epoch == 0 else 0
        self._epoch = self._offset + epoch

    def epoch_ended(self, epoch: int, logs: dict[str, Any] | None, *, is_last: bool) -> None:
        """Records an epoch, if it is its turn."""
        self.epoch_began(epoch)  # a loop of one's own may not have said so
        if self._callback.every_batches is None:
            self._last = (self._epoch, dict(logs or {}))
            self._iterations_at_last = self._iterations()
            is_due = epoch % self._callback.every == 0 or not self._recorded
        else:
            is_due = False
            if self._last is not None:
                self._batches_before = self._last[0] + 1
                self._last = (self._last[0], self._last[1] | dict(logs or {}))
        if is_due or is_last:
            self._record()

    def batch_ended(self, batch: int, logs: dict[str, Any] | None) -> None:
        """Records a batch, if it or one that Keras ran together with it has its turn."""
        every = self._callback.every_batches or 1
        previous = self._batches_before - 1 if self._last is None else self._last[0]
        self._last = (self._batches_before + batch, dict(logs or {}))
        self._iterations_at_last = self._iterations()
        if self._last[0] // every > previous // every:
            self._record()

    def close(self, status: str) -> None:
        """Records the last epoch unless that was done, waits until everything has arrived, and says where it is."""
        from gradcam_callbacks import tracking

        if self._tracker is None:
            return
        tracker, self._tracker = self._tracker, None
        try:
            if status == "FINISHED":
                self._record(tracker)
            elif not self._has_raised:
                self._record_what_is_left(tracker)
        finally:
            try:
                # Where strict has raised, that was waited for already.
                missing = tracker.close(0 if self._has_raised else self._callback.flush_timeout)
            finally:
                is_ended = tracking.end_run(self._run, status)
        with contextlib.suppress(OSError):  # strict, and said before
            if not is_ended:
                self._journal.leave_status(status)
                missing.append("status")
            self._journal.flush()
        self._say_goodbye(missing)

    def _say_goodbye(self, missing: list[str]) -> None:
        """Says what is missing, or where to look; a journal that is not needed any more is removed."""
        callback, directory = self._callback, self._journal.directory
        if callback.problems:
            logger.warning("%d steps could not be explained, and are not recorded.", callback.problems)
        if missing:
            logger.warning(
                "%d items have not arrived in MLflow. `gradcam upload %s` sends the rest.%s",
                len(missing),
                directory,
                f" What the disk did not take is lost ({self._journal.trouble})." * bool(self._journal.held),
            )
            return
        if callback.verbose:
            print(f"Grad-CAM of {len(callback.probes)} probes: {self._run.where_to_look()}")  # noqa: T201
        if not callback.keep_journal:
            with contextlib.suppress(OSError):
                shutil.rmtree(directory)
            with contextlib.suppress(OSError):  # other runs still keep theirs there
                directory.parent.rmdir()

    def _iterations(self) -> int:
        """How many batches the optimizer has seen."""
        return -1 if self._optimizer is None else int(keras.ops.convert_to_numpy(self._optimizer.iterations))

    def _record_what_is_left(self, tracker: Tracker) -> None:
        """Records the state that a `fit` which raised has left behind, where it is that of the last epoch."""
        if self._optimizer is None or self._optimizer is not self._callback.model.optimizer:
            return
        trained = self._iterations() - self._iterations_at_last
        steps = (self._callback.params or {}).get("steps")
        if trained < 0 or (steps is not None and trained > steps):
            return  # somebody held on to the exception, and has trained on
        if trained and self._callback.every_batches is None:
            if trained != steps and (self._last is None or self._last[0] in self._recorded):
                return
            self._last = (self._epoch, {})
        self._record(tracker, is_cut_short=0 < trained != steps, is_strict=False)

    def _record(
        self, tracker: Tracker | None = None, *, is_cut_short: bool = False, is_strict: bool | None = None
    ) -> None:
        """Explains the probes and writes the step, unless that was done; a problem does not end the training."""
        if self._last is None or self._last[0] in self._recorded:
            return
        callback = self._callback
        tracker = tracker or self._tracker
        is_strict = callback.strict if is_strict is None else is_strict
        step, logs = self._last
        self._recorded.add(step)
        if step in self._earlier:  # a resumed training repeats an epoch: its record stays
            return
        try:
            explanation = self._explainer(callback.probes)
            arrays = explanation.arrays() | {"lost": np.array(callback.problems)}
            if callback.probes.regions is not None:
                arrays["focus"] = drift.focus(explanation.maps, callback.probes.regions)
            if is_cut_short:
                arrays["cut_short"] = np.array(True)
            numbers = {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}
            self._journal.append(step, arrays, numbers)
        except Exception:
            if is_strict:
                self._has_raised = True
                raise
            callback.problems += 1
            if callback.problems == 1:
                logger.exception("Step %d could not be explained; training goes on.", step)
            return
        if self._journal.trouble is not None and not self._warned_of_disk:
            self._warned_of_disk = True
            logger.warning(
                "The journal '%s' could not be written (%s); training goes on. What the disk does not take is kept in "
                "memory and sent to MLflow from there.",
                self._journal.directory,
                self._journal.trouble,
            )
        if tracker is None:
            return
        tracker.put(step)
        if is_strict and not tracker.wait(callback.flush_timeout):
            self._has_raised = True
            raise RuntimeError(
                f"Step {step} has not arrived in MLflow, and strict=True: {tracker.upload.error}. It is kept in "
                f"'{self._journal.directory}'."
            )


def _is_chief() -> bool:
    """Whether this is the only process of the training, or the first of several, as TF_CONFIG says."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    task, cluster = config.get("task", {}), config.get("cluster", {})
    if not task:
        return True
    kind = task.get("type", "worker")
    return kind in ("chief", "master") or (kind == "worker" and not task.get("index", 0) and "chief" not in cluster)
