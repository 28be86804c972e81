"""Saved checkpoints become the same record as a training that was watched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import joblib
import keras
import mlflow
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from mlflow import MlflowClient
from support.engines import IS_TENSORFLOW, needs_jax, needs_tensorflow
from support.lanes import at_night
from support.mlflow_runs import artifact_paths, image_steps
from support.models import pictures, small_model
from support.seeds import same_weights

from gradcam_callbacks import (
    Explainer,
    GradCAMCallback,
    GradCAMError,
    InMemoryStore,
    ProbeSet,
    Sweep,
    explain_checkpoints,
)
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.sweeping import finding, loading, spreading
from gradcam_callbacks.sweeping.formats import Checkpoint

X, Y = pictures(32), np.arange(32) % 4


def two_probes() -> ProbeSet:
    return ProbeSet(pictures(2), targets=[2, "predicted"])


def compiled_model(size: int = 16) -> keras.Model:
    model = same_weights(small_model(size=size), 4)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # or a training traces its first batch twice
    return model


def train(*callbacks: keras.callbacks.Callback, epochs: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = compiled_model()
    model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def sweep(source: object, **settings: object) -> Sweep:
    """Into a journal that stays, whatever was in the folder before."""
    return explain_checkpoints(source, two_probes(), verbose=False, **({"journal_dir": "post"} | settings))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of a training in each format, and what an Explainer says of each in the folder's journal."""
    folder = tmp_path_factory.mktemp("saved")

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            number = epoch + 1
            for name in ("keras/m-%02d.keras", "weights/m-%02d.weights.h5", "mlflow/epoch_%d/checkpoint.h5"):
                path = folder / (name % (epoch if "epoch_" in name else number))
                path.parent.mkdir(parents=True, exist_ok=True)
                if "weights" in name:
                    self.model.save_weights(path)
                else:
                    self.model.save(path)
            if IS_TENSORFLOW:
                import tensorflow as tf

                tf.train.Checkpoint(model=self.model).write(str(folder / "tf" / f"ckpt-{number}"))
            np.save(folder / f"{epoch}.npy", Explainer(self.model)(two_probes()).maps)

    (folder / "tf").mkdir()
    train(Save())
    return folder


def assert_maps(saved: Path, journal: str | Path = "post") -> None:
    """The journal holds the maps of the three epochs to the last bit, and they are not all the same."""
    recorded = Journal(journal)
    assert recorded.steps() == [0, 1, 2]
    for step in range(3):
        np.testing.assert_array_equal(recorded.read(step).arrays["maps"], np.load(saved / f"{step}.npy"))
    assert (np.load(saved / "0.npy") != np.load(saved / "2.npy")).any()


# ---- Live and post-hoc ----


