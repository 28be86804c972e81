"""What happened in a training that is worth a look, and where it was too much or too little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing.drift import drift
from gradcam_callbacks.reviewing.measuring import Measures, recorded, step_means
from gradcam_callbacks.reviewing.words import at, name_of, percent

CONSTANT = "constant"
"""The kind of the event that answers and maps are the same whatever the picture."""

# When attention has moved: more of it than a fifth, than four times the noise, and than three times what moved in any
# of the three steps before. While a network learns, a step like the last ones is nothing to flag.
_MOVED, _TIMES_FLOOR, _TIMES_USUAL, _USUAL_STEPS = 0.2, 4, 3, 3
# When the answer has stayed: a probability moves by a tenth at most, and is neither halved nor doubled; a score moves
# by at most a tenth of what the target's scores span.
_ANSWER_SHARE = 0.1
# When focus has fallen: by a tenth of the attention, and three tenths of what it was.
_FOCUS_LOSS, _FOCUS_LOSS_SHARE = 0.1, 0.3
# When a success has risen, or is high and has stayed.
_SUCCESS_NOISE, _HIGH_ACCURACY = 0.02, 0.75
# When scores are the same: within this share of the largest; when maps are: within this share of the attention. A
# network that ignores its input differs by 2e-6 in both; before they learn anything, networks of `keras.applications`
# differ by 20 % in one or the other, and small ones of sigmoids by 0.1 % (`benchmarks/saying_nothing.py`).
_SAME_SCORE, _SAME_MAP = 1e-4, 1e-3
# When a network that is right does not look there: less than 1.5 times what a map without any preference has inside.
_CHANCE, _RIGHT = 1.5, 0.9


@dataclass(frozen=True)
class Event:
    """Something worth a look.

    Attributes:
        step: when.
        kind: "constant" (scores and maps are the same whatever the picture), "moved" (attention jumped while the answer
            stayed), "shortcut" (focus fell while accuracy rose), "class" (a target that follows the prediction explains
            another class) or "health" (what a map is fit for changed).
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


