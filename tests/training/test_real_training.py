"""Trainings as people run them: resumed, in parts, compiled, spread over devices; each against a real MLflow server."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from support.engines import needs_tensorflow
from support.mlflow_runs import artifact_paths, image_steps
from support.models import pictures, small_model
from support.seeds import same_weights

from gradcam_callbacks import Explainer, GradCAMCallback, GradCAMError, ProbeSet
from gradcam_callbacks.publishing.mlflow_store import MLflowStore
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.training import failed_fit

X, Y = pictures(32), np.arange(32) % 4
BATCHES = 4
"""In an epoch: 32 pictures, 8 a batch."""


def compiled_model(**settings: Any) -> keras.Model:
    """A small one; without XLA unless that is asked for, which takes seconds to compile."""
    keras.utils.set_random_seed(1)
    model = same_weights(small_model(), 4)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", **({"jit_compile": False} | settings))
    model.optimizer.build(model.trainable_variables)  # or a training traces its first batch twice
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs: int = 2, **settings: Any) -> None:
    model.fit(X, Y, epochs=epochs, batch_size=8, shuffle=False, callbacks=list(callbacks), verbose=0, **settings)


def two_probes() -> ProbeSet:
    return ProbeSet(pictures(2), targets=[2, "predicted"])


def callback(**settings: Any) -> GradCAMCallback:
    """Ours with two probes; a problem ends the test."""
    return GradCAMCallback(two_probes(), **({"strict": True} | settings))


def cards(*steps: int) -> dict[str, list[int]]:
    """What `image_steps` says where every probe, and the sheet, has one image of each of these steps and no other."""
    return {f"gradcam/{name}": list(steps) for name in ("all", "probe_0", "probe_1")}


def map_steps(client: MlflowClient, run_id: str) -> list[int]:
    """The steps whose metrics the run holds, as often as it holds them."""
    return sorted(metric.step for metric in client.get_metric_history(run_id, "gradcam_health/ok"))


def new_run(client: MlflowClient) -> str:
    """A run that nobody has started as a fluent run."""
    return client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id


def assert_maps(journal: str | Path, step: int, model: keras.Model, probes: ProbeSet | None = None) -> None:
    """The recorded maps and scores are, to the last bit, those of a new `Explainer` of the model as it is now."""
    expected = Explainer(model)(two_probes() if probes is None else probes)
    recorded = Journal(journal).read(step).arrays
    assert (expected.maps > 0).any()
    np.testing.assert_array_equal(recorded["maps"], expected.maps)
    np.testing.assert_array_equal(recorded["scores"], expected.scores)


class DeviceLostError(RuntimeError):
    """The power cut, the full GPU, the lost data server."""


class Break(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch, as a fault would."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch
        self._now = -1

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._now = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if (self._now, batch) == (self._epoch, 1):
            raise DeviceLostError


class Keep(keras.callbacks.Callback):
    """Keeps the weights at the end of every epoch and after every execution of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[int, list[np.ndarray]] = {}
        self.batches: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epochs[epoch] = self.model.get_weights()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.batches.append(self.model.get_weights())


# ---- Every so many epochs, every so many batches ----


def test_with_every_the_stop_of_early_stopping_is_recorded_in_either_order(client: MlflowClient) -> None:
    """The epoch that EarlyStopping ends with is recorded with its own weights, before or behind it in the list."""
    for order in (1, -1):
        model, keep, directory = compiled_model(), Keep(), f"order{order}"
        stop = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=3, restore_best_weights=True)
        ours = callback(every=2, journal_dir=directory)
        fit(model, *[keep, stop, ours][::order], epochs=9)
        assert Journal(directory).steps() == [-1, 0, 2, 3]
        assert image_steps(client, mlflow.last_active_run().info.run_id) == cards(0, 2, 3)
        model.set_weights(keep.epochs[3])
        assert_maps(directory, 3, model)


