"""A training asks its network what the answers rest on: when suspicion first rises, and at the end."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.models import pictures, small_model

from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet, measure_reliance
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.verdicts import VERDICTS
from gradcam_callbacks.training.asking import Asking

LABELS = np.arange(4) % 2
PROBES = ProbeSet(pictures(4), labels=LABELS, targets=["label"])


def trained(*callbacks: keras.callbacks.Callback, model: keras.Model | None = None, epochs: int = 2) -> keras.Model:
    if model is None:
        model = small_model(2)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pictures(8), np.arange(8) % 2, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def found(content: bytes) -> Reliance:
    return Reliance.parse(content, "a test", probes=4)


@pytest.mark.usefixtures("long")
def test_the_end_of_a_training_is_tested(capsys: pytest.CaptureFixture[str]) -> None:
    """What the test of the model as it is then finds is in journal, run and verdict, at the last step."""
    store = InMemoryStore()
    model = trained(GradCAMCallback(PROBES, store=store, journal_dir="kept"))
    assert list(store.tests) == [1]
    assert list(Journal("kept").tests()) == [1]
    assert store.tests[1] == Journal("kept").test_content(1)
    now = measure_reliance(Explainer(model, same_noise=True), PROBES)
    held = found(store.tests[1])
    assert (held.passes, held.reason) == (now.passes, now.reason)
    assert [(one.answer, one.outcome, one.covered) for one in held.findings] == [
        (one.answer, one.outcome, one.covered) for one in now.findings
    ]
    assert store.verdict in VERDICTS
    assert f"Grad-CAM verdict: {store.verdict}. {store.summary}\n" in capsys.readouterr().out


def test_it_can_be_left_away() -> None:
    """No test is made, and the verdict comes from the maps."""
    store = InMemoryStore()
    trained(GradCAMCallback(PROBES, store=store, reliance=False, verbose=False))
    assert store.tests == {}
    assert store.verdict in VERDICTS


@pytest.mark.usefixtures("long")
def test_a_second_training_in_the_run_is_tested_too() -> None:
    """The review of the second holds the test of the first, and the last one decides."""
    store = InMemoryStore()
    callback = GradCAMCallback(PROBES, store=store, verbose=False)
    model = trained(callback)
    trained(callback, model=model)
    assert list(store.tests) == [1, 3]


def test_a_training_that_failed_is_not_tested() -> None:
    """The model is as a fault has left it."""

    def fail(epoch: int, logs: Any) -> None:
        raise RuntimeError("no more")

    store = InMemoryStore()
    with pytest.raises(RuntimeError, match="no more"):
        trained(
            GradCAMCallback(PROBES, store=store, verbose=False),
            keras.callbacks.LambdaCallback(on_epoch_end=fail),
        )
    assert store.tests == {}
    assert store.status == "FAILED"


def test_what_cannot_be_tested_is_no_problem(caplog: pytest.LogCaptureFixture) -> None:
    """The record says why, also if strict: of a signal no area is covered."""
    inputs = keras.Input((16, 3))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Conv1D(6, 3, activation="relu", name="conv")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    signals = pictures(8).mean(axis=1)
    store = InMemoryStore()
    callback = GradCAMCallback((signals[:4], LABELS), store=store, verbose=False, strict=True)
    model.fit(signals, np.arange(8) % 2, epochs=2, callbacks=[callback], verbose=0)
    reasons = [json.loads(content)["reason"] for content in store.tests.values()]
    assert len(reasons) == 1
    assert reasons[0]
    assert f"Nothing could be tested: {reasons[0]}" in store.summary
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_nothing_is_tested_where_nothing_was_trained() -> None:
    """Before training, and where a resumed training repeats what the run holds."""
    store = InMemoryStore()
    trained(GradCAMCallback(PROBES, store=store, verbose=False), epochs=0)
    assert (set(store.maps), store.tests) == ({-1}, {})


# ---- When ----


@dataclass
class Watched:
    """What `Asking` knows of a recorder."""

    is_suspicious: bool = False
    recorded: set[int] = field(default_factory=set)
    tested: list[int] = field(default_factory=list)
    journal: Any = None

    def leave_test(self, step: int, reliance: Reliance) -> None:
        self.tested.append(step)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    recorder = Watched()
    manifest = Manifest(**PROBES.description(), layer="conv", method="gradcam")
    recorder.journal = Journal.create(tmp_path / "run", manifest=manifest, pictures=PROBES.pictures)
    return recorder


def test_suspicion_is_asked_about_at_once_and_then_after_twice_as_many_steps(watched: Watched) -> None:
    """Three times at most before the end, however long the training is."""
    asking = Asking(Explainer(small_model(2)), PROBES, watched, strict=True)
    arrays = asking.explainer(PROBES).arrays()
    for step in range(100):
        watched.recorded.add(step)
        watched.is_suspicious = step >= 4 and step != 9
        asking.recorded(step, arrays)
    assert watched.tested == [4, 10, 21]


def test_a_step_that_was_just_tested_is_not_tested_again_at_the_end(watched: Watched) -> None:
    """Unless the model is another one by then, as where the best weights are restored."""
    model = small_model(2)
    asking = Asking(Explainer(model), PROBES, watched, strict=True)
    watched.recorded, watched.is_suspicious = {0, 1}, True
    asking.recorded(1, asking.explainer(PROBES).arrays())
    asking.train_ended()
    assert watched.tested == [1]
    model.get_layer("conv").kernel.assign(model.get_layer("conv").kernel * -1)
    asking.train_ended()
    assert watched.tested == [1, 1]
    watched.recorded.add(2)
    asking.train_ended()
    assert watched.tested == [1, 1, 2]


class Broken:
    """An explainer that does not explain."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("out of order")

    def __call__(self, *probes: Any, **settings: Any) -> Any:
        raise RuntimeError("out of order")


def test_an_error_ends_the_tests_and_not_the_training(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once; if strict, it raises."""
    watched.recorded, watched.is_suspicious = {0}, True
    asking = Asking(Broken(), PROBES, watched, strict=False)
    asking.recorded(0, {})
    watched.recorded |= {1, 2, 3}
    asking.recorded(3, {})
    asking.train_ended()
    assert watched.tested == []
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "out of order" in str(record.exc_info)
    with pytest.raises(RuntimeError, match="out of order"):
        Asking(Broken(), PROBES, watched, strict=True).recorded(0, {})
