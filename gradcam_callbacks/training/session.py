"""Session: one training, from its first batch to its end."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.explaining.keras_internals import batch_counter, has_no_value, iterations
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.record.step import BASELINE
from gradcam_callbacks.training import failed_fit
from gradcam_callbacks.training.asking import Asking
from gradcam_callbacks.training.schedule import Schedule

if TYPE_CHECKING:
    from gradcam_callbacks.publishing.recorder import Recorder

logger = logging.getLogger(__name__)

DRIFT = "gradcam_drift"
"""What an epoch's `logs` get."""


@dataclass(eq=False)
class Session:
    """Explains the probes whenever the schedule says so, and hands the maps to the recorder.

    A step that cannot be explained or recorded is counted and left out, and the training goes on; if `strict`, that
    raises.

    Attributes:
        explainer: of the model that is trained.
        probes: what is explained.
        jittered: the same under a tiny change, to measure the noise of the maps; None to do without.
        recorder: the run; the session closes it.
        schedule: says which step is recorded.
        strict: whether a problem raises.
        on_problem: called for each step that a problem has left out.
        reliance: whether to test what the network's answers rest on; see `Asking`.
    """

    explainer: Explainer
    probes: ProbeSet
    jittered: ProbeSet | None
    recorder: Recorder
    schedule: Schedule
    strict: bool
    on_problem: Callable[[], None]
    reliance: bool = False

    def __post_init__(self) -> None:
        self._optimizer = getattr(self.explainer.model, "optimizer", None)
        self._logs: dict[str, Any] = {}  # of the schedule's last step
        self._drift: float | None = None  # the last one that was known
        self._asking = Asking(self.explainer, self.probes, self.recorder, self.strict) if self.reliance else None
        self._process = os.getpid()
        self._closing = threading.RLock()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process trains; a copy in a child that was forked meanwhile must leave the run alone."""
        return self._process == os.getpid()

    def begin(self, *, baseline: bool) -> None:
        """Begins the training; from now on it is closed when its `fit` fails.

        Args:
            baseline: whether to record the model as it is now, where its part of the run has no step yet.
        """
        try:
            trained = sorted(step for step in self.recorder.part_steps if step >= 0)
            others = self.recorder.earlier - self.recorder.part_steps
            self.schedule.train_began(
                self.recorder.next_free,
                self._iterations(),
                first=trained[0] if trained and self.recorder.journal.manifest.part > 1 else 0,
                last=max(trained, default=-1),
                taken=max(others, default=-1),
            )
            if baseline and not trained:
                self._record(BASELINE)
            if self.schedule.counts_batches:  # an epoch may be long
                self.recorder.show_live()
            failed_fit.watch(self)
        except BaseException:
            self.recorder.close("FAILED")
            raise

    def epoch_began(self, epoch: int) -> None:
        """Takes note of the epoch under way."""
        self.schedule.epoch_began(epoch)
        if self.recorder.recorded - {BASELINE}:  # Keras's bar of the epoch before is at its end
            self.recorder.show_live()

    def batch_ended(self, batch: int, logs: Mapping[str, Any] | None) -> None:
        """Records the batch if it is due; does nothing where steps are epochs."""
        if self.schedule.counts_batches:
            due = self.schedule.batch_ended(batch, self._iterations())
            self._logs = dict(logs or {})
            self._record(due)

    def epoch_ended(self, epoch: int, logs: dict[str, Any] | None, *, is_stopping: bool) -> None:
        """Records the epoch if it is due, and adds the drift to `logs`, for the callbacks that follow in the list.

        Once a drift is known each epoch gets one: an epoch that is not recorded, or cannot be compared, the last one.
        """
        logs = {} if logs is None else logs
        due = self.schedule.epoch_ended(epoch, self._iterations(), is_stopping=is_stopping)
        self._logs = self._logs | logs if self.schedule.counts_batches else logs
        self._record(due)
        if self.recorder.drift is not None:
            self._drift = self.recorder.drift
        if self._drift is not None:
            self._fill_history(epoch)
            logs[DRIFT] = self._drift

    def close(self, status: str) -> None:
        """Records what is left, waits until everything has arrived, and says where it is; called again, does nothing.

        Args:
            status: "FINISHED", or "FAILED" where `fit` has raised.
        """
        if not self.is_of_this_process:
            return
        failed_fit.unwatch(self)
        with self._closing:  # two threads may notice that `fit` was left; the second one waits
            try:
                if self.recorder.is_open and status == "FINISHED":
                    self._record(self.schedule.train_ended())
                    self.recorder.show_live()
                    if self._asking is not None:
                        self._asking.train_ended()
                elif self.recorder.is_open:
                    self._record_rest()
            finally:
                self.recorder.close(status)

    def _fill_history(self, epoch: int) -> None:
        """Gives the epochs before the first drift a NaN in Keras's history, whose columns are all of one length.

        Their `logs` cannot have it: `EarlyStopping` would take NaN for the best value.
        """
        history = getattr(self.explainer.model, "history", None)
        if not isinstance(history, keras.callbacks.History) or history.epoch[-1:] == [epoch]:
            return  # it stands before us in the list, so that it gets no drift at all
        rows = max((len(column) for name, column in history.history.items() if name != DRIFT), default=0)
        column = history.history.get(DRIFT, [])
        if len(column) < rows:
            history.history[DRIFT] = column + [math.nan] * (rows - len(column))

    def _iterations(self) -> int | None:
        """How many batches the optimizer has trained on; None without one, and if the model was compiled anew."""
        if self._optimizer is None or self._optimizer is not self.explainer.model.optimizer:
            return None
        return iterations(self.explainer.model)

    def _record_rest(self) -> None:
        """Records what a `fit` that raised has left. An error here is logged, and does not hide that of `fit`."""
        if self._optimizer is not None and has_no_value(batch_counter(self._optimizer)):
            return  # on JAX, where another `fit` has the weights now, or this one lost them in its first batch
        try:
            rest = self.schedule.train_failed(self._iterations())
        except RuntimeError:  # of JAX, of an array that is deleted
            logger.warning(
                "The failed training has no last step to record. Keras lost the weights of model '%s', as JAX reuses "
                "their memory in the batch that was broken off. Load them from a checkpoint to go on.",
                self.explainer.model.name,
            )
            return
        if rest is not None:
            try:
                self._record(rest.step, is_cut_short=rest.is_cut_short)
            except Exception:
                logger.exception("The last step of the failed training, %d, could not be recorded.", rest.step)

    def _record(self, step: int | None, *, is_cut_short: bool = False) -> None:
        """Explains the probes and records a step, if there is one to record."""
        if step is None or step in self.recorder.earlier:  # a resumed training repeats it; the first record stays
            return
        logs = {name: value for name, value in self._logs.items() if name != DRIFT}
        logs = logs if step == self.schedule.step else {}
        try:
            with self.recorder.undisturbed():
                arrays = self.explainer(self.probes).arrays()
                self.recorder.record(step, arrays, _numbers(logs), noisy=self._noisy(), is_cut_short=is_cut_short)
        except Exception:
            self.on_problem()
            self.recorder.failed(step)
            return
        except BaseException:  # Ctrl-C: `close` tries it again
            self.schedule.interrupted(step)
            raise
        if self._asking is not None and not is_cut_short:
            self._asking.recorded(step, arrays)

    def _noisy(self) -> dict[str, Any] | None:
        """The arrays of the jittered probes, if the recorder wants them for this record."""
        if self.jittered is None or not self.recorder.wants_noise():
            return None
        try:
            return self.explainer(self.jittered).arrays()
        except Exception:
            if self.strict:
                raise
            self.jittered = None
            logger.exception("The noise floor could not be measured; it goes on without.")
            return None


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers in `logs`; other callbacks may have put anything there, and that is left out."""
    numbers = {}
    for name, value in logs.items():
        try:
            if np.ndim(value) == 0 and not isinstance(value, str):
                numbers[name] = float(value)
        except Exception:  # of whatever that is
            logger.debug("'%s' in the logs is no number.", name)
    return numbers
