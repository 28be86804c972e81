"""What a sweep of 10,000 checkpoints and 1,000 probes needs, on one machine and on many.

    python benchmarks/many_machines.py [--checkpoints 10000] [--probes 1000]

First the rates are measured: what one worker does (MobileNetV2 at 224, 3 targets, one thread), what the one process
takes that records, what a real `mlflow server` on loopback takes (one worker process, sqlite), and what its folders and
its histories cost. Then a sweep is simulated, checkpoint by checkpoint, for growing numbers of workers. The tables say
which is which; docs/sweeps-on-many-machines.md explains them.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table

TARGETS = (0, 1, 2)
GRID = (7, 7)
CHUNK = 4
"""Checkpoints that a worker explains before it hands them over."""
NETWORK = 125e6
"""Bytes that a network of 1 Gbit/s carries in a second."""


@dataclass(frozen=True)
class Rates:
    """Seconds, and bytes; of the worker and of recording seconds of the processor.

    Attributes:
        start: until a worker has TensorFlow, the model and the trace.
        load: to read a checkpoint's weights and assign them.
        explain: to explain one probe.
        checkpoint: bytes of a checkpoint.
        outcome: bytes that a worker hands over for a checkpoint of all probes.
        record: what the recording process needs for a checkpoint of all probes.
        send: what the sending thread needs for its means and its maps.
        tile: what it needs to send one picture.
    """

    start: float
    load: float
    explain: float
    checkpoint: float
    outcome: float
    record: float
    send: float
    tile: float


# ---- Measured ----


def median(do: Callable[[int], object], times: int = 7, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that one call takes; each gets its number."""
    seconds = []
    for number in range(times):
        start = clock()
        do(number)
        seconds.append(clock() - start)
    return statistics.median(seconds)


def worker() -> dict[str, float]:
    """What one worker does, in a process of its own with one thread: seconds of the processor."""
    from gradcam_callbacks import ProbeSet
    from gradcam_callbacks.sweeping.formats import KerasArchive
    from gradcam_callbacks.sweeping.loading import Loader, Task

    def probes(count: int) -> ProbeSet:
        images = np.random.default_rng(0).random((count, 224, 224, 3), dtype=np.float32)
        return ProbeSet(images, targets=list(TARGETS))

    checkpoints = [KerasArchive(Path(f"m-{number}.keras"), number) for number in range(5)]
    seconds = {}
    for count in (8, 40):
        loader = Loader(Task(probes(count), None, None, "gradcam", None, None, None, True))
        loader.outcome(checkpoints[0], with_noise=False)
        seconds.setdefault("start", time.process_time())
        loader.outcome(checkpoints[1], with_noise=False)  # says which array is which variable
        explain = lambda n, loader=loader: loader.outcome(checkpoints[2 + n], with_noise=False)  # noqa: E731
        seconds[f"{count}"] = median(explain, 3, time.process_time)
    seconds["load"] = median(lambda n: loader._load(checkpoints[2 + n]), 3, time.process_time)
    return seconds | {"explain": (seconds["40"] - seconds["8"]) / 32}


def measured_worker() -> dict[str, float]:
    """The same, and the bytes of a checkpoint."""
    import keras

    model = keras.applications.MobileNetV2(weights=None)
    for number in range(5):
        model.save(f"m-{number}.keras")
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    command = [sys.executable, __file__, "--worker"]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"checkpoint": Path("m-0.keras").stat().st_size}


def arrays(probes: int, dice: np.random.Generator) -> dict[str, np.ndarray]:
    """What a worker hands over for a checkpoint."""
    shape = (probes, len(TARGETS))
    maps = np.maximum(dice.standard_normal((*shape, *GRID)), 0).astype(np.float32)
    return {
        "maps": maps,
        "scores": dice.standard_normal(shape).astype(np.float32),
        "probabilities": dice.random(shape, dtype=np.float32),
        "predicted": np.zeros(probes, np.int64),
        "explained": np.tile(np.array(TARGETS), (probes, 1)),
        "health": np.full(shape, "ok"),
    }


