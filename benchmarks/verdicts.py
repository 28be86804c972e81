"""How often a verdict is right: trainings with planted shortcuts, and the truth measured by what the networks do.

    pip install '.[test]'
    python benchmarks/verdicts.py train [--pilot] [--seeds 0:4] [--only pictures=drawn,network=small] [--jobs 2]
    python benchmarks/verdicts.py judge [--seeds 0:4] [--jobs 2]
    python benchmarks/verdicts.py odds [--picture verdicts.png]

Each training learns four classes from pictures that may carry a mark that has nothing to do with what they show:

- pictures: drawn, disks, cutouts, crops (`planted/pictures.py`); networks: small, from scratch, and lite0, EfficientNet
  with its ImageNet weights (`planted/networks.py`);
- marks: a logo in a corner, a patch at a random place, a frame, a tint of the background, a fine texture over
  everything, a glyph inside the object (`planted/marks.py`);
- arms: no mark; the mark on a random half of all pictures; the mark on 20, 60 or 100 % of the pictures of one class.

Where the objects are so easy that a network learns no mark (lite0, and crops), three in ten training pictures have a
random label, in all arms, and the mark goes by the label. Validation pictures and probes have the right ones.

The truth is not what was planted but what the network does: its *reliance* is the share of the validation pictures of
other classes, without the mark and not answered as the marked class, that turn into the marked class when the mark is
added. Where no class was marked it is the highest of these shares over the classes: a network that does not rely on the
mark turns into none of them. It is measured after each epoch.

`train` keeps each training in one file in the working folder (`--work`) with its probes, its weights after each epoch
and its reliance, and trains none again that is there. Thresholds were chosen on seeds 0 and 2. Seed 1 was looked at
once, with two false alarms, and the rule was tightened for what they showed. What is reported comes from the odd seeds
from 3 on, which nobody has looked at before; even and odd seeds have pictures of their own, and each seed weights and
looks of the marks. `judge` writes what each rule says to `verdicts.jsonl` in the working folder (`planted/judging.py`).
`odds` says how many of the trainings with reliance of at least 0.5 each rule finds, how many of those with at most 0.1
it accuses, each with its exact 95 % interval, and how many epochs the alarm came after the reliance.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process is one thread

import numpy as np
from planted import marks, odds, training
from planted.pictures import KINDS
from planted.training import Settings
from rich.console import Console
from rich.table import Table

NETWORKS = {"small": tuple(KINDS), "lite0": ("drawn", "cutouts", "crops")}
"""Which pictures each network learns from."""

REPORTED = range(3, 1000, 2)
"""The seeds that were not looked at while the rules were made."""

WORK = Path(tempfile.gettempdir()) / "gradcam_verdicts"


def main() -> None:
    """Trains, or says the odds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "truth", "judge", "odds"), help="truth: what the trainings rely on")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of pictures, trainings and verdicts")
    parser.add_argument("--seeds", default="0:4", metavar="A:B", help="seeds A to B - 1")
    parser.add_argument("--only", default="", help="such as pictures=drawn,pictures=disks,arm=none")
    parser.add_argument("--pilot", action="store_true", help="one even seed of the small network on drawn and disks")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--rules", default="ours,edges,untrained", help="without the last two it takes half the time")
    parser.add_argument("--picture", type=Path, help="file of the picture of the odds")
    arguments = parser.parse_args()
    console = Console(width=150)
    first, last = (0, 1) if arguments.pilot else map(int, arguments.seeds.split(":"))
    only = arguments.only + (",pictures=drawn,pictures=disks,network=small" if arguments.pilot else "")
    wanted = [settings for settings in grid(range(first, last)) if matches(settings, only)]
    if arguments.what == "train":
        train(wanted, arguments.work, arguments.jobs)
    if arguments.what == "judge":
        judge(wanted, arguments.work, arguments.jobs, arguments.rules.split(","))
    elif arguments.what in ("train", "truth"):
        console.print(truth_table(finished(wanted, arguments.work)))
    else:
        judged = odds.read(arguments.work, [settings for settings in wanted if settings.seed in REPORTED])
        for table in odds.tables(judged):
            console.print(table)
        if arguments.picture:
            odds.picture(judged, arguments.picture)


