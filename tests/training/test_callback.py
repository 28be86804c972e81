"""Attached to `fit`, everything lands in MLflow, and the training is the same as without."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas
import pytest
from mlflow import MlflowClient
from PIL import Image
from support.engines import needs_tensorflow
from support.mlflow_runs import artifact_paths, image_steps
from support.models import pictures, small_model

from gradcam_callbacks import Explainer, GradCAMCallback, GradCAMError, InMemoryStore, ProbeSet
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.verdicts import VERDICTS
from gradcam_callbacks.reviewing.events import find_events
from gradcam_callbacks.reviewing.measuring import measure
from gradcam_callbacks.reviewing.sentences import summary


def compiled_model(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs: int = 3, **settings: object) -> None:
    model.fit(pictures(32), np.arange(32) % 4, epochs=epochs, callbacks=list(callbacks), verbose=0, **settings)


def two_probes() -> ProbeSet:
    return ProbeSet(
        pictures(2),
        names=["cat 1", "кот"],
        labels=[0, 1],
        targets=[2, "predicted", "label"],
        class_names=["tabby", "vizsla", "espresso", "rocket"],
        regions=[(0, 0, 8, 16), None],
    )


def test_a_run_holds_tiles_maps_metrics_and_tags_of_every_epoch(client: MlflowClient) -> None:
    """One tile a probe and epoch, one map file an epoch, scores as metrics, settings as tags and never as params."""
    callback = GradCAMCallback(two_probes(), metrics="all")
    with mlflow.start_run() as run:
        fit(compiled_model(), callback)
        assert mlflow.active_run().info.run_id == run.info.run_id, "a user's own run stays active"
    run_id = run.info.run_id
    assert image_steps(client, run_id) == {
        "gradcam/all": [0, 1, 2],
        "gradcam/cat_1": [0, 1, 2],
        "gradcam/n1": [0, 1, 2],
    }
    assert artifact_paths(client, run_id, "gradcam") == [
        "gradcam/manifest.json",
        *(f"gradcam/maps/{n}.npz" for n in range(-1, 3)),
        "gradcam/report.html",
        "gradcam/strip.png",
        "gradcam/tests/2.json",
    ]
    data = client.get_run(run_id).data
    assert data.params == {}
    expected_tags = {
        "gradcam.layer": "conv",
        "gradcam.method": "gradcam",
        "gradcam.score_kind": "logit",
        "gradcam.engine": keras.config.backend(),
        "gradcam.probes": two_probes().digest,
    }
    assert expected_tags.items() <= data.tags.items()
    assert data.tags["gradcam.verdict"] in VERDICTS
    assert 0 < len(data.tags["gradcam.summary"]) <= 500
    scores = [metric for metric in data.metrics if metric.startswith(("gradcam_score/", "gradcam_probability/"))]
    assert len(scores) == 2 * 2 * 3
    history = client.get_metric_history(run_id, "gradcam_score/cat_1.predicted")
    assert [metric.step for metric in history] == [0, 1, 2]
    assert {metric for metric in data.metrics if metric.startswith("gradcam_focus/")} == {
        *(f"gradcam_focus/cat_1.{target}" for target in ("espresso", "predicted", "label")),
        "gradcam_focus/mean",
        "gradcam_focus/mean of tabby",
    }


def test_metrics_are_means_unless_all_are_asked_for(client: MlflowClient) -> None:
    """Over all probes, and over those of each class; no key names a probe, and a region that is not there no focus."""
    with mlflow.start_run() as run:
        fit(compiled_model(), GradCAMCallback(two_probes()))
    metrics = client.get_run(run.info.run_id).data.metrics
    assert {key for key in metrics if not key.startswith("gradcam_health/")} == {
        *("gradcam_drift/mean", "gradcam_drift/mean of tabby", "gradcam_drift/mean of vizsla"),
        *("gradcam_focus/mean", "gradcam_focus/mean of tabby"),
        *("gradcam_pointing/mean", "gradcam_pointing/mean of tabby"),
        *("gradcam_spread/entropy", "gradcam_spread/sparseness"),
    }
    assert len(metrics) == 16
    of_classes = [metrics[f"gradcam_drift/mean of {name}"] for name in ("tabby", "vizsla")]
    assert metrics["gradcam_drift/mean"] == pytest.approx(np.mean(of_classes))


def test_a_run_without_metrics_has_all_else_and_each_step_once(client: MlflowClient) -> None:
    """With metrics=(), a second training goes on after the steps whose maps are there."""
    with mlflow.start_run() as run:
        for _ in range(2):
            fit(compiled_model(), GradCAMCallback(two_probes(), metrics=(), baseline=False), epochs=2)
    run_id = run.info.run_id
    assert client.get_run(run_id).data.metrics == {}
    assert image_steps(client, run_id)["gradcam/cat_1"] == [0, 1, 2, 3]
    assert artifact_paths(client, run_id, "gradcam/maps") == [f"gradcam/maps/{step}.npz" for step in range(4)]


@pytest.mark.parametrize("wrong", ["mean", "none", ("means",), None, 3])
def test_other_words_for_metrics_are_refused(wrong: object) -> None:
    """Where the callback is made, with what can be passed."""
    with pytest.raises(GradCAMError, match=r"'means', 'all' or none at all, \(\), not .*Pass metrics='means'"):
        GradCAMCallback(two_probes(), metrics=wrong)  # type: ignore[arg-type]


def test_the_maps_in_mlflow_are_those_of_the_model(client: MlflowClient, tmp_path: Path) -> None:
    """The last epoch's maps and scores, read back without pickle, are what the trained model gives."""
    model = compiled_model()
    with mlflow.start_run() as run:
        fit(model, GradCAMCallback(two_probes()))
    folder = Path(client.download_artifacts(run.info.run_id, "gradcam", str(tmp_path)))
    explanation = Explainer(model)(two_probes())
    with np.load(folder / "maps" / "2.npz", allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["maps"], explanation.maps)
        np.testing.assert_array_equal(kept["scores"], explanation.scores)
        np.testing.assert_array_equal(kept["probabilities"], explanation.probabilities)
        np.testing.assert_array_equal(kept["predicted"], explanation.predicted)
        np.testing.assert_array_equal(kept["health"], explanation.health)
        assert set(json.loads(str(kept["logs"]))) == {"accuracy", "loss"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["names"] == ["cat 1", "кот"]
    assert manifest["targets"] == ["espresso", "predicted", "label"]
    assert len(manifest["pictures"]) == 2


def test_a_tile_shows_the_picture_and_its_overlays(client: MlflowClient, tmp_path: Path) -> None:
    """The image card is a near-square RGB picture that changes from epoch to epoch."""
    with mlflow.start_run() as run:
        fit(compiled_model(), GradCAMCallback(two_probes()), epochs=2)
    tiles = {}
    for path in artifact_paths(client, run.info.run_id, "images"):
        if path.startswith("images/gradcam~cat_1") and path.endswith(".png"):
            local = Path(client.download_artifacts(run.info.run_id, path, str(tmp_path)))
            tiles[re.search(r"step\+(\d)", path)[1]] = np.asarray(Image.open(io.BytesIO(local.read_bytes())))
    height, width, channels = tiles["0"].shape
    assert channels == 3
    assert 0.6 < width / height < 1.7
    assert (tiles["0"] != tiles["1"]).any()


def test_without_an_active_run_one_is_made_and_ended(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of its own is finished when `fit` returns, and its link is printed."""
    fit(compiled_model(), GradCAMCallback(pictures(2)))
    assert mlflow.active_run() is None
    run = mlflow.last_active_run()
    assert run.info.status == "FINISHED"
    link = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics?workflowType=machine_learning"
    assert link in capsys.readouterr().out


def test_a_named_run_is_logged_to(client: MlflowClient) -> None:
    """run_id= sends everything there, whatever run is active."""
    other = client.create_run(mlflow.get_experiment_by_name(client_experiment()).experiment_id)
    with mlflow.start_run() as active:
        fit(compiled_model(), GradCAMCallback(pictures(2), run_id=other.info.run_id), epochs=1)
    assert image_steps(client, active.info.run_id) == {}
    assert image_steps(client, other.info.run_id) == {
        "gradcam/all": [0],
        "gradcam/probe_0": [0],
        "gradcam/probe_1": [0],
    }
    assert client.get_run(other.info.run_id).info.status == "RUNNING"


def client_experiment() -> str:
    return mlflow.get_experiment(mlflow.tracking.fluent._get_experiment_id()).name


def test_the_run_that_autolog_made_is_used(client: MlflowClient) -> None:
    """With mlflow.keras.autolog the tiles stand in the same run as the losses."""
    mlflow.keras.autolog(log_models=False, log_datasets=False)
    try:
        fit(compiled_model(), GradCAMCallback(pictures(2)))
    finally:
        mlflow.keras.autolog(disable=True)
    run = mlflow.last_active_run()
    assert image_steps(client, run.info.run_id) == {
        "gradcam/all": [0, 1, 2],
        "gradcam/probe_0": [0, 1, 2],
        "gradcam/probe_1": [0, 1, 2],
    }
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2]


def test_the_training_is_the_same_with_and_without_the_callback(client: MlflowClient) -> None:
    """The same seed gives the same weights to the last bit, and the model keeps its softmax and its own `call`."""
    alone = compiled_model()
    fit(alone)
    watched = compiled_model()
    fit(watched, GradCAMCallback(two_probes()))
    for expected, actual in zip(alone.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert watched.get_layer("head").activation is keras.activations.softmax
    assert not any("call" in layer.__dict__ for layer in watched._flatten_layers())


def test_thirty_epochs_are_one_trace_and_leave_no_thread_and_no_file(client: MlflowClient) -> None:
    """One graph serves all epochs; when `fit` returns the worker has ended and the journal has been removed."""
    before = set(threading.enumerate())
    callback = GradCAMCallback(pictures(1))
    fit(compiled_model(), callback, epochs=30)
    assert callback.explainer is not None
    assert callback.explainer.traces == 1
    assert callback.problems == 0
    assert {thread for thread in threading.enumerate() if thread not in before} == set()
    assert list(Path().iterdir()) == []


def test_every_third_epoch_and_the_last_are_recorded(client: MlflowClient) -> None:
    """every=3 over 8 epochs records 0, 3, 6 and 7; resumed at epoch 4, the first of that training too."""
    fit(compiled_model(), GradCAMCallback(pictures(1), every=3, journal_dir="whole"), epochs=8)
    fit(compiled_model(), GradCAMCallback(pictures(1), every=3, journal_dir="rest"), epochs=8, initial_epoch=4)
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=2)
    fit(compiled_model(), GradCAMCallback(pictures(1), every=5, journal_dir="stop"), stop, epochs=8)
    assert Journal("whole").steps() == [-1, 0, 3, 6, 7]
    assert Journal("rest").steps() == [-1, 4, 6, 7]
    assert Journal("stop").steps() == [-1, 0, 2]


def test_a_model_that_is_not_built_yet_is_explained_from_the_first_epoch(client: MlflowClient) -> None:
    """Building it before the first batch gives the same weights as building it with that batch."""

    def lazy() -> keras.Model:
        keras.utils.set_random_seed(5)
        layers = [keras.layers.Conv2D(4, 3, name="conv"), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
        model = keras.Sequential(layers)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    alone = lazy()
    fit(alone, epochs=1)
    watched = lazy()
    fit(watched, GradCAMCallback(pictures(2)), epochs=1)
    for expected, actual in zip(alone.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "cnv"}, r"No layer 'cnv'\. Did you mean 'conv'"),
        ({"method": "gradkam"}, r"No method 'gradkam'"),
        ({"run_id": "0" * 32}, r"Run with id=0{32} not found"),
    ],
)
def test_wrong_configuration_raises_before_the_first_batch(
    client: MlflowClient, settings: dict[str, str], message: str
) -> None:
    """A typo ends the training before it starts, and leaves neither a run nor a thread nor a file."""
    model, before = compiled_model(), set(threading.enumerate())
    weights = model.get_weights()
    with pytest.raises((ValueError, mlflow.MlflowException), match=message):
        fit(model, GradCAMCallback(pictures(2), **settings))
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert mlflow.active_run() is None
    assert {thread for thread in threading.enumerate() if thread not in before} == set()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("argument", "unit"), [("every", "epoch"), ("every_batches", "batch")])
def test_every_below_one_is_refused(argument: str, unit: str) -> None:
    """every=0 is no plan."""
    message = rf"it is at least 1 {unit}, not 0\. Pass {argument}=1 or more\."
    with pytest.raises(GradCAMError, match=message) as caught:
        GradCAMCallback(pictures(2), **{argument: 0})
    assert caught.value.argument == argument


class Poison(keras.callbacks.Callback):
    """Makes the weights NaN in the middle of the training."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == 1:
            head = self.model.layers[-1]  # some CPUs make the ReLU of NaN 0, so no layer before it
            head.bias.assign(head.bias * np.nan)


def test_weights_that_turn_nan_are_recorded_as_such(client: MlflowClient) -> None:
    """Training goes on, the health of the maps says non-finite, and no NaN reaches the metrics."""
    callback = GradCAMCallback(pictures(1), journal_dir="kept", metrics="all")
    fit(compiled_model(), Poison(), callback)
    journal = Journal("kept")
    assert [journal.read(step).arrays["health"][0, 0] for step in journal.steps()] == [
        "ok",
        "ok",
        "non-finite",
        "non-finite",
    ]
    run_id = mlflow.last_active_run().info.run_id
    assert [metric.step for metric in client.get_metric_history(run_id, "gradcam_score/probe_0.predicted")] == [0]


def test_a_tracker_that_fails_ends_no_training_and_loses_no_map(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A run deleted under the training: one warning that names the journal, which holds every epoch."""

    class Saboteur(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if epoch == 1:
                client.delete_run(run.info.run_id)

    run = client.create_run(mlflow.tracking.fluent._get_experiment_id())
    with caplog.at_level(logging.WARNING, "gradcam_callbacks"):
        fit(
            compiled_model(),
            Saboteur(),
            GradCAMCallback(pictures(1), run_id=run.info.run_id, journal_dir="kept", flush_timeout=1),
        )
    assert Journal("kept").steps() == [-1, 0, 1, 2]
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("gradcam_callbacks")]
    assert len([warning for warning in warnings if "training goes on" in warning]) == 1
    assert all("kept" in warning for warning in warnings)


def test_a_journal_of_other_probes_is_refused(client: MlflowClient) -> None:
    """A folder that holds the record of other probes is not written to."""
    fit(compiled_model(), GradCAMCallback(pictures(1), journal_dir="kept"), epochs=1)
    with pytest.raises(GradCAMError, match=r"Journal 'kept' was made with probes .* Pass another journal_dir="):
        fit(compiled_model(), GradCAMCallback(pictures(2), journal_dir="kept"), epochs=1)
    assert mlflow.active_run() is None


def test_the_baseline_is_what_the_training_starts_from(client: MlflowClient) -> None:
    """Step -1 holds the maps of the weights before the first batch: in journal and artifacts, as no image card."""
    model = compiled_model()
    before = Explainer(model)(two_probes())
    with mlflow.start_run() as run:
        fit(model, GradCAMCallback(two_probes(), journal_dir="kept"))
        fit(model, GradCAMCallback(two_probes(), journal_dir="kept"), epochs=1)
    journal = Journal("kept")
    assert journal.steps() == [-1, 0, 1, 2, 3], "a second fit in the run has no baseline of its own"
    np.testing.assert_array_equal(journal.read(-1).arrays["maps"], before.maps)
    assert image_steps(client, run.info.run_id)["gradcam/cat_1"] == [0, 1, 2, 3]
    history = client.get_metric_history(run.info.run_id, "gradcam_focus/mean")
    assert [metric.step for metric in history] == [0, 1, 2, 3]
    fit(model, GradCAMCallback(two_probes(), journal_dir="without", baseline=False), epochs=1)
    assert Journal("without").steps() == [0]


def test_drift_is_in_the_logs_of_the_epoch(client: MlflowClient) -> None:
    """EarlyStopping and CSVLogger use gradcam_drift; it is what MLflow has: half of what differs to the step before."""
    ours = GradCAMCallback(two_probes(), journal_dir="kept")
    stop = keras.callbacks.EarlyStopping("gradcam_drift", mode="min", min_delta=10, patience=2)
    with mlflow.start_run() as run:
        fit(compiled_model(), ours, keras.callbacks.CSVLogger("log.csv"), stop, epochs=9)
    journal = Journal("kept")
    assert journal.steps() == [-1, 0, 1, 2]
    rows = [line.split(",") for line in Path("log.csv").read_text().splitlines()]
    drifts = [float(row[rows[0].index("gradcam_drift")]) for row in rows[1:]]
    shares = []
    for step in journal.steps():
        arrays = journal.read(step).arrays
        total = arrays["maps"].sum(axis=(2, 3), keepdims=True, dtype=np.float64)
        shares.append((arrays["maps"] / np.maximum(total, 1e-30), arrays["explained"], total[..., 0, 0] > 0))
    for (p, class_p, known_p), (q, class_q, known_q), drift in zip(shares, shares[1:], drifts, strict=False):
        moved = np.abs(p - q).sum(axis=(2, 3)) / 2
        assert drift == pytest.approx(moved[(class_p == class_q) & known_p & known_q].mean())
    logged = client.get_metric_history(run.info.run_id, "gradcam_drift/mean")
    assert [metric.value for metric in logged] == pytest.approx(drifts)
    floor = client.get_metric_history(run.info.run_id, "gradcam_drift/noise_floor")
    assert [metric.step for metric in floor] == [], "it was measured before the training, and not yet again"
    assert "floor" in journal.read(-1).arrays
    assert "gradcam_drift" not in journal.read(1).logs


def test_weights_that_do_not_change_do_not_drift(client: MlflowClient) -> None:
    """With learning rate 0 drift is exactly 0, the review says so, and nothing is flagged."""
    model = compiled_model()
    model.optimizer.learning_rate = 0.0
    fit(model, GradCAMCallback(two_probes(), journal_dir="kept"))
    steps = [Journal("kept").read(step) for step in Journal("kept").steps()]
    for step in steps[1:]:
        known = step.arrays["health"] == "ok"
        assert known.any()
        assert (step.arrays["drift"][known] == 0).all()
    measures = measure(steps)
    events = find_events(steps, measures, Journal("kept").manifest)
    assert [event for event in events if event.kind in ("moved", "shortcut")] == []
    text = summary(steps, measures, Journal("kept").manifest, events)
    assert text.startswith("The maps did not change: drift is exactly 0 from before training to epoch 2.")


def test_the_review_of_a_second_fit_holds_the_first(client: MlflowClient) -> None:
    """Though the journal of the first is gone, the page and the strip show all its epochs, in the user's own note."""
    with mlflow.start_run(description="Mine.") as run:
        for _ in range(2):
            fit(compiled_model(), GradCAMCallback(two_probes()))
    assert not Path(".gradcam").exists()
    page = Path(client.download_artifacts(run.info.run_id, "gradcam/report.html", ".")).read_text(encoding="utf-8")
    assert '"steps":[-1,0,1,2,3,4,5]' in page.replace(" ", "")
    note = client.get_run(run.info.run_id).data.tags["mlflow.note.content"]
    assert re.match(r"Mine\.\n\n\*\*Grad-CAM verdict: [a-z]+\.\*\* [^\n]+\n\n\[!\[Open the Grad-CAM review\]\(", note)
    assert note.count("Grad-CAM verdict") == 1
    assert note.count("gradcam%2Fstrip.png") == 1
    assert image_steps(client, run.info.run_id)["gradcam/n1"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(("every", "baseline"), [(1, True), (3, True), (3, False), (1, False)])
def test_the_history_is_a_table(every: int, baseline: bool) -> None:
    """Each epoch has a drift once there is one: between records the last; before the first, NaN in the table alone."""
    seen: list[float | None] = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs.get("gradcam_drift")))
    store = InMemoryStore()
    ours = GradCAMCallback(two_probes(), every=every, baseline=baseline, store=store, verbose=False)
    model = compiled_model()
    fit(model, ours, look, epochs=8)
    table = pandas.DataFrame(model.history.history)
    assert table.shape == (8, 3)
    drifts = {
        step: metrics["gradcam_drift/mean"]
        for step, metrics in store.metrics.items()
        if "gradcam_drift/mean" in metrics
    }
    expected = [drifts.get(max((step for step in drifts if step <= epoch), default=-2)) for epoch in range(8)]
    assert seen == expected
    assert (expected[0] is None) == (not baseline)
    np.testing.assert_array_equal(table["gradcam_drift"], [np.nan if drift is None else drift for drift in expected])


@pytest.mark.usefixtures("long")
def test_a_history_of_the_user_s_own_is_a_table_too() -> None:
    """Before our callback it has no drift at all; used for a second training it has a row an epoch of both."""
    model, history = compiled_model(), keras.callbacks.History()
    fit(model, history, GradCAMCallback(pictures(1), baseline=False, store=InMemoryStore(), verbose=False))
    assert pandas.DataFrame(history.history).columns.tolist() == ["accuracy", "loss"]
    fit(model, GradCAMCallback(pictures(1), baseline=False, store=InMemoryStore(), verbose=False), history)
    table = pandas.DataFrame(history.history)
    assert len(table) == 6
    assert table["gradcam_drift"].isna().tolist() == [True, True, True, True, False, False]


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("settings", [{"every": 4}, {"every_batches": 5}, {"baseline": False}])
def test_early_stopping_finds_a_drift_each_epoch(settings: dict[str, int], recwarn: pytest.WarningsRecorder) -> None:
    """Whatever is recorded, its monitor has a value at each epoch after the first one, and is not misled by NaN."""
    stop = keras.callbacks.EarlyStopping("gradcam_drift", mode="min", patience=20, start_from_epoch=1)
    fit(
        compiled_model(),
        GradCAMCallback(two_probes(), store=InMemoryStore(), verbose=False, **settings),
        stop,
        epochs=6,
    )
    warned = [warning for warning in recwarn if "not available" in str(warning.message)]
    assert len(warned) == ("baseline" in settings), "the first epoch has none without a baseline"
    assert np.isfinite(stop.best)


def test_by_hand_without_a_model_one_sentence_says_what_to_do() -> None:
    """Hooks that are called by hand need `set_model` before."""
    message = r"^The callback knows no model\. Call its set_model\(model\) before on_train_begin\(\), as `fit` does\.$"
    with pytest.raises(GradCAMError, match=message):
        GradCAMCallback(pictures(1), store=InMemoryStore()).on_train_begin()


@needs_tensorflow  # on JAX Keras itself trains no model without `call`
def test_a_gan_without_call_is_told_what_it_lacks() -> None:
    """Keras trains a model that has only a `train_step`; nothing can be asked of it about a picture."""

    class GAN(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="gan")
            self.discriminator = small_model()

        def train_step(self, data: object) -> dict[str, float]:
            return {"loss": 0.0}

    model = GAN()
    model.compile("sgd", loss="mse")
    with pytest.raises(GradCAMError, match=r"^Model 'gan' has no `call`.* return self\.discriminator\(x\)`\.$"):
        fit(model, GradCAMCallback(pictures(1), store=InMemoryStore()))
    GAN.call = lambda self, x: self.discriminator(x)
    store = InMemoryStore()
    fit(model, GradCAMCallback(pictures(1), store=store, verbose=False), epochs=1)
    assert sorted(store.maps) == [-1, 0]


@pytest.mark.parametrize("setting", [{"gradient_accumulation_steps": 2}, {"use_ema": True}, {"loss_scale_factor": 2.0}])
def test_any_setting_of_an_optimizer_counts_the_same_batches(setting: dict[str, float]) -> None:
    """Also where it gathers the gradients of several batches before an update."""
    store, model = InMemoryStore(), small_model()
    model.compile(keras.optimizers.SGD(**setting), "sparse_categorical_crossentropy")
    ours = GradCAMCallback(pictures(1), every_batches=3, store=store, reliance=False, verbose=False, strict=True)
    model.fit(pictures(8), np.arange(8) % 4, batch_size=2, epochs=2, verbose=0, callbacks=[ours])
    assert sorted(store.maps) == [-1, 0, 3, 6, 7]
