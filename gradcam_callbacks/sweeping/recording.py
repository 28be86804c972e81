"""The run and the journal of a sweep: those that it goes on with, or new ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.publishing.delivery import Delivery
from gradcam_callbacks.publishing.store import Store, steps_of
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.reviewing.verdict import Verdict
from gradcam_callbacks.sweeping.loading import Outcome, Task

if TYPE_CHECKING:
    from gradcam_callbacks.publishing.mlflow_store import MLflowStore
    from gradcam_callbacks.publishing.recorder import Recorder

logger = logging.getLogger(__name__)


class Recording:
    """Records the outcomes of a sweep in one run; a new run is started when the first maps are there.

    Attributes:
        known: the steps that the run or its journal holds already.
    """

    def __init__(
        self,
        task: Task,
        checkpoints: list[str],
        delivery: Delivery,
        *,
        run_id: str | None,
        experiment: str | None,
        store: Store | None,
        metrics: str = "means",
    ) -> None:
        """Finds the run that the sweep goes on with, and what it holds.

        Args:
            task: what is explained.
            checkpoints: as the user named them; an interrupted sweep of the same goes on.
            delivery: how maps reach the run.
            run_id: the run that the user named.
            experiment: the name of the experiment of a new run.
            store: the run, where it is not one of MLflow.
            metrics: which metrics the run gets; see `Manifest`.

        Raises:
            mlflow.MlflowException: if there is no such run, or no tracking server.
        Exception: what the store raises, if it cannot say which steps it holds.
        """
        self._task = task
        self._source = json.dumps({"checkpoints": checkpoints, "layer": task.layer, "output": task.output})
        self._experiment = experiment
        self._metrics = metrics
        self._delivery = delivery
        journal_dir = delivery.journal_dir
        self._store = store or _run_to_go_on_with(task, self._source, run_id, experiment, journal_dir)
        self._held = _journal_there(delivery, self._store)
        self.known = set() if self._held is None else set(self._held.steps())
        if self._store is not None:
            self.known |= steps_of(self._store)
        self._recorder: Recorder | None = None
        self._layer = self._place = ""
        self._grid: tuple[int, ...] = ()

    @property
    def run_id(self) -> str | None:
        """The id of the run, or None if there was nothing to record."""
        store = self._store if self._recorder is None else self._recorder.store
        return None if store is None else store.run_id

    @property
    def recorded(self) -> tuple[int, ...]:
        """The steps that were recorded now."""
        return () if self._recorder is None else tuple(sorted(self._recorder.recorded))

    @property
    def verdict(self) -> Verdict | None:
        """What the record comes to, as far as that is known; of a run to which nothing was added what it says."""
        if self._recorder is not None:
            return self._recorder.verdict
        name = getattr(self._store, "verdict", "")
        return Verdict(name, self._store.summary) if name else None  # type: ignore[union-attr]

    def __enter__(self) -> Recording:
        held = self._held
        if held is not None and held.steps():  # they may not have arrived in MLflow: the recorder sends them
            maps = held.read(held.steps()[0]).maps
            self._open(held.manifest, maps.shape[2:])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder is not None:
            self._recorder.close("FINISHED" if kind is None else "FAILED")

    def add(self, outcome: Outcome) -> GradCAMError | None:
        """Records an outcome; where that cannot be, gives the reason.

        Raises:
            GradCAMError: if the run holds maps of other probes, another layer or another method, and no part of these.
            mlflow.MlflowException: if no run can be started.
        """
        if outcome.error is not None:
            return outcome.error
        grid = outcome.arrays["maps"].shape[2:]
        if self._recorder is None:
            self._open(outcome, grid)
        # The journal of an earlier version does not say the place.
        is_same = outcome.place == self._place if self._place else outcome.layer == self._layer
        if not is_same or grid != self._grid:
            here, others = ("×".join(map(str, shape)) for shape in (grid, self._grid))
            return GradCAMError(
                f"Another architecture: its map is {here} of layer '{outcome.layer}', those of the others are {others} "
                f"of '{self._layer}'.",
                "Explain it into a run of its own.",
            )
        assert self._recorder is not None
        checkpoint = outcome.checkpoint
        self._recorder.record(checkpoint.step, outcome.arrays, {}, noisy=outcome.noisy, model_id=checkpoint.model_id)
        self.leave_test(outcome)
        return None

    def leave_test(self, outcome: Outcome) -> None:
        """Records what the answers of a checkpoint rest on, whose maps are recorded, if that was tested."""
        if self._recorder is not None and outcome.reliance is not None:
            self._recorder.leave_test(outcome.checkpoint.step, outcome.reliance)

    def _open(self, first: Manifest | Outcome, grid: tuple[int, ...]) -> None:
        """Opens the recorder for maps of the layer of a first record, and of this size."""
        from gradcam_callbacks.publishing.recorder import Recorder

        self._layer, self._place, self._grid = first.layer, first.place, grid
        task = self._task
        manifest = Manifest(
            **task.probes.description(),
            layer=first.layer,
            place=first.place,
            method=task.method_name,
            score_kind=first.score_kind,
            notes=first.notes,
            output="" if task.output is None else str(task.output),
            source=self._source,
            metrics=self._metrics,
            engine=first.engine,
        )
        store = self._store
        if store is None:
            from gradcam_callbacks.publishing import mlflow_store

            store = mlflow_store.choose_run(None, experiment=self._experiment)
        self._recorder = Recorder.open(store, task.probes, manifest, self._delivery)


def _run_to_go_on_with(
    task: Task, source: str, run_id: str | None, experiment: str | None, journal_dir: str | Path | None
) -> MLflowStore | None:
    """The run that was named, that of the journal, the active one, or that of an interrupted sweep of the same."""
    from gradcam_callbacks.publishing import mlflow_store

    if run_id is not None:
        return mlflow_store.choose_run(run_id)
    if journal_dir is not None and Path(journal_dir, "manifest.json").exists():
        journal = Journal(journal_dir)
        run = mlflow_store.find_run_of(journal)
        run.is_ours = journal.manifest.source is not None
        return run
    if experiment is not None:
        return None
    if mlflow_store.has_active_run():
        return mlflow_store.choose_run(None)
    return None if journal_dir is not None else _run_of_interrupted_sweep(task, source)


def _run_of_interrupted_sweep(task: Task, source: str) -> MLflowStore | None:
    """The run of a sweep of the same checkpoints and probes whose journal is still in .gradcam."""
    from gradcam_callbacks.publishing import mlflow_store

    for folder in sorted(Path(".gradcam").glob("*")):
        try:
            journal = Journal(folder)
        except (OSError, ValueError):  # another folder, or a damaged journal
            logger.debug("'%s' is no journal of a sweep.", folder, exc_info=True)
            continue
        manifest = journal.manifest
        if (manifest.source, manifest.probes, manifest.method) != (source, task.probes.digest, task.method_name):
            continue
        try:
            run = mlflow_store.find_run_of(journal)
        except Exception as error:  # whatever its server says
            logger.warning("The sweep in '%s' cannot be continued, so that a new run is begun: %s", folder, error)
            continue
        if not run.is_deleted:
            logger.warning("The interrupted sweep in '%s' goes on, in run %s.", folder, run.name)
            run.is_ours = True
            return run
    return None


def _journal_there(delivery: Delivery, store: Store | None) -> Journal | None:
    """The journal in the folder that was named or that is the run's by default, if there is one."""
    if delivery.journal_dir is None and store is None:
        return None
    folder = delivery.folder("" if store is None else store.run_id)
    return Journal(folder) if (folder / "manifest.json").exists() else None