def test_every_batches_counts_batches_through_the_epochs(client: MlflowClient) -> None:
    """every_batches=3 over 2 epochs of 4 batches records batches 0, 3 and 6 and the last, 7, with their weights."""
    model, keep = compiled_model(), Keep()
    fit(model, keep, callback(every_batches=3, journal_dir="kept"))
    assert image_steps(client, mlflow.last_active_run().info.run_id) == cards(0, 3, 6, 7)
    for step in Journal("kept").steps()[1:]:
        model.set_weights(keep.batches[step])
        assert_maps("kept", step, model)


def test_every_batches_says_the_last_batch_once(client: MlflowClient) -> None:
    """Where the last batch is one whose turn it is, it is not recorded again at the end of the training."""
    fit(compiled_model(), callback(every_batches=7), epochs=2)
    assert image_steps(client, mlflow.last_active_run().info.run_id) == cards(0, 7)


def test_every_batches_goes_on_in_a_second_fit(client: MlflowClient) -> None:
    """In one run the batches of a second `fit` follow those of the first."""
    model, ours = compiled_model(), callback(every_batches=4)
    with mlflow.start_run() as run:
        fit(model, ours)
        fit(model, ours)
    assert image_steps(client, run.info.run_id) == cards(0, 4, 7, 8, 12, 15)


def test_with_steps_per_execution_the_steps_are_still_batches(client: MlflowClient) -> None:
    """With two batches an execution the steps are the numbers of the batches that had just ended, the last one too."""
    fit(compiled_model(steps_per_execution=2), callback(every_batches=4, journal_dir="kept"), epochs=3)
    before, *steps = Journal("kept").steps()
    assert before == -1
    assert set(steps) <= {1, 3, 5, 7, 9, 11}, "a step is the number of a batch after which the weights could be seen"
    assert steps[-1] == 3 * BATCHES - 1
    assert len(steps) in (3, 4), "one in four batches, and the last"


def test_every_batches_records_the_last_batch_before_early_stopping_restores(client: MlflowClient) -> None:
    """The last batch has the weights that it ended with, not the best ones that EarlyStopping puts back."""
    for order in (1, -1):
        model, keep, directory = compiled_model(), Keep(), f"order{order}"
        stop = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1, restore_best_weights=True)
        fit(model, *[keep, stop, callback(every_batches=5, journal_dir=directory)][::order], epochs=9)
        assert Journal(directory).steps() == [-1, 0, 5, 7]
        model.set_weights(keep.batches[7])
        assert_maps(directory, 7, model)


# ---- Resumed ----


@pytest.fixture(scope="module")
def unbroken() -> list[list[np.ndarray]]:
    """The weights after each of 4 epochs of a training that nothing ended."""
    keep = Keep()
    fit(compiled_model(), keep, epochs=4)
    return [keep.epochs[epoch] for epoch in range(4)]


def test_a_fit_that_raised_is_resumed_with_initial_epoch(client: MlflowClient) -> None:
    """In the same run each epoch is there once, the one that was broken off as its repetition."""
    run_id, model = new_run(client), compiled_model()
    with pytest.raises(DeviceLostError):
        fit(model, callback(run_id=run_id), Break(2), epochs=4)
    assert image_steps(client, run_id) == cards(0, 1)
    fit(model, callback(run_id=run_id, journal_dir="kept"), epochs=4, initial_epoch=2)
    assert image_steps(client, run_id) == cards(0, 1, 2, 3)
    assert map_steps(client, run_id) == [0, 1, 2, 3]
    assert_maps("kept", 3, model)


