"""The formulas of faithfulness, one pure function each, and QUALITIES: what people are told of them.

Y is the confidence on the picture, O that on the picture multiplied by its heatmap. To add a measure, add a function, a
row, and its line where `evaluate` puts the numbers together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.ranks import rank_correlation


@dataclass(frozen=True)
class Quality:
    """One measure: (N, K) numbers, for N pictures and K targets; NaN where it is undefined.

    Attributes:
        name: of its values in `Evaluation.values`.
        title: what people call it, short enough for the head of a column.
        says: what it is, in a few words.
        range: of its values, where confidence is a probability.
        better: what is good; "" where nothing is.
        source: the paper.
        kind: which table it stands in: "picture" of those that spoil the picture, "map" of those that change what the
            map is made of, or "place" of those that look where it lies.
        has_controls: whether a method should beat maps that know nothing: not where those are good by their making, as
            one that never moves is not sensitive.
    """

    name: str
    title: str
    says: str
    range: str
    better: Literal["higher", "lower", "near 0", ""]
    source: str
    kind: Literal["picture", "map", "place"]
    has_controls: bool = True

    @property
    def heading(self) -> str:
        """The title, with an arrow to what is good."""
        return f"{self.title} {ARROWS[self.better]}".strip()

    def beats(self, value: float, other: float) -> bool:
        """Whether a mean is better than another one by more than rounding; False where one is NaN."""
        if self.better == "near 0":
            value, other = -abs(value), -abs(other)
        return value - other > 1e-6 if self.better != "lower" else other - value > 1e-6


ARROWS: Mapping[str, str] = {"higher": "↑", "lower": "↓", "near 0": "→0", "": ""}

_ROWS = (
    Quality(
        "road", "ROAD", "confidence while the coldest pixels are taken away and guessed from those around them, minus "
        "that while the hottest are", "-1 to 1", "higher", "Rong et al. 2022", "picture",
    ),
    Quality(
        "insertion", "insertion", "area under the confidence while the hottest pixels of a blurred picture are put "
        "back", "0 to 1", "higher", "Petsiuk et al. 2018", "picture",
    ),
    Quality(
        "deletion", "deletion", "area under the confidence while the hottest pixels are replaced by the mean colour",
        "0 to 1", "lower", "Petsiuk et al. 2018", "picture",
    ),
    Quality(
        "infidelity", "infidelity", "share of what covering 8 x 8 squares one by one does to the confidence that their "
        "heat does not tell", "0 to 1", "lower", "Yeh et al. 2019", "picture",
    ),
    Quality(
        "drop", "drop", "share of the confidence lost when the picture is multiplied by its heatmap", "0 to 1",
        "lower", "Chattopadhay et al. 2018", "picture",
    ),
    Quality(
        "increase", "increase", "share of the maps for which that raises the confidence", "0 to 1", "higher",
        "Chattopadhay et al. 2018", "picture",
    ),
    Quality(
        "gain", "gain", "share of what lacks to certainty that this brings", "0 to 1", "higher", "Zhang et al. 2024",
        "picture",
    ),
    Quality(
        "adcc", "ADCC", "harmonic mean of coherency, 1 - complexity and 1 - drop", "0 to 1", "higher",
        "Poppi et al. 2021", "map",
    ),
    Quality(
        "sensitivity", "sensitivity", "how far the map moves at most, as a share of its length, under noise of 2 % of "
        "the picture's range", "0 and more", "lower", "Yeh et al. 2019", "map", has_controls=False,
    ),
    Quality(
        "random_logit", "other class", "rank correlation with the maps of the other targets of the same picture",
        "-1 to 1", "lower", "Sixt et al. 2020", "map", has_controls=False,
    ),
    Quality(
        "randomised", "random weights", "rank correlation with the map of the model whose weights are all shuffled",
        "-1 to 1", "near 0", "Adebayo et al. 2018", "map",
    ),
    Quality(
        "rise", "rise", "how much more entropy the values of the map have with shuffled weights, as a share",
        "-1 and more", "higher", "Hedström et al. 2023", "map", has_controls=False,
    ),
    Quality(
        "focus", "focus", "share of the heat inside the marked region: the energy pointing game", "0 to 1", "higher",
        "Wang et al. 2020", "place",
    ),
    Quality(
        "rank_accuracy", "rank accuracy", "share of as many of the hottest pixels as the marked region has that lie "
        "inside it", "0 to 1", "higher", "Arras et al. 2021", "place",
    ),
    Quality(
        "entropy", "entropy", "entropy of the map, as a share of that of an even one", "0 to 1", "",
        "Bhatt et al. 2020", "place", has_controls=False,
    ),
    Quality(
        "gini", "Gini", "sparseness of the map: its Gini index", "0 to 1", "", "Chalasani et al. 2020", "place",
        has_controls=False,
    ),
)  # fmt: skip

QUALITIES: Mapping[str, Quality] = {quality.name: quality for quality in _ROWS}
"""All measures of `evaluate` by name, in the order in which people see them."""
HEADLINE = "road"
"""The measure by which methods are told apart. Of those here it alone asks about the hottest and the coldest pixels
alike, and leaves no edges behind that a model could know the mask by, which is what its paper is about."""


def drop(before: Array, after: Array) -> Array:
    """Share of the confidence that is lost.

    Args:
        before: (...) Y, the confidence on the picture.
        after: (...) O, the confidence on the picture multiplied by its heatmap.

    Returns:
        (...) float64, >= 0, and at most 1 where O is not negative; NaN where Y is not positive. Lower is better.

    Reference:
        Chattopadhay et al. 2018, "Grad-CAM++", section 4.1: the term max(0, Y - O) / Y of "average drop %".
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    lost = np.maximum(0, before - after)
    shares: Array = np.divide(lost, before, out=np.full(lost.shape, np.nan), where=before > 0)
    return shares


