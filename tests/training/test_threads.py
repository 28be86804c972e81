"""One callback in several threads, and one run for several trainings: each is recorded, once, or is told before."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from support.mlflow_runs import image_steps
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, GradCAMError, InMemoryStore
from gradcam_callbacks.publishing.mlflow_store import fetch_journal, find_run
from gradcam_callbacks.record.journal import Journal


class Together(keras.callbacks.Callback):
    """Waits at each epoch until the other threads are there, too."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier
        self.batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.barrier.wait(60)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches += 1


def models(count: int) -> list[keras.Model]:
    made = [small_model() for _ in range(count)]
    for model in made:
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return made


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs: int = 3) -> keras.callbacks.History:
    labels = np.arange(8) % 4
    return model.fit(pictures(8), labels, epochs=epochs, callbacks=list(callbacks), shuffle=False, verbose=0)


def maps_of(journal: Journal, steps: Sequence[int]) -> list[np.ndarray]:
    return [journal.read(step).maps for step in steps]


def test_one_callback_in_two_threads_records_each_training_once(client: MlflowClient, tmp_path: Path) -> None:
    """Each in its own run, with the maps of its own model: those that it has when it is trained alone."""
    first, second = models(2)
    alone = []
    for n, model in enumerate((first, second)):
        weights = [array.copy() for array in model.get_weights()]  # they share the memory of the variables
        fit(model, GradCAMCallback(pictures(2), store=InMemoryStore(), journal_dir=f"alone-{n}"))
        model.set_weights(weights)
        alone.append(maps_of(Journal(f"alone-{n}"), (-1, 0, 1, 2)))
    callback, barrier = GradCAMCallback(pictures(2)), threading.Barrier(2)

    def train(model: keras.Model) -> tuple[str, keras.callbacks.History]:
        with mlflow.start_run() as run:
            history = fit(model, callback, Together(barrier))
            assert callback.model is model
        return run.info.run_id, history

    with ThreadPoolExecutor(2) as pool:
        trained = list(pool.map(train, (first, second)))
    assert callback.problems == 0
    assert callback.model in (first, second)  # in a thread that has not trained: the one that began last
    experiment = client.get_run(trained[0][0]).info.experiment_id
    assert len(client.search_runs([experiment])) == 2
    for n, (run_id, history) in enumerate(trained):
        assert client.get_run(run_id).info.status == "FINISHED"
        assert image_steps(client, run_id) == {f"gradcam/{key}": [0, 1, 2] for key in ("all", "probe_0", "probe_1")}
        folder = tmp_path / f"fetched-{n}"
        folder.mkdir()
        held = maps_of(fetch_journal(find_run(run_id, client.tracking_uri), folder), (-1, 0, 1, 2))
        np.testing.assert_allclose(held, alone[n], atol=1e-6)
        assert len(history.history["gradcam_drift"]) == 3
    assert not Path(".gradcam").exists()


@pytest.mark.parametrize("what", ["run_id", "store", "journal_dir"])
def test_two_trainings_of_one_run_at_once_are_told_apart_before_the_first_batch(
    client: MlflowClient, what: str
) -> None:
    """The first goes on and has each step once; the second raises, and has trained nothing."""
    run = client.create_run(mlflow.tracking.fluent._get_experiment_id())
    store = InMemoryStore()
    way = {"run_id": run.info.run_id, "store": store, "journal_dir": "kept"}[what]
    callback = GradCAMCallback(pictures(2), **{what: way})
    first, second = models(2)
    begun, ended = threading.Event(), threading.Event()

    class Hold(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            begun.set()
            ended.wait(60)

    told = Together(threading.Barrier(1))
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(fit, first, callback, Hold())
        begun.wait(60)
        with pytest.raises(GradCAMError, match=r"is recorded into by another training of this process now\. Choose"):
            fit(second, told, callback)
        ended.set()
        training.result(60)
    assert told.batches == 0
    if what == "store":
        assert sorted(store.metrics) == [0, 1, 2]
    else:
        run_id = run.info.run_id if what == "run_id" else Journal("kept").manifest.run_id
        assert image_steps(client, run_id) == {f"gradcam/{key}": [0, 1, 2] for key in ("all", "probe_0", "probe_1")}
    fit(second, GradCAMCallback(pictures(2), store=InMemoryStore()))


def test_a_training_whose_fit_was_left_is_not_in_the_way(client: MlflowClient) -> None:
    """The next one waits until it is closed, also while somebody holds its exception, and goes on after its steps."""

    class Fault(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            if epoch == 2:
                raise ZeroDivisionError

    (model,) = models(1)
    with mlflow.start_run() as run:
        with pytest.raises(ZeroDivisionError) as caught:
            fit(model, GradCAMCallback(pictures(1)), Fault())
        fit(model, GradCAMCallback(pictures(1)), epochs=2)
        del caught
    assert image_steps(client, run.info.run_id) == {"gradcam/all": [0, 1, 2, 3], "gradcam/probe_0": [0, 1, 2, 3]}


def test_a_training_by_hand_that_nobody_ended_is_not_in_the_way(client: MlflowClient) -> None:
    """Where its callback is gone, so is its claim on run and journal."""
    (model,) = models(1)
    with mlflow.start_run() as run:
        callback = GradCAMCallback(pictures(1))
        callback.set_model(model)
        callback.on_train_begin()
        del callback
        gc.collect()
        fit(model, GradCAMCallback(pictures(1)), epochs=1)
    assert image_steps(client, run.info.run_id) == {"gradcam/all": [0], "gradcam/probe_0": [0]}


HOLDS = """
import sys
import keras, mlflow, numpy as np
from support.models import pictures, small_model
from gradcam_callbacks import GradCAMCallback
class Hold(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            print("begun", flush=True)
            sys.stdin.readline()
mlflow.set_tracking_uri(sys.argv[1])
model = small_model()
model.compile("sgd", "sparse_categorical_crossentropy")
ours = GradCAMCallback(pictures(1), verbose=False)
with mlflow.start_run(run_id=sys.argv[2]):
    model.fit(pictures(8), np.arange(8) % 4, epochs=2, verbose=0, callbacks=[ours, Hold()])
"""


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_run_that_another_process_records_into_is_told(client: MlflowClient, is_killed: bool) -> None:
    """While that one lives; one that was killed is in nobody's way."""
    run_id = client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id
    command = [sys.executable, "-c", HOLDS, client.tracking_uri, run_id]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])  # for `support`
    other = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"begun\n"
    (model,) = models(1)
    callback = GradCAMCallback(pictures(1), run_id=run_id)
    if is_killed:
        other.kill()
    else:
        with pytest.raises(GradCAMError, match="is recorded into by another process now"):
            fit(model, callback)
    other.communicate(b"\n", timeout=120)
    before = 1 if is_killed else 2
    fit(model, callback, epochs=1)
    assert image_steps(client, run_id) == {"gradcam/all": [*range(before + 1)], "gradcam/probe_0": [*range(before + 1)]}
