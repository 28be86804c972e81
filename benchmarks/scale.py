"""What the callback costs as probes and epochs grow, with a real MLflow server, and what arrives in time.

    pip install '.[bench]'
    python benchmarks/scale.py [--only 8 64 256 long growth] [--epochs 20] [--against DIR] [--markdown]

A small convolutional network learns on pictures of 96 x 96; its maps have 12 x 12 cells, and there are 3 targets. One
`mlflow server` process on loopback serves all trainings; each has a process of its own, so that another checkout can be
measured in the same run (`--against`), and both share the machine's cores with the server.

- 8, 64, 256: so many probes, 20 epochs of about a second. long: 16 probes, 1,000 epochs of one small batch.
- fit: seconds of the epochs, from the first batch to the last epoch's end, and the ratio to the same training without
  the callback plus its forward passes of the probes, which a small callback makes instead.
- behind: what has not arrived when the last epoch ends, as steps without numbers / pictures. missing: the same after
  `flush_timeout`, with "page" where there is none. None of the two may be anything but pictures.
- end idle, end busy: milliseconds of an epoch's end, and the ratio to a forward pass of the probes right before; in a
  training of short epochs, where the worker is waited for before the epoch ends, and where it is not.
- requests, KB: to the server, by what was recorded. RSS: the most memory of the training's process, and of the one that
  draws.
- growth: 16 probes, no server: seconds of the worker for a step, after 10 and after 1,000 steps, with its share of the
  review; the size of the page after 1,000 steps.

The test of what answers rest on (`reliance`) is left out: it is forward passes at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracking_server import real_server

PROBES = {"8": 8, "64": 64, "256": 256, "long": 16, "growth": 16}
SIDE, TARGETS, CLASSES = 96, (0, 1, 2), 4
LONG_EPOCHS = 1000
ENDS = 12
"""Epochs of which the ends are timed, for each state of the worker."""


# ---- One training, in a process of its own ----


def measure(name: str, epochs: int, flush: float) -> dict[str, Any]:
    """What the table says of one workload; with the package that this process finds."""
    return growth() if name == "growth" else training(name, epochs, flush)


def training(name: str, epochs: int, flush: float) -> dict[str, Any]:
    """See `measure`."""
    import keras
    import mlflow
    import numpy as np

    from gradcam_callbacks import GradCAMCallback, ProbeSet

    requests, sent = _counted_requests()
    is_long = name == "long"
    epochs = LONG_EPOCHS * epochs // 20 if is_long else epochs
    rng = np.random.default_rng(0)
    probes = ProbeSet((255 * rng.random((PROBES[name], SIDE, SIDE, 3))).astype("uint8"), targets=list(TARGETS))
    keras.utils.set_random_seed(0)
    model = _network(keras)
    forward = _forward(model, probes)
    x = rng.random((8 if is_long else 32, SIDE, SIDE, 3), dtype="float32")
    y = rng.integers(0, CLASSES, len(x))
    model.train_on_batch(x, y)
    forward()
    batch = min(_seconds(lambda: model.train_on_batch(x, y)) for _ in range(5))
    batches = 1 if is_long else max(1, round(1 / batch))

    class Clock(keras.callbacks.Callback):
        """Times the epochs; stands first and last in the list."""

        def __init__(self, begin: bool, end: bool) -> None:
            super().__init__()
            self.begin, self.end = begin, end

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if self.begin and epoch == 0:
                found["start"] = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if self.end and epoch == epochs - 1:
                found["seconds"] = time.perf_counter() - found["start"]
                if ours:
                    uploader = ours[0]._session.recorder._worker.uploader
                    found["behind"] = _by_kind(uploader.missing(whole=False))
                    found["drawing"] = _memory_of(getattr(uploader, "_renderer", None))

    class Passes(keras.callbacks.Callback):
        """The forward passes alone: one a record, and one more where the noise is measured."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            forward()
            if epoch % 5 == 4:
                forward()

    found: dict[str, Any] = {}
    ours: list[Any] = []

    def fit(*callbacks: Any) -> float:
        clocks = Clock(True, False), Clock(False, True)
        data = _repeated(x, y)
        model.fit(data, steps_per_epoch=batches, epochs=epochs, verbose=0, callbacks=[clocks[0], *callbacks, clocks[1]])
        return float(found["seconds"])

    plain = fit()
    with_passes = fit(Passes())
    client = mlflow.MlflowClient()
    run_id = client.create_run(client.create_experiment(f"{name}-{time.time()}")).info.run_id
    journal = Path(tempfile.mkdtemp(prefix="scale-"), "journal")
    ours.append(
        GradCAMCallback(probes, run_id=run_id, journal_dir=journal, flush_timeout=flush, reliance=False, verbose=False)
    )
    requests.clear(), sent.clear()
    with_ours = fit(*ours)
    found |= {"plain": plain, "passes": with_passes, "ours": with_ours, "epochs": epochs}
    found |= {"requests": len(requests) / epochs, "bytes": sum(sent) / epochs}
    found["missing"] = _missing(journal, run_id)
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as folder:
        page = client.download_artifacts(run_id, "gradcam/report.html", folder)
        found["page"] = Path(page).stat().st_size
    found["rss"] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, *found.pop("drawing", [])]
    found["ends"] = _ends(keras, model, probes, forward, journal.parent / "ends")
    shutil.rmtree(journal.parent)
    del found["start"]
    return found


