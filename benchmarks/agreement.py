"""How closely the measures of `evaluate` agree with those of Quantus, where both have one.

    pip install '.[test,bench]' && python benchmarks/agreement.py

EfficientNet-Lite0 with its ImageNet weights, Grad-CAM++ for the likeliest class of a cat, an espresso and both: a row
has the largest difference over the pictures, and the values of the first one. Quantus is told to do what the paper says
where its default is something else; each row says what.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keras
import numpy as np
import quantus
from quantus.functions.complexity_func import discrete_entropy
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.functions.similarity_func import correlation_spearman
from rich.console import Console
from rich.table import Table
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.photographs import cat, cat_beside_espresso, espresso

from gradcam_callbacks import Explainer, ProbeSet, concentration, drawing
from gradcam_callbacks.explaining.evaluating import measures, spoiling
from gradcam_callbacks.explaining.evaluating.evaluate import maps_of

Array = np.ndarray[Any, np.dtype[Any]]
SIDE = 224
QUIET = {"disable_warnings": True, "display_progressbar": False}


class Setting:
    """What both libraries get: pictures (N, H, W, C), their classes, heat (N, H, W) and regions (N, H, W)."""

    def __init__(self) -> None:
        self.network = efficientnet_lite0()
        pictures = np.stack([cat(), espresso(), cat_beside_espresso()])
        self.probes = ProbeSet(pictures, preprocess=preprocess)
        self.images = self.probes.images
        self.explainer = Explainer(self.network, method="gradcam++")
        explanation = self.explainer(self.probes)
        self.classes = explanation.predicted
        # No two pixels have the same heat: Quantus does not say which of equal ones comes first.
        self.ramp = np.linspace(1e-5, 0, SIDE * SIDE).reshape(SIDE, SIDE)
        self.heat = self.heat_of(self.images, self.classes)
        self.regions = np.zeros((len(pictures), SIDE, SIDE), bool)
        self.regions[:, 60:180, 40:150] = True

    def heat_of(self, images: Array, classes: Array) -> Array:
        """(M, H, W) float64 of pictures (M, H, W, C) and classes (M,)."""
        targets = np.stack([classes, np.full(len(classes), -1)], axis=-1)[:, None]
        maps = maps_of(self.explainer, images, np.zeros((len(images), 8, 8, 3), np.uint8), targets)
        heat: Array = drawing.heatmaps(maps, (SIDE, SIDE))[:, 0].astype(np.float64) + self.ramp
        return heat

    def explain(self, model: Any, inputs: Array, targets: Array, **_: Any) -> Array:
        """As Quantus asks for maps: (M, 1, H, W) of pictures with the channels last, or first."""
        del model
        images = inputs if inputs.shape[-1] == 3 else np.moveaxis(inputs, 1, -1)
        return self.heat_of(images.astype(np.float32), np.asarray(targets).ravel())[:, None]

    def asked(self) -> dict[str, Any]:
        """The arguments of a metric of Quantus."""
        return {
            "model": self.network,
            "x_batch": self.images.copy(),
            "y_batch": self.classes,
            "a_batch": self.heat[:, None].copy(),  # some metrics divide it where it lies
            "channel_first": False,
            "softmax": True,
            "explain_func": self.explain,
        }


def shares(heat: Array) -> Array:
    """(M, pixels) that sum to 1."""
    flat = heat.reshape(len(heat), -1)
    result: Array = flat / flat.sum(axis=1, keepdims=True)
    return result


Pair = tuple[Array, Array]
"""(N,) values of ours and of Quantus."""


def gini(setting: Setting) -> Pair:
    """Sparseness, as it is."""
    theirs = quantus.Sparseness(normalise=False, abs=False, **QUIET)(**setting.asked())
    return concentration.gini(shares(setting.heat)), np.array(theirs)


def entropy(setting: Setting) -> Pair:
    """Complexity, divided by the logarithm of the number of pixels."""
    theirs = quantus.Complexity(normalise=False, abs=False, **QUIET)(**setting.asked())
    return concentration.entropy(shares(setting.heat)), np.array(theirs) / np.log(SIDE * SIDE)


def focus(setting: Setting) -> Pair:
    """Relevance mass accuracy, as it is."""
    metric = quantus.RelevanceMassAccuracy(normalise=False, abs=False, **QUIET)
    theirs = metric(**setting.asked(), s_batch=setting.regions[:, None])
    return measures.focus(setting.heat[:, None], setting.regions)[:, 0], np.array(theirs)


def rank_accuracy(setting: Setting) -> Pair:
    """Relevance rank accuracy, as it is."""
    metric = quantus.RelevanceRankAccuracy(normalise=False, abs=False, **QUIET)
    theirs = metric(**setting.asked(), s_batch=setting.regions[:, None])
    return measures.rank_accuracy(setting.heat[:, None], setting.regions)[:, 0], np.array(theirs)


def random_logit(setting: Setting) -> Pair:
    """Random logit with Spearman's correlation in place of SSIM, against the class that Quantus draws."""
    asked: list[Array] = []

    def explain(model: Any, inputs: Array, targets: Array, **others: Any) -> Array:
        asked.append(np.broadcast_to(np.asarray(targets).ravel(), len(inputs)))
        return setting.explain(model, inputs, asked[-1], **others)

    metric = quantus.RandomLogit(
        similarity_func=correlation_spearman, num_classes=1000, normalise=False, abs=False, **QUIET
    )
    theirs = metric(**setting.asked() | {"explain_func": explain})
    others = np.concatenate(asked)
    maps = np.stack([setting.heat, setting.heat_of(setting.images, others)], axis=1)
    targets = np.stack([setting.classes, others], axis=1)[..., None]
    return measures.random_logit(maps.reshape(*maps.shape[:2], -1), targets)[:, 0], np.array(theirs)


