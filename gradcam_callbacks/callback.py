"""GradCAMCallback: explains the probes at the end of every epoch of `fit`."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.probes.probe_set import as_probes
from gradcam_callbacks.record.step import BASELINE

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.methods import Method
    from gradcam_callbacks.publishing.recorder import Recorder

logger = logging.getLogger(__name__)


class GradCAMCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Records where a model looks, every epoch, and logs it to MLflow.

    At the end of an epoch the training thread runs one forward pass of the probes and writes one small file; a worker
    renders and uploads. Wrong configuration raises before the first batch; nothing after that ends a training.

    Before the first batch a baseline is recorded as step -1: what a fine-tuning starts from. Each epoch's `logs` get
    `gradcam_drift`, the share of the attention that moved since the step before, for `EarlyStopping("gradcam_drift",
    mode="min")` and `CSVLogger`; they stand after it in the list. An epoch that nothing can be compared with has none.

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
        method: str | Method = "gradcam",
        output: str | int | None = None,
        every: int = 1,
        every_batches: int | None = None,
        run_id: str | None = None,
        journal_dir: str | Path | None = None,
        keep_journal: bool = False,
        baseline: bool = True,
        noise_floor: bool = True,
        animation: bool = False,
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
            method: a name in `gradcam_callbacks.METHODS`, or a function; see `Explainer`.
            output: the head of a multi-output model, by name or index.
            every: record every n-th epoch; the first and the last always.
            every_batches: for long epochs: record after every so many batches instead, and at the end of the training.
                A step is then the 0-based number of the batch since the start of the training.
            run_id: the MLflow run; by default the active one, or a new one that ends with the training.
            journal_dir: where the record is kept on disk; it stays there. By default ".gradcam/<run id>", removed when
                all of it has arrived in MLflow.
            keep_journal: whether to keep it there in any case.
            baseline: whether to record what the model looks at before the first batch.
            noise_floor: whether each fifth record also explains the probes under a tiny change of the input, so that
                noise of the maps is not read as movement; one more forward pass.
            animation: whether to log an animated picture of each probe at the end.
            flush_timeout: how many seconds the end of the training waits for MLflow at most.
            strict: whether a problem during the training raises at once; each step then waits until it has arrived.
            verbose: whether to print where the pictures are when all has arrived.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.

        Raises:
            ValueError: if the probes, `every`, `every_batches` or `flush_timeout` make no sense.
        """
        super().__init__()
        if every < 1:
            raise ValueError(f"every is at least 1 epoch, not {every}.")
        if every_batches is not None and every_batches < 1:
            raise ValueError(f"every_batches is at least 1 batch, not {every_batches}.")
        if not 0 <= flush_timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"flush_timeout is a number of seconds, 0 or more, not {flush_timeout}.")
        self.probes = as_probes(probes)
        self.layer = layer
        self.method = method
        self.output = output
        self.every = every
        self.every_batches = every_batches
        self.run_id = run_id
        self.journal_dir = journal_dir
        self.keep_journal = keep_journal
        self.baseline = baseline
        self.noise_floor = noise_floor
        self.animation = animation
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
        _close_sessions_that_are_over(self)
        if not _is_chief():
            return
        model = self.model
        if not model.built:
            model(self.probes.batch(0, 1), training=False)  # as Keras does with the first batch; the same weights
        # A new one for each training: layers may have been added, frozen or adapted since the last.
        self.explainer = Explainer(model, layer=self.layer, method=self.method, output=self.output, grid=self.grid)
        traced = self.explainer.prepare(self.probes)
        from gradcam_callbacks.publishing.mlflow_store import choose_run
        from gradcam_callbacks.publishing.recorder import Recorder

        recorder = Recorder(
            self.probes,
            choose_run(self.run_id),
            layer=" + ".join(info.path for info in traced.layers),
            method=self.explainer.method,
            score_kind=traced.score_kind,
            output=self.output,
            unit="epoch" if self.every_batches is None else "batch",
            journal_dir=self.journal_dir,
            keep_journal=self.keep_journal,
            animation=self.animation,
            flush_timeout=self.flush_timeout,
            strict=self.strict,
            verbose=self.verbose,
        )
        try:
            self._session = _Session(self, self.explainer, recorder)
        except BaseException:
            recorder.close("FAILED")
            raise

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
    """One `fit`: whose turn it is, and what its model is now."""

    def __init__(self, callback: GradCAMCallback, explainer: Explainer, recorder: Recorder) -> None:
        """Records the baseline."""
        self.recorder = recorder
        self.thread = threading.get_ident()
        self.fit = next((weakref.ref(of_fit) for of_fit in _lists_of_callbacks("fit")), None)
        self._callback = callback
        self._explainer = explainer
        self._jittered = callback.probes.jittered() if callback.noise_floor else None
        self._offset: int | None = None
        self._epoch = 0
        self._batches_before = recorder.next_free
        self._last: tuple[int, dict[str, Any]] | None = None  # what the model is now, and its `logs`
        self._tried: set[int] = set()
        self._optimizer = getattr(callback.model, "optimizer", None)  # a loop of one's own has its own
        self._iterations_at_last = self._iterations()
        if callback.baseline and recorder.next_free == 0:
            self._last = (BASELINE, {})
            self._record()
            self._last = None
        _sessions.add(self)
        for owner in _lists_of_callbacks("on_train_begin")[:1]:
            # Keras tells callbacks nothing of a `fit` that raises, such as by Ctrl-C. But then its list of them goes.
            weakref.finalize(owner, self._close_after_failure).atexit = False
        # At the end of the process it is our turn before Python removes temporary folders, which the worker may use.
        atexit.unregister(_close_all_sessions)
        atexit.register(_close_all_sessions)

    def epoch_began(self, epoch: int) -> None:
        """Takes note of the epoch under way."""
        if self._offset is None:
            # A training that starts anew follows the earlier one; one that is resumed has its own epochs.
            self._offset = self.recorder.next_free if epoch == 0 else 0
            if epoch > 0:
                steps = (self._callback.params or {}).get("steps")
                self._batches_before = self._batches_before if steps is None else epoch * steps
        self._epoch = self._offset + epoch

    def epoch_ended(self, epoch: int, logs: dict[str, Any] | None, *, is_last: bool) -> None:
        """Records an epoch, if it is its turn."""
        self.epoch_began(epoch)  # a loop of one's own may not have said so
        logs = {} if logs is None else logs
        is_due = False
        if self._callback.every_batches is None:
            self._last = (self._epoch, logs)
            self._iterations_at_last = self._iterations()
            is_due = epoch % self._callback.every == 0 or self._tried <= {BASELINE}
        elif self._last is not None:
            self._batches_before = self._last[0] + 1
            self._last = (self._last[0], self._last[1] | logs)
        if is_due or is_last:
            self._record()
        if self.recorder.drift is not None and (is_due or is_last or self._callback.every_batches is not None):
            logs["gradcam_drift"] = self.recorder.drift  # for the callbacks that follow

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
        _sessions.discard(self)
        if not self.recorder.is_open:
            self.recorder.close(status)
            return
        try:
            if status == "FINISHED":
                self._record()
            else:
                self._record_what_is_left()
        finally:
            self.recorder.close(status)

    def _close_after_failure(self) -> None:
        """Closes on the thread of the training, or else on one of its own: garbage is collected on any thread."""
        if threading.get_ident() == self.thread:
            self.close("FAILED")
        elif self.recorder.is_open:
            threading.Thread(target=self.close, args=("FAILED",), name="gradcam-close").start()

    def _iterations(self) -> int:
        """How many batches the optimizer has seen."""
        return -1 if self._optimizer is None else int(keras.ops.convert_to_numpy(self._optimizer.iterations))

    def _record_what_is_left(self) -> None:
        """Records the state that a `fit` which raised has left behind, where it is that of the last epoch."""
        if self._optimizer is None or self._optimizer is not self._callback.model.optimizer:
            return
        trained = self._iterations() - self._iterations_at_last
        steps = (self._callback.params or {}).get("steps")
        if trained < 0 or (steps is not None and trained > steps):
            return  # somebody held on to the exception, and has trained on
        if trained and self._callback.every_batches is None:
            if trained != steps and (self._last is None or self._last[0] in self._tried):
                return
            self._last = (self._epoch, {})
        try:
            self._record(is_cut_short=0 < trained != steps)
        except Exception:  # of a strict one, where another error is on its way already
            logger.exception("The last epoch could not be recorded.")

    def _record(self, *, is_cut_short: bool = False) -> None:
        """Explains the probes and records the step, unless that was done; a problem does not end the training."""
        if self._last is None or self._last[0] in self._tried:
            return
        step, logs = self._last
        self._tried.add(step)
        if step in self.recorder.earlier:  # a resumed training repeats an epoch: its record stays
            return
        try:
            arrays = self._explainer(self._callback.probes).arrays()
            self.recorder.record(step, arrays, _numbers(logs), noisy=self._noisy(), is_cut_short=is_cut_short)
        except Exception:
            self._callback.problems += 1
            self.recorder.failed(step)
        except BaseException:  # Ctrl-C: there is another chance when it is closed
            self._tried.discard(step)
            raise

    def _noisy(self) -> dict[str, Any] | None:
        """What the probes look like under a tiny change of the input, if it is its turn."""
        if self._jittered is None or not self.recorder.wants_noise():
            return None
        try:
            return self._explainer(self._jittered).arrays()
        except Exception:
            if self._callback.strict:
                raise
            self._jittered = None
            logger.exception("The noise floor could not be measured; it goes on without.")
            return None


