"""explain(): one call for one Explanation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.explaining.explanation import Explanation, refuse_to_replace
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.probes.reading import read_picture
from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.probes.targets import Target

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.methods import Method

logger = logging.getLogger(__name__)

# The longest side of an overlay, and of a picture in a sheet of panels, in pixels; the sheet shows about 450.
_LONGEST, _LONGEST_PANEL = 4096, 1024


def explain(
    model: keras.Model,
    images: Any,
    *,
    targets: Target | Sequence[Target] | None = None,
    layer: str | Sequence[str] | None = None,
    method: str | Method = "gradcam",
    output: str | int | None = None,
    preprocess: Callable[[Array], Any] | None = None,
    class_names: Sequence[str] | None = None,
    batch_size: int = 32,
    grid: tuple[int, int] | None = None,
    picture: str | int | None = None,
    smooth: int = 0,
    keep_gradients: bool = False,
) -> Explanation:
    """Asks a model what in these pictures speaks for these targets.

    Args:
        model: a built Keras model.
        images: a path, a list of paths, an (N, H, W, C) array, an (images, labels) pair, a dict of several inputs, or
            a `ProbeSet`. Files are resized to the model's input.
        targets: see `ProbeSet`; ["predicted"] by default.
        layer: the path or unique name of the layer to explain, or several of them, whose maps are fused; None picks the
            last map that all of the score goes through. See `Explainer`.
        method: a name in `gradcam_callbacks.METHODS`, or a function; see `Explainer`.
        output: the head of a multi-output model, by name or index.
        preprocess: a function of (N, H, W, C) float32 that gives what the model is fed.
        class_names: in the order of the model's output.
        batch_size: how many pictures go through the model at once.
        grid: (h, w) of the tokens of a transformer, where nothing before them tells.
        picture: of several inputs the key or number of the picture to explain and to show; by default the first of
            four dimensions.
        smooth: of how many noisy copies of each picture the map is the mean; see `Explainer`.
        keep_gradients: whether to keep what the maps are made of, for `Explanation.plot_gradients`: `activations`,
            `gradients` and `weights`, of the same forward pass and of at most 1 GB.

    Raises:
        GradCAMError: if anything cannot be explained; the message says what to do.
    """
    explainer = Explainer(
        model, layer=layer, method=method, output=output, batch_size=batch_size, grid=grid, smooth=smooth
    )
    probes = _as_probes(model, images, targets, preprocess, class_names, picture)
    explanation = explainer(probes, keep_gradients=keep_gradients)
    for problem in explanation.problems():
        logger.warning(problem)
    return explanation


def _as_probes(
    model: keras.Model,
    images: Any,
    targets: Target | Sequence[Target] | None,
    preprocess: Callable[[Array], Any] | None,
    class_names: Sequence[str] | None,
    picture: str | int | None,
) -> ProbeSet:
    """The pictures, in any of the forms that `explain` takes, as probes."""
    asked: Any = ("predicted",) if targets is None else targets
    if isinstance(images, ProbeSet):
        if any(given is not None for given in (targets, preprocess, class_names, picture)):
            raise GradCAMError(
                "A ProbeSet brings its own targets, preprocess, class_names and picture; give them to the ProbeSet."
            )
        return images
    if isinstance(images, str | Path):
        images = [images]
    if isinstance(images, list) and images and all(isinstance(image, str | Path) for image in images):
        return read_pictures(model, images, targets=asked, class_names=class_names, preprocess=preprocess)
    from gradcam_callbacks.explaining.feeding import is_labelled

    labels = None
    if isinstance(images, tuple) and is_labelled(model, images):
        images, labels = images
    return ProbeSet(
        images, labels=labels, targets=asked, class_names=class_names, preprocess=preprocess, picture=picture
    )


def read_pictures(
    model: keras.Model,
    paths: Sequence[str | Path],
    *,
    targets: Target | Sequence[Target],
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[Array], Any] | None = None,
    image_size: tuple[int, int] | None = None,
) -> ProbeSet:
    """Files as probes, at the size and with the channels that a model takes.

    Args:
        model: a built Keras model.
        paths: of pictures.
        targets: see `ProbeSet`.
        class_names: see `ProbeSet`.
        preprocess: see `ProbeSet`.
        image_size: (height, width) for a model that takes any.

    Raises:
        GradCAMError: if the model does not say its size, or a file is not a whole picture.
    """
    height, width, channels = input_size(model, image_size)
    return ProbeSet.from_files(
        paths,
        image_size=(height, width),
        color_mode="grayscale" if channels == 1 else "rgb",
        targets=targets,
        class_names=class_names,
        preprocess=preprocess,
    )


def save_panels(
    explanation: Explanation, paths: Sequence[str | Path], directory: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Writes an explanation of files as `Explanation.save` does, but on the pictures at their own size.

    Where a picture's longest side has more than 4096 pixels, it is drawn on at that size, since more takes gigabytes.
    Beside the overlays, `<name>.panels.png` shows each picture with a titled panel a target, and, where the gradients
    were kept, `<name>.<target>.gradients.png` what each map is made of.

    Args:
        explanation: of the files.
        paths: the files.
        directory: made if it is missing.
        overwrite: whether files of an earlier explanation may be replaced.

    Returns:
        The files written.

    Raises:
        AlreadyThereError: if one of the files is there and `overwrite` is false; then nothing is written.
    """
    panels = [Path(directory, f"{slug}.panels.png") for slug in slugs(explanation.names)]
    figures = {
        Path(directory, f"{probe}.{target}.gradients.png"): (n, k)
        for n, probe in enumerate(slugs(explanation.names))
        for k, target in enumerate(slugs(explanation.target_names))
        if explanation.gradients is not None
    }
    if not overwrite:
        refuse_to_replace([*panels, *figures])
    # One picture after the other is read, and again for its panels: together they may take gigabytes.
    pictures = (np.asarray(read_picture(Path(path), longest=_LONGEST)) for path in paths)
    written = explanation.save(directory, overwrite=overwrite, pictures=pictures)
    for n, (file, path) in enumerate(zip(panels, paths, strict=True)):
        picture = np.asarray(read_picture(Path(path), longest=_LONGEST_PANEL))
        figure = drawing.figure(
            picture[None],
            explanation.overlays_on(n, picture)[None],
            titles=[[explanation.title(n, k) for k in range(len(explanation.target_names))]],
            picture_titles=[drawing.said(explanation.names[n], f"probe_{n}")],
        )
        figure.savefig(file, dpi=150)
        written.append(file)
    for file, (n, k) in figures.items():
        explanation.plot_gradients(n, k).savefig(file, dpi=110)
        written.append(file)
    return written


