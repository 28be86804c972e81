"""evaluate: puts the numbers of methods and of controls together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np

from gradcam_callbacks import concentration, drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.evaluating import measures, spoiling
from gradcam_callbacks.explaining.evaluating.confidences import Confidences, as_fed, digest
from gradcam_callbacks.explaining.evaluating.controls import CONTROLS, RANDOM_WEIGHTS
from gradcam_callbacks.explaining.evaluating.evaluation import Comparison, Control, Evaluation
from gradcam_callbacks.explaining.evaluating.randomising import randomised, restored
from gradcam_callbacks.explaining.explainer import Explainer, refuse_model
from gradcam_callbacks.explaining.explanation import Explanation
from gradcam_callbacks.explaining.layers import weights_by_layer
from gradcam_callbacks.explaining.methods import METHODS, takes_gradients
from gradcam_callbacks.probes.probe_set import ProbeSet, as_probes
from gradcam_callbacks.probes.targets import NO_CLASS
from gradcam_callbacks.ranks import rank_correlation
from gradcam_callbacks.record.health import in_place

NOISY = 10
"""How many draws of noise the sensitivity of a map is the greatest of."""
RADIUS = 0.02
"""How far that noise goes up and down, as a share of the picture's range."""


@overload
def evaluate(
    explainer: Explainer,
    probes: Any,
    *,
    steps: int = ...,
    randomise: bool | Literal["whole"] = ...,
    seed: int = ...,
    on_progress: Callable[[int, int], None] | None = ...,
) -> Evaluation: ...


@overload
def evaluate(
    explainer: Sequence[Explainer],
    probes: Any,
    *,
    steps: int = ...,
    randomise: bool | Literal["whole"] = ...,
    seed: int = ...,
    on_progress: Callable[[int, int], None] | None = ...,
) -> Comparison: ...


