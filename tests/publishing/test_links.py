"""What MLflow is told of the metrics: whose model they are of, and on which data set they were measured."""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric
from support.journals import make_journal
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, ProbeSet
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.publishing.mlflow_store import MLflowStore
from gradcam_callbacks.publishing.store import Item, Kind, steps_of
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal

OURS = ("gradcam_drift/", "gradcam_health/", "gradcam_focus/")


def probes() -> ProbeSet:
    return ProbeSet(pictures(3), targets=[0], regions=[(2, 2, 10, 10), None, None])


def fit(callback: GradCAMCallback, *, epochs: int = 2, first: int = 0, model: keras.Model | None = None) -> None:
    model = model or small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    images = pictures(8)
    model.fit(
        images, np.arange(8) % 4, epochs=epochs, initial_epoch=first, callbacks=[callback], verbose=0, batch_size=4
    )


def metrics_of(client: MlflowClient, model_id: str) -> list[Metric]:
    """Those of ours that a LoggedModel has."""
    return [metric for metric in client.get_logged_model(model_id).metrics or [] if metric.key.startswith(OURS)]


def assert_linked(
    client: MlflowClient, model_id: str, run_id: str, steps: Sequence[int], *, without: Collection[int] = ()
) -> None:
    """The model has the run's metrics of these steps, measured on the probes; some may not say on what."""
    found = metrics_of(client, model_id)
    assert {"gradcam_drift/mean", "gradcam_focus/mean", "gradcam_health/ok"} <= {metric.key for metric in found}
    for metric in found:
        named = (None, None) if metric.step in without else ("gradcam_probes", probes().digest[:8])
        assert (metric.run_id, metric.dataset_name, metric.dataset_digest) == (run_id, *named)
    assert sorted(metric.step for metric in found if metric.key == "gradcam_health/ok") == list(steps)


def models_of(client: MlflowClient, run: mlflow.entities.Run) -> list[LoggedModel]:
    """The LoggedModels of a run, in the order of their making."""
    found = client.search_logged_models([run.info.experiment_id])
    of_run = [model for model in found if model.source_run_id == run.info.run_id]
    return sorted(of_run, key=lambda model: model.creation_timestamp)


@pytest.fixture(params=["tensorflow", "keras"])
def autolog(request: pytest.FixtureRequest, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow's autologging, of which there are two for Keras; it does not load each model again to see its imports."""
    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "0")
    flavour = getattr(mlflow, request.param)
    flavour.autolog(log_models=True, silent=True)
    yield
    flavour.autolog(disable=True, silent=True)


@pytest.mark.usefixtures("autolog")
@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_metrics_are_of_the_model_that_autolog_makes(client: MlflowClient) -> None:
    """Of each of two trainings in one run its own, whose metrics end where it ended; the run has each step once."""
    with mlflow.start_run() as run:
        fit(GradCAMCallback(probes()))
        fit(GradCAMCallback(probes()))
    first, second = models_of(client, run)
    assert (first.status, second.status) == (LoggedModelStatus.READY, LoggedModelStatus.READY)
    assert_linked(client, first.model_id, run.info.run_id, [0, 1], without=[0])
    # MLflow itself copies what the run has at step 0 to each model that autolog saves.
    assert_linked(client, second.model_id, run.info.run_id, [0, 2, 3], without=[0])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "gradcam_focus/mean")]
    assert sorted(steps) == [0, 1, 2, 3]


def test_metrics_are_of_the_active_model(client: MlflowClient) -> None:
    """As those that the user logs; also where it becomes active, or another one does, while the training runs."""
    with mlflow.start_run() as run:
        named = [mlflow.create_external_model(name=f"m{n}") for n in range(2)]
        mlflow.set_active_model(model_id=named[0].model_id)
        change = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: mlflow.set_active_model(model_id=named[1].model_id) if epoch == 2 else 0
        )
        try:
            model = small_model()
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(pictures(8), np.arange(8) % 4, epochs=4, callbacks=[GradCAMCallback(probes()), change], verbose=0)
        finally:
            mlflow.clear_active_model()
    assert_linked(client, named[0].model_id, run.info.run_id, [0, 1])
    assert_linked(client, named[1].model_id, run.info.run_id, [2, 3])
    assert steps_of(mlflow_store.find_run(run.info.run_id, client.tracking_uri)) == {0, 1, 2, 3}


