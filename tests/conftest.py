"""What several tests need: a place of their own, a real MLflow server, a browser; and names for what is slow."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

# Keras and MLflow are imported by what uses them: the process that hands the tests out to the others, which begin
# after it, need not load them.
if TYPE_CHECKING:
    from mlflow import MlflowClient
    from playwright.sync_api import Browser
    from support.mlflow_runs import Server

pytest_plugins = ["support.lanes"]


@pytest.fixture(scope="module", autouse=True)
def garbage_is_collected_quickly() -> None:
    """What imports and earlier modules made stays to the end, and is not looked at again.

    There are gigabytes of it. To go through them took seconds, each time that a test collects garbage or clears Keras's
    session, which collects it too.
    """
    import keras  # noqa: F401
    import mlflow  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in an empty folder, with the same seed, and leaves no run open."""
    import keras
    import mlflow

    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(7)
    yield
    open_run = mlflow.active_run()
    while mlflow.active_run():
        mlflow.end_run()
    assert open_run is None, "the test left a run open"


@pytest.fixture(scope="session")
def server_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real `mlflow server` process on loopback, for all tests: to start one takes five seconds of a processor."""
    from support.mlflow_runs import Server

    folder = tmp_path_factory.mktemp("mlflow")
    server = Server(folder, folder / "artifacts")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def mlflow_server(server_of_session: Server) -> str:
    """Its address."""
    return server_of_session.address


@pytest.fixture
def mortal_server(server_of_session: Server, client: MlflowClient) -> Iterator[Server]:
    """The same one, for a test that kills it: it runs again afterwards."""
    yield server_of_session
    if server_of_session.process is None:
        server_of_session.start()


@pytest.fixture
def client(mlflow_server: str, request: pytest.FixtureRequest) -> Iterator[MlflowClient]:
    """A client of the server, which is the tracking server of the test, in an experiment of its own."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server)
    mlflow.set_experiment(request.node.nodeid)
    yield mlflow.MlflowClient(mlflow_server)
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


# Fixtures that bring nothing: a test asks for one to say what it needs, so that the fast lane leaves it out.


@pytest.fixture
def cluster() -> None:
    """Several processes that work together: Dask, Ray, or the workers of a `tf.distribute` strategy."""


@pytest.fixture
def large_network() -> None:
    """A network as people use them: hundreds of layers, which take seconds to trace, or real weights."""


@pytest.fixture
def long() -> None:
    """More than a second of a quiet processor. The fast lane is for what is run again and again while one works."""


@pytest.fixture(scope="session")
def process() -> None:
    """A process of the test's own that loads TensorFlow, which takes seconds, and perhaps trains."""
