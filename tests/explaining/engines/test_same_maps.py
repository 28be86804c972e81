"""The same weights give the same maps on every engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from support.models import pictures

from gradcam_callbacks import Explainer, ProbeSet

METHODS = ["gradcam", "hirescam", "scorecam"]
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


def mobile() -> keras.Model:
    """Depthwise convolutions, batch normalisation and residuals."""
    network = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=5)
    for weight in network.weights:  # so that the means and variances are not 0 and 1
        if "moving" in weight.path:
            weight.assign(weight + np.random.default_rng(2).random(weight.shape, dtype=np.float32))
    return network


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
    h = layers.Conv2D(6, 3, strides=2, padding="same", activation="swish")(inputs)
    h = h * layers.Conv2D(6, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(h))
    left = layers.UpSampling2D(interpolation="bilinear")(h)
    right = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(h)
    ways = [layers.GlobalAveragePooling2D()(left), layers.GlobalMaxPooling2D()(right)]
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Concatenate()(ways)))


NETWORKS: dict[str, Callable[[], keras.Model]] = {"mobile": mobile, "transformer": transformer, "gated": gated}


@pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX: pip install 'gradcam_callbacks[jax]'")
@pytest.mark.skipif(keras.config.backend() == "jax", reason="this process stands for the other engine")
def test_maps_on_jax_are_those_of_tensorflow(process: None, tmp_path: Path) -> None:
    """The same layers are explained, and maps and scores differ by a hundred-thousandth at most."""
    images = pictures(3, 32)
    np.save("images.npy", images)
    asked = [f"{network}-{method}" for network in NETWORKS for method in METHODS[: 1 if network == "mobile" else None]]
    networks = {name: make() for name, make in NETWORKS.items()}
    for name, network in networks.items():
        network.save(f"{name}.keras")
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", ON_JAX, json.dumps(CLASSES), *asked], env=environment, check=True)
    for name in asked:
        network, method = name.split("-")
        here = Explainer(networks[network], method=method)(ProbeSet(images, targets=CLASSES))
        with np.load(f"{name}.npz") as there:
            assert str(there["layer"]) == here.layer, name
            np.testing.assert_allclose(there["maps"], here.maps, rtol=0, atol=1e-5 * here.maps.max(), err_msg=name)
            np.testing.assert_allclose(there["scores"], here.scores, rtol=1e-5, atol=1e-5, err_msg=name)
