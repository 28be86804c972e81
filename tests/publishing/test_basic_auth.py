"""A server that asks for name and password: wrong and expired ones cost one warning, and nothing that was recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient
from support.mlflow_runs import Server, artifact_paths, image_steps
from support.models import pictures
from support.trainings import At, fit, warnings_of

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.cli import main
from gradcam_callbacks.record.journal import Journal

NAME, FIRST, SECOND = "admin", "first-password-7", "second-password-8"
EPOCHS = 3


@pytest.fixture(scope="module")
def server_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with basic authentication."""
    pytest.importorskip("flask_wtf", reason="needs MLflow's authentication: pip install 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("mlflow")
    settings = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{folder}/auth.db",
        "admin_username": NAME,
        "admin_password": FIRST,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        # Its check of a password takes 70 ms of a processor, by design, and it makes two a request. One that was right
        # is right again until somebody changes it.
        "auth_cache_ttl_seconds": 3600,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "auth.ini").write_text("\n".join(["[mlflow]", *lines]))
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test"}
    server = Server(folder, folder / "artifacts", "--app-name", "basic-auth", **environment)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_server(
    server_of_module: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """The server, which is the tracking server of the test, in an experiment of its own, with its first password."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server_of_module.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", NAME)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", FIRST)
    mlflow.set_experiment(request.node.name)
    yield server_of_module
    mlflow.set_tracking_uri(before)
    with contextlib.suppress(requests.HTTPError):  # the test has not changed it
        change_password(server_of_module, SECOND, FIRST)


def change_password(server: Server, old: str, new: str) -> None:
    address = f"{server.address}/api/2.0/mlflow/users/update-password"
    asked = {"username": NAME, "password": new, "current_password": old}
    requests.patch(address, json=asked, auth=(NAME, old), timeout=30).raise_for_status()


def assert_complete(run_id: str) -> None:
    client = MlflowClient()
    assert image_steps(client, run_id) == {"gradcam/all": [*range(EPOCHS)], "gradcam/probe_0": [*range(EPOCHS)]}
    steps = [metric.step for metric in client.get_metric_history(run_id, "gradcam_health/ok")]
    assert steps == [*range(EPOCHS)]
    files = artifact_paths(client, run_id, "gradcam")
    assert [path for path in files if "maps" in path] == [f"gradcam/maps/{n}.npz" for n in (-1, *range(EPOCHS))]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_right_credentials_send_everything(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """As without authentication; neither is in the journal."""
    fit(GradCAMCallback(pictures(1), keep_journal=True), epochs=EPOCHS)
    run = mlflow.last_active_run()
    assert run is not None
    assert_complete(run.info.run_id)
    assert warnings_of(caplog) == []
    for file in Path(".gradcam").rglob("*"):
        assert not file.is_file() or FIRST.encode() not in file.read_bytes()


def test_credentials_that_expire_cost_one_warning(
    own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training ends, its journal has every step, and the printed command says what to do; new ones complete it."""
    watch = GradCAMCallback(pictures(1), flush_timeout=1)

    def expire() -> None:
        # With nothing on its way: MLflow checks a request twice, and answers 500 where the password changes in between.
        assert watch._session is not None
        assert watch._session.recorder._worker is not None
        assert watch._session.recorder._worker.wait(30)
        change_password(own_server, FIRST, SECOND)

    fit(At(1, expire), watch, epochs=EPOCHS)
    (folder,) = Path(".gradcam").iterdir()
    journal = Journal(folder)
    assert journal.steps() == [-1, *range(EPOCHS)]
    first, last = warnings_of(caplog)
    assert "401" in first
    assert f"`gradcam upload {folder.absolute()} --tracking-uri {own_server.address}` sends the rest" in last
    refused = CliRunner().invoke(main, ["upload", str(folder)])
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "401" in refused.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECOND)
    done = CliRunner().invoke(main, ["upload", str(folder)])
    assert done.exit_code == 0, done.output
    assert_complete(journal.manifest.run_id)


def test_credentials_that_are_renewed_in_time_lose_nothing(
    own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job does that gets a new token while it trains: all arrives with `fit`."""
    expire = At(0, lambda: change_password(own_server, FIRST, SECOND))
    renew = At(EPOCHS - 1, lambda: monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECOND))
    fit(expire, GradCAMCallback(pictures(1)), renew, epochs=EPOCHS)
    run = mlflow.last_active_run()
    assert run is not None
    assert_complete(run.info.run_id)
    assert len(warnings_of(caplog)) <= 1
    assert not Path(".gradcam").exists()


def test_wrong_credentials_are_said_before_the_first_batch(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run can be opened with them: MLflow's own error, which names what to set, and no password."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "no-such-password")
    with pytest.raises(mlflow.MlflowException, match="401") as caught:
        fit(GradCAMCallback(pictures(1)), epochs=EPOCHS)
    assert "no-such-password" not in str(caught.value)


def test_wrong_credentials_in_a_run_that_is_open_cost_warnings_and_no_step(
    own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's run was begun with other ones: the training is not stopped, and the journal is completed later."""
    run = mlflow.start_run()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "no-such-password")
        fit(GradCAMCallback(pictures(1), flush_timeout=1), epochs=EPOCHS)
    finally:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", FIRST)
        mlflow.end_run()
    folder = Path(".gradcam", run.info.run_id)
    assert Journal(folder).steps() == [-1, *range(EPOCHS)]
    assert len(warnings_of(caplog)) == 2
    done = CliRunner().invoke(main, ["upload", str(folder)])
    assert done.exit_code == 0, done.output
    assert_complete(run.info.run_id)
