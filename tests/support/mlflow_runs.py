"""A real MLflow server, and what its runs hold."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository


class Server:
    """An `mlflow server` process on loopback, which can be killed and started again on its port."""

    def __init__(self, folder: Path, artifacts: str | Path, *options: str, **environment: str) -> None:
        """Chooses a free port.

        Args:
            folder: where the database and the log are; it exists.
            artifacts: where the artifacts are.
            options: more of the command line.
            environment: more variables of the process.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._artifacts = artifacts
        self._options = options
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the server answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        destination = ["--artifacts-destination", str(self._artifacts)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *store, *destination, *self._options],
                cwd=self.folder,
                # Six processes less, which poll.
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"mlflow server did not start:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """Ends it at once: asked politely, it can wait half a minute for connections that nobody uses."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None


def artifact_paths(client: MlflowClient, run_id: str, folder: str = "") -> list[str]:
    """The paths of all artifacts of a run, or of a folder of it."""
    # One request a folder; `client.list_artifacts` makes four, since the run may have a LoggedModel of that name.
    artifacts = get_artifact_repository(client.get_run(run_id).info.artifact_uri, tracking_uri=client.tracking_uri)
    found, folders = [], [folder]
    while folders:
        for entry in artifacts.list_artifacts(folders.pop() or None):
            (folders if entry.is_dir else found).append(entry.path)
    return sorted(found)


def image_steps(client: MlflowClient, run_id: str) -> dict[str, list[int]]:
    """For each image card its steps."""
    steps: dict[str, list[int]] = {}
    for path in artifact_paths(client, run_id, "images"):
        match = re.fullmatch(r"images/(.+)\+step\+(\d+)\+timestamp\+\d+\+[^+]+\.png", path)
        if match:
            steps.setdefault(match[1].replace("~", "/"), []).append(int(match[2]))
    return {key: sorted(values) for key, values in steps.items()}
