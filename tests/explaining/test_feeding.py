"""Models are fed in the structure and in the number that they take."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import IS_TENSORFLOW
from support.models import counting_model, pictures

from gradcam_callbacks import (
    Explainer,
    GradCAMCallback,
    GradCAMError,
    InMemoryStore,
    ProbeSet,
    evaluate,
    explain,
    explain_checkpoints,
)
from gradcam_callbacks.record.journal import Journal

META = np.random.default_rng(5).random((5, 4), np.float32)


def flat(h: Any) -> Any:
    """All numbers of the one picture of a batch."""
    return ops.reshape(h, (1, -1))


def of_one(batch: int | None = 1) -> keras.Model:
    """A model that takes one picture at a time, which its reshaping relies on; with None the same for any batch."""
    inputs = keras.Input(batch_shape=(batch, 16, 16, 3))
    h = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    flatten = layers.Flatten() if batch is None else layers.Lambda(flat)
    return keras.Model(inputs, layers.Dense(3)(flatten(h)))


def closed_form(model: keras.Model, images: np.ndarray, target: int) -> np.ndarray:
    """(N, h, w) Grad-CAM of convolution, flattening and a dense layer."""
    activations = np.asarray(model.get_layer("conv")(images))
    kernel = model.layers[-1].kernel.numpy()[:, target].reshape(activations.shape[1:])
    return np.maximum(activations @ kernel.mean((0, 1)), 0)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_one_picture_at_a_time(batch_size: int) -> None:
    """A model of a fixed batch of 1 explains any number of probes, whatever `batch_size` says."""
    model = of_one()
    explanation = explain(model, pictures(5), targets=[1], batch_size=batch_size)
    np.testing.assert_allclose(explanation.maps[:, 0], closed_form(model, pictures(5), 1), rtol=1e-4, atol=1e-7)
    alone = np.concatenate([np.asarray(model(picture[None])) for picture in pictures(5)])
    np.testing.assert_allclose(explanation.scores[:, 0], alone[:, 1], rtol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_a_batch_that_is_not_full_is_filled(count: int) -> None:
    """What the filling gives is cut off: three pictures in batches of four are three maps."""
    inputs = keras.Input(batch_shape=(4, 16, 16, 3))
    h = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    h = layers.Lambda(lambda t: ops.reshape(t, (4, -1)))(h)
    model = keras.Model(inputs, layers.Dense(3)(h))
    explanation = explain(model, pictures(count), targets=[1, lambda y: y[:, 0]])
    for k, target in enumerate((1, 0)):
        expected = closed_form(model, pictures(count), target)
        np.testing.assert_allclose(explanation.maps[:, k], expected, rtol=1e-4, atol=1e-7)


def test_what_the_code_reads_from_the_shape_is_the_fixed_batch() -> None:
    """The graph is traced for that number of pictures, as Keras does."""
    inputs = keras.Input(batch_shape=(2, 16, 16, 3))
    h = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Lambda(lambda t: ops.reshape(t, (int(t.shape[0]), -1)))(h)))
    explanation = explain(model, pictures(3), targets=[1])
    np.testing.assert_allclose(explanation.maps[:, 0], closed_form(model, pictures(3), 1), rtol=1e-4, atol=1e-7)


def test_a_sequential_model_that_takes_one_batch_only() -> None:
    """It keeps the size of the first batch that it sees, whether it needs that or not: only a run tells."""
    parts = [layers.Conv2D(6, 3, activation="relu", name="conv"), layers.Lambda(flat), layers.Dense(3)]
    model = keras.Sequential(parts)
    model(pictures(1))
    explainer = Explainer(model)
    for _ in range(2):
        maps = explainer(ProbeSet(pictures(3), targets=[1])).maps
        np.testing.assert_allclose(maps[:, 0], closed_form(model, pictures(3), 1), rtol=1e-4, atol=1e-7)
    assert explainer.traces == 1
    assert explainer.confidences(pictures(3), np.full((3, 1, 2), [1, -1], np.int32)).shape == (3, 1)


def test_a_sequential_model_that_takes_any_batch_is_not_filled() -> None:
    """Although it has kept the size of its first batch."""
    model = keras.Sequential([layers.Conv2D(6, 3, name="conv"), layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model(pictures(5))
    explainer = Explainer(model)
    assert explainer(pictures(2)).maps.shape == (2, 1, 14, 14)
    assert explainer.prepare(pictures(2)).layers[0].shape[0] is None


def wrong(outputs: Any) -> Any:
    """A target of the user's with a fault in it."""
    raise ValueError("a fault of the user's")


