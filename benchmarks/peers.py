"""Milliseconds for the maps of 8 pictures and 3 targets, here and in the libraries and lines people use instead.

    pip install '.[bench]'
    python benchmarks/peers.py [--rounds 20] [--slow-every 5] [--models Xception] [--markdown] [--chart docs/peers.png]
    python benchmarks/peers.py --agree     # do ours and theirs give the same maps?

All explain the same layer, the one that `Explainer` picks, and take turns within every round, so that noise of the
machine hits all; the ratios are the medians of the rounds' ratios. All but the first two run only in every fifth round
(`--slow-every`), and their ratios are taken over those rounds. Warm-up is left out. Random weights and pictures: what
they are does not change the time.

- forward pass: `model(batch, training=False)` in a `tf.function`.
- gradcam_callbacks: an `Explainer` made once, called with a `ProbeSet` made once.
- tf-keras-vis: a `Gradcam` with `ReplaceToLinear` made once, as its documentation does, called once a target with all
  pictures. "maps" is without its upsampling and normalisation, which `Explainer` does not do either; "default" is with
  both. (One call for all targets, on pictures repeated for each, was twice as slow.)
- tf-explain: "maps" is the two functions inside `explain` that make the maps, "default" is `explain`, which also
  colours and overlays them and pastes them into a grid. It needs `layer_name` under Keras 3. It explains probabilities.
- pasted lines: the loop of the tutorials, a sub-model, a `GradientTape` and a mean for each picture and target.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from gradcam_callbacks import Explainer, ProbeSet

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[], Any]

MODELS: dict[str, Callable[[], keras.Model]] = {
    "MobileNetV2": lambda: keras.applications.MobileNetV2(weights=None),
    "ResNet50": lambda: keras.applications.ResNet50(weights=None),
    "Xception": lambda: keras.applications.Xception(weights=None),
}
PICTURES = 8
TARGETS = (0, 1, 2)

FORWARD, OURS = "forward pass", "gradcam_callbacks"
VIS, VIS_DEFAULT = "tf-keras-vis, maps", "tf-keras-vis, default"
EXPLAIN, EXPLAIN_DEFAULT = "tf-explain, maps", "tf-explain, default"
PASTED = "pasted lines"
FAST = (FORWARD, OURS)
# What is drawn is what does the same work: maps on the layer's grid. The colours are Okabe and Ito's.
DRAWN = {FORWARD: "#999999", OURS: "#0072B2", VIS: "#E69F00", EXPLAIN: "#009E73", PASTED: "#CC79A7"}

AGREEMENT = 1e-4


def machine() -> str:
    """What computes: the GPU, or how many CPU cores."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    return f"{len(os.sched_getaffinity(0))} CPU cores"


def random_pictures(model: keras.Model, count: int) -> Array:
    """(count, H, W, C) float32 in [0, 1) of the size that the model takes."""
    return np.random.default_rng(0).random((count, *model.input_shape[1:]), dtype=np.float32)


def pasted_lines(model: keras.Model, pictures: Array, targets: tuple[int, ...], layer: str) -> Array:
    """Grad-CAM as tutorials write it: a sub-model for each picture and target, run eagerly.

    Args:
        model: a functional model whose last layer has an activation.
        pictures: (N, H, W, C).
        targets: K classes.
        layer: the name of a layer of the model itself.

    Returns:
        (N, K, h, w) float32 in [0, 1].
    """
    last = model.layers[-1]
    activation, last.activation = last.activation, None
    try:
        return np.stack([[_pasted_map(model, picture[None], k, layer) for k in targets] for picture in pictures])
    finally:
        last.activation = activation


def _pasted_map(model: keras.Model, picture: Array, target: int, layer: str) -> Array:
    inner = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        activations, logits = inner([picture])
        score = logits[:, target]
    weights = tf.reduce_mean(tape.gradient(score, activations), axis=(0, 1, 2))
    heat = tf.nn.relu(tf.tensordot(activations[0], weights, axes=1))
    return np.asarray(heat / tf.maximum(tf.reduce_max(heat), 1e-30))


