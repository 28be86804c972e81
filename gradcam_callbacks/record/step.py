"""Step: the numbers of one recorded epoch, and their file."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.archive import Archive, Header, UnfitError
from gradcam_callbacks.record.health import HEALTHS, in_place
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.measures import MEASURES

BASELINE = -1
"""The step before the training."""
MOST_STEP = 10**15 - 1
"""The page's script counts exactly up to nine times as many."""
MOST_BYTES = 256 << 20
"""How much memory the arrays of one step may take."""
MOST_FILE_BYTES = 2 * MOST_BYTES
"""How long the file of a step may be, with arrays that this version does not know."""
_LARGE = 8 << 10
"""Arrays of more bytes are not compressed: that takes longer than the forward pass that they come from."""
_MOST_TEXT = 8 << 20
_LONGEST_NAME = 256
_MOST_CLASSES = 2**31
_END_OF_TIME = 1e11  # seconds since 1970, in the year 5138
_OWN_ARRAYS = ("arrays", "logs", "time")
_NO_NAMES = (*_OWN_ARRAYS, "file", "allow_pickle")  # the last two are parameters of `numpy.savez_compressed`
_NEEDED = ("maps", "scores", "explained", "predicted", "health")
_SINGLE = ("logs", "time", "cut_short", "lost", "model_id")
_KNOWN = {*_OWN_ARRAYS, *_NEEDED, *_SINGLE, *(name for name, row in MEASURES.items() if row.is_recorded)}
_KINDS = {  # what an array holds, and the kinds of NumPy's dtypes that hold it; others hold numbers
    "arrays": ("names", "U"),
    "logs": ("a text", "U"),
    "health": ("states of maps", "U"),
    "explained": ("classes", "iu"),
    "predicted": ("classes", "iu"),
    "lost": ("a whole number", "iu"),
    "model_id": ("a text", "U"),
}


