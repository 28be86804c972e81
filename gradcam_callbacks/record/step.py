"""Step: the numbers of one recorded epoch, and their file."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.record.health import HEALTHS as HEALTHS

if sys.platform != "win32":
    pass

BASELINE = -1
"""The step before the training."""
_OWN_ARRAYS = ("arrays", "logs", "time")
NO_NAMES = (*_OWN_ARRAYS, "file", "allow_pickle")  # the last two are parameters of `numpy.savez_compressed`


@dataclass(frozen=True)
class Step:
    """One recorded step.

    Attributes:
        step: the 0-based epoch; -1 is the baseline, before the training.
        arrays: maps (N, K, h, w), scores, probabilities (where the model has them), predicted, explained, health; see
            `Explanation`.
        logs: the epoch's metrics; NaN and infinity are kept.
        time: seconds since 1970 when it was recorded.
    """

    step: int
    arrays: Mapping[str, Array]
    logs: Mapping[str, float]
    time: float


def parse_step(path: Path, content: bytes) -> Step:
    """A step from the bytes of its file.

    Raises:
        ValueError: if they are damaged.
    """
    if not re.fullmatch("-1|0|[1-9][0-9]*", path.stem):
        raise ValueError(f"Journal file '{path}' is no step: its name is not a number.")
    try:
        if not content:
            raise ValueError("it is empty")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # `read` compares the check sums, `numpy.load` may not
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
                for name in archive.namelist()
            }
        missing = {*_OWN_ARRAYS, *arrays.get("arrays", np.array([], str)).tolist()} - arrays.keys()
        if missing:
            raise ValueError(f"it lacks the arrays {sorted(missing)}")
        del arrays["arrays"]
        logs = json.loads(str(arrays.pop("logs")))
        return Step(int(path.stem), arrays, logs, float(arrays.pop("time")))
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds at damaged bytes
        raise ValueError(f"Journal file '{path}' is damaged: {str(error) or type(error).__name__}.") from error
