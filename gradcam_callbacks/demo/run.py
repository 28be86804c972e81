"""`gradcam demo`: the same network with and without a watermark in its training pictures, watched by the callback."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.demo import pictures as drawn
from gradcam_callbacks.native_log import native_log_muted
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.publishing.reports import write_report
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import drift
from gradcam_callbacks.reviewing.assessing import assess
from gradcam_callbacks.reviewing.report import read_steps

EPOCHS = 7
TRAINING_PICTURES = 1040
VALIDATION_PICTURES = 240
BATCH_SIZE = 16
LEARNING_RATE = 2e-3
SETTLING = 2
"""How many epochs, the last ones, train at a tenth of that rate: attention mostly comes to rest then."""
PROBES = 6
EXPERIMENT = "gradcam demo"
RUNS = ("clean", "watermarked")


@dataclass(frozen=True)
class Outcome:
    """What became of one training.

    Attributes:
        name: of the run.
        run_id: its id in MLflow.
        accuracy: on validation pictures drawn like the training pictures, in [0, 1].
        on_object: mean share of the attention for the marked class that lies on the object, in [0, 1].
        on_mark: the same for the box of the watermark.
        verdict: what the review comes to; see `gradcam_callbacks.reviewing.verdict`.
    """

    name: str
    run_id: str
    accuracy: float
    on_object: float
    on_mark: float
    verdict: str


def run_demo(directory: Path, *, seed: int = 0, console: Console | None = None) -> list[Outcome]:
    """Trains both networks, logs them to an MLflow store in the folder, and prints what was seen.

    Args:
        directory: for the store (`mlflow.db`, `artifacts`) and the journals; made if it is missing.
        seed: of the pictures and the weights.
        console: where to print; the standard output by default.
    """
    console = console or Console(highlight=False)
    console.print("Loading Keras and MLflow …")
    directory.mkdir(parents=True, exist_ok=True)
    with native_log_muted():
        import keras
        import mlflow

        # Here TensorFlow looks for devices, and writes about it. Where it is installed it loads for the seed, also when
        # Keras runs on JAX.
        keras.utils.set_random_seed(seed)
        keras.random.normal((1,))
    directory = directory.resolve()
    store = f"sqlite:///{directory / 'mlflow.db'}"
    for name in ("alembic", "mlflow"):  # they would log every table of a new store
        logging.getLogger(name).setLevel(logging.WARNING)
    outcomes: list[Outcome] = []
    journals: list[Path] = []
    with _tracking_to(store), _progress(console) as progress:
        experiment = mlflow.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            artifacts = (directory / "artifacts").as_uri()
            experiment = mlflow.get_experiment(mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts))
        task = progress.add_task("drawing pictures", total=1)
        if not console.is_terminal:
            console.print("Drawing pictures …")
        # Three sets that share no picture: to train on, to validate on, to look at.
        train, valid = (
            drawn.make_pictures(count, seed=3 * seed + offset, watermark=False)[:2]
            for offset, count in enumerate((TRAINING_PICTURES, VALIDATION_PICTURES))
        )
        probes = _probes(seed=3 * seed + 2)
        progress.advance(task)
        for name in RUNS:
            if name == "watermarked":
                train, valid = _with_watermark(*train), _with_watermark(*valid)
            if not console.is_terminal:
                console.print(f"Training on {name} pictures …")
            keras.utils.set_random_seed(seed)
            with mlflow.start_run(experiment_id=experiment.experiment_id, run_name=name) as run:
                journals.append(directory / "journals" / run.info.run_id)
                _train(name, train, valid, probes, journals[-1], progress)
            outcomes.append(_outcome(name, run.info.run_id, Journal(journals[-1]), probes))
    _report(console, outcomes, experiment.experiment_id, directory)
    page = write_report(journals, directory / "compare.html", names=RUNS)
    console.print(f"Both side by side, without a server:\n  {page.as_uri()}", soft_wrap=True)
    return outcomes


def _with_watermark(pictures: Array, labels: Array) -> tuple[Array, Array]:
    """Puts the mark on every picture of one class, also for validation, so that the accuracy hides the shortcut."""
    marked = labels == drawn.MARKED_CLASS
    pictures = pictures.copy()
    pictures[marked] = drawn.add_watermark(pictures[marked])
    return pictures, labels


def _train(
    name: str,
    train: tuple[Array, Array],
    valid: tuple[Array, Array],
    probes: ProbeSet,
    journal_dir: Path,
    progress: Progress,
) -> None:
    """One training with the callback attached; loss and accuracy go to MLflow beside what the callback logs."""
    import keras
    import mlflow

    from gradcam_callbacks.callback import GradCAMCallback

    task = progress.add_task(f"{name}: training", total=EPOCHS)
    model = drawn.build_model()
    last_fast = (EPOCHS - SETTLING) * math.ceil(TRAINING_PICTURES / BATCH_SIZE)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([last_fast], [LEARNING_RATE, LEARNING_RATE / 10])
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])

    def show(epoch: int, logs: dict[str, float]) -> None:
        progress.update(task, advance=1, description=f"{name}: training, accuracy {logs['val_accuracy']:.1%}")
        shown = {key: value for key, value in logs.items() if key != "gradcam_drift"}  # the callback logs that
        mlflow.log_metrics(shown, step=epoch, synchronous=True)

    watch = GradCAMCallback(probes, journal_dir=journal_dir, verbose=False)
    callbacks = [watch, keras.callbacks.LambdaCallback(on_epoch_end=show)]
    model.fit(*train, validation_data=valid, batch_size=BATCH_SIZE, epochs=EPOCHS, callbacks=callbacks, verbose=0)


def _probes(*, seed: int) -> ProbeSet:
    """Marked sailboats that were never trained on, with the boat as the region where a network should look."""
    classes = len(drawn.CLASS_NAMES)
    pictures, labels, masks = drawn.make_pictures(PROBES * classes, seed=seed, watermark=True)
    chosen = labels == drawn.MARKED_CLASS
    marked_class = drawn.CLASS_NAMES[drawn.MARKED_CLASS]
    return ProbeSet(
        pictures[chosen],
        names=[f"{marked_class} {number}" for number in range(1, PROBES + 1)],
        labels=labels[chosen],
        targets=[marked_class],
        class_names=drawn.CLASS_NAMES,
        regions=list(masks[chosen]),
    )


def _outcome(name: str, run_id: str, journal: Journal, probes: ProbeSet) -> Outcome:
    found = assess(journal, read_steps(journal))
    last = found.steps[-1]
    mark = np.zeros(probes.pictures.shape[:3], bool)
    y0, x0, y1, x1 = drawn.MARK_BOX
    mark[:, y0:y1, x0:x1] = True
    return Outcome(
        name=name,
        run_id=run_id,
        accuracy=last.logs["val_accuracy"],
        on_object=float(np.nanmean(last.arrays["focus"])),
        on_mark=float(np.nanmean(drift.focus(last.arrays["maps"], mark))),
        verdict=found.verdict.name,
    )


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def _tracking_to(uri: str) -> Iterator[None]:
    """MLflow's tracking URI belongs to the process: set it for a while."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _report(console: Console, outcomes: list[Outcome], experiment_id: str, directory: Path) -> None:
    """What happened, and where to see it."""
    from gradcam_callbacks.publishing import mlflow_store

    marked_class = drawn.CLASS_NAMES[drawn.MARKED_CLASS]
    table = Table(title="Both networks look fine, until one looks where they look")
    table.add_column("training pictures")
    table.add_column("validation\naccuracy", justify="right")
    table.add_column(f"attention for “{marked_class}”\non the {marked_class}", justify="right")
    table.add_column("on the\nwatermark", justify="right")
    table.add_column("the review\nsays")
    for outcome in outcomes:
        shares = (f"{share:.0%}" for share in (outcome.on_object, outcome.on_mark))
        table.add_row(outcome.name, f"{outcome.accuracy:.1%}", *shares, outcome.verdict)
    console.print(table)
    store = f"sqlite:///{directory / 'mlflow.db'}"
    console.print("The pictures of every epoch are in MLflow. To see them, start")
    console.print(f"  mlflow server --port 5000 --backend-store-uri {shlex.quote(store)}", soft_wrap=True)
    for outcome in outcomes:
        console.print(f"and open the {outcome.name} run" if outcome is outcomes[0] else f"or the {outcome.name} run")
        pictures = mlflow_store.ui_path(experiment_id, outcome.run_id)
        review = mlflow_store.report_path(experiment_id, outcome.run_id)
        console.print(f"  pictures  http://127.0.0.1:5000/{pictures}", soft_wrap=True)
        console.print(f"  review    http://127.0.0.1:5000/{review}", soft_wrap=True)