_sessions: weakref.WeakSet[_Session] = weakref.WeakSet()


def _close_all_sessions() -> None:
    """At the end of the process, where an exception that nobody caught still holds the frames of `fit`."""
    for session in list(_sessions):
        session.close("FAILED")


def _close_sessions_that_are_over(callback: GradCAMCallback) -> None:
    """Closes what a `fit` has left that raised while somebody holds on to its frames, as a notebook does."""
    running = _lists_of_callbacks("fit")
    for session in list(_sessions):
        of_fit = None if session.fit is None else session.fit()
        is_over = of_fit is not None and session.thread == threading.get_ident() and of_fit not in running
        if is_over or session is callback._session:
            session._callback._session = None
            session.close("FAILED")


def _lists_of_callbacks(function: str) -> list[keras.callbacks.CallbackList]:
    """The lists of callbacks in Keras's functions of that name that run in this thread, the innermost first."""
    found: list[keras.callbacks.CallbackList] = []
    frame = sys._getframe(1).f_back
    while frame is not None:
        # Of other frames, `f_locals` would keep alive what their variables are now.
        if frame.f_code.co_name == function and frame.f_globals.get("__name__", "").startswith("keras."):
            found += [value for value in frame.f_locals.values() if isinstance(value, keras.callbacks.CallbackList)]
        frame = frame.f_back
    return found


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """The metrics among what callbacks have put into `logs`."""
    numbers = {}
    for name, value in logs.items():
        try:
            if np.ndim(value) == 0 and not isinstance(value, str):
                numbers[name] = float(value)
        except Exception:  # of whatever that is
            logger.debug("'%s' in the logs is no number.", name)
    return numbers


def _is_chief() -> bool:
    """Whether this is the only process of the training, or the first of several, as TF_CONFIG says."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    task, cluster = config.get("task", {}), config.get("cluster", {})
    if not task:
        return True
    kind = task.get("type", "worker")
    return kind in ("chief", "master") or (kind == "worker" and not task.get("index", 0) and "chief" not in cluster)