def test_a_sweep_gives_what_the_callback_gave(client: MlflowClient) -> None:
    """Maps, scores and drift of six epochs are those of the callback; a sweep into its run adds nothing."""
    save = keras.callbacks.ModelCheckpoint("ckpt/m-{epoch:02d}.keras")
    with mlflow.start_run() as run:
        train(GradCAMCallback(two_probes(), journal_dir="live"), save, epochs=6)
    result = sweep("ckpt")
    assert result.recorded == (0, 1, 2, 3, 4, 5)
    assert (result.skipped, result.problems, result.gaps) == ((), {}, ())
    live, post = Journal("live"), Journal("post")
    assert [step for step in live.steps() if step >= 0] == post.steps() == [0, 1, 2, 3, 4, 5]
    for step in post.steps():
        one, other = live.read(step).arrays, post.read(step).arrays
        for name in ("maps", "scores", "probabilities", "predicted", "explained", "health", *["drift"] * (step > 0)):
            np.testing.assert_array_equal(one[name], other[name])
    before = artifact_paths(client, run.info.run_id), client.get_run(run.info.run_id).data.metrics
    again = explain_checkpoints("ckpt", two_probes(), run_id=run.info.run_id, verbose=False)
    assert (again.recorded, again.skipped) == ((), (0, 1, 2, 3, 4, 5))
    assert (artifact_paths(client, run.info.run_id), client.get_run(run.info.run_id).data.metrics) == before
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_a_sweep_is_a_run_of_its_own_in_the_experiment(client: MlflowClient, saved: Path) -> None:
    """A new run with cards, metrics, maps and the review page, that has ended; no journal stays."""
    result = explain_checkpoints(saved / "keras", two_probes(), experiment="post-hoc", verbose=False)
    assert result.run_id is not None
    run = client.get_run(result.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "post-hoc"
    assert run.info.status == "FINISHED"
    assert image_steps(client, result.run_id) == {
        f"gradcam/{name}": [0, 1, 2] for name in ("all", "probe_0", "probe_1")
    }
    assert "gradcam/report.html" in artifact_paths(client, result.run_id, "gradcam")
    assert [metric.step for metric in client.get_metric_history(result.run_id, "gradcam_drift/mean")] == [1, 2]
    assert not Path(".gradcam").exists()
    assert mlflow.active_run() is None


# ---- Every kind of file ----


@pytest.mark.parametrize("kind", ["keras", "keras/*.keras", "mlflow", "list"])
def test_whole_models_need_no_model(client: MlflowClient, saved: Path, kind: str) -> None:
    """A folder, a glob, MLflow's folders and a list of files give the maps of each epoch."""
    files = sorted((saved / "keras").iterdir())[::-1]
    result = sweep(files if kind == "list" else str(saved / kind))
    assert (result.recorded, result.problems) == ((0, 1, 2), {})
    assert_maps(saved)


OF_TENSORFLOW = [pytest.param(kind, marks=needs_tensorflow) for kind in ("tf", "tf/ckpt-*.index")]


@pytest.mark.parametrize("kind", ["weights", *OF_TENSORFLOW, "keras"])
@pytest.mark.parametrize("build", [small_model, small_model()], ids=["function", "model"])
def test_weights_are_loaded_into_the_model_given(
    client: MlflowClient, saved: Path, kind: str, build: Callable[[], keras.Model] | keras.Model
) -> None:
    """Weights alone need model=, a model or a function that builds it."""
    assert sweep(str(saved / kind), model=build).problems == {}
    assert_maps(saved)


@needs_jax
def test_a_checkpoint_of_tensorflow_is_refused(client: MlflowClient) -> None:
    """It holds variables of TensorFlow's; the sentence says how to read it."""
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001", "ckpt-1.keras"):
        Path(name).touch()
    result = sweep(["ckpt-1.index"], model=small_model)
    assert list(result.problems.values()) == [
        f"'{Path('ckpt-1')}' is a checkpoint of TensorFlow's own, and Keras runs on JAX here. "
        "Read it with KERAS_BACKEND=tensorflow, or save the model as a .keras file."
    ]


def test_weights_without_a_model_say_what_is_missing(client: MlflowClient, saved: Path) -> None:
    """Nothing is recorded and no run made; each file has its reason."""
    result = sweep(saved / "weights")
    assert (result.run_id, result.recorded, len(result.problems)) == (None, (), 3)
    assert set(result.problems.values()) == {
        "It holds weights alone: pass model=, the model or a function that builds it."
    }
    assert all(isinstance(error, GradCAMError) and error.argument == "model" for error in result.errors.values())


def test_artifacts_of_a_run_and_registered_models(client: MlflowClient, saved: Path) -> None:
    """runs:/ID/folder gives all its checkpoints, models:/NAME/VERSION the model's."""
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(saved / "mlflow"), "checkpoints")
        mlflow.log_artifact(str(saved / "keras" / "m-02.keras"), "model/data")
    assert sweep(f"runs:/{run.info.run_id}/checkpoints").recorded == (0, 1, 2)
    assert_maps(saved)
    client.create_registered_model("watched")
    source = f"{run.info.artifact_uri}/model"
    version = client.create_model_version("watched", source, run.info.run_id)
    result = sweep(f"models:/watched/{version.version}", journal_dir="registered")
    assert (result.recorded, result.problems) == ((1,), {})
    np.testing.assert_array_equal(Journal("registered").read(1).arrays["maps"], np.load(saved / "1.npy"))


def test_orbax_checkpoints(client: MlflowClient, saved: Path) -> None:
    """What Keras's OrbaxCheckpoint writes has 0-based steps of its own."""
    pytest.importorskip("orbax.checkpoint", reason="orbax-checkpoint is not installed")
    save = keras.callbacks.OrbaxCheckpoint(str(Path("orbax").absolute()), save_freq="epoch", max_to_keep=5)
    train(save)
    assert sweep("orbax", model=small_model).problems == {}
    assert_maps(saved)
    assert sweep("orbax", journal_dir="whole").problems == {}
    assert_maps(saved, "whole")
    assert sweep("orbax/1", journal_dir="one").recorded == (1,)
    (problem,) = sweep("orbax/1", model=small_model(name="other"), journal_dir="none").problems.values()
    assert problem.startswith("It has no weights for 'other/kernel' of the model (2 of 4 are missing).")


