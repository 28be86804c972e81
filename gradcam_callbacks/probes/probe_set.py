"""ProbeSet: the fixed pictures and targets that are explained again and again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from gradcam_callbacks import drawing, notebook
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.drawing.masks import encode_mask
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.names import class_name
from gradcam_callbacks.probes.inputs import (
    Inputs,
    as_inputs,
    as_names,
    check_finite,
    digest_of,
    each,
    frozen,
    picture_of,
    preprocessed,
    with_picture,
)
from gradcam_callbacks.probes.pictures import as_pictures
from gradcam_callbacks.probes.reading import pictures_in, read_picture
from gradcam_callbacks.probes.regions import Regions, as_regions, read_masks
from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.probes.targets import (
    FUNCTION,
    NO_CLASS,
    PREDICTED,
    Target,
    as_labels,
    as_targets,
    numbered_targets,
    targets_by_probe,
)

_SHOWN_BY_NOTEBOOKS = 32  # pictures


class ProbeSet:
    """A fixed set of pictures, and for each the same list of targets. Frozen after construction.

    Signals (N, L, C) and volumes (N, D, H, W, C) are probes too; people see them as curves and as slices.

    Attributes:
        images: (N, H, W, C), what the model is fed; of several inputs the picture among them.
        inputs: all that the model is fed: `images`, or a dict or tuple of N of each.
        picture_key: where the picture is among the inputs; None where it is the only one.
        pictures: (N, H, W, 3) uint8, what people see.
        slices: how many slices of a volume people see; None for pictures and signals.
        names: N names.
        labels: (N,) int64 class indices, or None.
        targets: K targets, class names resolved to indices; of targets that differ between the probes "target_<k>".
        target_names: K names for people.
        class_names: the names of the classes in the order of the model's output, or None.
        regions: (N, H, W) bool, where a person says the model should look, or None; a probe without a region has an
            empty mask.
        target_matrix: (N, K, 2) int32; `[..., 0]` is the class whose score is explained, `PREDICTED` or `FUNCTION`,
            `[..., 1]` the class whose score is subtracted or `NO_CLASS`.
        digest: SHA-256, in hexadecimal, over everything that decides the maps.
    """

    images: Array
    inputs: Inputs
    picture_key: str | int | None
    pictures: Array
    slices: int | None
    names: tuple[str, ...]
    labels: Array | None
    targets: tuple[int | str | tuple[int, int] | Callable[[Any], Any], ...]
    target_names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    regions: Array | None
    target_matrix: Array
    digest: str
    _is_frozen = False

    def __init__(
        self,
        images: Any,
        *,
        names: Sequence[str] | None = None,
        labels: Any = None,
        targets: Target | Sequence[Target] | Array = ("predicted",),
        class_names: Sequence[str] | None = None,
        pictures: Any = None,
        regions: Regions = None,
        preprocess: Callable[[Array], Any] | None = None,
        picture: str | int | None = None,
    ) -> None:
        """Checks everything that can be checked without the model.

        Args:
            images: (N, H, W, C) numbers; signals (N, L, C) or volumes (N, D, H, W, C); for a model of several inputs a
                dict by their names, or a tuple, of N of each, of which the first of four dimensions is the picture.
            names: N names; "probe_0" and so on by default.
            labels: (N,) class indices, (N,) class names, or (N, classes) one-hot.
            targets: K of: a class index, a class name, "predicted", "label", (a, b) for score a minus score b, or a
                function of the model's outputs (before their last softmax or sigmoid) that gives (N,) scores in
                `keras.ops` or the engine, known by its name. Or an (N, K) integer array: each probe's own classes.
            class_names: in the order of the model's output.
            pictures: (N, H, W, 3) uint8. By default the images before `preprocess`: uint8 images as they are, others
                scaled once from the minimum and maximum of the whole set.
            regions: for each probe an (H, W) bool mask, a (y0, x0, y1, x1) box in pixels, or None. Or a folder with a
                mask `<name>.png` for each probe that has one, of any size; what is not black is inside.
            preprocess: a function of a (N, H, W, C) float32 copy of the images that gives what the model is fed. For
                several inputs it gets, and gives, all of them.
            picture: of several inputs the key or number of the picture to explain and to show; by default the first of
                four dimensions.

        Raises:
            GradCAMError: if anything has the wrong shape, range or name; the message says what to do.
        """
        given, self.picture_key = as_inputs(images, picture)
        raw = picture_of(given, self.picture_key)
        count = len(raw)
        self.names = as_names(names, count)
        check_finite(given, self.names, "")
        self.class_names = None if class_names is None else tuple(str(name) for name in class_names)
        self.labels = as_labels(labels, count, self.class_names)
        self.slices = drawing.slice_count(raw.shape[1]) if raw.ndim == 5 else None
        self.pictures = frozen(as_pictures(raw if pictures is None else pictures, count))
        if preprocess is not None:
            given = preprocessed(preprocess, given, self.names)
        self.inputs = each(frozen, given)
        self.images = picture_of(self.inputs, self.picture_key)
        if regions is not None and raw.ndim != 4:
            raise GradCAMError("regions are parts of pictures; signals and volumes have none.")
        if isinstance(regions, str | Path):
            regions = read_masks(Path(regions), [Path(f"{name}.png") for name in self.names], self.pictures.shape[1:3])
        self.regions = as_regions(regions, count, self.pictures.shape[1:3])
        by_probe = targets_by_probe(targets, count, self.class_names)
        self.targets = (
            as_targets(targets, self.class_names) if by_probe is None else numbered_targets(by_probe.shape[1])
        )
        self.target_names = tuple(self._target_name(k, target) for k, target in enumerate(self.targets))
        self.target_matrix = frozen(self._target_matrix(by_probe))
        self.digest = digest_of(self.inputs, self.target_matrix, self.functions, picture)
        self._is_frozen = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_frozen:
            raise AttributeError("A ProbeSet is frozen; make a new one.")
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"ProbeSet({len(self)} probes of {shape}, targets={list(self.target_names)}, digest={self.digest[:8]})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a contact sheet of the first pictures, with their names and labels."""
        shown = min(_SHOWN_BY_NOTEBOOKS, len(self))
        titles = [drawing.said(name, f"probe_{n}") for n, name in enumerate(self.names[:shown])]
        if self.labels is not None:
            labels = [drawing.said(self.class_name(label), class_name(None, label)) for label in self.labels.tolist()]
            titles = [f"{name}: {label}" for name, label in zip(titles, labels, strict=False)]
        pictures = self.pictures[:shown]
        if self.regions is not None:
            pictures = np.stack([drawing.outline(*each) for each in zip(pictures, self.regions, strict=False)])
        sheet = drawing.contact_sheet(pictures, titles).png()
        rest = f"The first {shown} of {len(self)} pictures are shown." if shown < len(self) else ""
        return notebook.picture(sheet, ", ".join(titles)) + notebook.paragraph(f"{self!r} {rest}".strip())

    @classmethod
    def from_files(
        cls,
        paths: Iterable[str | Path],
        *,
        image_size: tuple[int, int],
        color_mode: str = "rgb",
        names: Sequence[str] | None = None,
        labels: Any = None,
        targets: Target | Sequence[Target] = ("predicted",),
        class_names: Sequence[str] | None = None,
        regions: Regions = None,
        preprocess: Callable[[Array], Any] | None = None,
    ) -> ProbeSet:
        """Reads pictures with Pillow and resizes them (bilinear) to what the model takes.

        Args:
            paths: files in PNG, JPEG, BMP, GIF, WebP or TIFF; the camera's orientation is respected.
            image_size: (height, width) in pixels.
            color_mode: "rgb" or "grayscale".
            names: by default the files' names without their suffixes.
            labels: see `ProbeSet`.
            targets: see `ProbeSet`.
            class_names: see `ProbeSet`.
            regions: see `ProbeSet`; in a folder the mask of `<name>.jpg` is `<name>.png`.
            preprocess: gets (N, H, W, C) float32 in 0..255; see `ProbeSet`.

        Raises:
            GradCAMError: if a file is missing or is not a whole picture.
        """
        files = [Path(path) for path in paths]
        modes = {"rgb": "RGB", "grayscale": "L"}
        if color_mode not in modes:
            raise GradCAMError(
                f"Pictures are read as 'rgb' or 'grayscale', not as {color_mode!r}.",
                "Leave {argument}.",
                argument="color_mode",
                value="rgb",
            )
        height, width = image_size
        shown = [read_picture(file).resize((width, height), Image.Resampling.BILINEAR) for file in files]
        fed = [np.asarray(picture.convert(modes[color_mode])) for picture in shown]
        if isinstance(regions, str | Path):
            regions = read_masks(Path(regions), [Path(f"{file.stem}.png") for file in files], image_size)
        images = np.zeros((0, height, width, 3)) if not fed else np.stack(fed).astype(np.float32)
        return cls(
            images[..., None] if images.ndim == 3 else images,
            names=[file.stem for file in files] if names is None else names,
            labels=labels,
            targets=targets,
            class_names=class_names,
            pictures=np.stack([np.asarray(picture) for picture in shown]) if shown else None,
            regions=regions,
            preprocess=preprocess,
        )

    @classmethod
    def from_directory(
        cls,
        directory: str | Path,
        *,
        image_size: tuple[int, int],
        color_mode: str = "rgb",
        labels: Any = None,
        targets: Target | Sequence[Target] = ("predicted",),
        class_names: Sequence[str] | None = None,
        regions: Regions = None,
        preprocess: Callable[[Array], Any] | None = None,
    ) -> ProbeSet:
        """Reads the pictures of a folder, in natural order ("cat_2" before "cat_10").

        Args:
            directory: a folder of pictures, or with `labels="folder"` one of a sub-folder a class.
            labels: "folder" takes the sub-folders' names as labels, and where `class_names` is not given, as the
                classes' names in alphabetic order, which is Keras's order. Otherwise see `ProbeSet`.
            image_size: (height, width) in pixels.
            color_mode: see `from_files`.
            targets: see `ProbeSet`.
            class_names: see `ProbeSet`.
            regions: see `from_files`; in a folder with sub-folders the mask lies in a sub-folder of the same name.
            preprocess: see `from_files`.

        Raises:
            GradCAMError: if the folder does not exist or holds no picture.
        """
        root = Path(directory)
        by_folder = isinstance(labels, str) and labels == "folder"
        files = pictures_in(root, in_folders=by_folder)
        if by_folder:
            labels = [file.parent.name for file in files]
            if class_names is None:
                class_names = sorted(
                    folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
                )
        if isinstance(regions, str | Path):
            masks = [file.relative_to(root).with_suffix(".png") for file in files]
            regions = read_masks(Path(regions), masks, image_size)
        return cls.from_files(
            files,
            image_size=image_size,
            color_mode=color_mode,
            labels=labels,
            targets=targets,
            class_names=class_names,
            regions=regions,
            preprocess=preprocess,
        )

    @classmethod
    def from_dataset(
        cls,
        dataset: Iterable[Any],
        *,
        count: int,
        targets: Target | Sequence[Target] = ("predicted",),
        class_names: Sequence[str] | None = None,
        preprocess: Callable[[Array], Any] | None = None,
        batched: bool | None = None,
    ) -> ProbeSet:
        """Takes the first pictures of a `tf.data.Dataset`, batched or not.

        Args:
            dataset: of images or of (images, labels).
            count: how many pictures to take.
            batched: whether its elements are batches; by default those of four or five dimensions. Say it for
                signals and volumes.
            targets: see `ProbeSet`.
            class_names: see `ProbeSet`.
            preprocess: see `ProbeSet`.

        Raises:
            GradCAMError: if the dataset has fewer pictures.
        """
        images: list[Array] = []
        labels: list[Array] = []
        for element in dataset:
            x, y = element[:2] if isinstance(element, tuple | list) else (element, None)
            if isinstance(x, dict | tuple):
                raise GradCAMError("from_dataset takes pictures, not several inputs; pass ProbeSet a dict of arrays.")
            batch = np.asarray(x)
            is_batch = batch.ndim in (4, 5) if batched is None else batched
            images.extend(batch if is_batch else [batch])
            if y is not None:
                labels.extend(np.asarray(y) if is_batch else [np.asarray(y)])
            if len(images) >= count:
                break
        if len(images) < count:
            raise GradCAMError(f"The dataset has {len(images)} pictures; {count} were asked for.", argument="count")
        return cls(
            np.stack(images[:count]) if count else [],
            labels=np.stack(labels[:count]) if labels else None,
            targets=targets,
            class_names=class_names,
            preprocess=preprocess,
        )

    @property
    def functions(self) -> tuple[Callable[[Any], Any], ...]:
        """The targets that are functions of the outputs, in their order."""
        return tuple(target for target in self.targets if callable(target))

    def batch(self, start: int, stop: int) -> Inputs:
        """What the model is fed for some of the probes."""
        return each(lambda array: array[start:stop], self.inputs)

    def jittered(self) -> ProbeSet | None:
        """A copy in which what the model is fed is changed a little, to find how much of a map is noise.

        The change is the same at each call. Floats get normal noise of 1 % of the input's own standard deviation;
        uint8 values go up or down by one, or stay; other numbers stay.

        Returns:
            A set to explain and nothing else: only `inputs` and `images` are changed, so its digest and its pictures
            are still those of this set. None where nothing can be changed.
        """
        generator = np.random.default_rng(0)

        def changed(array: Array) -> Array:
            if np.issubdtype(array.dtype, np.floating):
                noise = generator.normal(0, 0.01 * float(array.std(dtype=np.float64)), array.shape)
                return frozen((array + noise).astype(array.dtype))
            if array.dtype == np.uint8:
                steps = generator.integers(-1, 2, array.shape)
                return frozen(np.clip(array + steps, 0, 255).astype(np.uint8))
            return array

        result = copy.copy(self)
        inputs = each(changed, self.inputs)
        object.__setattr__(result, "inputs", inputs)
        object.__setattr__(result, "images", picture_of(inputs, self.picture_key))
        return None if result.images is self.images else result

    def noisy(self, level: float, *, seed: int) -> ProbeSet:
        """A copy whose pictures have normal noise added, to explain and nothing else.

        Args:
            level: its standard deviation, as a share of each picture's own range, from its least number to its largest.
            seed: the same seed gives the same noise.

        Returns:
            A set in which only `inputs` and `images` are changed. Whole numbers stay whole, and in their dtype's range.
        """
        images = self.images.astype(np.float32)
        sides = tuple(range(1, images.ndim))
        spread = images.max(axis=sides, keepdims=True) - images.min(axis=sides, keepdims=True)
        images += level * spread * np.random.default_rng(seed).standard_normal(images.shape, np.float32)
        if self.images.dtype.kind in "ui":
            limits = np.iinfo(self.images.dtype)
            images = np.clip(np.rint(images), limits.min, limits.max)
        result = copy.copy(self)
        changed = frozen(images.astype(self.images.dtype))
        object.__setattr__(result, "images", changed)
        object.__setattr__(result, "inputs", with_picture(self.inputs, self.picture_key, changed))
        return result

    def asking(self, target: Callable[[Any], Any] | Literal["predicted"]) -> ProbeSet:
        """A copy whose one target is another one; its digest is still that of this set.

        Args:
            target: a function of the model's outputs, or "predicted".
        """
        result = copy.copy(self)
        matrix = np.full((len(self.images), 1, 2), NO_CLASS, np.int32)
        matrix[..., 0] = PREDICTED if target == "predicted" else FUNCTION
        name = "predicted" if target == "predicted" else "function_0"
        changed = {"targets": (target,), "target_names": (name,), "target_matrix": frozen(matrix)}
        for attribute, value in changed.items():
            object.__setattr__(result, attribute, value)
        return result

    def description(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON takes it: what a record needs to be read later."""
        return {
            "probes": self.digest,
            "names": list(self.names),
            "targets": list(self.target_names),
            "probe_slugs": list(slugs(self.names)),
            "target_slugs": list(slugs(self.target_names)),
            "labels": None if self.labels is None else self.labels.tolist(),
            "class_names": None if self.class_names is None else list(self.class_names),
            "slices": self.slices,
            "regions": None if self.regions is None else [encode_mask(mask) for mask in self.regions],
        }

    def class_name(self, index: int) -> str:
        """The name of a class for people: its own, or "class_<index>"."""
        return class_name(self.class_names, index)

    def _target_name(self, k: int, target: Any) -> str:
        if isinstance(target, tuple):
            return f"{self.class_name(target[0])} − {self.class_name(target[1])}"
        if callable(target):
            name = getattr(target, "__name__", type(target).__name__)
            return f"function_{k}" if name == "<lambda>" else str(name)
        return target if isinstance(target, str) else self.class_name(target)

    def _target_matrix(self, by_probe: Array | None) -> Array:
        matrix = np.full((len(self.images), len(self.targets), 2), NO_CLASS, np.int32)
        if by_probe is not None:
            matrix[..., 0] = by_probe
            return matrix
        for k, target in enumerate(self.targets):
            if isinstance(target, tuple):
                matrix[:, k] = target
            elif callable(target):
                matrix[:, k, 0] = FUNCTION
            elif target == "predicted":
                matrix[:, k, 0] = PREDICTED
            elif target == "label":
                if self.labels is None:
                    raise GradCAMError(
                        "The target 'label' needs labels:", "pass {argument} with one class a probe.", argument="labels"
                    )
                matrix[:, k, 0] = self.labels
            else:
                matrix[:, k, 0] = target
        return matrix


def as_probes(probes: Any) -> ProbeSet:
    """What a user gave as probes, as a `ProbeSet`.

    Args:
        probes: a `ProbeSet`, which stays as it is; an array of images, a dict of several inputs, or an (images, labels)
            pair.

    Raises:
        GradCAMError: see `ProbeSet`.
    """
    if isinstance(probes, ProbeSet):
        return probes
    if isinstance(probes, tuple) and len(probes) == 2:
        return ProbeSet(probes[0], labels=probes[1], targets=("label", "predicted"))
    return ProbeSet(probes)
