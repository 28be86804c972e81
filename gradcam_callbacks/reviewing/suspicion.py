"""What the maps alone say of a shortcut: a suspicion, which only a test of the network can prove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing.measuring import Measures, step_means
from gradcam_callbacks.reviewing.words import at, percent

# When focus has fallen: by a tenth of the attention, and three tenths of what it was.
_FOCUS_LOSS, _FOCUS_LOSS_SHARE = 0.1, 0.3
# When a success has risen, or is high and has stayed.
_SUCCESS_NOISE, _HIGH_ACCURACY = 0.02, 0.75
# When a network that is right does not look there: its odds of focus are less than 1.5 times those of a map without any
# preference. When it does look there: they are 4 times those at least. Odds, and not shares, since of a region that is
# most of the picture no map can have 1.5 times as much.
_CHANCE, _RIGHT, _WELL_ABOVE = 1.5, 0.9, 4
# How many earlier steps a `Suspicion` remembers, at most twice as many.
_REMEMBERED = 256


@dataclass(frozen=True)
class Look:
    """What in the maps looks like a shortcut.

    Attributes:
        step: from which on.
        text: what is seen, with its numbers; a sentence without its full stop.
    """

    step: int
    text: str


def find_look(steps: Sequence[Step], measures: Measures, manifest: Manifest) -> Look | None:
    """What in the maps of a record looks like a shortcut at its end, or None.

    It begins at the first step from which to the last one the mean focus lies below that of an earlier step, by a tenth
    of the attention and three tenths of what it was, while accuracy has risen, or is high and stayed. Where focus is
    well above chance, at 4 times the odds of the regions' share of the picture, a fall alone is no sign: many a network
    looks at one hot spot of the object first, and then at all of it.

    Or, where it did not fall, at the first step from which on accuracy is 90 % or more while the odds of the mean focus
    are below 1.5 times those of the regions' share: the network is right, and never looked there.

    Args:
        steps: at least one, in order.
        measures: of these steps.
        manifest: of the journal.
    """
    name, values, success = _success([step.logs for step in steps], is_first_baseline=steps[0].step == BASELINE)
    known = np.flatnonzero(np.isfinite(success))
    if not known.size:
        return None
    focus = own_focus(steps, measures["focus"], manifest)
    chances = _chances(focus, _areas(manifest))
    fallen = []  # from the last step back, as long as it is below
    for s in reversed(known.tolist()):
        fall = _fall(focus, success, chances, s)
        if fall is None:
            break
        fallen.append((s, *fall))
    if fallen:
        last, best, then, now = fallen[0]
        text = (
            f"Attention on the marked regions fell from {percent(then)} {at(steps[best], manifest)} to {percent(now)} "
            f"{at(steps[last], manifest)} while {name} {_course(name, values[best], values[last])}"
        )
        return Look(steps[fallen[-1][0]].step, text)
    means = step_means(focus)
    known = known[np.isfinite(means[known])]
    others = known[~_is_beside(name, values, means, chances)[known]]
    since = known[known > others[-1]] if others.size else known
    if not since.size:
        return None
    last = since[-1]
    text = (
        f"Only {percent(means[last])} of the attention lies on the marked regions {at(steps[last], manifest)}, where a "
        f"map without any preference has {percent(chances[last])}, while {name} is {percent(values[last])}"
    )
    return Look(steps[since[0]].step, text)


def own_focus(steps: Sequence[Step], focus: Array, manifest: Manifest) -> Array:
    """The (S, N, K) focus of the maps that explain the class of the picture, or a function; NaN for the others.

    The class is the label, or else the prediction: what speaks for another class should lie beside the object.
    """
    explained = np.stack([step.explained for step in steps])
    predicted = np.stack([step.predicted for step in steps])[..., None]
    labels = manifest.labels
    shown = predicted if labels is None else np.asarray(labels)[None, :, None]
    return np.where((explained == shown) | (explained < 0) | (predicted < 0), focus, np.nan)


class Suspicion:
    """Asked after each step of a training whether its maps look like a shortcut; what it keeps of a step is small."""

    def __init__(self, manifest: Manifest) -> None:
        """Begins with nothing.

        Args:
            manifest: of the journal.
        """
        self._manifest = manifest
        self._has_regions = manifest.regions is not None and any(manifest.regions)
        self._areas: Array | None = None
        self._focus: list[Array] = []
        self._logs: list[Mapping[str, float]] = []
        self._is_first_baseline = False

    def is_raised_by(self, step: Step) -> bool:
        """Whether the maps look like a shortcut as of this step; see `find_look`.

        Args:
            step: a recorded step, with its measures; each is asked about once, in order.
        """
        if not self._has_regions:
            return False
        if self._areas is None:
            self._areas = _areas(self._manifest)
        if not self._focus:
            self._is_first_baseline = step.step == BASELINE
        if len(self._focus) == 2 * _REMEMBERED:
            self._focus, self._logs = self._focus[::2], self._logs[::2]
        self._focus.append(own_focus([step], step.measured("focus")[None], self._manifest)[0])
        self._logs.append({key: value for key, value in step.logs.items() if key.endswith(("accuracy", "loss"))})
        name, values, success = _success(self._logs, is_first_baseline=self._is_first_baseline)
        if not np.isfinite(success[-1]):
            return False
        focus = np.stack(self._focus)
        chances = _chances(focus, self._areas)
        is_beside = _is_beside(name, values[-1:], step_means(focus[-1:]), chances[-1:])
        return bool(is_beside[0]) or _fall(focus, success, chances, len(focus) - 1) is not None


def _areas(manifest: Manifest) -> Array:
    """(N, 1) float64, the regions' shares of the pictures; NaN without a region."""
    masks = [manifest.region(n) for n in range(len(manifest.names))]
    return np.array([np.nan if mask is None else mask.mean() for mask in masks])[:, None]