def contenders(model: keras.Model) -> dict[str, Run]:
    """What is timed, by name, each ready to be called again and again."""
    from tf_explain.core.grad_cam import GradCAM
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    pictures = random_pictures(model, PICTURES)
    batch = tf.constant(pictures)
    compiled = tf.function(lambda images: model(images, training=False))
    explainer, probes = Explainer(model), ProbeSet(pictures, targets=list(TARGETS))
    layer = explainer(probes).layer
    vis = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    where: dict[str, Any] = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False}
    raw: dict[str, Any] = {**where, "expand_cam": False, "normalize_cam": False}

    def tf_explain_maps() -> list[list[Array]]:
        maps = []
        for k in TARGETS:
            activations, gradients = GradCAM.get_gradients_and_filters(model, pictures, layer, k, use_guided_grads=True)
            maps.append([heat.numpy() for heat in GradCAM.generate_ponderated_output(activations, gradients)])
        return maps

    return {
        FORWARD: lambda: compiled(batch).numpy(),
        OURS: lambda: explainer(probes),
        VIS: lambda: [np.asarray(vis(CategoricalScore([k] * PICTURES), pictures, **raw)) for k in TARGETS],
        VIS_DEFAULT: lambda: [vis(CategoricalScore([k] * PICTURES), pictures, **where) for k in TARGETS],
        EXPLAIN: tf_explain_maps,
        EXPLAIN_DEFAULT: lambda: [
            GradCAM().explain((pictures, None), model, class_index=k, layer_name=layer) for k in TARGETS
        ],
        PASTED: lambda: pasted_lines(model, pictures, TARGETS, layer),
    }


def milliseconds(run: Run) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def measure(runs: Mapping[str, Run], rounds: int, slow_every: int) -> dict[str, Array]:
    """Times all in turns.

    Args:
        runs: by name; those in `FAST` run in every round.
        rounds: how many.
        slow_every: the others run in one round of so many, from the first on.

    Returns:
        For each name (rounds,) float64 milliseconds, NaN where it sat out.
    """
    timings = {name: np.full(rounds, np.nan) for name in runs}
    for name, run in runs.items():
        run()  # traces, builds, warms up
        if name in FAST:
            run()
    for turn in range(rounds):
        present = [name for name in runs if name in FAST or turn % slow_every == 0]
        first = turn % len(present)
        for name in present[first:] + present[:first]:  # not always after the same one
            timings[name][turn] = milliseconds(runs[name])
    return timings


def ratio(timings: Mapping[str, Array], name: str, base: str) -> float:
    """The median of the rounds' ratios."""
    return float(np.nanmedian(timings[name] / timings[base]))


def print_table(results: Mapping[str, Mapping[str, Array]]) -> None:
    """A row for each model and contender."""
    table = Table(title=f"Maps of {PICTURES} pictures for {len(TARGETS)} targets, {machine()}, medians")
    for column in ("model", "what", "ms", "/ forward", "/ ours", "rounds"):
        table.add_column(column, justify="left" if column in ("model", "what") else "right")
    for model, timings in results.items():
        for position, (name, times) in enumerate(timings.items()):
            table.add_row(
                "" if position else model,
                name,
                f"{np.nanmedian(times):.0f}",
                f"{ratio(timings, name, FORWARD):.2f}",
                f"{ratio(timings, name, OURS):.2f}",
                str(np.isfinite(times).sum()),
                end_section=position == len(timings) - 1,
            )
    Console(width=100).print(table)


def markdown(results: Mapping[str, Mapping[str, Array]]) -> str:
    """The table as the site has it: milliseconds, and how many times ours."""
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for name in next(iter(results.values())):
        cells = (
            f"{np.nanmedian(timings[name]):.0f} ms ({ratio(timings, name, OURS):.3g})" for timings in results.values()
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: Mapping[str, Mapping[str, Array]], file: Path) -> None:
    """Writes a bar chart of the medians, grouped by model, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = 0.8 / len(DRAWN)
    for position, (name, colour) in enumerate(DRAWN.items()):
        medians = [float(np.nanmedian(timings[name])) for timings in results.values()]
        offsets = np.arange(len(results)) + (position - (len(DRAWN) - 1) / 2) * width
        bars = axes.bar(offsets, medians, width * 0.94, label=name.removesuffix(", maps"), color=colour)
        axes.bar_label(bars, [f"{median:.0f}" for median in medians], padding=2, fontsize=8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.margins(y=0.12)
    axes.set_ylabel("milliseconds (log)")
    axes.set_xticks(range(len(results)), list(results))
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"Grad-CAM of {PICTURES} pictures for {len(TARGETS)} targets each, {machine()}", loc="left", pad=30)
    axes.legend(ncols=len(DRAWN), frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(-0.01, 1.0))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def small_cnn() -> keras.Model:
    """A residual network of a few layers with biases and a softmax, so that nothing in its maps is symmetric."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    start = keras.Input((64, 64, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", bias_initializer="random_normal")(start)
    x = layers.BatchNormalization(beta_initializer="random_normal", gamma_initializer="random_uniform")(x)
    branch = layers.SeparableConv2D(16, 3, padding="same", activation="relu", bias_initializer="random_normal")(x)
    x = layers.MaxPooling2D()(layers.Add()([x, branch]))
    x = layers.Conv2D(32, 3, padding="same", activation="relu", bias_initializer="random_normal")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(start, layers.Dense(10, activation="softmax")(x), name="small_cnn")


