"""The part of this process in a distributed training, as the environment variable TF_CONFIG gives it."""

from __future__ import annotations

import json
import os


def is_chief() -> bool:
    """Whether this process records: it trains alone, or is the chief, or the first worker of a cluster without one."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    task, cluster = config.get("task", {}), config.get("cluster", {})
    if not task:
        return True
    kind = task.get("type", "worker")
    return kind in ("chief", "master") or (kind == "worker" and not task.get("index", 0) and "chief" not in cluster)
