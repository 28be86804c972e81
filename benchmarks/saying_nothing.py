"""What tells maps that say nothing from true ones: networks that are well, beside networks that are broken.

    pip install '.[test]' && python benchmarks/saying_nothing.py

For each network, over all its probes and targets: how far the lowest place of a map lies below the highest, as a share
of the highest (the least, the 5th percentile and the median; `explaining/health.py` calls a map flat below 5 %); how
much scores and maps differ between probes, the larger of the two for the target where that is least
(`reviewing/events.py` calls it constant below 1 %); and how many maps are no less even than noise moves them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keras
import numpy as np
import skimage.data
from keras import layers
from PIL import Image
from rich.console import Console
from rich.table import Table
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.photographs import EGYPTIAN_CAT, ESPRESSO, cat, cat_beside_espresso, crops, espresso

from gradcam_callbacks import Explainer, ProbeSet
from gradcam_callbacks.demo import pictures as drawn
from gradcam_callbacks.reviewing import drift

WHOLE = np.stack([cat(), espresso(), cat_beside_espresso()])
PHOTOGRAPHS = np.concatenate([WHOLE, crops(skimage.data.cat(), 4, 0), crops(skimage.data.coffee(), 4, 1)])
CLASSES = [EGYPTIAN_CAT, ESPRESSO, 1, 500]
RANDOM = ("MobileNetV2", "ResNet50V2", "DenseNet121", "VGG16", "NASNetMobile", "EfficientNetV2B0")


def main() -> None:
    """Prints the table."""
    table = Table(title="Maps and scores of networks that are well, and of broken ones")
    for column in ("network", "grid", "spread: least", "5th percentile", "median", "between probes", "within noise"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, network, probes in networks():
        table.add_row(name, *measured(network, probes))
    Console(width=130).print(table)


def measured(network: keras.Model, probes: ProbeSet) -> tuple[str, ...]:
    """A row of the table."""
    explainer, jittered = Explainer(network), probes.jittered()
    explanation = explainer(probes)
    maps, scores = explanation.maps, explanation.scores
    highest, lowest = maps.max(axis=(2, 3)), maps.min(axis=(2, 3))
    spreads = (highest - lowest)[highest > 0] / highest[highest > 0]
    noise = drift.drift(explainer(jittered).maps, maps)
    told = [f"{value:.3f}" for value in np.percentile(spreads, [0, 5, 50])] if spreads.size else ["", "all empty", ""]
    apart = [
        max(np.ptp(score) / np.abs(score).max(), _apart(maps[:, k])) for k, score in enumerate(np.transpose(scores))
    ]
    within = f"{(drift.unevenness(maps) <= noise).sum()} of {np.isfinite(noise).sum()}"
    return "x".join(map(str, maps.shape[2:])), *told, f"{min(apart):.1e}", within


def _apart(maps: np.ndarray[Any, Any]) -> float:
    """The largest share of the attention by which a map (M, h, w) differs from their mean; 1 where some are zero."""
    totals = maps.sum(axis=(1, 2))
    if not totals.all():
        return float(totals.any())
    mean = (maps / totals[:, None, None]).mean(axis=0)
    return float(drift.drift(maps[:, None], np.broadcast_to(mean, maps.shape)[:, None]).max())


def networks() -> Iterator[tuple[str, keras.Model, ProbeSet]]:
    """Names, networks and their probes; first those that are well."""
    yield from trained_on_imagenet()
    for name in RANDOM:
        keras.utils.set_random_seed(0)
        prepare = getattr(keras.applications, _module_of(name)).preprocess_input
        network = getattr(keras.applications, name)(weights=None)
        yield f"{name}, random weights", network, ProbeSet(PHOTOGRAPHS, targets=[0, 1, 2, 3], preprocess=prepare)
    yield from small_ones()
    yield from broken()


def trained_on_imagenet() -> Iterator[tuple[str, keras.Model, ProbeSet]]:
    """EfficientNet-Lite0, as it is and on tiny pictures."""
    network = efficientnet_lite0()
    yield "EfficientNet-Lite0, ImageNet", network, ProbeSet(PHOTOGRAPHS, targets=CLASSES, preprocess=preprocess)
    tiny = keras.models.clone_model(network, input_tensors=keras.Input((64, 64, 3)))
    tiny.set_weights(network.get_weights())
    yield "… at 64 x 64", tiny, ProbeSet(_resized(PHOTOGRAPHS, 64), targets=CLASSES, preprocess=preprocess)


def small_ones() -> Iterator[tuple[str, keras.Model, ProbeSet]]:
    """Convolutional networks of three blocks on the demo's pictures, before the training and after each epoch."""
    images, labels, _ = drawn.make_pictures(512, seed=0, watermark=False)
    images = _resized(images, 64)
    for activation in ("relu", "swish", "sigmoid"):
        for pooling in (layers.GlobalAveragePooling2D, layers.Flatten):
            keras.utils.set_random_seed(1)
            blocks = [
                part
                for filters in (16, 32, 64)
                for part in (
                    layers.Conv2D(filters, 3, padding="same"),
                    layers.BatchNormalization(momentum=0.9),
                    layers.Activation(activation),
                    layers.MaxPooling2D(),
                )
            ]
            rest = [layers.Rescaling(1 / 255), *blocks, pooling(), layers.Dense(4, activation="softmax")]
            network = keras.Sequential([keras.Input((64, 64, 3)), *rest])
            network.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
            probes = ProbeSet(images[:8], targets=[0, 1, 2, 3])
            name = f"small, {activation}, {pooling.__name__}"
            yield f"{name}, untrained", network, probes
            for epoch in range(3):
                network.fit(images, labels, batch_size=16, verbose=0)
                yield f"{name}, epoch {epoch}", network, probes