@pytest.mark.parametrize("is_first", [True, False])
def test_backup_and_restore_resumes_where_it_raised(
    client: MlflowClient, unbroken: list[list[np.ndarray]], is_first: bool
) -> None:
    """With BackupAndRestore, before or behind ours, the record is that of a training that was never broken off."""
    run_id, order = new_run(client), 1 if is_first else -1
    for faults in ([Break(2)], []):  # a new process would build all of this again
        model = compiled_model()
        both = [keras.callbacks.BackupAndRestore("backup"), callback(run_id=run_id, journal_dir="kept")][::order]
        if faults:
            with pytest.raises(DeviceLostError):
                fit(model, *both, *faults, epochs=4)
        else:
            fit(model, *both, epochs=4)
    assert image_steps(client, run_id) == cards(0, 1, 2, 3)
    assert map_steps(client, run_id) == [0, 1, 2, 3]
    for step in range(4):
        model.set_weights(unbroken[step])
        assert_maps("kept", step, model)


def test_a_fault_between_two_records_leaves_the_epoch_under_way(client: MlflowClient) -> None:
    """With every=3 a fault in the middle of epoch 2 leaves that epoch as the model is then, and says that it is cut."""
    model, ours = compiled_model(), callback(every=3, journal_dir="kept")
    with pytest.raises(DeviceLostError) as caught:
        fit(model, ours, Break(2), epochs=6)
    del caught
    gc.collect()
    journal = Journal("kept")
    assert journal.steps() == [-1, 0, 2]
    assert ["cut_short" in journal.read(step).arrays for step in (0, 2)] == [False, True]
    assert_maps("kept", 2, model)
    run = mlflow.last_active_run().info
    assert (image_steps(client, run.run_id), run.status) == (cards(0, 2), "FAILED")


def test_a_fault_at_the_end_of_an_epoch_leaves_that_epoch(client: MlflowClient) -> None:
    """Where a callback before ours raises after the last batch of epoch 1, that epoch is recorded, and is whole."""

    class AtTheEnd(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    model = compiled_model()
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, AtTheEnd(), callback(journal_dir="kept"), epochs=6)
    gc.collect()
    assert Journal("kept").steps() == [-1, 0, 1]
    assert "cut_short" not in Journal("kept").read(1).arrays
    assert_maps("kept", 1, model)


def test_weights_that_were_trained_on_are_not_taken_for_those_of_the_fault(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the exception is held, as notebooks do, and the model trained again, the first record gets no more."""
    monkeypatch.setattr(failed_fit, "LOOK_EVERY", 60)  # or the fault is noticed, rightly, before that
    model = compiled_model()
    with pytest.raises(DeviceLostError) as caught:
        fit(model, callback(every=3, journal_dir="kept"), Break(2), epochs=6)
    fit(model, epochs=2)
    del caught
    gc.collect()
    assert Journal("kept").steps() == [-1, 0]


def test_backup_in_the_middle_of_an_epoch_keeps_batches_apart(client: MlflowClient) -> None:
    """Resumed with every_batches each batch has the number that it has in a training that was never broken off."""
    run_id = new_run(client)
    for faults in ([Break(2)], []):
        model = compiled_model()
        both = [keras.callbacks.BackupAndRestore("backup"), callback(run_id=run_id, every_batches=4)]
        if faults:
            with pytest.raises(DeviceLostError):
                fit(model, *both, *faults, epochs=4)
        else:
            fit(model, *both, epochs=4)
    steps = map_steps(client, run_id)
    assert image_steps(client, run_id) == cards(*steps)
    assert steps == [0, 4, 8, 9, 12, 15]  # 9 is what the fault left


# ---- Runs ----


@pytest.mark.parametrize("is_same", [True, False], ids=["same callback", "new callback"])
def test_two_fits_in_one_run(client: MlflowClient, is_same: bool) -> None:
    """A second `fit` from epoch 0 goes on after the first; a third with initial_epoch has its own epochs."""
    model = compiled_model()
    ours = [callback()] * 3 if is_same else [callback() for _ in range(3)]
    with mlflow.start_run() as run:
        fit(model, ours[0])
        assert image_steps(client, run.info.run_id) == cards(0, 1)
        fit(model, ours[1])
        assert image_steps(client, run.info.run_id) == cards(0, 1, 2, 3)
        fit(model, ours[2], epochs=8, initial_epoch=6)
        assert image_steps(client, run.info.run_id) == cards(0, 1, 2, 3, 6, 7)
        assert map_steps(client, run.info.run_id) == [0, 1, 2, 3, 6, 7]
        assert mlflow.active_run().info.run_id == run.info.run_id


def test_a_loop_of_fits_measures_drift_and_fetches_nothing(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `fit` of one epoch is compared with the one before, and what the run holds is not downloaded again."""
    fetched: list[int | None] = []
    monkeypatch.setattr(MLflowStore, "fetch", lambda self, step, *kind: fetched.append(step))
    model, drifts = compiled_model(), []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: drifts.append(logs.get("gradcam_drift")))
    with mlflow.start_run() as run:
        for _ in range(4):
            fit(model, callback(), note, epochs=1)
    assert image_steps(client, run.info.run_id) == cards(0, 1, 2, 3)
    history = client.get_metric_history(run.info.run_id, "gradcam_drift/mean")
    assert sorted(metric.step for metric in history) == [0, 1, 2, 3]
    assert all(drift is not None for drift in drifts)
    assert fetched == []
    assert artifact_paths(client, run.info.run_id, "gradcam/maps") == [
        f"gradcam/maps/{step}.npz" for step in (-1, 0, 1, 2, 3)
    ]


