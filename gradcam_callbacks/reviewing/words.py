"""Words for steps, shares and lists, as sentences need them."""

from __future__ import annotations

from collections.abc import Sequence

from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import BASELINE, Step


def name_of(step: Step, manifest: Manifest) -> str:
    """A step as a noun: "epoch 3", "before training"."""
    return "before training" if step.step == BASELINE else f"{manifest.unit} {step.step}"


def at(step: Step, manifest: Manifest) -> str:
    """A step as an adverb: "at epoch 3", "before training"."""
    return "before training" if step.step == BASELINE else f"at {name_of(step, manifest)}"


def percent(share: float) -> str:
    """A share as people read it: "12 %"."""
    value = 100 * share
    if 0 < value < 0.01:  # noise of the numbers themselves
        return "less than 0.01 %"
    return f"{value:.0f} %" if value >= 1 or value == 0 else f"{value:.1g} %"


def listed(parts: Sequence[str]) -> str:
    """As in a sentence: a, b and c."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def quoted(names: Sequence[str], most: int = 5) -> str:
    """Names in quotes, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
