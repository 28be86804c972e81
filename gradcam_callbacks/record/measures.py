"""MEASURES: what is measured of a map or between two, one row each.

Metrics, tiles, the page and the documentation take their words, ranges and means from here. To add a measure, add
a row, and a function of its name to `gradcam_callbacks.reviewing.drift`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """One measure: (N, K) numbers of a step, for N probes and K targets; NaN where it is undefined.

    Attributes:
        name: of the array in a step, and of its values on the page.
        title: what people call it.
        says: what it is, in a few words that follow the title.
        of: what it is computed from:
            "model": the explanation brings it along;
            "map": the maps of a step;
            "region": these, and the regions where a person says the model should look;
            "pair": the maps of the step before and of this one;
            "first": the maps of the first step and of this one;
            "noise": the maps, and those under a tiny change of the input.
        low: the least value, or None.
        high: the greatest value, or None.
        unit: of the values; "share" is shown in per cent, "correlation" with two digits, others as numbers.
        lower_is_better: whether less is better; None where neither is.
        is_recorded: whether each step's file has it; what is not recorded is computed again by who reads the record.
        section: of its metrics in MLflow, "<section>/<probe>.<target>"; None for no metrics.
        mean: the MLflow metric of its mean over all maps where it is defined; None for none.
        has_each: whether each map has a metric of its own, where all are asked for, and each class a mean.
        function: in `gradcam_callbacks.reviewing.drift`, where that has another name.
    """

    name: str
    title: str
    says: str
    of: Literal["model", "map", "region", "pair", "first", "noise"]
    low: float | None
    high: float | None
    unit: str
    lower_is_better: bool | None = None
    is_recorded: bool = True
    section: str | None = None
    mean: str | None = None
    has_each: bool = True
    function: str | None = None


_ROWS = (
    Measure(
        "scores", "Score", "what was explained", "model", None, None, "logit or probability",
        lower_is_better=False, section="gradcam_score",
    ),
    Measure(
        "probabilities", "Probability", "of the class that is explained", "model", 0, 1, "probability",
        lower_is_better=False, section="gradcam_probability",
    ),
    Measure(
        "drift", "Drift", "share of the attention that moved since the step before", "pair", 0, 1, "share",
        lower_is_better=True, section="gradcam_drift", mean="gradcam_drift/mean",
    ),
    Measure(
        "from_first", "From first", "share of the attention that moved since the first step", "first", 0, 1, "share",
        is_recorded=False, function="drift",
    ),
    Measure(
        "shift", "Shift", "how far the centre moved, as a share of the diagonal", "pair", 0, 1, "share",
        lower_is_better=True, is_recorded=False,
    ),
    Measure(
        "rank", "Rank", "rank correlation with the step before", "pair", -1, 1, "correlation",
        lower_is_better=False, is_recorded=False,
    ),
    Measure(
        "floor", "Noise floor", "drift by noise alone", "noise", 0, 1, "share",
        lower_is_better=True, section="gradcam_drift", mean="gradcam_drift/noise_floor", has_each=False,
        function="drift",
    ),
    Measure(
        "focus", "Focus", "share of the attention inside the marked region", "region", 0, 1, "share",
        lower_is_better=False, section="gradcam_focus", mean="gradcam_focus/mean",
    ),
    Measure(
        "pointing", "Pointing", "whether the peak lies inside the marked region", "region", 0, 1, "share",
        lower_is_better=False, section="gradcam_pointing", mean="gradcam_pointing/mean",
    ),
    Measure(
        "entropy", "Entropy", "how evenly the attention is spread: 0 in one place, 1 everywhere alike", "map", 0, 1,
        "share", section="gradcam_spread", mean="gradcam_spread/entropy", has_each=False,
    ),
    Measure(
        "gini", "Sparseness", "how much of the attention lies in few places: the Gini index", "map", 0, 1, "share",
        section="gradcam_spread", mean="gradcam_spread/sparseness", has_each=False,
    ),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ROWS}
"""All measures by name, in the order in which people see them."""
