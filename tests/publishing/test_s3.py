"""Artifacts in S3, over its real protocol: once each, also where S3 is away for a while or refuses the keys."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import mlflow
import pytest
from botocore.exceptions import ReadTimeoutError
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository, _cached_get_s3_client
from moto.core.authorization import enable_iam_authentication
from moto.server import ThreadedMotoServer
from support.mlflow_runs import Server
from support.models import pictures
from support.trainings import At, fit, warnings_of

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.publishing.store import Item, Kind
from gradcam_callbacks.record.journal import Journal

BUCKET = "runs"


class S3:
    """An S3 on loopback, which can go away and come back on its port with all that it holds."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, self.port = self._server.get_host_and_port()
        self.address = f"http://{host}:{self.port}"
        self._client = boto3.client("s3", endpoint_url=self.address)
        self._client.create_bucket(Bucket=BUCKET)
        # Of what is put twice it keeps both.
        self._client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})

    def use_keys(self, name: str, secret: str) -> None:
        """Looks into it with other keys."""
        self._client.close()
        self._client = boto3.client(
            "s3", endpoint_url=self.address, aws_access_key_id=name, aws_secret_access_key=secret
        )

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def close(self) -> None:
        self._client.close()
        self._server.stop()

    def puts(self, run_id: str) -> Counter[str]:
        """How often each file of a run has arrived, by its path in the run."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=BUCKET)
        keys = [version["Key"] for page in pages for version in page.get("Versions", [])]
        return Counter(key.partition("/artifacts/")[2] for key in keys if f"/{run_id}/" in key)


def forget_keys() -> None:
    """Makes this process read them anew, as another process does: MLflow and boto keep what they have read."""
    boto3.setup_default_session()
    for clients in (_cached_get_s3_client, mlflow_store._bounded_s3_client):
        clients.cache_clear()


@pytest.fixture(scope="module")
def s3_of_module() -> Iterator[S3]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "DEFAULT_REGION": "us-east-1"}.items():
            environment.setenv(f"AWS_{name}", value)
        server = S3()
        environment.setenv("MLFLOW_S3_ENDPOINT_URL", server.address)
        yield server
        server.close()
        forget_keys()


@pytest.fixture
def s3(s3_of_module: S3, client: MlflowClient, request: pytest.FixtureRequest) -> S3:
    """An S3 that is well, where the artifacts of the test's experiment are; its metrics are on the server."""
    experiment = client.create_experiment(request.node.name, artifact_location=f"s3://{BUCKET}/of-the-team")
    mlflow.set_experiment(experiment_id=experiment)
    return s3_of_module


def callback(**settings: Any) -> GradCAMCallback:
    return GradCAMCallback(pictures(2), **settings)


def last_run() -> str:
    run = mlflow.last_active_run()
    assert run is not None
    return str(run.info.run_id)


def metric_steps(run_id: str) -> list[int]:
    return [metric.step for metric in MlflowClient().get_metric_history(run_id, "gradcam_health/ok")]


def assert_complete(s3: S3, run_id: str, epochs: int) -> None:
    """Each file is there, and what nothing rewrites was put once; the command reads the record back from S3."""
    puts = s3.puts(run_id)
    images = {path: count for path, count in puts.items() if path.startswith("images/")}
    assert len(images) == 3 * 2 * epochs  # of two probes and of all a picture each, with its small copy
    assert set(images.values()) == {1}
    maps = {path: count for path, count in puts.items() if path.startswith("gradcam/maps/")}
    assert maps == {f"gradcam/maps/{step}.npz": 1 for step in range(-1, epochs)}
    assert {"gradcam/manifest.json", "gradcam/report.html", "gradcam/strip.png"} <= set(puts)
    assert metric_steps(run_id) == [*range(epochs)]
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"
    page = CliRunner().invoke(main, ["report", f"runs:/{run_id}", "--out", "page.html"])
    assert page.exit_code == 0, page.output
    assert Path("page.html").read_bytes().count(b"probe_1") > 0


def test_each_file_arrives_once_and_a_run_that_is_resumed_has_each_step_once(s3: S3) -> None:
    """The second training takes the first one's maps from S3: its own journal does not have them."""
    fit(callback(), epochs=2)
    run_id = last_run()
    assert_complete(s3, run_id, 2)
    fit(callback(run_id=run_id), initial_epoch=2, epochs=4)
    MlflowClient().set_terminated(run_id)
    assert_complete(s3, run_id, 4)


def test_metrics_arrive_while_s3_is_away_and_files_when_it_is_back(s3: S3, caplog: pytest.LogCaptureFixture) -> None:
    """One warning; the journal stays until everything has arrived."""
    in_between = {}

    def look() -> None:
        (folder,) = Path(".gradcam").iterdir()
        deadline = time.monotonic() + 20
        while metric_steps(folder.name) != [0, 1, 2] and time.monotonic() < deadline:
            time.sleep(0.02)
        in_between.update(steps=metric_steps(folder.name), journal=Journal(folder).steps())
        s3.come_back()

    fit(At(0, s3.go_away), callback(), At(2, look), epochs=4)
    assert in_between == {"steps": [0, 1, 2], "journal": [-1, 0, 1, 2]}
    (warning,) = warnings_of(caplog)
    assert "Could not connect to the endpoint URL" in warning
    assert "training goes on" in warning
    assert not Path(".gradcam").exists()
    assert_complete(s3, last_run(), 4)