def increase(before: Array, after: Array) -> Array:
    """Whether the confidence rises.

    Args:
        before: (...) Y, the confidence on the picture.
        after: (...) O, the confidence on the picture multiplied by its heatmap.

    Returns:
        (...) float64: 1 where O > Y, otherwise 0; NaN where one of them is not finite. Higher is better.

    Reference:
        Chattopadhay et al. 2018, "Grad-CAM++", section 4.1: the term of the sum in "% increase in confidence".
    """
    known: Array = np.isfinite(before) & np.isfinite(after)
    return np.where(known, np.greater(after, before), np.nan)


def gain(before: Array, after: Array) -> Array:
    """Share of what lacks to certainty that is gained; the counterpart of `drop`.

    Args:
        before: (...) Y, a probability.
        after: (...) O, a probability.

    Returns:
        (...) float64 in [0, 1]; NaN where Y or O lies outside of [0, 1], as a score may, or Y is 1. Higher is better.

    Reference:
        Zhang et al. 2024, "Opti-CAM: Optimizing saliency maps for interpretability", "average gain": the term
        max(0, O - Y) / (1 - Y).
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    won = np.maximum(0, after - before)
    known = (before >= 0) & (before < 1) & (after >= 0) & (after <= 1)
    shares: Array = np.divide(won, 1 - before, out=np.full(won.shape, np.nan), where=known)
    return shares


def area(curves: Array, shares: Array) -> Array:
    """Area under curves by the trapezoid rule.

    Args:
        curves: (..., T).
        shares: (T,) the places on the x axis, rising.

    Returns:
        (...) float64.
    """
    curves = np.asarray(curves, np.float64)
    total: Array = ((curves[..., 1:] + curves[..., :-1]) / 2 * np.diff(shares)).sum(axis=-1)
    return total


def road(hottest: Array, coldest: Array) -> Array:
    """How much better a model knows a picture whose coldest pixels were removed than one whose hottest were.

    Args:
        hottest: (..., P) the confidence when the hottest P shares of the pixels are removed and filled in: "MoRF".
        coldest: (..., P) the same for the coldest: "LeRF".

    Returns:
        (...) float64 in [-1, 1] for probabilities, 0 on average for a map that knows nothing. Higher is better.

    Reference:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods" (ROAD), which draws
        the two curves; this is the mean distance between them, of confidences instead of accuracies.
    """
    distance: Array = (np.asarray(coldest, np.float64) - np.asarray(hottest, np.float64)).mean(axis=-1)
    return distance


def infidelity(heat: Array, change: Array) -> Array:
    """What of the effect of covering an area its heat does not tell.

    With I the perturbation, Phi the map and f the confidence, infidelity is E[(b I.Phi - (f(x) - f(x - I)))^2]. A map
    of class activations has no unit, so b is the factor that fits best, as in the authors' code; and the value is
    divided by that of a map of zeros, E[(f(x) - f(x - I))^2], so that pictures can be compared:
    1 - E[s d]^2 / (E[s^2] E[d^2]), s being I.Phi and d the difference of f. These maps say what a place brings, not
    what a brighter pixel would bring, so I.Phi is the sum of the heat under the area.

    Args:
        heat: (..., S) s, the sum of the heat in each of S areas.
        change: (..., S) d, the confidence on the picture minus that on the picture with the area covered.

    Returns:
        (...) float64 in [0, 1]; NaN where covering changes nothing, 1 where the map is zero. Lower is better.

    Reference:
        Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", definition 2.1, with square removal.
    """
    heat, change = np.asarray(heat, np.float64), np.asarray(change, np.float64)
    # b = E[s d] / E[s^2] must not be negative: a map that is wrong everywhere is not a good map turned round.
    both = np.maximum(0, (heat * change).mean(axis=-1))
    squared = (heat**2).mean(axis=-1) * (change**2).mean(axis=-1)
    told = np.divide(both**2, squared, out=np.zeros(squared.shape), where=squared > 0)
    known = (change**2).mean(axis=-1) > 0
    return np.where(known, (1 - told).clip(0, 1), np.nan)


def sensitivity(original: Array, noisy: Array) -> Array:
    """How far a map moves at most under a little noise: max |Phi(x + e) - Phi(x)| / |Phi(x)|, Euclidean lengths.

    Args:
        original: (..., cells) Phi(x).
        noisy: (R, ..., cells) Phi(x + e) for R draws of e.

    Returns:
        (...) float64, >= 0; NaN where the map is zero. Lower is better.

    Reference:
        Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", definition 3.1, estimated by draws, and
        relative to the map's own length.
    """
    length = np.linalg.norm(original.astype(np.float64), axis=-1)
    moved = np.linalg.norm(noisy.astype(np.float64) - original, axis=-1).max(axis=0)
    shares: Array = np.divide(moved, length, out=np.full(length.shape, np.nan), where=length > 0)
    return shares


def coherency(heat: Array, masked: Array) -> Array:
    """How alike the map of a picture and that of the picture multiplied by it are: (1 + Pearson's correlation) / 2.

    Args:
        heat: (..., pixels) the map of the picture.
        masked: (..., pixels) that of the picture multiplied by it.

    Returns:
        (...) float64 in [0, 1]; 0 where one of the two is the same everywhere. Higher is better.

    Reference:
        Poppi et al. 2021, "Revisiting The Evaluation of Class Activation Mapping for Explainability",
        "maximum coherency".
    """
    a, b = (maps - maps.mean(axis=-1, keepdims=True) for maps in (heat.astype(np.float64), masked.astype(np.float64)))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    correlation = np.divide((a * b).sum(axis=-1), scale, out=np.full(scale.shape, -1.0), where=scale > 0)
    alike: Array = (1 + correlation.clip(-1, 1)) / 2
    return alike


def adcc(coherencies: Array, complexities: Array, drops: Array) -> Array:
    """Average DCC: the harmonic mean of coherency, 1 - complexity and 1 - drop.

    Args:
        coherencies: (...) see `coherency`.
        complexities: (...) the mean of the heatmap, from 0 to 1.
        drops: (...) see `drop`.

    Returns:
        (...) float64 in [0, 1]; 0 where one of the three is 0; NaN where the drop is unknown, or more than 1 as of
        scores. Higher is better.

    Reference:
        Poppi et al. 2021, "Revisiting The Evaluation of Class Activation Mapping for Explainability",
        "Average DCC": 3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)).
    """
    parts = np.stack([coherencies, 1 - np.asarray(complexities, np.float64), 1 - np.asarray(drops, np.float64)])
    some = (parts > 0).all(axis=0)
    inverse = np.divide(1, parts, out=np.ones(parts.shape), where=parts > 0).sum(axis=0)
    means = np.where(some, 3 / inverse, 0.0)
    return np.where(parts[2] >= 0, means, np.nan)


def random_logit(maps: Array, targets: Array) -> Array:
    """How alike the maps of different targets of a picture are: the mean of their rank correlations.

    Args:
        maps: (N, K, cells).
        targets: (N, K, 2) classes; a target that is the same for a picture is left out.

    Returns:
        (N, K) float64 in [-1, 1]; NaN where there is no other target, or a map is the same everywhere. Lower is better:
        a map that is the same for every class says nothing of the class.

    Reference:
        Sixt et al. 2020, "When Explanations Lie: Why Many Modified BP Attributions Fail", the random logit test,
        with the rank correlation of Adebayo et al. 2018.
    """
    alike = rank_correlation(*np.broadcast_arrays(maps[:, :, None], maps[:, None]))
    known = (targets[:, :, None] != targets[:, None]).any(axis=-1) & np.isfinite(alike)
    counts = known.sum(axis=-1)
    sums = np.where(known, alike, 0).sum(axis=-1)
    means: Array = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means


def complexity_rise(before: Array, after: Array) -> Array:
    """How much the entropy of a map's values rises when the model forgets: (H(after) - H(before)) / H(before).

    H is the entropy of the histogram of the map's values in 100 bins. It needs one more map, not one a layer.

    Args:
        before: (..., pixels) the map.
        after: (..., pixels) that with shuffled weights.

    Returns:
        (...) float64, >= -1; NaN where the map is the same everywhere. Higher is better.

    Reference:
        Hedström et al. 2023, "Sanity Checks Revisited: An Exploration to Repair the Model Parameter Randomisation
        Test", eMPRT.
    """
    first, second = (_entropy_of_values(maps) for maps in (before, after))
    rise: Array = np.divide(second - first, first, out=np.full(first.shape, np.nan), where=first > 0)
    return rise


def _entropy_of_values(maps: Array) -> Array:
    """(...) float64, see `complexity_rise`."""
    flat = maps.reshape(-1, maps.shape[-1])
    counts = np.stack([np.histogram(values, bins=100)[0] for values in flat]) / maps.shape[-1]
    logs = np.log(counts, out=np.zeros_like(counts), where=counts > 0)
    result: Array = -(counts * logs).sum(axis=-1).reshape(maps.shape[:-1])
    return result


def rank_accuracy(heat: Array, regions: Array) -> Array:
    """Of the hottest pixels, as many as the region has, the share that lies inside it.

    Args:
        heat: (N, K, H, W); pixels of the same heat follow each other in reading order.
        regions: (N, H, W) bool.

    Returns:
        (N, K) float64 in [0, 1]; NaN where there is no region, or the map is the same everywhere. Higher is better.

    Reference:
        Arras et al. 2021, "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network
        explanations", "relevance rank accuracy": |top-K pixels in the region| / K, K being the region's size.
    """
    n, k = heat.shape[:2]
    order = np.argsort(-heat.reshape(n, k, -1), axis=-1, kind="stable")
    inside = np.take_along_axis(np.repeat(regions.reshape(n, 1, -1), k, axis=1), order, axis=-1)
    sizes = regions.reshape(n, -1).sum(axis=-1)
    hits = np.stack([inside[i, :, :size].sum(axis=-1) for i, size in enumerate(sizes)])
    tells = (heat.max(axis=(2, 3)) > heat.min(axis=(2, 3))) & (sizes[:, None] > 0)
    return np.where(tells, hits / np.maximum(sizes, 1)[:, None], np.nan)


def focus(heat: Array, regions: Array) -> Array:
    """Share of the heat inside the region: the energy pointing game, at the size of the picture.

    Args:
        heat: (N, K, H, W), >= 0.
        regions: (N, H, W) bool.

    Returns:
        (N, K) float64 in [0, 1]; NaN where there is no region or no heat. Higher is better.

    Reference:
        Wang et al. 2020, "Score-CAM", section 4.3; "relevance mass accuracy" of Arras et al. 2021.
    """
    inside = np.einsum("nkhw,nhw->nk", heat.astype(np.float64), regions)
    whole = heat.sum(axis=(2, 3), dtype=np.float64)
    known = (whole > 0) & (regions.sum(axis=(1, 2))[:, None] > 0)
    shares: Array = np.divide(inside, whole, out=np.full(whole.shape, np.nan), where=known)
    return shares
