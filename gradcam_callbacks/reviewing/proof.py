"""The proof of a verdict, as the page gets it: what tests found, and the outlines of the areas that they covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import COUNTS, Finding, Reliance
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import findings
from gradcam_callbacks.reviewing.outlines import outline

# How many findings of a test are shown, and how many pictures of each.
_MOST_FINDINGS, _MOST_AREAS = 24, 8


def proof(tests: Mapping[int, Reliance], manifest: Manifest, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Each test as the `TestData` of `page/js/types.js`, but that attention is (S,) float64, or None.

    Of the last test all findings are there; of earlier ones those that it has not, or found otherwise.

    Args:
        tests: by step, in order.
        manifest: of the journal.
        steps: S recorded steps.
    """
    told = []
    last = {} if not tests else {_about(each): each.outcome for each in tests[max(tests)].findings}
    for step, test in tests.items():
        is_last = step == max(tests)
        found = [each for each in test.findings if is_last or last.get(_about(each)) != each.outcome]
        told.append(
            {
                "step": step,
                "reason": test.reason,
                "findings": [_of_finding(each, manifest, steps) for each in found[:_MOST_FINDINGS]],
                "unlisted": max(0, len(found) - _MOST_FINDINGS),
            }
        )
    return told


def _about(finding: Finding) -> tuple[int, str]:
    """Which answers a finding is about, and which areas."""
    return finding.answer, finding.kind


def _of_finding(finding: Finding, manifest: Manifest, steps: Sequence[Step]) -> dict[str, Any]:
    paths = [(probe, outline(finding.area(probe))) for probe in finding.shown]
    areas = [{"probe": probe, "path": path} for probe, path in paths if path is not None]
    attention: Array | None = None if finding.outcome == "cleared" else findings.attention(finding, steps)
    return {
        "answer": finding.answer,
        "kind": finding.kind,
        "outcome": finding.outcome,
        "text": findings.text(finding, manifest),
        "counts": {name: list(getattr(finding, name)) for name in COUNTS if getattr(finding, name).of},
        "areas": areas[:_MOST_AREAS],
        "others": max(0, len(areas) - _MOST_AREAS),
        "attention": attention,
    }