def test_without_a_model_metrics_are_of_the_run_alone(client: MlflowClient) -> None:
    """A model that was logged before is not the one that is trained, nor one of another run, as of a nested one."""
    with mlflow.start_run() as outer:
        begun = mlflow.initialize_logged_model(name="of the outer run")
        with mlflow.start_run(nested=True) as inner:
            fit(GradCAMCallback(probes()))
            before = mlflow.create_external_model(name="done")
            fit(GradCAMCallback(probes()))
    assert metrics_of(client, begun.model_id) == []
    assert metrics_of(client, before.model_id) == []
    history = client.get_metric_history(inner.info.run_id, "gradcam_focus/mean")
    assert [metric.step for metric in history] == [0, 1, 2, 3]
    assert "gradcam_focus/mean" not in client.get_run(outer.info.run_id).data.metrics


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_a_nested_run_is_linked_to_its_own_model(client: MlflowClient) -> None:
    """A model that the user has begun gets the metrics, and can be saved at any step afterwards."""
    with mlflow.start_run():
        for _ in range(2):
            with mlflow.start_run(nested=True) as run:
                model = mlflow.initialize_logged_model(name="trial")
                fit(GradCAMCallback(probes()))
                saved = mlflow.keras.log_model(
                    small_model(), name="trial", model_id=model.model_id, step=1, pip_requirements=["keras"]
                )
            assert saved.model_id == model.model_id, "a data set at step 1 would have been in the way"
            assert_linked(client, model.model_id, run.info.run_id, [0, 1], without=[0, 1])


