"""Peak resident memory of explaining many probes, and what 100 models leave behind. Linux only.

    python benchmarks/memory.py [--probes 256] [--batch-size 16]
    python benchmarks/memory.py --models 100

The first explains 256 probes of 224x224 with ResNet50 in batches of 16 and compares the peak with that of a plain
compiled forward pass in the same batches whose outputs are kept. Each runs in a process of its own, and all make the
images in the same way. A `ProbeSet` keeps a frozen copy of the images, and the pictures as uint8: so the forward pass
is measured without one, and with one built beside it, and the last ratio is about the engine alone. The kernel's
high-water mark is set back before each stage, so that the peak of the run is not hidden by that of making the set.

The second builds, explains and drops 100 different small models in one process, without `clear_session`, and prints the
resident memory after every tenth; beside it that of a process that only runs their compiled forward pass, since Keras
and TensorFlow keep something of every model themselves.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table

MIB = 2**20
SIZE = 224
TARGETS = 3

FORWARD, WITH_PROBES, EXPLAIN = "forward pass", "forward pass, ProbeSet built", "Explainer"
STAGES = ("start", "images", "probe set", "run")


def peak() -> float:
    """The most memory that was resident since the last call, in MiB."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the high-water mark to what is resident now
    return highest


def resident() -> float:
    """The memory that is resident now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MIB


def stage_peaks(kind: str, probe_count: int, batch_size: int) -> dict[str, float]:
    """Runs one of the three, and returns the peak of each stage and what is held before the run, in MiB."""
    import keras
    import tensorflow as tf

    from gradcam_callbacks import Explainer, ProbeSet

    model = keras.applications.ResNet50(weights=None)
    result = {"start": peak()}
    images = np.random.default_rng(0).random((probe_count, SIZE, SIZE, 3), dtype=np.float32)
    result |= {"images": peak(), "images held": images.nbytes / MIB}
    probes = None
    if kind != FORWARD:
        probes = ProbeSet(images, targets=list(range(TARGETS)))
        result |= {"copies held": probes.images.nbytes / MIB, "pictures held": probes.pictures.nbytes / MIB}
    result |= {"probe set": peak(), "before": resident()}
    if kind == EXPLAIN:
        kept: Any = Explainer(model, batch_size=batch_size)(probes)
    else:
        forward = tf.function(lambda batch: model(batch, training=False))
        kept = [
            forward(tf.constant(images[start : start + batch_size])).numpy()
            for start in range(0, probe_count, batch_size)
        ]
    result |= {"run": peak()}
    result |= {"whole": max(result[stage] for stage in STAGES)}
    del kept, probes
    return result


def resident_by_tens(kind: str, models: int) -> list[float]:
    """Builds, runs and drops models of different widths, and returns the resident MiB at first and after every 10."""
    import keras
    import tensorflow as tf

    from gradcam_callbacks import Explainer, ProbeSet

    layers = keras.layers
    images = np.random.default_rng(0).random((8, 64, 64, 3), dtype=np.float32)
    probes = ProbeSet(images, targets=list(range(TARGETS)))

    def once(width: int) -> None:
        model = keras.Sequential(
            [
                keras.Input((64, 64, 3)),
                layers.Conv2D(width, 3, strides=2, activation="relu"),
                layers.BatchNormalization(),
                layers.Conv2D(2 * width, 3, strides=2, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10, activation="softmax"),
            ]
        )
        if kind == EXPLAIN:
            Explainer(model)(probes)
        else:
            tf.function(lambda batch: model(batch, training=False))(tf.constant(images)).numpy()

    once(8)  # what TensorFlow sets up once
    gc.collect()
    memory = [resident()]
    for turn in range(models):
        once(8 + turn)
        if turn % 10 == 9:
            gc.collect()
            memory.append(resident())
    return memory


def in_a_process(*arguments: str) -> Any:
    """What this file prints as JSON in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def print_peaks(probe_count: int, batch_size: int) -> None:
    """Measures the three and prints the table."""
    options = ("--probes", str(probe_count), "--batch-size", str(batch_size))
    results = {kind: in_a_process(kind, *options) for kind in (FORWARD, WITH_PROBES, EXPLAIN)}
    table = Table(title=f"Peak resident MiB, ResNet50, {probe_count} probes of {SIZE}x{SIZE}, batches of {batch_size}")
    table.add_column("what", no_wrap=True)
    for column in ("making the set", "before the run", "the run", "whole process"):
        table.add_column(column, justify="right")
    for kind, result in results.items():
        table.add_row(kind, *(f"{result[stage]:.0f}" for stage in ("probe set", "before", "run", "whole")))
    Console(width=110).print(table)
    explained = results[EXPLAIN]
    for base in (FORWARD, WITH_PROBES):
        run, whole = (explained[stage] / results[base][stage] for stage in ("run", "whole"))
        print(f"{EXPLAIN} / {base}: the run {run:.2f}, the whole process {whole:.2f}")
    print(
        f"The images are {explained['images held']:.0f} MiB. The ProbeSet keeps {explained['copies held']:.0f} MiB of "
        f"images and {explained['pictures held']:.0f} MiB of pictures."
    )


def print_growth(models: int) -> None:
    """Measures both and prints the table."""
    columns = {kind: in_a_process(kind, "--models", str(models)) for kind in (FORWARD, EXPLAIN)}
    table = Table(title=f"Resident MiB while {models} models are built, run and dropped")
    for column in ("models", *columns):
        table.add_column(column, justify="right")
    for position, memory in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(str(10 * position), *(f"{value:.0f}" for value in memory))
    Console(width=100).print(table)
    # From the tenth model on: what is set up once is not growth.
    late = {kind: memory[1:] if len(memory) > 2 else memory for kind, memory in columns.items()}
    growth = {kind: (memory[-1] - memory[0]) * 1024 / (10 * (len(memory) - 1)) for kind, memory in late.items()}
    print("Growth a model: " + ", ".join(f"{kind} {value:.0f} KiB" for kind, value in growth.items()))


def main() -> None:
    """Reads the options and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--models", type=int, help="build and drop so many models (tens) instead")
    parser.add_argument("--child", choices=(FORWARD, WITH_PROBES, EXPLAIN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.models is not None and options.models < 10:
        parser.error("--models is at least 10.")
    if options.child is not None:
        if options.models is not None:
            print(json.dumps(resident_by_tens(options.child, options.models)))
        else:
            print(json.dumps(stage_peaks(options.child, options.probes, options.batch_size)))
    elif options.models is not None:
        print_growth(options.models)
    else:
        print_peaks(options.probes, options.batch_size)


if __name__ == "__main__":
    main()
