"""explain_checkpoints(): saved weights, explained one after the other into one run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gradcam_callbacks import notebook
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.probe_set import as_probes
from gradcam_callbacks.publishing.cards import cards_setting
from gradcam_callbacks.publishing.delivery import Delivery
from gradcam_callbacks.publishing.metrics import chosen_metrics
from gradcam_callbacks.publishing.store import Store
from gradcam_callbacks.sweeping.failures import why_not_loaded
from gradcam_callbacks.sweeping.finding import StepFrom, find_checkpoints, listed
from gradcam_callbacks.sweeping.formats import Checkpoint
from gradcam_callbacks.sweeping.loading import Loader, Task, built
from gradcam_callbacks.sweeping.recording import Recording
from gradcam_callbacks.sweeping.spreading import outcomes

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.methods import Method

logger = logging.getLogger(__name__)

_MOST_GAPS = 100


@dataclass(frozen=True)
class Sweep:
    """What became of some checkpoints.

    Attributes:
        run_id: the MLflow run that holds the maps, or None where nothing could be explained.
        recorded: the steps that were explained now.
        skipped: the steps that the run held before.
        problems: what could not be explained, by path, with the reason in a sentence.
        gaps: steps between the first and the last for which there is no checkpoint; empty where there would be more
            than a hundred, as where the names count batches.
        verdict: what the record comes to, a word from a closed list such as "ok" or "shortcut"; "" if nothing is known.
        summary: why, in a few sentences.
    """

    run_id: str | None
    recorded: tuple[int, ...]
    skipped: tuple[int, ...]
    problems: Mapping[str, str] = field(init=False)
    gaps: tuple[int, ...]
    verdict: str
    summary: str
    _errors: ClassVar[Mapping[str, GradCAMError]]  # no field, so that `asdict` gives what JSON takes
    reasons: InitVar[Mapping[str, GradCAMError]]

    def __post_init__(self, reasons: Mapping[str, GradCAMError]) -> None:
        object.__setattr__(self, "_errors", dict(reasons))
        object.__setattr__(self, "problems", {path: str(error) for path, error in reasons.items()})

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, what was recorded, and what could not be explained."""
        texts = [f"Sweep: {self.verdict}. {self.summary}"] if self.verdict else ["Sweep: nothing is known."]
        texts.append(
            f"{len(self.recorded)} steps recorded, {len(self.skipped)} recorded before, {len(self.gaps)} without a "
            f"checkpoint. " + (f"MLflow run {self.run_id}." if self.run_id else "No run.")
        )
        failed = notebook.table(["not explained", "why"], self.problems.items()) if self.problems else ""
        return "".join(notebook.paragraph(text) for text in texts) + failed

    @property
    def errors(self) -> Mapping[str, GradCAMError]:
        """What could not be explained, by path, with the reason as an exception."""
        return self._errors


