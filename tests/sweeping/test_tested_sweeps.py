"""A sweep asks the network of its last checkpoint what the answers rest on."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, GradCAMError, InMemoryStore, ProbeSet, explain_checkpoints
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.verdicts import VERDICTS

PROBES = ProbeSet(pictures(4), labels=np.arange(4) % 2, targets=["label"])


@pytest.fixture
def live(own_place: None) -> InMemoryStore:
    """The run of a training, whose checkpoints are left as m-01.keras to m-03.keras."""
    store = InMemoryStore()
    model = small_model(2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    watch = GradCAMCallback(PROBES, store=store, baseline=False, verbose=False)
    save = keras.callbacks.ModelCheckpoint("m-{epoch:02d}.keras")
    model.fit(pictures(8), np.arange(8) % 2, epochs=3, callbacks=[watch, save], verbose=0)
    return store


@pytest.mark.usefixtures("long")
def test_the_last_checkpoint_is_tested(live: InMemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds what the live training found; the verdict is in the result, and printed."""
    store = InMemoryStore()
    sweep = explain_checkpoints("m-*.keras", PROBES, store=store)
    assert store.tests == live.tests
    assert list(store.tests) == [2]
    assert (sweep.verdict, sweep.summary) == (store.verdict, store.summary)
    assert sweep.verdict in VERDICTS
    assert f"Grad-CAM verdict: {sweep.verdict}. {sweep.summary}" in capsys.readouterr().out


@pytest.mark.usefixtures("long")
def test_a_repeated_sweep_tests_nothing_and_knows_the_verdict(live: InMemoryStore) -> None:
    """It is that of the run."""
    store = InMemoryStore()
    first = explain_checkpoints("m-*.keras", PROBES, store=store, verbose=False)
    store.tests.clear()
    again = explain_checkpoints("m-*.keras", PROBES, store=store, verbose=False)
    assert (again.recorded, again.verdict, again.summary) == ((), first.verdict, first.summary)
    assert store.tests == {}


@pytest.mark.usefixtures("long")
def test_an_earlier_checkpoint_that_comes_later_is_not_tested(live: InMemoryStore) -> None:
    """The last one was; it decides."""
    store = InMemoryStore()
    Path("m-01.keras").rename("later.keras")
    explain_checkpoints("m-*.keras", PROBES, store=store, verbose=False)
    Path("later.keras").rename("m-01.keras")
    sweep = explain_checkpoints("m-*.keras", PROBES, store=store, verbose=False)
    assert sweep.recorded == (0,)
    assert list(store.tests) == [2]
    assert sweep.verdict == store.verdict


@pytest.mark.usefixtures("long")
def test_where_the_last_one_is_damaged_the_one_before_is_tested(live: InMemoryStore) -> None:
    """It is the last one that was explained."""
    Path("m-03.keras").write_bytes(b"damaged")
    store = InMemoryStore()
    sweep = explain_checkpoints("m-*.keras", PROBES, store=store, verbose=False)
    assert sweep.recorded == (0, 1)
    assert list(store.tests) == [1]


@pytest.mark.usefixtures("long")
def test_it_can_be_left_away(live: InMemoryStore) -> None:
    """Then no network is asked."""
    store = InMemoryStore()
    assert explain_checkpoints("m-*.keras", PROBES, store=store, reliance=False, verbose=False).verdict in VERDICTS
    assert store.tests == {}


@pytest.mark.usefixtures("process")
def test_the_worker_that_has_the_last_checkpoint_tests_it(live: InMemoryStore) -> None:
    """What it finds is what one process finds."""
    store = InMemoryStore()
    explain_checkpoints("m-*.keras", PROBES, store=store, jobs=2, verbose=False)
    assert store.tests == live.tests


@pytest.mark.parametrize(
    ("error", "reasons"),
    [(GradCAMError("there is nothing to test."), {2: "there is nothing to test."}), (OSError("full"), {})],
)
@pytest.mark.usefixtures("long")
def test_a_test_that_fails_ends_no_sweep(
    live: InMemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    reasons: dict[int, str],
) -> None:
    """All is recorded; a reason that is known is in the record, and a fault of ours is in the log."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("gradcam_callbacks.explaining.reliance.measure_reliance", fails)
    store = InMemoryStore()
    sweep = explain_checkpoints("m-*.keras", PROBES, store=store, verbose=False)
    assert (sweep.recorded, sweep.problems) == ((0, 1, 2), {})
    assert {step: Reliance.parse(test, "", probes=4).reason for step, test in store.tests.items()} == reasons
    assert ("What the answers rest on could not be tested; the sweep goes on without." in caplog.text) == (not reasons)


def test_the_verdict_of_a_run_that_is_complete(live: InMemoryStore, client: MlflowClient) -> None:
    """Another sweep of the same run reads it from the tags."""
    first = explain_checkpoints("m-*.keras", PROBES, verbose=False)
    tags = client.get_run(first.run_id).data.tags
    assert (tags["gradcam.verdict"], tags["gradcam.summary"]) == (first.verdict, first.summary)
    again = explain_checkpoints("m-*.keras", PROBES, run_id=first.run_id, verbose=False)
    assert (again.recorded, again.verdict, again.summary) == ((), first.verdict, first.summary)
