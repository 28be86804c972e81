"""Which of the processes of a distributed training records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gradcam_callbacks.explaining.engines.tf_config import is_chief

WORKERS = {"worker": ["a:1", "b:1"]}
WITH_CHIEF = WORKERS | {"chief": ["c:1"]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, True),
        ({}, True),
        ({"cluster": WORKERS}, True),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": 0}}, True),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": 1}}, False),
        ({"cluster": WITH_CHIEF, "task": {"type": "chief", "index": 0}}, True),
        ({"cluster": WITH_CHIEF, "task": {"type": "worker", "index": 0}}, False),
        ({"cluster": WORKERS, "task": {"type": "master", "index": 0}}, True),
        ({"cluster": WORKERS, "task": {"type": "ps", "index": 0}}, False),
        ({"cluster": WORKERS, "task": {"type": "evaluator", "index": 0}}, False),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}, True),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": "1"}}, False),
        ({"cluster": WORKERS, "task": {"type": None, "index": None}}, True),
        ({"cluster": WORKERS, "task": None}, True),
        ({"cluster": None, "task": {"type": "worker", "index": 1}}, False),
        ({"cluster": WORKERS | {"chief": []}, "task": {"type": "worker", "index": 0}}, True),
    ],
)
def test_one_process_of_a_training_records(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any] | None, expected: bool
) -> None:
    """It is the chief, and the first worker where there is no chief; a process that trains alone always is."""
    monkeypatch.setenv("TF_CONFIG", "" if config is None else json.dumps(config))
    assert is_chief() is expected
    if config is None:
        monkeypatch.delenv("TF_CONFIG")
        assert is_chief()


@pytest.mark.parametrize("text", ["null", "[]", "7", "not JSON", '{"task": {"type": "worker", "index": "first"}}'])
def test_what_distributes_nothing_is_a_training_alone(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """TensorFlow cannot read it either, and trains without a cluster."""
    monkeypatch.setenv("TF_CONFIG", text)
    assert is_chief()
