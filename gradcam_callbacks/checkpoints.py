"""explain_checkpoints(): saved weights, explained one after the other into one run. The driver for post-hoc reviews."""

from __future__ import annotations

import glob
import json
import logging
import os
import pickle
import re
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks.heatmap import Explainer
from gradcam_callbacks.journal import Journal
from gradcam_callbacks.probes import ProbeSet, as_probes

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.recorder import Recorder
    from gradcam_callbacks.tracking import Run

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
StepFrom = str | Callable[[Path], int] | None

_CHUNK = 4
"""Checkpoints that a process explains before it hands them over: what a killed one can lose."""
_ATTEMPTS = 3
"""How often a chunk is tried whose process was killed."""


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of a model.

    Attributes:
        path: the file, the prefix of TensorFlow's files, or the folder.
        step: the 0-based epoch.
        kind: "model" (.keras, .h5), "weights" (.weights.h5, .h5), "tensorflow" or "orbax".
    """

    path: Path
    step: int
    kind: str


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


@dataclass(frozen=True)
class _Task:
    """What each process needs to know."""

    probes: ProbeSet
    model: Any
    layer: str | Sequence[str] | None
    method: str
    output: str | int | None
    grid: tuple[int, int] | None
    custom_objects: Mapping[str, Any] | None
    safe_mode: bool
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class _Outcome:
    """Of one checkpoint: its arrays, or why there are none."""

    checkpoint: Checkpoint
    arrays: Mapping[str, Array] = field(default_factory=dict)
    noisy: Mapping[str, Array] | None = None
    layer: str = ""
    score_kind: str = ""
    problem: str = ""


def explain_checkpoints(
    checkpoints: str | Path | Sequence[str | Path],
    probes: Any,
    *,
    model: keras.Model | Callable[[], keras.Model] | None = None,
    layer: str | Sequence[str] | None = None,
    method: str = "gradcam",
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
    from gradcam_callbacks import tracking

    probes = probes if callable(probes) else as_probes(probes)  # what is wrong with them is said before a download
    with ExitStack() as stack:
        found, problems = _find(checkpoints, step_from, stack)
        if callable(probes):
            shown = _built(model) or _first_model(found, problems, custom_objects=custom_objects, safe_mode=safe_mode)
            probes = as_probes(probes(shown))
            del shown  # one model in memory is enough
        asked = {"checkpoints": [str(item) for item in _listed(checkpoints)], "layer": layer, "output": output}
        source = json.dumps(asked)
        run = _run_to_go_on_with(run_id, experiment, journal_dir, source, probes, method)
        held = _held(journal_dir, run)
        known = set() if held is None else set(held.steps())
        if run is not None:
            known |= tracking.steps_of(run)
        wanted = [checkpoint for checkpoint in found if checkpoint.step not in known]
        on_start(len(wanted))

        def open_recorder(layer: str, score_kind: str) -> Recorder:
            from gradcam_callbacks.recorder import Recorder

            return Recorder(
                probes,
                run or tracking.choose_run(None, experiment=experiment),
                layer=layer,
                method=method,
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
            task = _Task(probes, model, layer, method, output, grid, custom_objects, safe_mode)
            for outcome in _outcomes(task, wanted, jobs, noise_floor=noise_floor):
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
                return _model_in(checkpoint, custom_objects=custom_objects, safe_mode=safe_mode)
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
    from gradcam_callbacks import tracking

    if run_id is not None:
        return tracking.choose_run(run_id)
    if journal_dir is not None and Path(journal_dir, "manifest.json").exists():
        manifest = Journal(journal_dir).manifest
        run = tracking.find_run(manifest["run_id"], manifest["tracking_uri"])
        return replace(run, is_ours=manifest.get("source") is not None)
    if experiment is not None:
        return None
    if tracking.has_active_run():
        return tracking.choose_run(None)
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
            run = tracking.find_run(manifest["run_id"], manifest["tracking_uri"])
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


def _mismatch(reference: tuple[str, tuple[int, ...]] | None, outcome: _Outcome) -> str:
    """Why the maps of a checkpoint cannot stand beside those of the others, or ""."""
    found = (outcome.layer, outcome.arrays["maps"].shape[2:])
    if reference is None or found == reference:
        return ""
    (layer, grid), (other_layer, other_grid) = ((name, "×".join(map(str, shape))) for name, shape in (reference, found))
    return (
        f"Another architecture: its map is {other_grid} of layer '{other_layer}', those of the others are {grid} of "
        f"'{layer}'. Explain it into a run of its own."
    )


# ---- Which files, which steps ----


def _listed(checkpoints: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)


def _find(
    checkpoints: str | Path | Sequence[str | Path], step_from: StepFrom, stack: ExitStack
) -> tuple[list[Checkpoint], dict[str, str]]:
    """The checkpoints in the order of their steps, and what is none, with the reasons.

    Raises:
        ValueError: if there is nothing at all.
    """
    paths = [path for item in _listed(checkpoints) for path in _expand(item, stack)]
    if not paths:
        raise ValueError(
            f"No checkpoint in {_listed(checkpoints)}. Expected .keras, .h5 or .weights.h5 files, TensorFlow's .index "
            "files, or folders of them."
        )
    problems: dict[str, str] = {}
    kinds: dict[Path, str] = {}
    for path in paths:
        try:
            kinds[path] = _kind(path)
        except ValueError as error:
            problems[str(path)] = str(error)
    steps: dict[Path, int] = {}
    numbers = _numbers([path for path in kinds if _is_counted_from_1(path, kinds[path])])
    for path in kinds:
        try:
            steps[path] = _step(path, kinds[path], step_from, numbers.get(path), alone=len(kinds) == 1)
        except ValueError as error:
            problems[str(path)] = str(error)
    if step_from is None and steps and min(steps.values()) < 0:  # a file is numbered 0: they are not counted from 1
        steps = {path: step + _is_counted_from_1(path, kinds[path]) for path, step in steps.items()}
    found: dict[int, Checkpoint] = {}
    for path in sorted(steps, key=lambda path: (steps[path], str(path))):
        step = steps[path]
        if step in found:
            problems[str(path)] = (
                f"It is step {step}, as '{found[step].path.name}' is. Name one of them, or step_from=."
            )
        else:
            found[step] = Checkpoint(_prefix(path), step, kinds[path])
    return list(found.values()), problems


def _expand(item: str | Path, stack: ExitStack) -> list[Path]:
    """The candidates behind one argument."""
    text = str(item)
    if text.startswith(("runs:/", "models:/")):
        from gradcam_callbacks import tracking

        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gradcam-"))
        return _expand(tracking.download(text, Path(folder)), stack)
    path = Path(item)
    if not path.exists() and glob.has_magic(text):
        matches = [Path(found) for found in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 (absolute ones too)
        return [found for match in matches if not _is_part(match) for found in _expand(match, stack)]
    if path.is_dir() and not (path / "saved_model.pb").exists():
        children = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
        if _is_orbax(path):
            return [child for child in children if child.name.isdigit()] or [path]
        inside = [found for child in children if child.is_dir() for found in _expand(child, stack)]
        return [child for child in children if child.is_file() and child.suffix in _SUFFIXES] + inside
    return [path]


def _is_part(path: Path) -> bool:
    """Whether a file belongs to a TensorFlow checkpoint whose index is beside it."""
    is_data = re.fullmatch(r"(.+)\.data-\d+-of-\d+", path.name)
    if is_data:
        return path.with_name(f"{is_data[1]}.index").is_file()
    return path.name == "checkpoint" and any(path.parent.glob("*.index"))


_SUFFIXES = frozenset({".keras", ".h5", ".hdf5", ".index"})


def _is_orbax(folder: Path) -> bool:
    marks = ("orbax.checkpoint", "pytree.orbax-checkpoint", "checkpoint_metadata", "_CHECKPOINT_METADATA")
    return any((place / mark).exists() for place in (folder, *folder.glob("[0-9]*")) for mark in marks)


def _kind(path: Path) -> str:
    """What kind of checkpoint a file is.

    Raises:
        ValueError: if it is none that can be loaded; the message says what to do.
    """
    if (path / "saved_model.pb").exists():
        raise ValueError(
            "It is a SavedModel, which Keras 3 cannot open as layers. Save the model as .keras where it was trained."
        )
    if path.is_dir() and _is_orbax(path):
        return "orbax"
    if not path.is_file():
        prefix = path.with_name(f"{path.name}.index")
        if prefix.is_file():
            return "tensorflow"
        raise ValueError("There is no such file." if not path.exists() else "It is a folder without checkpoints.")
    if path.name.endswith(".weights.h5"):
        return "weights"
    if path.suffix in (".h5", ".hdf5"):
        import h5py

        try:
            with h5py.File(path) as file:
                return "model" if "model_config" in file.attrs else "weights"
        except OSError as error:
            raise ValueError(f"It is damaged or truncated: {error}.") from error
    if path.suffix == ".keras":
        return "model"
    if path.suffix == ".index":
        return "tensorflow"
    raise ValueError(f"'{path.suffix}' is no checkpoint that Keras writes: expected .keras, .h5, .weights.h5, .index.")


def _prefix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".index" else path


def _step(path: Path, kind: str, step_from: StepFrom, number: int | None, *, alone: bool) -> int:
    """The 0-based step that a path names; see `_numbers` for the number in its name.

    Raises:
        ValueError: if it names none.
    """
    if callable(step_from):
        return int(step_from(path))
    if step_from is not None:
        match = re.search(step_from, path.as_posix())
        if match is None or not match.groups() or match[1] is None:
            raise ValueError(f"step_from={step_from!r} finds no group in its path.")
        return int(match[1])
    if kind == "orbax":
        return int(path.name) if path.name.isdigit() else 0
    if not _is_counted_from_1(path, kind):
        return int(path.parent.name.removeprefix("epoch_"))
    if number is None:
        if alone:
            return 0
        raise ValueError("No number in its name says which step it is. Use step_from=, or give it alone.")
    return number - 1


def _numbers(paths: Sequence[Path]) -> dict[Path, int]:
    """The number in each name that counts: after "epoch", else the first that differs between them, else the last."""
    found = {}
    others: dict[Path, list[int]] = {}
    for path in paths:
        name = re.sub(r"(\.weights)?\.[a-z0-9]+$", "", path.name)
        epoch = re.search(r"ep(?:och)?[-_ ]?(\d+)", name, re.IGNORECASE)
        parts = re.findall(r"\d+\.\d+|\d+", name)
        whole = [part for part in parts if "." not in part] or [half for part in parts for half in part.split(".")]
        if epoch:
            found[path] = int(epoch[1])
        elif whole:
            others[path] = [int(part) for part in whole]
    columns = zip(*others.values(), strict=False)  # as long as the shortest
    place = next((place for place, column in enumerate(columns) if len(set(column)) > 1), -1)
    return found | {path: numbers[place] for path, numbers in others.items()}


def _is_counted_from_1(path: Path, kind: str) -> bool:
    """Whether the number in a name begins with 1, as ModelCheckpoint's do; those of MLflow and Orbax begin with 0."""
    is_mlflow = path.name.startswith("checkpoint.") and re.fullmatch(r"epoch_\d+", path.parent.name)
    return kind != "orbax" and not is_mlflow