def test_a_journal_of_another_run_is_refused(client: MlflowClient) -> None:
    """Two trainings do not share a journal_dir; the second one ends before its first batch and says what to do."""
    model = compiled_model()
    fit(model, callback(journal_dir="kept"))
    first = mlflow.last_active_run().info.run_id
    keep = Keep()
    with pytest.raises(ValueError, match=f"Journal 'kept' holds the maps of run {first}, .* Pass run_id='{first}' to"):
        fit(model, keep, callback(journal_dir="kept"))
    assert keep.batches == []
    assert mlflow.last_active_run().info.status == "FAILED"
    assert Journal("kept").steps() == [-1, 0, 1]
    fit(model, callback(journal_dir="kept", run_id=first), epochs=3, initial_epoch=2)
    assert image_steps(client, first) == cards(0, 1, 2)


def test_an_exception_that_is_held_does_not_mix_two_trainings(client: MlflowClient) -> None:
    """A new callback and `fit`, after one that raised in a notebook, have a run of their own; the first one failed."""
    model = compiled_model()
    with pytest.raises(DeviceLostError) as caught:
        fit(model, callback(), Break(2), epochs=4)
    failed = mlflow.last_active_run().info.run_id
    fit(model, callback())
    del caught
    gc.collect()
    assert (image_steps(client, failed), client.get_run(failed).info.status) == (cards(0, 1), "FAILED")
    finished = mlflow.last_active_run().info
    assert finished.run_id != failed
    assert (image_steps(client, finished.run_id), finished.status) == (cards(0, 1), "FINISHED")


