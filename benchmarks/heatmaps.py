"""Milliseconds for the maps of many targets, and their ratio to a plain compiled forward pass of the same pictures.

    python benchmarks/heatmaps.py [--rounds 20]

Forward pass and maps take turns in every round, so that noise of the machine hits both; the ratio is the median of the
rounds' ratios. Random weights: what they are does not change the time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from gradcam_callbacks import Explainer, ProbeSet

MODELS: dict[str, Callable[[], keras.Model]] = {
    "MobileNetV2 224": lambda: keras.applications.MobileNetV2(weights=None),
    "ResNet50 224": lambda: keras.applications.ResNet50(weights=None),
    "Xception 299": lambda: keras.applications.Xception(weights=None),
}
# How many pictures, and how many targets of each.
SIZES = ((8, 1), (8, 3), (8, 10), (1, 1), (1, 100), (1, 1000))


def measure(model: keras.Model, rounds: int) -> dict[tuple[int, int], tuple[float, float, float]]:
    """For each size the median milliseconds of a forward pass and of the maps, and the median of the rounds' ratios."""
    pictures = np.random.default_rng(0).random((8, *model.input_shape[1:]), dtype=np.float32)
    forward = tf.function(lambda batch: model(batch, training=False))
    explainer = Explainer(model)
    results = {}
    for count, targets in SIZES:
        batch, probes = tf.constant(pictures[:count]), ProbeSet(pictures[:count], targets=list(range(targets)))
        timings = []
        for turn in range(rounds + 2):
            start = time.perf_counter()
            forward(batch).numpy()
            middle = time.perf_counter()
            explainer(probes)
            if turn >= 2:  # the first two trace and warm up
                timings.append((1000 * (middle - start), 1000 * (time.perf_counter() - middle)))
        plain, maps = np.array(timings).T
        results[count, targets] = (float(np.median(plain)), float(np.median(maps)), float(np.median(maps / plain)))
    assert explainer.traces == 1
    return results


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    table = Table(title=f"Ratio of the maps to a forward pass, medians of {rounds} rounds")
    table.add_column("model")
    for count, targets in SIZES:
        table.add_column(f"N={count}\nK={targets}", justify="right")
    for name, build in MODELS.items():
        results = measure(build(), rounds)
        table.add_row(f"{name}, forward pass", *(f"{plain:.0f} ms" for plain, _, _ in results.values()))
        table.add_row("maps", *(f"{maps:.0f} ms" for _, maps, _ in results.values()))
        table.add_row("ratio", *(f"{ratio:.2f}" for _, _, ratio in results.values()), end_section=True)
        keras.backend.clear_session()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
