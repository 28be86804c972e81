"""How faithful the maps are to the model: what happens when the picture or the weights are spoilt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcam_callbacks import drawing, notebook
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.explainer import Explainer, refuse_model
from gradcam_callbacks.explaining.explanation import Explanation
from gradcam_callbacks.probes.probe_set import ProbeSet, as_probes
from gradcam_callbacks.ranks import rank_correlation
from gradcam_callbacks.record.health import in_place

BLUR = 0.05
"""Standard deviation of the Gaussian blur that insertion starts from, as a share of the picture's shorter side."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How faithful the maps of N pictures times K targets are.

    Confidence is the probability of the class explained where the model has probabilities, and otherwise, and for
    contrast targets, the score.

    Attributes:
        explanation: the maps that were measured.
        drop: (N, K) float64, share of the confidence lost when the picture is multiplied by its heatmap: in [0, 1] for
            probabilities; NaN where the confidence is not positive. Lower is better.
        increase: (N, K) float64, 1 where that raises the confidence, otherwise 0; NaN where a confidence is not
            finite. Higher is better.
        deletion: (N, K) float64, area under the deletion curve, in [0, 1] for probabilities. Lower is better.
        insertion: (N, K) float64, area under the insertion curve, in [0, 1] for probabilities. Higher is better.
        deletion_curves: (N, K, steps + 1) float32, the confidence while the hottest pixels are taken away.
        insertion_curves: (N, K, steps + 1) float32, the confidence while the hottest pixels are put back.
        shares: (steps + 1,) float64, the share of the pixels changed so far, from 0 to 1: the curves' x axis.
        correlations: for each layer with weights, the last one first, the (N, K) float64 rank correlations in [-1, 1]
            of the original maps with those after the weights of this layer and of all before it in the mapping were
            randomised. NaN where one of the two maps is the same everywhere. Empty with `randomise=False`.
    """

    explanation: Explanation
    drop: Array
    increase: Array
    deletion: Array
    insertion: Array
    deletion_curves: Array
    insertion_curves: Array
    shares: Array
    correlations: Mapping[str, Array]

    @property
    def average_drop(self) -> float:
        """Mean of `drop`, NaN left out. Multiply by 100 for the percentage of the paper."""
        return _mean(self.drop)

    @property
    def increase_rate(self) -> float:
        """Share of the maps whose confidence rises, NaN left out."""
        return _mean(self.increase)

    @property
    def mean_deletion(self) -> float:
        """Mean area under the deletion curves, NaN left out."""
        return _mean(self.deletion)

    @property
    def mean_insertion(self) -> float:
        """Mean area under the insertion curves, NaN left out."""
        return _mean(self.insertion)

    @property
    def cascade(self) -> dict[str, float]:
        """For each layer, the last one first, the mean of `correlations`, NaN left out."""
        return {path: _mean(values) for path, values in self.correlations.items()}

    @property
    def sanity(self) -> float:
        """Mean rank correlation of the maps with those of the model whose weights are all randomised.

        Near 0, the maps depend on what the model learned; near 1, they would look the same had it learned nothing.
        No threshold is published, so none is made up here: compare methods by it. NaN with `randomise=False`.
        """
        return list(self.cascade.values())[-1] if self.correlations else float("nan")

    def summary(self) -> str:
        """The five numbers as a table, each with how many maps it is the mean of."""
        lines = [f"  {name:<24}{mean:>8}   {count:>9} maps   {says}" for name, mean, count, says in self._rows()]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        """What a notebook shows: the five numbers as a table."""
        return notebook.paragraph(self._title()) + notebook.table(["measure", "mean", "maps", ""], self._rows())

    def _title(self) -> str:
        n, k = self.drop.shape
        made = f"{self.explanation.method} at '{self.explanation.layer}'"
        return f"Faithfulness of {made}, {n} pictures x {k} targets"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Of each number its name, its mean, how many maps that is of, and what is good."""
        final = list(self.correlations.values())[-1] if self.correlations else np.full(self.drop.shape, np.nan)
        rows = [
            ("average drop", self.drop, "lower is better"),
            ("increase in confidence", self.increase, "higher is better"),
            ("deletion area", self.deletion, "lower is better"),
            ("insertion area", self.insertion, "higher is better"),
            ("correlation with random", final, "near 0 is better" if self.correlations else "not measured"),
        ]
        return [
            (name, f"{_mean(values):.3f}", f"{int(np.isfinite(values).sum())} of {values.size}", says)
            for name, values, says in rows
        ]

    def __repr__(self) -> str:
        n, k = self.drop.shape
        return (
            f"Evaluation({n} pictures x {k} targets, average_drop={self.average_drop:.3f}, "
            f"increase_rate={self.increase_rate:.3f}, mean_deletion={self.mean_deletion:.3f}, "
            f"mean_insertion={self.mean_insertion:.3f}, sanity={self.sanity:.3f})"
        )