# ---- What goes wrong ----


@keras.saving.register_keras_serializable("tests")
class Double(keras.layers.Layer):
    def call(self, inputs: object) -> object:
        return 2 * inputs


def test_seven_of_ten_are_recorded_and_three_have_reasons(client: MlflowClient) -> None:
    """A truncated file, another architecture and what is no checkpoint are listed; the others are recorded."""
    Path("ckpt").mkdir()
    model = compiled_model()
    for number in range(1, 11):
        model.save(f"ckpt/m-{number:02d}.keras")
    whole = Path("ckpt/m-03.keras").read_bytes()
    Path("ckpt/m-03.keras").write_bytes(whole[: len(whole) // 2])
    compiled_model(size=24).save("ckpt/m-05.keras")
    Path("ckpt/m-08.keras").write_text("not a checkpoint")
    result = sweep("ckpt")
    assert result.recorded == (0, 1, 3, 5, 6, 8, 9)
    reasons = {Path(path).name: problem for path, problem in result.problems.items()}
    assert reasons.keys() == {"m-03.keras", "m-05.keras", "m-08.keras"}
    assert reasons["m-03.keras"].startswith("It is damaged or truncated")
    assert "(24, 24, 3)" in reasons["m-05.keras"]
    assert reasons["m-08.keras"].startswith("It is damaged or truncated")
    assert Journal("post").steps() == list(result.recorded)
    assert result.run_id is not None
    assert image_steps(client, result.run_id)["gradcam/probe_0"] == list(result.recorded)


def test_another_architecture_of_the_same_input_is_no_step_of_this_review(client: MlflowClient) -> None:
    """Its maps are of another grid: it is listed, with what to do."""
    Path("ckpt").mkdir()
    compiled_model().save("ckpt/m-1.keras")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 5, activation="relu", name="conv")(inputs)
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))).save("ckpt/m-2.keras")
    result = sweep("ckpt")
    assert result.recorded == (0,)
    assert list(result.problems.values()) == [
        "Another architecture: its map is 12×12 of layer 'conv', those of the others are 14×14 of 'conv'. Explain it "
        "into a run of its own."
    ]


