"""What `evaluate` gives: the measures of one method, or of several, beside those of maps that know nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks import drawing, notebook
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.evaluating.bootstrap import LEAST, by_probe, interval, mean
from gradcam_callbacks.explaining.evaluating.controls import RANDOM_WEIGHTS
from gradcam_callbacks.explaining.evaluating.measures import HEADLINE, QUALITIES, Quality
from gradcam_callbacks.explaining.explanation import Explanation

if TYPE_CHECKING:
    from gradcam_callbacks.drawing.shown_figure import ShownFigure

DEAF = 0.01
"""A model whose confidence changes by less than this share of itself, whatever is done to a picture, does not look."""
NO_BETTER = "*"
"""Stands behind a mean that is no better than that of a control."""


@dataclass(frozen=True, eq=False)
class Control:
    """What maps that know nothing come to, by the same measures as a method.

    Attributes:
        values: (N, K) float64 of each measure, by its name in `QUALITIES`; NaN where it is undefined.
        deletion_curves: (N, K, steps + 1) float32, see `Evaluation`.
        insertion_curves: (N, K, steps + 1) float32, see `Evaluation`.
    """

    values: Mapping[str, Array]
    deletion_curves: Array
    insertion_curves: Array


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How faithful the maps of N pictures times K targets are, beside those of maps that know nothing.

    Confidence is the probability of the class explained where the model has probabilities, and otherwise, and for
    contrast targets, the score.

    Attributes:
        explanation: the maps that were measured.
        name: what tables and plots call them: the method, and the layer where that is needed to tell two apart.
        values: (N, K) float64 of each measure, by its name in `QUALITIES`, which says what it is, its range and what is
            good; NaN where it is undefined.
        deletion_curves: (N, K, steps + 1) float32, the confidence while the hottest pixels are taken away.
        insertion_curves: (N, K, steps + 1) float32, the confidence while the hottest pixels are put back.
        shares: (steps + 1,) float64, the share of the pixels changed so far, from 0 to 1: the curves' x axis.
        correlations: for each layer with weights, the last one first, the (N, K) float64 rank correlations in [-1, 1]
            of the original maps with those after the weights of this layer and of all before it in the mapping were
            randomised. NaN where one of the two maps is the same everywhere. Only the first layer, which comes last,
            with `randomise="whole"`; empty with `randomise=False`.
        controls: the same measures of maps that know nothing, by name: "random weights" (the method itself, on the
            model with all weights shuffled, if it was to be randomised), "random map", "centred Gaussian" and "edges".
        change: (N, K) how much the confidence changed at most, as a share of itself, whatever was done to the picture.
        passes: how many changed pictures went through the model, for all explainers and controls together.
    """

    explanation: Explanation
    name: str
    values: Mapping[str, Array]
    deletion_curves: Array
    insertion_curves: Array
    shares: Array
    correlations: Mapping[str, Array]
    controls: Mapping[str, Control]
    change: Array
    passes: int

    @property
    def drop(self) -> Array:
        """(N, K) float64, share of the confidence lost when the picture is multiplied by its heatmap; lower is better.

        In [0, 1] for probabilities; NaN where the confidence is not positive.
        """
        return self.values["drop"]

    @property
    def increase(self) -> Array:
        """(N, K) float64, 1 where that raises the confidence, otherwise 0; NaN where it is not finite."""
        return self.values["increase"]

    @property
    def deletion(self) -> Array:
        """(N, K) float64, area under the deletion curve, in [0, 1] for probabilities. Lower is better."""
        return self.values["deletion"]

    @property
    def insertion(self) -> Array:
        """(N, K) float64, area under the insertion curve, in [0, 1] for probabilities. Higher is better."""
        return self.values["insertion"]

    @property
    def average_drop(self) -> float:
        """Mean of `drop`, NaN left out. Multiply by 100 for the percentage of the paper."""
        return mean(self.drop)

    @property
    def increase_rate(self) -> float:
        """Share of the maps whose confidence rises, NaN left out."""
        return mean(self.increase)

    @property
    def mean_deletion(self) -> float:
        """Mean area under the deletion curves, NaN left out."""
        return mean(self.deletion)

    @property
    def mean_insertion(self) -> float:
        """Mean area under the insertion curves, NaN left out."""
        return mean(self.insertion)

    @property
    def cascade(self) -> dict[str, float]:
        """For each layer, the last one first, the mean of `correlations`, NaN left out."""
        return {path: mean(values) for path, values in self.correlations.items()}

    @property
    def sanity(self) -> float:
        """Mean rank correlation of the maps with those of the model whose weights are all randomised.

        Near 0, the maps depend on what the model learned; near 1, they would look the same had it learned nothing.
        No threshold is published, so none is made up here: compare methods by it. NaN with `randomise=False`.
        """
        return mean(self.values["randomised"])

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to know before the numbers are believed: which controls the maps do not beat, and why."""
        return Comparison((self,)).sentences

    def summary(self) -> str:
        """The means as a table, beside those of the controls, and what to know of them."""
        return Comparison((self,)).summary()

    def plot(self) -> ShownFigure:
        """The mean deletion and insertion curves, the controls grey."""
        return Comparison((self,)).plot()

    def description(self) -> dict[str, Any]:
        """The means with their intervals, as JSON takes them."""
        return Comparison((self,)).description()

    def _repr_html_(self) -> str:
        """What a notebook shows: the tables and the curves."""
        return Comparison((self,))._repr_html_()

    def __repr__(self) -> str:
        n, k = self.drop.shape
        return (
            f"Evaluation({self.name}, {n} pictures x {k} targets, road={mean(self.values['road']):.3f}, "
            f"average_drop={self.average_drop:.3f}, increase_rate={self.increase_rate:.3f}, "
            f"mean_deletion={self.mean_deletion:.3f}, mean_insertion={self.mean_insertion:.3f}, "
            f"sanity={self.sanity:.3f})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """How faithful the maps of several methods are, on the same pictures and targets.

    Attributes:
        evaluations: one a method, in the order in which they were asked for.
    """

    evaluations: tuple[Evaluation, ...]

    def __getitem__(self, name: str) -> Evaluation:
        """That of a method, by its `name`.

        Raises:
            GradCAMError: if there is none.
        """
        for each in self.evaluations:
            if each.name == name:
                return each
        raise GradCAMError(f"No '{name}' was measured. There are: {', '.join(e.name for e in self.evaluations)}.")

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(self.evaluations)

    def __len__(self) -> int:
        return len(self.evaluations)

    def __repr__(self) -> str:
        means = ", ".join(f"{each.name} {mean(each.values[HEADLINE]):.3f}" for each in self)
        return f"Comparison({QUALITIES[HEADLINE].title}: {means})"

    @property
    def recommendation(self) -> str | None:
        """Which method to choose, in a sentence with its figures; None where the pictures do not tell.

        A method is named where its ROAD is higher than that of each other one, and of each control, by more than the
        95 % interval of the difference, from draws of the pictures with replacement. Methods whose maps are the same
        count as one. It takes six pictures.
        """
        if len(self) < 2 or self._is_deaf:
            return None
        best = max(self, key=lambda each: np.nan_to_num(mean(each.values[HEADLINE]), nan=-np.inf))
        twins = [each.name for each in self if each is not best and _are_the_same(each, best)]
        others = [each for each in self if each is not best and each.name not in twins]
        rivals = {each.name: each.values for each in others}
        controls = {name: control.values for name, control in best.controls.items()}
        told = {name: _Difference.of(best.values, values) for name, values in (rivals | controls).items()}
        if not others or not all(difference.is_sure for difference in told.values()):
            return None
        next_best = max(rivals, key=lambda name: mean(rivals[name][HEADLINE]))
        control = max(controls, key=lambda name: np.nan_to_num(mean(controls[name][HEADLINE]), nan=-np.inf))
        same = f" ({' and '.join(twins)} {'gives' if len(twins) == 1 else 'give'} the same maps)" if twins else ""
        return (
            f"Choose {best.name}{same}: its {QUALITIES[HEADLINE].title} is {mean(best.values[HEADLINE]):.3f}, "
            f"{told[next_best].mean:.3f} more than that of {next_best}, the next best ({told[next_best].interval}), "
            f"and {told[control].mean:.3f} more than that of the best control, {control}."
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to know before the numbers are believed."""
        if self._is_deaf:
            most = max(float(each.change.max()) for each in self)
            return (
                f"Whatever is done to the pictures, the confidence changes by {100 * most:.1f} % of itself at most: "
                "the model does not look at them, and the measures say nothing of the maps.",
            )
        found = [sentence for each in self for sentence in _not_beaten(each)]
        count = len(self.evaluations[0].change)
        if count < LEAST:
            found.append(f"{_counted(count, 'picture')} cannot tell a difference from chance; that takes {LEAST}.")
        return tuple(found)

    @property
    def _is_deaf(self) -> bool:
        return all(float(each.change.max(initial=0)) < DEAF for each in self)

    def summary(self) -> str:
        """The means as tables, beside those of the controls, and what to know of them."""
        parts = []
        for heads, rows in self.tables():
            width = max(len(row[0]) for row in rows)
            widths = [max(len(head), 7) for head in heads]
            lines = [" " * width + "".join(f"  {h:>{w}}" for h, w in zip(heads, widths, strict=True))]
            lines += [
                f"{name:<{width}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
                for name, *cells in rows
            ]
            parts.append("\n".join(line.rstrip() for line in lines))
        notes = "\n".join(self.notes())
        return "\n\n".join([self.title(), *parts, notes]).rstrip()

    def plot(self) -> ShownFigure:
        """The mean deletion and insertion curves: one line a method, the controls grey."""
        first = self.evaluations[0]
        panels = []
        for curves, quality in (("insertion_curves", "insertion"), ("deletion_curves", "deletion")):
            lines = {each.name: _mean_curve(getattr(each, curves)) for each in self}
            areas = {each.name: mean(each.values[quality]) for each in self}
            grey = {name: _mean_curve(getattr(c, curves)) for name, c in first.controls.items()}
            grey_areas = {name: mean(c.values[quality]) for name, c in first.controls.items()}
            if RANDOM_WEIGHTS in grey and len(self) > 1:  # each method has its own: one line, so that they are seen
                own = [each.controls[RANDOM_WEIGHTS] for each in self]
                grey[RANDOM_WEIGHTS] = np.mean([_mean_curve(getattr(c, curves)) for c in own], axis=0)
                grey_areas[RANDOM_WEIGHTS] = float(np.mean([mean(c.values[quality]) for c in own]))
            panels.append((QUALITIES[quality].heading, lines | grey, areas | grey_areas))
        return drawing.curves(
            first.shares,
            panels,
            grey=list(first.controls),
            x_titles=("share of the pixels put back, hottest first", "share of the pixels taken away, hottest first"),
            y_title="confidence, mean" if first.explanation.probabilities is None else "probability, mean",
        )

    def description(self) -> dict[str, Any]:
        """The means with their intervals, as JSON takes them."""
        first = self.evaluations[0]
        return {
            "layer": first.explanation.layer,
            "pictures": len(first.change),
            "targets": list(first.explanation.target_names),
            "passes": first.passes,
            "methods": {each.name: _told(each.values) for each in self},
            "controls": {
                name: _told(control.values) for name, control in first.controls.items() if name != RANDOM_WEIGHTS
            },
            RANDOM_WEIGHTS.replace(" ", "_"): {
                each.name: _told(each.controls[RANDOM_WEIGHTS].values)
                for each in self
                if RANDOM_WEIGHTS in each.controls
            },
            "sentences": list(self.sentences),
            "recommendation": self.recommendation,
        }

    def title(self) -> str:
        """What was measured, in a line."""
        first = self.evaluations[0]
        n, k = first.change.shape
        layers = {each.explanation.layer for each in self}
        at = f" at '{first.explanation.layer}'" if len(layers) == 1 else ""
        what = first.name if len(self) == 1 else f"{len(self)} methods"
        return f"Faithfulness of {what}{at}, {_counted(n, 'picture')} x {_counted(k, 'target')}"

    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Of each kind of measure the heads of the columns, and the rows: a name and the means, methods first.

        A measure that was not taken, of any of them, has no column.
        """
        shared = {name: c for name, c in self.evaluations[0].controls.items() if name != RANDOM_WEIGHTS}
        made = []
        for kind in ("picture", "map", "place"):
            columns = [
                quality
                for quality in QUALITIES.values()
                if quality.kind == kind and any(np.isfinite(each.values[quality.name]).any() for each in self)
            ]
            rows = []
            for each in self:
                rows.append([each.name, *(_cell(quality, each) for quality in columns)])
                if RANDOM_WEIGHTS in each.controls:
                    own = each.controls[RANDOM_WEIGHTS].values
                    rows.append([f"  {RANDOM_WEIGHTS}", *(_written(own[quality.name]) for quality in columns)])
            rows += [[name, *(_written(c.values[quality.name]) for quality in columns)] for name, c in shared.items()]
            made.append(([quality.heading for quality in columns], rows))
        return made

    def notes(self) -> list[str]:
        """What stands below the tables: what a star means, how many maps a mean is of, what to know, what to choose."""
        found = ["Methods first; below each the same method with random weights, then maps that know nothing."]
        if any(NO_BETTER in cell for _, rows in self.tables() for row in rows for cell in row[1:]):
            found.append(f"{NO_BETTER} no better than one of these.")
        for each in self:
            partial: dict[int, list[str]] = {}
            for quality in QUALITIES.values():
                known = int(np.isfinite(each.values[quality.name]).sum())
                if 0 < known < each.change.size:
                    partial.setdefault(known, []).append(quality.title)
            found += [
                f"{each.name}: of {known} of {each.change.size} maps only, {_listed(titles)}."
                for known, titles in partial.items()
            ]
        if all(not each.correlations for each in self):
            found.append("Random weights: not measured.")
        recommended = self.recommendation
        return [*found, *self.sentences, *([recommended] if recommended else [])]

    def _repr_html_(self) -> str:
        """What a notebook shows: the tables and the curves."""
        tables = [notebook.table(["", *heads], rows) for heads, rows in self.tables()]
        notes = [notebook.paragraph(note) for note in self.notes()]
        curves = notebook.picture(self.plot().png(), "Deletion and insertion curves")
        return "".join([notebook.paragraph(self.title()), *tables, curves, *notes])


@dataclass(frozen=True)
class _Difference:
    """How much higher the headline of one is than that of another, over the same pictures.

    Attributes:
        mean: of the differences of each picture.
        low: the lower end of its 95 % interval.
        high: the upper end.
        count: of how many pictures.
    """

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, one: Mapping[str, Array], other: Mapping[str, Array]) -> _Difference:
        differences = by_probe(one[HEADLINE] - other[HEADLINE])
        return cls(mean(differences), *interval(differences), int(np.isfinite(differences).sum()))

    @property
    def is_sure(self) -> bool:
        """Whether it is more than chance."""
        return self.count >= LEAST and self.low > 0

    @property
    def interval(self) -> str:
        """In words that follow its mean."""
        return f"95 % interval {self.low:.3f} to {self.high:.3f}, {self.count} pictures"


def _not_beaten(each: Evaluation) -> Iterator[str]:
    """What a method must be told: the controls that it does not beat, and those that it is not told apart from."""
    own, beaten, alike = mean(each.values[HEADLINE]), [], []
    for name, control in each.controls.items():
        difference, other = _Difference.of(each.values, control.values), mean(control.values[HEADLINE])
        named = {RANDOM_WEIGHTS: f"itself with {name}", "edges": "the edges"}.get(name, f"a {name}")
        if not QUALITIES[HEADLINE].beats(own, other) and np.isfinite(own) and np.isfinite(other):
            beaten.append(f"{named} ({other:.3f})")
        elif difference.count >= LEAST and not difference.is_sure:
            alike.append(f"{named} (which has {difference.mean:.3f} less, {difference.interval})")
    has = f"{each.name}, with a {QUALITIES[HEADLINE].title} of {own:.3f},"
    if beaten:
        yield f"{has} does not beat {_listed(beaten)}."
    if alike:
        yield f"{has} is not told apart from {_listed(alike)}."


def _listed(texts: Sequence[str]) -> str:
    """With commas, and "and" before the last."""
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _are_the_same(one: Evaluation, other: Evaluation) -> bool:
    """Whether the maps of two methods are the same, each by its own maximum."""
    a, b = one.explanation.maps, other.explanation.maps
    if a.shape != b.shape:
        return False
    size = a.shape[2:]
    return bool(np.allclose(drawing.heatmaps(a, size), drawing.heatmaps(b, size), atol=1e-3))


def _cell(quality: Quality, each: Evaluation) -> str:
    """A mean of a method, marked where it is no better than that of a control."""
    own, others = mean(each.values[quality.name]), [mean(c.values[quality.name]) for c in each.controls.values()]
    is_beaten = quality.has_controls and any(np.isfinite(other) and not quality.beats(own, other) for other in others)
    return _written(each.values[quality.name]) + (NO_BETTER if is_beaten and np.isfinite(own) else "")


def _written(values: Array) -> str:
    value = mean(values)
    return f"{value:z.3f}" if np.isfinite(value) else "–"


def _told(values: Mapping[str, Array]) -> dict[str, Any]:
    """Of each measure mean, interval and number of maps, as JSON takes them."""
    told = {}
    for name, of in values.items():
        low, high = interval(by_probe(of))
        told[name] = {
            "mean": _number(mean(of)),
            "low": _number(low),
            "high": _number(high),
            "maps": int(np.isfinite(of).sum()),
        }
    return told


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean_curve(curves: Array) -> Array:
    """(steps + 1,) float64."""
    result: Array = curves.astype(np.float64).mean(axis=(0, 1))
    return result
