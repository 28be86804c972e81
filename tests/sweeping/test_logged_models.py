"""Checkpoints that are LoggedModels of MLflow: found, explained, and searched by what their maps say."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image
from support.models import pictures, small_model
from support.seeds import same_weights

from gradcam_callbacks import Explainer, ProbeSet, explain_checkpoints
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.reviewing import drift

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow's own, where models are logged


@pytest.fixture(autouse=True)
def requirements_are_not_inferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would load each model in another process, to see what it imports."""
    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "0")


def probes(count: int = 3) -> ProbeSet:
    return ProbeSet(pictures(count), targets=[0], regions=[(0, 0, 8, 16)] * count)


def focus(model: keras.Model) -> float:
    """The mean over the probes."""
    maps = Explainer(model)(probes()).maps
    return float(np.nanmean(drift.focus(maps, probes().regions)))


def logged(steps: list[int | None], *, names: str = "m{}") -> tuple[mlflow.entities.Run, list[str], list[keras.Model]]:
    """A run with a LoggedModel for each step, the last ones first, with other weights each."""
    ids, models = [], []
    with mlflow.start_run() as run:
        for number, step in enumerate(steps):
            models.append(same_weights(small_model(), 4 + number))
            at: dict[str, Any] = {} if step is None else {"step": step}
            ids.append(
                mlflow.keras.log_model(models[-1], name=names.format(number), pip_requirements=["keras"], **at).model_id
            )
    return run, ids, models


def test_the_best_checkpoint_is_found_by_its_focus(client: MlflowClient) -> None:
    """Each LoggedModel of a run gets focus, drift and health at its step, and a search is ordered by them."""
    run, ids, models = logged([2, 0, 1])
    sweep = explain_checkpoints(f"runs:/{run.info.run_id}/models", probes(), metrics="means", verbose=False)
    assert (sweep.recorded, sweep.problems) == ((0, 1, 2), {})
    found = mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id],
        order_by=[{"field_name": "metrics.gradcam_focus/mean", "ascending": False}],
        output_format="list",
    )
    expected = sorted(zip(map(focus, models), ids, [2, 0, 1], strict=True), reverse=True)
    assert [model.model_id for model in found] == [model_id for _, model_id, _ in expected]
    for model, (value, _, step) in zip(found, expected, strict=True):
        metrics = {metric.key: metric for metric in model.metrics}
        assert metrics["gradcam_focus/mean"].value == pytest.approx(value, rel=1e-5)
        assert {metric.step for metric in metrics.values()} == {step}
        assert metrics["gradcam_health/ok"].dataset_name == "gradcam_probes"
        assert ("gradcam_drift/mean" in metrics) == (step > 0)
        assert metrics["gradcam_focus/mean"].run_id == sweep.run_id


def test_a_sweep_goes_on_in_the_run_of_its_models(client: MlflowClient) -> None:
    """A second one explains nothing again, and each step is there once."""
    run, ids, _ = logged([0, 1])
    for recorded, skipped in (((0, 1), ()), ((), (0, 1))):
        sweep = explain_checkpoints(f"runs:/{run.info.run_id}/models", probes(), run_id=run.info.run_id, verbose=False)
        assert (sweep.recorded, sweep.skipped) == (recorded, skipped)
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "gradcam_focus/mean")]
    assert steps == [0, 1]
    assert len([m for m in client.get_logged_model(ids[1]).metrics if m.key == "gradcam_focus/mean"]) == 1


def test_models_that_were_logged_at_no_step_are_in_the_order_of_their_logging(client: MlflowClient) -> None:
    """Whatever their names; `step_from` may read the name instead."""
    run, ids, _ = logged([None, None, None], names="epoch-{}")
    by_order = explain_checkpoints(f"runs:/{run.info.run_id}/models", probes(), verbose=False)
    assert by_order.recorded == (0, 1, 2)
    last = [metric.step for metric in client.get_logged_model(ids[2]).metrics if metric.key == "gradcam_focus/mean"]
    assert last == [2]
    by_name = explain_checkpoints(
        f"runs:/{run.info.run_id}/models", probes(), step_from=r"/epoch-(\d+)/data", verbose=False
    )
    assert by_name.recorded == (0, 1, 2)
    client.delete_logged_model(ids[1])
    rest = explain_checkpoints(f"runs:/{run.info.run_id}/models", probes(), verbose=False)
    assert (rest.recorded, rest.problems) == ((0, 1), {})