def _ends(keras: Any, model: Any, probes: Any, forward: Any, journal: Path) -> dict[str, list[tuple[float, float]]]:
    """Seconds of a forward pass and of the epoch's end after it, with the worker idle and busy."""
    import mlflow
    import numpy as np

    from gradcam_callbacks import GradCAMCallback

    client = mlflow.MlflowClient()
    run_id = client.create_run(client.create_experiment(f"ends-{time.time()}")).info.run_id
    ours = GradCAMCallback(
        probes, run_id=run_id, journal_dir=journal, flush_timeout=0, reliance=False, noise_floor=False, verbose=False
    )
    ours.set_model(model)
    ours.set_params({"epochs": 10_000, "steps": 1})
    found: dict[str, list[tuple[float, float]]] = {"idle": [], "busy": []}
    ours.on_train_begin()
    x, y = np.zeros((8, SIDE, SIDE, 3), "float32"), np.zeros(8, int)
    for epoch in range(2 * ENDS + 2):
        state = "idle" if epoch < ENDS + 2 else "busy"
        if state == "idle":
            ours._session.recorder._worker.wait(10)
        model.train_on_batch(x, y)
        ours.on_epoch_begin(epoch)
        a = _seconds(forward)
        b = _seconds(lambda epoch=epoch: ours.on_epoch_end(epoch, {}))
        if epoch >= 2:  # the first ones trace and connect
            found[state].append((a, b))
    with contextlib.redirect_stdout(None):
        ours.on_train_end()
    return found


