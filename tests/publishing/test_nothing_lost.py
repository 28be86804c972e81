"""No fault of tracker, disk or process ends a training or loses a map."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient
from support.engines import IS_TENSORFLOW, by_numpy
from support.lanes import at_night
from support.mlflow_runs import Server, artifact_paths
from support.models import pictures, small_model
from support.seeds import same_weights
from support.trainings import At

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing import mlflow_store, recorder
from gradcam_callbacks.publishing.mlflow_store import choose_run, find_run
from gradcam_callbacks.publishing.store import Item, Kind
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal

KILLS = int(os.environ.get("GRADCAM_KILLS", "10"))

# ---- What can go wrong ----


class Proxy(ThreadingHTTPServer):
    """Before a server: "ok", "dead", "hang", "500", "slow", "lost" (a third of the answers) or odd about images.

    "artifacts hang" answers no request for one for two seconds, as where the server waits for S3.
    "late" gives up on the client of the first image and hands it on a second later, as gateways do. "half" refuses the
    first WebP of all, and deletes nothing. "no artifacts" fails for each and hangs up on what comes next on that line.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.upstream = upstream.removeprefix("http://")
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.mode = "ok"
        self.dice = random.Random(5)
        self.lost = 0
        self.halves = 0
        self.late_ones = threading.Event()  # the one that is late has been handed on
        self.ended = threading.Event()


class _Forward(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body of each answer would wait 40 ms for somebody to confirm its head
    has_failed = False

    def log_message(self, *_: object) -> None:
        pass

    def forward(self) -> None:
        mode = self.server.mode
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if mode in ("dead", "hang") or (mode == "no artifacts" and self.has_failed):
            self.server.ended.wait(90 if mode == "hang" else 0)
            self.close_connection = True
            return
        status, headers, content = 500, {}, b"out of order"
        is_late = mode == "late" and self.command == "PUT" and "+step+" in self.path and not self.server.lost
        if is_late:
            self.server.lost += 1
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            self.server.ended.wait(1.5)
        is_half = self.command == "PUT" and self.path.endswith("compressed.webp") and not self.server.halves
        if mode == "half" and (is_half or self.command == "DELETE"):
            self.server.halves += 1
        elif mode in ("no artifacts", "artifacts hang") and "mlflow-artifacts" in self.path:
            self.server.ended.wait(2 if mode == "artifacts hang" else 0)
            self.has_failed = True
        elif mode != "500":
            self.server.ended.wait(2 if mode == "slow" else 0)
            upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
            with contextlib.closing(upstream):
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                status, content = answer.status, answer.read()
                headers = {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
        if mode == "lost" and self.server.dice.random() < 1 / 3:
            self.server.lost += 1
            self.close_connection = True
            return
        if is_late:
            self.server.late_ones.set()
            return
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # nobody waits any more
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward  # noqa: N815


@pytest.fixture
def proxy(mlflow_server: str, client: MlflowClient) -> Iterator[Proxy]:
    """A switchable proxy before the server, which is the tracking server of the test."""
    server = Proxy(mlflow_server)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="proxy", daemon=True)
    thread.start()
    mlflow.set_tracking_uri(server.address)
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


class Pause(keras.callbacks.Callback):
    """Takes time, so that the worker has some."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        time.sleep(self._seconds)


def train(*callbacks: keras.callbacks.Callback, epochs: int, model: keras.Model | None = None) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = model or small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(32), np.arange(32) % 4, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


SCRIPT = """
import json, os, signal, sys, tempfile, time, threading, traceback
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background of a script ignores it, as do its children
import keras, mlflow, numpy as np
from support.models import pictures, small_model
from support.seeds import same_weights
from support.trainings import At
from gradcam_callbacks import GradCAMCallback
import gradcam_callbacks.publishing.mlflow_store, gradcam_callbacks.publishing.worker

def fit(*callbacks, epochs):
    keras.utils.set_random_seed(1)
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(32), np.arange(32) % 4, epochs=epochs, callbacks=list(callbacks), verbose=0)

def call(**actions):
    return type("Own", (keras.callbacks.Callback,), {name: staticmethod(action) for name, action in actions.items()})()
"""


FORKS = """
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.write(1, f"pid {os.getpid()}\\n".encode())
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        tempfile.tempdir = None
        sys.argv = asked["arguments"]
        status = 1
        try:
            exec(asked["body"])
            status = 0
        except Exception:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    os.write(1, f"dead {os.waitpid(pid, 0)[1]}\\n".encode())