def input_size(model: keras.Model, image_size: tuple[int, int] | None = None) -> tuple[int, int, int]:
    """The (height, width, channels) at which files are read for a model.

    Args:
        model: a built Keras model.
        image_size: (height, width) for a model that takes any.

    Raises:
        GradCAMError: if the model takes anything but one picture, or leaves its size open.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        names = ", ".join(repr(tensor.name) for tensor in inputs)
        raise GradCAMError(
            f"Model '{model.name}' takes {len(inputs)} inputs; files are read for models of one picture.",
            f"Use explain() with a dict of arrays, by their names: {names}.",
        )
    shape = tuple(inputs[0].shape[1:]) if inputs else (None, None, None)
    is_picture = len(shape) == 3 and (shape[0] not in (1, 3) or shape[2] in (1, 3))  # else the channels come first
    if not is_picture:
        raise GradCAMError(
            f"Model '{model.name}' takes arrays {shape}; files are read as pictures (height, width, channels).",
            "Use explain() with an array.",
        )
    height, width = shape[:2] if image_size is None else image_size
    if height is None or width is None:
        raise GradCAMError(
            f"Model '{model.name}' does not say what size of picture it takes.",
            "Read the files with ProbeSet.from_files(paths, image_size=(height, width)) and pass that.",
            argument="image_size",
        )
    return int(height), int(width), int(shape[2] or 3)