# ---- One model in memory ----


class _Loader:
    """Loads checkpoints into one model, one after the other, and explains the probes to it."""

    def __init__(self, task: _Task) -> None:
        self.name = task.name
        self._task = task
        self._config: str | None = None
        self._explainer: Explainer | None = None

    def outcome(self, checkpoint: Checkpoint, *, with_noise: bool) -> _Outcome:
        """Explains a checkpoint; a problem is an outcome too."""
        try:
            explainer = self._load(checkpoint)
            explanation = explainer(self._task.probes)
            jittered = self._task.probes.jittered() if with_noise else None
            return _Outcome(
                checkpoint,
                explanation.arrays(),
                None if jittered is None else explainer(jittered).arrays(),
                explanation.layer,
                explanation.score_kind,
            )
        except Exception as error:  # whatever Keras, h5py, zipfile or TensorFlow raise at a file that is not theirs
            logger.debug("'%s' could not be explained.", checkpoint.path, exc_info=True)
            return _Outcome(checkpoint, problem=why_not_loaded(error))

    def _load(self, checkpoint: Checkpoint) -> Explainer:
        task = self._task
        if task.model is not None:
            if self._explainer is None:
                self._explain(_built(task.model))
        elif checkpoint.kind in ("weights", "tensorflow"):
            raise ValueError("It holds weights alone: pass model=, the model or a function that builds it.")
        else:
            config = _config(checkpoint)
            if self._explainer is None or config is None or config != self._config:
                self._explainer = self._config = None  # never two models in memory
                self._explain(_model_in(checkpoint, custom_objects=task.custom_objects, safe_mode=task.safe_mode))
                self._config = config
                assert self._explainer is not None
                return self._explainer
        assert self._explainer is not None
        _load_weights(self._explainer.model, checkpoint)
        return self._explainer

    def _explain(self, model: keras.Model) -> None:
        task = self._task
        if not model.built:
            model(task.probes.batch(0, 1), training=False)
        self._explainer = Explainer(model, layer=task.layer, method=task.method, output=task.output, grid=task.grid)