@dataclass(frozen=True)
class Step:
    """One recorded step.

    Attributes:
        step: the 0-based epoch; -1 is the baseline, before the training.
        arrays: all that was recorded, by name: maps (N, K, *grid), scores, explained and health (N, K), predicted (N,),
            probabilities (N, K) where the model has them, and the recorded ones of `MEASURES`; see `Explanation`.
        logs: the epoch's metrics; NaN and infinity are kept.
        time: seconds since 1970 when it was recorded.
    """

    step: int
    arrays: Mapping[str, Array]
    logs: Mapping[str, float]
    time: float

    @property
    def maps(self) -> Array:
        """(N, K, *grid) float32, not normalised."""
        return self.arrays["maps"]

    @property
    def shown(self) -> Array:
        """The maps as they may be drawn and measured: zero where their places are not those of the picture."""
        return in_place(self.maps, self.health) if "health" in self.arrays else self.maps

    @property
    def scores(self) -> Array:
        """(N, K) float32, what was explained."""
        return self.arrays["scores"]

    @property
    def explained(self) -> Array:
        """(N, K) int32, the class that each map explains; negative for functions."""
        return self.arrays["explained"]

    @property
    def predicted(self) -> Array:
        """(N,) int32, the class with the highest score; negative where the model is no classifier."""
        return self.arrays["predicted"]

    @property
    def health(self) -> Array:
        """(N, K) str, one of `HEALTHS` each."""
        return self.arrays["health"]

    @property
    def is_cut_short(self) -> bool:
        """Whether the epoch had not ended."""
        return "cut_short" in self.arrays

    @property
    def lost(self) -> int:
        """How many steps before this one could not be explained."""
        return int(self.arrays.get("lost", 0))

    @property
    def model_id(self) -> str | None:
        """The LoggedModel of MLflow whose weights were explained, if there is one."""
        return str(self.arrays["model_id"]) if "model_id" in self.arrays else None

    def measured(self, name: str) -> Array:
        """(N, K) float64 of what was recorded under a name; NaN where it was not."""
        return np.asarray(self.arrays.get(name, np.full(self.scores.shape, np.nan)), np.float64)

    def encoded(self) -> bytes:
        """The content of its file, an .npz whose large arrays are not compressed: the training waits for it.

        Raises:
            GradCAMError: if the arrays could not be read back.
        """
        wrong = [n for n, array in self.arrays.items() if n in _NO_NAMES or np.asarray(array).dtype.hasobject]
        if wrong:
            raise GradCAMError(f"Arrays {wrong} hold Python objects, or have one of the taken names {_NO_NAMES}.")
        own = {
            "arrays": np.array(sorted(self.arrays), str),
            "logs": np.array(json.dumps({name: float(value) for name, value in self.logs.items()})),
            "time": np.array(self.time),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in {**own, **self.arrays}.items():
                member = zipfile.ZipInfo(f"{name}.npy")
                is_large = np.asarray(array).nbytes > _LARGE
                member.compress_type = zipfile.ZIP_STORED if is_large else zipfile.ZIP_DEFLATED
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def parse(cls, content: bytes, path: Path, manifest: Manifest | None = None) -> Step:
        """A step from the content of its file, read without pickle.

        Headers are judged before anything is unpacked. Arrays that this version does not know are not read.

        Args:
            content: of the file.
            path: of the file, whose name is the number of the step.
            manifest: what decides how many maps a step has; without it the arrays are only compared with each other.

        Raises:
            GradCAMError: if it is damaged, or is no step of this record.
        """
        if not re.fullmatch("-1|0|[1-9][0-9]{0,14}", path.stem):
            raise GradCAMError(f"Journal file '{path}' is no step: its name is not a number.")
        try:
            if not content:
                raise UnfitError("it is empty")
            arrays = _read(Archive(content), manifest)
            del arrays["arrays"]
            logs = _logs(str(arrays.pop("logs")))
            return cls(int(path.stem), arrays, logs, float(arrays.pop("time")))
        except UnfitError as error:
            raise GradCAMError(f"Journal file '{path}' is damaged: {error}.") from error
        except Exception as error:  # zipfile, zlib, NumPy and JSON raise a dozen kinds at damaged bytes
            raise GradCAMError(
                f"Journal file '{path}' is damaged: it was cut or changed after it had been written."
            ) from error


def compressed(content: bytes) -> bytes:
    """The file of a step made smaller, with the same arrays; one that is small already is left as it is.

    Args:
        content: of the file, which was read as a step.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if all(member.compress_type != zipfile.ZIP_STORED for member in members):
            return content
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as smaller:
            for member in members:
                smaller.writestr(zipfile.ZipInfo(member.filename), archive.read(member), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _read(archive: Archive, manifest: Manifest | None) -> dict[str, Array]:
    """All the arrays of a step that this version knows.

    Raises:
        UnfitError: if one is missing, or is not what it should be.
    """
    absent = {"arrays"} - archive.members
    if not absent:
        listed = archive.header("arrays")
        _expect(listed.dtype.kind == "U" and len(listed.shape) == 1 and listed.nbytes <= _MOST_TEXT, "arrays", "names")
        absent = {*_OWN_ARRAYS, *_NEEDED, *archive.read("arrays", listed).tolist()} - archive.members
    if absent:
        raise UnfitError(f"it lacks the arrays {sorted(absent)}")
    headers = {name: archive.header(name) for name in sorted(archive.members & _KNOWN)}
    _judge(headers, manifest)
    arrays = {name: archive.read(name, header) for name, header in headers.items()}
    maps, health = arrays["maps"], arrays["health"]
    # One that is not finite is shown as empty.
    _expect(not ((maps < 0) & np.isfinite(maps)).any(), "maps", "numbers of 0 or more")
    unknown = sorted(set(health.ravel().tolist()) - set(HEALTHS))
    _expect(not unknown, "health", f"states of maps that this version knows (it holds {unknown[:3]})")
    for name in ("explained", "predicted"):
        _expect(bool((np.abs(arrays[name].astype(np.float64)) < _MOST_CLASSES).all()), name, "classes")
    _expect(0 <= float(arrays["time"]) < _END_OF_TIME, "time", "seconds since 1970")
    return arrays


def _judge(headers: Mapping[str, Header], manifest: Manifest | None) -> None:
    """Compares the headers with the manifest, and with each other.

    Raises:
        UnfitError: if an array has another shape or other content than it should, or they take too much memory.
    """
    maps = headers["maps"]
    _expect(maps.dtype.kind == "f" and len(maps.shape) in (3, 4, 5) and 0 not in maps.shape, "maps", "maps")
    if manifest is not None and (len(maps.shape) == 5) != (manifest.slices is not None):
        raise UnfitError(f"its maps have shape {maps.shape}, which does not go with the pictures in the manifest")
    each = maps.shape[:2] if manifest is None else (len(manifest.names), len(manifest.targets))
    shapes = dict.fromkeys(headers, each) | {"maps": (*each, *maps.shape[2:]), "predicted": each[:1]}
    for name, header in headers.items():
        wanted = header.shape if name == "arrays" else () if name in _SINGLE else shapes[name]
        if header.shape != wanted:
            raise UnfitError(
                f"its array '{name}' has shape {header.shape}, not {wanted} as {each[0]} probes and {each[1]} targets "
                "ask for"
            )
        says, kinds = _KINDS.get(name, ("numbers", "biuf"))
        _expect(header.dtype.kind in kinds, name, says)
        if header.dtype.kind == "U" and name != "logs":
            _expect(header.dtype.itemsize <= 4 * _LONGEST_NAME, name, says)
    _expect(headers["logs"].nbytes <= _MOST_TEXT, "logs", "a short text")
    total = sum(header.nbytes for header in headers.values())
    if total > MOST_BYTES:
        raise UnfitError(f"its arrays take {total >> 20:,} MB of memory; a step has {MOST_BYTES >> 20} MB at most")


def _expect(is_right: bool, name: str, says: str) -> None:
    if not is_right:
        raise UnfitError(f"its array '{name}' is not what it should be: {says}")


def _logs(text: str) -> dict[str, float]:
    """The epoch's metrics from their JSON."""
    logs = json.loads(text)
    if not isinstance(logs, dict) or not all(isinstance(value, int | float) for value in logs.values()):
        raise UnfitError("its metrics are no numbers by name")
    return {name: float(value) for name, value in logs.items()}
