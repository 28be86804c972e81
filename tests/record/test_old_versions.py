"""What version 0.1.0 left behind opens, goes on and is sent. Its journal is kept beside this file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from support.mlflow_runs import artifact_paths

from gradcam_callbacks import GradCAMCallback, InMemoryStore, ProbeSet
from gradcam_callbacks.publishing.mlflow_store import fetch_journal, find_run
from gradcam_callbacks.publishing.recorder import steps_of
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing.report import build

KEPT = Path(__file__).parent / "journal-0.1.0"


@pytest.fixture
def old() -> Journal:
    """A copy of the journal: three epochs and the state before them, two probes, three targets."""
    return Journal(shutil.copytree(KEPT, "journal"))


def same_probes() -> ProbeSet:
    """The probes that it was made with."""
    images = (np.arange(2 * 16 * 16 * 3) % 251).astype(np.uint8).reshape(2, 16, 16, 3)
    mask = np.zeros((16, 16), bool)
    mask[4:12, 2:10] = True
    return ProbeSet(
        images,
        names=["кот", "dog 2"],
        labels=[0, 1],
        class_names=["cat", "dog", "cup", "fox"],
        targets=["label", "predicted", ("cat", "dog")],
        regions=[mask, None],
    )


def fit(callback: GradCAMCallback, *, first: int, last: int) -> None:
    """A training of the network that it was made with."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    images = (np.arange(32 * 16 * 16 * 3) % 253).astype(np.uint8).reshape(32, 16, 16, 3)
    model.fit(images, np.arange(32) % 4, initial_epoch=first, epochs=last, callbacks=[callback], verbose=0)


def test_it_opens(old: Journal) -> None:
    """Every step, name, region and number is read, and the page is made."""
    assert old.steps() == [-1, 0, 1, 2]
    manifest = old.manifest
    assert (manifest.version, manifest.names, manifest.targets) == (
        "0.1.0",
        ("кот", "dog 2"),
        ("label", "predicted", "cat − dog"),
    )
    assert manifest.probes == same_probes().digest
    region = manifest.region(0)
    assert region is not None
    assert (region.shape, int(region.sum())) == ((16, 16), 64)
    assert manifest.region(1) is None
    step = old.read(2)
    assert step.maps.shape == (2, 3, 14, 14)
    assert np.isfinite(step.measured("drift")).any()
    assert {"loss", "accuracy"} <= step.logs.keys()
    np.testing.assert_array_equal(old.pictures(), same_probes().pictures)
    assert json.dumps("кот") in build([old])


def test_it_is_sent(old: Journal) -> None:
    """What it marked as arrived is not sent again, but the contact sheets are; all can be sent to another run."""
    run = InMemoryStore(old.manifest.run_id)
    assert sorted(map(str, Uploader(old, run).missing())) == [f"image/all/{step}" for step in range(3)]
    copy = InMemoryStore()
    assert Uploader(old, copy).send()
    assert steps_of(copy) == {0, 1, 2}
    assert set(copy.maps) == {-1, 0, 1, 2}
    assert set(copy.tiles) == {(probe, step) for probe in ("all", "n0", "dog_2") for step in range(3)}


def test_a_training_goes_on_in_it(old: Journal) -> None:
    """Epochs 3 and 4 follow, and the drift of epoch 3 is measured against epoch 2."""
    store = InMemoryStore(old.manifest.run_id)
    fit(GradCAMCallback(same_probes(), store=store, journal_dir="journal", verbose=False), first=3, last=5)
    assert Journal("journal").steps() == [-1, 0, 1, 2, 3, 4]
    assert np.isfinite(Journal("journal").read(3).measured("drift")[:, 0]).all()
    assert steps_of(store) >= {3, 4}


def test_a_run_of_it_goes_on(old: Journal, client: MlflowClient, tmp_path: Path) -> None:
    """A run as 0.1.0 left it keeps its steps, gets new ones, and comes back whole as one journal."""
    experiment = client.create_experiment("old")
    run_id = client.create_run(experiment).info.run_id
    for name in ("layer", "method", "score_kind", "probes", "version"):
        client.set_tag(run_id, f"gradcam.{name}", getattr(old.manifest, name))
    client.log_artifact(run_id, str(KEPT / "manifest.json"), "gradcam")
    for step in old.steps():
        client.log_artifact(run_id, str(old.path(step)), "gradcam/maps")
        if step >= 0:
            states = ("ok", "empty", "flat", "zero-gradient", "non-finite")
            client.log_batch(run_id, [Metric(f"gradcam_health/{state}", 1.0, 1000 + step, step) for state in states])
    fit(GradCAMCallback(same_probes(), run_id=run_id, verbose=False), first=3, last=5)
    assert steps_of(find_run(run_id, client.tracking_uri)) == {0, 1, 2, 3, 4}
    assert {f"gradcam/maps/{step}.npz" for step in range(-1, 5)} <= set(artifact_paths(client, run_id, "gradcam"))
    (tmp_path / "back").mkdir()
    assert fetch_journal(find_run(run_id, client.tracking_uri), tmp_path / "back").steps() == [-1, 0, 1, 2, 3, 4]
