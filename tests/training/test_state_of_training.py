"""A training is the same with the callback and without it, whatever a prediction changes in the model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import IS_TENSORFLOW
from support.models import pictures
from support.seeds import seed_afresh
from support.stateful_models import CHANGED, Sampling, changeable

from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet, explain_checkpoints


def of_tensorflow(shape: tuple[int, ...]) -> Any:
    """The next numbers of TensorFlow's global generator."""
    import tensorflow as tf

    return tf.random.normal(shape)


def recorded() -> GradCAMCallback:
    probes = ProbeSet(pictures(3), targets=[1, "predicted"])
    return GradCAMCallback(probes, store=InMemoryStore(), verbose=False, strict=True)


def trained(
    model: keras.Model, *callbacks: Any, compiled: Mapping[str, Any] | None = None, **settings: Any
) -> list[np.ndarray]:
    """All that a training leaves: weights, states, seeds, the optimizer's, and the next number of each generator."""
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **(compiled or {}))
    if model.built:
        model.optimizer.build(model.trainable_variables)  # or a training traces its first batch twice
    settings = {"batch_size": 8, "epochs": 2, "verbose": 0, "callbacks": list(callbacks)} | settings
    model.fit(pictures(24), np.arange(24) % 4, **settings)
    left = [*changeable(model), *model.optimizer.variables, *model.metrics_variables, keras.random.normal((2,))]
    left += [of_tensorflow((2,))] if IS_TENSORFLOW else []
    return [*(ops.convert_to_numpy(value) for value in left), np.random.random(2)]  # noqa: NPY002


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("name", CHANGED)
def test_training_is_the_same_to_the_last_bit(name: str) -> None:
    """Weights, moving statistics, states and seeds are those of a training without the callback."""

    def run(*callbacks: Any) -> list[np.ndarray]:
        seed_afresh(3)
        return trained(CHANGED[name](), *callbacks)

    plain, again, watched = run(), run(), run(recorded())
    for one, two, with_callback in zip(plain, again, watched, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, with_callback)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(
    "compiled",
    [{}, {"jit_compile": False}, {"steps_per_execution": 2}],
    ids=["as usual", "not compiled", "two batches at once"],
)
def test_a_training_whose_batches_are_recorded_is_the_same(compiled: dict[str, Any]) -> None:
    """Between two batches, too; with validation, and the numbers of each epoch are the same ones."""

    def run(*callbacks: Any) -> list[Any]:
        seed_afresh(3)
        model = CHANGED["a nested model"]()
        validation = (pictures(8), np.arange(8) % 4)
        noted = keras.callbacks.History()
        left = trained(model, noted, *callbacks, compiled=compiled, validation_data=validation, batch_size=6)
        return [*left, *(noted.history[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy"))]

    probes, store = ProbeSet(pictures(3), targets=[1, "predicted"]), InMemoryStore()
    watching = GradCAMCallback(probes, every_batches=1, store=store, verbose=False, strict=True)
    for one, with_callback in zip(run(), run(watching), strict=True):
        np.testing.assert_array_equal(one, with_callback)
    at_once = compiled.get("steps_per_execution", 1)
    assert sorted(store.maps) == [-1, *range(at_once - 1, 8, at_once)]


class Keep(keras.callbacks.Callback):
    """Keeps the weights after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.weights.append(self.model.get_weights())


@pytest.mark.usefixtures("long")
def test_a_batch_is_explained_with_its_own_weights() -> None:
    """Also where nothing else asks for them: on JAX a training keeps them to itself between two batches."""

    def run(*callbacks: Any) -> None:
        seed_afresh(3)
        trained(CHANGED["moving statistics"](), *callbacks)

    keep = Keep()
    run(keep)
    probes, store = ProbeSet(pictures(3), targets=[1]), InMemoryStore()
    run(GradCAMCallback(probes, every_batches=2, store=store, verbose=False, strict=True))
    model = CHANGED["moving statistics"]()
    explainer = Explainer(model, same_noise=True)
    assert sorted(store.maps) == [-1, 0, 2, 4, 5]
    for step in (0, 2, 4, 5):
        model.set_weights(keep.weights[step])
        with np.load(io.BytesIO(store.maps[step])) as held:
            np.testing.assert_array_equal(held["maps"], explainer(probes).maps)
            assert held["maps"].max() > 0


class Drawing(keras.Model):
    """Not built before the first batch; its code draws numbers from every generator that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.sampling, self.head = layers.Conv2D(6, 3), Sampling(), layers.Dense(4, activation="softmax")

    def call(self, x: Any) -> Any:
        x = self.sampling(self.conv(x)) * float(np.random.normal(1.0, 0.1))  # noqa: NPY002
        x = ops.mean(x, (1, 2))
        return self.head(x + 0.1 * of_tensorflow((6,)) if IS_TENSORFLOW else x)


@pytest.mark.usefixtures("long")
def test_a_model_that_is_run_eagerly_draws_the_same_numbers() -> None:
    """Its code runs at each batch, and draws from global generators, too: NumPy's, and TensorFlow's where that runs."""

    def run(*callbacks: Any) -> list[np.ndarray]:
        seed_afresh(3)
        return trained(Drawing(), *callbacks, compiled={"run_eagerly": True})

    for one, with_callback in zip(run(), run(recorded()), strict=True):
        np.testing.assert_array_equal(one, with_callback)


def test_a_model_is_built_without_a_prediction() -> None:
    """In a training loop of one's own the callback builds the model: same weights, and no number is drawn."""

    def run(*, is_watched: bool) -> list[np.ndarray]:
        seed_afresh(3)
        model = Drawing()
        if is_watched:
            callbacks = keras.callbacks.CallbackList([recorded()], model=model)
            callbacks.on_train_begin()
            callbacks.on_train_end()
        outputs = [ops.convert_to_numpy(model(pictures(2))) for _ in range(2)]
        return [*outputs, *model.get_weights()]

    for one, with_callback in zip(run(is_watched=False), run(is_watched=True), strict=True):
        np.testing.assert_array_equal(one, with_callback)


@pytest.mark.usefixtures("long")
def test_two_steps_are_explained_under_the_same_noise() -> None:
    """A model that does not learn has the same maps at each step, although its training draws on."""
    seed_afresh(3)
    model = CHANGED["dropout that is always on"]()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    store = InMemoryStore()
    callback = GradCAMCallback(ProbeSet(pictures(3), targets=[1]), store=store, verbose=False, noise_floor=False)
    history = model.fit(
        pictures(24), np.arange(24) % 4, batch_size=8, epochs=3, verbose=0, shuffle=False, callbacks=[callback]
    )
    assert len(set(history.history["loss"])) == 3
    assert history.history["gradcam_drift"] == [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(
    "name", sorted({"dropout that is always on", "random numbers without a seed", "moving statistics"} & CHANGED.keys())
)
def test_checkpoints_give_the_maps_of_the_training(name: str) -> None:
    """To the last bit, since both draw the same noise."""
    seed_afresh(3)
    model = CHANGED[name]()
    probes, live, replayed = ProbeSet(pictures(3), targets=[1]), InMemoryStore(), InMemoryStore()
    saving = keras.callbacks.ModelCheckpoint("ckpt/m-{epoch:02d}.weights.h5", save_weights_only=True)
    trained(model, GradCAMCallback(probes, store=live, verbose=False, strict=True), saving)
    keras.random.normal((3,))
    explain_checkpoints("ckpt", probes, model=CHANGED[name], store=replayed, verbose=False)
    for step in (0, 1):
        with np.load(io.BytesIO(live.maps[step])) as one, np.load(io.BytesIO(replayed.maps[step])) as two:
            np.testing.assert_array_equal(one["maps"], two["maps"])
            assert one["maps"].max() > 0