@pytest.mark.parametrize(("target", "error"), [(9, GradCAMError), (wrong, ValueError)])
def test_a_fault_in_what_is_asked_is_not_taken_for_a_batch_that_does_not_fit(
    target: Any, error: type[Exception]
) -> None:
    """What is asked next, of the same model that takes any batch, goes through it at once."""
    model, counting = counting_model()
    model = keras.Sequential(model.layers)
    model(pictures(4))
    explainer = Explainer(model)
    with pytest.raises(error):
        explainer(ProbeSet(pictures(5), targets=[target]))
    counting.passes.clear()
    assert explainer(ProbeSet(pictures(5), targets=[1])).maps.shape == (5, 1, 14, 14)
    assert counting.passes == [5]


class Remembering(keras.Model):
    """A recurrent layer in a subclassed model; the batch that it was built with is the one that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(6, 3, activation="relu", name="conv")
        self.rows = layers.Reshape((14, 84))
        self.memory = layers.GRU(5, stateful=True, name="memory")
        self.head = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.head(self.memory(self.rows(self.conv(x))))


@pytest.mark.usefixtures("long")
def test_a_stateful_recurrent_model() -> None:
    """Each batch begins with the state that the model has, and leaves it."""
    model = Remembering()
    model(pictures(4))
    states = [state.numpy() for state in model.memory.states]
    assert np.abs(states[0]).max() > 0
    explanation = explain(model, pictures(6), targets=[2])
    for state, before in zip(model.memory.states, states, strict=True):
        np.testing.assert_array_equal(state.numpy(), before)
    expected = np.asarray(model(pictures(4)))[:, 2]
    np.testing.assert_allclose(explanation.scores[:4, 0], expected, rtol=1e-5)
    for state, before in zip(model.memory.states, states, strict=True):
        state.assign(before)
    rest = np.concatenate([pictures(6)[4:], pictures(6)[5:], pictures(6)[5:]])
    np.testing.assert_allclose(explanation.scores[4:, 0], np.asarray(model(rest))[:2, 2], rtol=1e-5)


@pytest.mark.usefixtures("long")
def test_scorecam_and_faithfulness_keep_to_the_batch() -> None:
    """Masked and spoilt pictures go through in batches of that size, too, and give what any other batch gives."""
    model = of_one()
    free = of_one(None)
    free.set_weights(model.get_weights())
    probes = ProbeSet(pictures(2), targets=[1])
    one = Explainer(model, method="scorecam")(probes)
    other = Explainer(free, method="scorecam", batch_size=1)(probes)
    np.testing.assert_allclose(one.maps, other.maps, rtol=1e-4, atol=1e-7)
    measured = evaluate(Explainer(model), probes, steps=3, randomise=False)
    reference = evaluate(Explainer(free, batch_size=1), probes, steps=3, randomise=False)
    np.testing.assert_allclose(measured.deletion_curves, reference.deletion_curves, rtol=1e-4, atol=1e-6)


def test_layers_of_a_fixed_batch_are_listed() -> None:
    """A stand-in picture is enough."""
    assert [info.path for info in Explainer(of_one()).layers()] == ["conv"]


class OneByOne(keras.Model):
    """Takes a picture and what is known of it one by one."""

    def __init__(self) -> None:
        super().__init__(name="one_by_one")
        self.conv, self.head = layers.Conv2D(6, 3, activation="relu", name="conv"), layers.Dense(3)

    def call(self, image: Any, meta: Any) -> Any:
        return self.head(ops.concatenate([ops.mean(self.conv(image), (1, 2)), meta], -1))


class WithMore(OneByOne):
    """May do without the second."""

    def call(self, image: Any, meta: Any = None, training: bool = False) -> Any:
        return super().call(image, np.zeros((1, 4), np.float32) if meta is None else meta)


class Swapped(OneByOne):
    """Takes the picture second, by its name alone."""

    def call(self, meta: Any, *, image: Any) -> Any:
        return super().call(image, meta)


GIVEN = {
    "a tuple": (OneByOne, (pictures(5), META)),
    "a dict": (OneByOne, {"image": pictures(5), "meta": META}),
    "a dict in another order": (OneByOne, {"meta": META, "image": pictures(5)}),
    "one that may be left out": (WithMore, {"image": pictures(5), "meta": META}),
    "a name that must be said": (Swapped, {"image": pictures(5), "meta": META}),
    "a tuple for one that must be said": (Swapped, (META, pictures(5))),
}


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("name", GIVEN)
def test_inputs_are_passed_as_call_wants_them(name: str) -> None:
    """By their places or their names; scores and maps are those of the model."""
    kind, given = GIVEN[name]
    model = kind()
    expected = model(image=pictures(5), meta=META) if kind is not Swapped else model(META, image=pictures(5))
    explanation = explain(model, given, targets=[1])
    np.testing.assert_allclose(explanation.scores[:, 0], np.asarray(expected)[:, 1], rtol=1e-5)
    weights = model.head.kernel.numpy()[:6, 1]
    right = np.maximum(np.asarray(model.conv(pictures(5))) @ weights, 0) / 196
    np.testing.assert_allclose(explanation.maps[:, 0], right, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(Explainer(model)(ProbeSet(given, targets=[1])).maps, explanation.maps)
    np.testing.assert_array_equal(explain(model, (given, np.arange(5) % 3)).scores, explain(model, given).scores)


WRONG = {
    "one array": (OneByOne, pictures(5), "The probes are one array; .*takes its inputs one by one: 'image', 'meta'"),
    "a pair for the callback": (OneByOne, ProbeSet((pictures(5), META, META)), "The probes have 3 inputs"),
    "other names": (OneByOne, {"image": pictures(5), "data": META}, "are named 'image', 'data'; .*'image', 'meta'"),
    "a tuple that may mean two things": (
        WithMore,
        ProbeSet((pictures(5), META)),
        "give the probes as a dict of arrays",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_fed_says_how_to(name: str) -> None:
    """The names that `call` has are listed."""
    kind, given, message = WRONG[name]
    model = kind()
    model(pictures(5), META)
    with pytest.raises(GradCAMError, match=message):
        explain(model, given)


def test_two_arrays_for_a_functional_model_of_two_inputs_are_its_inputs() -> None:
    """Labels they cannot be: one array is too few for it."""
    image, meta = keras.Input((16, 16, 3), name="image"), keras.Input((4,), name="meta")
    h = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    model = keras.Model([image, meta], layers.Dense(3)(layers.Concatenate()([h, meta])))
    explanation = explain(model, (pictures(5), META), targets=[1])
    np.testing.assert_allclose(explanation.scores[:, 0], np.asarray(model([pictures(5), META]))[:, 1], rtol=1e-5)


def test_the_callback_feeds_one_by_one() -> None:
    """In a training step of one's own, since `fit` passes one structure."""
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    class OnTensorFlow(OneByOne):
        def train_step(self, data: Any) -> dict[str, Any]:
            import tensorflow as tf

            (image, meta), labels = data
            with tf.GradientTape() as tape:
                loss = crossentropy(labels, self(image, meta, training=True))
            self.optimizer.apply_gradients(zip(tape.gradient(loss, self.weights), self.weights, strict=True))
            return {"loss": loss}

    class OnJAX(OneByOne):
        def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
            import jax

            trainable, others, optimizer, metrics = state
            (image, meta), labels = data

            def loss_of(weights: Any) -> Any:
                scores, _ = self.stateless_call(weights, others, image, meta)
                return crossentropy(labels, scores)

            loss, gradients = jax.value_and_grad(loss_of)(trainable)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            return {"loss": loss}, (trainable, others, optimizer, metrics)

    model = OnTensorFlow() if IS_TENSORFLOW else OnJAX()
    model(pictures(5), META)
    model.compile("sgd")
    store = InMemoryStore()
    probes = ProbeSet({"image": pictures(5), "meta": META}, targets=[1])
    callback = GradCAMCallback(probes, store=store, verbose=False, strict=True)
    model.fit((pictures(5), META), np.arange(5) % 3, verbose=0, callbacks=[callback])
    assert callback.problems == 0
    np.testing.assert_allclose(
        callback.explainer(probes).scores[:, 0], np.asarray(model(pictures(5), META))[:, 1], rtol=1e-5
    )


