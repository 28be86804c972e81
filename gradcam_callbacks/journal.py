"""The record on disk: what was explained and every step's numbers, before anything else happens to them."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT = 1
_DECIDING = ("probes", "layer", "method")


@dataclass(frozen=True)
class Step:
    """One recorded step.

    Attributes:
        step: the 0-based epoch.
        arrays: maps (N, K, h, w), scores, probabilities (where the model has them), predicted, explained, health; see
            `Explanation`.
        logs: the epoch's metrics.
        time: seconds since 1970 when it was recorded.
    """

    step: int
    arrays: Mapping[str, Array]
    logs: Mapping[str, float]
    time: float


class Journal:
    """A folder with `manifest.json` and one `steps/<step>.npz` a recorded step."""

    def __init__(self, directory: str | Path) -> None:
        """Opens a journal.

        Raises:
            FileNotFoundError: if there is none in the folder.
            ValueError: if another version of the package wrote it in another format.
        """
        self.directory = Path(directory)
        text = (self.directory / "manifest.json").read_text(encoding="utf-8")
        self.manifest: dict[str, Any] = json.loads(text)
        if self.manifest.get("format") != FORMAT:
            raise ValueError(
                f"Journal '{directory}' has format {self.manifest.get('format')}; this version reads {FORMAT}."
            )

    @classmethod
    def create(cls, directory: str | Path, *, manifest: Mapping[str, Any], pictures: Array) -> Journal:
        """Starts a journal, or goes on with the one that is there.

        Args:
            directory: made if it is missing.
            manifest: what decides and describes the maps, as JSON takes it.
            pictures: (N, H, W, 3) uint8.

        Raises:
            ValueError: if the folder's journal was made with other probes, another layer or another method.
        """
        folder = Path(directory)
        (folder / "steps").mkdir(parents=True, exist_ok=True)
        if (folder / "manifest.json").exists():
            journal = cls(folder)
            for key in _DECIDING:
                if journal.manifest[key] != manifest[key]:
                    raise ValueError(
                        f"Journal '{folder}' was made with {key} {journal.manifest[key]}, now it is {manifest[key]}. "
                        "Choose another journal_dir, or another run."
                    )
            return journal
        content = {"format": FORMAT, **manifest, "pictures": [_encode(picture) for picture in pictures]}
        _write(folder / "manifest.json", json.dumps(content, ensure_ascii=False).encode())
        return cls(folder)

    def pictures(self) -> Array:
        """(N, H, W, 3) uint8."""
        encoded = self.manifest["pictures"]
        return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in encoded])

    def append(self, step: int, arrays: Mapping[str, Array], logs: Mapping[str, float]) -> Path:
        """Writes a step, so that it is there as a whole or not at all; an earlier one of that number is replaced."""
        buffer = io.BytesIO()
        text = np.array(json.dumps(dict(logs)))
        np.savez_compressed(buffer, logs=text, time=np.array(time.time()), **arrays)  # type: ignore[arg-type]
        path = self.path(step)
        _write(path, buffer.getvalue())
        return path

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.directory / "steps" / f"{step}.npz"

    def steps(self) -> list[int]:
        """The numbers of the recorded steps, in order."""
        return sorted(int(path.stem) for path in (self.directory / "steps").glob("*.npz"))

    def read(self, step: int) -> Step:
        """One recorded step, read without pickle."""
        with np.load(self.path(step), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        logs = json.loads(str(arrays.pop("logs")))
        return Step(step, arrays, logs, float(arrays.pop("time")))


def _encode(picture: Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _write(path: Path, content: bytes) -> None:
    """Writes under another name, flushes to the disk, then renames: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
