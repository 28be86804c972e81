"""Models of Keras 2, and files that it saved, are named as what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("tf_keras") is None:  # not imported here, where it might disturb Keras 3
    pytest.skip("needs Keras 2: pip install tf-keras", allow_module_level=True)

# In a process of its own: TensorFlow is loaded together with Keras 2 there, as where TF_USE_LEGACY_KERAS is set.
SCRIPT = """
import json, sys
import keras, numpy as np, tf_keras
from click.testing import CliRunner
from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet, explain, explain_checkpoints
from gradcam_callbacks.cli import main

x = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
probes = ProbeSet(x, targets=[0])

def net(K, prepare=lambda h: h):
    inputs = K.Input((16, 16, 3))
    h = K.layers.Conv2D(6, 3, activation="relu", name="conv")(prepare(inputs))
    return K.Model(inputs, K.layers.Dense(4, name="head")(K.layers.GlobalAveragePooling2D()(h)), name="old")

def nested(K):
    i = K.Input((16, 16, 3))
    inner = K.Model(i, K.layers.Conv2D(6, 3, activation="relu", name="conv")(i), name="inner")
    j = K.Input((16, 16, 3))
    return K.Model(j, K.layers.Dense(4, name="head")(K.layers.GlobalAveragePooling2D()(inner(j))))

class Own(tf_keras.layers.Layer):
    def call(self, h):
        return h * 2.0

def said(function):
    try:
        return str(function())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def layers(path):
    return CliRunner().invoke(main, ["layers", path]).output

found = {}
model = net(tf_keras)
model.compile("sgd", "mse")
found["explain"] = said(lambda: explain(model, x))
found["Explainer"] = said(lambda: Explainer(model))
callback = GradCAMCallback(probes, store=InMemoryStore(), verbose=False)
found["fit"] = said(lambda: model.fit(x, np.zeros((2, 4)), verbose=0, callbacks=[callback]))
subclassed = type("Sub", (tf_keras.Model,), {"call": lambda self, x: x})()
found["subclassed"] = said(lambda: explain(subclassed, x))
for name, saved in {
    "plain.keras": model, "ops.h5": net(tf_keras, lambda h: h / 127.5 - 1.0), "nested.h5": nested(tf_keras),
    "own.h5": net(tf_keras, Own()), "plain.h5": model,
}.items():
    saved.save(name)
    found[name] = layers(name)
swept = lambda path, **settings: explain_checkpoints(
    path, probes, store=InMemoryStore(), verbose=False, **settings)
found["sweep"] = swept("plain.keras").problems["plain.keras"]
found["sweep of models"] = swept("plain.keras", model=net(tf_keras)).problems["plain.keras"]
found["sweep of functions"] = swept("plain.keras", model=lambda: net(tf_keras)).problems["plain.keras"]
found["probes of a function"] = said(lambda: explain_checkpoints(
    "nested.h5", lambda model: probes, store=InMemoryStore(), verbose=False))
other = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 3), keras.layers.Flatten()])
found["another network"] = swept("plain.h5", model=other).problems
new = net(keras)
new.set_weights(model.get_weights())
found["advice"] = np.allclose(new(x), model(x), atol=1e-6)
found["is explained"] = explain(new, x).maps.shape
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the library says of each."""
    folder = tmp_path_factory.mktemp("keras2")
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, check=True, timeout=300)
    return dict(json.loads(Path(folder, "found.json").read_text()))


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("way", ["explain", "Explainer", "fit", "subclassed", "sweep of models", "sweep of functions"])
def test_a_model_of_keras_2_is_refused_by_name(found: dict[str, Any], way: str) -> None:
    """However it comes, with what to do."""
    assert "is a tf_keras (Keras 2) model; only models of Keras 3 can be explained" in found[way]
    assert "model.set_weights(tf_keras_model.get_weights())" in found[way]
    if not way.startswith("sweep"):
        assert found[way].startswith("GradCAMError")


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("plain.keras", "Keras 3 cannot load it"),
        ("ops.h5", "needs 'TFOpLambda', which Keras 3 does not have"),
        ("nested.h5", "Keras 3 cannot load it"),
        ("own.h5", "needs 'Own', which Keras 3 does not have"),
    ],
)
def test_a_file_of_keras_2_that_cannot_be_loaded_says_so(found: dict[str, Any], file: str, why: str) -> None:
    """In the command, and never with an import that cannot help."""
    text = " ".join(found[file].split())
    assert f"'{file}' could not be loaded: It was saved by Keras 2." in text
    assert f", and {why}. Load it with tf_keras" in text
    assert "--import" not in text


@pytest.mark.usefixtures("process")
def test_a_file_of_keras_2_that_can_be_loaded_is_explained(found: dict[str, Any]) -> None:
    """Keras 3 reads many of its .h5 files."""
    assert "conv" in found["plain.h5"]
    assert "Keras 2" not in found["plain.h5"]


@pytest.mark.usefixtures("process")
def test_sweeps_say_the_same(found: dict[str, Any]) -> None:
    """Of each file; but not where the weights do not fit a model that was given."""
    assert found["sweep"].startswith("It was saved by Keras 2.")
    assert "It was saved by Keras 2." in found["probes of a function"]
    assert "saved by Keras 2" not in found["another network"]["plain.h5"]


@pytest.mark.usefixtures("process")
def test_what_the_message_says_to_do_works(found: dict[str, Any]) -> None:
    """The network of Keras 3 with these weights gives what that of Keras 2 gives, and is explained."""
    assert found["advice"]
    assert found["is explained"] == [2, 1, 14, 14]
