"""GradCAMCallback: explains the probes at the end of every epoch of `fit`."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import gradcam_callbacks
from gradcam_callbacks import drift
from gradcam_callbacks.heatmap import Explainer
from gradcam_callbacks.journal import Journal
from gradcam_callbacks.probes import as_probes

logger = logging.getLogger(__name__)


class GradCAMCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Records where a model looks, every epoch, and logs it to MLflow.

    At the end of an epoch the training thread runs one forward pass of the probes and writes one small file; a worker
    renders and uploads. Wrong configuration raises before the first batch; nothing after that ends a training.
    """

    def __init__(
        self,
        probes: Any,
        *,
        layer: str | Sequence[str] | None = None,
        method: str = "gradcam",
        output: str | int | None = None,
        every: int = 1,
        run_id: str | None = None,
        journal_dir: str | Path | None = None,
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
            run_id: the MLflow run; by default the active one, or a new one that ends with the training.
            journal_dir: where the record is kept on disk. By default ".gradcam/<run id>", removed when all of it has
                arrived in MLflow.
            flush_timeout: how many seconds the end of the training waits for MLflow at most.
            strict: whether a problem during training raises.
            verbose: whether to print where the pictures are when all has arrived.
            grid: (h, w) of the tokens of a transformer, where their number does not tell.

        Raises:
            ValueError: if the probes or `every` make no sense.
        """
        super().__init__()
        if every < 1:
            raise ValueError(f"every is at least 1 epoch, not {every}.")
        self.probes = as_probes(probes)
        self.layer = layer
        self.method = method
        self.output = output
        self.every = every
        self.run_id = run_id
        self.journal_dir = journal_dir
        self.flush_timeout = flush_timeout
        self.strict = strict
        self.verbose = verbose
        self.grid = grid
        self.problems = 0
        self.explainer: Explainer | None = None
        self._recorded: int | None = None
        self._last: tuple[int, dict[str, Any]] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything against the model, and opens run, journal and worker.

        Raises:
            ValueError: if the model cannot be explained with these settings.
        """
        from gradcam_callbacks import tracking

        model = self.model
        if not model.built and self.probes.picture_key is None:
            model.build((None, *self.probes.images.shape[1:]))  # as Keras does with the first batch; the same weights
        if self.explainer is None or self.explainer.model is not model:
            self.explainer = Explainer(model, layer=self.layer, method=self.method, output=self.output, grid=self.grid)
        traced = self.explainer.prepare(self.probes)
        self._recorded = self._last = None
        run_id, self._owns_run = tracking.choose_run(self.run_id)
        try:
            self._journal = Journal.create(
                self.journal_dir or Path(".gradcam") / run_id,
                manifest={
                    "version": gradcam_callbacks.__version__,
                    "run_id": run_id,
                    "layer": " + ".join(info.path for info in traced.layers),
                    "method": self.method,
                    "score_kind": traced.score_kind,
                    **self.probes.description(),
                },
                pictures=self.probes.pictures,
            )
        except (OSError, ValueError):
            if self._owns_run:
                tracking.end_run("FAILED")
            raise
        self._tracker = tracking.Tracker(self._journal, run_id)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch if it is its turn, or the first or the last."""
        self._last = (epoch, dict(logs or {}))
        is_first = self._recorded is None
        is_last = epoch + 1 == (self.params or {}).get("epochs") or self.model.stop_training
        if epoch % self.every == 0 or is_first or is_last:
            self._record()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until everything has arrived, and says where it is."""
        from gradcam_callbacks import tracking

        self._record()
        arrived = self._tracker.close(self.flush_timeout)
        run_id = self._tracker.run_id
        if self._owns_run:
            tracking.end_run()
        if not arrived:
            logger.warning("Not everything has arrived in MLflow; all of it is in '%s'.", self._journal.directory)
            return
        if self.verbose:
            print(f"Grad-CAM of {len(self.probes)} probes: {tracking.where_to_look(run_id)}")  # noqa: T201
        if self.journal_dir is None:
            shutil.rmtree(self._journal.directory)
            with contextlib.suppress(OSError):  # other runs still keep theirs there
                self._journal.directory.parent.rmdir()

    def _record(self) -> None:
        """Explains the probes and writes the step, unless that was done; a problem does not end the training."""
        if self._last is None or self._last[0] == self._recorded or self.explainer is None:
            return
        epoch, logs = self._last
        self._recorded = epoch
        try:
            explanation = self.explainer(self.probes)
            arrays = explanation.arrays()
            if self.probes.regions is not None:
                arrays["focus"] = drift.focus(explanation.maps, self.probes.regions)
            self._journal.append(
                epoch, arrays, {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}
            )
        except Exception:
            if self.strict:
                raise
            self.problems += 1
            if self.problems == 1:
                logger.exception("Epoch %d could not be explained; training goes on.", epoch)
            return
        self._tracker.put(epoch)