"""


def start_script(body: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + body],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


class Forks:
    """Runs scripts, each in a process of its own that need not load what a training needs: that takes five seconds.

    Attributes:
        status: of the last process that has ended, as `os.waitpid` gives it.
    """

    def __init__(self) -> None:
        self._parent = start_script(FORKS, stderr=subprocess.STDOUT)
        assert "ready\n" in iter(self._readline, "")
        self.status: int | None = None

    def start(self, body: str, *arguments: str) -> int:
        """The process of a script that runs here, with what the environment is now."""
        asked = {"environment": dict(os.environ), "folder": str(Path.cwd()), "body": body, "arguments": arguments}
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(asked) + "\n")
        self._parent.stdin.flush()
        return int(next(line for line in iter(self._readline, "") if line.startswith("pid ")).removeprefix("pid "))

    def lines(self) -> Iterator[str]:
        """What it writes until it has ended, also to stderr."""
        for line in iter(self._readline, ""):
            if line.startswith("dead "):
                self.status = int(line.removeprefix("dead "))
                return
            yield line

    def run(self, body: str, *arguments: str, timeout: float) -> str:
        """What a script that ends well writes."""
        too_late = threading.Timer(timeout, os.kill, (self.start(body, *arguments), signal.SIGKILL))
        too_late.start()
        out = "".join(self.lines())
        too_late.cancel()
        assert self.status == 0, out
        return out

    def close(self) -> None:
        self._parent.kill()
        self._parent.communicate()

    def _readline(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    started = Forks()
    yield started
    started.close()


# ---- What must hold ----


def image_files(client: MlflowClient, run_id: str) -> Counter[tuple[str, int, str]]:
    """How many files a run has by probe, step and kind."""
    found: Counter[tuple[str, int, str]] = Counter()
    for path in artifact_paths(client, run_id, "images"):
        match = re.fullmatch(
            r"images/gradcam~(.+)\+step\+(\d+)\+timestamp\+\d+\+[^+]+(?:\+compressed)?\.(png|webp)", path
        )
        assert match, path
        found[match[1], int(match[2]), match[3]] += 1
    return found


def metric_steps(client: MlflowClient, run_id: str) -> dict[str, list[int]]:
    """The steps of each of our metrics; the recorded times must be in the same order."""
    found = {}
    for key in client.get_run(run_id).data.metrics:
        if key.startswith("gradcam_") and key != "gradcam_drift/noise_floor":  # which is measured now and then
            history = sorted(client.get_metric_history(run_id, key), key=lambda metric: metric.step)
            found[key] = [metric.step for metric in history]
            times = [metric.timestamp for metric in history]
            assert times == sorted(times)
    return found


def assert_complete(
    client: MlflowClient,
    run_id: str,
    steps: Sequence[int],
    probes: int = 2,
    *,
    is_whole: bool = True,
    tested: Sequence[int] | None = None,
) -> None:
    """One PNG and one WebP a step of each probe and of all, one value a metric and step, maps, and what is of all.

    By default the last step was tested.
    """
    names = ["all", *(f"probe_{n}" for n in range(probes))]
    expected = {(name, step, kind): 1 for name in names for step in steps for kind in ("png", "webp")}
    assert image_files(client, run_id) == expected
    metrics = metric_steps(client, run_id)
    assert not [key for key in metrics if "predicted" in key]  # means alone
    assert len([key for key in metrics if key.startswith("gradcam_health/")]) == 7
    assert metrics == {key: list(steps) for key in metrics}
    maps = sorted(f"gradcam/maps/{step}.npz" for step in [-1, *steps])
    tested = steps[-1:] if tested is None else tested
    tests = [f"gradcam/tests/{step}.json" for step in tested]
    whole = ["gradcam/report.html", "gradcam/strip.png", *tests] * is_whole
    assert artifact_paths(client, run_id, "gradcam") == ["gradcam/manifest.json", *maps, *whole]
    assert "gradcam.layer" in client.get_run(run_id).data.tags


def our_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name.startswith("gradcam_callbacks")]
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("gradcam")]


def upload(journal: str | Path) -> str:
    """`gradcam upload`, in this process."""
    result = CliRunner().invoke(main, ["upload", str(journal)])
    assert result.exit_code == 0, result.output
    return result.output


def own_run() -> mlflow.entities.Run:
    run = mlflow.last_active_run()
    assert run is not None
    return run


# ---- The tracker ----


def test_a_server_killed_and_started_again_gets_everything(
    mortal_server: Server, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is away for three epochs has all steps, in order and once, when `fit` returns; one warning."""
    train(At(1, mortal_server.kill), At(4, mortal_server.start), GradCAMCallback(pictures(2)), Pause(0.3), epochs=8)
    run = own_run()
    assert_complete(client, run.info.run_id, range(8))
    maps = list((mortal_server.folder / "artifacts").glob(f"*/{run.info.run_id}/**/maps/*.npz"))
    arrival = [int(path.stem) for path in sorted(maps, key=lambda path: path.stat().st_mtime_ns)]
    assert arrival == list(range(-1, 8))
    assert run.info.status == "FINISHED"
    warnings = our_warnings(caplog)
    assert len(warnings) == 1
    assert "training goes on" in warnings[0]
    assert list(tmp_path.iterdir()) == []
    assert workers() == []


