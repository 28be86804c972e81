"""A real MLflow server, and what its runs hold."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from mlflow import MlflowClient


def wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"mlflow server did not start:\n{log.read_text()}")


def artifact_paths(client: MlflowClient, run_id: str, folder: str = "") -> list[str]:
    """The paths of all artifacts of a run."""
    found = []
    for entry in client.list_artifacts(run_id, folder or None):
        found += artifact_paths(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


def image_steps(client: MlflowClient, run_id: str) -> dict[str, list[int]]:
    """For each image card its steps."""
    steps: dict[str, list[int]] = {}
    for path in artifact_paths(client, run_id, "images"):
        match = re.fullmatch(r"images/(.+)\+step\+(\d+)\+timestamp\+\d+\+[^+]+\.png", path)
        if match:
            steps.setdefault(match[1].replace("~", "/"), []).append(int(match[2]))
    return {key: sorted(values) for key, values in steps.items()}