def test_the_probes_are_a_data_set_of_the_run(client: MlflowClient) -> None:
    """Once, also where a training goes on in it: their name, digest, number and size, and what made them."""
    with mlflow.start_run() as run:
        fit(GradCAMCallback(probes()))
        fit(GradCAMCallback(probes()), epochs=4, first=2)
    (given,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("gradcam_probes", probes().digest[:8])
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "probes"}
    profile = json.loads(given.dataset.profile)
    assert (profile["num_rows"], profile["features_shape"]) == (3, [3, 16, 16, 3])
    source = mlflow.data.get_source(given)
    assert source.to_dict()["tags"]["mlflow.source.name"] == run.data.tags["mlflow.source.name"]
    spec = json.loads(json.loads(given.dataset.schema)["mlflow_tensorspec"]["features"])
    assert spec[0]["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 16, 16, 3]}
    found = client.search_runs([run.info.experiment_id], filter_string="dataset.name = 'gradcam_probes'")
    assert [found_run.info.run_id for found_run in found] == [run.info.run_id]


def test_a_resumed_run_is_linked_to_the_model_of_each_training(client: MlflowClient) -> None:
    """Steps that an earlier process has recorded stay with its model."""
    with mlflow.start_run() as run:
        run_id, models = run.info.run_id, []
    for first in (0, 2):
        with mlflow.start_run(run_id=run_id):
            models.append(mlflow.initialize_logged_model(name="model"))
            fit(GradCAMCallback(probes(), run_id=run_id), epochs=first + 2, first=first)
    assert_linked(client, models[0].model_id, run_id, [0, 1], without=[0, 1])
    assert_linked(client, models[1].model_id, run_id, [2, 3], without=[2, 3])
    assert len(client.get_run(run_id).inputs.dataset_inputs) == 1
    assert {metric.step for metric in client.get_metric_history(run_id, "gradcam_health/ok")} == {0, 1, 2, 3}


def test_upload_keeps_the_links(client: MlflowClient) -> None:
    """The journal knows the model; `gradcam upload` sends what is asked for there, and the model is not active then."""
    with mlflow.start_run() as run:
        model = mlflow.initialize_logged_model(name="model")
        fit(GradCAMCallback(probes(), keep_journal=True, metrics="all"))
    mlflow.finalize_logged_model(model.model_id, "READY")
    journal = Journal(f".gradcam/{run.info.run_id}")
    assert {journal.read(step).model_id for step in (0, 1)} == {model.model_id}
    with mlflow.start_run() as other:
        pass
    asked = ["--run", other.info.run_id, "--tracking-uri", client.tracking_uri]
    done = CliRunner().invoke(main, ["upload", str(journal.directory), *asked])
    assert done.exit_code == 0, done.output
    found = [metric for metric in metrics_of(client, model.model_id) if metric.run_id == other.info.run_id]
    assert {(metric.step, metric.dataset_name) for metric in found} == {(0, "gradcam_probes"), (1, "gradcam_probes")}
    assert {metric.run_id for metric in metrics_of(client, model.model_id)} == {run.info.run_id, other.info.run_id}
    assert "gradcam_score/probe_0.class_0" in client.get_run(other.info.run_id).data.metrics


def test_a_refused_link_costs_no_metric(client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line for who debugs, and the metrics arrive without; an unknown model is not tried again."""
    journal = journal_of(tmp_path / "journal", "m-00000000000000000000000000000000")
    with mlflow.start_run() as run:
        store = mlflow_store.choose_run(None)
    caplog.set_level(logging.DEBUG, "gradcam_callbacks")
    assert Uploader(journal, store).send()
    said = [record.getMessage() for record in caplog.records if "linked" in record.getMessage()]
    assert said == ["Metrics cannot be linked to model m-00000000000000000000000000000000."]
    history = client.get_metric_history(run.info.run_id, "gradcam_health/ok")
    assert [metric.step for metric in history] == [0, 1, 2]


@pytest.mark.parametrize("steps", [(0, 1, 2), (3, 4, 5)])
def test_a_store_in_plain_files_keeps_the_steps(
    tmp_path: Path, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads metrics that name a data set as those of step 0: they are sent without."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = f"file://{tmp_path}/mlruns"
    client = MlflowClient(address)
    run = client.create_run("0")
    model = client.create_logged_model("0", "model", run.info.run_id)
    store = MLflowStore(run, address)
    assert Uploader(journal_of(tmp_path / "journal", model.model_id, steps), store).send()
    assert steps_of(store) >= set(steps)
    assert {metric.step for metric in client.get_metric_history(run.info.run_id, "gradcam_health/ok")} >= set(steps)
    assert client.get_run(run.info.run_id).data.metrics["gradcam_health/ok"] == 2
    assert max(metric.step for metric in metrics_of(client, model.model_id)) == steps[-1]


def test_a_run_of_a_sweep_has_the_tags_of_mlflows_own(client: MlflowClient) -> None:
    """User and source, and the commit where there is one, also in an experiment that is named."""
    with mlflow.start_run() as fluent:
        pass
    expected = {key: value for key, value in fluent.data.tags.items() if key != "mlflow.runName"}
    assert expected["mlflow.user"] == getpass.getuser()
    for experiment in (None, "of its own"):
        store = mlflow_store.choose_run(None, experiment=experiment)
        tags = client.get_run(store.run_id).data.tags
        assert expected.items() <= tags.items()
        store.finish("FINISHED")


def journal_of(folder: Path, model_id: str, steps: tuple[int, ...] = (0, 1, 2)) -> Journal:
    """A journal whose steps are of a model."""
    journal = make_journal(folder, names=["cat", "dog"], targets=["predicted"], steps=steps)
    for step in steps:
        read = journal.read(step)
        arrays: dict[str, Any] = {**read.arrays, "model_id": np.array(model_id)}
        journal.append(step, arrays, read.logs)
    return journal


def test_metrics_that_a_user_stores_plainly_arrive(client: MlflowClient) -> None:
    """A mapping of values by key is enough for a store."""
    with mlflow.start_run() as run:
        store = mlflow_store.choose_run(None)
    store.put(Item(Kind.METRICS, 1), {"a": 1.0}, 0.0)
    assert client.get_run(run.info.run_id).data.metrics == {"a": 1.0}
