"""What it costs to explain a folder of checkpoints, beside the script that everybody writes and beside the floor.

    python benchmarks/sweep.py [--checkpoints 20 40] [--against CHECKOUT] [--slow 2]

Checkpoints of MobileNetV2 at 224 with random weights, 8 probes, 3 targets, all in one run of this script. Each row is a
process of its own, whose time counts from its start, with all that it loads:

- floor: the weights of each loaded into one model by Keras, and one compiled forward pass of the probes.
- one process, two processes: `explain_checkpoints`, with its journal on disk and without waiting for MLflow.
- obvious script: `load_model` and the tutorial's loop for each, of which only --slow are run, and multiplied.

"Once it runs" is the time from a tenth of the checkpoints on, for one of them. With `--against`, the sweeps of another
checkout of this project are measured too, each right after ours. And how long `gradcam --help` takes, the median of 10.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table

TARGETS = (0, 1, 2)
HERE = Path(__file__).resolve().parent.parent


def pictures() -> np.ndarray:
    """What is explained: (8, 224, 224, 3)."""
    return np.random.default_rng(0).random((8, 224, 224, 3), dtype=np.float32)


# ---- What a process of its own does; it calls `told` after each checkpoint ----


def floor(files: list[Path], told: Callable[[], None]) -> None:
    """Loads the weights, and predicts."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(files[0], compile=False)
    forward = tf.function(lambda batch: model(batch, training=False))
    batch = tf.constant(pictures())
    for file in files:
        model.load_weights(file)
        forward(batch).numpy()
        told()


def obvious(files: list[Path], told: Callable[[], None]) -> None:
    """Loads the model, and runs the tutorial's loop."""
    import keras
    from peers import pasted_lines

    for file in files:
        model = keras.saving.load_model(file, compile=False)
        pasted_lines(model, pictures(), TARGETS, "out_relu")
        told()


def sweep(files: list[Path], told: Callable[[], None], jobs: int) -> None:
    """Explains, and records."""
    from gradcam_callbacks import ProbeSet, explain_checkpoints

    result = explain_checkpoints(
        files,
        ProbeSet(pictures(), targets=list(TARGETS)),
        jobs=jobs,
        noise_floor=False,
        reliance=False,
        journal_dir=tempfile.mkdtemp(dir="."),
        flush_timeout=0,
        verbose=False,
        on_checkpoint=lambda checkpoint, problem: told(),
    )
    assert len(result.recorded) == len(files), result.problems


WAYS: dict[str, Callable[[list[Path], Callable[[], None]], None]] = {
    "floor": floor,
    "one process": lambda files, told: sweep(files, told, 1),
    "two processes": lambda files, told: sweep(files, told, 2),
    "obvious script": obvious,
}


# ---- The script ----


def measured(way: str, count: int, checkout: Path) -> tuple[float, float]:
    """Seconds in all, and for one checkpoint once it runs."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--measure", way, "--checkpoints", str(count)]
    start = time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    moments = json.loads(done.stdout.splitlines()[-1])
    early = count // 10
    return moments[-1] - start, (moments[-1] - moments[early]) / max(1, count - 1 - early)


def make(count: int) -> None:
    """The checkpoints, and MLflow's store."""
    import keras
    import mlflow

    mlflow.set_experiment("sweep")
    model = keras.applications.MobileNetV2(weights=None)
    for number in range(1, count + 1):
        weight = model.weights[0]
        weight.assign(weight * 1.01)
        model.save(f"m-{number:02d}.keras")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[20, 40])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measure the sweeps of this one, too")
    parser.add_argument("--slow", type=int, default=2, help="of how many the obvious script is run; 0 leaves it out")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.measure:
        moments: list[float] = []
        files = [Path(f"m-{number:02d}.keras") for number in range(1, options.checkpoints[0] + 1)]
        WAYS[options.measure](files, lambda: moments.append(time.time()))
        print(json.dumps(moments))
        return
    checkouts = {"": HERE} | ({} if options.against is None else {", before": options.against.resolve()})
    table = Table(title=f"MobileNetV2, 8 probes, 3 targets, {os.cpu_count()} cores")
    for column in ("checkpoints", "what", "s in all", "/ floor", "/ one process", "ms once it runs"):
        table.add_column(column, justify="left" if column == "what" else "right")
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{temporary}/mlflow.db"
        make(max(options.checkpoints))
        for count in options.checkpoints:
            found = {"floor": measured("floor", count, HERE)}
            for way in ("one process", "two processes"):
                for name, checkout in checkouts.items():
                    found[f"{way}{name}"] = measured(way, count, checkout)
            if options.slow and count == options.checkpoints[0]:
                whole, each = measured("obvious script", options.slow, HERE)
                found["obvious script"] = whole + each * (count - options.slow), each
            for name, (whole, each) in found.items():
                one = found["one process" + ", before" * name.endswith("before")][0]
                ratios = f"{whole / found['floor'][0]:.2f}", f"{whole / one:.2f}"
                table.add_row(str(count), name, f"{whole:.1f}", *ratios, f"{1000 * each:.0f}")
            table.add_section()
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
