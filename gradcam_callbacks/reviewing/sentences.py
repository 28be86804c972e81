"""A record in a sentence or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing.events import CONSTANT, Event
from gradcam_callbacks.reviewing.measuring import Measures, step_means
from gradcam_callbacks.reviewing.words import at, listed, name_of, percent

# When attention has settled: its mean drift stays within a tenth, or twice the noise.
SETTLED, SETTLED_TIMES_FLOOR, _LEAST_SETTLED_STEPS = 0.1, 2, 2
# How many jumps a sentence names.
_PLACES = 3


def summary(steps: Sequence[Step], measures: Measures, manifest: Manifest, events: Sequence[Event]) -> str:
    """The training in a sentence or two: whether and when attention settled, whether it jumped, and what is wrong.

    Where answers and maps are the same whatever the picture at the end, that is said instead of how they moved.

    Attention settles at the first step after which its mean drift stays within a tenth, or within twice the noise where
    that is more. The jumps that are events do not count.

    Args:
        steps: at least one, in order.
        measures: of these steps.
        manifest: of the journal.
        events: of these steps.
    """
    constant = [event for event in events if event.kind == CONSTANT]
    is_constant = bool(constant) and constant[-1].last == steps[-1].step
    moves = [event for event in events if event.kind == "moved"]
    sentences = [
        *([constant[-1].text] if is_constant else _movement(steps, measures, manifest, moves)),
        *(event.text for event in events if event.kind in ("shortcut", "suspect", "cleared")),
        *unfit(steps[-1], manifest),
    ]
    return " ".join(sentences)


def course(steps: Sequence[Step], measures: Measures, manifest: Manifest, moves: Sequence[Event]) -> tuple[str, bool]:
    """A sentence on how attention moved from the first step to the last, and whether it was still moving then.

    Args:
        steps: at least one, in order.
        measures: of these steps.
        manifest: of the journal.
        moves: the jumps that are events; they do not count.
    """
    first, last = name_of(steps[0], manifest), name_of(steps[-1], manifest)
    if len(steps) == 1:
        return f"Only one step was recorded, {first}: there is nothing to compare it with.", False
    if not np.isfinite(measures["drift"]).any():
        return f"From {first} to {last}, no map can be compared with the one before it.", False
    if not np.nansum(measures["drift"]):
        return f"The maps did not change: drift is exactly 0 from {first} to {last}.", False
    calm = measures["drift"].copy()
    for event in moves:
        calm[measures.steps.index(event.step), event.probe, event.target] = np.nan
    means = step_means(calm)
    known = np.flatnonzero(np.isfinite(means))
    limits = np.maximum(SETTLED, SETTLED_TIMES_FLOOR * np.nan_to_num(step_means(measures["floor"])))
    restless = np.flatnonzero(means > limits)
    if not restless.size:
        moved = percent(means[known].mean())
        return f"From {first} to {last} attention was steady: {moved} of it moved in a step.", False
    if (known > restless[-1]).sum() >= _LEAST_SETTLED_STEPS:
        return f"Attention settled {at(steps[restless[-1]], manifest)}.", False
    s = int(restless[-1])
    before, after = name_of(steps[s - 1], manifest), name_of(steps[s], manifest)
    return f"Attention had not settled by {last}: {percent(means[s])} of it moved from {before} to {after}.", True


def _movement(steps: Sequence[Step], measures: Measures, manifest: Manifest, moves: Sequence[Event]) -> Iterator[str]:
    yield course(steps, measures, manifest, moves)[0]
    if moves:
        yield jumps(steps, manifest, moves)


def jumps(steps: Sequence[Step], manifest: Manifest, moves: Sequence[Event]) -> str:
    """When attention jumped, and on how many probes.

    Args:
        steps: at least one, in order.
        manifest: of the journal.
        moves: the events of that kind, at least one.
    """
    count = len(manifest.names)
    places = []
    for step in steps:
        probes = {event.probe for event in moves if event.step == step.step}
        if probes:
            places.append(f"on {len(probes)} of {count} probes " * (count > 1) + at(step, manifest))
    if len(places) > _PLACES:
        places[_PLACES:] = [f"at {len(places) - _PLACES} more steps"]
    answer = "prediction" if (steps[-1].predicted >= 0).any() else "score"
    plural = "s" * (len({event.probe for event in moves}) > 1)
    return f"It jumped {listed(places)} while the {answer}{plural} stayed."


def unfit(step: Step, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the maps of a step, if anything."""
    health = step.health
    counts = Counter(health[health != "ok"].tolist())
    if not counts:
        return
    if health.size == 1:
        yield f"The map {at(step, manifest)} is {health.item()}."
        return
    parts = [
        f"{'all' if count == health.size else count} {'is' if count == 1 else 'are'} {state}"
        for state, count in counts.most_common()
    ]
    yield f"Of {health.size} maps {at(step, manifest)}, {listed(parts)}."