def recorder(probes: int, folder: str) -> Any:
    """One whose store takes nothing, so that recording alone is measured."""
    from gradcam_callbacks import InMemoryStore, ProbeSet
    from gradcam_callbacks.publishing.delivery import Delivery
    from gradcam_callbacks.publishing.recorder import Recorder
    from gradcam_callbacks.publishing.store import UnreachableError
    from gradcam_callbacks.record.manifest import Manifest

    class Away(InMemoryStore):
        def put(self, item: object, content: object, time: float) -> None:
            raise UnreachableError("nobody")

    images = np.random.default_rng(0).integers(0, 255, (probes, 32, 32, 3), dtype=np.uint8)
    shown = ProbeSet(images, targets=list(TARGETS))
    manifest = Manifest(**shown.description(), layer="layer", method="gradcam", score_kind="logit")
    delivery = Delivery(folder, flush_timeout=0, verbose=False)
    return Recorder.open(Away(), shown, manifest, delivery)


def measured_record(probes: int) -> dict[str, float]:
    """What the recording process does with a checkpoint: seconds of the processor, and bytes."""
    import cloudpickle

    dice = np.random.default_rng(0)
    opened = recorder(probes, "recorded")
    given = [arrays(probes, dice) for _ in range(8)]
    opened.record(0, given[0], {})
    seconds = median(lambda n: opened.record(n + 1, given[n + 1], {}), 7, time.process_time)
    size = next(Path("recorded", "steps").glob("*")).stat().st_size
    opened.close("FINISHED")
    return {"record": seconds, "step": size, "outcome": len(cloudpickle.dumps(given[0]))}


def measured_page() -> float:
    """Bytes of the review for one map of one step."""
    from gradcam_callbacks.record.journal import Journal
    from gradcam_callbacks.reviewing.report import build

    dice, sizes = np.random.default_rng(0), []
    for steps in (10, 60):
        opened = recorder(16, f"page-{steps}")
        for step in range(steps):
            opened.record(step, arrays(16, dice), {})
        opened.close("FINISHED")
        sizes.append(len(build([Journal(f"page-{steps}")])))
    return (sizes[1] - sizes[0]) / (50 * 16 * len(TARGETS))


def measured_server(step_size: int) -> dict[str, float]:
    """What a real server takes; seconds of each request, and of asking what is there."""
    import mlflow
    from tracking_server import real_server

    from gradcam_callbacks.publishing import mlflow_store
    from gradcam_callbacks.publishing.store import Item, Kind

    mlflow_store.REQUEST_TIMEOUT = 300.0  # what takes long is to be measured
    found: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        contextlib.suppress(subprocess.TimeoutExpired),  # it takes its time to end
        real_server(Path(folder)) as address,
    ):
        mlflow.set_tracking_uri(address)
        store = mlflow_store.choose_run(None, experiment="many")
        tile = np.random.default_rng(0).integers(0, 255, (448, 448, 3), dtype=np.uint8)
        content = os.urandom(step_size)
        few, many = ({f"gradcam_drift/{n}": 0.5 for n in range(count)} for count in (20, 9000))
        found["means"] = median(lambda n: store.put(Item(Kind.METRICS, n), few, 0.0))
        found["all metrics"] = median(lambda n: store.put(Item(Kind.METRICS, n), many, 0.0), 3)
        found["maps"] = median(lambda n: store.put(Item(Kind.MAPS, n), content, 0.0))
        found["tile"] = median(lambda n: store.put(Item(Kind.TILE, n, "probe"), tile, 0.0))
        artifacts = next(Path(folder, "artifacts").rglob("maps"))
        for number in range(10_000):
            (artifacts / f"{number}.npz").touch()
        found["list 10,000 files"] = median(lambda n: store.held(Kind.MAPS), 3)
        images = artifacts.parent.parent / "images"
        for number in range(100_000):
            (images / f"gradcam~p+step+{number // 2}+timestamp+0+{number}.png").touch()
        found["list 100,000 files"] = median(lambda n: store.held(Kind.TILE), 1)
        client = mlflow.MlflowClient(address)
        for start in range(0, 10_000, 1000):
            history = [mlflow.entities.Metric("gradcam_health/non-finite", 0.0, 0, start + n) for n in range(1000)]
            client.log_batch(store.run_id, metrics=history, synchronous=True)
        found["history of 10,000"] = median(lambda n: store.held(Kind.METRICS), 3)
        store.finish("FINISHED")
    return found