def test_a_fit_inside_a_fit_leaves_the_outer_one_open(client: MlflowClient) -> None:
    """A callback that trains another model with ours, in a nested run, takes nothing from the training around it."""
    inner = new_run(client)

    class Within(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if epoch == 1:
                fit(compiled_model(), callback(run_id=inner), epochs=1)

    fit(compiled_model(), Within(), callback(), epochs=4)
    outer = mlflow.last_active_run().info
    assert (image_steps(client, outer.run_id), outer.status) == (cards(0, 1, 2, 3), "FINISHED")
    assert image_steps(client, inner) == cards(0)


def test_a_subclass_is_closed_too(client: MlflowClient) -> None:
    """Where a subclass calls ours, a fault still ends the run and leaves the last epoch."""

    class Own(GradCAMCallback):
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            super().on_train_begin(logs)

    with contextlib.suppress(DeviceLostError):
        fit(compiled_model(), Own(two_probes(), every=3, strict=True), Break(2), epochs=6)
    gc.collect()
    run = mlflow.last_active_run().info
    assert (image_steps(client, run.run_id), run.status) == (cards(0, 2), "FAILED")


def test_what_is_no_number_in_the_logs_costs_nothing(client: MlflowClient) -> None:
    """Another callback that puts words or arrays into `logs` takes away neither the map nor the other metrics."""

    class Words(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            assert logs is not None
            logs |= {"stage": "warm-up", "rates": np.arange(3), "mixed": [[1], [2, 3]], "nothing": None}
            logs["tensor"] = keras.ops.convert_to_tensor(0.5)

    fit(compiled_model(), Words(), callback(journal_dir="kept"))
    assert Journal("kept").steps() == [-1, 0, 1]
    assert Journal("kept").read(1).logs.keys() == {"loss", "tensor"}


def test_ctrl_c_while_the_probes_are_explained_leaves_that_epoch(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch whose explanation is interrupted is explained when the training is closed."""
    explain, calls = Explainer.__call__, []

    def interrupted(self: Explainer, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # the baseline and its noise, epoch 0, epoch 1
            raise KeyboardInterrupt
        return explain(self, *arguments)

    monkeypatch.setattr(Explainer, "__call__", interrupted)
    model = compiled_model()
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, callback(journal_dir="kept"), epochs=4)
    gc.collect()
    assert Journal("kept").steps() == [-1, 0, 1]
    assert_maps("kept", 1, model)


def test_noise_that_cannot_be_measured_costs_no_map(
    client: MlflowClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where explaining the slightly changed pictures fails, the floor is left out, once said; strict raises."""
    explain, probes = Explainer.__call__, two_probes()

    def exact(self: Explainer, asked: ProbeSet) -> Any:
        if asked is not probes:
            raise RuntimeError("out of memory")
        return explain(self, asked)

    monkeypatch.setattr(Explainer, "__call__", exact)
    fit(compiled_model(), GradCAMCallback(probes, journal_dir="kept"), epochs=7)
    assert Journal("kept").steps() == [-1, *range(7)]
    assert "floor" not in Journal("kept").read(-1).arrays
    said = [record for record in caplog.records if "noise floor" in record.getMessage()]
    assert len(said) == 1
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(compiled_model(), GradCAMCallback(probes, strict=True), epochs=7)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_to_wait_that_is_none_is_refused(seconds: float) -> None:
    """A negative, endless or undefined flush_timeout is said at once."""
    message = rf"is a number of seconds, 0 or more, not {seconds}\. Pass flush_timeout=60, for example\."
    with pytest.raises(GradCAMError, match=message) as caught:
        GradCAMCallback(two_probes(), flush_timeout=seconds)
    assert caught.value.argument == "flush_timeout"


def test_two_fits_without_a_run_are_two_runs(client: MlflowClient) -> None:
    """Each `fit` without an active run has a run of its own that starts at epoch 0."""
    model, ours, runs = compiled_model(), callback(), []
    for _ in range(2):
        fit(model, ours)
        assert mlflow.active_run() is None
        runs.append(mlflow.last_active_run().info)
    assert len({run.run_id for run in runs}) == 2
    assert [image_steps(client, run.run_id) for run in runs] == [cards(0, 1)] * 2
    assert {run.status for run in runs} == {"FINISHED"}


def test_a_nested_run_takes_its_own_training(client: MlflowClient) -> None:
    """Each child of a search holds its own maps, the parent none, and both stay open until their blocks end."""
    children = []
    with mlflow.start_run() as parent:
        for _ in range(2):
            with mlflow.start_run(nested=True) as child:
                fit(compiled_model(), callback())
                assert mlflow.active_run().info.run_id == child.info.run_id
            children.append(child.info.run_id)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    assert [image_steps(client, child) for child in children] == [cards(0, 1)] * 2
    assert image_steps(client, parent.info.run_id) == {}


def test_a_second_callback_with_other_probes_is_refused_before_the_first_batch(client: MlflowClient) -> None:
    """Two callbacks that would share a journal end the training before it starts, and the first leaves no worker."""
    model = compiled_model()
    weights = model.get_weights()
    others = GradCAMCallback(ProbeSet(pictures(4)[2:], names=["c", "d"]), strict=True)
    with mlflow.start_run(), pytest.raises(ValueError, match=r"Choose another (journal_dir|run)") as caught:
        fit(model, callback(), others)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    del caught  # whose frames hold Keras's list of callbacks
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name == "gradcam-worker"]


def test_a_run_that_holds_other_maps_gets_another_part(client: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    """Other probes end no training: they are kept apart in the run, also with a journal elsewhere, and that is said."""
    model, others = compiled_model(), GradCAMCallback(pictures(3), journal_dir="other")
    with mlflow.start_run() as run:
        fit(model, callback())
        fit(model, others)
    of_others = {f"gradcam/part2/{name}": [2, 3] for name in ("all", *(f"probe_{n}" for n in range(3)))}
    assert image_steps(client, run.info.run_id) == cards(0, 1) | of_others
    said = f"Run {run.info.run_id} holds maps that were made with probes "
    assert len([record for record in caplog.records if record.getMessage().startswith(said)]) == 1


def in_a_thread(work: Callable[[], None]) -> None:
    """Runs in a thread, and raises here what was raised there."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_fit_in_another_thread(client: MlflowClient) -> None:
    """With run_id= all lands there; without, since MLflow's active run is the main thread's, in a run of its own."""
    with mlflow.start_run() as run:
        in_a_thread(lambda: fit(compiled_model(), callback(run_id=run.info.run_id)))
        assert image_steps(client, run.info.run_id) == cards(0, 1)
        in_a_thread(lambda: fit(compiled_model(), callback()))
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert image_steps(client, run.info.run_id) == cards(0, 1)
    found = [other.info for other in client.search_runs([run.info.experiment_id])]
    (own,) = [info for info in found if info.run_id != run.info.run_id]
    assert image_steps(client, own.run_id) == cards(0, 1)
    assert own.status == "FINISHED"


# ---- Ways to compile, ways to feed ----


@pytest.mark.parametrize(
    "settings",
    [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 4}, {"loss_scale": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_maps_do_not_depend_on_how_the_training_is_compiled(client: MlflowClient, settings: dict[str, Any]) -> None:
    """The last epoch's maps are, to the last bit, those of an Explainer of the trained model."""
    model = compiled_model(**{name: value for name, value in settings.items() if name != "loss_scale"})
    if "loss_scale" in settings:  # as mixed precision trains
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "sparse_categorical_crossentropy")
    ours = callback(journal_dir="kept")
    fit(model, ours, epochs=3)
    assert image_steps(client, mlflow.last_active_run().info.run_id) == cards(0, 1, 2)
    assert ours.explainer is not None
    assert ours.explainer.traces == 1
    assert_maps("kept", 2, model)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # which Keras says of a length that it cannot know
def test_a_dataset_with_validation_and_class_weights(client: MlflowClient) -> None:
    """A tf.data.Dataset of unknown length, class weights and validation: both losses stand beside the maps."""
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow, for its tf.data")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).filter(lambda x, y: True)
    model = compiled_model()
    model.fit(
        data,
        epochs=2,
        shuffle=False,
        validation_data=data.take(1),
        class_weight={0: 1.0, 1: 2.0, 2: 1.0, 3: 0.5},
        callbacks=[callback(journal_dir="kept")],
        verbose=0,
    )
    assert image_steps(client, mlflow.last_active_run().info.run_id) == cards(0, 1)
    assert Journal("kept").read(1).logs.keys() == {"loss", "val_loss"}
    assert_maps("kept", 1, model)


def test_a_repeated_dataset_and_steps_per_epoch(client: MlflowClient) -> None:
    """An endless dataset with steps_per_epoch gives steps by epoch, and by batch with every_batches."""
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow, for its tf.data")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()
    model = compiled_model()
    both = [callback(journal_dir="epochs"), callback(journal_dir="batches", every_batches=2, run_id=new_run(client))]
    model.fit(data, epochs=2, steps_per_epoch=3, shuffle=False, callbacks=both, verbose=0)
    assert Journal("epochs").steps() == [-1, 0, 1]
    assert Journal("batches").steps() == [-1, 0, 2, 4, 5]


def test_a_model_of_two_inputs_fed_by_a_dict(client: MlflowClient) -> None:
    """fit(x=dict) with probes from a dict of the same names."""
    picture, numbers = keras.Input((16, 16, 3), name="picture"), keras.Input((5,), name="numbers")
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(picture)
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(x), keras.layers.Dense(3)(numbers)])
    model = keras.Model({"picture": picture, "numbers": numbers}, keras.layers.Dense(4, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    extra = np.random.default_rng(1).random((32, 5), dtype=np.float32)
    probes = ProbeSet({"picture": X[:2], "numbers": extra[:2]}, targets=[2, "predicted"])
    model.fit(
        {"picture": X, "numbers": extra},
        Y,
        epochs=2,
        callbacks=[GradCAMCallback(probes, strict=True, journal_dir="kept")],
        verbose=0,
    )
    assert image_steps(client, mlflow.last_active_run().info.run_id) == cards(0, 1)
    assert_maps("kept", 1, model, probes)


# ---- Several devices, several processes ----

START = """
import json, os, sys
import numpy as np
import tensorflow as tf

X = np.random.default_rng(3).random((32, 16, 16, 3), dtype=np.float32)
Y = np.arange(32) % 4

def build(keras):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))
"""

MIRRORED = """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
import keras, mlflow
from gradcam_callbacks import Explainer, GradCAMCallback, ProbeSet
from gradcam_callbacks.record.journal import Journal

mlflow.set_tracking_uri(sys.argv[1])
keras.utils.set_random_seed(1)
with strategy.scope():
    model = build(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
probes = ProbeSet(X[:2], targets=[2, "predicted"])
ours = GradCAMCallback(probes, run_id=sys.argv[2], journal_dir="kept", strict=True)
model.fit(X, Y, batch_size=8, epochs=3, callbacks=[ours], verbose=0)
recorded, expected = Journal("kept").read(2).arrays, Explainer(model)(probes)
np.testing.assert_array_equal(recorded["maps"], expected.maps)
np.testing.assert_array_equal(recorded["scores"], expected.scores)
alone = build(keras)  # the same weights without a strategy
alone.set_weights(model.get_weights())
assert not isinstance(alone.weights[0].value, tf.distribute.DistributedValues)
np.testing.assert_allclose(recorded["maps"], Explainer(alone)(probes).maps, rtol=1e-5, atol=1e-7)
print(json.dumps({"layer": expected.layer, "positive": bool((expected.maps > 0).any()), "problems": ours.problems}))
"""

KERAS_ALONE = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras
with strategy.scope():
    model = build(keras)
    model.compile("sgd", "sparse_categorical_crossentropy")
if len(sys.argv) > 1:
    import mlflow
    from gradcam_callbacks import GradCAMCallback
    mlflow.set_tracking_uri(sys.argv[1])
    ours = [GradCAMCallback(X[:2], run_id=sys.argv[2], journal_dir=sys.argv[3], strict=True)]
else:
    ours = []
data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8, drop_remainder=True)
model.fit(data, epochs=2, shuffle=False, callbacks=ours, verbose=0)
"""

OWN_LOOP = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, mlflow
from gradcam_callbacks import Explainer, GradCAMCallback
from gradcam_callbacks.record.journal import Journal

mlflow.set_tracking_uri(sys.argv[1])
keras.utils.set_random_seed(1)
with strategy.scope():
    model = build(keras)
    model.stop_training = False  # as `fit` does
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

@tf.function
def step(x, y):
    def replica(x, y):
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
            loss = tf.reduce_sum(losses) / 16
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss
    return strategy.reduce("SUM", strategy.run(replica, (x, y)), axis=None)

ours = GradCAMCallback(X[:2], run_id=sys.argv[2], journal_dir=sys.argv[3], strict=True)
callbacks = keras.callbacks.CallbackList([ours], model=model, epochs=2, steps=4)
callbacks.on_train_begin()
for epoch in range(2):
    callbacks.on_epoch_begin(epoch)
    for batch in range(4):
        part = slice(8 * batch, 8 * batch + 8)
        loss = step(tf.constant(X[part]), tf.constant(Y[part]))
    callbacks.on_epoch_end(epoch, {"loss": float(loss)})
callbacks.on_train_end()
if os.path.isdir(sys.argv[3]):
    recorded = Journal(sys.argv[3]).read(1).arrays
    np.testing.assert_array_equal(recorded["maps"], Explainer(model)(X[:2]).maps)
"""


def python(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A new process that runs the script."""
    return subprocess.Popen(
        [sys.executable, "-c", START + script, *arguments],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(*processes: subprocess.Popen[str], seconds: float = 90) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each; none outlives the test."""
    try:
        return [(process.wait(seconds), *process.communicate()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@needs_tensorflow
@pytest.mark.usefixtures("cluster")
def test_mirrored_strategy(client: MlflowClient) -> None:
    """On two devices, with a BatchNormalization, the maps are those of the same weights without a strategy."""
    run_id = new_run(client)
    ((status, out, err),) = outcome(python(MIRRORED, client.tracking_uri, run_id))
    assert status == 0, err[-3000:]
    assert json.loads(out.splitlines()[-1]) == {"layer": "relu", "positive": True, "problems": 0}
    assert image_steps(client, run_id) == cards(0, 1, 2)


def two_workers(script: str, *arguments: str) -> list[tuple[int, str, str]]:
    """Runs the script in two workers of one cluster on loopback; each gets the name of a folder of its own too."""
    sockets = [socket.socket() for _ in range(2)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    for free in sockets:
        free.close()
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]
    own = [[*arguments, f"worker{index}"] if arguments else [] for index in range(2)]
    return outcome(*(python(script, *own[index], TF_CONFIG=json.dumps(tasks[index])) for index in range(2)))


@needs_tensorflow
@pytest.mark.usefixtures("cluster")
def test_of_two_workers_only_the_chief_records(client: MlflowClient) -> None:
    """In a loop of one's own under MultiWorkerMirroredStrategy the chief records, the other not, and neither waits."""
    run_id = new_run(client)
    for status, _, err in two_workers(OWN_LOOP, client.tracking_uri, run_id):
        assert status == 0, err[-3000:]
    assert Journal("worker0").steps() == [-1, 0, 1]
    assert not Path("worker1").exists()
    assert image_steps(client, run_id) == cards(0, 1)


@needs_tensorflow
@pytest.mark.usefixtures("cluster")
def test_fit_on_two_workers(client: MlflowClient) -> None:
    """`fit` under MultiWorkerMirroredStrategy records on the chief only, where Keras can train under it at all."""
    alone = two_workers(KERAS_ALONE)
    if any(status for status, _, _ in alone):
        reason = next(line for line in alone[0][2].splitlines() if "Error" in line)
        pytest.skip(f"Keras {keras.__version__} itself cannot: {reason} (keras-team/keras issue 20585)")
    run_id = new_run(client)
    for status, _, err in two_workers(KERAS_ALONE, client.tracking_uri, run_id):
        assert status == 0, err[-3000:]
    assert Journal("worker0").steps() == [-1, 0, 1]
    assert not Path("worker1").exists()
    assert image_steps(client, run_id) == cards(0, 1)