def test_where_s3_stays_away_the_journal_is_kept_and_completes_the_run(
    s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    """The training ends after `flush_timeout`; the command is sent away with one line, and sends all later."""
    fit(callback(flush_timeout=1), At(0, s3.go_away), epochs=2)
    (folder,) = Path(".gradcam").iterdir()
    assert Journal(folder).steps() == [-1, 0, 1]
    first, last = warnings_of(caplog)
    assert "training goes on" in first
    assert f"`gradcam upload {folder.absolute()}" in last
    refused = CliRunner().invoke(main, ["upload", str(folder)])
    assert refused.exit_code == 1
    (line,) = refused.stderr.splitlines()
    assert "Could not connect to the endpoint URL" in line
    s3.come_back()
    done = CliRunner().invoke(main, ["upload", str(folder)])
    assert done.exit_code == 0, done.output
    assert_complete(s3, folder.name, 2)


@pytest.fixture
def right_keys(s3: S3) -> Iterator[dict[str, str]]:
    """S3 asks for the keys of a user who may use it; the environment has others."""
    users = boto3.client("iam", endpoint_url=s3.address)
    users.create_user(UserName="trainer")
    allowed = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    users.put_user_policy(UserName="trainer", PolicyName="all", PolicyDocument=allowed)
    key = users.create_access_key(UserName="trainer")["AccessKey"]
    users.close()
    s3.use_keys(key["AccessKeyId"], key["SecretAccessKey"])
    with enable_iam_authentication():
        yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    forget_keys()


def test_wrong_keys_are_one_warning_and_right_ones_complete_the_run(
    s3: S3, right_keys: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training is not stopped, metrics arrive, the journal has every step; no key is in what is said."""
    fit(callback(flush_timeout=2), epochs=2)
    (folder,) = Path(".gradcam").iterdir()
    assert Journal(folder).steps() == [-1, 0, 1]
    assert metric_steps(folder.name) == [0, 1]
    first, _ = warnings_of(caplog)
    assert "InvalidAccessKeyId" in first
    for name, value in right_keys.items():
        monkeypatch.setenv(name, value)
    forget_keys()
    done = CliRunner().invoke(main, ["upload", str(folder)])
    assert done.exit_code == 0, done.output
    assert_complete(s3, folder.name, 2)
    assert right_keys["AWS_SECRET_ACCESS_KEY"] not in done.output + caplog.text


def test_an_s3_that_does_not_answer_holds_our_threads_up_for_seconds_and_no_other_thread_gets_our_client(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself boto waits for a minute, several times. Other threads, and ours afterwards, have MLflow's client."""
    made = mlflow_store.choose_run(None)
    clients: dict[str, Any] = {}

    def ask(name: str) -> None:
        repository = S3ArtifactRepository(f"s3://{BUCKET}")
        clients[name] = repository._get_s3_client().meta.config.connect_timeout

    with mlflow_store._bounded_requests(7.0):
        ask("ours")
        other = threading.Thread(target=ask, args=("another",))
        other.start()
        other.join()
    ask("ours, afterwards")
    assert clients == {"ours": 7.0, "another": 60, "ours, afterwards": 60}
    monkeypatch.setattr(mlflow_store, "REQUEST_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(ReadTimeoutError):
            made.put(Item(Kind.MAPS, 0), b"maps", 0.0)
        assert time.monotonic() - start < 5
    made.put(Item(Kind.METRICS, 0), {"gradcam_health/ok": 1.0}, 0.0)
    made.finish("FINISHED")


@pytest.fixture
def own_server(s3_of_module: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server that hands artifacts on to S3: the client has no keys and does not know that there is one."""
    folder = tmp_path_factory.mktemp("mlflow")
    server = Server(folder, f"s3://{BUCKET}/behind-a-server")
    server.start()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.address)
    mlflow.set_experiment("handed on")
    yield server
    mlflow.set_tracking_uri(before)
    server.kill()


def test_a_server_that_hands_artifacts_on_to_an_s3_that_is_away_takes_the_metrics(
    s3_of_module: S3, own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the client talks to S3 itself."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    fit(callback(flush_timeout=2), At(0, s3_of_module.go_away), epochs=2)
    (folder,) = Path(".gradcam").iterdir()
    assert metric_steps(folder.name) == [0, 1]
    assert len(warnings_of(caplog)) == 2
    s3_of_module.come_back()
    done = CliRunner().invoke(main, ["upload", str(folder)])
    assert done.exit_code == 0, done.output
    assert_complete(s3_of_module, folder.name, 2)
