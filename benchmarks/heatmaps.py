"""Milliseconds for the maps of many targets, and their ratio to a plain compiled forward pass of the same pictures.

    python benchmarks/heatmaps.py [--engines tensorflow jax] [--rounds 20] [--models "ResNet50 224"] [--processor]
    python benchmarks/heatmaps.py --against CHECKOUT [--rounds 5]

A process for each engine of Keras that is installed, one after the other. The forward pass is compiled as people do it
there: by `tf.function`, by `jax.jit`. Forward pass and maps take turns in every round, so that noise of the machine
hits both; the ratio is the median of the rounds' ratios. Two things come once, before the first map: the trace, in
which the model is read; and the compilation, which is how much longer the first maps of 8 pictures for 3 targets take
than the next ones. With `--processor` the processors' own time is counted, which holds also on a machine that has other
things to do. With `--against` only the trace is measured, of this checkout and another one: their processes take
turns. Random weights: what they are does not change the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from forward_pass import compiled
from rich.console import Console
from rich.table import Table

from gradcam_callbacks import Explainer, ProbeSet

MODELS: dict[str, Callable[[], keras.Model]] = {
    "MobileNetV2 224": lambda: keras.applications.MobileNetV2(weights=None),
    "ResNet50 224": lambda: keras.applications.ResNet50(weights=None),
    "Xception 299": lambda: keras.applications.Xception(weights=None),
}
ENGINES = {"tensorflow": "TensorFlow", "jax": "JAX"}
# How many pictures, and how many targets of each.
SIZES = ((8, 1), (8, 3), (8, 10), (1, 1), (1, 100), (1, 1000))
COMPILED = (8, 3)
"""Of which of these the compilation is told."""


def trace(model: keras.Model, clock: Callable[[], float] = time.perf_counter, times: int = 3) -> float:
    """Median seconds from a new explainer to its traced graph; the first one, which warms up, is left out."""
    picture = np.random.default_rng(0).random((1, *model.input_shape[1:]), dtype=np.float32)
    seconds = []
    for _ in range(times + 1):
        start = clock()
        Explainer(model).prepare(picture)
        seconds.append(clock() - start)
    return float(np.median(seconds[1:]))


def side_by_side(other: Path, rounds: int) -> Table:
    """The seconds of the trace in this checkout and in another one, a process each, medians of the rounds."""
    checkouts = {"this checkout": Path(__file__).parents[1], str(other): other.resolve()}
    table = Table("model", *checkouts, "ratio", title=f"Seconds of the trace, medians of {rounds} rounds")
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


def measure(model: keras.Model, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Seconds of the trace and of the compilation, and for each size what `SIZES` says it is.

    Of each size the median milliseconds of a forward pass and of the maps, and the median of the rounds' ratios.
    """
    pictures = np.random.default_rng(0).random((8, *model.input_shape[1:]), dtype=np.float32)
    forward = compiled(model)
    found: dict[str, Any] = {"trace": trace(model, clock), "sizes": []}
    explainer = Explainer(model)
    explainer.prepare(pictures)
    for count, targets in sorted(SIZES, key=lambda size: size != COMPILED):
        batch, probes = pictures[:count], ProbeSet(pictures[:count], targets=list(range(targets)))
        timings = []
        for _ in range(rounds + 2):
            start = clock()
            forward(batch)
            middle = clock()
            explainer(probes)
            timings.append((1000 * (middle - start), 1000 * (clock() - middle)))
        plain, maps = np.array(timings[2:]).T  # the first two compile and warm up
        if (count, targets) == COMPILED:
            found["compilation"] = (timings[0][1] - float(np.median(maps))) / 1000
        numbers = (float(np.median(plain)), float(np.median(maps)), float(np.median(maps / plain)))
        found["sizes"].append((count, targets, numbers))
    assert explainer.traces == 1
    return found


def of_engine(engine: str, models: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """For each model what `measure` gives, in a process that runs on this engine."""
    command = [sys.executable, __file__, "--here", *options, "--models", *models]
    environment = {**os.environ, "KERAS_BACKEND": engine}
    run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=[name for name in ENGINES if find_spec(name)])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--processor", action="store_true", help="count the seconds that processors work, not the clock's"
    )
    parser.add_argument("--here", action="store_true", help="print the numbers of this process's engine, and no table")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare the trace with this one's")
    parser.add_argument("--prepare", choices=MODELS, help="print the seconds of one model's trace, and no table")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    clock = time.process_time if arguments.processor else time.perf_counter
    if arguments.prepare:
        print(trace(MODELS[arguments.prepare]()))
        return
    if arguments.here:
        print(json.dumps({name: measure(MODELS[name](), rounds, clock) for name in arguments.models}))
        return
    if arguments.against:
        Console(width=100).print(side_by_side(arguments.against, rounds))
        return
    options = ["--rounds", str(rounds), *(["--processor"] if arguments.processor else [])]
    table = Table(title=f"Ratio of the maps to a forward pass, medians of {rounds} rounds")
    table.add_column("model")
    for name in ("trace", "compilation", *(f"N={count}\nK={targets}" for count, targets in SIZES)):
        table.add_column(name, justify="right")
    for engine in arguments.engines:
        for name, found in of_engine(engine, arguments.models, options).items():
            sizes = {(count, targets): numbers for count, targets, numbers in found["sizes"]}
            plain, maps, ratios = zip(*(sizes[size] for size in SIZES), strict=True)
            table.add_row(f"{name}, {ENGINES[engine]}", "", "", *(f"{each:.0f} ms" for each in plain))
            once = (f"{found[what]:.2f} s" for what in ("trace", "compilation"))
            table.add_row("maps", *once, *(f"{each:.0f} ms" for each in maps))
            table.add_row("ratio", "", "", *(f"{each:.2f}" for each in ratios), end_section=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