@pytest.mark.parametrize("mode", ["dead", "hang", "500", "slow"])
def test_a_bad_server_neither_holds_up_a_training_nor_loses_a_step(
    proxy: Proxy,
    client: MlflowClient,
    mode: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The training makes no request, ends soon, and says once how to send the rest; sent thrice it is there once."""
    in_training = False
    on_the_training_thread = []
    me = threading.get_ident()
    send = requests.Session.send

    def spy(self: requests.Session, request: requests.PreparedRequest, **settings: object) -> requests.Response:
        if in_training and threading.get_ident() == me:
            on_the_training_thread.append(request.url)
        return send(self, request, **settings)

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
            nonlocal in_training
            in_training = True

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            nonlocal in_training
            in_training = False

    monkeypatch.setattr(requests.Session, "send", spy)
    if mode == "hang":  # by itself a request may take 10 seconds
        monkeypatch.setattr(mlflow_store, "REQUEST_TIMEOUT", 2.0)
    callback = GradCAMCallback(pictures(2), flush_timeout=2)
    started = time.monotonic()
    train(Watch(), At(0, lambda: setattr(proxy, "mode", mode)), callback, Pause(0.2), epochs=4)
    assert time.monotonic() - started < 30
    assert on_the_training_thread == []
    proxy.mode = "ok"
    proxy.ended.set()
    run_id = own_run().info.run_id
    journal = Path(".gradcam", run_id).absolute()
    assert Journal(journal).steps() == [-1, *range(4)]
    warnings = our_warnings(caplog)
    assert len([warning for warning in warnings if "gradcam upload" in warning]) == 1
    pasted = f"gradcam upload {journal} --tracking-uri {proxy.address}"
    assert f"`{pasted}`" in warnings[-1]
    assert len(warnings) <= 2

    for thread in workers():  # the request that held it is over
        thread.join(30)
    assert workers() == []
    if mode == "dead":
        another_shell = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        another_shell["PATH"] = f"{Path(sys.executable).parent}:{another_shell['PATH']}"
        result = subprocess.run(
            pasted, shell=True, env=another_shell, cwd="/", capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "holds all 4 steps" in result.stdout
    else:
        upload(journal)
    assert_complete(client, run_id, range(4))
    files = artifact_paths(client, run_id)
    upload(journal)
    assert artifact_paths(client, run_id) == files
    (journal / "uploaded").unlink()  # as from another machine
    upload(journal)
    assert artifact_paths(client, run_id) == files
    assert_complete(client, run_id, range(4))


def test_answers_that_are_lost_on_the_way_double_nothing(proxy: Proxy, client: MlflowClient) -> None:
    """Where a third of the requests do their work but seem to fail, everything is there once in the end."""
    callback = GradCAMCallback(pictures(2), flush_timeout=3, journal_dir="kept")
    train(callback, At(0, lambda: setattr(proxy, "mode", "lost")), Pause(0.2), epochs=5)
    assert proxy.lost > 5
    run_id = Journal("kept").manifest.run_id
    for _ in range(3):  # the last machine before the network is repaired
        CliRunner().invoke(main, ["upload", "kept"])
    proxy.mode = "ok"
    upload("kept")
    assert_complete(client, run_id, range(5))


@pytest.mark.parametrize("mode", ["late", "half"])
def test_an_image_that_half_arrived_or_came_late_is_there_once(proxy: Proxy, client: MlflowClient, mode: str) -> None:
    """An image that the server got after the client gave up, or without its small copy, is not there twice."""
    callback = GradCAMCallback(pictures(2), flush_timeout=30, journal_dir="kept")
    train(callback, At(0, lambda: setattr(proxy, "mode", mode)), Pause(0.3), epochs=4)
    assert proxy.lost + proxy.halves >= 1
    assert mode == "half" or proxy.late_ones.wait(30)
    proxy.mode = "ok"
    upload("kept")
    assert_complete(client, Journal("kept").manifest.run_id, range(4))


def test_a_run_of_our_own_that_is_completed_later_is_ended(proxy: Proxy, client: MlflowClient) -> None:
    """Where the server was dead when `fit` returned, `gradcam upload` also ends the run that the callback began."""
    train(GradCAMCallback(pictures(1), flush_timeout=1), At(0, lambda: setattr(proxy, "mode", "dead")), epochs=2)
    proxy.mode = "ok"
    run_id = own_run().info.run_id
    upload(Path(".gradcam", run_id))
    assert_complete(client, run_id, range(2), probes=1)
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_second_fit_goes_on_while_the_server_is_away(proxy: Proxy, client: MlflowClient) -> None:
    """Its steps follow those of the first, whose journal is gone, although nobody can be asked which there were."""
    with mlflow.start_run() as run:
        train(GradCAMCallback(pictures(2)), epochs=2)
        assert not Path(".gradcam").exists()
        proxy.mode = "dead"
        train(GradCAMCallback(pictures(2), flush_timeout=1), epochs=2)
        proxy.mode = "ok"
    run_id = run.info.run_id
    assert Journal(Path(".gradcam", run_id)).steps() == [2, 3]
    upload(Path(".gradcam", run_id))
    assert_complete(client, run_id, range(4), tested=(1, 3))


IN_A_RUN = """
mlflow.set_tracking_uri(sys.argv[0])
with mlflow.start_run(run_id=sys.argv[1]):
    fit(GradCAMCallback(pictures(2)), epochs=2)
"""


def test_a_run_whose_steps_nobody_can_say_is_not_overwritten(proxy: Proxy, client: MlflowClient, forks: Forks) -> None:
    """Another process, the same run, a server that is away: before the training there is an error, later no loss."""
    with mlflow.start_run() as run:
        pass
    forks.run(IN_A_RUN, proxy.address, run.info.run_id, timeout=240)
    with mlflow.start_run(run_id=run.info.run_id):
        proxy.mode = "dead"
        with pytest.raises(RuntimeError, match=f"MLflow does not say which steps run {run.info.run_id} holds already"):
            train(GradCAMCallback(pictures(2)), epochs=2)
        proxy.mode = "ok"
        train(GradCAMCallback(pictures(2)), epochs=1)
    assert_complete(client, run.info.run_id, range(3), tested=(1, 2))


def test_a_status_that_was_left_does_not_end_a_run_that_goes_on(proxy: Proxy, client: MlflowClient) -> None:
    """A run that could not be ended because the server was away is ended by the training that goes on with it."""
    callback = GradCAMCallback(pictures(2), journal_dir="kept", flush_timeout=1)
    train(callback, At(0, lambda: setattr(proxy, "mode", "dead")), epochs=1)
    assert Journal("kept").status == "FINISHED"
    proxy.mode = "ok"
    run_id = Journal("kept").manifest.run_id
    train(GradCAMCallback(pictures(2), journal_dir="kept", run_id=run_id, keep_journal=True), epochs=1)
    assert Journal("kept").status is None
    assert client.get_run(run_id).info.status == "FINISHED"
    assert_complete(client, run_id, range(2), tested=(0, 1))


def test_a_step_that_is_gone_from_the_journal_costs_no_other_step(proxy: Proxy, client: MlflowClient) -> None:
    """A file that somebody removed while the server was away is that step's loss alone; the rest arrives with `fit`."""

    def remove() -> None:
        Path("kept/steps/1.npz").unlink()
        proxy.mode = "ok"

    dead = At(0, lambda: setattr(proxy, "mode", "dead"))
    train(dead, At(3, remove), GradCAMCallback(pictures(1), journal_dir="kept", flush_timeout=10), Pause(0.2), epochs=6)
    assert_complete(client, Journal("kept").manifest.run_id, [0, 2, 3, 4, 5], probes=1)


def test_a_run_deleted_under_the_training_is_completed_when_it_is_back(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The training ends, the journal holds every step, and what is missing is counted; restored, the run gets it."""
    run_id = client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id
    callback = GradCAMCallback(pictures(2), run_id=run_id, flush_timeout=1)
    train(callback, At(0, lambda: client.delete_run(run_id)), Pause(0.2), epochs=4)
    journal = Path(".gradcam", run_id)
    assert Journal(journal).steps() == [-1, *range(4)]
    first, last = our_warnings(caplog)
    assert "training goes on" in first
    missing = Uploader(Journal(journal), find_run(run_id, client.tracking_uri)).missing()
    assert last.startswith(f"{len(missing)} items have not arrived in MLflow. `gradcam upload {journal.absolute()} ")
    client.restore_run(run_id)
    upload(journal)
    assert_complete(client, run_id, range(4))


def test_metrics_are_not_held_up_by_a_server_that_hangs_up_after_each_error(proxy: Proxy, client: MlflowClient) -> None:
    """One pass over a journal brings the metrics of all steps, although no artifact is taken."""
    callback = GradCAMCallback(pictures(1), journal_dir="kept", flush_timeout=1)
    dead = At(0, lambda: setattr(proxy, "mode", "dead"))
    train(dead, callback, At(3, lambda: setattr(proxy, "mode", "no artifacts")), epochs=4)
    run_id = Journal("kept").manifest.run_id
    assert not Uploader(Journal("kept"), find_run(run_id, proxy.address)).send()
    metrics = metric_steps(client, run_id)
    assert metrics
    assert metrics == {key: [0, 1, 2, 3] for key in metrics}
    proxy.mode = "ok"
    upload("kept")
    assert_complete(client, run_id, range(4), probes=1)


def test_metrics_are_not_held_up_by_a_server_that_waits_for_where_artifacts_are(
    proxy: Proxy, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer about an artifact is not a server that is away: one pass brings the metrics of all steps."""
    callback = GradCAMCallback(pictures(1), journal_dir="kept", flush_timeout=1)
    dead = At(0, lambda: setattr(proxy, "mode", "dead"))
    train(dead, callback, epochs=4)
    proxy.mode = "artifacts hang"
    monkeypatch.setattr(mlflow_store, "REQUEST_TIMEOUT", 0.5)
    run_id = Journal("kept").manifest.run_id
    assert not Uploader(Journal("kept"), find_run(run_id, proxy.address)).send()
    metrics = metric_steps(client, run_id)
    assert metrics
    assert metrics == {key: [0, 1, 2, 3] for key in metrics}


def test_a_run_is_ended_by_a_server_that_hangs_up_after_an_error(proxy: Proxy, client: MlflowClient) -> None:
    """The request that ends it comes on the connection of one that failed."""
    run = choose_run(None)
    proxy.mode = "no artifacts"
    with pytest.raises(mlflow.MlflowException, match="500 error responses"):
        run.put(Item(Kind.MAPS, 0), b"maps", 0.0)
    assert recorder._end(run, "FINISHED")
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_an_artifact_store_that_takes_nothing_does_not_stop_the_metrics(
    server_of_session: Server, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The metrics of every epoch arrive, one warning says what is wrong, the last one counts what is missing."""
    place = server_of_session.folder / "artifacts" / "nowhere"
    place.parent.mkdir(exist_ok=True)
    place.symlink_to("/proc/nowhere")
    experiment = client.create_experiment("artifacts nowhere", artifact_location="mlflow-artifacts:/nowhere")
    mlflow.set_experiment(experiment_id=experiment)
    train(GradCAMCallback(pictures(2), flush_timeout=3), Pause(0.2), epochs=4)
    run_id = own_run().info.run_id
    metrics = metric_steps(client, run_id)
    assert metrics
    assert metrics == {key: [0, 1, 2, 3] for key in metrics}
    first, last = our_warnings(caplog)
    assert "training goes on" in first
    missing = (
        1 + 1 + 4 * (1 + 3) + 2
    )  # the description; the baseline; of each step maps and three images; test and report
    assert last.startswith(f"{missing} items have not arrived in MLflow.")
    assert Journal(Path(".gradcam", run_id)).steps() == [-1, 0, 1, 2, 3]


# ---- The disk ----


def test_a_journal_that_cannot_be_made_is_kept_in_memory(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """With journal_dir below /proc everything arrives in MLflow; one warning about the disk."""
    train(GradCAMCallback(pictures(2), journal_dir="/proc/nowhere/journal"), epochs=4)
    run_id = own_run().info.run_id
    assert_complete(client, run_id, range(4))
    warnings = our_warnings(caplog)
    assert len([warning for warning in warnings if "could not be written" in warning]) == 1
    assert not [warning for warning in warnings if "lost" in warning], warnings


FULL_DISK = """
import logging, resource
logging.basicConfig(format="%(name)s|%(message)s")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
mlflow.set_tracking_uri(sys.argv[0])

def fill_up(epoch, logs=None):
    if epoch == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))

fit(GradCAMCallback(pictures(2), journal_dir="kept", flush_timeout=2), call(on_epoch_end=fill_up), epochs=5)
print("trained", mlflow.last_active_run().info.run_id, flush=True)
"""


def test_a_full_disk_ends_no_training(mlflow_server: str, client: MlflowClient, forks: Forks) -> None:
    """Where no file may grow beyond 1500 bytes after epoch 0, the training ends as usual and says so once."""
    out = forks.run(FULL_DISK, mlflow_server, timeout=120)
    found = re.search(r"trained (\w+)", out)
    assert found, out
    metrics = metric_steps(client, found[1])
    assert metrics == {key: [0, 1, 2, 3, 4] for key in metrics}
    assert 0 in Journal("kept").steps()
    warnings = [line for line in out.splitlines() if line.startswith("gradcam_callbacks")]
    assert len([warning for warning in warnings if "The journal" in warning and "could not be written" in warning]) == 1
    assert len([warning for warning in warnings if "have not arrived" in warning]) <= 1
    assert len(warnings) <= 3
    assert "Traceback" not in out


# ---- strict=True, and explanations that fail ----


class Fragile(keras.layers.Layer):
    """Hands on what it gets, and raises while it is broken."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = False
        self.supports_jit = not IS_TENSORFLOW  # XLA runs no function of NumPy's there

    def call(self, inputs: Any) -> Any:
        def checked(array: np.ndarray) -> np.ndarray:
            if self.is_broken:
                raise RuntimeError("the layer is broken")
            return np.zeros_like(array)

        return inputs + by_numpy(checked, keras.ops.stop_gradient(inputs))


def fragile_model() -> tuple[keras.Model, Fragile]:
    layer = Fragile()
    inputs = keras.Input((16, 16, 3))
    x = layer(keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    return same_weights(model, 4), layer


def test_an_explanation_that_fails_costs_that_step_alone(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The training goes on, one traceback is logged, and the steps after it are recorded and count what is lost."""
    model, layer = fragile_model()
    before = [At(epoch, lambda: setattr(layer, "is_broken", True)) for epoch in (1, 2)]
    after = [At(epoch, lambda: setattr(layer, "is_broken", False)) for epoch in (1, 2)]
    callback = GradCAMCallback(pictures(2), layer="conv", journal_dir="kept")
    train(*before, callback, *after, epochs=5, model=model)
    journal = Journal("kept")
    assert journal.steps() == [-1, 0, 3, 4]
    assert [int(journal.read(step).arrays["lost"]) for step in journal.steps()] == [0, 0, 2, 2]
    assert callback.problems == 2
    errors = [record for record in caplog.records if record.name.startswith("gradcam_callbacks") and record.exc_info]
    assert len(errors) == 1
    assert_complete(client, own_run().info.run_id, [0, 3, 4])


def assert_nothing_is_left(status: str | None, client: MlflowClient) -> None:
    """After an exception that nobody holds any more, the worker is gone and the run ended."""
    gc.collect()
    for thread in workers():
        thread.join(30)
    assert workers() == []
    assert mlflow.active_run() is None
    if status is not None:
        assert client.get_run(own_run().info.run_id).info.status == status


def test_strict_raises_where_the_server_is_dead(proxy: Proxy, client: MlflowClient) -> None:
    """strict=True ends the training in the epoch that does not arrive."""
    ended: list[int] = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    callback = GradCAMCallback(pictures(2), strict=True, flush_timeout=5, journal_dir="kept")
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"Step 1 has not arrived in MLflow, and strict=True: .* It is kept in"):
        train(At(1, lambda: setattr(proxy, "mode", "dead")), callback, note, epochs=4)
    assert time.monotonic() - started < 30
    assert ended == [0]
    assert_nothing_is_left(None, client)
    assert Journal("kept").steps() == [-1, 0, 1]
    proxy.mode = "ok"
    upload("kept")
    assert_complete(client, Journal("kept").manifest.run_id, [0, 1], tested=())


def test_strict_raises_where_a_picture_cannot_be_drawn(client: MlflowClient) -> None:
    """strict=True names the item that cannot be sent; without it the rest is sent."""

    def damage(callback: GradCAMCallback) -> None:
        assert callback._session is not None
        journal = callback._session.recorder.journal
        journal.manifest = replace(journal.manifest, pictures=("AAAA",))

    callback = GradCAMCallback(pictures(1), strict=True, baseline=False)
    spoil = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: damage(callback))
    with pytest.raises(
        RuntimeError, match=r"has not arrived in MLflow, and strict=True: The pictures in .* are damaged"
    ):
        train(callback, spoil, epochs=3)
    assert_nothing_is_left("FAILED", client)


def test_strict_raises_where_the_disk_takes_nothing(client: MlflowClient) -> None:
    """strict=True with a journal below /proc ends the training before its first batch."""
    batches: list[int] = []
    note = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: batches.append(batch))
    with pytest.raises(OSError, match="/proc/nowhere"):
        train(GradCAMCallback(pictures(2), strict=True, journal_dir="/proc/nowhere/journal"), note, epochs=2)
    assert batches == []
    assert_nothing_is_left("FAILED", client)


def test_strict_raises_where_the_list_of_what_arrived_cannot_be_written(client: MlflowClient) -> None:
    """strict=True names what the disk said, and no thread dies of it."""

    def block() -> None:
        Path("kept/uploaded").unlink()
        Path("kept/uploaded").mkdir()

    callback = GradCAMCallback(pictures(1), strict=True, journal_dir="kept", flush_timeout=20)
    started = time.monotonic()
    with pytest.raises((OSError, RuntimeError), match="Is a directory"):
        train(callback, At(0, block), epochs=3)
    assert time.monotonic() - started < 15
    assert_nothing_is_left("FAILED", client)


def test_strict_raises_where_an_explanation_fails(client: MlflowClient) -> None:
    """strict=True hands on what the model raised, in that epoch; what was recorded before has arrived."""
    model, layer = fragile_model()
    callback = GradCAMCallback(pictures(2), layer="conv", strict=True)
    with pytest.raises(Exception, match="the layer is broken"):
        train(At(2, lambda: setattr(layer, "is_broken", True)), callback, epochs=4, model=model)
    assert_nothing_is_left("FAILED", client)
    assert_complete(client, own_run().info.run_id, [0, 1], is_whole=False)


# ---- The process ----

ANNOUNCED = """
class Announce(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        os.write(1, f"ended {epoch}\\n".encode())
        time.sleep(0.02)

mlflow.set_tracking_uri(sys.argv[0])
fit(GradCAMCallback(pictures(1), journal_dir=sys.argv[1], verbose=False), Announce(), epochs=1000)
"""


def test_kill_9_at_any_moment_loses_no_epoch(
    mlflow_server: str, client: MlflowClient, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the process is killed, the journal holds each epoch that had ended, and its upload completes the run."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what a killed process leaves goes with the test
    dice = random.Random(KILLS)
    for trial in range(KILLS):
        folder = tmp_path / f"journal-{trial}"
        pid = forks.start(ANNOUNCED, mlflow_server, str(folder))
        announced = (line for line in forks.lines() if line.startswith("ended "))
        assert next(announced) == "ended 0\n"
        time.sleep(dice.uniform(0, 0.8))
        os.kill(pid, signal.SIGKILL)
        ended = 1 + len(list(announced))
        assert forks.status == signal.SIGKILL
        journal = Journal(folder)
        before, *steps = journal.steps()
        assert before == -1
        assert steps == list(range(len(steps)))
        assert ended <= len(steps) <= ended + 1
        assert not list(folder.rglob(".*"))
        run_id = journal.manifest.run_id
        sending = Uploader(journal, find_run(run_id, mlflow_server))
        assert sending.send(), sending.error
        assert_complete(client, run_id, steps, probes=1, tested=())


LONG_TRAINING = """
import ctypes, gc, json, logging, tempfile
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

def settings():
    return [MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get()]

def state():
    loggers = logging.Logger.manager.loggerDict
    levels = {name: getattr(logger, "level", 0) for name, logger in loggers.items()}
    return {
        "settings": settings(), "environment": dict(os.environ), "levels": levels, "threads": threading.active_count()
    }

sizes, counts, seen = [], [], []

def measure(epoch, logs=None):
    if epoch == 20:  # the threads that send pictures begin with the first picture, when the process that draws is up
        while not any(thread.name.startswith("gradcam-sender") for thread in threading.enumerate()):
            time.sleep(0.05)
    if epoch in (20, 199):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later differs by megabytes from run to run
        sizes.append(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    counts.append(len(os.listdir("/proc/self/task")))
    other = threading.Thread(target=lambda: seen.append(settings()))
    other.start()
    other.join()
    time.sleep(0.02)

mlflow.set_tracking_uri(sys.argv[0])
before = state()
callbacks = [GradCAMCallback(pictures(1)), call(on_epoch_end=measure)]
fit(*callbacks, epochs=200)
after = state()
after["levels"] = {name: after["levels"].get(name) for name in before["levels"]}
print(json.dumps({
    "before": before, "after": after, "sizes": sizes, "counts": counts, "seen": seen,
    "traces": callbacks[0].explainer.traces,
    "open": mlflow.active_run() is not None, "here": os.listdir(),
    "names": [thread.name for thread in threading.enumerate()],
}))
"""


@at_night
def test_two_hundred_epochs_take_no_more_memory_than_twenty(
    mlflow_server: str, client: MlflowClient, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trace, the same memory and threads throughout, others see MLflow's own settings, and nothing is left."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.chdir(here)
    out = forks.run(LONG_TRAINING, mlflow_server, timeout=300)
    result = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert result["traces"] == 1
    assert len(set(result["counts"][21:])) == 1, result["counts"]
    assert result["seen"] == [result["before"]["settings"]] * 200
    assert result["after"] == result["before"]
    assert result["open"] is False
    assert result["here"] == []
    assert list(temporary.glob("gradcam*")) == []
    assert "gradcam-worker" not in result["names"]
    early, late = result["sizes"]
    assert late - early < 5e6


CTRL_C = """
def wait(batch, logs=None):
    if epochs == 3:
        print("now", flush=True)
        time.sleep(60)

epochs = 0

def ended(epoch, logs=None):
    global epochs
    epochs = epoch + 1

fit(GradCAMCallback(pictures(2), every=100), call(on_train_batch_begin=wait, on_epoch_end=ended), epochs=9)
"""


def test_ctrl_c_ends_the_run_and_keeps_the_last_epoch(mlflow_server: str, client: MlflowClient, tmp_path: Path) -> None:
    """The epoch before the interrupt is in MLflow, the run has failed, and Python exits as it always does."""
    script = start_script(CTRL_C)
    assert script.stdout is not None
    assert "now\n" in iter(script.stdout.readline, "")  # after the lines that say where to look
    script.send_signal(signal.SIGINT)
    out, err = script.communicate(timeout=90)
    assert script.returncode == -signal.SIGINT, err
    assert err.count("Traceback") == 1
    assert err.strip().endswith("KeyboardInterrupt"), err
    assert "gradcam_callbacks" not in err
    found = re.search(r"/runs/(\w+)/", out)
    assert found, out + err
    assert_complete(client, found[1], [0, 2], tested=())
    assert client.get_run(found[1]).info.status == "FAILED"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_that_is_caught_leaves_no_worker(
    client: MlflowClient, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the interrupt is caught, the worker is gone, the run has failed, and the epochs that ended are there."""

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
            if self.model.optimizer.iterations == 3:
                raise KeyboardInterrupt

    temporary = tmp_path_factory.mktemp("temporary")  # of this test alone
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    try:
        train(GradCAMCallback(pictures(2), every=100), Interrupt(), epochs=9)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("there was no interrupt")
    assert_nothing_is_left("FAILED", client)
    assert_complete(client, own_run().info.run_id, [0, 2], tested=())
    assert list(tmp_path.iterdir()) == []
    assert list(temporary.glob("gradcam-*")) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts this process, also where it was started in the background of a script, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_it_waits_for_mlflow_ends_the_run_too(
    proxy: Proxy, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Who does not want to wait for a dead server gets out at once, the worker ends, and the way to upload is named."""

    class Impatient(keras.callbacks.Callback):
        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            threading.Timer(1.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    dead = At(0, lambda: setattr(proxy, "mode", "dead"))
    started = time.monotonic()
    try:
        train(dead, Impatient(), GradCAMCallback(pictures(1), flush_timeout=50), epochs=3)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("there was no interrupt")
    assert time.monotonic() - started < 30
    assert mlflow.active_run() is None
    assert "gradcam upload" in our_warnings(caplog)[-1]
    assert_nothing_is_left(None, client)
    proxy.mode = "ok"
    run_id = own_run().info.run_id
    upload(Path(".gradcam", run_id))
    assert_complete(client, run_id, range(3), probes=1)