def explain_checkpoints(
    checkpoints: str | Path | Sequence[str | Path],
    probes: Any,
    *,
    model: keras.Model | Callable[[], keras.Model] | None = None,
    layer: str | Sequence[str] | None = None,
    method: str | Method = "gradcam",
    output: str | int | None = None,
    grid: tuple[int, int] | None = None,
    run_id: str | None = None,
    experiment: str | None = None,
    store: Store | None = None,
    journal_dir: str | Path | None = None,
    jobs: int = 1,
    step_from: StepFrom = None,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    noise_floor: bool = True,
    reliance: bool = True,
    animation: bool = False,
    metrics: str | Sequence[str] = "means",
    flush_timeout: float = 60,
    verbose: bool = True,
    cards: int | str | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    on_checkpoint: Callable[[Checkpoint, str], None] = lambda checkpoint, problem: None,
) -> Sweep:
    """Explains saved checkpoints in the order of their steps, and logs them as a training with the callback would.

    The weights are loaded into one model as long as the architecture stays the same. What the run holds already is not
    explained again, and a sweep that was interrupted goes on where it was.

    Args:
        checkpoints: a glob, a folder, a file, a list of these, "runs:/ID/checkpoints" or another artifact folder of a
            run, "models:/NAME/VERSION", a LoggedModel, "models:/ID", or all LoggedModels of a run, "runs:/ID/models".
            LoggedModels get the metrics of their step as their own. Files are .keras, .h5, .weights.h5, or TensorFlow's
            (ckpt-1.index); folders are those of Keras's OrbaxCheckpoint.
        probes: a `ProbeSet`, an array of images, or an (images, labels) pair; or a function that makes one for a model,
            such as at its size. It is called once, with `model` or the first model in the checkpoints.
        model: the model that weights are loaded into, or a function that builds it; needed where the files hold weights
            alone.
        layer: see `Explainer`.
        method: see `Explainer`.
        output: see `Explainer`.
        grid: see `Explainer`.
        run_id: the MLflow run; by default the active one, or a new one.
        experiment: the name of the experiment of a new run.
        store: what keeps the run instead of MLflow, such as an `InMemoryStore`.
        journal_dir: where the record is kept on disk; see `GradCAMCallback`.
        jobs: how many processes on this machine. Inside `joblib.parallel_config(backend="dask")` or "ray" its workers
            are used.
        step_from: a regular expression whose first group is the 0-based step, or a function of the path. By default the
            step of a LoggedModel, or the order in which they were logged where all have the same; or else the number in
            the name: "model-01.keras" of Keras's ModelCheckpoint is step 0, "epoch_0/checkpoint.h5" of MLflow's too.
        custom_objects: see `keras.saving.load_model`.
        safe_mode: see `keras.saving.load_model`: whether code in a file, such as of a Lambda layer, is refused.
        noise_floor: see `GradCAMCallback`.
        reliance: whether the network of the last checkpoint is asked whether its answers rest on something beside the
            objects; see `GradCAMCallback`.
        animation: see `GradCAMCallback`.
        metrics: see `GradCAMCallback`.
        flush_timeout: how many seconds to wait for MLflow at most.
        verbose: whether to print where the pictures are.
        cards: which probes get an image card; see `GradCAMCallback`.
        on_start: told how many checkpoints will be explained.
        on_checkpoint: told of each one when it is done, and of the problem, or "".

    Returns:
        What was recorded, and what was not.

    Raises:
        GradCAMError: if there is no checkpoint, or the run holds maps of other probes, another layer or another method
            and no part of these, or `probes` is a function and all checkpoints hold weights alone, or `metrics` or
            `cards` makes no sense.
        mlflow.MlflowException: if there is no such run, or no tracking server.
        Exception: what the store raises, if it cannot say which steps it holds.
    """
    if store is not None and (run_id or experiment):
        raise GradCAMError(
            "A store is a run already.", "Leave {argument} away.", argument="run_id" if run_id else "experiment"
        )
    which = chosen_metrics(metrics)
    card_setting = cards_setting(cards)
    probes = probes if callable(probes) else as_probes(probes)  # what is wrong with them is said before a download
    objects = None if custom_objects is None else dict(custom_objects)
    with ExitStack() as stack:
        found, errors = find_checkpoints(checkpoints, step_from, stack)
        if callable(probes):
            shown = built(model) or _first_model(found, errors, custom_objects=objects, safe_mode=safe_mode)
            probes = as_probes(probes(shown))
            del shown  # so that it does not stay in memory beside the one that is explained
        task = Task(probes, model, layer, method, output, grid, objects, safe_mode)
        named = [str(item) for item in listed(checkpoints)]
        delivery = Delivery(
            journal_dir, animation=animation, flush_timeout=flush_timeout, verbose=verbose, cards=card_setting
        )
        recording = Recording(task, named, delivery, run_id=run_id, experiment=experiment, store=store, metrics=which)
        wanted = [checkpoint for checkpoint in found if checkpoint.step not in recording.known]
        on_start(len(wanted))
        told: set[str] = set()
        is_last = bool(wanted) and wanted[-1].step > max(recording.known, default=-1)
        explained: Checkpoint | None = None
        with recording:
            for outcome in outcomes(task, wanted, jobs, noise_floor=noise_floor, tests_last=reliance and is_last):
                path = str(outcome.checkpoint.path)
                error = recording.add(outcome)
                if error is None:
                    explained = outcome.checkpoint
                if error is not None:
                    errors[path] = error
                if outcome.traceback and outcome.traceback not in told:  # once, and not for each checkpoint
                    told.add(outcome.traceback)
                    logger.error("'%s' was loaded, but explaining it failed:\n%s", path, outcome.traceback)
                on_checkpoint(outcome.checkpoint, "" if error is None else str(error))
            if reliance and is_last and explained is not None and explained != wanted[-1]:  # that one is damaged
                recording.leave_test(Loader(task).outcome(explained, with_noise=False, with_test=True))
    steps = {checkpoint.step for checkpoint in found}
    verdict = recording.verdict
    return Sweep(
        run_id=recording.run_id,
        recorded=recording.recorded,
        skipped=tuple(sorted(steps & recording.known)),
        reasons=errors,
        gaps=_gaps(steps),
        verdict="" if verdict is None else verdict.name,
        summary="" if verdict is None else verdict.summary,
    )


def _gaps(steps: set[int]) -> tuple[int, ...]:
    """The steps between the first and the last that are missing, if they are no more than a hundred."""
    if not steps or max(steps) - min(steps) + 1 - len(steps) > _MOST_GAPS:
        return ()
    return tuple(sorted(set(range(min(steps), max(steps))) - steps))


def _first_model(
    found: Sequence[Checkpoint],
    errors: Mapping[str, GradCAMError],
    *,
    custom_objects: dict[str, Any] | None,
    safe_mode: bool,
) -> keras.Model:
    """The model of the first checkpoint that holds one.

    Raises:
        GradCAMError: if all hold weights alone, or none can be loaded.
    """
    reasons = []
    for checkpoint in found:
        try:
            if checkpoint.architecture() is not None:
                return checkpoint.build(custom_objects=custom_objects, safe_mode=safe_mode)
        except Exception as error:  # it is told again when its turn comes; the next may hold a model
            reasons.append(why_not_loaded(error, checkpoint.path))
    reason = next(iter([*reasons, *errors.values()]), GradCAMError("they hold weights alone."))
    if not reason.remedy:
        reason = GradCAMError(reason.problem, "Pass {argument}.", argument="model")
    raise reason.within("No checkpoint holds a whole model that could be loaded:")