def sensitivity(setting: Setting) -> Pair:
    """Max-sensitivity of three draws, as it is."""
    draws = np.random.default_rng(0).uniform(-0.05, 0.05, (3, *np.moveaxis(setting.images, -1, 1).shape))
    turn = iter(range(len(draws)))

    def add(arr: Array, **_: Any) -> Array:
        return (arr.reshape(draws.shape[1:]) + draws[next(turn)]).reshape(arr.shape)

    metric = quantus.MaxSensitivity(nr_samples=len(draws), perturb_func=add, normalise=False, abs=False, **QUIET)
    theirs = np.array(metric(**setting.asked()))
    flat = setting.heat.reshape(len(setting.heat), -1)
    noisy = [
        setting.heat_of((setting.images + np.moveaxis(d, 1, -1)).astype(np.float32), setting.classes) for d in draws
    ]
    return measures.sensitivity(flat, np.stack(noisy).reshape(len(draws), *flat.shape)), theirs


def imputed(setting: Setting) -> Pair:
    """The pictures of ROAD without noise, 40 % removed: mean brightness, and the largest difference of a pixel."""
    ours, theirs = [], []
    for image, heat in zip(setting.images, setting.heat, strict=True):
        count = round(0.4 * heat.size)
        removed = spoiling.hottest_first(heat) < count
        ours.append(spoiling.filled_in(image, removed, np.zeros_like(image)))
        channels_first = np.moveaxis(image, -1, 0).astype(np.float64)
        filled = noisy_linear_imputation(channels_first, np.flatnonzero(removed), noise=0.0)
        theirs.append(np.moveaxis(filled.reshape(channels_first.shape), 0, -1))
    return np.stack(ours), np.stack(theirs)


def infidelity(setting: Setting) -> Pair:
    """Infidelity of 8 x 8 squares, each covered alone (in Quantus they add up), at the scale that fits best."""
    ours, theirs = [], []
    areas = np.stack(list(spoiling.squares((SIDE, SIDE))))
    for image, heat, target in zip(setting.images, setting.heat, setting.classes, strict=True):
        model = covered_model(setting.network, image)
        covered = np.concatenate([np.ones((1, SIDE, SIDE, 1)), 1.0 - areas[..., None]]).astype(np.float32)
        confidence = model.predict(covered, verbose=0)[:, target].astype(np.float64)
        told, change = np.einsum("shw,hw->s", areas, heat), confidence[0] - confidence[1:]
        ours.append(float(measures.infidelity(told, change)))

        def cover(arr: Array, indices: Array, **_: Any) -> Array:
            result = np.ones_like(arr)
            result[:, indices] = 0
            return result

        scale = max(1e-9, (told * change).mean() / (told**2).mean())  # negative, the map is no good
        metric = quantus.Infidelity(
            perturb_patch_sizes=[SIDE // 8],
            n_perturb_samples=1,
            perturb_func=cover,
            normalise=False,
            abs=False,
            **QUIET,
        )
        found = metric(
            model=model,
            x_batch=np.ones((1, SIDE, SIDE, 1), np.float32),
            y_batch=np.array([target]),
            a_batch=scale * heat[None, None],
            channel_first=False,
            softmax=False,
        )
        theirs.append(float(np.ravel(found)[0]) / (change**2).mean())
    return np.array(ours), np.array(theirs)


def covered_model(network: keras.Model, image: Array) -> keras.Model:
    """A network of masks: what the first one says of a picture whose places of 0 have the mean colour."""
    mask = keras.Input((SIDE, SIDE, 1))
    mean = image.mean(axis=(0, 1))
    outputs = network(mask * image + (1 - mask) * mean)
    return keras.Model(mask, keras.layers.Activation("linear")(outputs))


def rise(setting: Setting) -> Pair:
    """The entropy of the values in 100 bins of the maps of two classes, put together as in eMPRT."""
    after = setting.heat_of(setting.images, (setting.classes + 1) % 1000)
    flat = [maps.reshape(len(maps), -1) for maps in (setting.heat, after)]
    before, later = (np.array([discrete_entropy(a=one, x=one, n_bins=100) for one in maps]) for maps in flat)
    return measures.complexity_rise(*flat), (later - before) / before


ROWS: dict[str, Callable[[Setting], Pair]] = {
    "Gini index": gini,
    "entropy": entropy,
    "focus (relevance mass accuracy)": focus,
    "rank accuracy": rank_accuracy,
    "random logit": random_logit,
    "sensitivity": sensitivity,
    "ROAD: pixels filled in": imputed,
    "infidelity": infidelity,
    "rise (eMPRT)": rise,
}


def main() -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    setting = Setting()
    table = Table(title=f"evaluate and Quantus {quantus.__version__}")
    for column in ("measure", "of Quantus", "ours", "Quantus", "largest difference"):
        table.add_column(column, justify="left" if column in ("measure", "of Quantus") else "right")
    for name, compare in ROWS.items():
        ours, theirs = compare(setting)
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64).reshape(np.shape(ours))
        says = (compare.__doc__ or "").strip().rstrip(".")
        largest = np.abs(ours - theirs).max()
        print(f"{name}: {largest:.1e}", file=sys.stderr)
        table.add_row(name, says, f"{ours[0].mean():.4f}", f"{theirs[0].mean():.4f}", f"{largest:.1e}")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