def growth() -> dict[str, Any]:
    """See `measure`."""
    import numpy as np

    from gradcam_callbacks import InMemoryStore, ProbeSet
    from gradcam_callbacks.publishing.uploader import Uploader
    from gradcam_callbacks.record.journal import Journal
    from gradcam_callbacks.record.manifest import Manifest
    from gradcam_callbacks.reviewing.measuring import Explained, measure_step

    rng = np.random.default_rng(0)
    count = PROBES["growth"]
    probes = ProbeSet((255 * rng.random((count, SIDE, SIDE, 3))).astype("uint8"), targets=list(TARGETS))
    store = InMemoryStore("run")
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    manifest = Manifest(method="gradcam", run_id="run", **probes.description())
    journal = Journal.create(folder / "run", manifest=manifest, pictures=probes.pictures)
    uploader = Uploader(journal, store)
    before = None
    taken, review = [], {}
    classes = np.tile(np.array(TARGETS, np.int32), (count, 1))
    for step in range(LONG_EPOCHS):
        maps = np.maximum(rng.normal(size=(count, len(TARGETS), 12, 12)), 0).astype("float32")
        now = Explained(maps, classes)
        arrays = {
            "maps": maps,
            "scores": maps.mean(axis=(2, 3)),
            "explained": classes,
            "predicted": classes[:, 0],
            "health": np.full(classes.shape, "ok"),
            **measure_step(now, before=before),
        }
        before = now
        journal.append(step, arrays, {"loss": 1 / (step + 1)})
        taken.append(_seconds(lambda step=step: uploader.send({step}, whole=False)))
        if step in (4, 9, LONG_EPOCHS - 1):  # the first one loads
            review[step] = _seconds(lambda: uploader.send(set(), whole=True)) / max(5, (step + 1) // 5)
    shutil.rmtree(folder)
    return {
        "early": float(np.median(taken[5:15])) + review[9],
        "late": float(np.median(taken[-10:])) + review[LONG_EPOCHS - 1],
        "page": len(store.review.page) if store.review else 0,
    }


def _network(keras: Any) -> Any:
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Rescaling(1 / 255)])
    for filters in (32, 64, 128):
        model.add(keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu"))
    model.add(keras.layers.Conv2D(128, 3, padding="same", activation="relu"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(CLASSES))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    return model


def _forward(model: Any, probes: Any) -> Any:
    """One compiled forward pass of the probes, in batches as the explainer makes them."""
    import tensorflow as tf

    batches = [tf.constant(probes.images[start : start + 32]) for start in range(0, len(probes.images), 32)]
    compiled = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda: [compiled(batch).numpy() for batch in batches]


def _repeated(x: Any, y: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensors((x, y)).repeat()


def _counted_requests() -> tuple[list[str], list[int]]:
    """Lists that get the method and the size of each request that this process sends."""
    from requests.adapters import HTTPAdapter

    methods: list[str] = []
    sizes: list[int] = []
    send = HTTPAdapter.send

    def counting(self: Any, request: Any, *arguments: Any, **more: Any) -> Any:
        methods.append(request.method)
        sizes.append(int(request.headers.get("Content-Length") or 0))
        return send(self, request, *arguments, **more)

    HTTPAdapter.send = counting  # type: ignore[method-assign]
    return methods, sizes


def _missing(journal: Path, run_id: str) -> dict[str, int]:
    """What the journal's marks say has not arrived, by kind."""
    import mlflow

    from gradcam_callbacks.publishing.mlflow_store import find_run
    from gradcam_callbacks.publishing.uploader import Uploader
    from gradcam_callbacks.record.journal import Journal

    return _by_kind(Uploader(Journal(journal), find_run(run_id, mlflow.get_tracking_uri())).missing())


def _memory_of(renderer: Any) -> list[float]:
    """The most memory of the process that draws, in MB; nothing where there is none."""
    if renderer is None or renderer.process is None:
        return []
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{renderer.process.pid}/status").read_text().splitlines()
        return [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return []


def _by_kind(items: Sequence[Any]) -> dict[str, int]:
    return dict(Counter(str(item.kind) for item in items))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---- Tables ----

COLUMNS = (
    *("probes", "checkout", "fit s", "/ with passes", "end idle ms", "/ pass", "end busy ms", "/ pass"),
    *("behind", "missing", "requests", "KB", "RSS MB", "page KB"),
)


def row(name: str, checkout: str, found: dict[str, Any]) -> tuple[str, ...]:
    """What `COLUMNS` says of a training."""

    def median(values: Sequence[float]) -> float:
        return sorted(values)[len(values) // 2]

    def left(kinds: dict[str, int]) -> str:
        page = " page" * ("report" in kinds)
        return f"{kinds.get('metrics', 0)}m {kinds.get('maps', 0)}f / {kinds.get('image', 0)}{page}"

    ends = []
    for state in ("idle", "busy"):
        pairs = found["ends"][state]
        ends += [f"{1000 * median([b for _, b in pairs]):.1f}", f"{median([b / a for a, b in pairs]):.2f}"]
    return (
        f"{PROBES[name]} × {found['epochs']}",
        checkout,
        f"{found['ours']:.1f}",
        f"{found['ours'] / found['passes']:.3f}",
        *ends,
        left(found["behind"]),
        left(found["missing"]),
        f"{found['requests']:.0f}",
        f"{found['bytes'] / 1000:.0f}",
        " + ".join(f"{size:.0f}" for size in found["rss"]),
        f"{found['page'] / 1000:.0f}" if "page" in found else "none",
    )


def growth_line(checkout: str, found: dict[str, Any]) -> str:
    """What growth found, as a sentence."""
    ratio = found["late"] / found["early"]
    return (
        f"{checkout}: a step of 16 probes takes the worker {1000 * found['early']:.0f} ms after 10 steps and "
        f"{1000 * found['late']:.0f} ms after {LONG_EPOCHS:,} ({ratio:.2f} times); the page has "
        f"{found['page'] / 1000:.0f} KB."
    )


def main() -> None:
    """Reads the options, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PROBES, default=list(PROBES), help="what to measure")
    parser.add_argument("--epochs", type=int, default=20, help="of each training; the long one has 50 times as many")
    parser.add_argument("--flush", type=float, default=60, help="seconds that the end waits for the server at most")
    parser.add_argument("--against", type=Path, help="another checkout, measured before this one")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown too")
    parser.add_argument("--measure", choices=PROBES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.epochs, options.flush)))
        return
    from rich.console import Console
    from rich.table import Table

    here = Path(__file__).resolve().parent.parent
    checkouts = {"before": options.against.resolve()} if options.against else {}
    checkouts["now" if checkouts else "this"] = here
    rows, lines = [], []
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        with real_server(folder) as address:
            for name in options.only:
                for checkout, path in checkouts.items():
                    found = _in_process(name, path, address, options, folder)
                    if name == "growth":
                        lines.append(growth_line(checkout, found))
                    else:
                        rows.append(row(name, checkout, found))
                    # What is measured is said at once: the whole takes half an hour.
                    print(lines[-1] if name == "growth" else " | ".join(rows[-1]), file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    title = (
        f"Epochs of a small network, 3 targets, {os.cpu_count()} cores; behind and missing: metrics (m) and files of "
        f"maps (f) / pictures; missing after {options.flush:.0f} s"
    )
    table = Table(*COLUMNS, title=title)
    for each in rows:
        table.add_row(*each)
    console = Console(width=200)
    if rows:
        console.print(table)
    for line in lines:
        console.print(line)
    if options.markdown and rows:
        print("\n".join(["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows)]))


def _in_process(name: str, checkout: Path, address: str, options: Any, folder: Path) -> dict[str, Any]:
    """What a process measures that finds the package in a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", name]
    command += ["--epochs", str(options.epochs), "--flush", str(options.flush)]
    environment = {"PYTHONPATH": str(checkout), "MLFLOW_TRACKING_URI": address, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"'{name}' with {checkout} failed:\n{done.stderr.decode()[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
