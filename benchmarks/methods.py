"""How faithful each CAM method is, on a real network and real photographs, and what it costs.

    pip install '.[test]' && python benchmarks/methods.py

EfficientNet-Lite0 with its ImageNet weights; a cat, an espresso and both side by side, each asked for the cat and for
the espresso. `evaluate` measures all methods on the same pictures; the time is that of the maps alone, as a ratio to a
plain compiled forward pass, the median of 5 rounds (of one for Score-CAM).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.photographs import EGYPTIAN_CAT, ESPRESSO, cat, cat_beside_espresso, espresso

from gradcam_callbacks import Explainer, ProbeSet, evaluate
from gradcam_callbacks.explaining.methods import METHODS, masks

ROUNDS = 5


def main() -> None:
    """Prints the table."""
    network = efficientnet_lite0()
    pictures = np.stack([cat(), espresso(), cat_beside_espresso()])
    probes = ProbeSet(pictures, targets=[EGYPTIAN_CAT, ESPRESSO], preprocess=preprocess)
    forward = tf.function(lambda batch: network(batch, training=False))
    batch = tf.constant(probes.images)
    table = Table(title=f"{len(probes)} pictures x {len(probes.targets)} targets")
    columns = ("method", "average drop", "increase", "insertion", "deletion", "randomised", "forward passes")
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, function in METHODS.items():
        cheap = not masks(function)  # else 82 times a thousand forward passes, which is too much
        explainer = Explainer(network, method=method)
        ratios = []
        for turn in range(ROUNDS + 1 if cheap else 2):
            start = time.perf_counter()
            forward(batch).numpy()
            middle = time.perf_counter()
            explainer(probes)
            if turn:
                ratios.append((time.perf_counter() - middle) / (middle - start))
        result = evaluate(explainer, probes, steps=28, randomise=cheap)
        table.add_row(
            method,
            f"{result.average_drop:.3f}",
            f"{result.increase_rate:.2f}",
            f"{result.mean_insertion:.3f}",
            f"{result.mean_deletion:.3f}",
            f"{result.sanity:.2f}" if cheap else "not run",
            f"{np.median(ratios):.2f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
