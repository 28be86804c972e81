"""What a model's answers rest on: areas of the pictures are covered, and pasted on other pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.covering import FILLINGS, border, elsewhere, filled, grown, hottest
from gradcam_callbacks.explaining.explainer import Explainer, refuse_model
from gradcam_callbacks.explaining.likeness import Likeness, alike_in_place
from gradcam_callbacks.probes.inputs import each, with_picture
from gradcam_callbacks.probes.probe_set import ProbeSet, as_probes
from gradcam_callbacks.probes.targets import NO_CLASS
from gradcam_callbacks.record.health import in_place
from gradcam_callbacks.record.reliance import OUTCOMES, Count, Finding, Reliance

MOST_PROBES, MOST_OF_A_CLASS = 24, 8
"""How many pictures are tested at most, in all and of one class."""
MOST_PASSES = 610
"""How many changed pictures go through the model for each picture that is tested, at most."""

# The areas that are tried: those that hold these shares of the attention outside the region, the smallest first, no
# larger than this share of the picture; and the border of the picture, as wide as these shares of its shorter side.
_SHARES, _LARGEST, _BORDERS = (0.5, 0.75, 0.9), 0.35, (0.05, 0.1)
_BORDERS_IN_COMMON = (0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02)  # the widest that pictures have in common is tried
# What is outside a region begins this far from it: a share of a cell of the map, or of the picture's shorter side.
_MARGIN_CELLS, _MARGIN_SIDES = 0.5, 0.03
# With how many other areas, and other pictures, an area is compared.
_OTHER_AREAS, _OTHER_PICTURES, _LEAST_PICTURES = 3, 12, 3
# An area decides on a picture where this share of the other pictures turn into its class when it is pasted on them,
# and this share more than when an area from elsewhere is. Pictures that turn when the same place of yet another
# class is pasted are left out.
_TURNED, _MORE_TURNED = 0.5, 0.3
# What pictures have in common decides on all of them where this share turns, of all these pictures together, be it a
# part of the picture or its border; and on one of them where that share does.
_TURNED_SHARED, _TURNED_AT_ALL = {"part": 0.5, "border": 0.4}, 0.2
# Where no picture of another class is there: at most this share of the other areas do what the area does.
_ELSEWHERE = 0.34
# On how many pictures an area has to decide, and on what share of those tested, for the test to confirm it: one that
# pictures have in common outside of the regions, or at the same place of all; one that they have in common elsewhere,
# which may be a part of the object; one that they do not have in common; and any, where no other class is there.
_CONFIRMING = {
    "beside": ((2, 0.4), (3, 0.25)),
    "shared": ((2, 0.51),),
    "own": ((2, 0.75),),
    "alone": ((3, 0.5),),
}
# Answers rest on what is around the regions where this share of them stays when the region is covered, and at most that
# share of other pictures becomes the class then.
_KEPT, _BECOME = 0.75, 0.2
# An area with less than this share of it in the region is outside.
_INSIDE = 0.2
# Areas lie at the same place where on average so many of them cover what one of them covers.
_SAME_PLACE = 0.9
_AT_ONCE = 64
_NONE = Count(0, 0)

Answer = Callable[[Array, Array], Array]
"""From (M,) indices of probes and (M, H, W, C) pictures in their place to the (M,) classes answered."""


def measure_reliance(explainer: Explainer, probes: Any, *, seed: int = 0) -> Reliance:
    """Tests by changed pictures what a classifier's answers rest on.

    Of each picture that is answered right, some areas are tried: what it shows in common with another picture of its
    class, and with none of another one; with a region, the smallest areas outside of it that hold 50, 75 and 90 % of
    the attention there; and the border. An area is covered by its surroundings in three ways, by itself and together
    with the region, and it is pasted on pictures of other classes. The same is done with areas as large elsewhere, and
    with the same place of yet other pictures.

    An area decides on a picture where most of the others turn into its class when it is pasted on them, and far fewer
    when something else is; and, unless it shows what pictures have in common, where covering it changes the answer,
    too, or changes it once the region is covered, which alone does not.

    At most 24 pictures are tested, 8 of a class, with at most 610 forward passes of one picture for each, and one
    explanation of all probes. Where nothing is found, some 20 to 50 of these are needed.

    Args:
        explainer: of a classifier of pictures (N, H, W, C).
        probes: a `ProbeSet`, an array of images, or an (images, labels) pair. Labels say which answers are right; other
            answers are not tested. Pictures of several classes, two of each at least, tell more.
        seed: of what is drawn: other areas, and pictures that areas are pasted on.

    Returns:
        At most one finding for each class that was tested: none where nothing was found, and nothing cleared.

    Raises:
        GradCAMError: if the model is no classifier of pictures, its pictures influence each other in a batch, or the
            probes cannot be explained.

    Reference:
        Covering, and that attention alone does not show reliance: Zeiler & Fergus 2014, section 4.2; Adebayo et al.
        2022, "Post hoc explanations may be ineffective for detecting unknown spurious correlation". Exchanging parts of
        pictures: Xiao et al. 2021, "Noise or signal", section 3.
    """
    refuse_model(explainer)
    probes = as_probes(probes)
    _check_testable(probes)
    explanation = explainer(probes.asking("predicted"))
    if (explanation.predicted == NO_CLASS).any():
        raise GradCAMError(f"Model '{explainer.model.name}' is no classifier: it has no answers that could be tested.")
    if explainer.pictures_touch(probes.asking("predicted")):
        raise GradCAMError(
            f"The pictures of a batch influence each other in model '{explainer.model.name}', so that the answer to a "
            "changed picture cannot be asked by itself."
        )

    def answer(which: Array, pictures: Array) -> Array:
        inputs = each(lambda array: array[which], probes.inputs)
        return explainer.answers(with_picture(inputs, probes.picture_key, pictures))

    maps = in_place(explanation.maps, np.where(explanation.health == "flat", "ok", explanation.health))[:, 0]
    tester = Tester(answer, probes.images, maps, explanation.predicted, probes.labels, probes.regions, seed=seed)
    return tester.run()


def _check_testable(probes: ProbeSet) -> None:
    """Raises where there are no pictures that could be changed."""
    if probes.images.ndim != 4 or probes.images.shape[1:3] != probes.pictures.shape[1:3]:
        raise GradCAMError(f"Reliance is tested on pictures (N, H, W, C); got {probes.images.shape}.")


@dataclass(eq=False)
class _Trial:
    """What was tried on one picture.

    Attributes:
        probe: its index.
        areas: (H, W) bool each, in the order in which they are tried.
        region: (H, W) bool, where the model should look, grown; empty without a region.
        shared: by the kind of likeness, the numbers of the areas that show what pictures of the class have in common,
            and no others.
        best: the area that is told of: the one that decides, or else the one that came nearest.
        covered: of each area, whether the answer changes when it is covered.
        hidden: whether it changes when the region is covered; None without one.
        hidden_covered: of each area, whether it is another when region and area are covered; empty where covering the
            region was enough.
        turned: of each area that was pasted, of each other picture whether it turned into the answer.
        elsewhere: of other areas, whether the answer changes when they are covered.
        hidden_elsewhere: the same together with the region.
        turned_elsewhere: how many pictures turned when other areas were pasted.
        turned_by_others: the same, for the same pictures, when the area was pasted from one of yet another class.
        decides: whether the area decides.
        may_decide: whether it seems to, but there was no room for as large an area elsewhere.
    """

    probe: int
    areas: list[Array]
    region: Array
    shared: Mapping[str, int]
    best: int = 0
    covered: list[bool] = field(default_factory=list)
    hidden: bool | None = None
    hidden_covered: list[bool] = field(default_factory=list)
    turned: dict[int, list[bool]] = field(default_factory=dict)
    elsewhere: list[bool] = field(default_factory=list)
    hidden_elsewhere: list[bool] = field(default_factory=list)
    turned_elsewhere: Count = _NONE
    turned_by_others: dict[int, list[bool]] = field(default_factory=dict)
    decides: bool = False
    may_decide: bool = False

    def is_sign(self, number: int) -> bool:
        """Whether covering an area changes the answer, by itself or once the region is covered."""
        return self.covered[number] or (bool(self.hidden_covered) and self.hidden_covered[number])

    def turned_by_itself(self, number: int) -> list[bool]:
        """Of the pictures that do not turn when an area is pasted from another class, whether they do by this one."""
        pairs = zip(self.turned[number], self.turned_by_others[number], strict=True)
        return [turned for turned, otherwise in pairs if not otherwise]


class Tester:
    """The test of one set of pictures: asks, counts and judges."""

    def __init__(
        self,
        answer: Answer,
        images: Array,
        maps: Array,
        answers: Array,
        labels: Array | None,
        regions: Array | None,
        *,
        seed: int = 0,
    ) -> None:
        """Takes what is known before anything is asked.

        Args:
            answer: asks the model.
            images: (N, H, W, C), what the model is fed.
            maps: (N, h, w), where the attention for the answer is.
            answers: (N,) the classes answered.
            labels: (N,) the right ones; by default all answers are taken for right.
            regions: (N, H, W) bool, or None.
            seed: of what is drawn.
        """
        self._answer = answer
        self._images = images
        self._answers = answers
        self._is_right = np.ones(len(images), bool) if labels is None else answers == labels
        self._regions = np.zeros(images.shape[:3], bool) if regions is None else regions
        self._seed = seed
        self._likeness = Likeness(images)
        self._heat = drawing.resize_maps(maps[:, None].astype(np.float32), images.shape[1:3])[:, 0]
        cell = max(size / cells for size, cells in zip(images.shape[1:3], maps.shape[1:], strict=True))
        self._margin = max(_MARGIN_CELLS * cell, _MARGIN_SIDES * min(images.shape[1:3]))
        self._passes = 0

    def run(self) -> Reliance:
        """Tests each class."""
        chosen = self._chosen()
        if not chosen:
            return Reliance(reason="No picture was answered right, so that there was nothing to test.")
        findings = [finding for c, probes in chosen.items() for finding in self._of_class(c, probes)]
        findings.sort(key=lambda finding: (OUTCOMES.index(finding.outcome), -len(finding.decisive)))
        reason = "" if self._passes else "No picture had an area that could be covered."
        return Reliance(findings=tuple(findings), passes=self._passes, reason=reason)

    def _chosen(self) -> dict[int, list[int]]:
        """The pictures tested, by their class: in turns, those with the most attention outside regions first."""
        inside = (self._heat * self._regions).sum(axis=(1, 2))
        total = self._heat.sum(axis=(1, 2))
        outside = 1 - np.divide(inside, total, out=np.zeros_like(total), where=total > 0)
        queues = {}
        for c in np.unique(self._answers[self._is_right]).tolist():
            members = np.flatnonzero(self._is_right & (self._answers == c))
            queues[c] = members[np.argsort(-outside[members], kind="stable")][:MOST_OF_A_CLASS].tolist()
        chosen: dict[int, list[int]] = {c: [] for c in queues}
        order = sorted(queues, key=lambda c: -len(queues[c]))
        for turn in range(MOST_OF_A_CLASS):
            for c in order:
                if turn < len(queues[c]) and sum(map(len, chosen.values())) < MOST_PROBES:
                    chosen[c].append(queues[c][turn])
        return {c: sorted(probes) for c, probes in chosen.items() if probes}

    def _of_class(self, c: int, probes: Sequence[int]) -> Iterator[Finding]:
        """What the test of one class found, if there was anything to try."""
        others = np.flatnonzero(self._is_right & (self._answers != c))
        others = self._rng(c).permutation(others)[:_OTHER_PICTURES]
        trials = [trial for trial in self._trials(c, probes, others.tolist()) if trial.areas]
        if not trials:
            return
        self._cover(trials, c)
        if len(others) < _LEAST_PICTURES or not self._paste_shared(trials, c, others.tolist()):
            for trial in trials:
                self._paste_own(trial, c, others.tolist())
        yield from self._judged(trials, c, can_paste=len(others) >= _LEAST_PICTURES)

    def _trials(self, c: int, probes: Sequence[int], others: Sequence[int]) -> Iterator[_Trial]:
        """The areas to try of each picture."""
        compares = len(others) >= _LEAST_PICTURES
        alike = self._likeness.shared_areas(probes, others) if compares else {}
        for n in probes:
            region = self._regions[n]
            mates = [m for m in probes if m != n]
            areas: list[Array] = []
            shared: dict[str, int] = {}
            if n in alike:
                shared["part"] = len(areas)
                areas.append(grown(alike[n], 0.02 * min(region.shape)))
            widths = (border(region.shape, width) for width in _BORDERS_IN_COMMON if compares)
            in_common = (area for area in widths if alike_in_place(self._images, area, n, mates, others))
            for area in islice(in_common, 1):
                shared["border"] = len(areas)
                areas.append(area)
            if region.any():
                region = grown(region, self._margin)
                areas += [
                    grown(hottest(self._heat[n], share, outside=region, most=_LARGEST), self._margin / 2) & ~region
                    for share in _SHARES
                ]
            areas += [border(region.shape, width) & ~region for width in _BORDERS]
            yield _Trial(n, [area for area in areas if area.any()], region, shared)

    def _cover(self, trials: Sequence[_Trial], c: int) -> None:
        """Covers each area, the region, and, where that does not change the answer, both."""
        answers = iter(self._changes([(trial.probe, area) for trial in trials for area in trial.areas], c))
        for trial in trials:
            trial.covered = [next(answers) for _ in trial.areas]
        having = [trial for trial in trials if trial.region.any()]
        for trial, is_changed in zip(having, self._changes([(t.probe, t.region) for t in having], c), strict=True):
            trial.hidden = is_changed
        kept = [trial for trial in having if not trial.hidden]
        answers = iter(self._changes([(t.probe, t.region | area) for t in kept for area in t.areas], c))
        for trial in kept:
            trial.hidden_covered = [next(answers) for _ in trial.areas]

    def _paste_shared(self, trials: Sequence[_Trial], c: int, others: Sequence[int]) -> bool:
        """Pastes what pictures of the class have in common, and judges it by all of these pictures together.

        Returns:
            Whether it decides.
        """
        for likeness, least in _TURNED_SHARED.items():
            having = [trial for trial in trials if likeness in trial.shared]
            if len(having) < 2:
                continue
            for trial in having:
                self._paste(trial, trial.shared[likeness], c, others)
            turned = [own for trial in having for own in trial.turned_by_itself(trial.shared[likeness])]
            if len(turned) < _LEAST_PICTURES or np.mean(turned) < least:
                continue
            for trial in having:
                trial.best = trial.shared[likeness]
                if trial.region.any():  # without a region, what is elsewhere may be the object
                    self._compare(trial, c, others)
            elsewhere = _total(trial.turned_elsewhere for trial in having)
            is_more = not elsewhere.of or float(np.mean(turned)) - elsewhere.share >= _MORE_TURNED
            for trial in having:
                trial.decides = is_more and bool(np.mean(trial.turned[trial.best]) >= _TURNED_AT_ALL)
                trial.may_decide = not is_more
            if is_more:
                return True
        return False

    def _paste_own(self, trial: _Trial, c: int, others: Sequence[int]) -> None:
        """Pastes areas whose covering changes the answer until one decides, and compares it with areas elsewhere."""
        signs = [number for number in range(len(trial.areas)) if trial.is_sign(number)]
        if len(others) < _LEAST_PICTURES:
            trial.best = signs[0] if signs else 0
            if signs:
                self._compare(trial, c, others)
                same = trial.elsewhere if trial.covered[trial.best] else trial.hidden_elsewhere
                trial.decides = bool(same) and float(np.mean(same)) <= _ELSEWHERE
            return
        # Without a sign, pasting tells whether the area may be cleared.
        for number in signs or [min(1, len(trial.areas) - 1)]:
            self._paste(trial, number, c, others)
            turned = trial.turned_by_itself(number)
            if not signs or len(turned) < _LEAST_PICTURES or np.mean(turned) < _TURNED:
                continue
            trial.best = number
            self._compare(trial, c, others)
            if not trial.turned_elsewhere.of:
                trial.may_decide = True
            elif np.mean(trial.turned[number]) - trial.turned_elsewhere.share >= _MORE_TURNED:
                trial.decides = True
                return
        trial.best = max(trial.turned, key=lambda number: float(np.mean(trial.turned[number])))

    def _paste(self, trial: _Trial, number: int, c: int, others: Sequence[int]) -> None:
        """Pastes an area on other pictures, and on each the same place of yet another one."""
        if number in trial.turned:
            return
        n, area, rng = trial.probe, trial.areas[number], self._rng(trial.probe)
        trial.turned[number] = self._turned([(n, area, onto) for onto in others], c)
        pairs = [(int(rng.choice([of for of in others if of != onto])), onto) for onto in others]
        trial.turned_by_others[number] = self._turned([(of, area, onto) for of, onto in pairs], c)

    def _compare(self, trial: _Trial, c: int, others: Sequence[int]) -> None:
        """Does with other areas what was done with the best area."""
        n, area = trial.probe, trial.areas[trial.best]
        areas = elsewhere(area, trial.region, _OTHER_AREAS, self._rng(n))
        trial.elsewhere = self._changes([(n, other) for other in areas], c)
        trial.hidden_elsewhere = (
            self._changes([(n, trial.region | other) for other in areas], c) if trial.hidden is False else []
        )
        if len(others) >= _LEAST_PICTURES:
            trial.turned_elsewhere = _count(self._turned([(n, o, onto) for o in areas for onto in others], c))

    def _judged(self, trials: Sequence[_Trial], c: int, *, can_paste: bool) -> Iterator[Finding]:
        """What the trials of one class say, if anything."""
        decisive = [trial for trial in trials if trial.decides]
        likely = [trial for trial in trials if trial.decides or trial.may_decide]
        share = len(decisive) / len(trials)
        having = [trial for trial in trials if trial.hidden is not None]
        needs_region = 2 * sum(bool(trial.hidden) for trial in having) >= len(having) > 0
        needed = _CONFIRMING[self._what_is_shown(decisive) if can_paste else "alone"]
        if any(len(decisive) >= count and share >= least for count, least in needed):
            yield self._finding("confirmed", trials, decisive, c)
        elif can_paste and likely and (len(likely) > 1 or len(likely) == len(trials)):
            yield self._finding("untold", trials, likely, c)
        elif len(having) > 1 and sum(not trial.hidden for trial in having) >= _KEPT * len(having):
            around = self._around(having, c)
            if around is not None:
                yield around
        elif not likely and needs_region and 2 * sum(trial.covered[trial.best] for trial in trials) <= len(trials):
            yield self._finding("cleared", trials, trials, c)

    def _what_is_shown(self, trials: Sequence[_Trial]) -> str:
        """What kind of areas decide; see `_CONFIRMING`."""
        areas = [trial.areas[trial.best] for trial in trials]
        if not trials or not all(trial.best in trial.shared.values() for trial in trials):
            return "own"
        return "beside" if self._are_outside(trials, areas) or _are_in_place(areas) else "shared"

    def _are_outside(self, trials: Sequence[_Trial], areas: Sequence[Array]) -> bool:
        """Whether all pictures have regions, and next to nothing of the areas is in them."""
        inside = [(area & self._regions[t.probe]).sum() / area.sum() for t, area in zip(trials, areas, strict=True)]
        return all(trial.region.any() for trial in trials) and float(np.mean(inside)) < _INSIDE

    def _around(self, trials: Sequence[_Trial], c: int) -> Finding | None:
        """Where answers stay without their regions, and other pictures without theirs do not become that class."""
        others = np.flatnonzero(self._is_right & (self._answers != c) & self._regions.any(axis=(1, 2)))
        others = self._rng(c).permutation(others)[:_OTHER_PICTURES]
        regions = [(n, grown(self._regions[n], self._margin)) for n in others.tolist()]
        become = _count(not is_another for is_another in self._changes(regions, c))
        if become.of < _LEAST_PICTURES or become.share > _BECOME:
            return None
        return Finding(
            answer=c,
            kind="around",
            outcome="untold",
            probes=tuple(trial.probe for trial in trials),
            decisive=(),
            areas=tuple(~trial.region for trial in trials),
            hidden=_count(bool(trial.hidden) for trial in trials),
            hidden_others=become,
        )

    def _finding(self, outcome: str, trials: Sequence[_Trial], shown: Sequence[_Trial], c: int) -> Finding:
        """A finding with the counts of the trials shown."""
        areas = [trial.areas[trial.best] for trial in shown]
        return Finding(
            answer=c,
            kind="outside" if self._are_outside(shown, areas) else "common",
            outcome=outcome,
            probes=tuple(trial.probe for trial in trials),
            decisive=tuple(trial.probe for trial in trials if trial.decides or trial.may_decide),
            areas=tuple(trial.areas[trial.best] for trial in trials),
            alike=all(trial.best in trial.shared.values() for trial in shown),
            in_place=_are_in_place(areas),
            covered=_count(trial.covered[trial.best] for trial in shown),
            elsewhere=_count(is_changed for trial in shown for is_changed in trial.elsewhere),
            hidden=_count(bool(trial.hidden) for trial in shown if trial.hidden is not None),
            hidden_covered=_count(trial.hidden_covered[trial.best] for trial in shown if trial.hidden_covered),
            hidden_elsewhere=_count(is_changed for trial in shown for is_changed in trial.hidden_elsewhere),
            pasted=_count(turned for trial in shown for turned in trial.turned.get(trial.best, [])),
            pasted_elsewhere=_total(trial.turned_elsewhere for trial in shown),
            pasted_others=_count(turned for trial in shown for turned in trial.turned_by_others.get(trial.best, [])),
        )

    def _changes(self, covered: Sequence[tuple[int, Array]], c: int) -> list[bool]:
        """Whether the answer is another class, with most of the fillings, where an area of a probe is covered."""
        pictures = ((n, filled(self._images[n], area, filling)) for n, area in covered for filling in FILLINGS)
        others = (self._ask(pictures) != c).reshape(len(covered), len(FILLINGS)).sum(axis=1)
        return (2 * others > len(FILLINGS)).tolist()  # type: ignore[no-any-return]

    def _turned(self, pasted: Sequence[tuple[int, Array, int]], c: int) -> list[bool]:
        """Whether pictures become a class when an area of another probe is pasted on them."""
        pictures = (
            (onto, np.where(area[..., None], self._images[of], self._images[onto])) for of, area, onto in pasted
        )
        return (self._ask(pictures) == c).tolist()  # type: ignore[no-any-return]

    def _ask(self, pictures: Iterable[tuple[int, Array]]) -> Array:
        """The classes answered for pictures in the place of probes; only some are in memory at once."""
        remaining = iter(pictures)
        answers = [np.zeros(0, np.int64)]
        while some := list(islice(remaining, _AT_ONCE)):
            stack = np.stack([picture for _, picture in some])
            if self._images.dtype.kind in "ui":
                stack = np.rint(stack)
            answers.append(self._answer(np.array([n for n, _ in some]), stack.astype(self._images.dtype)))
            self._passes += len(some)
        return np.concatenate(answers)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, number])


def _count(answers: Iterable[bool]) -> Count:
    listed = list(answers)
    return Count(sum(listed), len(listed))


def _total(counts: Iterable[Count]) -> Count:
    listed = list(counts)
    return Count(sum(count.changed for count in listed), sum(count.of for count in listed))


def _are_in_place(areas: Sequence[Array]) -> bool:
    """Whether areas lie at the same place."""
    mean = np.mean(areas, axis=0) if areas else np.zeros(0)
    return len(areas) > 1 and float(np.mean([mean[area].mean() for area in areas])) >= _SAME_PLACE
