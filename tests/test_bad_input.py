"""Bad input gets a clear error before anything is trained or explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from support.models import pictures, small_model

from gradcam_callbacks import Explainer, Explanation, GradCAMError, ProbeSet, explain

NAMES = ["tabby", "vizsla", "espresso", "rocket"]


def with_side_branch() -> keras.Model:
    """A model whose second convolution feeds only its second output."""
    inputs = keras.Input((16, 16, 3))
    pool = keras.layers.GlobalAveragePooling2D
    main = pool()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    side = pool()(keras.layers.Conv2D(6, 3, activation="relu", name="side_conv")(inputs))
    outputs = [
        keras.layers.Dense(4, activation="softmax", name=name)(x) for name, x in (("main", main), ("side", side))
    ]
    return keras.Model(inputs, outputs)


def without_maps() -> keras.Model:
    layers = [keras.layers.Rescaling(2), keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    return keras.Sequential([keras.Input((16, 16, 3)), *layers])


def with_twins() -> keras.Model:
    """Two backbones, each with a layer named conv."""
    inputs = keras.Input((16, 16, 3))
    parts = []
    for name in ("left", "right"):
        convolution = keras.layers.Conv2D(2, 3, name="conv")
        parts.append(keras.Sequential([keras.Input((16, 16, 3)), convolution], name=name)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Concatenate()(parts))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


def tokens() -> keras.Model:
    """Fourteen tokens, which are no square."""
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Reshape((18, 24))(inputs)[:, :14]
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(8, name="tokens")(x))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


def explained() -> Explanation:
    return explain(small_model(), pictures(1))


def itself(activations: Any, gradients: Any, scores: Any) -> Any:
    """No map: it has channels."""
    return activations


MODEL_CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown layer, with close names": (
        lambda: explain(small_model(), pictures(), layer="cnv"),
        r"No layer 'cnv'\. Did you mean 'conv'\? The model's layers: .*conv, pool, head\.",
    ),
    "a layer that the score does not depend on": (
        lambda: explain(with_side_branch(), pictures(), layer="side_conv", output="main"),
        r"Layer 'side_conv' cannot be explained: the score does not depend on it\.",
    ),
    "a layer without a map": (
        lambda: explain(small_model(), pictures(), layer="pool"),
        r"Layer 'pool' cannot be explained: its output has shape \(None, 6\), not \(batch, h, w, channels\)\.",
    ),
    "a name that two layers have": (
        lambda: explain(with_twins(), pictures(), layer="conv"),
        r"2 layers are named 'conv'\. Name one by its path: 'left/conv', 'right/conv'\.",
    ),
    "a model with no spatial layer": (
        lambda: explain(without_maps(), pictures()),
        r"The model has no spatial layer to explain: .* larger than 1x1 .*\. Grad-CAM needs a convolutional model",
    ),
    "a class index out of range": (
        lambda: explain(small_model(), pictures(), targets=[4]),
        r"Class 4 is out of range: model 'small' has 4 classes, 0 to 3\.",
    ),
    "class_names of another length": (
        lambda: explain(small_model(), pictures(), class_names=["a", "b"]),
        r"There are 2 class names, but model 'small' has 4 classes\. Give class_names= one name a class",
    ),
    "images of the wrong size": (
        lambda: explain(small_model(), pictures(size=20)),
        r"The probes have shape \(20, 20, 3\); model 'small' takes \(16, 16, 3\)\. Pass image_size=\(16, 16\)",
    ),
    "images with the wrong channels": (
        lambda: explain(small_model(), pictures(channels=1)),
        r"The probes have shape \(16, 16, 1\); model 'small' takes \(16, 16, 3\)\.",
    ),
    "images of the wrong rank": (
        lambda: explain(small_model(), pictures()[0]),
        r"The probes have shape \(16, 3\); model 'small' takes \(16, 16, 3\)\. For one picture pass images\[None\]",
    ),
    "an unbuilt model": (
        lambda: explain(keras.Sequential([keras.layers.Conv2D(2, 3)], name="bare"), pictures()),
        r"Model 'bare' is not built: .* call it once on pictures",
    ),
    "an unknown method": (
        lambda: Explainer(small_model(), method="grad-cam"),
        r"No method 'grad-cam'\. The methods: .*gradcam",
    ),
    "a method of two arguments": (
        lambda: Explainer(small_model(), method=lambda activations, gradients: activations),
        r"The method 'function' cannot be called with \(activations, gradients, scores\): too many positional",
    ),
    "a method that is no function": (
        lambda: Explainer(small_model(), method=["gradcam"]),
        r"A method is a name or a function; got \['gradcam'\]\.",
    ),
    "a method that keeps the channels": (
        lambda: Explainer(small_model(), method=itself).prepare(pictures()),
        r"The method 'itself' gave shape \(.*, 14, 14, 6\) for activations \(.*, 14, 14, 6\); expected one map a "
        r"picture, \(None, 14, 14\)\.",
    ),
    "a method that gives nothing": (
        lambda: Explainer(small_model(), method=lambda activations, gradients, scores: None).prepare(pictures()),
        r"The method 'function' gave a NoneType for activations",
    ),
    "a method without a ReLU": (
        lambda: explain(small_model(), pictures(), method=lambda activations, gradients, scores: -activations[..., 0]),
        r"The method 'function' gave negative numbers, down to -\d.*end with keras\.ops\.relu",
    ),
    "a list of no layer": (
        lambda: Explainer(small_model(), layer=[]),
        r"An empty list names no layer\. Leave layer=None to have one picked\.",
    ),
    "tokens that do not say their grid": (
        lambda: explain(tokens(), pictures(size=12), layer="tokens"),
        r"Layer 'tokens' cannot be explained: its 14 tokens do not say what grid they are\. Say the grid's height and "
        r"width with grid=\.",
    ),
    "tokens alone, without a grid": (
        lambda: explain(tokens(), pictures(size=12)),
        r"no spatial layer .* Layer 'tokens' might have one, but its 14 tokens do not say .* width with grid=\.",
    ),
    "a batch size of nothing": (
        lambda: Explainer(small_model(), batch_size=0),
        r"A batch has at least 1 picture, not 0\. Leave batch_size=32\.",
    ),
    "a model of several inputs": (
        lambda: explain(
            keras.Model(
                two := [keras.Input((16, 16, 3)), keras.Input((2,))], [keras.layers.Flatten()(each) for each in two]
            ),
            pictures(),
        ),
        r"takes 2 inputs\. Give the probes as a dict of arrays, by their names: '.*', '.*'\.",
    ),
    "an output that does not exist": (
        lambda: explain(small_model(), pictures(), output="tail"),
        r"No output 'tail': model 'small' has a single output\.",
    ),
    "an output that is not a classifier's": (
        lambda: explain(keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3)]), pictures()),
        r"has shape \(None, 14, 14, 2\), not a classifier's \(batch, classes\).* Pass a function of the outputs",
    ),
    "files for a model of any size": (
        lambda: explain(
            keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)], name="any"), ["cat.png"]
        ),
        r"Model 'any' does not say what size of picture it takes\. .*image_size=\(height, width\)",
    ),
    "a probe set and settings of its own": (
        lambda: explain(small_model(), ProbeSet(pictures()), targets=[1]),
        r"A ProbeSet brings its own targets",
    ),
}

PROBE_CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "no probe": (lambda: ProbeSet([]), r"The probe set is empty: pass at least one picture\."),
    "no probe of the right shape": (lambda: ProbeSet(np.zeros((0, 8, 8, 3))), r"The probe set is empty"),
    "NaN in an image": (
        lambda: ProbeSet(np.full((2, 8, 8, 3), [[[[1]]], [[[np.nan]]]]), names=["good", "bad"]),
        r"Probe 'bad' holds NaN or infinity \(1 of 2 probes do\)\.",
    ),
    "NaN after preprocess": (
        lambda: ProbeSet(np.zeros((2, 8, 8, 3)), preprocess=lambda x: x * np.nan),
        r"Probe 'probe_0' holds NaN or infinity after preprocess",
    ),
    "images of different shapes": (
        lambda: ProbeSet([np.zeros((8, 8, 3)), np.zeros((9, 8, 3))]),
        r"The images have different shapes \[\(8, 8, 3\), \(9, 8, 3\)\]",
    ),
    "images of words": (lambda: ProbeSet(np.full((1, 2, 2, 1), "x")), r"Expected images of numbers, got dtype <U1\."),
    "preprocess that drops the batch": (
        lambda: ProbeSet(pictures(), preprocess=lambda x: x[0]),
        r"preprocess gave shape \(16, 16, 3\) for images \(5, 16, 16, 3\)",
    ),
    "pictures of another number": (
        lambda: ProbeSet(pictures(), pictures=np.zeros((2, 16, 16, 3), np.uint8)),
        r"Expected 5 pictures \(N, H, W, 3\), got shape \(2, 16, 16, 3\)\.",
    ),
    "no target": (lambda: ProbeSet(pictures(), targets=[]), r"No targets: pass at least one"),
    "an unknown class, with close names": (
        lambda: ProbeSet(pictures(), targets=["tabbi"], class_names=NAMES),
        r"No class 'tabbi' among the 4 class names\. Did you mean 'tabby'\?",
    ),
    "a class name without class_names": (
        lambda: ProbeSet(pictures(), targets=["tabby"]),
        r"The class 'tabby' is a name: pass class_names= in the order of the model's output\.",
    ),
    "a class name that two classes have": (
        lambda: ProbeSet(pictures(), targets=["crane"], class_names=["crane", "crane"]),
        r"2 classes are named 'crane'; give the target by index\.",
    ),
    "a negative class": (lambda: ProbeSet(pictures(), targets=[-1]), r"Class -1 is out of range"),
    "a class that class_names does not have": (
        lambda: ProbeSet(pictures(), targets=[4], class_names=NAMES),
        r"Class 4 is out of range; there are names for the classes 0 to 3\.",
    ),
    "a target of three": (lambda: ProbeSet(pictures(), targets=[(1, 2, 3)]), r"A contrast target is a pair \(a, b\)"),
    "a target of another kind": (lambda: ProbeSet(pictures(), targets=[1.5]), r"A target is a class index, .*got 1\.5"),
    "'label' without labels": (lambda: ProbeSet(pictures(), targets=["label"]), r"The target 'label' needs labels"),
    "labels of another number": (
        lambda: ProbeSet(pictures(), labels=[1, 2]),
        r"5 images but labels of shape \(2,\); pass one label a picture\.",
    ),
    "labels that are no classes": (lambda: ProbeSet(pictures(), labels=[0.5] * 5), r"Expected labels as"),
    "names of another number": (lambda: ProbeSet(pictures(), names=["a"]), r"5 images but 1 names"),
    "a box outside the picture": (
        lambda: ProbeSet(pictures(1), regions=[(0, 0, 17, 4)]),
        r"Region 0 is \(0, 0, 17, 4\); a box is \(y0, x0, y1, x1\) inside \(16, 16\)\.",
    ),
    "a mask of another size": (
        lambda: ProbeSet(pictures(1), regions=[np.ones((4, 5), bool)]),
        r"Region 0 has shape \(4, 5\); expected a mask \(16, 16\) or a box",
    ),
    "regions of another number": (lambda: ProbeSet(pictures(), regions=[None]), r"5 images but 1 regions"),
    "a folder that is not there": (
        lambda: ProbeSet.from_directory("nowhere", image_size=(8, 8)),
        r"No folder 'nowhere' to read probes from\.",
    ),
    "a folder without pictures": (
        lambda: ProbeSet.from_directory(".", image_size=(8, 8)),
        r"No picture in folder '\.': .* labels='folder' looks into its sub-folders\.",
    ),
    "a file that is not there": (
        lambda: ProbeSet.from_files(["cat.png"], image_size=(8, 8)),
        r"No picture 'cat\.png'\.",
    ),
    "an unknown color_mode": (
        lambda: ProbeSet.from_files(["cat.png"], image_size=(8, 8), color_mode="RGBA"),
        r"Pictures are read as 'rgb' or 'grayscale', not as 'RGBA'\. Leave color_mode='rgb'\.",
    ),
    "an unknown scale": (lambda: explained().heatmaps(scale="minmax"), r"Expected scale 'map' .* got 'minmax'\."),
    "an unknown colour map": (
        lambda: explained().plot(colormap="turboo"),
        r"No colormap 'turboo'\. Did you mean 'turbo'",
    ),
    "a blend of more than all": (lambda: explained().overlays(alpha=2), r"Expected alpha between 0 .*; got 2\."),
    "a dataset too short": (
        lambda: ProbeSet.from_dataset([(pictures(3), [0, 1, 2])], count=4),
        r"The dataset has 3 pictures; 4 were asked for\.",
    ),
}


@pytest.mark.parametrize("case", [*MODEL_CASES, *PROBE_CASES])
def test_bad_input_gets_a_clear_error(case: str) -> None:
    """An error names what was expected, what came, and what to do; it is the one type that users catch."""
    attempt, message = (MODEL_CASES | PROBE_CASES)[case]
    with pytest.raises(GradCAMError, match=message):
        attempt()


def test_an_unreadable_or_truncated_file_is_named(tmp_path: Path) -> None:
    """A file that is no picture, or only the first half of one, is named in the error."""
    Path("note.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"'note\.png' is not a picture that Pillow can read\."):
        ProbeSet.from_files(["note.png"], image_size=(8, 8))
    for suffix in ("png", "jpg"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
        half = Path(f"half.{suffix}")
        half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(ValueError, match=rf"Picture 'half\.{suffix}' is damaged or truncated: "):
            ProbeSet.from_files([half], image_size=(8, 8))
