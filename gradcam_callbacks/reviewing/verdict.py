"""The verdict: one word from a closed list for a whole record, and why, in a few sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.record.verdicts import VERDICTS
from gradcam_callbacks.reviewing.events import CONSTANT, Event
from gradcam_callbacks.reviewing.findings import last_test
from gradcam_callbacks.reviewing.measuring import Measures
from gradcam_callbacks.reviewing.sentences import course, jumps, unfit

MOST_SUMMARY = 500
"""How many characters a summary has, at most."""
# When attention jumped late: at the fourth step or later, in the later half, on so many of the probes at once.
_LATE, _MANY = 3, 0.25
# When most maps say nothing.
_MOST = 0.5


@dataclass(frozen=True)
class Verdict:
    """What a record comes to.

    Attributes:
        name: one of `VERDICTS`.
        summary: why, in whole sentences with the numbers, the most serious first; at most `MOST_SUMMARY` characters.
    """

    name: str
    summary: str

    @property
    def sentence(self) -> str:
        """The first sentence of the summary."""
        ends = _ends(self.summary)
        return self.summary[: ends[0]] if ends else self.summary


def find_verdict(
    steps: Sequence[Step],
    measures: Measures,
    manifest: Manifest,
    events: Sequence[Event],
    tests: Mapping[int, Reliance],
) -> Verdict:
    """The most serious that holds.

    - "shortcut": the last test of reliance confirmed a finding. Maps alone never say that.
    - "suspect": the last test could not tell of one, or the maps look like a shortcut at the end, and no later test
      cleared that.
    - "constant": answers and maps of the last step are the same whatever the picture.
    - "unfit": more than half of the maps of the last step say nothing.
    - "moved": at the fourth step or later, and in the later half, attention jumped on a quarter of the probes at once
      while the answers stayed.
    - "unsettled": attention had not settled by the last step; see `sentences.course`.
    - "ok": none of these.

    Args:
        steps: at least one, in order.
        measures: of these steps.
        manifest: of the journal.
        events: of these steps and tests.
        tests: of reliance, by the step whose model was tested.
    """
    reasons = dict(_reasons(steps, measures, manifest, events, tests))
    name = next((name for name in VERDICTS if reasons.get(name)), "ok")
    order = ("shortcut", "suspect", "constant", "unfit", "moved", "unsettled", "course", "cleared")
    return Verdict(name, _cut(" ".join(reasons[reason] for reason in order if reasons.get(reason))))


def most_serious(verdicts: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The most serious of several verdicts, and whose it is; of equals the last.

    Args:
        verdicts: at least one, each with what people call the record that it is of, or "".
    """
    title, worst = min(reversed(verdicts), key=lambda one: VERDICTS.index(one[1].name))
    return Verdict(worst.name, _cut(f"{title}: {worst.summary}")) if title else worst


def _reasons(
    steps: Sequence[Step],
    measures: Measures,
    manifest: Manifest,
    events: Sequence[Event],
    tests: Mapping[int, Reliance],
) -> Iterator[tuple[str, str]]:
    """By the verdicts that hold, and by what else is worth saying, what is said; "" where it does not hold."""
    for kind in ("shortcut", "suspect"):
        yield kind, " ".join(event.text for event in events if event.kind == kind)
    constant = [event.text for event in events if event.kind == CONSTANT and event.last == steps[-1].step]
    yield CONSTANT, " ".join(constant)
    is_unfit = bool((steps[-1].health != "ok").mean() > _MOST)
    yield "unfit", " ".join(unfit(steps[-1], manifest)) * is_unfit
    moves = [event for event in events if event.kind == "moved"]
    late = _late(steps, moves, len(manifest.names))
    yield "moved", jumps(steps, manifest, late) if late else ""
    told, is_unsettled = course(steps, measures, manifest, moves)
    yield "unsettled", told * is_unsettled
    yield "course", told * (not is_unsettled and not constant)
    yield "cleared", " ".join(event.text for event in events if event.kind == "cleared") or _tested(tests, manifest)


def _late(steps: Sequence[Step], moves: Sequence[Event], probes: int) -> list[Event]:
    """The jumps late in the training, on many probes at once."""
    late = []
    for step in steps[max(_LATE, len(steps) // 2) :]:
        at_once = [event for event in moves if event.step == step.step]
        if len({event.probe for event in at_once}) >= _MANY * probes:
            late += at_once
    return late


def _tested(tests: Mapping[int, Reliance], manifest: Manifest) -> str:
    """What the last test says where it has nothing against the model."""
    when, test = last_test(tests)
    if not tests:
        return ""
    if test.findings and all(finding.outcome == "cleared" for finding in test.findings):
        changed, of = np.sum([finding.covered for finding in test.findings], axis=0).tolist()
        counts = f": {changed} of {of} answers change when an area is covered" * bool(of)
        return f"Cleared by the test at {manifest.unit} {when}{counts}."
    if test.findings:
        return ""
    if test.reason:
        return f"Nothing could be tested: {test.reason}"
    return f"A test at {manifest.unit} {when} found no area of the pictures that answers rest on." * bool(test.passes)


def _cut(text: str) -> str:
    """The first sentences of a text, as many as a summary takes; of a longer sentence the first words.

    Names of classes may hold lines, and what is no character: neither can be sent, nor stand in a line.
    """
    text = " ".join(text.encode(errors="replace").decode().split())
    if len(text) <= MOST_SUMMARY:
        return text
    ends = [end for end in _ends(text) if end <= MOST_SUMMARY]
    if ends:
        return text[: ends[-1]]
    return text[: MOST_SUMMARY - 1].rpartition(" ")[0] + "…"


def _ends(text: str) -> list[int]:
    """Where sentences end that others follow."""
    return [match.start() for match in re.finditer(r"(?<=[.!?]) (?=[A-Z“])", text)]
