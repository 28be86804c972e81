"""A callback is an object like others: it can be copied and pickled whenever somebody wants to."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import keras
import numpy as np
import pytest
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, InMemoryStore, ProbeSet

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "cloudpickle": lambda made: cloudpickle.loads(cloudpickle.dumps(made)),
}


def fit(*callbacks: keras.callbacks.Callback, epochs: int = 2) -> keras.callbacks.History:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model.fit(pictures(8), np.arange(8) % 4, epochs=epochs, callbacks=list(callbacks), verbose=0)


def settings(callback: GradCAMCallback) -> dict[str, Any]:
    others = {"probes", "store", "_of_thread", "_latest", "explainer", "problems"}
    return {name: value for name, value in vars(callback).items() if name not in others}


def assert_fresh(made: GradCAMCallback, callback: GradCAMCallback) -> None:
    assert type(made) is type(callback)
    assert (made.model, made.explainer, made._session, made.problems) == (None, None, None, 0)
    assert settings(made) == settings(callback)
    assert made.probes.digest == callback.probes.digest
    np.testing.assert_array_equal(made.probes.images, callback.probes.images)
    made = copy.copy(made)
    made.store = None  # one that was pickled holds its run
    assert len(pickle.dumps(made)) < callback.probes.images.nbytes + callback.probes.pictures.nbytes + 20_000


class Copying(keras.callbacks.Callback):
    """Copies a callback in the middle of each epoch, in every way."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        super().__init__()
        self.callback = callback
        self.made: list[Any] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.made += [way(self.callback) for way in WAYS.values()]


@pytest.mark.usefixtures("long")
def test_a_callback_is_copied_before_during_and_after_fit() -> None:
    """A copy is a new callback of the same settings: no model, run, worker or graph comes with it, and it records."""
    store = InMemoryStore()
    probes = ProbeSet(pictures(2), targets=[1, lambda outputs: outputs[:, 0] - outputs[:, 2]])
    callback = GradCAMCallback(probes, every=2, layer=["conv"], strict=True, verbose=False, store=store)
    before = [way(callback) for way in WAYS.values()]
    copying = Copying(callback)
    fit(callback, copying)
    callback.problems = 3
    after = [way(callback) for way in WAYS.values()]
    assert len(copying.made) == len(WAYS) * 2
    for made in before + copying.made + after:
        assert_fresh(made, callback)
    assert sorted(store.maps) == [-1, 0, 1]
    assert all(made.store is store for made in after[:2])
    for made in after[2:]:
        assert made.store is not store
        assert made.store.maps == store.maps
        fit(made)
        assert sorted(made.store.maps) == [-1, 0, 1, 2, 3], "the run goes on in the copy"
    assert sorted(store.maps) == [-1, 0, 1]


@pytest.mark.parametrize("way", WAYS)
def test_other_callbacks_of_the_same_fit_are_copied(way: str) -> None:
    """Neither the model, by which they reach it, nor a callback that holds ours keeps them from it."""
    ours, stop = (
        GradCAMCallback(pictures(2), verbose=False, store=InMemoryStore()),
        keras.callbacks.EarlyStopping("loss"),
    )
    holding = Copying(ours)
    fit(ours, stop)
    model = ours.model
    assert WAYS[way](stop).monitor == "loss"
    assert_fresh(WAYS[way](holding).callback if way != "copy" else WAYS[way](ours), ours)
    np.testing.assert_array_equal(WAYS[way](model).get_weights()[0], model.get_weights()[0])


def test_a_subclass_keeps_what_it_added() -> None:
    """Attributes of its own are settings; one that points back at the callback points at the copy."""

    class Ours(GradCAMCallback):
        def __init__(self, probes: Any) -> None:
            super().__init__(probes, verbose=False)
            self.seen = ["a"]

    callback = Ours(pictures(1))
    for way in WAYS.values():
        made = way(callback)
        assert made.seen == ["a"]
        assert isinstance(made, GradCAMCallback)
    callback.me = callback
    made = copy.deepcopy(callback)
    assert made.me is made
    assert made.seen is not callback.seen