def broken() -> Iterator[tuple[str, keras.Model, ProbeSet]]:
    """Networks that ignore their input, or get none."""
    network = efficientnet_lite0()
    probes = ProbeSet(PHOTOGRAPHS, targets=CLASSES, preprocess=preprocess)
    first = next(layer for layer in network.layers if isinstance(layer, layers.BatchNormalization))
    variance = first.moving_variance.numpy()
    for factor in (1e6, 1e8, 1e10):
        first.moving_variance.assign(variance * factor)
        yield f"BROKEN: moving variance times {factor:.0e}", network, probes
    one_value = ProbeSet(PHOTOGRAPHS, targets=CLASSES, preprocess=lambda x: np.full_like(x, -1))
    yield "BROKEN: all pictures become one value", efficientnet_lite0(), one_value
    images, labels, _ = drawn.make_pictures(256, seed=0, watermark=False)
    for size in (96, 160):
        keras.utils.set_random_seed(0)
        base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(size, size, 3))
        inside = [layers.Rescaling(1 / 127.5, offset=-1), base, layers.GlobalAveragePooling2D(), layers.Dense(4)]
        network = keras.Sequential([keras.Input((size, size, 3)), *inside])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile(keras.optimizers.Adam(1e-3), loss)
        resized = _resized(images, size)
        for epoch in range(3):  # its batch-normalisation statistics need thousands of batches to follow
            network.fit(resized, labels, batch_size=16, verbose=0)
            yield f"BROKEN: MobileNetV2 {size}, epoch {epoch}", network, ProbeSet(resized[:8], targets=[0, 1, 2, 3])


def _module_of(name: str) -> str:
    known = {"MobileNetV2": "mobilenet_v2", "ResNet50V2": "resnet_v2", "DenseNet121": "densenet", "VGG16": "vgg16"}
    return (known | {"NASNetMobile": "nasnet", "EfficientNetV2B0": "efficientnet_v2"})[name]


def _resized(images: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])


if __name__ == "__main__":
    main()
