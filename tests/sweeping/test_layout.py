"""A sweep loads weights as Keras does, without Keras's walk through the model for each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from support.models import pictures, small_model, trunk_and_head

from gradcam_callbacks import Explainer, ProbeSet
from gradcam_callbacks.sweeping import loading
from gradcam_callbacks.sweeping.formats import Checkpoint, KerasArchive, WeightsH5
from gradcam_callbacks.sweeping.layout import Layout, read_arrays
from gradcam_callbacks.sweeping.loading import Loader, Task
from gradcam_callbacks.sweeping.spreading import Turn
from gradcam_callbacks.sweeping.working import explained

COUNT = 5


@keras.saving.register_keras_serializable("test_layout")
class Doubling(keras.layers.Layer):
    """Its file holds the half of its weight."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, images: object) -> object:
        return images * self.factor

    def save_own_variables(self, store: dict[str, np.ndarray]) -> None:
        store["0"] = np.asarray(self.factor) / 2

    def load_own_variables(self, store: dict[str, np.ndarray]) -> None:
        self.factor.assign(store["0"][()] * 2)


def of_many_layers() -> keras.Model:
    """Nested, with statistics, seeds and a shared layer."""
    inner = keras.Sequential([keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization()])
    shared = keras.layers.SeparableConv2D(4, 3, padding="same", activation="relu")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Dropout(0.5)(shared(shared(inner(inputs))))
    x = keras.layers.GroupNormalization(2)(x)
    attended = keras.layers.MultiHeadAttention(2, 4)(*[keras.layers.Reshape((256, 4))(x)] * 2)
    x = keras.layers.Add()([x, keras.layers.Reshape((16, 16, 4))(attended)])
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))


def normalizing() -> keras.Model:
    normalization = keras.layers.Normalization()
    normalization.adapt(pictures(8))
    return keras.Sequential([keras.Input((16, 16, 3)), normalization, *trunk_and_head()])


def in_bfloat16() -> keras.Model:
    layers = [keras.layers.Conv2D(6, 3, activation="relu", dtype="bfloat16"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.Dense(4)])


def doubling() -> keras.Model:
    return keras.Sequential([keras.Input((16, 16, 3)), Doubling(), *trunk_and_head()])


@keras.saving.register_keras_serializable("test_layout")
class Switch(keras.layers.Layer):
    """Its weight is a truth value, which is no number in a file."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.is_on = self.add_weight(shape=(), initializer="ones", dtype="bool", trainable=False, name="is_on")

    def call(self, images: object) -> object:
        return keras.ops.where(self.is_on, images, keras.ops.zeros_like(images))


def switched() -> keras.Model:
    return keras.Sequential([keras.Input((16, 16, 3)), Switch(), *trunk_and_head()])


def compiled() -> keras.Model:
    """Its files hold the state of the optimizer, too."""
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pictures(4), np.arange(4), verbose=0)
    return model


def saved(model: keras.Model, ending: str, count: int = COUNT) -> list[Path]:
    """Files of the model with other weights each, statistics and counters among them."""
    dice = np.random.default_rng(1)
    paths = [Path(f"m-{number}{ending}") for number in range(count)]
    for path in paths:
        for variable in model.variables:
            if variable.dtype == "bool":
                continue
            change = dice.random(variable.shape) if "float" in variable.dtype else 1
            variable.assign(variable + keras.ops.cast(change, variable.dtype))
        model.save_weights(path) if "weights" in ending else model.save(path)
    return paths


def checkpoints(paths: list[Path]) -> list[Checkpoint]:
    format_ = WeightsH5 if paths[0].name.endswith(".weights.h5") else KerasArchive
    return [format_(path, step) for step, path in enumerate(paths)]


def loader_for(model: keras.Model | None, **settings: object) -> Loader:
    probes = ProbeSet(pictures(2), targets=[1, "predicted"])
    return Loader(Task(probes, model, None, "gradcam", None, None, settings.get("objects"), True))  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize(
    ("build", "is_known"),
    [
        (small_model, True),
        (of_many_layers, True),
        (compiled, True),
        (normalizing, False),
        (in_bfloat16, False),
        (doubling, False),
        (switched, False),
    ],
)
def test_each_variable_is_what_keras_loads(build: Callable[[], keras.Model], is_known: bool, ending: str) -> None:
    """To the last bit, of each file; where loading is more than assigning, it is left to Keras."""
    model = build()
    paths = saved(model, ending)
    loader = loader_for(model if "weights" in ending else None)
    for checkpoint in checkpoints(paths):
        loaded = loader._load(checkpoint)
        there = [np.asarray(variable).tobytes() for variable in loaded.variables]
        outputs = loaded.predict(pictures(2), verbose=0)
        loaded.load_weights(checkpoint.path)
        assert there == [np.asarray(variable).tobytes() for variable in loaded.variables]
        np.testing.assert_array_equal(outputs, loaded.predict(pictures(2), verbose=0))
    assert (loader._layout is not None) == is_known


def test_keras_walks_through_the_model_for_two_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one builds the model, the second says which array is which variable."""
    paths = saved(small_model(), ".keras")
    walks: list[str] = []
    load = keras.Model.load_weights
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path: walks.append(str(path)) or load(self, path))
    loader = loader_for(None)
    for checkpoint in checkpoints(paths):
        loader._load(checkpoint)
    assert len(walks) == 2  # the numbered copy, and the second file itself


