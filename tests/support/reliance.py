"""Findings of tests of reliance, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcam_callbacks.record.reliance import COUNTS, Count, Finding, Reliance

Array = np.ndarray[Any, np.dtype[Any]]


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (48, 64)) -> Array:
    """(H, W) bool, true inside of a box."""
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def a_finding(outcome: str = "confirmed", *, probes: Sequence[int] = (0,), **others: Any) -> Finding:
    """A finding on the class 0, in the upper left quarter of the pictures; counts are (changed, of)."""
    settings: dict[str, Any] = {
        "answer": 0,
        "kind": "outside",
        "areas": tuple(box(0, 0, 24, 32) for _ in probes),
        "decisive": tuple(probes) if outcome == "confirmed" else (),
        "covered": (len(probes), len(probes)) if outcome == "confirmed" else (0, len(probes)),
    } | others
    counts = {name: Count(*value) for name, value in settings.items() if name in COUNTS}
    return Finding(outcome=outcome, probes=tuple(probes), **settings | counts)


def a_test(*outcomes: str, **finding: Any) -> Reliance:
    """What a test found; one finding an outcome."""
    return Reliance(findings=tuple(a_finding(outcome, **finding) for outcome in outcomes), passes=100)
