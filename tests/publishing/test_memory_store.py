"""A run in memory: trainings and sweeps need no MLflow."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, GradCAMError, InMemoryStore, ProbeSet, explain_checkpoints
from gradcam_callbacks.record.step import Step

PROBES = ProbeSet(pictures(2), names=["cat", "dog"], targets=[0, "predicted"])


def fit(callback: keras.callbacks.Callback, *others: keras.callbacks.Callback, epochs: int = 2) -> keras.Model:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(16), np.arange(16) % 4, epochs=epochs, callbacks=[callback, *others], verbose=0)
    return model


def test_a_training_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Maps, metrics, tiles and the page of each epoch; the journal goes, since all has arrived."""
    store = InMemoryStore()
    fit(GradCAMCallback(PROBES, store=store))
    assert set(store.maps) == {-1, 0, 1}
    assert set(store.metrics) == {0, 1}
    assert set(store.tiles) == {(probe, step) for probe in ("all", "cat", "dog") for step in (0, 1)}
    assert store.metrics[1]["gradcam_drift/mean"] >= 0
    assert store.manifest is not None
    assert (store.manifest.layer, store.manifest.names) == ("conv", ("cat", "dog"))
    assert store.review is not None
    assert store.review.page.startswith("<!doctype html>")
    assert store.status == "FINISHED"
    assert not Path(".gradcam").exists()
    assert f"in memory, run {store.run_id}" in capsys.readouterr().out


@pytest.mark.usefixtures("long")
def test_a_training_and_a_sweep_of_its_checkpoints_are_the_same() -> None:
    """The maps of the callback are, bit for bit, those of the files that it left."""
    live, later = InMemoryStore(), InMemoryStore()
    save = keras.callbacks.ModelCheckpoint("m-{epoch:02d}.keras")
    fit(GradCAMCallback(PROBES, store=live, baseline=False, verbose=False), save)
    sweep = explain_checkpoints("m-*.keras", PROBES, store=later, verbose=False)
    assert (sweep.recorded, sweep.run_id) == ((0, 1), later.run_id)
    for step in (0, 1):
        here, there = (Step.parse(store.maps[step], Path(f"{step}.npz")) for store in (live, later))
        np.testing.assert_array_equal(here.maps, there.maps)


@pytest.mark.usefixtures("long")
def test_a_second_training_goes_on_in_it() -> None:
    """Its steps follow those of the first."""
    store = InMemoryStore()
    for _ in range(2):
        fit(GradCAMCallback(PROBES, store=store, verbose=False))
    assert set(store.metrics) == {0, 1, 2, 3}


@pytest.mark.usefixtures("long")
def test_another_part_goes_on_after_the_one_epoch_of_the_first() -> None:
    """Metrics have no parts, so that no step is there twice."""
    store = InMemoryStore()
    fit(GradCAMCallback(PROBES, store=store, verbose=False), epochs=1)
    fit(GradCAMCallback(pictures(3), store=store, verbose=False), epochs=1)
    assert (set(store.maps), set(store.part(2).maps)) == ({-1, 0}, {-1, 1})
    assert set(store.metrics) == {0, 1}


@pytest.mark.usefixtures("long")
def test_a_run_is_left_as_it_is_where_a_sweep_is_refused() -> None:
    """The numbers of its steps are given, so that other probes are no part of the run, which stays finished."""
    store = InMemoryStore()
    fit(GradCAMCallback(PROBES, store=store, verbose=False)).save("m-05.keras")
    with pytest.raises(GradCAMError, match=r"holds maps that were made with probes"):
        explain_checkpoints("m-*.keras", pictures(3), store=store, verbose=False)
    assert store.status == "FINISHED"
    assert [*store.descriptions()] == [1]


def test_a_store_is_a_run() -> None:
    """Naming another run beside it is refused before anything happens."""
    with pytest.raises(GradCAMError, match=r"A store is a run already\. Leave run_id='other' away\."):
        GradCAMCallback(PROBES, store=InMemoryStore(), run_id="other")
    with pytest.raises(GradCAMError, match=r"A store is a run already\. Leave experiment= away\."):
        explain_checkpoints("m-*.keras", PROBES, store=InMemoryStore(), experiment="other")
