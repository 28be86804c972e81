"""Real searches for hyperparameters: one callback object for all trials, each recorded once in its own nested run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from support.mlflow_runs import image_steps
from support.models import pictures, small_model
from support.seeds import same_weights

from gradcam_callbacks import GradCAMCallback

TRIALS, EPOCHS = 3, 3


def trained(rate: float, callback: keras.callbacks.Callback) -> keras.callbacks.History:
    model = same_weights(small_model(), 4)
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(pictures(8), np.arange(8) % 4, epochs=EPOCHS, callbacks=[callback], verbose=0)


def assert_each_is_recorded_once(client: MlflowClient, parent: str | None, count: int = TRIALS) -> None:
    """The runs of the trials hold each step once, and nothing of ours is in the run around them."""
    experiment = mlflow.tracking.fluent._get_experiment_id()
    runs = [run for run in client.search_runs([experiment]) if run.info.run_id != parent]
    assert len(runs) == count
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.tags.get("mlflow.parentRunId") == parent
        assert image_steps(client, run.info.run_id) == {
            "gradcam/all": [*range(EPOCHS)],
            "gradcam/probe_0": [*range(EPOCHS)],
        }
        history = client.get_metric_history(run.info.run_id, "gradcam_drift/mean")
        assert [metric.step for metric in history] == [*range(EPOCHS)]
    if parent is not None:
        assert image_steps(client, parent) == {}
        assert not [key for key in client.get_run(parent).data.metrics if key.startswith("gradcam")]
    assert not Path(".gradcam").exists()


@pytest.fixture
def optimize(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Optimizes with Optuna; an error of a trial ends it."""
    optuna = pytest.importorskip("optuna", reason="needs Optuna: pip install optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def run(objective: Callable[[float], float], jobs: int = 1) -> None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(7))
        study.optimize(
            lambda trial: objective(trial.suggest_float("rate", 1e-3, 1e-1)), TRIALS * jobs, n_jobs=jobs, catch=()
        )
        assert len(study.trials) == TRIALS * jobs

    return run


def test_optuna_with_nested_runs(client: MlflowClient, optimize: Callable[..., None]) -> None:
    """One trial after the other; the drift that a trial returns as its value is its own."""
    callback = GradCAMCallback(pictures(1), verbose=False)

    def objective(rate: float) -> float:
        with mlflow.start_run(nested=True):
            return float(trained(rate, callback).history["gradcam_drift"][-1])

    with mlflow.start_run() as parent:
        optimize(objective)
    assert callback.problems == 0
    assert_each_is_recorded_once(client, parent.info.run_id)


@pytest.mark.parametrize("is_own", [True, False], ids=["runs of the user", "runs of ours"])
def test_optuna_with_two_jobs(client: MlflowClient, optimize: Callable[..., None], is_own: bool) -> None:
    """Two trials at a time, each in a thread: each is recorded in its own run."""
    callback = GradCAMCallback(pictures(1), verbose=False)
    experiment = mlflow.tracking.fluent._get_experiment_id()

    def objective(rate: float) -> float:
        if not is_own:
            return float(trained(rate, callback).history["loss"][-1])
        with mlflow.start_run(experiment_id=experiment):
            return float(trained(rate, callback).history["loss"][-1])

    optimize(objective, jobs=2)
    assert callback.problems == 0
    assert_each_is_recorded_once(client, None, 2 * TRIALS)


@pytest.mark.filterwarnings("ignore:(currentThread|getName)\\(\\) is deprecated:DeprecationWarning")  # KerasTuner's
def test_keras_tuner_with_nested_runs(client: MlflowClient) -> None:
    """It copies the callback for each trial; each copy records in the run that the trial has begun."""
    tuners = pytest.importorskip("keras_tuner", reason="needs KerasTuner: pip install keras-tuner")

    class Search(tuners.RandomSearch):  # type: ignore[misc]
        def run_trial(self, trial: object, *arguments: object, **more: object) -> object:
            with mlflow.start_run(nested=True):
                return super().run_trial(trial, *arguments, **more)

    def build(choices: object) -> keras.Model:
        model = same_weights(small_model(), 4)
        rate = choices.Float("rate", 1e-3, 1e-1)  # type: ignore[attr-defined]
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    callback = GradCAMCallback(pictures(1), verbose=False)
    labels = np.arange(8) % 4
    with mlflow.start_run() as parent:
        search = Search(build, objective="val_loss", max_trials=TRIALS, seed=7, directory="tuner", project_name="one")
        data = (pictures(8), labels)
        search.search(*data, validation_data=data, epochs=EPOCHS, callbacks=[callback], verbose=0)
    assert len(search.oracle.get_best_trials(TRIALS)) == TRIALS
    assert_each_is_recorded_once(client, parent.info.run_id)
