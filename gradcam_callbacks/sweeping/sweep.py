"""explain_checkpoints(): saved weights, explained one after the other into one run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcam_callbacks.probes.probe_set import ProbeSet, as_probes
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.sweeping.finding import StepFrom, find_checkpoints, listed
from gradcam_callbacks.sweeping.formats import Checkpoint, model_in, why_not_loaded
from gradcam_callbacks.sweeping.loading import Outcome, Task, built
from gradcam_callbacks.sweeping.spreading import outcomes

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.methods import Method
    from gradcam_callbacks.publishing.mlflow_store import Run
    from gradcam_callbacks.publishing.recorder import Recorder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What became of some checkpoints.

    Attributes:
        run_id: the MLflow run that holds the maps, or None where nothing could be explained.
        recorded: the steps that were explained now.
        skipped: the steps that the run held before.
        problems: what could not be explained, by path, with the reason.
        gaps: steps between the first and the last for which there is no checkpoint.
    """

    run_id: str | None
    recorded: tuple[int, ...]
    skipped: tuple[int, ...]
    problems: Mapping[str, str]
    gaps: tuple[int, ...]


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
    journal_dir: str | Path | None = None,
    jobs: int = 1,
    step_from: StepFrom = None,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    noise_floor: bool = True,
    animation: bool = False,
    flush_timeout: float = 60,
    verbose: bool = True,
    on_start: Callable[[int], None] = lambda total: None,
    on_checkpoint: Callable[[Checkpoint, str], None] = lambda checkpoint, problem: None,
) -> Sweep:
    """Explains saved checkpoints in the order of their steps, and logs them as a training with the callback would.

    The weights are loaded into one model as long as the architecture stays the same. What the run holds already is not
    explained again, and a sweep that was interrupted goes on where it was.

    Args:
        checkpoints: a glob, a folder, a file, a list of these, "runs:/ID/checkpoints" or another artifact folder of a
            run, or "models:/NAME/VERSION". Files are .keras, .h5, .weights.h5, or TensorFlow's (ckpt-1.index); folders
            are those of Keras's OrbaxCheckpoint.
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
        journal_dir: where the record is kept on disk; see `GradCAMCallback`.
        jobs: how many processes on this machine. Inside `joblib.parallel_config(backend="dask")` or "ray" its workers
            are used.
        step_from: a regular expression whose first group is the 0-based step, or a function of the path. By default the
            number in the name: "model-01.keras" of Keras's ModelCheckpoint is step 0, "epoch_0/checkpoint.h5" of
            MLflow's too.
        custom_objects: see `keras.saving.load_model`.
        safe_mode: see `keras.saving.load_model`: whether code in a file, such as of a Lambda layer, is refused.
        noise_floor: see `GradCAMCallback`.
        animation: see `GradCAMCallback`.
        flush_timeout: how many seconds to wait for MLflow at most.
        verbose: whether to print where the pictures are.
        on_start: told how many checkpoints will be explained.
        on_checkpoint: told of each one when it is done, and of the problem, or "".

    Returns:
        What was recorded, and what was not.

    Raises:
        ValueError: if there is no checkpoint, or the run holds maps of other probes, another layer or another method,
            or `probes` is a function and all checkpoints hold weights alone.
        mlflow.MlflowException: if there is no such run, or no tracking server.
    """
    from gradcam_callbacks.publishing import mlflow_store
    from gradcam_callbacks.publishing.recorder import Recorder

    method_name = _name_of(method)
    probes = probes if callable(probes) else as_probes(probes)  # what is wrong with them is said before a download
    with ExitStack() as stack:
        found, problems = find_checkpoints(checkpoints, step_from, stack)
        if callable(probes):
            shown = built(model) or _first_model(found, problems, custom_objects=custom_objects, safe_mode=safe_mode)
            probes = as_probes(probes(shown))
            del shown  # one model in memory is enough
        asked = {"checkpoints": [str(item) for item in listed(checkpoints)], "layer": layer, "output": output}
        source = json.dumps(asked)
        run = _run_to_go_on_with(run_id, experiment, journal_dir, source, probes, method_name)
        held = _held(journal_dir, run)
        known = set() if held is None else set(held.steps())
        if run is not None:
            known |= mlflow_store.steps_of(run)
        wanted = [checkpoint for checkpoint in found if checkpoint.step not in known]
        on_start(len(wanted))

        def open_recorder(layer: str, score_kind: str) -> Recorder:

            return Recorder(
                probes,
                run or mlflow_store.choose_run(None, experiment=experiment),
                layer=layer,
                method=method_name,
                score_kind=score_kind,
                output=output,
                source=source,
                journal_dir=journal_dir,
                animation=animation,
                flush_timeout=flush_timeout,
                verbose=verbose,
            )

        recorder: Recorder | None = None
        reference: tuple[str, tuple[int, ...]] | None = None
        status = "FAILED"
        try:
            if held is not None and held.steps():  # which may not have arrived
                recorder = open_recorder(held.manifest["layer"], held.manifest["score_kind"])
                reference = (held.manifest["layer"], held.read(held.steps()[0]).arrays["maps"].shape[2:])
            task = Task(probes, model, layer, method, output, grid, custom_objects, safe_mode)
            for outcome in outcomes(task, wanted, jobs, noise_floor=noise_floor):
                problem = outcome.problem or _mismatch(reference, outcome)
                if not problem:
                    if recorder is None:
                        recorder = open_recorder(outcome.layer, outcome.score_kind)
                        reference = (outcome.layer, outcome.arrays["maps"].shape[2:])
                    recorder.record(outcome.checkpoint.step, outcome.arrays, {}, noisy=outcome.noisy)
                else:
                    problems[str(outcome.checkpoint.path)] = problem
                on_checkpoint(outcome.checkpoint, problem)
            status = "FINISHED"
        finally:
            if recorder is not None:
                recorder.close(status)
    steps = {checkpoint.step for checkpoint in found}
    run = run if recorder is None else recorder.run
    return Sweep(
        run_id=None if run is None else run.run_id,
        recorded=tuple(sorted(recorder.recorded)) if recorder is not None else (),
        skipped=tuple(sorted(steps & known)),
        problems=problems,
        gaps=tuple(sorted(set(range(min(steps), max(steps))) - steps)) if steps else (),
    )