def _built(model: Any) -> Any:
    """A model as it is, or as the function builds it."""
    import keras

    return model if model is None or isinstance(model, keras.Model) else model()


def _model_in(
    checkpoint: Checkpoint, *, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool
) -> keras.Model:
    """The whole model that a checkpoint holds."""
    import keras

    objects = None if custom_objects is None else dict(custom_objects)
    if checkpoint.kind != "orbax":
        return keras.saving.load_model(checkpoint.path, compile=False, custom_objects=objects, safe_mode=safe_mode)
    described = _description(checkpoint)
    if described is None:
        raise ValueError("It holds weights alone: pass model=, the model or a function that builds it.")
    model = keras.saving.deserialize_keras_object(described, custom_objects=objects, safe_mode=safe_mode)
    _load_weights(model, checkpoint)
    return model


def _load_weights(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Loads the weights of a checkpoint into a model of the same architecture."""
    if checkpoint.kind == "tensorflow":
        from gradcam_callbacks.capture import restore

        restore(model, str(checkpoint.path))
    elif checkpoint.kind == "orbax":
        _load_orbax(model, checkpoint.path)
    else:
        with _unpacked(checkpoint.path) as path, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # no map depends on it
            model.load_weights(path)


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file of weights in a .keras archive: Keras jumps to and fro in it, which takes half as long again packed."""
    with tempfile.TemporaryDirectory(prefix="gradcam-") as folder:
        weights = path
        if path.suffix == ".keras":
            try:
                with zipfile.ZipFile(path) as archive:
                    weights = Path(archive.extract("model.weights.h5", folder))
            except (KeyError, OSError):  # the weights have several files, or there is no room
                logger.debug("'%s' is not unpacked.", path, exc_info=True)
        yield weights


def _load_orbax(model: keras.Model, path: Path) -> None:
    """Loads one step. Keras takes the last one alone, asks for an optimizer, and passes over names that it misses.

    Raises:
        ValueError: if the package is missing, or the model's variables have other names.
    """
    try:
        from orbax.checkpoint import v1 as orbax
    except ImportError as error:
        raise ValueError(
            "It is one of Orbax, which needs another package: pip install 'gradcam_callbacks[orbax]'."
        ) from error
    if not path.name.isdigit():
        (path,) = (child for child in path.iterdir() if child.name.isdigit())
    state = orbax.load_checkpointables(str(path.absolute()), {"pytree": None})["pytree"]
    kinds = ("trainable_variables", "non_trainable_variables")
    held = {name for kind in kinds for name in _paths(state.get(kind, {}))}
    missing = [variable.path for variable in model.weights if variable.path not in held]
    if missing:
        raise ValueError(
            f"It has no weights for '{missing[0]}' of the model ({len(missing)} of {len(model.weights)} are missing). "
            "Give the layers the names that they had in the training, or leave model= away if it holds the whole model."
        )
    model.set_state_tree({kind: state[kind] for kind in kinds if kind in state})


def _paths(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths of the variables in a nested dictionary."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}/")
        else:
            yield f"{before}{name}"


def _config(checkpoint: Checkpoint) -> str | None:
    """The architecture that a file describes, as text to compare; None where it describes none."""
    described = _description(checkpoint)
    if described is None:
        return None
    return json.dumps({key: described.get(key) for key in ("module", "class_name", "config")}, sort_keys=True)


def _description(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Keras's description of the model in a checkpoint; None where it has none."""
    described: dict[str, Any]
    if checkpoint.path.suffix == ".keras":
        with zipfile.ZipFile(checkpoint.path) as archive:
            described = json.loads(archive.read("config.json"))
    elif checkpoint.kind == "model":
        import h5py

        with h5py.File(checkpoint.path) as file:
            described = json.loads(file.attrs["model_config"])
    elif (checkpoint.path / "model_config" / "_strings.json").is_file():  # Orbax
        described = json.loads(json.loads((checkpoint.path / "model_config" / "_strings.json").read_bytes())["config"])
    else:
        return None
    return described


def why_not_loaded(error: Exception) -> str:
    """In one line what was wrong with a checkpoint, and what to do."""
    text = str(error).strip().rpartition("Exception encountered: ")[2]  # what Keras says at the end of a long message
    text = (text.splitlines() or [type(error).__name__])[0]
    if isinstance(error, zipfile.BadZipFile):
        return f"It is damaged or truncated: {text}."
    if "Lambda" in text and "safe_mode" in str(error):
        return (
            "It has a Lambda layer, whose code would be run from the file. If you trust its author, pass "
            "safe_mode=False."
        )
    unknown = re.match(r"(?:Could not locate \w+|Unknown [\w ]+:) '([^']+)'", text)
    return f"It needs '{unknown[1]}', which Keras does not know: pass custom_objects=." if unknown else text


# ---- One process or many ----

_loader: _Loader | None = None
"""In a worker process: the model between two chunks."""


def _outcomes(task: _Task, wanted: Sequence[Checkpoint], jobs: int, *, noise_floor: bool) -> Iterator[_Outcome]:
    """What became of each checkpoint, in their order."""
    import joblib

    from gradcam_callbacks.recorder import FLOOR_EVERY

    turns = [(checkpoint, noise_floor and place % FLOOR_EVERY == 0) for place, checkpoint in enumerate(wanted)]
    workers = joblib.effective_n_jobs(_workers_of_cluster() if jobs == 1 else jobs)
    if workers == 1 or len(turns) < 2:
        loader = _Loader(task)
        for checkpoint, with_noise in turns:
            yield loader.outcome(checkpoint, with_noise=with_noise)
        return
    yield from _spread(task, turns, workers)


def _workers_of_cluster() -> int:
    """How many workers a surrounding `joblib.parallel_config` asks for; all of a cluster where it does not say."""
    from joblib.parallel import get_active_backend

    backend, n_jobs = get_active_backend()
    is_cluster = not type(backend).__module__.startswith("joblib._parallel_backends")
    return -1 if is_cluster and n_jobs in (None, 1) else n_jobs or 1


def _spread(task: _Task, turns: Sequence[tuple[Checkpoint, bool]], workers: int) -> Iterator[_Outcome]:
    """The same from several processes; chunks whose process was killed are tried again."""
    import cloudpickle
    import joblib

    packed = cloudpickle.dumps(task)
    threads = max(1, (os.cpu_count() or 1) // workers)
    chunks = [turns[start : start + _CHUNK] for start in range(0, len(turns), _CHUNK)]
    jobs = [
        joblib.delayed(_explain_chunk)(packed, [(_absolute(c), noise) for c, noise in chunk], threads)
        for chunk in chunks
    ]
    done, failures, error = 0, 0, None
    while failures < _ATTEMPTS:
        before = done
        try:
            for outcomes in _in_order(jobs[done:], workers):
                for outcome, (checkpoint, _) in zip(outcomes, chunks[done], strict=True):
                    yield replace(outcome, checkpoint=checkpoint)
                done += 1
            return
        except Exception as raised:  # a process that was killed: each backend has its own error for that
            error = raised
            failures = 1 if done > before else failures + 1
            logger.warning("A worker was lost (%s); its checkpoints are tried again.", type(raised).__name__)
    for chunk in chunks[done:]:
        for checkpoint, _ in chunk:
            yield _Outcome(checkpoint, problem=f"The process that explained it was lost {_ATTEMPTS} times: {error}.")


def _absolute(checkpoint: Checkpoint) -> Checkpoint:
    """As a worker finds it whose working directory is another."""
    return replace(checkpoint, path=checkpoint.path.absolute())


def _in_order(jobs: Sequence[Any], workers: int) -> Iterator[list[_Outcome]]:
    """What the jobs return, as they come."""
    import joblib

    try:
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    except ValueError:  # Ray gives what it has when it has all: a few at a time, then
        for start in range(0, len(jobs), workers):
            yield from joblib.Parallel(n_jobs=workers)(jobs[start : start + workers])
        return
    yield from parallel(jobs)


def _explain_chunk(packed: bytes, chunk: Sequence[tuple[Checkpoint, bool]], threads: int) -> list[_Outcome]:
    """Runs in a worker process, which keeps its model for the next chunk."""
    global _loader
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, str(threads))  # before TensorFlow loads: workers must not fight over the cores
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    task: _Task = pickle.loads(packed)
    if _loader is None or _loader.name != task.name:
        _loader = _Loader(task)
    return [_loader.outcome(checkpoint, with_noise=with_noise) for checkpoint, with_noise in chunk]