def test_a_transposed_array_is_seen() -> None:
    """The numbers alone do not tell a matrix from its transposed one; the first file does."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, use_bias=False)])
    (path,) = saved(model, ".weights.h5", 1)
    layout = Layout.learned(model, path)
    assert layout is not None
    model.load_weights(path)
    arrays = read_arrays(path)
    assert layout.is_assigned(arrays)
    assert not layout.is_assigned({name: array.T for name, array in arrays.items()})


@pytest.mark.usefixtures("long")
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")  # Keras, before its error
def test_another_file_is_left_to_keras_and_a_damaged_one_is_named() -> None:
    """What is wrong is said as before, and the next file is explained as if nothing had been."""
    model = small_model()
    paths = saved(model, ".weights.h5")
    expected = [loader_for(model).outcome(c, with_noise=False).arrays["maps"] for c in checkpoints(paths)]
    paths[2].write_bytes(paths[2].read_bytes()[:2000])
    small_model(classes=5).save_weights(paths[3])
    turns = [Turn(checkpoint, False, False) for checkpoint in checkpoints(paths)]
    loader = loader_for(model)
    found = [*explained(loader, turns)]
    assert loader._layout is not None
    assert "truncated" in str(found[2].error)
    assert "head" in str(found[3].error) or "shape" in str(found[3].error)
    for step in (0, 1, 4):
        np.testing.assert_array_equal(found[step].arrays["maps"], expected[step])


def test_one_file_is_read_ahead_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a checkpoint is explained the next file is read, and the one after it waits."""
    opened: list[int] = []

    class Watched(WeightsH5):
        @contextmanager
        def weights_file(self) -> Iterator[Path | None]:
            opened.append(self.step)
            yield self.path

    model = small_model()
    paths = saved(model, ".weights.h5", 8)
    turns = [Turn(Watched(path, step), False, False) for step, path in enumerate(paths)]
    loader = loader_for(model)
    seen = []
    for _ in explained(loader, turns):
        if loader._ahead is not None:
            loader._ahead.arrays()  # it is read to its end
        seen.append([*opened])
    # The first file says which array is which variable.
    assert seen == [[*range(min(step + 2, 8))] for step in range(8)]
    assert loader._ahead is None


@pytest.mark.usefixtures("long")
def test_other_architectures_between_the_files_are_loaded_as_they_are() -> None:
    """What was read ahead for a model that is gone is not used."""
    paths = saved(small_model(), ".keras", 6)
    small_model(size=24, classes=6).save(paths[3])
    found = [*explained(loader_for(None), [Turn(c, False, False) for c in checkpoints(paths)])]
    assert [outcome.error is None for outcome in found] == [True, True, True, False, True, True]
    for step in (0, 1, 2, 4, 5):
        alone = loader_for(None).outcome(checkpoints(paths)[step], with_noise=False)
        np.testing.assert_array_equal(found[step].arrays["maps"], alone.arrays["maps"])


def test_a_layout_is_not_asked_for_again_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a walk through the model."""
    asked = []
    learned = Layout.learned
    monkeypatch.setattr(loading.Layout, "learned", lambda *given: asked.append(given) or learned(*given))
    paths = saved(doubling(), ".keras")
    loader = loader_for(None)
    for checkpoint in checkpoints(paths):
        loader._load(checkpoint)
    assert len(asked) == 1


@keras.saving.register_keras_serializable("test_layout")
class Written(keras.Model):
    """A model as people write one: it has no weights before its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = keras.layers.Conv2D(6, 3, activation="relu")
        self.head = keras.layers.Dense(4)

    def call(self, images: object) -> object:
        return self.head(keras.ops.mean(self.trunk(images), axis=(1, 2)))


def test_weights_are_loaded_into_a_model_that_was_never_called() -> None:
    """A function that makes one is enough: it is built on the probes."""
    model = Written()
    model(pictures(1))
    paths = saved(model, ".weights.h5", 3)
    found = [*explained(loader_for(Written), [Turn(checkpoint, False, False) for checkpoint in checkpoints(paths)])]  # type: ignore[arg-type]
    for path, outcome in zip(paths, found, strict=True):
        model.load_weights(path)
        expected = Explainer(model)(ProbeSet(pictures(2), targets=[1, "predicted"])).maps
        np.testing.assert_array_equal(outcome.arrays["maps"], expected)


@pytest.mark.usefixtures("long")
def test_another_architecture_whose_weights_would_fit_is_built_anew() -> None:
    """Another activation has the same arrays and other maps."""
    found_alone = []
    for number, activation in enumerate(("relu", "relu", "gelu", "gelu")):
        trunk = keras.layers.Conv2D(6, 3, activation=activation, name="conv")
        layers = [
            keras.Input((16, 16, 3)),
            trunk,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, name="d"),
        ]
        keras.Sequential(layers, name="same").save(f"m-{number}.keras")
        (checkpoint,) = checkpoints([Path(f"m-{number}.keras")])
        found_alone.append(loader_for(None).outcome(checkpoint, with_noise=False).arrays["maps"])
    turns = [Turn(checkpoint, False, False) for checkpoint in checkpoints([Path(f"m-{n}.keras") for n in range(4)])]
    for outcome, alone in zip(explained(loader_for(None), turns), found_alone, strict=True):
        np.testing.assert_array_equal(outcome.arrays["maps"], alone)
