"""Milliseconds for the maps of many targets, and their ratio to a plain compiled forward pass of the same pictures.

    python benchmarks/heatmaps.py [--rounds 20]
    python benchmarks/heatmaps.py --against CHECKOUT [--rounds 5]

Forward pass and maps take turns in every round, so that noise of the machine hits both; the ratio is the median of the
rounds' ratios. Preparation is what comes once, before the first map: the trace. With `--against` only that is measured,
of this checkout and another one: their processes take turns. Random weights: what they are does not change the time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


def preparation(model: keras.Model, times: int = 3) -> float:
    """Median seconds from a new explainer to its traced graph; the first one, which warms up, is left out."""
    picture = np.random.default_rng(0).random((1, *model.input_shape[1:]), dtype=np.float32)
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        Explainer(model).prepare(picture)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def side_by_side(other: Path, rounds: int) -> Table:
    """The seconds of preparation in this checkout and in another one, a process each, medians of the rounds."""
    checkouts = {"this checkout": Path(__file__).parents[1], str(other): other.resolve()}
    table = Table("model", *checkouts, "ratio", title=f"Seconds of preparation, medians of {rounds} rounds")
    for name in MODELS:
        seconds: dict[str, list[float]] = {side: [] for side in checkouts}
        for _ in range(rounds):
            for side, checkout in checkouts.items():
                command = [sys.executable, __file__, "--prepare", name]
                environment = {**os.environ, "PYTHONPATH": str(checkout)}
                run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                seconds[side].append(float(run.stdout.split()[-1]))
        here, there = np.array(list(seconds.values()))
        table.add_row(name, f"{np.median(here):.2f} s", f"{np.median(there):.2f} s", f"{np.median(here / there):.2f}")
    return table


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
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare the preparation with this one's")
    parser.add_argument("--prepare", choices=MODELS, help="print the seconds of one model's preparation, and no table")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    if arguments.prepare:
        print(preparation(MODELS[arguments.prepare]()))
        return
    if arguments.against:
        Console(width=100).print(side_by_side(arguments.against, rounds))
        return
    table = Table(title=f"Ratio of the maps to a forward pass, medians of {rounds} rounds")
    table.add_column("model")
    table.add_column("preparation", justify="right")
    for count, targets in SIZES:
        table.add_column(f"N={count}\nK={targets}", justify="right")
    for name, build in MODELS.items():
        model = build()
        seconds, results = preparation(model), measure(model, rounds)
        table.add_row(f"{name}, forward pass", "", *(f"{plain:.0f} ms" for plain, _, _ in results.values()))
        table.add_row("maps", f"{seconds:.2f} s", *(f"{maps:.0f} ms" for _, maps, _ in results.values()))
        table.add_row("ratio", "", *(f"{ratio:.2f}" for _, _, ratio in results.values()), end_section=True)
        keras.backend.clear_session()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
