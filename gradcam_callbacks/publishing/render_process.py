"""The process that draws: it reads what to make from its input, and writes it to its output, until that is closed.

It loads neither TensorFlow nor MLflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.publishing.cards import Cards
from gradcam_callbacks.publishing.run_review import Reviewed, review
from gradcam_callbacks.publishing.store import EncodedTile
from gradcam_callbacks.publishing.tiles import Sheet, encoded, step_sheet, step_tile
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step

Drawn = Array | EncodedTile | Exception
"""A tile, or why it could not be drawn."""
TILES, REVIEW = "tiles", "review"
"""What can be asked for."""
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
    """Gets a manifest, and then one request after the other; each gets an answer.

    A request is `TILES` or `REVIEW`, and the arguments that `_tiles` and `_review` take from the number and from the
    directories on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):  # the training comes first
        os.nice(_NICENESS)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints
    with contextlib.suppress(EOFError, BrokenPipeError):
        manifest = Manifest.parse(pickle.load(source), "")
        pictures = manifest.decoded_pictures()
        journals: dict[Path, Journal] = {}
        answer: Any = None
        while True:
            pickle.dump(answer, sink)
            sink.flush()
            kind, arguments = pickle.load(source)
            answer = (
                _tiles(manifest, pictures, *arguments) if kind == TILES else _review(journals, pictures, *arguments)
            )


def _tiles(
    manifest: Manifest, pictures: Array, number: int, content: bytes, shown: Sequence[int | Sheet], is_encoded: bool
) -> list[Drawn]:
    """See `Renderer.tiles`."""
    try:
        step = Step.parse(content, Path(f"{number}.npz"), manifest)
        return [_sendable(each) for each in draw(step, manifest, pictures, shown, is_encoded=is_encoded)]
    except Exception as error:
        return [_sendable(error)] * len(shown)


def _review(
    journals: dict[Path, Journal], pictures: Array, directories: Sequence[Path], own: Path, name: str, cards: Cards
) -> tuple[Reviewed | None, list[logging.LogRecord]]:
    """See `run_review.review`.

    Args:
        journals: those that are open, by directory: what was said of a damaged step is not said again.
        pictures: of `own`.
        directories: of all parts of the run.
        own: whose probes the page has.
        name: of the run.
        cards: which probes have cards.

    Returns:
        What was made, or None where that failed; and what was logged meanwhile.
    """
    said: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(said)
    logging.getLogger().addHandler(handler)
    made = None
    with contextlib.suppress(Exception):  # who asked makes it again, and has the error then
        for directory in directories:
            if directory not in journals:
                journals[directory] = Journal(directory)
        made = review([journals[directory] for directory in directories], journals[own], pictures, name, cards)
    logging.getLogger().removeHandler(handler)
    return made, [said.get() for _ in range(said.qsize())]


def _sendable(drawn: Drawn) -> Drawn:
    """An error as one that can be read in any process."""
    return ValueError(str(drawn) or type(drawn).__name__) if isinstance(drawn, Exception) else drawn
