"""ProbeSet: the fixed pictures and targets that are explained again and again."""

from __future__ import annotations

import base64
import copy
import difflib
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gradcam_callbacks import render

Array = np.ndarray[Any, np.dtype[Any]]
Target = int | str | tuple[int | str, int | str] | Callable[[Any], Any]
Inputs = Any  # what a model is fed: an array, or a dict or tuple of arrays
Region = Any  # (H, W) bool mask, (y0, x0, y1, x1) box, or None
Regions = Sequence[Region] | str | Path | None  # one a probe, or a folder of masks

PREDICTED = -1
"""In a target matrix: the class with the highest score at that moment."""
NO_CLASS = -1
"""In a target matrix: no score is subtracted."""
FUNCTION = -2
"""In a target matrix: the target is a function of the outputs."""

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


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
    ) -> None:
        """Checks everything that can be checked without the model.

        Args:
            images: (N, H, W, C) numbers; signals (N, L, C) or volumes (N, D, H, W, C); for a model of several inputs a
                dict by their names, or a tuple, of N of each, of which the first of four dimensions is the picture.
            names: N names; "probe_0" and so on by default.
            labels: (N,) class indices, (N,) class names, or (N, classes) one-hot.
            targets: K of: a class index, a class name, "predicted", "label", (a, b) for score a minus score b, or a
                function of the model's outputs (before their last softmax or sigmoid) that gives (N,) scores in
                TensorFlow or `keras.ops`, known by its name. Or an (N, K) integer array: each probe's own classes.
            class_names: in the order of the model's output.
            pictures: (N, H, W, 3) uint8. By default the images before `preprocess`: uint8 images as they are, others
                scaled once from the minimum and maximum of the whole set.
            regions: for each probe an (H, W) bool mask, a (y0, x0, y1, x1) box in pixels, or None. Or a folder with a
                mask `<name>.png` for each probe that has one, of any size; what is not black is inside.
            preprocess: a function of a (N, H, W, C) float32 copy of the images that gives what the model is fed. For
                several inputs it gets, and gives, all of them.

        Raises:
            ValueError: if anything has the wrong shape, range or name; the message says what to do.
        """
        given, self.picture_key = _as_inputs(images)
        raw = _picture_of(given, self.picture_key)
        count = len(raw)
        self.names = _as_names(names, count)
        _check_finite(given, self.names, "")
        self.class_names = None if class_names is None else tuple(str(name) for name in class_names)
        self.labels = _as_labels(labels, count, self.class_names)
        self.slices = render.slice_count(raw.shape[1]) if raw.ndim == 5 else None
        self.pictures = _frozen(_as_pictures(raw if pictures is None else pictures, count))
        if preprocess is not None:
            given = _preprocessed(preprocess, given, self.names)
        self.inputs = _each(_frozen, given)
        self.images = _picture_of(self.inputs, self.picture_key)
        if regions is not None and raw.ndim != 4:
            raise ValueError("regions are parts of pictures; signals and volumes have none.")
        if isinstance(regions, str | Path):
            regions = _read_masks(Path(regions), [Path(f"{name}.png") for name in self.names], self.pictures.shape[1:3])
        self.regions = _as_regions(regions, count, self.pictures.shape[1:3])
        by_probe = _targets_by_probe(targets, count, self.class_names)
        self.targets = _as_targets(targets, self.class_names) if by_probe is None else _numbered(by_probe.shape[1])
        self.target_names = tuple(self._target_name(k, target) for k, target in enumerate(self.targets))
        self.target_matrix = _frozen(self._target_matrix(by_probe))
        self.digest = _digest(self.inputs, self.target_matrix, self.functions)
        object.__setattr__(self, "_is_frozen", True)

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_is_frozen", False):
            raise AttributeError("A ProbeSet is frozen; make a new one.")
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"ProbeSet({len(self)} probes of {shape}, targets={list(self.target_names)}, digest={self.digest[:8]})"

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
            paths: files of any format that Pillow reads; the camera's orientation is respected.
            image_size: (height, width) in pixels.
            color_mode: "rgb" or "grayscale".
            names: by default the files' names without their suffixes.
            labels: see `ProbeSet`.
            targets: see `ProbeSet`.
            class_names: see `ProbeSet`.
            regions: see `ProbeSet`; in a folder the mask of `<name>.jpg` is `<name>.png`.
            preprocess: gets (N, H, W, C) float32 in 0..255; see `ProbeSet`.

        Raises:
            ValueError: if a file is missing or is not a whole picture.
        """
        files = [Path(path) for path in paths]
        modes = {"rgb": "RGB", "grayscale": "L"}
        if color_mode not in modes:
            raise ValueError(f"color_mode is 'rgb' or 'grayscale', not {color_mode!r}.")
        height, width = image_size
        shown = [read_picture(file).resize((width, height), Image.Resampling.BILINEAR) for file in files]
        fed = [np.asarray(picture.convert(modes[color_mode])) for picture in shown]
        if isinstance(regions, str | Path):
            regions = _read_masks(Path(regions), [Path(f"{file.stem}.png") for file in files], image_size)
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
            ValueError: if the folder does not exist or holds no picture.
        """
        root = Path(directory)
        if not root.is_dir():
            raise ValueError(f"No folder '{root}' to read probes from.")
        by_folder = isinstance(labels, str) and labels == "folder"
        files = sorted(
            (
                file
                for file in root.glob("*/*" if by_folder else "*")
                if file.suffix.lower() in PICTURE_SUFFIXES
                and not any(part.startswith(".") for part in file.relative_to(root).parts)
            ),
            key=lambda file: [_natural(part) for part in file.relative_to(root).parts],
        )
        if not files:
            where = "its sub-folders" if by_folder else "it; labels='folder' looks into its sub-folders"
            raise ValueError(f"No picture in folder '{root}': none of {sorted(PICTURE_SUFFIXES)} lies in {where}.")
        if by_folder:
            labels = [file.parent.name for file in files]
            if class_names is None:
                class_names = sorted(
                    folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
                )
        if isinstance(regions, str | Path):
            masks = [file.relative_to(root).with_suffix(".png") for file in files]
            regions = _read_masks(Path(regions), masks, image_size)
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
            ValueError: if the dataset has fewer pictures.
        """
        images: list[Array] = []
        labels: list[Array] = []
        for element in dataset:
            x, y = element[:2] if isinstance(element, tuple | list) else (element, None)
            if isinstance(x, dict | tuple):
                raise ValueError("from_dataset takes pictures, not several inputs; pass ProbeSet a dict of arrays.")
            batch = np.asarray(x)
            is_batch = batch.ndim in (4, 5) if batched is None else batched
            images.extend(batch if is_batch else [batch])
            if y is not None:
                labels.extend(np.asarray(y) if is_batch else [np.asarray(y)])
            if len(images) >= count:
                break
        if len(images) < count:
            raise ValueError(f"The dataset has {len(images)} pictures; count={count} were asked for.")
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
        return _each(lambda array: array[start:stop], self.inputs)

    def jittered(self) -> ProbeSet | None:
        """The same probes under a tiny change of what the model is fed, always the same: to find the noise of the maps.

        Normal noise with 1 % of the input's own standard deviation; whole numbers of pictures go one up or down.

        Returns:
            A probe set for `Explainer` alone, since it says that it is this one; None where nothing can be changed.
        """
        generator = np.random.default_rng(0)

        def changed(array: Array) -> Array:
            if np.issubdtype(array.dtype, np.floating):
                noise = generator.normal(0, 0.01 * float(array.std(dtype=np.float64)), array.shape)
                return _frozen((array + noise).astype(array.dtype))
            if array.dtype == np.uint8:
                steps = generator.integers(-1, 2, array.shape)
                return _frozen(np.clip(array + steps, 0, 255).astype(np.uint8))
            return array

        result = copy.copy(self)
        inputs = _each(changed, self.inputs)
        object.__setattr__(result, "inputs", inputs)
        object.__setattr__(result, "images", _picture_of(inputs, self.picture_key))
        return None if result.images is self.images else result

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
            "regions": None if self.regions is None else [_encode_mask(mask) for mask in self.regions],
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
                    raise ValueError("The target 'label' needs labels: pass labels= with one class a probe.")
                matrix[:, k, 0] = self.labels
            else:
                matrix[:, k, 0] = target
        return matrix


def as_probes(probes: Any) -> ProbeSet:
    """A ProbeSet as it is; an array of images, a dict of several inputs, or an (images, labels) pair, as a ProbeSet."""
    if isinstance(probes, ProbeSet):
        return probes
    if isinstance(probes, tuple) and len(probes) == 2:
        return ProbeSet(probes[0], labels=probes[1], targets=("label", "predicted"))
    return ProbeSet(probes)


def class_name(class_names: Sequence[str] | None, index: int) -> str:
    """The name of a class for people: its own, or "class_<index>"."""
    if class_names is not None and 0 <= index < len(class_names):
        return class_names[index]
    return f"class_{index}"


def slugs(names: Iterable[str]) -> tuple[str, ...]:
    """Names that a file system and MLflow take: `[A-Za-z0-9_.-]`, 1 to 60 characters, no dot at an end, distinct."""
    taken: set[str] = set()
    result = []
    for position, name in enumerate(names):
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
        plain = re.sub(r"\.{2,}", ".", plain)[:60].strip("_.") or f"n{position}"  # MLflow forbids ".."
        slug, number = plain, 2
        while slug.lower() in taken:
            slug, number = f"{plain[:56]}-{number}", number + 1
        taken.add(slug.lower())
        result.append(slug)
    return tuple(result)


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts "cat_2" before "cat_10"."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]


def read_picture(file: Path) -> Image.Image:
    """The whole picture as RGB, upright.

    Raises:
        ValueError: if the file cannot be read to its end.
    """
    try:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I") or upright.mode == "F":  # Pillow would clip 16 bits to 255
                values = np.asarray(upright, np.float64)
                highest = 65535 if values.max() > 255 else 255
                upright = Image.fromarray(np.rint(np.clip(values / highest, 0, 1) * 255).astype(np.uint8))
            return upright.convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"No picture '{file}'.") from None
    except UnidentifiedImageError:
        raise ValueError(f"'{file}' is not a picture that Pillow can read.") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"Picture '{file}' is damaged or truncated: {error}.") from error


def _frozen(array: Array) -> Array:
    """A copy that cannot be written to: the probes must not change under a run."""
    array = np.array(array, copy=True)
    array.flags.writeable = False
    return array


def _each(function: Callable[[Array], Any], inputs: Inputs) -> Inputs:
    """The function of the one input, or of each of several."""
    if isinstance(inputs, dict):
        return {key: function(array) for key, array in inputs.items()}
    return tuple(function(array) for array in inputs) if isinstance(inputs, tuple) else function(inputs)


def _picture_of(inputs: Inputs, key: str | int | None) -> Array:
    picture: Array = inputs if key is None else inputs[key]
    return picture


def _as_inputs(images: Any) -> tuple[Inputs, str | int | None]:
    """The images as an array; several inputs as a dict or tuple of arrays, and which of them is the picture."""
    if not isinstance(images, dict | tuple):
        return _as_images(images), None
    inputs = _each(lambda array: _as_single(np.asarray(array)), images)
    entries = list(inputs.items() if isinstance(inputs, dict) else enumerate(inputs))
    counts = {key: len(array) if array.ndim else 0 for key, array in entries}
    if len(set(counts.values())) != 1:
        raise ValueError(f"The inputs have different numbers of probes: {counts}.")
    for dimensions in (4, 5, 3):
        for key, array in entries:
            if array.ndim == dimensions and array.size:
                _as_images(array)
                return inputs, key
    shapes = {key: array.shape for key, array in entries}
    raise ValueError(f"None of the inputs is a picture (N, H, W, C): {shapes}.")


def _as_images(images: Any) -> Array:
    """(N, H, W, C), (N, L, C) or (N, D, H, W, C) numbers; float64 as float32."""
    try:
        array = np.asarray(images)
    except ValueError:
        shapes = sorted({np.shape(image) for image in images})
        raise ValueError(f"The images have different shapes {shapes}; the probes of a set share one.") from None
    if array.size == 0 or array.ndim == 0:
        raise ValueError("The probe set is empty: pass at least one picture.")
    if array.ndim not in (3, 4, 5):
        raise ValueError(
            f"Expected images (N, H, W, C), signals (N, L, C) or volumes (N, D, H, W, C); got shape {array.shape}."
        )
    if array.dtype.kind not in "uif":
        raise ValueError(f"Expected images of numbers, got dtype {array.dtype}.")
    return _as_single(array)


def _as_single(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _as_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"probe_{position}" for position in range(count))
    if len(names) != count:
        raise ValueError(f"{count} images but {len(names)} names; pass one a picture.")
    return tuple(str(name) for name in names)


def _check_finite(inputs: Inputs, names: Sequence[str], when: str) -> None:
    arrays = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else [inputs]
    for array in arrays:
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if bad.any():
            name = names[int(np.argmax(bad))]
            raise ValueError(
                f"Probe '{name}' holds NaN or infinity{when} ({int(bad.sum())} of {len(array)} probes do)."
            )


def _preprocessed(preprocess: Callable[[Any], Any], inputs: Inputs, names: Sequence[str]) -> Inputs:
    # A copy: many preprocess_input write in place.
    copies = _each(lambda array: array.astype(np.float32) if array.ndim > 2 else array.copy(), inputs)
    result = preprocess(copies)
    if not isinstance(inputs, dict | tuple):
        result = np.asarray(result)
        if result.ndim != inputs.ndim or len(result) != len(inputs):
            raise ValueError(f"preprocess gave shape {result.shape} for images {inputs.shape}; expected (N, H, W, C).")
    elif type(result) is not type(inputs) or len(result) != len(inputs):
        raise ValueError(f"preprocess gave a {type(result).__name__}; expected a {type(inputs).__name__} as it got.")
    result = _each(lambda array: _as_single(np.asarray(array)), result)
    _check_finite(result, names, " after preprocess")
    return result


def _as_pictures(pictures: Any, count: int) -> Array:
    array = np.asarray(pictures)
    if array.ndim in (3, 5) and len(array) == count:
        return render.signal_pictures(array) if array.ndim == 3 else render.volume_pictures(array)
    if array.ndim != 4 or len(array) != count:
        raise ValueError(f"Expected {count} pictures (N, H, W, 3), got shape {array.shape}.")
    if array.shape[1] in (1, 3) and array.shape[3] not in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)  # the channels come first
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        scaled = np.empty(array.shape, np.uint8)
        for picture, row in zip(array, scaled, strict=True):  # one at a time, for the memory
            row[...] = np.rint((picture.astype(np.float64) - low) * (255 / (high - low or 1)))
        array = scaled
    channels = array.shape[-1]
    if channels >= 3:
        return array[..., :3]
    return np.repeat(array[..., :1], 3, axis=-1)  # grey, or grey and alpha


def _as_labels(labels: Any, count: int, class_names: tuple[str, ...] | None) -> Array | None:
    if labels is None:
        return None
    array = np.asarray(labels)
    if len(array.shape) == 0 or len(array) != count:
        raise ValueError(f"{count} images but labels of shape {array.shape}; pass one label a picture.")
    if array.dtype.kind in "US":
        return _frozen(np.array([_class_index(str(name), class_names) for name in array], np.int64))
    if array.ndim == 2:
        array = array.argmax(axis=1) if array.shape[1] > 1 else array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biuf" or (array != np.floor(array)).any() or (array < 0).any():
        raise ValueError("Expected labels as (N,) class indices, (N,) class names or (N, classes) one-hot.")
    return _frozen(array.astype(np.int64))


def _targets_by_probe(targets: Any, count: int, class_names: tuple[str, ...] | None) -> Array | None:
    """(N, K) classes, where that is what the user gave."""
    if not isinstance(targets, np.ndarray) or targets.ndim != 2:
        return None
    if targets.dtype.kind not in "iu" or len(targets) != count or not targets.size:
        raise ValueError(
            f"Targets that differ between the probes are an integer array ({count}, K); got {targets.dtype} "
            f"{targets.shape}."
        )
    for extreme in (targets.min(), targets.max()):
        _class_index(int(extreme), class_names)
    return targets


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"target_{k}" for k in range(count))


def _as_targets(
    targets: Any, class_names: tuple[str, ...] | None
) -> tuple[int | str | tuple[int, int] | Callable[[Any], Any], ...]:
    is_one = isinstance(targets, str | int | float | np.number) or callable(targets) or getattr(targets, "ndim", 1) == 0
    listed: Sequence[Any] = [targets] if is_one else list(targets)
    if not listed:
        raise ValueError("No targets: pass at least one, such as targets=['predicted'].")
    result: list[int | str | tuple[int, int] | Callable[[Any], Any]] = []
    for target in listed:
        if callable(target) or (isinstance(target, str) and target in ("predicted", "label")):
            result.append(target)
        elif isinstance(target, tuple | list):
            if len(target) != 2:
                raise ValueError(f"A contrast target is a pair (a, b) of classes; got {target!r}.")
            result.append((_class_index(target[0], class_names), _class_index(target[1], class_names)))
        else:
            result.append(_class_index(target, class_names))
    return tuple(result)


def _class_index(target: Any, class_names: tuple[str, ...] | None) -> int:
    """The index of the class that a user named or numbered."""
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        classes = len(class_names) if class_names is not None else None
        if target < 0 or (classes is not None and target >= classes):
            known = "" if classes is None else f"; class_names has the classes 0 to {classes - 1}"
            raise ValueError(f"Class {target} is out of range{known}.")
        return int(target)
    if not isinstance(target, str):
        raise ValueError(
            "A target is a class index, a class name, 'predicted', 'label', a pair of classes or a function of the "
            f"outputs; got {target!r}."
        )
    if class_names is None:
        raise ValueError(f"The class '{target}' is a name: pass class_names= in the order of the model's output.")
    if target in class_names:
        if class_names.count(target) > 1:
            raise ValueError(f"{class_names.count(target)} classes are named '{target}'; give the target by index.")
        return class_names.index(target)
    close = difflib.get_close_matches(target, [*class_names, "predicted", "label"], n=3)
    hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    raise ValueError(f"No class '{target}' among the {len(class_names)} class_names.{hint}")


def _as_regions(regions: Sequence[Region] | None, count: int, size: tuple[int, ...]) -> Array | None:
    if regions is None:
        return None
    if len(regions) != count:
        raise ValueError(f"{count} images but {len(regions)} regions; pass one a picture, None where there is none.")
    masks = np.zeros((count, *size), bool)
    for position, region in enumerate(regions):
        if region is None:
            continue
        array = np.asarray(region)
        if array.shape == size:
            masks[position] = array.astype(bool)
        elif array.shape == (4,):
            y0, x0, y1, x1 = (int(value) for value in array)
            if not (0 <= y0 < y1 <= size[0] and 0 <= x0 < x1 <= size[1]):
                raise ValueError(f"Region {position} is {(y0, x0, y1, x1)}; a box is (y0, x0, y1, x1) inside {size}.")
            masks[position, y0:y1, x0:x1] = True
        else:
            raise ValueError(
                f"Region {position} has shape {array.shape}; expected a mask {tuple(size)} or a box (y0, x0, y1, x1)."
            )
    return _frozen(masks)


def _read_masks(folder: Path, files: Sequence[Path], size: tuple[int, ...]) -> list[Array | None]:
    """The masks of a folder, at the pictures' size (height, width); None where there is no file."""
    if not folder.is_dir():
        raise ValueError(f"No folder '{folder}' to read regions from.")
    height, width = size
    masks: list[Array | None] = []
    for file in files:
        if not (folder / file).is_file():
            masks.append(None)
            continue
        mask = read_picture(folder / file).convert("L").resize((width, height), Image.Resampling.NEAREST)
        masks.append(np.asarray(mask) > 0)
    if all(mask is None for mask in masks):
        raise ValueError(f"No mask in folder '{folder}' is named like a probe; expected '{files[0]}' and so on.")
    return masks


