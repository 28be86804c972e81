"""Manifest: what decides and describes the maps of a record."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib.metadata
import io
import json
import math
import platform
import re
import struct
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.drawing.volumes import mosaic_shape
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.names import class_name

FORMAT = 1
"""Of a journal on disk; this version reads no other."""
MOST_MANIFEST_BYTES = 256 << 20
"""How long a manifest may be: its pictures are most of it."""
_MOST_ENTRIES = 2_000_000
_MOST_PIXELS = 2**26  # of one picture
_MOST_PICTURE_BYTES = 1 << 30  # of all pictures together
_MOST_INTEGER = 2**31
METRICS = ("means", "all", "none")
"""Which metrics a run gets: means over its maps, those and one a map, or none."""
DECIDING = ("probes", "layer", "place", "method", "output", "unit")
"""What of a manifest decides the maps: the steps of one journal have all of it in common; see `differences`."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What decides and describes the maps of a record. The fields are the keys of `manifest.json`.

    Lists may be given where tuples are named, as JSON has them.

    Attributes:
        probes: SHA-256 over everything that decides the maps; see `ProbeSet.digest`.
        names: N names of the probes.
        targets: K names of the targets.
        probe_slugs: N names as file systems and MLflow take them.
        target_slugs: K of these.
        labels: N class indices, or None.
        class_names: in the order of the model's output, or None.
        slices: how many slices of a volume the pictures show; None for pictures and signals.
        regions: N base64 PNGs of one bit a pixel, None for a probe without a region; or None.
        pictures: N base64 PNGs, what people see.
        layer: the path of the explained layer; of several joined by " + ".
        place: where that layer stands in its model, whatever it is called, such as "Conv2D 2 of 5, 14x14x8"; of
            several joined by " + "; "" in records of earlier versions. See `Layers.place`.
        part: which part of its run the record is, from 1; see `record.parts`.
        page: the first part of the run with the same probes and unit: these are side by side on one page, and have
            their tiles in common.
        method: the name of the CAM method.
        output: the head that was asked for, or "".
        score_kind: "logit" or "probability".
        notes: what to know of the layer, in whole sentences, such as a guess that was made.
        unit: what a step counts: "epoch" or "batch".
        metrics: which metrics the run gets, one of `METRICS`; they decide no map, and a later training may change it.
        cards: which probes get cards: a number of them, "all", "moved" or "flagged"; "" for the default.
        source: what was swept, as JSON; None for a training.
        run_id: the run that the record belongs to.
        run_name: what people call it.
        tracking_uri: where it is.
        version: of this library.
        created: seconds since 1970.
        platform: the machine's system.
        engine: on which Keras computed the maps, as Keras calls it: "tensorflow", "jax", or "tensorflow, jax" where a
            training began on one and went on on the other. It decides no map.
        versions: of Python and of what matters to the maps, by package.
        others: what a later version has written beside; it is kept, and written again.
    """

    probes: str
    names: tuple[str, ...]
    targets: tuple[str, ...]
    probe_slugs: tuple[str, ...]
    target_slugs: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    slices: int | None = None
    regions: tuple[str | None, ...] | None = None
    pictures: tuple[str, ...] = ()
    layer: str = ""
    place: str = ""
    part: int = 1
    page: int = 1
    method: str = ""
    output: str = ""
    score_kind: str = "logit"
    notes: tuple[str, ...] = ()
    unit: str = "epoch"
    metrics: str = "means"
    cards: str = ""
    source: str | None = None
    run_id: str = ""
    run_name: str = ""
    tracking_uri: str = ""
    version: str = ""
    created: float = 0.0
    platform: str = ""
    engine: str = "tensorflow"
    versions: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, list):
                object.__setattr__(self, each.name, tuple(value))

    @classmethod
    def parse(cls, content: bytes, name: str | Path) -> Manifest:
        """The manifest in a file.

        What the file lacks, or has as null, gets its default: older versions did not write it.

        Args:
            content: of `manifest.json`.
            name: what errors call the journal.

        Raises:
            GradCAMError: if it is damaged, or of a format that this version does not read.
        """
        try:
            held = _loaded(content)
            if not isinstance(held, dict) or "format" not in held:
                raise ValueError("it is not a journal's")
            if held["format"] != FORMAT:
                named = str(held["format"])[:40]
                raise GradCAMError(f"Journal '{name}' has format {named}; this version reads {FORMAT}.")
            return cls._checked(held)
        except GradCAMError:
            raise
        except ValueError as error:
            raise GradCAMError(
                f"The manifest.json of journal '{name}' is damaged: {error}.",
                "Restore it, or pass another {argument}.",
                argument="journal_dir",
            ) from error

    @classmethod
    def _checked(cls, held: Mapping[str, Any]) -> Manifest:
        """A manifest of what JSON held, each field of its own kind, and as many of each as there are probes.

        Raises:
            ValueError: if a field is missing or of another kind.
        """
        known = {}
        for each in dataclasses.fields(cls):
            is_needed = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            value = None if each.name == "others" else held.get(each.name)
            if value is None:
                if is_needed:
                    raise ValueError(f"it lacks '{each.name}'")
                continue
            if not _is_of_kind(value, str(each.type)):
                raise ValueError(f"'{each.name}' is not what it should be: {_SAYS.get(str(each.type), each.type)}")
            known[each.name] = value
        names = {"format", *(each.name for each in dataclasses.fields(cls))}
        manifest = cls(**known, others={key: value for key, value in held.items() if key not in names})
        for several, count in (
            ("probe_slugs", len(manifest.names)),
            ("target_slugs", len(manifest.targets)),
            ("labels", len(manifest.names)),
            ("regions", len(manifest.names)),
            ("pictures", len(manifest.names)),
        ):
            held_now = getattr(manifest, several)
            has_none = held_now is None or (several == "pictures" and not held_now)
            if not has_none and len(held_now) != count:
                raise ValueError(f"it has {len(held_now)} {several}, not {count}")
        if not manifest.names or not manifest.targets:
            raise ValueError("it has no probes, or no targets")
        for slugs in (manifest.probe_slugs, manifest.target_slugs):
            # They become names of files.
            wrong = [slug for slug in slugs if slug in ("", ".", "..") or re.search(r"[\x00-\x1f/\\]", slug)]
            if wrong or len({*slugs}) < len(slugs):
                raise ValueError("its slugs are no names of files, or one is there twice")
        if manifest.metrics not in METRICS:
            raise ValueError(f"its 'metrics' are not one of {', '.join(METRICS)}")
        if not 1 <= manifest.page <= manifest.part:
            raise ValueError(f"it is part {manifest.part} on the page of part {manifest.page}")
        if manifest.slices is not None and manifest.slices < 1:
            raise ValueError(f"its volumes have {manifest.slices} slices")
        return manifest

    def encoded(self) -> bytes:
        """The content of `manifest.json`."""
        # Not `dataclasses.asdict`, which would copy the pictures.
        held = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "others"}
        return json.dumps({**self.others, "format": FORMAT, **held, "versions": dict(self.versions)}).encode()

    def class_name(self, index: int) -> str:
        """The name of a class for people: its own, or "class_<index>"."""
        return class_name(self.class_names, index)

    def explained_name(self, k: int, explained: int) -> str:
        """What a map explains, for people.

        Args:
            k: which target.
            explained: the class that the map explains; negative for a function.

        Returns:
            The target, and its class unless the target says that.
        """
        target = self.targets[k]
        name = self.class_name(int(explained))
        if explained < 0 or name == target or " − " in target:  # a function, a class, a contrast
            return target
        return f"{name} ({target})"

    def region(self, n: int) -> Array | None:
        """Where a person says the model should look on probe n: (H, W) bool, or None."""
        encoded = None if self.regions is None else self.regions[n]
        return None if encoded is None else decoded_png(encoded, f"the region of probe '{self.names[n]}'") > 0

    def masks(self) -> Array | None:
        """(N, H, W) bool: the regions of all probes, empty where one has none; None without regions.

        Raises:
            ValueError: if they are damaged.
        """
        masks: Array | None = None
        for n, name in enumerate(self.names):
            region = self.region(n)
            if region is None:
                continue
            if region.ndim != 2:
                raise ValueError(f"the region of probe '{name}' is no mask")
            if masks is None:
                _check_size(len(self.names) * region.size, "the regions")
                masks = np.zeros((len(self.names), *region.shape), bool)
            if region.shape != masks.shape[1:]:
                raise ValueError(f"the region of probe '{name}' has another size than the others")
            masks[n] = region
        return masks

    def picture_size(self) -> tuple[int, int]:
        """(H, W) of the pictures, read from the header of the first one; (0, 0) where there is none."""
        try:
            height, width = struct.unpack(">16xII", base64.b64decode(self.pictures[0][:32]))[::-1]
        except (IndexError, ValueError, struct.error):
            return 0, 0
        return height, width

    def decoded_pictures(self) -> Array:
        """(N, H, W, 3) uint8, what people see.

        Raises:
            ValueError: if they are damaged.
        """
        if not self.pictures:
            raise ValueError("there are none")
        pictures: Array | None = None
        for n, (name, encoded) in enumerate(zip(self.names, self.pictures, strict=True)):
            picture = decoded_png(encoded, f"the picture of probe '{name}'")
            if picture.dtype != np.uint8 or picture.shape[2:] != (3,):
                raise ValueError(f"the picture of probe '{name}' is not in colours of 8 bits")
            if pictures is None:
                _check_size(len(self.pictures) * picture.size, "the pictures")
                pictures = np.empty((len(self.pictures), *picture.shape), np.uint8)
            if picture.shape != pictures.shape[1:]:
                raise ValueError(f"the picture of probe '{name}' has another size than the others")
            pictures[n] = picture
        assert pictures is not None
        if self.slices is not None:
            rows, columns = mosaic_shape(self.slices)
            if pictures.shape[1] % rows or pictures.shape[2] % columns:
                raise ValueError(f"they do not show {self.slices} slices")
        return pictures

    def made_now(self, pictures: Array) -> Manifest:
        """The same with (N, H, W, 3) uint8 pictures, and with the time, the machine and the versions of now."""
        return dataclasses.replace(
            self,
            pictures=tuple(_encoded(picture) for picture in pictures),
            created=self.created or time.time(),
            platform=self.platform or platform.platform(),
            versions=self.versions or _installed_versions(self.engine),
        )

    def gone_on_with(self, now: Manifest) -> Manifest:
        """The manifest of the same record, after a training that says `now` of itself goes on with it.

        What was asked for last holds: which metrics there are. What the maps were computed with comes on top.
        """
        engine = with_engine(self.engine, now.engine)
        if (self.metrics, self.engine) == (now.metrics, engine):
            return self
        versions = self.versions if engine == self.engine else {**_installed_versions(now.engine), **self.versions}
        return dataclasses.replace(self, metrics=now.metrics, engine=engine, versions=versions)


def with_engine(before: str, now: str) -> str:
    """The engines of a record that goes on, in the order in which they came; see `Manifest.engine`."""
    engines = (one for listed in (before, now) for one in listed.split(", ") if one)
    return ", ".join(dict.fromkeys(engines))


def differences(before: Mapping[str, str | None] | Manifest, now: Manifest) -> str:
    """What decides the maps and is not the same in two records, in words; "" if nothing.

    A layer is the same where it stands at the same place of its model. Where one of the records does not say the place,
    the names are compared, without the numbers that Keras gives by itself: a model that is built again has "conv2d_1"
    where the first one had "conv2d". A unit of steps that is not said is the same.

    Args:
        before: a manifest, or what a run says of itself by the names in `DECIDING`.
        now: the manifest to compare.
    """
    then, new = (
        {key: str((getattr(one, key) if isinstance(one, Manifest) else one.get(key)) or "") for key in DECIDING}
        for one in (before, now)
    )
    told = []
    for key in DECIDING:
        is_said = key != "unit" or bool(then[key] and new[key])
        if key == "place" or not is_said or (_same_layer(then, new) if key == "layer" else then[key] == new[key]):
            continue
        words = [one[key][:8] if key == "probes" else one[key] for one in (then, new)]  # of the digest enough to tell
        if key == "layer" and then["place"] and new["place"]:
            words = [f"{word} ({one['place']})" for word, one in zip(words, (then, new), strict=True)]
        told.append(f"{key} {words[0] or 'not named'}, now it is {words[1] or 'not named'}")
    return "; ".join(told)


def _same_layer(then: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether two records explain the same layer."""
    if then["place"] and new["place"]:
        return then["place"] == new["place"]
    # Keras names a layer by itself after its class, which the place says.
    kinds = {_snake_case(kind) for one in (then, new) for kind in re.findall(r"(\w+) \d+ of \d+", one["place"])}

    def unnumbered(found: re.Match[str]) -> str:
        name = re.sub(r"_\d+$", "", found[0])
        return name if not kinds or name in kinds else found[0]

    one, other = (re.sub(r"[^/#\[\]> +]+", unnumbered, each["layer"]) for each in (then, new))
    return one == other


