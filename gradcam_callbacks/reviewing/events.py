"""What happened in a training that is worth a look, and where it was too much or too little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import Finding, Reliance
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import findings
from gradcam_callbacks.reviewing.drift import drift
from gradcam_callbacks.reviewing.measuring import Measures, recorded
from gradcam_callbacks.reviewing.suspicion import find_look
from gradcam_callbacks.reviewing.words import at, name_of, percent

CONSTANT = "constant"
"""The kind of the event that answers and maps are the same whatever the picture."""

# When attention has moved: more of it than a fifth, than four times the noise, and than three times what moved in any
# of the three steps before. While a network learns, a step like the last ones is nothing to flag.
_MOVED, _TIMES_FLOOR, _TIMES_USUAL, _USUAL_STEPS = 0.2, 4, 3, 3
# When the answer has stayed: a probability moves by a tenth at most, and is neither halved nor doubled; a score moves
# by at most a tenth of what the target's scores span.
_ANSWER_SHARE = 0.1
# When scores are the same: within this share of the largest; when maps are: within this share of the attention. A
# network that ignores its input differs by 2e-6 in both; before they learn anything, networks of `keras.applications`
# differ by 20 % in one or the other, and small ones of sigmoids by 0.1 % (`benchmarks/saying_nothing.py`).
_SAME_SCORE, _SAME_MAP = 1e-4, 1e-3


@dataclass(frozen=True)
class Event:
    """Something worth a look.

    Attributes:
        step: when.
        kind: "constant" (scores and maps are the same whatever the picture), "moved" (attention jumped while the answer
            stayed), "shortcut" (a test confirmed that answers rest on an area of the picture), "suspect" (it could not
            tell, or the maps alone look like that), "cleared" (they did, and a test cleared it), "class" (a target that
            follows the prediction explains another class) or "health" (what a map is fit for changed).
        probe: its index, or None for all.
        target: its index, or None for all.
        text: one sentence with names and numbers, or two.
        last: the last step of what lasts for some; None of what happens at one.
    """

    step: int
    kind: str
    probe: int | None
    target: int | None
    text: str
    last: int | None = None


def find_events(
    steps: Sequence[Step], measures: Measures, manifest: Manifest, tests: Mapping[int, Reliance] | None = None
) -> list[Event]:
    """What a person should look at, in the order of the steps.

    Attention moved where the prediction and the answer (see `_answer_stayed`) are those of the previous step, and more
    of it moved than a fifth, than four times the noise, and than three times what moved in any of the three steps
    before: a jump after quiet steps, not the movement of early learning.

    A shortcut is what the last test of reliance confirmed. A suspicion is what it could not tell, or what the maps
    alone say where no test was made since; see `find_look`. Such an event lies where the maps began to say it, or else
    where attention turned to the area; see `findings.began`.

    Answers are constant at a step where pictures that differ are told apart neither by their predictions nor by the
    scores and maps of any target, as far as these explain the same class. One event says from when to when.

    Args:
        steps: at least one, in order.
        measures: of these steps.
        manifest: of the journal.
        tests: of reliance, by the step whose model was tested.
    """
    events = [
        *_constant(steps, manifest),
        *_moves(steps, measures, manifest),
        *_reliance(steps, measures, manifest, tests or {}),
        *_class_changes(steps, measures, manifest),
        *_health_changes(steps, manifest),
    ]
    return sorted(events, key=lambda event: event.step)


def _constant(steps: Sequence[Step], manifest: Manifest) -> Iterator[Event]:
    """One event for each stretch of steps whose answers and maps are the same whatever the picture."""
    is_constant = [_is_constant(step, manifest.pictures) for step in steps]
    first = 0
    for is_one, stretch in groupby(is_constant):
        last = first + len(list(stretch)) - 1
        if is_one:
            when = at(steps[first], manifest)
            if first < last:
                when = f"from {name_of(steps[first], manifest)} to {name_of(steps[last], manifest)}"
            text = (
                f"Whatever the picture, scores and maps are the same on all {len(manifest.names)} probes {when}. Look "
                "for batch-normalisation statistics that do not fit the pictures, a learning rate that is too high, "
                "ReLUs that are dead, and pictures that are preprocessed twice or not at all, so that all become one "
                "value."
            )
            yield Event(steps[first].step, CONSTANT, None, None, text, last=steps[last].step)
        first = last + 1


def _is_constant(step: Step, pictures: Sequence[str]) -> bool:
    """Whether nothing tells the probes of a step apart, although their pictures differ."""
    if len(pictures) != len(step.predicted) or len(np.unique(step.predicted)) > 1:
        return False
    if (step.health == "zero-gradient").all():  # a head that starts from zero, as in fine-tuning
        return False
    groups = []
    for k in range(step.scores.shape[1]):
        for explained in np.unique(step.explained[:, k]):
            members = np.flatnonzero(step.explained[:, k] == explained)
            if len({pictures[n] for n in members.tolist()}) > 1:
                groups.append((members, k))
    return bool(groups) and all(_is_same(step.scores[n, k], step.shown[n, k]) for n, k in groups)


def _is_same(scores: Array, maps: Array) -> bool:
    """Whether (M,) scores and (M, *grid) maps are each the same, up to the noise of the numbers."""
    if not np.isfinite(scores).all() or np.ptp(scores) > _SAME_SCORE * np.abs(scores).max():
        return False
    totals = maps.reshape(len(maps), -1).sum(axis=1)
    if not totals.all():  # maps of zeros are the same as one another, and as no other map
        return not totals.any()
    mean = (maps / totals.reshape(-1, *[1] * (maps.ndim - 1))).mean(axis=0)
    return bool((drift(maps[:, None], np.broadcast_to(mean, maps.shape)[:, None]) <= _SAME_MAP).all())


def _moves(steps: Sequence[Step], measures: Measures, manifest: Manifest) -> Iterator[Event]:
    stayed = _answer_stayed(steps)
    drifts = measures["drift"]
    least = np.maximum(_MOVED, _TIMES_FLOOR * np.nan_to_num(measures["floor"]))
    for s in range(_USUAL_STEPS, len(steps)):
        usual = drifts[s - _USUAL_STEPS : s].max(axis=0)  # NaN, and thus nothing is flagged, unless all are known
        for n, k in np.argwhere(stayed[s] & (drifts[s] > np.maximum(least[s], _TIMES_USUAL * usual))).tolist():
            what, when = manifest.explained_name(k, steps[s].explained[n, k]), at(steps[s], manifest)
            text = (
                f"On {manifest.names[n]}, {percent(drifts[s, n, k])} of the attention for {what} moved {when}, "
                f"after at most {percent(usual[n, k])} in each of the {_USUAL_STEPS} steps before, while "
                f"{_answer(steps[s - 1], steps[s], manifest, n, k)}."
            )
            yield Event(steps[s].step, "moved", n, k, text)


def _answer_stayed(steps: Sequence[Step]) -> Array:
    """Whether the answer is that of the previous step: (S, N, K) bool, False at the first.

    The prediction is the same, and the probability has moved by at most 0.1 and is neither halved nor doubled: of a
    thousand classes, few ever move by 0.1. Where there are no probabilities, the score has moved by at most a tenth of
    the range in which 90 % of the target's scores lie, over all steps and probes.
    """
    scores, probabilities = recorded(steps, "scores"), recorded(steps, "probabilities")
    predicted = np.stack([step.predicted for step in steps])
    spans = np.zeros(scores.shape[2])
    for k in range(len(spans)):
        finite = scores[..., k][np.isfinite(scores[..., k])]
        if finite.size:
            spans[k] = np.ptp(np.percentile(finite, [5, 95]))
    higher = np.maximum(probabilities[1:], probabilities[:-1])
    by_probability = np.abs(np.diff(probabilities, axis=0)) <= np.minimum(_ANSWER_SHARE, higher / 2)
    with np.errstate(invalid="ignore"):  # two infinite scores
        by_score = np.abs(np.diff(scores, axis=0)) <= _ANSWER_SHARE * spans
    stayed = np.zeros(scores.shape, bool)
    stayed[1:] = np.where(np.isfinite(higher), by_probability, by_score)
    stayed[1:] &= (predicted[1:] == predicted[:-1])[..., None]
    return stayed


def _reliance(
    steps: Sequence[Step], measures: Measures, manifest: Manifest, tests: Mapping[int, Reliance]
) -> Iterator[Event]:
    """What the answers rest on, as far as the maps let suspect and the last test could tell."""
    look = find_look(steps, measures, manifest)
    when, test = findings.last_test(tests)
    is_tested = look is not None and when >= look.step  # since it is seen
    outside = [finding for finding in test.findings if finding.kind != "common"]
    told = look if is_tested and any(finding.outcome != "cleared" for finding in outside) else None
    seen = told
    for finding in test.findings:
        if finding.outcome == "cleared":
            yield from _no_longer(finding, when, manifest, tests)
            continue
        kind = "shortcut" if finding.outcome == "confirmed" else "suspect"
        text = findings.text(finding, manifest)
        step = findings.began(finding, [step for step in steps if step.step <= when] or steps[:1])
        if finding in outside and told is not None:
            step = told.step
            if seen is not None:
                text, seen = f"{text} {seen.text}.", None  # once
        yield Event(step, kind, None, None, text)
    if look is None or told is not None:
        return
    sight = f"{look.text[0].lower()}{look.text[1:]}, which looks like a shortcut"
    if outside and is_tested:
        yield Event(look.step, "cleared", None, None, f"Cleared by the test: {sight}; but {findings.cleared(outside)}.")
    elif is_tested:
        text = f"Suspected, and {'nothing could be tested' if test.reason else 'the test could not tell'}: {sight}."
        yield Event(look.step, "suspect", None, None, f"{text} {test.reason}".rstrip())
    else:
        yield Event(look.step, "suspect", None, None, f"Suspected, not tested: {sight}.")


def _no_longer(finding: Finding, when: int, manifest: Manifest, tests: Mapping[int, Reliance]) -> Iterator[Event]:
    """One event where an earlier test confirmed what this one cleared."""
    same = (finding.answer, finding.kind)
    confirmed = [
        step
        for step, test in tests.items()
        for other in test.confirmed
        if step < when and (other.answer, other.kind) == same
    ]
    if confirmed:
        text = f"{findings.text(finding, manifest)} A test at {manifest.unit} {max(confirmed)} had confirmed it."
        yield Event(when, "cleared", None, None, text)


def _class_changes(steps: Sequence[Step], measures: Measures, manifest: Manifest) -> Iterator[Event]:
    for s, n, k in np.argwhere(~measures.same_class).tolist():
        before, after = (manifest.class_name(int(step.explained[n, k])) for step in steps[s - 1 : s + 1])
        text = (
            f"On {manifest.names[n]}, the target '{manifest.targets[k]}' changed from {before} to {after} "
            f"{at(steps[s], manifest)}."
        )
        yield Event(steps[s].step, "class", n, k, text)


def _health_changes(steps: Sequence[Step], manifest: Manifest) -> Iterator[Event]:
    """One event a map, or one for all where all of them changed to the same."""
    for previous, step in pairwise(steps):
        before, after = previous.health, step.health
        changed = before != after
        when = at(step, manifest)
        if after.size > 1 and changed.all() and len(np.unique(after)) == 1:
            text = f"All {after.size} maps became {after[0, 0]} {when}."
            yield Event(step.step, "health", None, None, text)
            continue
        for n, k in np.argwhere(changed).tolist():
            what = manifest.explained_name(k, step.explained[n, k])
            which = f"The map of {manifest.names[n]} for {what}"
            text = f"{which} became {after[n, k]} {when}; it was {before[n, k]}."
            yield Event(step.step, "health", n, k, text)


def _answer(before: Step, after: Step, manifest: Manifest, n: int, k: int) -> str:
    """What stayed, such as "the prediction stayed tabby (probability 0.91, now 0.93)"."""
    predicted = int(after.predicted[n])
    stayed = "the score stayed" if predicted < 0 else f"the prediction stayed {manifest.class_name(predicted)}"
    explained = int(after.explained[n, k])
    of = "" if explained in (predicted, -1) else f"of {manifest.class_name(explained)} "
    for kind, name in (("probability", "probabilities"), ("score", "scores")):
        values = [float(step.arrays[name][n, k]) for step in (before, after) if name in step.arrays]
        if len(values) == 2 and np.isfinite(values).all():
            return f"{stayed} ({kind} {of}{values[0]:.2f}, now {values[1]:.2f})"
    return stayed
