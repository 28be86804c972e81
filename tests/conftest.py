"""What several tests need: small models, a real MLflow server, a place of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import mlflow
import pytest
from mlflow import MlflowClient
from support.mlflow_runs import wait_until_healthy

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in an empty folder, with the same seed, and leaves no run open."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(7)
    yield
    open_run = mlflow.active_run()
    while mlflow.active_run():
        mlflow.end_run()
    assert open_run is None, "the test left a run open"


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `mlflow server` process on loopback."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, *store], cwd=folder, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(address, server, folder / "log")
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


@pytest.fixture
def client(mlflow_server: str, request: pytest.FixtureRequest) -> Iterator[MlflowClient]:
    """A client of the server, which is the tracking server of the test, in an experiment of its own."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server)
    mlflow.set_experiment(request.node.nodeid)
    yield MlflowClient(mlflow_server)
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium: Debian's, or the one that Playwright has installed."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    with playwright_api.sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(found).is_file():
            pytest.skip("needs Chromium: apt-get install chromium, or playwright install chromium")
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()
