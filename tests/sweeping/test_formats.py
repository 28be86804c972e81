"""A format of checkpoints is one class."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from support.engines import IS_TENSORFLOW
from support.models import pictures, small_model

import gradcam_callbacks
from gradcam_callbacks import Explainer, ProbeSet, explain_checkpoints
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.sweeping import formats
from gradcam_callbacks.sweeping.finding import find_checkpoints

SWEEPING = Path(gradcam_callbacks.__file__).parent / "sweeping"


class NumPyWeights(formats.Checkpoint):
    """Weights in an .npz file: all that a new format takes."""

    kind = "npz"
    files = ".npz"

    @staticmethod
    def recognise(path: Path) -> Path | None:
        return path if path.suffix == ".npz" else None

    def load_weights(self, model: keras.Model) -> None:
        with np.load(self.path) as held:
            model.set_weights([held[name] for name in held.files])


@pytest.fixture
def with_npz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, NumPyWeights))


@pytest.mark.usefixtures("with_npz")
def test_a_new_format_is_a_class_and_its_place_in_the_list(client: MlflowClient) -> None:
    """Its files are found in a folder, numbered by their names, loaded, explained, and named in messages."""
    probes = ProbeSet(pictures(2), targets=[2])
    Path("ckpt").mkdir()
    expected = []
    for number in (1, 2, 4):
        keras.utils.set_random_seed(number)
        model = small_model()
        np.savez(f"ckpt/m-{number}.npz", *model.get_weights())
        expected.append(Explainer(model)(probes).maps)
    Path("ckpt/log.csv").touch()
    found, errors = find_checkpoints("ckpt", None, ExitStack())
    assert ([(checkpoint.kind, checkpoint.step) for checkpoint in found], errors) == (
        [("npz", 0), ("npz", 1), ("npz", 3)],
        {},
    )
    result = explain_checkpoints("ckpt", probes, model=small_model, journal_dir="post", verbose=False)
    assert (result.recorded, result.problems, result.gaps) == ((0, 1, 3), {}, (2,))
    for step, maps in zip(result.recorded, expected, strict=True):
        np.testing.assert_array_equal(Journal("post").read(step).arrays["maps"], maps)
    alone = explain_checkpoints("ckpt/m-1.npz", probes, verbose=False)
    assert list(alone.problems.values()) == [
        "It holds weights alone: pass model=, the model or a function that builds it."
    ]
    log = explain_checkpoints("ckpt/log.csv", probes, verbose=False)
    (problem,) = log.problems.values()
    assert problem.startswith("'.csv' is no checkpoint: expected .keras, ")
    assert problem.endswith(", .npz.")


@pytest.mark.usefixtures("with_npz")
def test_a_new_format_of_whole_models_says_what_its_model_is(client: MlflowClient) -> None:
    """With a description the model is built from the file, once for all of the same architecture."""

    class Whole(NumPyWeights):
        files = ".whole"

        @staticmethod
        def recognise(path: Path) -> Path | None:
            return path if path.suffix == ".whole" else None

        @staticmethod
        def step_of(path: Path) -> int | None:
            return int(path.stem)

        def describe(self) -> dict[str, object] | None:
            return dict(keras.saving.serialize_keras_object(small_model()))

    formats.FORMATS = (*formats.FORMATS, Whole)
    probes = ProbeSet(pictures(2), targets=[2])
    model = small_model()
    for step in (0, 7):
        np.savez(f"{step}.npz", *model.get_weights())
        Path(f"{step}.npz").rename(f"{step}.whole")
    result = explain_checkpoints(["0.whole", "7.whole"], probes, journal_dir="post", verbose=False)
    assert (result.recorded, result.problems) == ((0, 7), {})
    np.testing.assert_array_equal(Journal("post").read(7).arrays["maps"], Explainer(model)(probes).maps)


def test_the_kind_of_a_checkpoint_is_readable() -> None:
    """Whole models, weights alone, TensorFlow's files by their prefix."""
    model = small_model()
    model.compile("sgd", "mse")
    model.save("m-1.keras")
    model.save("m-2.h5")
    model.save_weights("m-3.weights.h5")
    Path("m-3.weights.h5").rename("m-4.h5")
    model.save_weights("m-3.weights.h5")
    if IS_TENSORFLOW:
        import tensorflow as tf

        tf.train.Checkpoint(model=model).write("m-5")
    found, errors = find_checkpoints(".", None, ExitStack())
    assert ([(checkpoint.path.name, checkpoint.kind) for checkpoint in found], errors) == (
        [
            ("m-1.keras", "model"),
            ("m-2.h5", "model"),
            ("m-3.weights.h5", "weights"),
            ("m-4.h5", "weights"),
            *[("m-5", "tensorflow")] * IS_TENSORFLOW,
        ],
        {},
    )


def names_in(file: Path) -> Iterator[str]:
    """The strings in the code of a file, without its docstrings."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and not isinstance(node, ast.Expr):
                yield child.value


@pytest.mark.parametrize("file", sorted({*SWEEPING.glob("*.py")} - {SWEEPING / "formats.py"}), ids=lambda f: f.stem)
def test_only_formats_knows_a_format(file: Path) -> None:
    """No other file of the folder has a suffix or the name of a format in its code."""
    suffixes = (".keras", ".h5", ".hdf5", ".index", "saved_model", "orbax", "tensorflow", "h5py")
    assert not [text for text in names_in(file) if text.startswith(suffixes)]
