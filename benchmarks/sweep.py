"""What it costs to explain a folder of checkpoints, beside the script that everybody writes and beside the floor.

    python benchmarks/sweep.py [--checkpoints 20] [--slow 2]

20 checkpoints of MobileNetV2 at 224 with random weights, 8 probes, 3 targets, all in one run of this script:

- floor: the weights of each loaded into one model, and one compiled forward pass of the probes.
- one process, two processes: `explain_checkpoints`, with its journal on disk and without waiting for MLflow. Two
  processes load TensorFlow and the model twice: with the time that this takes, and without it.
- obvious script: `load_model` and the tutorial's loop for each, of which only --slow are run, and multiplied.

And how long `gradcam --help` takes, the median of 10.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import mlflow
import numpy as np
import tensorflow as tf
from peers import pasted_lines
from rich.console import Console
from rich.table import Table

from gradcam_callbacks import ProbeSet, explain_checkpoints

TARGETS = (0, 1, 2)


def floor(files: list[Path], pictures: np.ndarray) -> float:
    """Seconds."""
    start = time.perf_counter()
    model = keras.saving.load_model(files[0], compile=False)
    forward = tf.function(lambda batch: model(batch, training=False))
    for file in files:
        model.load_weights(file)
        forward(tf.constant(pictures)).numpy()
    return time.perf_counter() - start


def obvious(files: list[Path], pictures: np.ndarray) -> float:
    """Seconds."""
    start = time.perf_counter()
    for file in files:
        model = keras.saving.load_model(file, compile=False)
        pasted_lines(model, pictures, TARGETS, "out_relu")
    return time.perf_counter() - start


def sweep(files: list[Path], probes: ProbeSet, jobs: int) -> tuple[float, float]:
    """Seconds in all, and from the first checkpoint that is done to the last, scaled to all of them."""
    done: list[float] = []
    start = time.perf_counter()
    result = explain_checkpoints(
        files,
        probes,
        jobs=jobs,
        noise_floor=False,
        journal_dir=f"journal-{jobs}",
        flush_timeout=0,
        verbose=False,
        on_checkpoint=lambda checkpoint, problem: done.append(time.perf_counter()),
    )
    whole = done[-1] - start
    assert len(result.recorded) == len(files), result.problems
    settled = [moment for moment in done if moment > done[0] + 1e-3]
    return whole, (done[-1] - done[len(done) - len(settled) - 1]) / len(settled) * len(files)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--slow", type=int, default=2, help="of how many the obvious script is run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        mlflow.set_tracking_uri(f"sqlite:///{temporary}/mlflow.db")
        mlflow.set_experiment("sweep")
        model = keras.applications.MobileNetV2(weights=None)
        files = [Path(f"m-{number:02d}.keras") for number in range(1, options.checkpoints + 1)]
        for file in files:
            weight = model.weights[0]
            weight.assign(weight * 1.01)
            model.save(file)
        pictures = np.random.default_rng(0).random((8, 224, 224, 3), dtype=np.float32)
        probes = ProbeSet(pictures, targets=list(TARGETS))
        base = floor(files, pictures)
        one, one_settled = sweep(files, probes, 1)
        two, two_settled = sweep(files, probes, 2)
        slow = obvious(files[: options.slow], pictures) / options.slow * len(files)
        again = floor(files, pictures)
    table = Table(title=f"{len(files)} checkpoints of MobileNetV2, 8 probes, 3 targets, {os.cpu_count()} cores")
    for column in ("what", "seconds", "/ floor", "/ one process"):
        table.add_column(column, justify="left" if column == "what" else "right")
    base = min(base, again)
    for name, seconds in {
        "floor": base,
        "one process": one,
        "two processes": two,
        "one process, once it runs": one_settled,
        "two processes, once they run": two_settled,
        "obvious script": slow,
    }.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / base:.2f}", f"{seconds / one:.2f}")
    Console(width=100).print(table)
    command = Path(sys.executable).with_name("gradcam")
    print(f"gradcam --help: {statistics.median(seconds_of(command, '--help') for _ in range(10)):.2f} s")


def seconds_of(*command: str | Path) -> float:
    """How long a process takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
