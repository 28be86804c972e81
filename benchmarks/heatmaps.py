"""Milliseconds for the maps of 8 probes, and their ratio to a plain compiled forward pass of the same batch.

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
TARGETS = (1, 3, 10)
PROBES = 8


def measure(model: keras.Model, rounds: int) -> tuple[float, dict[int, tuple[float, float]]]:
    """The median milliseconds of a forward pass, and for each number of targets those of the maps and the ratio."""
    images = np.random.default_rng(0).random((PROBES, *model.input_shape[1:]), dtype=np.float32)
    forward = tf.function(lambda batch: model(batch, training=False))
    batch = tf.constant(images)
    explainers = {k: (Explainer(model), ProbeSet(images, targets=list(range(k)))) for k in TARGETS}
    timings: dict[int, list[float]] = {k: [] for k in (0, *TARGETS)}
    for turn in range(rounds + 2):
        for k in timings:
            start = time.perf_counter()
            if k == 0:
                forward(batch).numpy()
            else:
                explainer, probes = explainers[k]
                explainer(probes)
            if turn >= 2:  # the first two trace and warm up
                timings[k].append(1000 * (time.perf_counter() - start))
    base = np.array(timings[0])
    return float(np.median(base)), {
        k: (float(np.median(timings[k])), float(np.median(np.array(timings[k]) / base))) for k in TARGETS
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    table = Table(title=f"{PROBES} probes, medians of {rounds} rounds")
    for column in ("model", "forward", *(f"K={k}" for k in TARGETS)):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, build in MODELS.items():
        base, results = measure(build(), rounds)
        table.add_row(name, f"{base:.0f} ms", *(f"{ms:.0f} ms  ({ratio:.2f})" for ms, ratio in results.values()))
        keras.backend.clear_session()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