# ---- Simulated ----


def simulated(rates: Rates, workers: int, checkpoints: int, probes: int, cards: int) -> tuple[float, float, str]:
    """Hours until all is recorded, hours until all has arrived, and what holds it up most.

    Each worker takes the next chunk when it is done with one. What it hands over goes through one network into the
    process that records, one checkpoint after the other in their order, and on to MLflow through one thread.
    """
    explain = rates.load + probes * rates.explain
    wire, send = rates.outcome / NETWORK, rates.send + cards * rates.tile
    free = [(rates.start, number) for number in range(workers)]
    heapq.heapify(free)
    link = recorded = sent = 0.0
    for start in range(0, checkpoints, CHUNK):
        size = min(CHUNK, checkpoints - start)
        at, number = heapq.heappop(free)
        heapq.heappush(free, (at + size * explain, number))
        link = max(link, at + size * explain) + size * wire
        for _ in range(size):
            recorded = max(recorded, link) + rates.record
            sent = max(sent, recorded) + send
    loads = {"workers": explain / workers, "network": wire, "recording": rates.record, "MLflow": send}
    return recorded / 3600, sent / 3600, max(loads, key=loads.__getitem__)


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a table."""
    drawn = Table(title=title)
    for place, column in enumerate(columns):
        drawn.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        drawn.add_row(*row)
    Console(width=120).print(drawn)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--probes", type=int, default=1_000)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker()))
        return
    steps, probes = options.checkpoints, options.probes
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        one, taken, page = measured_worker(), measured_record(probes), measured_page()
        print(one, taken, page, flush=True)
        server = measured_server(int(taken["step"]))
    seconds = {
        "a worker starts": one["start"],
        "a worker loads a checkpoint": one["load"],
        "a worker explains a probe": one["explain"],
        f"recording a checkpoint of {probes} probes": taken["record"],
        "MLflow: 20 means": server["means"],
        "MLflow: 9,000 metrics": server["all metrics"],
        "MLflow: a file of maps": server["maps"],
        "MLflow: a picture": server["tile"],
        "MLflow: list 10,000 files": server["list 10,000 files"],
        "MLflow: list 100,000 files": server["list 100,000 files"],
        "MLflow: a metric's 10,000 values": server["history of 10,000"],
    }
    table("Measured", ("what", "ms"), [(name, f"{1000 * each:.1f}") for name, each in seconds.items()])
    maps = steps * probes * len(TARGETS)
    sizes = {
        "a checkpoint (measured)": one["checkpoint"],
        f"maps of a step, {probes} probes (measured)": taken["step"],
        "what a worker hands over for it (measured)": taken["outcome"],
        f"{probes} probes of 224 × 224 in float32, to each worker (computed)": probes * 224 * 224 * 3 * 4,
        f"maps of {steps} steps (computed)": steps * taken["step"],
        f"the review page of {steps} steps (computed)": maps * page,
        "the review page of 100 steps, 64 probes (computed)": 100 * 64 * len(TARGETS) * page,
    }
    table("Bytes", ("what", "MB"), [(name, f"{each / 1e6:.2f}") for name, each in sizes.items()])
    rows = []
    for name, metrics, cards in (("means, no cards", "means", 0), ("means, 16 cards", "means", 16),
                                 ("all metrics, all cards", "all metrics", probes)):  # fmt: skip
        for workers in (1, 10, 30, 100, 300, 1000):
            send = server[metrics] + server["maps"]
            rates = Rates(one["start"], one["load"], one["explain"], one["checkpoint"], taken["outcome"],
                          taken["record"], send, server["tile"])  # fmt: skip
            recorded, sent, limit = simulated(rates, workers, steps, probes, cards)
            rows.append((name, str(workers), f"{recorded:.1f}", f"{sent:.1f}", limit))
    title = f"Simulated: {steps} checkpoints, {probes} probes"
    table(title, ("layout", "workers", "hours to record", "hours to arrive", "held up by"), rows)


if __name__ == "__main__":
    main()