class Subclassed(keras.Model):
    """Marked as built by `build`, which it has no method of its own for; one of its layers is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(6, 3, activation="relu", name="conv")
        self.drop = layers.Dropout(0.5)
        self.head = layers.Dense(3)
        self.unused = layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.head(self.drop(ops.mean(self.conv(x), axis=(1, 2)), training=training))


def only_marked() -> keras.Model:
    model = Subclassed()
    model.build((None, 16, 16, 3))
    return model


@pytest.mark.filterwarnings("ignore:`build.*:UserWarning")  # of Keras, that it knows
def test_weights_that_are_made_only_now_are_not_explained() -> None:
    """They are random, whatever was loaded into the model before."""
    with pytest.raises(GradCAMError, match=r"4 of 4 weights .* were made only now, .* and are random: '.*conv"):
        explain(only_marked(), pictures(2), targets=[0])


@pytest.mark.filterwarnings("ignore:`build.*:UserWarning")
def test_a_model_that_is_only_marked_as_built_is_built_for_a_training() -> None:
    """With the weights and the training that it has without us; later trainings warn of nothing."""

    def trained(*callbacks: keras.callbacks.Callback) -> list[np.ndarray]:
        keras.utils.set_random_seed(2)
        model = only_marked()
        model.compile("sgd", "mse")
        for _ in range(2):
            model.fit(pictures(4), np.ones((4, 3)), epochs=1, verbose=0, callbacks=list(callbacks))
        return model.get_weights()

    store = InMemoryStore()
    ours = GradCAMCallback(pictures(2), store=store, reliance=False, verbose=False, strict=True)
    for one, other in zip(trained(ours), trained(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(store.maps) == [-1, 0, 1]


@pytest.mark.filterwarnings("ignore:`build.*:UserWarning")
def test_a_model_that_is_only_marked_as_built_gets_the_weights_of_checkpoints() -> None:
    """Keras's own `load_weights` puts them nowhere, and says nothing."""
    probes, expected = ProbeSet(pictures(2), targets=[1]), []
    for number in range(2):
        model = Subclassed()
        model(pictures(1))
        model.save_weights(f"m-{number + 1}.weights.h5")
        expected.append(explain(model, probes).maps)
    store = InMemoryStore()
    found = explain_checkpoints(
        "*.weights.h5", probes, model=only_marked, store=store, journal_dir="kept", verbose=False
    )
    assert found.problems == {}
    for step, maps in enumerate(expected):
        np.testing.assert_allclose(Journal("kept").read(step).maps, maps, atol=1e-6)
