"""What a test of reliance costs at the end of a training, beside the explanation of one epoch.

    pip install '.[test]'
    python benchmarks/reliance.py [--rounds 5]

MobileNetV2 at 224 x 224 with random weights below and a head that is fitted to the probes, so that all of its answers
are right, and EfficientNet-Lite0 with its real weights; on eight crops of four of scikit-image's photographs, two each,
with and without a region. One test and one explanation follow each other in each round; medians of seconds, and how
many pictures went through the model.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import keras
import numpy as np
from PIL import Image
from skimage import data
from support.efficientnet_lite import efficientnet_lite0, preprocess

from gradcam_callbacks import Explainer, ProbeSet, measure_reliance

Array = np.ndarray[Any, np.dtype[Any]]

SIDE = 224


def main() -> None:
    """Measures both networks, with and without regions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    pictures = crops()
    labels = np.repeat(np.arange(4), 2)
    region = (SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4)
    print(f"{'network':<18}{'regions':<9}{'passes':>7}{'test, s':>9}{'explanation, s':>16}{'ratio':>7}")
    for name, (model, scale) in networks(pictures, labels).items():
        answers = model.predict(scale(pictures), verbose=0).argmax(axis=1)
        explainer = Explainer(model)
        for regions in (None, [region] * len(pictures)):
            probes = ProbeSet(
                scale(pictures), pictures=pictures, labels=answers, targets=["label", "predicted"], regions=regions
            )
            explainer(probes)
            passes = measure_reliance(explainer, probes).passes
            seconds: dict[str, list[float]] = {"test": [], "explanation": []}
            for _ in range(rounds):
                for what, work in (("test", measure_reliance), ("explanation", Explainer.__call__)):
                    start = time.perf_counter()
                    work(explainer, probes)
                    seconds[what].append(time.perf_counter() - start)
            test, explanation = (median(seconds[what]) for what in ("test", "explanation"))
            has = "no" if regions is None else "yes"
            print(f"{name:<18}{has:<9}{passes:>7}{test:>9.2f}{explanation:>16.3f}{test / explanation:>7.0f}")


def crops() -> Array:
    """(8, 224, 224, 3) uint8: two crops of each of four photographs."""
    rng = np.random.default_rng(0)
    found = []
    for photograph in (data.chelsea(), data.coffee(), data.rocket(), data.astronaut()):
        for _ in range(2):
            side = int(0.9 * min(photograph.shape[:2]))
            y, x = (int(rng.integers(0, size - side + 1)) for size in photograph.shape[:2])
            crop = Image.fromarray(photograph[y : y + side, x : x + side])
            found.append(np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return np.stack(found)


def networks(pictures: Array, labels: Array) -> dict[str, tuple[keras.Model, Any]]:
    """By name the network, and what makes of pictures what it is fed."""
    keras.utils.set_random_seed(0)
    mobile_scale = keras.applications.mobilenet_v2.preprocess_input
    body = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3))
    mobile = keras.Sequential([body, keras.layers.Dense(4, activation="softmax")])
    mobile.build((None, SIDE, SIDE, 3))
    features = body.predict(mobile_scale(pictures.astype(np.float32)), verbose=0)
    features = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    weights, *_ = np.linalg.lstsq(features, 10 * np.eye(4)[labels], rcond=None)
    mobile.layers[-1].set_weights([weights[:-1], weights[-1]])
    return {
        "MobileNetV2": (mobile, lambda images: mobile_scale(images.astype(np.float32))),
        "EfficientNet-Lite0": (efficientnet_lite0(), preprocess),
    }


if __name__ == "__main__":
    main()