def evaluate(
    explainer: Explainer, probes: Any, *, steps: int = 50, randomise: bool = True, seed: int = 0
) -> Evaluation:
    """Measures how faithful an explainer's maps are to its model.

    Costs 2 * steps + 3 forward passes a map, and with `randomise` one explanation of all probes a layer with weights.
    The model is left exactly as it was found, also after an error; meanwhile a copy of its weights is kept.

    Pictures are changed as the model is fed them, after any preprocessing: a heat of 0 makes a pixel 0, whatever 0
    means there. A map that is the same everywhere is uncovered in reading order.

    Args:
        explainer: of a model of one input.
        probes: a `ProbeSet`, an array of images (N, H, W, C), or an (images, labels) pair.
        steps: in how many equal shares of the pixels the picture is changed from one end of a curve to the other.
        randomise: whether to compare the maps with those of randomised weights.
        seed: of the randomisation.

    Raises:
        GradCAMError: if `explainer` is a model, `steps` is not positive, the images are not (N, H, W, C) or not
            the only input, a target is a function, the pictures of a batch influence each other, or the probes cannot
            be explained.

    Reference:
        Average drop and increase: Chattopadhay et al. 2018, "Grad-CAM++", section 4.1. Insertion and deletion: Petsiuk
        et al. 2018, "RISE". Cascading randomisation: Adebayo et al. 2018, "Sanity Checks for Saliency Maps".
    """
    if steps < 1:
        raise GradCAMError(f"A curve has at least 1 step, not {steps}.", argument="steps")
    refuse_model(explainer)
    probes = as_probes(probes)
    _check_measurable(probes)
    explanation = explainer(probes)
    if explainer.pictures_touch(np.repeat(probes.images[:1], 2, axis=0)):
        raise GradCAMError(
            f"The pictures of a batch influence each other in model '{explainer.model.name}', so the confidence in a "
            "spoilt picture cannot be measured by itself."
        )
    targets = np.stack([explanation.explained, probes.target_matrix[..., 1]], axis=-1)
    pixels = math.prod(probes.images.shape[1:3])
    counts = np.rint(np.linspace(0, pixels, steps + 1)).astype(np.int64)
    confidences = _confidences(explainer, explanation, targets, counts)
    deletion, insertion, masked = np.split(confidences, [steps + 1, 2 * (steps + 1)], axis=-1)
    shares = counts / pixels
    return Evaluation(
        explanation=explanation,
        drop=drop(deletion[..., 0], masked[..., 0]),
        increase=increase(deletion[..., 0], masked[..., 0]),
        deletion=area(deletion, shares),
        insertion=area(insertion, shares),
        deletion_curves=deletion,
        insertion_curves=insertion,
        shares=shares,
        correlations=_cascade(explainer, explanation, targets, seed) if randomise else {},
    )


def drop(before: Array, after: Array) -> Array:
    """Share of the confidence that is lost.

    Args:
        before: (...) Y, the confidence on the picture.
        after: (...) O, the confidence on the picture multiplied by its heatmap.

    Returns:
        (...) float64, >= 0, and at most 1 where O is not negative; NaN where Y is not positive.

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
        (...) float64: 1 where O > Y, otherwise 0; NaN where one of them is not finite.

    Reference:
        Chattopadhay et al. 2018, "Grad-CAM++", section 4.1: the term of the sum in "% increase in confidence".
    """
    known: Array = np.isfinite(before) & np.isfinite(after)
    return np.where(known, np.greater(after, before), np.nan)


def uncovered(start: Array, end: Array, heat: Array, counts: Array) -> Array:
    """A picture that turns into another, the hottest pixels first.

    Args:
        start: (H, W, C), the picture before.
        end: what it becomes; broadcasts to (H, W, C).
        heat: (H, W) numbers of any scale. Pixels of the same heat follow each other in reading order.
        counts: (T,) how many pixels are changed.

    Returns:
        (T, H, W, C), in the dtype of the two.

    Reference:
        Petsiuk et al. 2018, "RISE": deletion, where `start` is the picture, and insertion, where `end` is.
    """
    order = np.argsort(-heat, axis=None, kind="stable")
    place = np.empty(heat.size, np.int64)
    place[order] = np.arange(heat.size)
    changed = place.reshape(heat.shape) < np.asarray(counts)[:, None, None]
    return np.where(changed[..., None], end, start)


def blurred(image: Array) -> Array:
    """A picture without its details.

    Args:
        image: (H, W, C).

    Returns:
        (H, W, C) float32, under a Gaussian of standard deviation 0.05 * min(H, W) pixels, cut off at four of them; the
        border pixels are repeated outwards.
    """
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * min(image.shape[:2])
    result: Array = gaussian_filter(np.asarray(image, np.float32), (sigma, sigma, 0), mode="nearest")
    return result


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