def _name_of(method: str | Method) -> str:
    """The name under which a method is recorded."""
    if isinstance(method, str):
        return method
    from gradcam_callbacks.explaining.methods import find_method  # loads Keras, which the workers alone need

    return find_method(method)[0]


def _first_model(
    found: Sequence[Checkpoint],
    problems: Mapping[str, str],
    *,
    custom_objects: Mapping[str, Any] | None,
    safe_mode: bool,
) -> keras.Model:
    """The model of the first checkpoint that holds one.

    Raises:
        ValueError: if all hold weights alone, or none can be loaded.
    """
    reasons = []
    for checkpoint in found:
        if checkpoint.kind in ("model", "orbax"):
            try:
                return model_in(checkpoint, custom_objects=custom_objects, safe_mode=safe_mode)
            except Exception as error:  # whatever is wrong with it is said when its turn comes
                reasons.append(why_not_loaded(error))
    reason = next(iter([*reasons, *problems.values()]), "they hold weights alone.")
    raise ValueError(f"No checkpoint holds a whole model that could be loaded: {reason} Pass model=.")


def _run_to_go_on_with(
    run_id: str | None,
    experiment: str | None,
    journal_dir: str | Path | None,
    source: str,
    probes: ProbeSet,
    method: str,
) -> Run | None:
    """The run that was named, that of the journal, the active one, or that of an interrupted sweep of the same."""
    from gradcam_callbacks.publishing import mlflow_store

    if run_id is not None:
        return mlflow_store.choose_run(run_id)
    if journal_dir is not None and Path(journal_dir, "manifest.json").exists():
        manifest = Journal(journal_dir).manifest
        run = mlflow_store.find_run(manifest["run_id"], manifest["tracking_uri"])
        return replace(run, is_ours=manifest.get("source") is not None)
    if experiment is not None:
        return None
    if mlflow_store.has_active_run():
        return mlflow_store.choose_run(None)
    for folder in sorted(Path(".gradcam").glob("*")) if journal_dir is None else ():
        try:
            manifest = Journal(folder).manifest
            is_same = (manifest["source"], manifest["probes"], manifest["method"]) == (source, probes.digest, method)
        except (OSError, ValueError, KeyError):  # something else, or damaged
            logger.debug("'%s' is not gone on with.", folder, exc_info=True)
            continue
        if not is_same:
            continue
        try:
            run = mlflow_store.find_run(manifest["run_id"], manifest["tracking_uri"])
        except Exception as error:  # whatever its server says
            logger.warning("The sweep in '%s' is not gone on with: %s", folder, error)
            continue
        if not run.is_deleted:
            logger.warning("The interrupted sweep in '%s' goes on, in run %s.", folder, run.name)
            return replace(run, is_ours=True)
    return None


def _held(journal_dir: str | Path | None, run: Run | None) -> Journal | None:
    """The journal that is there already."""
    if journal_dir is None and run is None:
        return None
    folder = Path(".gradcam", run.run_id) if journal_dir is None and run is not None else Path(journal_dir or "")
    return Journal(folder) if (folder / "manifest.json").exists() else None


def _mismatch(reference: tuple[str, tuple[int, ...]] | None, outcome: Outcome) -> str:
    """Why the maps of a checkpoint cannot stand beside those of the others, or ""."""
    found = (outcome.layer, outcome.arrays["maps"].shape[2:])
    if reference is None or found == reference:
        return ""
    (layer, grid), (other_layer, other_grid) = ((name, "×".join(map(str, shape))) for name, shape in (reference, found))
    return (
        f"Another architecture: its map is {other_grid} of layer '{other_layer}', those of the others are {grid} of "
        f"'{layer}'. Explain it into a run of its own."
    )