def test_a_lambda_layer_is_refused_unless_it_is_trusted(client: MlflowClient) -> None:
    """safe_mode stays on; the reason says that code would run from the file."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.Lambda(lambda value: value * 2)(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    model.save("m-1.keras")
    (problem,) = sweep("m-1.keras").problems.values()
    assert "Lambda layer, whose code would be run from the file" in problem
    assert "safe_mode=False" in problem
    assert sweep("m-1.keras", safe_mode=False).recorded == (0,)


def test_custom_objects_are_handed_on(client: MlflowClient) -> None:
    """A class that Keras does not know is taken from custom_objects; without it the reason names it."""

    class Unknown(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return 2 * inputs

    inputs = keras.Input((16, 16, 3))
    x = Unknown()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))).save("m-1.keras")
    (problem,) = sweep("m-1.keras").problems.values()
    assert problem == "It needs 'Unknown', which Keras does not know: pass custom_objects=."
    assert sweep("m-1.keras", custom_objects={"Unknown": Unknown}).recorded == (0,)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_of_this_library_is_in_the_log_with_its_traceback(
    client: MlflowClient, saved: Path, caplog: pytest.LogCaptureFixture, jobs: int
) -> None:
    """The row says that it is ours and where the traceback is; the other checkpoints are explained."""

    class Faulty(ProbeSet):
        def jittered(self) -> ProbeSet | None:  # asked for at the first checkpoint
            raise KeyError("a fault")

    result = explain_checkpoints(saved / "keras", Faulty(pictures(2)), jobs=jobs, journal_dir="post", verbose=False)
    assert result.recorded == (1, 2)
    ((path, problem),) = result.problems.items()
    assert path == str(saved / "keras/m-01.keras")
    assert problem == ("It was loaded, but explaining it failed (KeyError: 'a fault'). The log has the traceback.")
    (logged,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert path in logged
    assert "Traceback (most recent call last)" in logged
    assert "in jittered" in logged


def test_probes_that_cannot_be_jittered_are_explained_without_a_noise_floor(client: MlflowClient) -> None:
    """Whole numbers that are no pictures have no tiny change."""
    inputs = keras.Input((16, 16, 3), dtype="int32")
    x = keras.layers.Conv2D(6, 3, activation="relu")(keras.layers.Rescaling(0.1)(inputs))
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))).save("m-1.keras")
    images = np.random.default_rng(3).integers(0, 9, (2, 16, 16, 3), np.int32)
    result = explain_checkpoints("m-1.keras", images, journal_dir="post", verbose=False)
    assert (result.recorded, result.problems) == ((0,), {})
    assert "floor" not in Journal("post").read(0).arrays


def test_probes_are_read_for_the_first_model_that_can_be_loaded(client: MlflowClient, saved: Path) -> None:
    """A function is asked once, with it, or with the compiled model for the weights; without any it is said."""
    asked: list[tuple[int, ...]] = []

    def probes_for(model: keras.Model) -> ProbeSet:
        asked.append(model.input_shape)
        return two_probes()

    shutil.copytree(saved / "keras", "ckpt")
    Path("ckpt/m-00.keras").write_text("not a checkpoint")
    result = explain_checkpoints("ckpt", probes_for, journal_dir="post", verbose=False, step_from=r"m-(\d+)")
    assert (result.recorded, list(result.problems)) == ((1, 2, 3), ["ckpt/m-00.keras"])
    weights = saved / "weights"
    explain_checkpoints(weights, probes_for, model=compiled_model, journal_dir="weights", verbose=False)
    assert_maps(saved, "weights")
    assert asked == [(None, 16, 16, 3)] * 2
    with pytest.raises(ValueError, match=r"that could be loaded: they hold weights alone\. Pass model=\."):
        explain_checkpoints(weights, probes_for, verbose=False)


def test_what_is_no_checkpoint_at_all_is_said_before_anything_runs(client: MlflowClient) -> None:
    """An empty folder is refused; a SavedModel has its reason and its remedy."""
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"No checkpoint in \['empty'\]. Expected \.keras"):
        sweep("empty")
    if IS_TENSORFLOW:
        compiled_model().export("exported", verbose=False)
    else:  # JAX itself writes one through TensorFlow alone
        Path("exported").mkdir()
        Path("exported/saved_model.pb").touch()
    (problem,) = sweep("exported").problems.values()
    assert problem.startswith("It is a SavedModel, which Keras 3 cannot open as layers. Save the model as .keras")


def test_probes_that_do_not_fit_the_run_are_refused(client: MlflowClient, saved: Path) -> None:
    """A run that holds maps of other probes gets none of these."""
    with mlflow.start_run() as run:
        train(GradCAMCallback(pictures(3)), epochs=1)
    with pytest.raises(ValueError, match=r"holds maps that were made with probes .* Choose another run"):
        sweep(saved / "keras", run_id=run.info.run_id)


# ---- Which step ----


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["m-01.keras", "m-02.keras", "m-10.keras"], [0, 1, 9]),
        (["m-1-0.53.keras", "m-10-0.12.keras", "m-2-0.33.keras"], [0, 1, 9]),
        (["resnet50_epoch3_acc0.91.keras", "resnet50_epoch12_acc0.95.keras"], [2, 11]),
        (["m-0.keras", "m-1.keras"], [0, 1]),
        (["epoch_1/checkpoint.weights.h5", "epoch_0/checkpoint.weights.h5"], [0, 1]),
        (["best.keras"], [0]),
        (["resnet50-01.keras", "resnet50-02.keras", "resnet50-10.keras"], [0, 1, 9]),
        (["20240105-model-01.keras", "20240105-model-02.keras"], [0, 1]),
        (["mobilenetv2_03.keras"], [2]),
        (["model_v1.01.keras", "model_v1.02.keras"], [0, 1]),
        (["a/ckpt-3.index", "a/ckpt-7.index"], [2, 6]),
    ],
)
def test_the_step_is_read_from_the_name(names: list[str], steps: list[int]) -> None:
    """ModelCheckpoint counts from 1, MLflow from 0; decimals are metrics; ten comes after two."""
    for name in names:
        path = Path("ckpt", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found, problems = finding.find_checkpoints("ckpt", None, ExitStack())
    assert ([checkpoint.step for checkpoint in found], problems) == (steps, {})


def test_a_step_can_be_named_by_pattern_or_function_and_doubles_are_said(client: MlflowClient, saved: Path) -> None:
    """step_from= decides; two files of one step are one step and a reason; gaps are listed."""
    shutil.copytree(saved / "keras", "ckpt")
    for number in (1, 2, 3):
        Path(f"ckpt/m-0{number}.keras").rename(f"ckpt/run7-at{100 * number}.keras")
    result = sweep("ckpt", step_from=r"at(\d)00")
    assert result.recorded == (1, 2, 3)
    shutil.rmtree("post")
    by_function = sweep("ckpt", step_from=lambda path: 2 * int(path.stem[-3]))
    assert (by_function.recorded, by_function.gaps) == ((2, 4, 6), (3, 5))
    shutil.rmtree("post")
    doubled = sweep("ckpt")
    assert doubled.recorded == (99, 199, 299)
    shutil.rmtree("post")
    doubled = sweep("ckpt", step_from=r"run(\d)")
    assert doubled.recorded == (7,)
    assert len(doubled.problems) == 2
    assert all("It is step 7, as 'run7-at100.keras' is." in problem for problem in doubled.problems.values())
    nameless = sweep([saved / "keras/m-01.keras", shutil.copy(saved / "keras/m-02.keras", "best.keras")])
    assert "No number in its name says which step it is." in next(iter(nameless.problems.values()))


def test_globs_take_folders_and_what_belongs_to_a_checkpoint() -> None:
    """A glob of MLflow's folders, and one of TensorFlow's prefixes with its data files."""
    for name in (
        "mlflow/epoch_0/checkpoint.h5",
        "mlflow/epoch_1/checkpoint.h5",
        "tf/ckpt-1.index",
        "tf/ckpt-1.data-00000-of-00001",
        "tf/checkpoint",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    with ExitStack() as stack:
        expanded = finding._expand("mlflow/epoch_*", stack, {})
        assert [path.as_posix() for path, _ in expanded] == [f"mlflow/epoch_{n}/checkpoint.h5" for n in (0, 1)]
        assert [path.as_posix() for path, _ in finding._expand("tf/*", stack, {})] == ["tf/ckpt-1.index"]


# ---- One trace, one model ----


def test_one_graph_is_traced_for_all_of_one_architecture(
    client: MlflowClient, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files are one loaded model and one trace."""
    loaded = []
    load = keras.saving.load_model
    monkeypatch.setattr(keras.saving, "load_model", lambda *a, **k: loaded.append(a) or load(*a, **k))
    explainers = []
    make = loading.Explainer
    monkeypatch.setattr(loading, "Explainer", lambda *a, **k: explainers.append(make(*a, **k)) or explainers[-1])
    sweep(saved / "keras")
    assert (len(loaded), len(explainers), explainers[0].traces) == (1, 1, 1)