def explained_name(manifest: Mapping[str, Any], k: int, explained: int) -> str:
    """What a map explains, for people: the target of a `ProbeSet.description`, and its class unless it says that."""
    target: str = manifest["targets"][k]
    name = class_name(manifest["class_names"], int(explained))
    if explained < 0 or name == target or " − " in target:  # a function, a class, a contrast
        return target
    return f"{name} ({target})"


def region(manifest: Mapping[str, Any], n: int) -> Array | None:
    """The region of a probe in a `ProbeSet.description`: (H, W) bool, or None."""
    encoded = (manifest.get("regions") or {n: None})[n]
    return None if encoded is None else np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(bool)


def _encode_mask(mask: Array) -> str | None:
    """A region as a base64 PNG of one bit a pixel; None where it is empty."""
    if not mask.any():
        return None
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _digest(inputs: Inputs, target_matrix: Array, functions: Sequence[Callable[[Any], Any]]) -> str:
    digest = hashlib.sha256()

    def add(array: Array) -> None:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())

    if isinstance(inputs, dict):
        digest.update(repr(list(inputs)).encode())
    _each(add, inputs)
    add(target_matrix)
    for function in functions:
        name = getattr(function, "__qualname__", type(function).__name__)
        code = getattr(function, "__code__", None)
        digest.update(f"{getattr(function, '__module__', '')}.{name}".encode())
        if code is not None:
            digest.update(
                code.co_code + repr((code.co_names, [c for c in code.co_consts if not hasattr(c, "co_code")])).encode()
            )
    return digest.hexdigest()
