"""How long `fit` waits for the callback at the end of an epoch, and what its wait is in forward passes of the probes.

    pip install '.[bench]'
    python benchmarks/overhead.py [--epochs 12] [--only "real server" "dead server"] [--markdown]

8 probes, 3 targets, MobileNetV2 at 224 with random weights; an epoch is one batch of one picture. A small callback
around the measured one times its `on_epoch_end` alone, and before it one compiled forward pass of the probes, so that
both have the same noise; all trainings take turns, one epoch each, in one process, with a pause after each turn, in
which the worker uploads as it does when a longer epoch computes. The first two epochs trace and connect and are left
out; the ratio is the median of the epochs' ratios. "begin" is
`on_train_begin`, where the graph is traced, "end" is `on_train_end`, where the callback waits for MLflow. With
KERAS_BACKEND=jax all but tf-explain is measured on JAX.

- explaining only: `Explainer` alone, without journal and MLflow: the floor.
- explaining and journal: the floor plus the file that is written and flushed to the disk.
- real server: `mlflow server` on loopback. slow: 2 s before each of its answers, after the run was made. hung: takes
  requests and never answers. 500: answers each request so. dead: nothing listens any more.
- tf-explain's callback: `tf_explain.callbacks.grad_cam.GradCAMCallback`, one for each target, with the layer named; it
  writes its pictures for TensorBoard to the disk. Where it cannot be used, its `explain` as it makes it.
- explain + mlflow.log_image: the same maps as ours, and the tiles sent by the training thread, synchronously, to the
  real server.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import logging
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import mlflow
import numpy as np
from forward_pass import compiled
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table
from tracking_server import real_server

from gradcam_callbacks import Explainer, GradCAMCallback, ProbeSet
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest

Array = np.ndarray[Any, np.dtype[Any]]

PICTURES = 8
TARGETS = (0, 1, 2)
WARM_UP = 2
PAUSE = 0.5
"""Seconds after each turn."""
PATIENCE = 2.0
"""Seconds that the end of a training waits for a server that is out of order."""


# ---- Servers ----


class Proxy(ThreadingHTTPServer):
    """Stands before a server and, by `mode`, is "ok", "slow", "hung" or "500"."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.upstream = upstream.removeprefix("http://")
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.mode = "ok"
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def die(self) -> None:
        """Nothing listens any more."""
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Forward(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def forward(self) -> None:
        mode = self.server.mode
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if mode == "hung":
            self.server.ended.wait(600)
            self.close_connection = True
            return
        if mode == "500":
            status, kind, content = 500, "text/plain", b"out of order"
        else:
            self.server.ended.wait(2 if mode == "slow" else 0)
            with contextlib.closing(http.client.HTTPConnection(self.server.upstream, timeout=60)) as upstream:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                status, content = answer.status, answer.read()
                kind = answer.headers.get("Content-Type", "text/plain")
        with contextlib.suppress(OSError):  # nobody waits any more
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward  # noqa: N815


# ---- What is measured ----


@dataclass
class Contender:
    """One training.

    Attributes:
        name: what the table calls it.
        make: gives the callbacks whose time is measured, once the training is about to start.
        broken: what happens to the server when the training has begun.
        blocked: seconds of each epoch's end.
        forward: seconds of a forward pass of the probes, right before.
        begin: seconds of `on_train_begin`.
        end: seconds of `on_train_end`.
        error: what it raised.
    """

    name: str
    make: Callable[[], list[keras.callbacks.Callback]]
    broken: Callable[[], None] = lambda: None
    blocked: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0
    error: str = ""

    def ratio(self) -> float:
        """The median of the epochs' ratios to a forward pass; NaN where there are none."""
        ratios = np.array(self.blocked[WARM_UP:]) / np.array(self.forward[WARM_UP:])
        return float(np.median(ratios)) if len(ratios) else float("nan")


class Timer(keras.callbacks.Callback):
    """Calls others and notes how long they take; waits for its turn before each epoch.

    Keras looks for the owner of a callback in the frame that calls it; what is measured here finds this one instead,
    which makes no difference to a training that does not raise.
    """

    def __init__(self, contender: Contender, forward: Callable[[], object], turns: Turns) -> None:
        super().__init__()
        self._contender = contender
        self._forward = forward
        self._turns = turns
        self._others: list[keras.callbacks.Callback] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes what is measured, and times its start."""
        self._others = self._contender.make()
        for other in self._others:
            other.set_model(self.model)
            other.set_params(self.params)
        self._contender.begin = seconds(lambda: [other.on_train_begin(logs) for other in self._others])
        self._contender.broken()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Gives way to the others."""
        self._turns.next()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Times a forward pass, and what is measured."""
        self._contender.forward.append(seconds(self._forward))
        self._contender.blocked.append(seconds(lambda: [other.on_epoch_end(epoch, logs) for other in self._others]))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Times the wait for MLflow."""
        self._contender.end = seconds(lambda: [other.on_train_end(logs) for other in self._others])


class Turns:
    """Lets threads run one at a time, each until it asks for its next turn or ends, in a fixed order."""

    def __init__(self, works: Sequence[Callable[[], None]]) -> None:
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, args=(work,), name=str(n)) for n, work in enumerate(works)]
        self._waiting = list(range(len(works)))
        self._now = 0

    def run(self) -> None:
        """Runs all to their ends."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def next(self) -> None:
        """Lets the others have their turns."""
        me = int(threading.current_thread().name)
        time.sleep(PAUSE)
        with self._changed:
            self._pass_on(me)
            self._changed.wait_for(lambda: self._now == me)

    def _pass_on(self, me: int) -> None:
        later = [n for n in self._waiting if n > me] or self._waiting
        if later:
            self._now = later[0]
        self._changed.notify_all()

    def _work(self, work: Callable[[], None]) -> None:
        me = int(threading.current_thread().name)
        with self._changed:
            self._changed.wait_for(lambda: self._now == me)
        try:
            work()
        finally:
            with self._changed:
                self._waiting.remove(me)
                self._pass_on(me)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class ExplainOnly(keras.callbacks.Callback):
    """The floor: the maps, and where there is a folder the file of the step."""

    def __init__(self, probes: ProbeSet, folder: Path | None = None) -> None:
        super().__init__()
        self._probes = probes
        self._folder = folder

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Traces."""
        self._explainer = Explainer(self.model)
        self._explainer.prepare(self._probes)
        if self._folder is not None:
            manifest = Manifest(method="gradcam", **self._probes.description())
            self._journal = Journal.create(self._folder, manifest=manifest, pictures=self._probes.pictures)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Explains, and writes the step."""
        explanation = self._explainer(self._probes)
        if self._folder is not None:
            self._journal.append(epoch, explanation.arrays(), {})


class LogImages(keras.callbacks.Callback):
    """What people do: explain, draw and log on the training thread."""

    def __init__(self, probes: ProbeSet, client: MlflowClient, run_id: str) -> None:
        super().__init__()
        self._probes = probes
        self._client = client
        self._run_id = run_id

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Traces."""
        self._explainer = Explainer(self.model)
        self._explainer.prepare(self._probes)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Explains, draws and sends."""
        # What the fluent `mlflow.log_image(..., synchronous=True)` calls; its active run is not this thread's.
        overlays = self._explainer(self._probes).overlays()
        for n, picture in enumerate(self._probes.pictures):
            tile = np.concatenate([picture, *overlays[n]], axis=1)
            key = f"gradcam/{self._probes.names[n]}"
            self._client.log_image(self._run_id, tile, key=key, step=epoch, synchronous=True)


class TfExplainCore(keras.callbacks.Callback):
    """The call that tf-explain's callback makes."""

    def __init__(self, pictures: Array, layer: str) -> None:
        super().__init__()
        self._pictures = pictures
        self._layer = layer

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Explains each target."""
        from tf_explain.core.grad_cam import GradCAM

        for k in TARGETS:
            GradCAM().explain((self._pictures, None), self.model, class_index=k, layer_name=self._layer)


def tf_explain_callbacks(pictures: Array, layer: str, folder: Path) -> list[keras.callbacks.Callback]:
    """tf-explain's own, one for each target."""
    from tf_explain.callbacks.grad_cam import GradCAMCallback as Theirs

    return [Theirs((pictures, None), class_index=k, layer_name=layer, output_dir=folder) for k in TARGETS]


