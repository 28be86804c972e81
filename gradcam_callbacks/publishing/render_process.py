"""The process that draws: it reads what to draw from its input, and writes tiles to its output, until that is closed.

It loads neither TensorFlow nor MLflow.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.publishing.store import EncodedTile
from gradcam_callbacks.publishing.tiles import Sheet, encoded, step_sheet, step_tile
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step

Drawn = Array | EncodedTile | Exception
"""A tile, or why it could not be drawn."""
_NICENESS = 10


def draw(
    step: Step, manifest: Manifest, pictures: Array, shown: Sequence[int | Sheet], *, is_encoded: bool = True
) -> list[Drawn]:
    """The tiles of some probes at a step, and contact sheets; where one cannot be drawn, the error.

    Args:
        step: the step.
        manifest: of its journal.
        pictures: (N, H, W, 3) uint8, of the journal.
        shown: which probes, or sheets.
        is_encoded: whether to encode them.
    """
    drawn: list[Drawn] = []
    for one in shown:
        try:
            if isinstance(one, Sheet):
                tile = step_sheet(step, manifest, pictures, one)
            else:
                tile = step_tile(step, manifest, pictures, one)
            drawn.append(encoded(tile) if is_encoded else tile)
        except Exception as error:
            drawn.append(error)
    return drawn


def main() -> None:
    """Gets the manifest, and then steps with what to draw of them; each gets an answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):  # the training comes first
        os.nice(_NICENESS)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints
    with contextlib.suppress(EOFError, BrokenPipeError):
        manifest = Manifest.parse(pickle.load(source), "")
        pictures = manifest.decoded_pictures()
        answer: list[Drawn] = []
        while True:
            pickle.dump(answer, sink)
            sink.flush()
            number, content, shown, is_encoded = pickle.load(source)
            try:
                step = Step.parse(content, Path(f"{number}.npz"), manifest)
                answer = [_sendable(each) for each in draw(step, manifest, pictures, shown, is_encoded=is_encoded)]
            except Exception as error:
                answer = [_sendable(error)] * len(shown)


def _sendable(drawn: Drawn) -> Drawn:
    """An error as one that can be read in any process."""
    return ValueError(str(drawn) or type(drawn).__name__) if isinstance(drawn, Exception) else drawn
