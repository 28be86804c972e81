"""The part of this process in a distributed training, as the environment variable TF_CONFIG gives it."""

from __future__ import annotations

import json
import os
from typing import Any


def is_chief() -> bool:
    """Whether this process records: it trains alone, or is the chief, or the first worker of a cluster without one.

    What TensorFlow could not read does not distribute anything: the process trains alone then.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        task, cluster = _mapping(config, "task"), _mapping(config, "cluster")
        index = int(task.get("index") or 0)  # launchers write it as a number or as text, and TensorFlow takes both
    except ValueError:
        return True
    if not task:
        return True
    kind = task.get("type") or "worker"
    return kind in ("chief", "master") or (kind == "worker" and index == 0 and not cluster.get("chief"))


def _mapping(config: Any, name: str) -> dict[str, Any]:
    """A part of the configuration; empty where it is missing or null."""
    part = config.get(name) if isinstance(config, dict) else None
    return part if isinstance(part, dict) else {}
