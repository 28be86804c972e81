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
from gradcam_callbacks.record.health import in_place

BASELINE = -1
"""The step before the training."""
_OWN_ARRAYS = ("arrays", "logs", "time")
_NO_NAMES = (*_OWN_ARRAYS, "file", "allow_pickle")  # the last two are parameters of `numpy.savez_compressed`


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

    def measured(self, name: str) -> Array:
        """(N, K) float64 of what was recorded under a name; NaN where it was not."""
        return np.asarray(self.arrays.get(name, np.full(self.scores.shape, np.nan)), np.float64)

    def encoded(self) -> bytes:
        """The content of its file.

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
        np.savez_compressed(buffer, **own, **self.arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Step:
        """A step from the content of its file, read without pickle.

        Args:
            content: of the file.
            path: of the file, whose name is the number of the step.

        Raises:
            GradCAMError: if it is damaged.
        """
        if not re.fullmatch("-1|0|[1-9][0-9]*", path.stem):
            raise GradCAMError(f"Journal file '{path}' is no step: its name is not a number.")
        try:
            if not content:
                raise ValueError("it is empty")
            # `ZipFile.read` compares the check sums, `numpy.load` may not.
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                arrays = {
                    name.removesuffix(".npy"): np.lib.format.read_array(
                        io.BytesIO(archive.read(name)), allow_pickle=False
                    )
                    for name in archive.namelist()
                }
            missing = {*_OWN_ARRAYS, *arrays.get("arrays", np.array([], str)).tolist()} - arrays.keys()
            if missing:
                raise ValueError(f"it lacks the arrays {sorted(missing)}")
            del arrays["arrays"]
            logs = json.loads(str(arrays.pop("logs")))
            return cls(int(path.stem), arrays, logs, float(arrays.pop("time")))
        except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds at damaged bytes
            raise GradCAMError(f"Journal file '{path}' is damaged: {str(error) or type(error).__name__}.") from error
