"""The fast lane: a test is marked by what it needs, which the fixtures say that it uses.

`pytest -m fast` runs what needs nothing but this process and a second of it, and says at the end what it left out and
how to run that.
A pytest plugin; `conftest.py` names it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

# Mark: what such a test needs, in words, and the fixtures that bring it. A test that needs several things is counted
# under the first.
NEEDS = {
    "browser": ("a browser", {"browser"}),
    "cluster": ("a cluster", {"cluster"}),
    "large_network": ("a large network", {"large_network"}),
    "server": ("an MLflow server", {"mlflow_server", "own_server"}),
    "process": ("a process that loads TensorFlow", {"process"}),
    "long": ("more than a second", {"long"}),
}

at_night = pytest.mark.skipif(
    "GRADCAM_AT_NIGHT" not in os.environ,
    reason="takes long: set GRADCAM_AT_NIGHT=1, as each night does",
)

_left_out: Counter[str] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Marks each test by its needs, or else as fast, before `-m` chooses."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        needs = [mark for mark, (_, bring_it) in NEEDS.items() if fixtures & bring_it]
        for mark in needs or ["fast"]:
            item.add_marker(mark)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Counts what is left out."""
    for item in items:
        _left_out[next((mark for mark in NEEDS if item.get_closest_marker(mark)), "fast")] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands its counts on; each of them has chosen among all the tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(_left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the counts of a process of pytest-xdist."""
    if not _left_out:
        _left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Where `-m` chose, says how many tests were left out and what they need."""
    counts = [(mark, _left_out[mark]) for mark in NEEDS if _left_out[mark]]
    if config.option.markexpr and counts:
        said = ", ".join(f"{count} that need {NEEDS[mark][0]}" for mark, count in counts)
        terminalreporter.write_line(f"Left out: {said}.")
        marks = " or ".join(mark for mark, _ in counts)
        terminalreporter.write_line(f'To run them: pytest -n 2 -m "{marks}". All tests: pytest -n 2.')