def _chances(focus: Array, areas: Array) -> Array:
    """(S,) mean focus of maps without any preference, over the maps whose focus is known."""
    return step_means(np.where(np.isfinite(focus), areas, np.nan))


def _odds(shares: Array) -> Array:
    """Of (S,) shares; infinite of all."""
    with np.errstate(divide="ignore"):
        odds: Array = shares / (1 - shares)
    return odds


def _is_beside(name: str, accuracy: Array, means: Array, chances: Array) -> Array:
    """(S,) bool, whether the network is right, and looks at the regions no more than chance would."""
    if not name.endswith("accuracy"):
        return np.zeros(means.shape, bool)
    return (_odds(means) < _CHANCE * _odds(chances)) & (accuracy >= _RIGHT)


def _success(logs: Sequence[Mapping[str, float]], *, is_first_baseline: bool) -> tuple[str, Array, Array]:
    """The metric that says best how well the network does, its (S,) values, and the same so that more is better.

    Both are NaN where it was not logged; but a network that was not trained yet is taken to do as well as after its
    first step at most.
    """
    logged = {name for of_step in logs for name in of_step}
    others = sorted(
        (name for name in logged if name.endswith("accuracy")), key=lambda name: (not name.startswith("val_"), name)
    )
    name = next((name for name in ("val_accuracy", "accuracy", *others) if name in logged), "loss")
    values = np.array([of_step.get(name, np.nan) for of_step in logs])
    success = values * (-1 if name.endswith("loss") else 1)
    known = np.flatnonzero(np.isfinite(success))
    if is_first_baseline and known.size and np.isnan(success[0]):
        success[0] = success[known[0]]
    return name, values, success


def _fall(focus: Array, success: Array, chances: Array, s: int) -> tuple[int, float, float] | None:
    """From which step before `s` the mean focus fell the most, from what and to what; None where it did not."""
    if (_odds(step_means(focus[s : s + 1])) >= _WELL_ABOVE * _odds(chances[s : s + 1])).any():
        return None
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


def _course(name: str, before: float, now: float) -> str:
    """How a metric went, such as "rose from 81 % to 98 %"."""
    is_loss = name.endswith("loss")
    then_text, now_text = (f"{value:.3g}" if is_loss or value > 1 else percent(value) for value in (before, now))
    if np.isnan(before):
        return f"reached {now_text}"
    if then_text == now_text or (now > before) == is_loss:
        return f"stayed at {now_text}"
    return f"{'fell' if is_loss else 'rose'} from {then_text} to {now_text}"
