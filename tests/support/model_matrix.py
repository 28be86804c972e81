"""Networks of every family, with the same weights whatever Keras runs on, their maps, and what these are made from.

From the command line, in a process whose engine is another one: `python -m support.model_matrix ResNet50 …` writes
`ResNet50.npz` and so on.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import keras
import numpy as np
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.models import as_if_trained_for_a_step, redrawn
from support.photographs import ESPRESSO, TABBY, cat, espresso

from gradcam_callbacks import Explainer, ProbeSet

# Of keras.applications, the smallest of each family.
APPLICATIONS = [
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2"),
    *("VGG16", "VGG19", "Xception"),
]
TRAINED = "EfficientNet-Lite0 with the weights of ImageNet"
HUB = "keras-hub "
"""Begins the names of its networks: both have an Xception."""
SIZES = {"InceptionResNetV2": (107, 139), "InceptionV3": (107, 139), "Xception": (71, 96)}


def explained(name: str) -> dict[str, Any]:
    """Of the trained network, of one of keras.applications, or of one of keras-hub.

    Returns:
        The layer, the maps, the scores, and for keras.applications what the layer gives in a plain forward pass.
    """
    keras.backend.clear_session()  # names are numbered from zero
    if name == TRAINED:
        images = preprocess(np.stack([cat(), espresso()]))
        found = Explainer(efficientnet_lite0())(ProbeSet(images, targets=[TABBY, ESPRESSO]))
        return {"layer": found.layer, "maps": found.maps, "scores": found.scores}
    numbers = np.random.default_rng(1)
    if name in APPLICATIONS:
        images = numbers.uniform(0, 255, (2, *SIZES.get(name, (64, 96)), 3)).astype(np.float32)
        model = getattr(keras.applications, name)(weights=None, input_shape=images.shape[1:], classes=10)
    else:
        hub: Any = importlib.import_module("support.hub_networks")
        model = hub.NETWORKS[name.removeprefix(HUB)].build()
        images = numbers.random((2, *hub.picture_shape(model)), dtype=np.float32)
    redrawn(model)
    as_if_trained_for_a_step(model, images)
    found = Explainer(model)(ProbeSet(images, targets=[0, 1, 2, 3, 4]))
    result = {"layer": found.layer, "maps": found.maps, "scores": found.scores}
    if name in APPLICATIONS:
        (last,) = (one for one in model.operations if one.name == found.layer)
        result["seen"] = np.asarray(keras.Function(model.inputs, last.output)([images]))
    return result


if __name__ == "__main__":
    for one in sys.argv[1:]:
        np.savez(f"{one}.npz", **explained(one))