# ---- Several processes ----


def test_a_surrounding_configuration_of_joblib_decides_where_jobs_does_not() -> None:
    """One process by default, as many as it says on this machine."""
    assert spreading._workers_of_cluster() == 1
    for backend in ("loky", "threading", "multiprocessing"):
        with joblib.parallel_config(backend=backend, n_jobs=3):
            assert spreading._workers_of_cluster() == 3
        with joblib.parallel_config(backend=backend):
            assert spreading._workers_of_cluster() == 1


def test_two_processes_give_the_same_maps(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    """To the last bit, in order, and on the engine of this process, whatever the environment says by now."""
    get_reusable_executor().shutdown(wait=True)  # of the tests before
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    Path("ckpt").mkdir()
    for number in range(1, 10):
        shutil.copy(saved / f"keras/m-0{(number - 1) % 3 + 1}.keras", f"ckpt/m-{number:02d}.keras")
    result = sweep("ckpt", jobs=2)
    assert result.recorded == tuple(range(9))
    assert Journal("post").manifest.engine == keras.config.backend()
    for step in range(9):
        np.testing.assert_array_equal(Journal("post").read(step).arrays["maps"], np.load(saved / f"{step % 3}.npy"))


def test_a_worker_on_another_engine_is_told_once(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    """The sweep ends, as no checkpoint could be explained there; no run is made."""
    here = {"tensorflow": "TensorFlow", "jax": "JAX"}[keras.config.backend()]
    monkeypatch.setattr(spreading, "chosen_backend", lambda: "numpy")  # of this process; its threads are the workers
    message = (
        rf"^A worker process has loaded Keras on {here}, and this process on numpy\. Start .* KERAS_BACKEND=numpy in"
    )
    with joblib.parallel_config(backend="threading"), pytest.raises(GradCAMError, match=message):
        sweep(saved / "keras", jobs=2, journal_dir=None)
    assert not Path(".gradcam").exists()


def killing_once(place: Path) -> Callable[[], keras.Model]:
    """A function that builds the model, and kills the process that calls it first."""

    def build() -> keras.Model:
        try:
            place.touch(exist_ok=False)
        except FileExistsError:
            inputs = keras.Input((16, 16, 3))
            x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
            x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
            return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="head")(x))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return build