def _snake_case(name: str) -> str:
    """The name that Keras gives to the first layer of a class."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


_SAYS: Mapping[str, str] = {
    "str": "a text",
    "str | None": "a text",
    "float": "a number",
    "int": "a whole number",
    "int | None": "a whole number",
    "tuple[str, ...]": "a list of texts",
    "tuple[str, ...] | None": "a list of texts",
    "tuple[int, ...] | None": "a list of whole numbers",
    "tuple[str | None, ...] | None": "a list of texts or null",
    "Mapping[str, str]": "texts by name",
}
_KINDS: Mapping[str, Any] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "None": (type(None),),
}


def _is_of_kind(value: Any, annotation: str) -> bool:
    """Whether what JSON held, which is not null, fits the annotation of a field."""
    if annotation.startswith("Mapping"):
        return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())
    if annotation.startswith("tuple["):
        inner = annotation.removeprefix("tuple[").partition(", ...]")[0]
        return isinstance(value, list) and all(_is_of_kind(entry, inner) for entry in value)
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= _MOST_INTEGER):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return any(isinstance(value, _KINDS[kind]) for kind in annotation.split(" | "))


def _installed_versions(engine: str) -> dict[str, str]:
    """The versions of Python and of what is installed, without importing it.

    Args:
        engine: what Keras runs on.
    """
    found = {"python": platform.python_version()}
    for name in ("gradcam_callbacks", "keras", *engine.split(", "), "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _encoded(picture: Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _loaded(content: bytes) -> Any:
    """What a JSON text holds, if it holds no more than a manifest could.

    Raises:
        ValueError: if it is no JSON, or would take much memory.
    """
    # Each entry of a list or a table takes one of these at least, and up to a hundred bytes of memory.
    if sum(content.count(sign) for sign in b",[{") > _MOST_ENTRIES:
        raise ValueError(f"it has more than {_MOST_ENTRIES:,} entries")
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON from line {error.lineno}, column {error.colno} on") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error


def decoded_png(encoded: str, what: str) -> Array:
    """A PNG, whose size is read before it takes memory.

    Raises:
        ValueError: if it is damaged or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is compared here
            opened = Image.open(io.BytesIO(base64.b64decode(encoded)), formats=["PNG"])
        with opened as picture:
            width, height = picture.size
            if width * height <= _MOST_PIXELS:
                return np.asarray(picture)
    except Exception as error:  # Pillow raises a dozen kinds at damaged bytes
        raise ValueError(f"{what} is no whole PNG") from error
    raise ValueError(f"{what} has {width}×{height} pixels, which is too large")


def _check_size(nbytes: int, what: str) -> None:
    if nbytes > _MOST_PICTURE_BYTES:
        raise ValueError(f"{what} take {nbytes >> 20:,} MB of memory, which is too much")