def build_model() -> keras.Model:
    """MobileNetV2, compiled."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=keras.config.backend() == "jax")
    return model


def contenders(probes: ProbeSet, layer: str, upstream: str, folder: Path) -> tuple[list[Contender], list[Proxy]]:
    """All that is measured, and the proxies that some of it needs."""
    client = MlflowClient(upstream)
    experiment = client.create_experiment("overhead")
    proxies = {mode: Proxy(upstream) for mode in ("slow", "hung", "500", "dead")}
    opening = threading.Lock()  # MLflow's tracking URI is that of the process

    def ours(name: str, uri: str, patience: float) -> list[keras.callbacks.Callback]:
        run_id = client.create_run(experiment).info.run_id
        callback = GradCAMCallback(
            probes, run_id=run_id, journal_dir=folder / name, flush_timeout=patience, verbose=False
        )
        begin = callback.on_train_begin

        def begin_there(logs: dict[str, Any] | None = None) -> None:
            with opening:
                mlflow.set_tracking_uri(uri)
                try:
                    begin(logs)
                finally:
                    mlflow.set_tracking_uri(upstream)

        callback.on_train_begin = begin_there
        return [callback]

    def out_of_order(mode: str) -> Contender:
        proxy = proxies[mode]

        def breaks() -> None:
            proxy.mode = mode
            if mode == "dead":
                proxy.die()

        return Contender(f"{mode} server", lambda: ours(mode, proxy.address, PATIENCE), breaks)

    def logged() -> list[keras.callbacks.Callback]:
        return [LogImages(probes, client, client.create_run(experiment).info.run_id)]

    images = np.array(probes.images)
    found = [
        Contender("no callback", list),
        Contender("explaining only", lambda: [ExplainOnly(probes)]),
        Contender("explaining and journal", lambda: [ExplainOnly(probes, folder / "floor")]),
        Contender("real server", lambda: ours("real", upstream, 60)),
        *map(out_of_order, proxies),
        Contender("tf-explain's callback", lambda: tf_explain_callbacks(images, layer, folder / "tf-explain")),
        Contender("tf-explain's explain", lambda: [TfExplainCore(images, layer)]),
        Contender("explain + mlflow.log_image", logged),
    ]
    return found, list(proxies.values())


def train(
    contender: Contender, forward: Callable[[keras.Model], Callable[[], object]], epochs: int, turns: Turns
) -> None:
    """One training, timed; an error ends it alone."""
    model = build_model()
    picture = np.random.default_rng(1).random((1, *model.input_shape[1:]), dtype=np.float32)
    plain = forward(model)
    plain()
    try:
        timer = Timer(contender, plain, turns)
        model.fit(picture, np.zeros(1, np.int32), epochs=epochs, batch_size=1, callbacks=[timer], verbose=0)
    except Exception as error:  # a peer that does not work is a line in the table
        contender.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def forward_of(probes: ProbeSet) -> Callable[[keras.Model], Callable[[], object]]:
    """Makes, for a model, one compiled forward pass of the probes."""

    def of(model: keras.Model) -> Callable[[], object]:
        forward = compiled(model)
        return lambda: forward(probes.images)

    return of


# ---- Tables ----

COLUMNS = ("what", "ms an epoch", "/ forward", "worst", "begin s", "end s")


def rows(results: Sequence[Contender]) -> list[tuple[str, ...]]:
    """A row for each training, as `COLUMNS` says."""
    found = []
    for contender in results:
        blocked = np.array(contender.blocked[WARM_UP:])
        if contender.error or not len(blocked):
            found.append((contender.name, contender.error or "too few epochs", *[""] * 4))
            continue
        found.append(
            (
                contender.name,
                f"{1000 * np.median(blocked):.1f}",
                f"{contender.ratio():.2f}",
                f"{1000 * blocked.max():.0f}",
                f"{contender.begin:.1f}",
                f"{contender.end:.1f}",
            )
        )
    return found


def title(results: Sequence[Contender]) -> str:
    """What the table shows, and how long the forward pass took."""
    forward = np.concatenate([contender.forward[WARM_UP:] for contender in results])
    epochs = max(len(contender.blocked) for contender in results) - WARM_UP
    return (
        f"The end of an epoch, {PICTURES} probes x {len(TARGETS)} targets, MobileNetV2 224, medians of {epochs}; "
        f"a forward pass: {1000 * np.median(forward):.1f} ms; {len(os.sched_getaffinity(0))} CPU cores"
    )


def print_table(results: Sequence[Contender]) -> None:
    """For people."""
    table = Table(title=title(results))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows(results):
        table.add_row(*row)
    Console(width=120).print(table)


def markdown(results: Sequence[Contender]) -> str:
    """For the site."""
    lines = [title(results), "", "| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows(results))])


def main() -> None:
    """Reads the options, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help=f"of each training; the first {WARM_UP} do not count")
    parser.add_argument("--only", nargs="+", help="names of trainings, as the table has them")
    parser.add_argument("--markdown", action="store_true", help="print the table of the site too")
    options = parser.parse_args()
    if options.epochs <= WARM_UP:
        parser.error(f"--epochs is more than {WARM_UP}.")
    # tf-explain hands the inputs of a model on as a list in a list.
    warnings.filterwarnings("ignore", message="The structure of `inputs` doesn't match", category=UserWarning)
    for name in ("gradcam_callbacks", "tensorflow"):  # servers are out of order and graphs are traced on purpose
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="overhead-"))
    try:
        with real_server(folder) as upstream:
            model = build_model()
            pictures = np.random.default_rng(0).random((PICTURES, *model.input_shape[1:]), dtype=np.float32)
            probes = ProbeSet(pictures, targets=list(TARGETS))
            layer = Explainer(model).prepare(probes).layers[0].path
            found, proxies = contenders(probes, layer, upstream, folder)
            unknown = set(options.only or ()) - {contender.name for contender in found}
            if unknown:
                parser.error(f"No training {sorted(unknown)}. There are: {[contender.name for contender in found]}.")
            found = [contender for contender in found if not options.only or contender.name in options.only]
            turns: Turns
            works = [lambda c=contender: train(c, forward_of(probes), options.epochs, turns) for contender in found]
            turns = Turns(works)
            turns.run()
            for proxy in proxies:
                if not proxy.ended.is_set():
                    proxy.die()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(found)
    if options.markdown:
        print(markdown(found))


if __name__ == "__main__":
    main()
