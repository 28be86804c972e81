"""What a sweep keeps of its errors."""

from __future__ import annotations

import gc
import json
import logging
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMError, InMemoryStore, ProbeSet, Sweep, explain_checkpoints

PROBES = ProbeSet(pictures(1))


def sweep(**settings: object) -> Sweep:
    return explain_checkpoints("ckpt", PROBES, store=InMemoryStore(), verbose=False, **settings)


@pytest.fixture
def three(tmp_path: Path) -> None:
    """Three checkpoints of different networks."""
    Path("ckpt").mkdir()
    for number in range(1, 4):
        small_model(classes=number + 2).save(f"ckpt/m-{number}.keras")


@pytest.mark.usefixtures("three")
def test_errors_keep_no_model_in_memory() -> None:
    """As long as the result lives, what failed does not."""
    gc.collect()
    before = sum(isinstance(thing, keras.Model) for thing in gc.get_objects())
    result = sweep(layer="nope")
    gc.collect()
    assert sum(isinstance(thing, keras.Model) for thing in gc.get_objects()) == before
    assert len(result.errors) == 3
    assert all(error.__traceback__ is None for error in result.errors.values())


@pytest.mark.usefixtures("three")
def test_a_result_is_plain_data() -> None:
    """`asdict` gives what JSON takes; the errors themselves are beside."""
    result = sweep(layer="nope")
    held = json.loads(json.dumps(asdict(result)))
    assert held.keys() == {"run_id", "recorded", "skipped", "problems", "gaps", "verdict", "summary"}
    assert held["problems"] == {path: str(error) for path, error in result.errors.items()}


@pytest.mark.usefixtures("three")
def test_what_nobody_foresaw_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint has a reason; the log has one traceback."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("gradcam_callbacks.sweeping.loading.Explainer.__call__", fails)
    result = sweep()
    assert set(result.problems.values()) == {
        "It was loaded, but explaining it failed (ZeroDivisionError: a bug). The log has the traceback."
    }
    (logged,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert "Traceback (most recent call last)" in logged


@pytest.mark.usefixtures("three")
def test_a_function_of_the_users_is_named() -> None:
    """An error in a method or a target is not called ours."""

    def broken(activations: object, gradients: object, scores: object) -> None:
        raise RuntimeError("mine")

    result = sweep(method=broken)
    assert set(result.problems.values()) == {"The method 'broken' raised RuntimeError: mine"}


@pytest.mark.usefixtures("long")
@pytest.mark.usefixtures("three")
def test_a_journal_among_checkpoints_is_passed_over() -> None:
    """Its files are steps of ours, and no checkpoints."""
    first = explain_checkpoints("ckpt/m-1.keras", PROBES, store=InMemoryStore(), journal_dir="ckpt/kept", verbose=False)
    assert first.recorded == (0,)
    assert len(sweep(model=small_model(classes=3)).problems) == 2


def test_a_method_that_gives_negative_maps_is_refused_before_the_first_batch() -> None:
    """Only a run tells, so one probe is explained before the training."""
    from gradcam_callbacks import GradCAMCallback

    def negative(activations: object, gradients: object, scores: object) -> object:
        return keras.ops.mean(activations, axis=-1) - 100

    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    batches: list[int] = []
    note = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: batches.append(batch))
    with pytest.raises(GradCAMError, match="The method 'negative' gave negative numbers"):
        model.fit(pictures(8), np.zeros(8), callbacks=[GradCAMCallback(PROBES, method=negative), note], verbose=0)
    assert batches == []
