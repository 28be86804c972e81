"""How faithful each CAM method is, on a real network and real photographs, beside maps that know nothing; and its cost.

    pip install '.[test]' && python benchmarks/methods.py [--masking] [--markdown] [--plot FILE.png]

EfficientNet-Lite0 with its ImageNet weights, and six photographs of scikit-image, each asked for its two likeliest
classes. `evaluate` measures all methods on the same pictures. Those that mask pictures, such as Score-CAM, take many
thousand forward passes, and are left out without --masking. The time is that of the maps of all pictures and targets,
the median of 5 rounds (of one where a method masks pictures), also as a ratio to a plain compiled forward pass.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import skimage.data
import tensorflow as tf
from PIL import Image
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.photographs import cat, cat_beside_espresso, espresso

from gradcam_callbacks import Explainer, ProbeSet, evaluate
from gradcam_callbacks.explaining.methods import METHODS, attends, masks, takes_gradients

ROUNDS = 5


def photographs() -> dict[str, np.ndarray]:
    """Six photographs (224, 224, 3) uint8, by name."""

    def square(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        cut = Image.fromarray(picture[top : top + side, left : left + side]).convert("RGB")
        return np.asarray(cut.resize((224, 224), Image.Resampling.BICUBIC))

    return {
        "cat": cat(),
        "espresso": espresso(),
        "cat beside espresso": cat_beside_espresso(),
        "rocket": square(skimage.data.rocket()),
        "astronaut": square(skimage.data.astronaut()),
        "photographer": square(skimage.data.camera()),
    }


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masking", action="store_true", help="measure methods that mask pictures, too")
    parser.add_argument("--markdown", action="store_true", help="print tables for the site")
    parser.add_argument("--plot", type=Path, help="a PNG file for the curves")
    asked = parser.parse_args()
    network = efficientnet_lite0()
    shown = photographs()
    images = preprocess(np.stack(list(shown.values())))
    likeliest = np.argsort(-network.predict(images, verbose=0), axis=1)[:, :2]
    probes = ProbeSet(np.stack(list(shown.values())), names=list(shown), targets=likeliest, preprocess=preprocess)
    methods = [
        name
        for name, function in METHODS.items()
        if not attends(function) and (asked.masking or not masks(function))  # it is no transformer
    ]
    explainers = [Explainer(network, method=method) for method in methods]
    start = time.perf_counter()
    found = evaluate(explainers, probes, steps=20, randomise="whole")
    seconds = time.perf_counter() - start
    costs = {explainer.method: cost(explainer, network, probes) for explainer in explainers}
    print(found.title())
    for heads, rows in found.tables():
        print_table(heads, rows, is_markdown=asked.markdown)
    rows = [[name, f"{milliseconds:.0f}", f"{ratio:.2f}"] for name, (milliseconds, ratio) in costs.items()]
    print_table(["milliseconds", "forward passes"], rows, is_markdown=asked.markdown)
    for note in found.notes():
        print(note)
    print(f"{found.evaluations[0].passes} changed pictures went through the model; all of it took {seconds:.0f} s.")
    if asked.plot is not None:
        asked.plot.write_bytes(found.plot().png())


def cost(explainer: Explainer, network: object, probes: ProbeSet) -> tuple[float, float]:
    """Milliseconds for the maps of all probes, and as a ratio to a plain forward pass, medians."""
    forward = tf.function(lambda batch: network(batch, training=False))  # type: ignore[operator]
    batch = tf.constant(probes.images)
    forward(batch)
    times, ratios = [], []
    for _ in range(ROUNDS if takes_gradients(METHODS[explainer.method]) else 1):
        start = time.perf_counter()
        forward(batch).numpy()
        middle = time.perf_counter()
        explainer(probes)
        times.append(time.perf_counter() - middle)
        ratios.append(times[-1] / (middle - start))
    return 1000 * float(np.median(times)), float(np.median(ratios))


def print_table(heads: list[str], rows: list[list[str]], *, is_markdown: bool) -> None:
    """Prints rows of a name and numbers."""
    if is_markdown:
        print(f"\n| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        for name, *cells in rows:
            print(f"| {'… with ' if name.startswith(' ') else ''}{name.strip()} | {' | '.join(cells)} |")
        return
    width = max(len(row[0]) for row in rows)
    print("\n" + " " * width + "".join(f"  {head:>14}" for head in heads))
    for name, *cells in rows:
        print(f"{name:<{width}}" + "".join(f"  {cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