def find_events(steps: Sequence[Step], measures: Measures, manifest: Manifest) -> list[Event]:
    """What a person should look at, in the order of the steps.

    Attention moved where the prediction and the answer (see `_answer_stayed`) are those of the previous step, and more
    of it moved than a fifth, than four times the noise, and than three times what moved in any of the three steps
    before: a jump after quiet steps, not the movement of early learning.

    A shortcut is one event: the first step from which to the last one the mean focus lies below that of an earlier
    step, by a tenth of the attention and three tenths of what it was, while accuracy has risen, or is high and stayed.
    Or, where it did not fall, the first step from which on accuracy is 90 % or more while the mean focus is below 1.5
    times the regions' share of the picture: the network is right, and never looked there. Counted are the maps that
    explain the class of the picture: its label, or else the prediction.

    Answers are constant at a step where pictures that differ are told apart neither by their predictions nor by the
    scores and maps of any target, as far as these explain the same class. One event says from when to when.

    Args:
        steps: at least one, in order.
        measures: of these steps.
        manifest: of the journal.
    """
    events = [
        *_constant(steps, manifest),
        *_moves(steps, measures, manifest),
        *_shortcuts(steps, measures, manifest),
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


def _shortcuts(steps: Sequence[Step], measures: Measures, manifest: Manifest) -> Iterator[Event]:
    """One event or none."""
    name, values = _success(steps)
    success = values * (-1 if name.endswith("loss") else 1)
    known = np.flatnonzero(np.isfinite(success))
    if known.size == 0:
        return
    if steps[0].step == BASELINE and np.isnan(success[0]):
        success[0] = success[known[0]]  # it had learned nothing yet
    focus = _focus_of_what_is_shown(steps, measures["focus"], manifest)
    falls = []  # from the last step back, as long as it is below
    for s in reversed(known.tolist()):
        fall = _fall(focus, success, s)
        if fall is None:
            break
        falls.append((s, *fall))
    if not falls:
        yield from _beside(steps, focus, manifest, name, values)
        return
    last, best, then, now = falls[0]
    text = (
        f"Attention on the marked regions fell from {percent(then)} {at(steps[best], manifest)} to {percent(now)} "
        f"{at(steps[last], manifest)} while {name} {_course(name, values[best], values[last])}: the signature of a "
        "shortcut."
    )
    yield Event(steps[falls[-1][0]].step, "shortcut", None, None, text)


def _focus_of_what_is_shown(steps: Sequence[Step], focus: Array, manifest: Manifest) -> Array:
    """The focus of the maps that explain the class of the picture, or a function; NaN for the others.

    The class is the label, or else the prediction: what speaks for another class should lie beside the object.
    """
    explained = np.stack([step.explained for step in steps])
    predicted = np.stack([step.predicted for step in steps])[..., None]
    labels = manifest.labels
    shown = predicted if labels is None else np.asarray(labels)[None, :, None]
    return np.where((explained == shown) | (explained < 0) | (predicted < 0), focus, np.nan)


def _beside(steps: Sequence[Step], focus: Array, manifest: Manifest, name: str, accuracy: Array) -> Iterator[Event]:
    """One event where the network is right and looks at the regions no more than chance would, or none."""
    masks = [manifest.region(n) for n in range(focus.shape[1])]
    area = np.array([np.nan if mask is None else mask.mean() for mask in masks])[:, None]
    if np.isnan(area).all() or not name.endswith("accuracy"):
        return
    means, chances = step_means(focus), step_means(np.where(np.isfinite(focus), area, np.nan))
    is_beside = (means < _CHANCE * chances) & (accuracy >= _RIGHT)
    known = np.flatnonzero(np.isfinite(accuracy) & np.isfinite(means))
    others = known[~is_beside[known]]
    since = known[known > others[-1]] if others.size else known
    if not since.size:
        return
    last = since[-1]
    text = (
        f"Only {percent(means[last])} of the attention lies on the marked regions {at(steps[last], manifest)}, where "
        f"a map without any preference has {percent(chances[last])}, while {name} is {percent(accuracy[last])}: the "
        "signature of a shortcut."
    )
    yield Event(steps[since[0]].step, "shortcut", None, None, text)


def _success(steps: Sequence[Step]) -> tuple[str, Array]:
    """The metric that says best how well the network does, and its (S,) values; NaN where it was not logged."""
    logged = {name for step in steps for name in step.logs}
    others = sorted(
        (name for name in logged if name.endswith("accuracy")), key=lambda name: (not name.startswith("val_"), name)
    )
    name = next((name for name in ("val_accuracy", "accuracy", *others) if name in logged), "loss")
    return name, np.array([step.logs.get(name, np.nan) for step in steps])


def _fall(focus: Array, success: Array, s: int) -> tuple[int, float, float] | None:
    """From which step before `s` the mean focus fell the most, from what and to what; None where it did not."""
    earlier = focus[:s]
    then = step_means(np.where(np.isfinite(focus[s]), earlier, np.nan))  # over the maps known at both steps
    now = step_means(np.where(np.isfinite(earlier), focus[s], np.nan))
    lost = then - now
    has_risen = success[s] > success[:s] + _SUCCESS_NOISE
    has_stayed = (success[s] >= success[:s] - _SUCCESS_NOISE) & (success[s] >= _HIGH_ACCURACY)
    fallen = (lost >= _FOCUS_LOSS) & (lost >= _FOCUS_LOSS_SHARE * then) & (has_risen | has_stayed)
    if not fallen.any():
        return None
    best = int(np.argmax(np.where(fallen, lost, 0)))
    return best, float(then[best]), float(now[best])


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


def _course(name: str, before: float, now: float) -> str:
    """How a metric went, such as "rose from 81 % to 98 %"."""
    is_loss = name.endswith("loss")
    then_text, now_text = (f"{value:.3g}" if is_loss or value > 1 else percent(value) for value in (before, now))
    if np.isnan(before):
        return f"reached {now_text}"
    if then_text == now_text or (now > before) == is_loss:
        return f"stayed at {now_text}"
    return f"{'fell' if is_loss else 'rose'} from {then_text} to {now_text}"