def evaluate(
    explainer: Explainer | Sequence[Explainer],
    probes: Any,
    *,
    steps: int = 50,
    randomise: bool | Literal["whole"] = True,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation | Comparison:
    """Measures how faithful an explainer's maps are to its model, or several explainers' beside each other.

    Beside each method stand maps that know nothing: a random one, a Gaussian in the middle, the picture's edges, and
    the method's own on the model with shuffled weights. `QUALITIES` lists the measures.

    No changed picture goes through the model twice, whatever asks for it: methods share the ends of the curves, the
    covered squares and the controls, all targets share the maps that do not depend on the target, and methods whose
    maps are the same share all. What is left is about 2 * steps + 7 forward passes for each map and each control,
    and 64 a picture. Explanations, which are not shared, come to 2 + 10 of all probes for each method (2 where the
    method runs the network again for each channel or place: its sensitivity is not measured), and with `randomise` one
    a layer with weights.

    The model is left exactly as it was found, also after an error; meanwhile a copy of its weights is kept.

    Pictures are changed as the model is fed them, after any preprocessing: a heat of 0 makes a pixel 0, whatever 0
    means there. A map that is the same everywhere is uncovered in reading order.

    Args:
        explainer: of a model of one input, or several explainers of the same model and output.
        probes: a `ProbeSet`, an array of images (N, H, W, C), or an (images, labels) pair. With regions, focus and
            rank accuracy are measured, too; with several targets, how alike their maps are.
        steps: in how many equal shares of the pixels the picture is changed from one end of a curve to the other.
        randomise: whether to compare the maps with those of randomised weights: layer by layer, from the last to the
            first, or with "whole" only those of the model whose weights are all randomised, which costs one explanation
            instead of one a layer.
        seed: of all that is random.
        on_progress: called with how much is done, and of how much.

    Returns:
        An `Evaluation`, or of several explainers a `Comparison`.

    Raises:
        GradCAMError: if `explainer` is a model, or none, or of several models, `steps` is not positive, `randomise` is
            none of the three, the images are not (N, H, W, C) or not the only input, a target is a function, the
            pictures of a batch influence each other, or the probes cannot be explained.
    """
    explainers = [explainer] if isinstance(explainer, Explainer) else _several(explainer)
    if steps < 1:
        raise GradCAMError(f"A curve has at least 1 step, not {steps}.", argument="steps")
    if randomise not in (True, False, "whole"):
        raise GradCAMError(
            f"Weights are randomised layer by layer (True), at once ('whole') or not (False), not {randomise!r}.",
            argument="randomise",
        )
    probes = as_probes(probes)
    _check_measurable(probes)
    explanations = [each(probes) for each in explainers]
    if explainers[0].pictures_touch(np.repeat(probes.images[:1], 2, axis=0)):
        raise GradCAMError(
            f"The pictures of a batch influence each other in model '{explainers[0].model.name}', so the confidence in "
            "a spoilt picture cannot be measured by itself."
        )
    work = _Work(explainers, explanations, steps=steps, seed=seed, on_progress=on_progress)
    found = work.evaluations("no" if not randomise else "whole" if randomise == "whole" else "cascade")
    return found[0] if isinstance(explainer, Explainer) else Comparison(tuple(found))


def _several(explainers: Any) -> list[Explainer]:
    """Checks what should be explainers of one model."""
    refuse_model(explainers)
    found = list(explainers) if isinstance(explainers, list | tuple) else []
    for each in found:
        refuse_model(each)
    if not found or not all(isinstance(each, Explainer) for each in found):
        raise GradCAMError(
            f"Expected an Explainer, or a list of them; got {explainers!r}.",
            "Pass [Explainer(model, method='gradcam'), Explainer(model, method='layercam')], for example.",
        )
    if any(each.model is not found[0].model for each in found):
        raise GradCAMError("The explainers are of several models; methods are compared on one.")
    return found


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


@dataclass
class _Maps:
    """Maps that are measured: of a method, or of a control.

    Attributes:
        maps: (N, K, h, w).
        heat: (N, K, H, W) float32 in [0, 1], these at the size of what the model is fed.
        masked: (N, K, H, W), the heat of each picture multiplied by its heat.
        values: (N, K) of the measures that need no confidence.
    """

    maps: Array
    heat: Array
    masked: Array
    values: dict[str, Array] = field(default_factory=dict)


Drawn = Callable[[Array, Array, Array], Array]
"""(images (M, H, W, C), which probe each is of (M,), targets (M, K, 2)) -> maps (M, K, h, w)."""


class _Work:
    """One call of `evaluate`."""

    def __init__(
        self,
        explainers: Sequence[Explainer],
        explanations: Sequence[Explanation],
        *,
        steps: int,
        seed: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._explainers, self._explanations = explainers, explanations
        self._probes = explanations[0].probes
        self._images = self._probes.images
        self._size = self._images.shape[1:3]
        self._targets = np.stack([explanations[0].explained, self._probes.target_matrix[..., 1]], axis=-1)
        self._seed = seed
        pixels = math.prod(self._size)
        self._counts = np.rint(np.linspace(0, pixels, steps + 1)).astype(np.int64)
        self._areas = np.stack(list(spoiling.squares(self._size)))
        self._removed = np.rint(np.array(spoiling.REMOVED) * pixels).astype(np.int64)
        self._asked = Confidences(explainers[0], self._images, self._targets)
        self._known: dict[tuple[int, bytes], Array] = {}
        self._on_progress, self._done, self._total = on_progress, 0, 1

    def evaluations(self, randomise: Literal["no", "whole", "cascade"]) -> list[Evaluation]:
        """All of it."""
        count, n = len(self._explainers), len(self._images)
        layers = {} if randomise == "no" else weights_by_layer(self._explainers[0].model)
        stages = len(layers) if randomise == "cascade" else min(1, len(layers))
        self._total = count * (NOISY + stages) + n * (len(CONTROLS) + count * (2 if stages else 1))
        methods = [self._of_method(*pair) for pair in zip(self._explainers, self._explanations, strict=True)]
        controls = self._controls(methods[0].maps.shape[2:])
        forgetful, correlations = self._under_random_weights(methods, layers, is_cascade=randomise == "cascade")
        changes = np.stack([self._changes(i) for i in range(n)])
        measured = {name: self._measured(maps, changes) for name, maps in controls.items()}
        own = [self._measured(maps, changes) for maps in methods]
        without = [self._measured(maps, changes) for maps in forgetful]
        names = _names(self._explanations)
        low, high = self._asked.low, self._asked.high
        largest = np.maximum(np.abs(low), np.abs(high))
        change = np.divide(high - low, largest, out=np.zeros(low.shape), where=largest > 0)
        return [
            Evaluation(
                explanation=explanation,
                name=names[m],
                values=own[m].values,
                deletion_curves=own[m].deletion_curves,
                insertion_curves=own[m].insertion_curves,
                shares=self._counts / math.prod(self._size),
                correlations=correlations[m],
                controls={RANDOM_WEIGHTS: without[m]} | measured if without else measured,
                change=change,
                passes=self._asked.passes,
            )
            for m, explanation in enumerate(self._explanations)
        ]

    def _of_method(self, explainer: Explainer, explanation: Explanation) -> _Maps:
        """The maps of a method, and what they say by themselves."""
        draw = self._draws(explainer)
        maps = self._complete(in_place(explanation.maps, explanation.health), draw)
        is_costly = explainer.method in METHODS and not takes_gradients(METHODS[explainer.method])
        maps.values["sensitivity"] = self._sensitivity(maps.maps, draw, draws=0 if is_costly else NOISY)
        return maps

    def _draws(self, explainer: Explainer) -> Drawn:
        """What asks a method for the maps of other pictures."""

        def maps(images: Array, of: Array, targets: Array) -> Array:
            return maps_of(explainer, images, self._probes.pictures[of], targets)

        return maps

    def _controls(self, grid: tuple[int, ...]) -> dict[str, _Maps]:
        """The maps that know nothing, by name: the same for all targets of a picture."""
        found = {}
        for name, control in CONTROLS.items():
            rng = np.random.default_rng(self._seed)

            def draw(images: Array, of: Array, targets: Array, control: Any = control, rng: Any = rng) -> Array:
                del of
                return np.repeat(control(images, grid, rng)[:, None], targets.shape[1], axis=1)

            maps = self._complete(draw(self._images, np.arange(len(self._images)), self._targets), draw)
            maps.values["sensitivity"] = self._sensitivity(maps.maps, draw, draws=NOISY, is_counted=False)
            maps.values["randomised"] = np.ones(self._targets.shape[:2])  # no weight changes them
            maps.values["rise"] = np.zeros(self._targets.shape[:2])
            found[name] = maps
        return found

    def _complete(self, maps: Array, draw: Drawn) -> _Maps:
        """Maps with those of the pictures multiplied by them."""
        (n, k), size = maps.shape[:2], self._size
        heat = drawing.heatmaps(maps, size)
        again = np.empty_like(maps)
        at_once = max(1, 32 // k)  # the copies of all would take as much memory as K times the pictures
        for start in range(0, n, at_once):
            some = np.arange(start, min(n, start + at_once))
            spoilt = as_fed(self._images[some, None] * heat[some][..., None], self._images.dtype)
            asked = self._targets[some].reshape(-1, 1, 2)
            again[some] = draw(spoilt.reshape(-1, *self._images.shape[1:]), some.repeat(k), asked).reshape(
                len(some), *maps.shape[1:]
            )
        return _Maps(maps, heat, drawing.heatmaps(again, size))

    def _sensitivity(self, maps: Array, draw: Drawn, *, draws: int, is_counted: bool = True) -> Array:
        """(N, K), see `measures.sensitivity`; NaN of no draws."""
        rng = np.random.default_rng(self._seed)
        highest, lowest = (end(self._images, axis=(1, 2, 3), keepdims=True) for end in (np.max, np.min))
        radius = RADIUS * (highest.astype(np.float64) - lowest)
        limits = np.iinfo(self._images.dtype) if self._images.dtype.kind in "ui" else None
        noisy = []
        for _ in range(draws):
            images = self._images + radius * rng.uniform(-1, 1, self._images.shape)
            images = images if limits is None else images.clip(limits.min, limits.max)
            noisy.append(draw(as_fed(images, self._images.dtype), np.arange(len(images)), self._targets))
            self._advance(int(is_counted))
        if not noisy:
            self._advance(NOISY)
            return np.full(maps.shape[:2], np.nan)
        return measures.sensitivity(_flat(maps), _flat(np.stack(noisy)))

    def _under_random_weights(
        self, methods: Sequence[_Maps], layers: Mapping[str, list[Any]], *, is_cascade: bool
    ) -> tuple[list[_Maps], list[dict[str, Array]]]:
        """Of each method the maps of the model whose weights are all shuffled, and the correlations on the way there.

        It also completes the values of the methods by those that compare the two. Without layers there are no maps.
        """
        rng = np.random.default_rng(self._seed)
        draws = [self._draws(explainer) for explainer in self._explainers]
        own = np.arange(len(self._images))
        correlations: list[dict[str, Array]] = [{} for _ in methods]
        forgetful: list[_Maps] = []
        with restored([weight for weights in layers.values() for weight in weights]):
            for number, (path, weights) in enumerate(reversed(list(layers.items())), 1):
                for weight in weights:
                    weight.assign(randomised(weight.numpy(), rng))
                is_last = number == len(layers)
                if not is_cascade and not is_last:
                    continue
                for m, draw in enumerate(draws):
                    maps = draw(self._images, own, self._targets)
                    correlations[m][path] = rank_correlation(_flat(methods[m].maps), _flat(maps))
                    if is_last:
                        forgetful.append(self._complete(maps, draw))
                    self._advance()
        for method, without, stages in zip(methods, forgetful, correlations, strict=False):
            method.values["randomised"] = list(stages.values())[-1]
            method.values["rise"] = measures.complexity_rise(_flat(method.heat), _flat(without.heat))
        return forgetful, correlations

    def _changes(self, n: int) -> Array:
        """(S, K) what covering each of the areas takes away of the confidence in picture n."""
        image = self._images[n].astype(np.float32)
        covered = np.where(self._areas[..., None], image.mean(axis=(0, 1)), image)
        confidences = self._asked.of(n, np.concatenate([image[None], covered])).astype(np.float64)
        lost: Array = confidences[0] - confidences[1:]
        return lost

    def _measured(self, maps: _Maps, changes: Array) -> Control:
        """All measures of some maps."""
        n, k = maps.maps.shape[:2]
        t, p = len(self._counts), len(self._removed)
        confidences = np.empty((n, k, 2 * t + 2 * p + 1), np.float32)
        infidelity = np.empty((n, k))
        for i in range(n):
            for j in range(k):
                confidences[i, j] = self._spoilt_confidences(i, maps.heat[i, j])[:, j]
                told = np.einsum("shw,hw->s", self._areas, maps.heat[i, j])
                infidelity[i, j] = measures.infidelity(told, changes[i, :, j])
            self._advance()
        deletion, insertion, hottest, coldest, masked = np.split(confidences, np.cumsum([t, t, p, p]), axis=-1)
        before, after = deletion[..., 0], masked[..., 0]
        shares = self._counts / math.prod(self._size)
        drops = measures.drop(before, after)
        complexities = maps.heat.mean(axis=(2, 3), dtype=np.float64)
        regions = self._probes.regions
        nothing = np.full((n, k), np.nan)
        heat = maps.heat if regions is None else drawing.heatmaps(maps.maps, regions.shape[1:])
        total = _flat(maps.maps).sum(axis=-1, keepdims=True, dtype=np.float64)
        attention = np.divide(_flat(maps.maps), total, out=np.full(_flat(maps.maps).shape, np.nan), where=total > 0)
        found = maps.values | {
            "road": measures.road(hottest, coldest),
            "insertion": measures.area(insertion, shares),
            "deletion": measures.area(deletion, shares),
            "drop": drops,
            "increase": measures.increase(before, after),
            "gain": measures.gain(before, after),
            "adcc": measures.adcc(measures.coherency(_flat(maps.heat), _flat(maps.masked)), complexities, drops),
            "infidelity": infidelity,
            "random_logit": measures.random_logit(_flat(maps.maps), self._targets),
            "focus": nothing if regions is None else measures.focus(heat, regions),
            "rank_accuracy": nothing if regions is None else measures.rank_accuracy(heat, regions),
            "entropy": concentration.entropy(attention),
            "gini": concentration.gini(attention),
        }
        values = {name: found.get(name, nothing) for name in measures.QUALITIES}
        return Control(values=values, deletion_curves=deletion, insertion_curves=insertion)

    def _spoilt_confidences(self, n: int, heat: Array) -> Array:
        """(2 * T + 2 * P + 1, K) the confidences on what `_spoilt` gives, made once for the same heat."""
        key = (n, digest(heat))
        if key not in self._known:
            self._known[key] = self._asked.of(n, self._spoilt(n, heat))
        return self._known[key]

    def _spoilt(self, n: int, heat: Array) -> Array:
        """(2 * T + 2 * P + 1, H, W, C) float32: deletion, insertion, ROAD, and the picture multiplied by its heat."""
        image = self._images[n].astype(np.float32)
        noise = np.random.default_rng([self._seed, n]).normal(0, spoiling.NOISE * image.std(), image.shape)
        orders = (spoiling.hottest_first(heat), spoiling.coldest_first(heat))
        return np.concatenate(
            [
                spoiling.uncovered(image, image.mean(axis=(0, 1)), heat, self._counts),
                spoiling.uncovered(spoiling.blurred(image), image, heat, self._counts),
                [spoiling.filled_in(image, order < count, noise) for order in orders for count in self._removed],
                image[None] * heat[None, ..., None],
            ],
            dtype=np.float32,
        )

    def _advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


def maps_of(explainer: Explainer, images: Array, pictures: Array, targets: Array) -> Array:
    """The maps of pictures that have targets of their own, so that "predicted" stays what it was.

    Args:
        explainer: what explains.
        images: (M, H, W, C), what the model is fed.
        pictures: (M, H', W', 3) uint8, what people would see.
        targets: (M, K, 2) classes, see `ProbeSet.target_matrix`.

    Returns:
        (M, K, h, w) float32; zero where their places are not those of the picture.
    """
    if (targets[..., 1] == NO_CLASS).all():
        explanation = explainer(ProbeSet(images, pictures=pictures, targets=targets[..., 0]))
        return in_place(explanation.maps, explanation.health)
    # A contrast is asked of all pictures of a set, so that those with the same ones are explained together.
    rows, group_of = np.unique(targets.reshape(len(targets), -1), axis=0, return_inverse=True)
    found: dict[int, Array] = {}
    for group, row in enumerate(rows):
        members = np.flatnonzero(group_of.ravel() == group)
        classes = [(int(a), int(b)) if b != NO_CLASS else int(a) for a, b in row.reshape(-1, 2)]
        explanation = explainer(ProbeSet(images[members], pictures=pictures[members], targets=classes))
        found |= zip(members.tolist(), in_place(explanation.maps, explanation.health), strict=True)
    return np.stack([found[m] for m in range(len(images))])


def _names(explanations: Sequence[Explanation]) -> list[str]:
    """What each is called: its method, and its layer where two have the same."""
    methods = [each.method for each in explanations]
    names = [
        each.method if methods.count(each.method) == 1 else f"{each.method} at {each.layer}" for each in explanations
    ]
    return [name if names.count(name) == 1 else f"{name} ({names[:m].count(name) + 1})" for m, name in enumerate(names)]


def _flat(maps: Array) -> Array:
    """(..., cells)."""
    return maps.reshape(*maps.shape[:-2], -1)
