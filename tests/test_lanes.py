"""The fast lane leaves out what a test's fixtures say that it needs, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.fixture
def mlflow_server(): ...

@pytest.fixture
def client(mlflow_server): ...

@pytest.fixture
def browser(): ...

def test_alone(): ...
def test_of_the_server(client): ...
def test_of_the_server_as_well(mlflow_server): ...
def test_of_a_page_of_the_server(client, browser): ...
"""


def said(folder: Path, *arguments: str) -> str:
    """The output of pytest with the lanes, for the tests above."""
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(TESTS)
    (folder / "conftest.py").write_text('pytest_plugins = ["support.lanes"]')
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {Path(__file__).parent}\n")
    command = [sys.executable, "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", *arguments, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_is_left_out_is_counted_and_said(tmp_path: Path, processes: str) -> None:
    """Each test is counted once, also where several processes choose, and the way to run the rest is named."""
    output = said(tmp_path, "-m", "fast", "-n", processes)
    assert "1 passed" in output
    assert "Left out: 1 that need a browser, 2 that need an MLflow server.\n" in output
    assert 'To run them: pytest -n 2 -m "browser or server". All tests: pytest -n 2.\n' in output


def test_a_need_is_a_lane_of_its_own(tmp_path: Path) -> None:
    """Tests of one need alone can be run, and with all tests nothing is said to be left out."""
    output = said(tmp_path, "-m", "server and not browser")
    assert "2 passed" in output
    assert "Left out: 1 that need a browser.\n" in output
    output = said(tmp_path)
    assert "4 passed" in output
    assert "Left out" not in output