def randomised(weight: Array, rng: np.random.Generator) -> Array:
    """A weight that has forgotten what it learned, on the same scale.

    Its elements change places, so that their distribution stays and a variance stays positive. A kernel (two axes or
    more) whose elements are all the same gets normal values instead, of that magnitude, or of 1 / sqrt(fan-in) where it
    is zero. Other constants (a bias of zero, a scale of one) and whole numbers that are all the same stay.

    Args:
        weight: of any shape.
        rng: where the randomness comes from.

    Returns:
        A new array of the same shape and dtype, different from `weight` unless it is such a constant.
    """
    elements = weight.ravel()
    if (elements == elements[:1]).all():
        if weight.ndim < 2 or weight.size == 0 or weight.dtype.kind in "biu":
            return weight.copy()
        scale = abs(float(elements[0])) or math.prod(weight.shape[:-1]) ** -0.5
        return np.asarray(rng.normal(0, scale, weight.shape)).astype(weight.dtype)
    shuffled = elements
    while np.array_equal(shuffled, elements):  # of few elements, the same order may come out
        shuffled = rng.permutation(elements)
    return shuffled.reshape(weight.shape)


def _spoilt(image: Array, heat: Array, counts: Array) -> Array:
    """(2 * T + 1, H, W, C) float32: the pictures of deletion and of insertion, and the one multiplied by its heat."""
    image = image.astype(np.float32)
    return np.concatenate(
        [
            uncovered(image, image.mean(axis=(0, 1)), heat, counts),
            uncovered(blurred(image), image, heat, counts),
            image[None] * heat[None, ..., None],
        ]
    )


def _confidences(explainer: Explainer, explanation: Explanation, targets: Array, counts: Array) -> Array:
    """(N, K, 2 * T + 1) the confidence in each target on each of its spoilt pictures, as `_spoilt` orders them."""
    images = explanation.probes.images
    heatmaps = drawing.heatmaps(in_place(explanation.maps, explanation.health), images.shape[1:3])
    is_whole = images.dtype.kind in "ui"

    def confidences(image: Array, heat: Array, target: Array) -> Array:
        spoilt = _spoilt(image, heat, counts)
        fed = (np.rint(spoilt) if is_whole else spoilt).astype(images.dtype)
        return explainer.confidences(fed, np.tile(target, (len(fed), 1, 1)))[:, 0]

    n, k = heatmaps.shape[:2]
    return np.stack([[confidences(images[i], heatmaps[i, j], targets[i, j]) for j in range(k)] for i in range(n)])


def _check_measurable(probes: ProbeSet) -> None:
    """Raises where `evaluate` has no meaning."""
    if probes.images.ndim != 4 or probes.picture_key is not None:
        inputs = "several inputs" if probes.picture_key is not None else "one input"
        raise GradCAMError(
            "evaluate measures pictures (N, H, W, C) that are a model's only input; "
            f"got {probes.images.shape} of {inputs}."
        )
    if probes.functions:
        raise GradCAMError("evaluate measures the confidence in classes; functions of the outputs have none.")


def _cascade(explainer: Explainer, explanation: Explanation, targets: Array, seed: int) -> dict[str, Array]:
    """For each layer with weights, from the last to the first, the (N, K) rank correlations; see `Evaluation`."""
    from gradcam_callbacks.explaining.layers import weights_by_layer

    rng = np.random.default_rng(seed)
    groups = _with_fixed_targets(explanation.probes, targets)
    layers = weights_by_layer(explainer.model)
    original = explanation.maps.reshape(*targets.shape[:2], -1)
    correlations: dict[str, Array] = {}
    with _restored([weight for weights in layers.values() for weight in weights]):
        for path, weights in reversed(layers.items()):
            for weight in weights:
                weight.assign(randomised(weight.numpy(), rng))
            maps = np.empty_like(explanation.maps)
            for members, group in groups:
                maps[members] = explainer(group).maps
            correlations[path] = rank_correlation(original, maps.reshape(original.shape))
    return correlations


def _with_fixed_targets(probes: ProbeSet, targets: Array) -> list[tuple[Array, ProbeSet]]:
    """Groups the probes by their classes, so that "predicted" stays what it was before the weights were randomised.

    Args:
        probes: N pictures.
        targets: (N, K, 2) classes, see `ProbeSet.target_matrix`.

    Returns:
        For each group the positions of its probes, and a set of them.
    """
    rows, group_of = np.unique(targets.reshape(len(targets), -1), axis=0, return_inverse=True)
    groups = []
    for group, row in enumerate(rows):
        members = np.flatnonzero(group_of.ravel() == group)
        classes = [(int(a), int(b)) if b >= 0 else int(a) for a, b in row.reshape(-1, 2)]
        groups.append((members, ProbeSet(probes.images[members], pictures=probes.pictures[members], targets=classes)))
    return groups


@contextmanager
def _restored(weights: Sequence[Any]) -> Iterator[None]:
    """Gives the weights back their values at the end, whatever happened."""
    before = [weight.numpy() for weight in weights]
    try:
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)


def _mean(values: Array) -> float:
    """The mean of what is not NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