def test_one_model_is_at_its_step(client: MlflowClient, tmp_path: Path) -> None:
    """By its id, alone or with others; two of one step are named by their ids."""
    _, ids, _ = logged([5, 7, 7])
    alone = explain_checkpoints(f"models:/{ids[0]}", probes(), verbose=False)
    assert alone.recorded == (5,)
    both = explain_checkpoints([f"models:/{model_id}" for model_id in ids], probes(), verbose=False)
    assert both.recorded == (5, 7)
    ((path, problem),) = both.problems.items()
    assert ids[2] in path
    assert problem.startswith(f"It is step 7, as '{ids[1]}' is.")
    for number, picture in enumerate(pictures(2)):
        Path("shown").mkdir(exist_ok=True)
        Image.fromarray((picture * 255).astype(np.uint8)).save(f"shown/{number}.png")
    done = CliRunner().invoke(main, ["checkpoints", f"models:/{ids[0]}", "--probes", "shown", "--metrics", "none"])
    assert done.exit_code == 0, done.output
    assert "1 checkpoint explained." in done.output
    held = client.get_run(mlflow.last_active_run().info.run_id).data
    assert held.metrics == {}


@pytest.mark.parametrize(("flavour", "alone"), [("keras", 2), ("tensorflow", 0)])
def test_what_autolog_saved_is_at_the_last_step_that_is_known_of_it(
    client: MlflowClient, flavour: str, alone: int
) -> None:
    """It says step 0, and mlflow.tensorflow's has no metrics; beside checkpoints it is left out."""
    autolog = getattr(mlflow, flavour).autolog
    autolog(log_models=True, silent=True)
    try:
        for saves in (False, True):
            model = small_model()
            model.compile("sgd", "sparse_categorical_crossentropy")
            save = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs, model=model: mlflow.keras.log_model(
                    model, name=f"epoch-{epoch}", step=epoch, pip_requirements=["keras"]
                )
            )
            with mlflow.start_run() as run:
                model.fit(
                    pictures(8), np.arange(8) % 4, epochs=3, callbacks=[save] if saves else [], verbose=0, batch_size=4
                )
            sweep = explain_checkpoints(f"runs:/{run.info.run_id}/models", probes(), verbose=False)
            assert (sweep.recorded, sweep.problems) == ((0, 1, 2) if saves else (alone,), {})
    finally:
        autolog(disable=True, silent=True)


def test_a_folder_of_artifacts_called_models_is_one(client: MlflowClient, tmp_path: Path) -> None:
    """Where the run has logged no model."""
    small_model().save(tmp_path / "m-1.keras")
    with mlflow.start_run() as run:
        client.log_artifact(run.info.run_id, str(tmp_path / "m-1.keras"), "models")
        sweep = explain_checkpoints(f"runs:/{run.info.run_id}/models", probes(), verbose=False)
    assert sweep.recorded == (0,)


def test_a_model_that_keras_did_not_make_is_named(client: MlflowClient) -> None:
    """With the reason; one that is not there raises."""
    with mlflow.start_run() as run, warnings.catch_warnings():
        mlflow.pyfunc.log_model(name="other", python_model=lambda model_input: model_input, pip_requirements=["x"])
    sweep = explain_checkpoints([f"runs:/{run.info.run_id}/models"], probes(), model=small_model(), verbose=False)
    assert sweep.run_id is None
    assert list(sweep.problems.values()) == ["It holds no checkpoint of Keras."]
    with pytest.raises(mlflow.MlflowException, match="not found"):
        mlflow_store.download("models:/m-00000000000000000000000000000000", Path())
