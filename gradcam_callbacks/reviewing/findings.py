"""What a test of reliance found, in words; and where the attention lay meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import Count, Finding, Reliance
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing import drift
from gradcam_callbacks.reviewing.words import percent

_DEGREES = {
    "confirmed": "Confirmed by the test",
    "untold": "Suspected, and the test could not tell",
    "cleared": "Cleared by the test",
}
# An area has the size of its bounding box where it fills this share of it.
_BOX_FILLED = 0.75
# From when on attention lay on an area is told where it rose by this share of all attention at least.
_LEAST_RISE = 0.05


def text(finding: Finding, manifest: Manifest) -> str:
    """A finding in a few plain sentences, with the degree of certainty and the counts behind it.

    Args:
        finding: of a test.
        manifest: of the journal, for the names of the classes.
    """
    answer = f"“{manifest.class_name(finding.answer)}”"
    # The first letter follows a colon.
    first, *others = [*_covering(finding, answer), *_hiding(finding, answer), *_pasting(finding, answer)] or [
        f"No answer {answer} could be tested."
    ]
    return " ".join([f"{_DEGREES[finding.outcome]}: {first[0].lower()}{first[1:]}", *others])


def cleared(findings: Sequence[Finding]) -> str:
    """What clears areas outside of the marked regions, with the counts of all these findings together.

    Args:
        findings: of that kind, at least one.
    """
    covered, elsewhere, pasted = (
        Count(*np.sum([getattr(finding, name) for finding in findings], axis=0).tolist())
        for name in ("covered", "elsewhere", "pasted")
    )
    parts = []
    if covered.of:
        part = f"without areas outside of these, {covered} answers {_verb('change', covered)}"
        parts.append(part + f", and without as much elsewhere {elsewhere}" * bool(elsewhere.of))
    if pasted.of:
        parts.append(f"pasted on other pictures, the areas change {pasted} answers to their class")
    return "; ".join(parts) or "the answers rest on no area outside of these"


def last_test(tests: Mapping[int, Reliance]) -> tuple[int, Reliance]:
    """The step and the findings of the last test in which something was tested, or else of the last one.

    Args:
        tests: by step; without any, the step is below every other and nothing was found.
    """
    tested = [step for step, test in tests.items() if test.findings or not test.reason]
    when = max(tested or tests, default=BASELINE - 1)
    return when, tests.get(when, Reliance())


def attention(finding: Finding, steps: Sequence[Step]) -> Array:
    """How much of the attention lay in a finding's area at each step.

    The area is averaged over the cells of the maps' grid, as in `drift.focus`.

    Args:
        finding: of a test.
        steps: S recorded steps.

    Returns:
        (S,) float64 in [0, 1], the mean over the finding's `shown` probes of the maps that explain its class; NaN where
        no map does.
    """
    probes = np.array(finding.shown, int)
    found = np.full(len(steps), np.nan)
    if not probes.size:
        return found
    areas = np.stack([finding.area(probe) for probe in finding.shown])
    for s, step in enumerate(steps):
        inside = np.where(step.explained[probes] == finding.answer, drift.focus(step.shown[probes], areas), np.nan)
        is_known = np.isfinite(inside)
        if is_known.any():
            # Two targets may explain one class; a probe counts once.
            first = np.take_along_axis(inside, is_known.argmax(axis=1)[:, None], axis=1)
            found[s] = np.nanmean(first)
    return found


def began(finding: Finding, steps: Sequence[Step]) -> int:
    """The recorded step at which attention turned to a finding's area.

    That is the step from which on `attention` is at least half way from its lowest earlier value to its last one, and
    stays so. It is the last step where this cannot be told: where attention has risen by less than a twentieth of all
    attention, or is not known.

    Args:
        finding: of a test.
        steps: at least one, in order.
    """
    shares = attention(finding, steps)
    known = np.flatnonzero(np.isfinite(shares))
    if known.size < 2:
        return steps[-1].step
    values = shares[known]
    lowest, last = values[:-1].min(), values[-1]
    if last - lowest < _LEAST_RISE:
        return steps[-1].step
    below = np.flatnonzero(values < (lowest + last) / 2)
    return steps[int(known[below[-1] + 1])].step


def _covering(finding: Finding, answer: str) -> Iterator[str]:
    """What became of the answers when the area was covered."""
    area = _area(finding)
    if not finding.covered.of:
        return
    told = f"Without {area}, {finding.covered} answers {answer} {_verb('change', finding.covered)}"
    if finding.elsewhere.of:
        told += f"; without as much elsewhere, {finding.elsewhere}"
    yield f"{told}."


def _hiding(finding: Finding, answer: str) -> Iterator[str]:
    """What became of them when the marked region was covered."""
    if not finding.hidden.of:
        return
    stay = _rest(finding.hidden)
    told = f"With the marked region itself covered, {stay} {_verb('stay', stay)} {answer}"
    if finding.hidden_covered.of:
        both = _rest(finding.hidden_covered)
        told += f"; with the area covered, too, {both} {_verb('do', both)}"
    if finding.hidden_elsewhere.of:
        told += f"; with as much elsewhere, {_rest(finding.hidden_elsewhere)}"
    if finding.hidden_others.of:
        become = finding.hidden_others
        told += f", and of pictures of other classes without theirs {become} {_verb('become', become)} {answer}"
        told += ": what is around tells the class" * (finding.kind == "around")
    yield f"{told}."


def _pasting(finding: Finding, answer: str) -> Iterator[str]:
    """What became of pictures of other classes when the area was pasted on them."""
    if not finding.pasted.of:
        return
    told = f"Pasted on other pictures, the area makes {finding.pasted} {answer}"
    controls = []
    if finding.pasted_elsewhere.of:
        controls.append(f"areas from elsewhere make {finding.pasted_elsewhere}")
    if finding.pasted_others.of:
        controls.append(f"the same place of other pictures makes {finding.pasted_others}")
    yield "; ".join([told, *controls]) + "."


def _area(finding: Finding) -> str:
    """The area as a noun, with its size."""
    if finding.kind == "outside":
        return f"an area outside the marked regions{_in_brackets(_share(finding))}"
    box = _box(finding)
    if finding.in_place:
        alike = " that looks alike in them" * finding.alike
        return f"an area at the same place of the pictures{alike}{_in_brackets(box or _share(finding))}"
    each = "one area that looks alike in the pictures" if finding.alike else "one area of each picture"
    return f"{each}{_in_brackets(box or _share(finding))}"


def _in_brackets(size: str) -> str:
    return f" ({size})" if size else ""


def _share(finding: Finding) -> str:
    """How much of the picture the areas take, in the mean; "" where that is nothing."""
    shares = [float(finding.area(probe).mean()) for probe in finding.shown]
    return f"{percent(float(np.mean(shares)))} of the picture" if any(shares) else ""


def _box(finding: Finding) -> str:
    """The size of the areas in pixels, in the median, where they are boxes more or less; else ""."""
    sides = []
    for probe in finding.shown:
        area = finding.area(probe)
        rows, columns = (np.flatnonzero(area.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            continue
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        if area.sum() < _BOX_FILLED * height * width:
            return ""
        sides.append((height, width))
    if not sides:
        return ""
    height, width = np.median(sides, axis=0)
    return f"{height:.0f} × {width:.0f} pixels"


def _rest(count: Count) -> Count:
    """Those that did not change."""
    return Count(count.of - count.changed, count.of)


def _verb(verb: str, count: Count) -> str:
    """In the number of a count."""
    return {"do": "does"}.get(verb, f"{verb}s") if count.changed == 1 else verb
