"""Every architecture that Keras ships is explained at the right layer, with the right numbers."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from support.engines import gradient
from support.lanes import at_night
from support.models import as_if_trained_for_a_step

from gradcam_callbacks import Explainer, ProbeSet

CLASSES = [0, 4, 9]

BEFORE_POOLING = None
"""Stands for the layer that feeds the last global pooling, where Keras numbers it by itself: "activation_187"."""

# The last map before the pooling or the flattening, after its activation.
PICKED: dict[str, str | None] = {
    **dict.fromkeys(
        ["ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"], BEFORE_POOLING
    ),
    **dict.fromkeys(["DenseNet121", "DenseNet169", "DenseNet201"], "relu"),
    **dict.fromkeys([f"EfficientNetB{size}" for size in range(8)], "top_activation"),
    **dict.fromkeys([f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")], "top_activation"),
    "InceptionResNetV2": "conv_7b_ac",
    "InceptionV3": "mixed10",
    "MobileNet": "conv_pw_13_relu",
    "MobileNetV2": "out_relu",
    **dict.fromkeys(["MobileNetV3Large", "MobileNetV3Small"], BEFORE_POOLING),
    **dict.fromkeys(["NASNetLarge", "NASNetMobile"], BEFORE_POOLING),
    **dict.fromkeys(["ResNet50", "ResNet101", "ResNet152"], "conv5_block3_out"),
    **dict.fromkeys(["ResNet50V2", "ResNet101V2", "ResNet152V2"], "post_relu"),
    "VGG16": "block5_conv3",  # not block5_pool, which is between it and the flattening
    "VGG19": "block5_conv4",
    "Xception": "block14_sepconv2_act",
}
# Of a family whose members differ in depth and width alone, the smallest stands for all; the others run at night, and
# so do those that take longest.
LARGER = {
    *("DenseNet121", "EfficientNetV2B0", "InceptionResNetV2", "NASNetMobile"),
    *("ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge", "DenseNet169", "DenseNet201", "NASNetLarge"),
    *("ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2"),
    *(f"EfficientNetB{size}" for size in range(1, 8)),
    *(f"EfficientNetV2{size}" for size in ("B1", "B2", "B3", "S", "M", "L")),
}
NETWORKS = [pytest.param(name, marks=at_night) if name in LARGER else name for name in sorted(PICKED)]
KINDS = {"ConvNeXt": "Add", "MobileNetV3": "Activation", "NASNet": "Activation"}
# Two by three places are left of these, except of VGG (4x6) and Xception (3x3).
SIZES = {"InceptionResNetV2": (107, 139), "InceptionV3": (107, 139), "Xception": (71, 96)}
# A graph and an eager pass round differently, and hundreds of random layers amplify that; in float64 they agree.
ROUNDING = 0.01


def test_no_architecture_is_forgotten() -> None:
    """The table holds every architecture of `keras.applications`, and nothing else."""
    there = {name for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)}
    assert set(PICKED) == there


@pytest.fixture(autouse=True)
def memory_given_back() -> Iterator[None]:
    """Names are numbered from zero in each test, and nothing of its model stays."""
    keras.backend.clear_session()
    yield
    keras.backend.clear_session()
    gc.collect()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Neither Python nor TensorFlow nor the library warns."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl", "gradcam_callbacks")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert [record.getMessage() for record in records] == []


def by_hand(model: keras.Model, layer: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps and outputs from an eager forward pass, and the gradient of what comes after the layer."""
    activations, outputs = keras.Function(model.input, [layer.output, model.output])(images)
    last = model.layers[-1]
    head = keras.Function(layer.output, last.input)
    maps = []
    for index in CLASSES:

        def score(given: Any, index: int = index) -> Any:
            logits = head(given)
            if isinstance(last, keras.layers.Dense):
                logits = logits @ last.kernel + last.bias
            return logits[:, index]

        weights = ops.mean(gradient(score, activations), axis=(1, 2), keepdims=True)
        maps.append(np.asarray(ops.relu(ops.sum(weights * activations, axis=-1))))
    return np.stack(maps, axis=1), np.asarray(outputs)


def before_pooling(model: keras.Model) -> Any:
    """The layer that feeds the last global pooling."""
    poolings = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    return poolings[-1].input._keras_history.operation


def attributes(model: keras.Model) -> list[dict[str, int]]:
    """For each layer and operation the identities of all that hangs on it, but for Keras's note that it was called."""
    parts = [*model._flatten_layers(), *model.operations]
    return [{name: id(value) for name, value in vars(part).items() if name != "_called"} for part in parts]


@pytest.mark.usefixtures("large_network")
@pytest.mark.parametrize("name", NETWORKS)
def test_an_architecture_is_explained_at_its_last_map(name: str) -> None:
    """The last map before the pooling is picked, its maps are those computed by hand, the scores are the logits."""
    images = np.random.default_rng(1).uniform(0, 255, (2, *SIZES.get(name, (64, 96)), 3)).astype(np.float32)
    model = getattr(keras.applications, name)(weights=None, input_shape=images.shape[1:], classes=10)
    as_if_trained_for_a_step(model, images)
    layer = model.get_layer(PICKED[name]) if PICKED[name] is not BEFORE_POOLING else before_pooling(model)
    before = attributes(model)

    with no_warnings():
        explanation = Explainer(model)(ProbeSet(images, targets=CLASSES))

    assert attributes(model) == before
    assert explanation.layer == layer.name
    expected_kind = next((kind for family, kind in KINDS.items() if name.startswith(family)), None)
    assert expected_kind in (None, type(layer).__name__)

    maps, outputs = by_hand(model, layer, images)
    assert explanation.maps.shape == (2, 3, *layer.output.shape[1:3])
    assert min(layer.output.shape[1:3]) > 1
    assert np.isfinite(explanation.maps).all()
    np.testing.assert_allclose(explanation.maps, maps, rtol=0, atol=ROUNDING * maps.max())
    spread = np.ptp(maps, axis=(2, 3)) / maps.max(axis=(1, 2, 3))[:, None]
    assert (spread > 0.1).any(axis=1).all(), "a map of each picture tells places apart"

    assert explanation.score_kind == "logit"
    np.testing.assert_allclose(explanation.outputs, outputs, rtol=0, atol=ROUNDING)
    assert outputs.max() < 0.999, "the softmax is not saturated"
    log_probabilities = np.log(explanation.outputs[:, CLASSES])
    differences = explanation.scores - log_probabilities
    np.testing.assert_allclose(differences, differences[:, :1].repeat(3, axis=1), atol=1e-3)
    assert np.ptp(log_probabilities, axis=1).min() > 0.01, "the scores differ"
