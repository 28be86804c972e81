"""The same weights give the same maps on every engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from keras import layers
from support.lanes import at_night
from support.model_matrix import APPLICATIONS, HUB, TRAINED, explained
from support.models import pictures

from gradcam_callbacks import METHODS, Explainer, ProbeSet

CLASSES = [0, 2, (0, 1), "predicted"]
ON_JAX = """
import json, sys
import keras, numpy as np
from gradcam_callbacks import Explainer, ProbeSet

classes = [tuple(target) if isinstance(target, list) else target for target in json.loads(sys.argv[1])]
images = np.load("images.npy")
for name in sys.argv[2:]:
    network, method = name.split("-")
    explained = Explainer(keras.models.load_model(f"{network}.keras", compile=False), method=method)
    found = explained(ProbeSet(images, targets=classes))
    np.savez(f"{name}.npz", maps=found.maps, scores=found.scores, layer=found.layer)
"""


def transformer() -> keras.Model:
    """Attention between the patches of a picture."""
    inputs = keras.Input((32, 32, 3))
    tokens = layers.Reshape((16, 8))(layers.Conv2D(8, 8, strides=8)(inputs))
    seen = layers.LayerNormalization()(tokens)
    tokens = tokens + layers.MultiHeadAttention(2, 4)(seen, seen)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(tokens))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(pooled))


def gated() -> keras.Model:
    """A gate for each channel, an enlarging, and two ways side by side."""
    inputs = keras.Input((32, 32, 3))
    h = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(inputs)
    h = h * layers.Conv2D(6, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(h))
    left = layers.UpSampling2D(interpolation="bilinear")(h)
    right = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(h)
    ways = [layers.GlobalAveragePooling2D()(left), layers.GlobalMaxPooling2D()(right)]
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Concatenate()(ways)))


NETWORKS: dict[str, Callable[[], keras.Model]] = {"transformer": transformer, "gated": gated}


needs_both = [
    pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX: pip install 'gradcam_callbacks[jax]'"),
    pytest.mark.skipif(keras.config.backend() == "jax", reason="this process stands for the other engine"),
    pytest.mark.usefixtures("process"),
]
pytestmark = needs_both


def on_jax(code: str, *arguments: str) -> None:
    """Runs code in a process in which Keras runs on JAX."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, *arguments], env=environment, check=True)


@at_night
def test_maps_on_jax_are_those_of_tensorflow() -> None:
    """Of every method the same layers are explained, and maps and scores differ by a hundred-thousandth at most.

    Tokens are asked by the methods that see more in them than places.

    Where a map is a difference of scores that are nearly equal, it is of these: each has seven digits.
    """
    images = pictures(3, 32)
    np.save("images.npy", images)
    networks = {name: make() for name, make in NETWORKS.items()}
    for name, network in networks.items():
        network.save(f"{name}.keras")
    asked = [("transformer", "gradcam"), ("transformer", "attention")]
    asked += [("gated", method) for method in METHODS if method != "attention"]
    on_jax(ON_JAX, json.dumps(CLASSES), *("-".join(pair) for pair in asked))
    for name, method in asked:
        here = Explainer(networks[name], method=method)(ProbeSet(images, targets=CLASSES))
        with np.load(f"{name}-{method}.npz") as there:
            assert str(there["layer"]) == here.layer, (name, method)
            allowed = 1e-5 * here.maps.max()
            np.testing.assert_allclose(there["maps"], here.maps, rtol=0, atol=allowed, err_msg=f"{name} {method}")
            np.testing.assert_allclose(there["scores"], here.scores, rtol=1e-5, atol=1e-5, err_msg=name)


def compared(names: Sequence[str]) -> None:
    """The same layers are explained, and maps differ by 1e-5 of the largest value.

    Where the layer itself differs by more in a plain forward pass, so do gradients, and maps are made of both.
    """
    on_jax("import runpy; runpy.run_module('support.model_matrix', run_name='__main__')", *names)
    for name in names:
        here = explained(name)
        with np.load(f"{name}.npz") as there:
            assert str(there["layer"]) == here["layer"], name
            assert here["maps"].max() > 0
            apart = {kind: apart_by(there[kind], here[kind]) for kind in here.keys() - {"layer"}}
        assert apart["maps"] <= max(1e-5, 5 * apart.get("seen", 0)), (name, apart)
        assert apart["scores"] <= 1e-4, (name, apart)


def apart_by(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


@at_night
@pytest.mark.usefixtures("large_network")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_large_network_has_the_same_maps(name: str) -> None:
    """Its random layers make up to 4e-4 of the last digit of a number."""
    compared([name])


@at_night
@pytest.mark.usefixtures("large_network")
def test_a_trained_network_has_the_same_maps() -> None:
    """On photographs; what it has learned makes no more of a last digit."""
    compared([TRAINED])


# keras-hub's Swin has an argument `mask` of its own, which Keras takes for a mask of the tokens.
@pytest.mark.filterwarnings("ignore:Layer 'attn':UserWarning", "ignore:Layer 'stage_:UserWarning")
@at_night
@pytest.mark.usefixtures("large_network")
def test_the_networks_of_keras_hub_have_the_same_maps() -> None:
    """Transformers and convolutional ones, of few layers."""
    networks = pytest.importorskip("support.hub_networks", reason="needs keras-hub: pip install keras-hub").NETWORKS
    compared([HUB + name for name in sorted(networks)])
