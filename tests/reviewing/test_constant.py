"""Real networks whose answers are the same whatever the picture, and some that only look like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.models import pictures

from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing.events import Event, find_events
from gradcam_callbacks.reviewing.measuring import measure

Array = np.ndarray[Any, np.dtype[Any]]


def network(activation: str = "relu") -> keras.Model:
    blocks = [
        layers.Conv2D(6, 3, padding="same", name="first"),
        layers.BatchNormalization(name="norm"),
        layers.Activation(activation),
        layers.Conv2D(6, 3, padding="same", name="second"),
        layers.Activation(activation),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4, activation="softmax", name="head"),
    ]
    return keras.Sequential([keras.Input((16, 16, 3)), *blocks])


def that_ignores_its_input() -> keras.Model:
    """Its batch-normalisation divides by a giant moving variance and adds its beta."""
    model = network()
    norm = model.get_layer("norm")
    norm.moving_variance.assign(norm.moving_variance * 1e14)
    norm.beta.assign(norm.beta + 1)
    return model


def that_is_dead() -> keras.Model:
    """No ReLU lets anything through."""
    model = network()
    model.get_layer("second").bias.assign(np.full(6, -1e3, np.float32))
    return model


def events_of(model: keras.Model, images: Array, **settings: Any) -> list[Event]:
    """The events of one step with the maps of these images."""
    probes = ProbeSet(images, **settings)
    explanation = Explainer(model)(probes)
    about = Manifest(**probes.description(), layer=explanation.layer, method="gradcam").made_now(probes.pictures)
    steps = [Step(0, explanation.arrays(), {}, 0.0)]
    return [event for event in find_events(steps, measure(steps), about) if event.kind == "constant"]


@pytest.mark.parametrize("build", [that_ignores_its_input, that_is_dead])
@pytest.mark.parametrize("targets", [["predicted"], [0, 1, 2, 3], [(0, 1)]])
def test_a_network_that_ignores_its_input_is_said_so(build: Callable[[], keras.Model], targets: list[Any]) -> None:
    """Whichever targets are asked; one picture, or twice the same, is no evidence."""
    images = pictures(3)
    assert len(events_of(build(), images, targets=targets)) == 1
    assert events_of(build(), images[:1], targets=targets) == []
    assert events_of(build(), images[[0, 0]], targets=targets) == []


def test_pictures_that_become_one_value_are_said_so() -> None:
    """As a preprocessing for 0..255 does with 0..1, where the result is clipped."""
    clipped = {"preprocess": lambda batch: np.clip(batch - 1000, -1, 1), "targets": [0, 1]}
    assert len(events_of(network(), pictures(3), **clipped)) == 1


@pytest.mark.parametrize("activation", ["relu", "swish", "sigmoid"])
@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_has_learned_nothing_yet_is_not_constant(activation: str, seed: int) -> None:
    """Random weights tell pictures apart, noise as they are, and a class that is always predicted is no sign."""
    keras.utils.set_random_seed(seed)
    model = network(activation)
    model.get_layer("head").bias.assign([1.0, 0, 0, 0])
    assert events_of(model, pictures(4), targets=["predicted"]) == []
    assert events_of(model, pictures(4), targets=[0, 1, 2, 3]) == []


@pytest.mark.usefixtures("long")
def test_the_callback_records_what_the_review_needs() -> None:
    """A training whose learning rate kills the network: the event begins where it died, and the page has it."""
    model = network()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")

    class Killing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                self.model.get_layer("second").bias.assign(np.full(6, -1e3, np.float32))

    watch = GradCAMCallback(pictures(3), store=InMemoryStore(), journal_dir="kept", verbose=False)
    x, y = pictures(8), np.arange(8) % 4
    model.fit(x, y, epochs=4, callbacks=[Killing(), watch], verbose=0)
    journal = Journal("kept")
    steps = [journal.read(step) for step in journal.steps()]
    found = [event for event in find_events(steps, measure(steps), journal.manifest) if event.kind == "constant"]
    assert [(event.step, event.last) for event in found] == [(1, 3)]