def test_a_process_that_is_killed_loses_nothing(client: MlflowClient, saved: Path) -> None:
    """Its checkpoints are explained by another."""
    result = sweep(saved / "weights", model=killing_once(Path("killed").absolute()), jobs=2)
    assert Path("killed").exists()
    assert (result.recorded, result.problems) == ((0, 1, 2), {})
    assert_maps(saved)


@pytest.mark.usefixtures("cluster")
def test_a_dask_cluster_gives_the_same_maps_also_when_a_worker_is_killed(client: MlflowClient, saved: Path) -> None:
    """A scheduler and two worker processes on loopback; nothing is explained in this process."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    build = killing_once(Path("killed").absolute())
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        result = sweep(saved / "weights", model=build)
    assert Path("killed").exists()
    assert (result.recorded, result.problems) == ((0, 1, 2), {})
    assert_maps(saved)


RAY = """
import sys, joblib, mlflow, numpy as np, ray
from ray.util.joblib import register_ray
from gradcam_callbacks import ProbeSet, explain_checkpoints
mlflow.set_tracking_uri(sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
register_ray()
images = np.random.default_rng(3).random((2, 16, 16, 3), dtype=np.float32)
with joblib.parallel_config(backend="ray"):
    result = explain_checkpoints(sys.argv[2], ProbeSet(images, targets=[2, "predicted"]), journal_dir="post")
assert "keras" not in sys.modules, "it was not explained by the workers"
assert result.recorded == (0, 1, 2), result
ray.shutdown()
"""


@pytest.mark.usefixtures("cluster")
def test_ray_gives_the_same_maps(client: MlflowClient, saved: Path) -> None:
    """A real local Ray; nothing is explained in the driver."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    command = [sys.executable, "-c", RAY, client.tracking_uri, str(saved / "keras")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert_maps(saved)


# ---- Interrupted ----

SWEEP = """
import sys, time
import numpy as np, mlflow
from gradcam_callbacks import ProbeSet, explain_checkpoints
mlflow.set_tracking_uri(sys.argv[1])

def told(checkpoint, problem):
    print("done", checkpoint.step, flush=True)
    time.sleep(0.3)

images = np.random.default_rng(3).random((2, 16, 16, 3), dtype=np.float32)
explain_checkpoints("ckpt", ProbeSet(images, targets=[2, "predicted"]), on_checkpoint=told, verbose=False)
"""


def test_a_sweep_that_was_killed_goes_on_where_it_was(client: MlflowClient, saved: Path) -> None:
    """After kill -9 the same call continues its journal and its run, and explains only what is missing."""
    Path("ckpt").mkdir()
    for number in range(1, 9):
        shutil.copy(saved / f"keras/m-0{(number - 1) % 3 + 1}.keras", f"ckpt/m-{number:02d}.keras")
    script = subprocess.Popen(
        [sys.executable, "-c", SWEEP, client.tracking_uri], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert script.stdout is not None
    lines = [script.stdout.readline() for _ in range(3)]
    assert lines == ["done 0\n", "done 1\n", "done 2\n"]
    script.kill()
    script.wait(30)
    script.stdout.close()
    (journal,) = Path(".gradcam").iterdir()
    held = Journal(journal).steps()
    assert held[:3] == [0, 1, 2]
    result = explain_checkpoints("ckpt", two_probes(), verbose=False)
    assert result.run_id == journal.name
    assert (result.skipped, result.recorded) == (tuple(held), tuple(range(len(held), 8)))
    assert image_steps(client, journal.name) == {
        f"gradcam/{name}": list(range(8)) for name in ("all", "probe_0", "probe_1")
    }
    drift = client.get_metric_history(journal.name, "gradcam_drift/mean")
    assert sorted(metric.step for metric in drift) == list(range(1, 8))
    assert client.get_run(journal.name).info.status == "FINISHED"
    assert not Path(".gradcam").exists()


def test_a_sweep_whose_upload_was_cut_off_uploads_the_rest(client: MlflowClient, saved: Path) -> None:
    """Where everything was explained and not all had arrived, the same call sends it without explaining again."""
    mlflow.set_tracking_uri(client.tracking_uri)
    first = sweep(saved / "keras", journal_dir=None, flush_timeout=0)
    deadline = time.monotonic() + 30
    while Path(".gradcam").exists() and time.monotonic() < deadline:
        second = sweep(saved / "keras", journal_dir=None)
        assert (second.run_id, second.recorded) == (first.run_id, ())
    assert not Path(".gradcam").exists()
    assert first.run_id is not None
    assert image_steps(client, first.run_id)["gradcam/probe_1"] == [0, 1, 2]


def test_journals_that_are_not_this_sweeps_do_not_stop_it(client: MlflowClient, saved: Path) -> None:
    """Damaged ones, foreign folders, those of another method and of deleted runs are left alone."""
    Path(".gradcam/damaged").mkdir(parents=True)
    Path(".gradcam/damaged/manifest.json").write_text('{"format"')
    Path(".gradcam/notes").mkdir()
    before = []
    for method in ("gradcam", "layercam"):
        run_id = sweep(saved / "keras", journal_dir="kept", method=method).run_id
        assert run_id is not None
        Path("kept").rename(Path(".gradcam", run_id))
        before.append(run_id)
    client.delete_run(before[0])
    again = sweep(saved / "keras", journal_dir=None)
    assert again.run_id not in before
    assert again.recorded == (0, 1, 2)
    client.restore_run(before[0])
    assert sweep(saved / "keras", journal_dir=None).run_id == before[0]


def test_an_interrupted_sweep_whose_run_cannot_be_found_begins_anew(
    client: MlflowClient, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its journal names another server, to which nothing is sent; that is said, and the journal stays."""
    first = sweep(saved / "keras", journal_dir="kept")
    journal = Path(".gradcam", first.run_id or "")
    journal.parent.mkdir()
    Path("kept").rename(journal)
    manifest = journal / "manifest.json"
    manifest.write_text(manifest.read_text().replace(client.tracking_uri, "http://127.0.0.1:9"))
    again = sweep(saved / "keras", journal_dir=None)
    assert again.run_id != first.run_id
    assert (again.recorded, again.problems) == ((0, 1, 2), {})
    assert f"The sweep in '{journal}' cannot be continued, so that a new run is begun: Only journal" in caplog.text
    assert Journal(journal).steps() == [0, 1, 2]


def test_ctrl_c_leaves_a_sweep_that_goes_on(client: MlflowClient, saved: Path) -> None:
    """What was explained has arrived, and the same call goes on in the same run, however little was missing."""

    def interrupt(checkpoint: Checkpoint, problem: str) -> None:
        if checkpoint.step == 1:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        sweep(saved / "keras", journal_dir=None, on_checkpoint=interrupt)
    (journal,) = Path(".gradcam").iterdir()
    assert image_steps(client, journal.name)["gradcam/probe_0"] == [0, 1]
    assert client.get_run(journal.name).info.status == "FAILED"
    other = sweep(saved / "keras", journal_dir=None, layer="conv")
    assert other.run_id != journal.name, "another layer is another sweep"
    again = sweep(saved / "keras", journal_dir=None)
    assert (again.run_id, again.skipped, again.recorded) == (journal.name, (0, 1), (2,))
    assert client.get_run(journal.name).info.status == "FINISHED"


def test_the_active_run_is_asked_what_it_holds(client: MlflowClient, saved: Path) -> None:
    """A second sweep in a run that the user started explains nothing again."""
    with mlflow.start_run() as run:
        first = sweep(saved / "keras", journal_dir=None)
        second = sweep(saved / "keras", journal_dir=None)
    assert (first.run_id, first.recorded) == (run.info.run_id, (0, 1, 2))
    assert (second.run_id, second.recorded, second.skipped) == (run.info.run_id, (), (0, 1, 2))
    elsewhere = sweep(saved / "keras", journal_dir=None, experiment="elsewhere")
    assert elsewhere.run_id != run.info.run_id


def test_another_head_is_refused_in_the_same_run(client: MlflowClient) -> None:
    """Maps of two outputs of one model do not end up in one record."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    keras.Model(inputs, {"kind": keras.layers.Dense(3)(x), "size": keras.layers.Dense(3)(x)}).save("m-01.keras")
    with mlflow.start_run() as run:
        sweep("m-01.keras", output="kind")
    shutil.copy("m-01.keras", "m-02.keras")
    with pytest.raises(ValueError, match=r"output kind, now it is size. Choose another run"):
        sweep("m-02.keras", output="size", journal_dir="other", run_id=run.info.run_id)


def test_workers_that_are_lost_now_and_then_end_no_sweep(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    """Only a chunk that is lost three times in a row is given up, with what comes after it."""
    lost = iter([True, False] * 50)

    def lossy(jobs: Sequence[Any], workers: int) -> Iterator[Any]:
        function, arguments, _ = jobs[0]
        yield function(*arguments)
        if next(lost):
            raise RuntimeError("a worker was lost")
        for function, arguments, _ in jobs[1:2]:
            yield function(*arguments)
        raise RuntimeError("a worker was lost")

    monkeypatch.setattr(spreading, "_in_order", lossy)
    monkeypatch.setattr(spreading, "_CHUNK", 1)
    Path("ckpt").mkdir()
    for number in range(1, 10):
        shutil.copy(saved / "keras/m-01.keras", f"ckpt/m-{number:02d}.keras")
    result = explain_checkpoints("ckpt", two_probes(), jobs=2, verbose=False)
    assert (result.recorded, result.problems) == (tuple(range(9)), {})


def test_a_chunk_that_is_lost_three_times_is_given_up_with_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was explained before is recorded, and each of the others has the reason; nothing is tried a fourth time."""
    tries = []

    def lossy(jobs: Sequence[Any], workers: int) -> Iterator[Any]:
        tries.append(len(jobs))
        if len(jobs) == 3:
            function, arguments, _ = jobs[0]
            yield function(*arguments)
        raise RuntimeError("killed")

    monkeypatch.setattr(spreading, "_in_order", lossy)
    monkeypatch.setattr(spreading, "_CHUNK", 2)
    Path("ckpt").mkdir()
    model = small_model()
    for number in range(1, 7):
        model.save(f"ckpt/m-{number}.keras")
    store = InMemoryStore()
    result = explain_checkpoints("ckpt", two_probes(), store=store, jobs=2, verbose=False)
    assert result.recorded == (0, 1)
    assert result.problems == {
        f"ckpt/m-{number}.keras": "The process that explained it was lost 3 times: killed." for number in range(3, 7)
    }
    assert tries == [3, 2, 2]


# ---- Many ----

MANY = """
import json, os, sys
import numpy as np, mlflow
from gradcam_callbacks import ProbeSet, explain_checkpoints
from gradcam_callbacks.sweeping import loading
sizes, explainers = [], []
make = loading.Explainer
loading.Explainer = lambda *a, **k: explainers.append(make(*a, **k)) or explainers[-1]
mlflow.set_tracking_uri(f"sqlite:///{os.getcwd()}/mlflow.db")

def told(checkpoint, problem):
    assert not problem, problem
    sizes.append(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

images = np.random.default_rng(3).random((1, 16, 16, 3), dtype=np.float32)
files = [f"ckpt/m-{number}.keras" for number in range(1, 501)]
result = explain_checkpoints(files, ProbeSet(images), on_checkpoint=told, flush_timeout=0, verbose=False)
print(json.dumps({"sizes": sizes, "traces": [e.traces for e in explainers], "recorded": len(result.recorded)}))
"""


@at_night
@pytest.mark.usefixtures("process")
def test_five_hundred_checkpoints_take_no_more_memory_than_fifty(saved: Path) -> None:
    """One model, one trace, the same memory."""
    Path("ckpt").mkdir()
    for number in range(1, 501):
        Path(f"ckpt/m-{number}.keras").symlink_to(saved / f"keras/m-0{number % 3 + 1}.keras")
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_EXPERIMENT_ID"}
    finished = subprocess.run(
        [sys.executable, "-c", MANY], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    result = json.loads(finished.stdout.splitlines()[-1])
    assert (result["traces"], result["recorded"]) == ([1], 500)
    growth = result["sizes"][-1] - result["sizes"][50]
    assert growth < 40e6, growth  # MLflow's worker has its own pace
