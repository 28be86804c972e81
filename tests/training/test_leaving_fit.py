"""A run of ours is held as long as `fit` runs, however it is left, and no longer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from support.mlflow_runs import image_steps
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing import living
from gradcam_callbacks.record.journal import Journal

SIXTEEN = np.arange(16) % 4


class Do(keras.callbacks.Callback):
    """Does something at the end of epoch 1."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__()
        self.do = do

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 1:
            self.do()


def fit(*callbacks: keras.callbacks.Callback, epochs: int = 3) -> None:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(16), SIXTEEN, epochs=epochs, callbacks=list(callbacks), verbose=0)


def ours(**settings: Any) -> GradCAMCallback:
    return GradCAMCallback(pictures(1), verbose=False, **settings)


def raising(fault: BaseException) -> Callable[[], None]:
    def do() -> None:
        raise fault

    return do


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gradcam")]


def wait_for_threads() -> None:
    """Until ours are gone, which is at once but where the machine is busy."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and threads():
        time.sleep(0.02)
    assert threads() == []


def ended(client: MlflowClient, run_id: str) -> str:
    """The status of a run when our threads are gone."""
    wait_for_threads()
    return str(client.get_run(run_id).info.status)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), ValueError("x"), SystemExit(1)], ids=lambda fault: repr(fault))
def test_the_next_cell_of_a_notebook_has_its_own_run(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """IPython holds the exception as `sys.last_value`; our run fails all the same, and no thread stays.

    That it does within a second, where the machine is free, is in test_failed_fit.py.
    """
    try:
        fit(ours(), Do(raising(fault)))
    except BaseException as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
    run_id = mlflow.last_active_run().info.run_id
    with mlflow.start_run() as next_cell:
        assert next_cell.info.run_id != run_id
        assert ended(client, run_id) == "FAILED"
        fit(ours(), epochs=1)
    assert image_steps(client, run_id) == {"gradcam/all": [0, 1], "gradcam/probe_0": [0, 1]}
    assert image_steps(client, next_cell.info.run_id) == {"gradcam/all": [0], "gradcam/probe_0": [0]}
    assert not Path(".gradcam").exists()


def test_our_run_is_never_the_active_one(client: MlflowClient) -> None:
    """While it trains another run can be started and ended; ours is RUNNING then, and is found as the last one."""
    seen = []

    def look() -> None:
        seen.append((mlflow.active_run(), mlflow.last_active_run().info))
        with mlflow.start_run():
            mlflow.log_metric("a", 1)

    fit(ours(), Do(look))
    ((active, during),) = seen
    assert active is None
    assert during.status == "RUNNING"
    after = client.get_run(during.run_id)
    assert after.info.status == "FINISHED"
    assert after.info.end_time > during.end_time, "the one of now, not of when it began"
    assert "a" not in after.data.metrics
    assert after.data.tags["mlflow.user"]
    assert after.data.tags["mlflow.source.name"]


def test_a_run_of_the_user_s_stays_active_and_is_not_ended(client: MlflowClient) -> None:
    """After Ctrl-C too; our threads are gone."""
    with mlflow.start_run() as run:
        with pytest.raises(KeyboardInterrupt) as held:
            fit(ours(), Do(raising(KeyboardInterrupt())))
        wait_for_threads()
        assert mlflow.active_run().info.run_id == run.info.run_id
        assert client.get_run(run.info.run_id).info.status == "RUNNING"
    assert image_steps(client, run.info.run_id) == {"gradcam/all": [0, 1], "gradcam/probe_0": [0, 1]}
    assert held


@pytest.fixture
def autolog() -> Iterator[None]:
    """MLflow wraps `fit`, and holds what it raises in a cycle of references."""
    mlflow.keras.autolog(log_models=False, log_datasets=False)
    yield
    mlflow.keras.autolog(disable=True)


@pytest.mark.usefixtures("autolog")
@pytest.mark.parametrize("has_own_run", [False, True])
def test_an_exception_under_autolog_leaves_no_thread(client: MlflowClient, has_own_run: bool) -> None:
    """Nobody needs to collect garbage. With `run_id=` the run is the user's, else autolog's, which autolog ends."""
    experiment = mlflow.get_experiment_by_name(mlflow.get_experiment("0").name)
    assert experiment is not None
    run_id = client.create_run(experiment.experiment_id).info.run_id if has_own_run else None
    with contextlib.suppress(ZeroDivisionError):
        fit(ours(run_id=run_id), Do(raising(ZeroDivisionError())))
    wait_for_threads()
    assert not Path(".gradcam").exists()
    run = client.get_run(run_id or mlflow.last_active_run().info.run_id).info
    assert image_steps(client, run.run_id) == {"gradcam/all": [0, 1], "gradcam/probe_0": [0, 1]}
    assert run.status == ("RUNNING" if has_own_run else "FAILED")


def test_the_run_of_a_job_is_gone_on_with_and_ended(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_RUN_ID names it, of `mlflow run` or of a restarted pod: each step is there once, even if trained again.

    Fluent calls that come later go to that run, too.
    """
    experiment = mlflow.tracking.fluent._get_experiment_id()
    run_id = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with contextlib.suppress(ZeroDivisionError):
        fit(ours(), Do(raising(ZeroDivisionError())))
    assert ended(client, run_id) == "FAILED"
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(16), SIXTEEN, initial_epoch=1, epochs=4, callbacks=[ours()], verbose=0)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert image_steps(client, run_id) == {"gradcam/all": [0, 1, 2, 3], "gradcam/probe_0": [0, 1, 2, 3]}
    assert [metric.step for metric in client.get_metric_history(run_id, "gradcam_health/ok")] == [0, 1, 2, 3]
    assert mlflow.active_run() is None
    with mlflow.start_run() as later:
        assert later.info.run_id == run_id
    assert len(client.search_runs([experiment])) == 1


