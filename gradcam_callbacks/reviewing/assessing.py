"""What can be said of a journal, worked out once: measures, events, tests, sentences and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing.events import Event, find_events
from gradcam_callbacks.reviewing.measuring import Measures, measure
from gradcam_callbacks.reviewing.sentences import summary
from gradcam_callbacks.reviewing.verdict import Verdict, find_verdict


@dataclass(frozen=True, eq=False)
class Assessment:
    """A journal that was read and measured.

    Attributes:
        steps: that could be read, in order.
        measures: of these steps.
        tests: of reliance, by step.
        events: what a person should look at, in the order of the steps.
        summary: the training in a few sentences.
        verdict: what it comes to.
    """

    steps: Sequence[Step]
    measures: Measures
    tests: Mapping[int, Reliance]
    events: Sequence[Event]
    summary: str
    verdict: Verdict


def assess(journal: Journal, steps: Sequence[Step], *, first: int = 0) -> Assessment:
    """Measures a journal's steps, and says what they come to.

    Args:
        journal: of the steps.
        steps: those that could be read, in order; see `report.read_steps`.
        first: which of them is epoch 0 of the assessment; the baseline stays where it is.

    Raises:
        GradCAMError: if there is none, or the regions are damaged.
    """
    if not steps:
        raise GradCAMError(f"Journal '{journal.directory}' has no step that can be read: nothing to report.")
    manifest = journal.manifest
    is_measured = any("focus" in step.arrays for step in steps)
    regions = journal.regions()  # in any case: they are counted, and drawn
    tests: Mapping[int, Reliance] = journal.tests()
    if first:
        steps = [replace(step, step=_moved(step.step, first)) for step in steps]
        tests = {_moved(step, first): test for step, test in tests.items()}
    measures = measure(steps, None if is_measured else regions)
    events = find_events(steps, measures, manifest, tests)
    return Assessment(
        steps=steps,
        measures=measures,
        tests=tests,
        events=events,
        summary=summary(steps, measures, manifest, events),
        verdict=find_verdict(steps, measures, manifest, events, tests),
    )


def _moved(step: int, first: int) -> int:
    return step if step < 0 else step - first