def grid(seeds: Iterable[int]) -> Iterator[Settings]:
    """All trainings of some seeds; those that share pictures, network, seed and mark stand together."""
    for seed in seeds:
        for network, kinds in NETWORKS.items():
            for kind in kinds:
                for number, mark in enumerate(marks.MARKS):
                    for arm in training.ARMS:
                        if arm != "half" or (number + seed // 2) % 2 == 0:  # every other mark, by turns
                            yield Settings(kind, network, mark, arm, seed)


def matches(settings: Settings, only: str) -> bool:
    """Whether settings have the values of `only`, such as "pictures=drawn,network=small"; any of those of one name."""
    values = asdict(settings)
    asked: dict[str, set[str]] = {}
    for pair in filter(None, only.split(",")):
        name, _, value = pair.partition("=")
        asked.setdefault(name, set()).add(value)
    return all(str(values[name]) in allowed for name, allowed in asked.items())


def train(wanted: list[Settings], work: Path, jobs: int) -> None:
    """Trains what is not in the working folder yet, `jobs` processes side by side."""
    missing = [settings for settings in wanted if not training.path(settings, work).exists()]
    together = groupby(
        missing, key=lambda settings: (settings.pictures, settings.network, settings.seed, settings.mark)
    )
    groups = [list(group) for _, group in together]
    started, done = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        for future in as_completed([pool.submit(_train_all, group, work) for group in groups]):
            done += future.result()
            seconds = time.monotonic() - started
            print(f"{done} of {len(missing)} trainings, {seconds / done:.1f} s each", file=sys.stderr, flush=True)


def judge(wanted: list[Settings], work: Path, jobs: int, rules: Sequence[str]) -> None:
    """Lets each rule judge the trainings that it has not judged yet, `jobs` processes side by side."""
    judged = work / "verdicts.jsonl"
    known = {json.loads(line)["training"] for line in judged.read_text().splitlines()} if judged.exists() else set()
    missing = [each for each in wanted if each.name not in known and training.path(each, work).exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool, judged.open("a") as file:
        futures = [pool.submit(_judged, settings, work, rules) for settings in missing]
        for done, future in enumerate(as_completed(futures), start=1):
            file.write("".join(f"{line}\n" for line in future.result()))
            file.flush()
            print(f"{done} of {len(missing)} trainings are judged", file=sys.stderr, flush=True)


def _judged(settings: Settings, work: Path, rules: Sequence[str]) -> list[str]:
    from planted import judging

    return list(judging.judge(settings, work, rules))


def _one_thread() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _train_all(group: list[Settings], work: Path) -> int:
    for settings in group:
        training.train(settings, work)
    return len(group)


def finished(wanted: list[Settings], work: Path) -> list[training.Training]:
    """Those of the trainings that are in the working folder."""
    paths = (training.path(settings, work) for settings in wanted)
    return [training.load(path) for path in paths if path.exists()]


def truth_table(trainings: list[training.Training]) -> Table:
    """Accuracy and reliance by pictures, network, mark and arm."""
    table = Table(title="What the trainings rely on: median reliance, and how many have ≥ 0.5 and ≤ 0.1")
    for column in (
        "pictures",
        "network",
        "mark",
        "arm",
        "trainings",
        "accuracy",
        "unmarked",
        "reliance",
        "≥ 0.5",
        "≤ 0.1",
    ):
        table.add_column(column, justify="left" if column in ("pictures", "network", "mark", "arm") else "right")
    cells: dict[tuple[str, ...], list[training.Training]] = {}
    for one in trainings:
        of = one.settings
        cells.setdefault((of.pictures, of.network, of.mark, of.arm), []).append(one)
    for cell, members in cells.items():
        ends = [{name: log[-1] for name, log in one.logs.items()} for one in members]
        accuracy, unmarked, reliance = (
            np.array([end[name] for end in ends]) for name in ("val_accuracy", "val_accuracy_unmarked", "reliance")
        )
        told = (f"{np.median(values):.2f}" for values in (accuracy, unmarked, reliance))
        counts = (str((reliance >= 0.5).sum()), str((reliance <= 0.1).sum()))
        table.add_row(*cell, str(len(members)), *told, *counts)
    for half, name in enumerate(("even seeds", "odd seeds")):
        reliance = np.array([one.reliance for one in trainings if one.settings.seed % 2 == half])
        counts = (str((reliance >= 0.5).sum()), str((reliance <= 0.1).sum()))
        table.add_row(name, "", "", "", str(len(reliance)), "", "", "", *counts)
    return table


if __name__ == "__main__":
    main()