SCRIPT = """
import os, signal, sys, time
import keras, mlflow, numpy as np
from gradcam_callbacks import GradCAMCallback
from support.models import pictures, small_model

mlflow.set_tracking_uri(sys.argv[1])
class Wait(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            if "fork" in sys.argv and not os.fork():
                time.sleep(60)
                os._exit(0)
            print(mlflow.last_active_run().info.run_id, flush=True)
            time.sleep(60)
if "handler" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
model = small_model()
model.compile("sgd", "sparse_categorical_crossentropy")
ours = GradCAMCallback(pictures(1), verbose=False)
model.fit(pictures(8), np.arange(8) % 4, epochs=3, verbose=0, callbacks=[ours, Wait()])
"""


def upload(journal: Path) -> None:
    done = CliRunner().invoke(main, ["upload", str(journal)])
    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(
    ("number", "how"),
    [(signal.SIGTERM, ""), (signal.SIGTERM, "handler"), (signal.SIGKILL, "fork")],
    ids=["SIGTERM", "SIGTERM-with-handler", "SIGKILL-and-a-child-that-lives-on"],
)
def test_a_process_that_is_told_to_end_leaves_no_run_open(
    mlflow_server: str, client: MlflowClient, number: signal.Signals, how: str
) -> None:
    """Where Python can still act, it ends the run; else `gradcam upload` does, and not while the process trains."""
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, mlflow_server, how],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert script.stdout is not None
        run_id = script.stdout.readline().strip()
        journal = Path(".gradcam", run_id)
        upload(journal)
        assert client.get_run(run_id).info.status == "RUNNING", "it still trains"
        assert Journal(journal).status == "FAILED"
        os.kill(script.pid, number)
        script.wait(60)
        if how == "handler":
            assert client.get_run(run_id).info.status == "FAILED"
            assert not journal.exists()
        else:
            upload(journal)
            assert client.get_run(run_id).info.status == "FAILED"
            upload(journal)
        assert image_steps(client, run_id) == {"gradcam/all": [0, 1], "gradcam/probe_0": [0, 1]}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)
        script.communicate()


def test_a_journal_that_stays_says_nothing_of_a_status_once_the_run_has_ended(client: MlflowClient) -> None:
    """Nobody ends the run a second time, and the lock is free."""
    fit(ours(keep_journal=True))
    run = mlflow.last_active_run().info
    journal = Journal(Path(".gradcam", run.run_id))
    assert journal.status is None
    assert not living.is_held(journal.directory / "manifest.json")
    upload(journal.directory)
    assert client.get_run(run.run_id).info.status == run.status == "FINISHED"


def test_a_lock_tells_that_somebody_lives(tmp_path: Path) -> None:
    """It is of one holder at a time, and free when that has let go."""
    file = tmp_path / "status"
    assert living.hold(file) is None, "there is no such file"
    assert not living.is_held(file)
    file.write_text("FAILED")
    held = living.hold(file)
    assert held is not None
    assert living.is_held(file)
    assert living.hold(file) is None
    living.release(held)
    assert not living.is_held(file)