def linear_mobilenet() -> keras.Model:
    """MobileNetV2 with logits as its output."""
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(weights=None, classifier_activation=None)


def normalised(maps: Any) -> Array:
    """(..., h, w) float64 in [0, 1]: without the negative, divided by the maximum of each map."""
    positive = np.maximum(np.asarray(maps, np.float64), 0)
    highest = positive.max(axis=(-2, -1), keepdims=True)
    return positive / np.where(highest > 0, highest, 1)


def agree() -> bool:
    """Prints the largest differences of our maps to those of the others, and returns whether all are small."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    table = Table(title=f"Largest difference of normalised maps, {PICTURES} pictures, {len(TARGETS)} targets")
    for column in ("model", "layer", "method", "against", "grid", "maps not empty", "difference"):
        table.add_column(column, justify="right" if column in ("maps not empty", "difference") else "left")
    differences = []
    for build in (small_cnn, linear_mobilenet):
        model = build()
        pictures = random_pictures(model, PICTURES)
        probes = ProbeSet(pictures, targets=list(TARGETS))
        for method, peer in (("gradcam", Gradcam), ("layercam", Layercam)):
            explanation = Explainer(model, method=method)(probes)
            vis = peer(model, model_modifier=ReplaceToLinear(), clone=True)
            theirs = [
                vis(
                    CategoricalScore([k] * PICTURES),
                    pictures,
                    penultimate_layer=explanation.layer,
                    seek_penultimate_conv_layer=False,
                    expand_cam=False,
                    normalize_cam=False,
                )
                for k in TARGETS
            ]
            others = {"tf-keras-vis": np.stack([np.asarray(maps) for maps in theirs], axis=1)}
            if method == "gradcam":
                others[PASTED] = pasted_lines(model, pictures, TARGETS, explanation.layer)
            ours = normalised(explanation.maps)
            for name, maps in others.items():
                differences.append(float(np.abs(ours - normalised(maps)).max()))
                table.add_row(
                    model.name,
                    explanation.layer,
                    method,
                    name,
                    "×".join(map(str, ours.shape[2:])),
                    f"{(ours.max(axis=(2, 3)) > 0).sum()} of {PICTURES * len(TARGETS)}",
                    f"{differences[-1]:.1e}",
                )
    Console(width=120).print(table)
    print(f"Largest: {max(differences):.1e} (at most {AGREEMENT:.0e} is agreement)")
    return max(differences) <= AGREEMENT


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--slow-every", type=int, default=5, help="the peers run in one round of so many")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--markdown", action="store_true", help="print the table of the site too")
    parser.add_argument("--chart", type=Path, help="write a bar chart, such as docs/peers.png")
    parser.add_argument("--agree", action="store_true", help="compare the maps instead of the times")
    options = parser.parse_args()
    # tf-explain hands the inputs of a model on as a list in a list.
    warnings.filterwarnings("ignore", message="The structure of `inputs` doesn't match", category=UserWarning)
    # tf-keras-vis imports from where SciPy 1 still has it.
    warnings.filterwarnings("ignore", message="Please import `zoom`", category=DeprecationWarning)
    if options.agree:
        raise SystemExit(not agree())
    results = {}
    for name in options.models:
        results[name] = measure(contenders(MODELS[name]()), options.rounds, options.slow_every)
        keras.backend.clear_session()
    print_table(results)
    if options.markdown:
        print(markdown(results))
    if options.chart:
        draw(results, options.chart)


if __name__ == "__main__":
    main()
