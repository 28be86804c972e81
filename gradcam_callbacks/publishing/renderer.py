"""Renderer: makes tiles and reviews in a process of its own, so that the training has its interpreter for itself.

That process runs `render_process`, and never the user's script. Where it cannot be started, or has ended, they are made
in the thread that asks for them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import select
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradcam_callbacks
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.publishing.cards import Cards
from gradcam_callbacks.publishing.render_process import REVIEW, TILES, Drawn, draw
from gradcam_callbacks.publishing.run_review import Reviewed, review
from gradcam_callbacks.publishing.tiles import Sheet
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import Step

logger = logging.getLogger(__name__)

DRAWN_HERE = 16
"""How many tiles are drawn before a process is started: a training of few needs none."""
PATIENCE, PATIENCE_OF_REVIEW = 60.0, 600.0
"""Seconds that tiles and a review may take; a process that takes longer is given up."""
# The process gets the search path of this one: what is installed here is found there too. -P, so that a file in the
# working directory is not taken for a module.
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from gradcam_callbacks.publishing.render_process import main; main()"
)
_running: weakref.WeakSet[Renderer] = weakref.WeakSet()


class Renderer:
    """Draws the tiles of one journal, and makes the review of its run. One thread asks at a time.

    Attributes:
        process: that draws, as long as there is one.
    """

    def __init__(self, journal: Journal) -> None:
        """Starts nothing yet.

        Args:
            journal: whose manifest and pictures are drawn.
        """
        self.process: subprocess.Popen[bytes] | None = None
        self._journal = journal
        self._pictures: Array | None = None
        self._count = 0
        self._is_started = False
        self._is_over = False
        self._finalizer: weakref.finalize[..., Renderer] | None = None  # ends the process of a renderer that is left
        _running.add(self)

    def tiles(self, step: Step, content: bytes, shown: Sequence[int | Sheet], *, is_encoded: bool) -> list[Drawn]:
        """The tiles of some probes at a step, and contact sheets.

        Args:
            step: the step.
            content: of its file.
            shown: which probes, or sheets.
            is_encoded: whether to encode them.

        Returns:
            For each (height, width, 3) uint8 or an `EncodedTile`; where it could not be drawn, the error.

        Raises:
            ValueError: if the pictures of the journal are damaged.
        """
        self._count += len(shown)
        if self._count > DRAWN_HERE:
            drawn: list[Drawn] | None = self._asked((TILES, (step.step, content, list(shown), is_encoded)))
            if drawn is not None:
                return drawn
        return draw(step, self._journal.manifest, self.pictures(), shown, is_encoded=is_encoded)

    def review(self, journals: Sequence[Journal], name: str, cards: Cards) -> Reviewed:
        """See `run_review.review`; in the process only where one runs, and the disk holds all that was recorded.

        Args:
            journals: of all parts of the run.
            name: of the run.
            cards: which probes have cards.

        Raises:
            GradCAMError: if a journal is damaged, or none has a step.
        """
        if self.process is not None and not any(journal.held for journal in journals):
            directories = [journal.directory for journal in journals]
            request = REVIEW, (directories, self._journal.directory, name, cards)
            answer = self._asked(request, PATIENCE_OF_REVIEW)
            if answer is not None:
                made, records = answer
                for record in records:
                    logging.getLogger(record.name).handle(record)
                if isinstance(made, Reviewed):
                    return made
        return review(journals, self._journal, self.pictures(), name, cards)

    def pictures(self) -> Array:
        """(N, H, W, 3) uint8, of the journal; kept.

        Raises:
            ValueError: if they are damaged.
        """
        if self._pictures is None:
            self._pictures = self._journal.pictures()
        return self._pictures

    def close(self) -> None:
        """Ends the process; called again, does nothing. What is asked for later is drawn in the thread that asks."""
        self._is_over = True
        self._end()

    def _asked(self, request: Any, patience: float = PATIENCE) -> Any:
        """What the process answers within so many seconds; None where there is none. See `render_process.main`."""
        if not self._is_started:
            self._is_started = True
            if not self._is_over:
                self._start()
        process = self.process
        if process is None:
            return None
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            if sys.platform != "win32" and not select.select([process.stdout], [], [], patience)[0]:
                raise TimeoutError(f"no answer in {patience:.0f} s")
            return pickle.load(process.stdout)  # from our own process
        except Exception as error:  # it has ended, or was killed in the middle of an answer
            if not self._is_over:
                logger.debug("The process that draws has ended (%r); tiles are drawn in this one.", error)
            self._end()
            return None

    def _start(self) -> None:
        """Starts the process, where this one is a Python that can be started again."""
        executable = sys.executable or ""
        if getattr(sys, "frozen", False) or not Path(executable).stem.lower().startswith(("python", "pypy")):
            return  # it would start an application a second time
        path = [*sys.path, str(Path(gradcam_callbacks.__file__).parent.parent)]
        try:
            self.process = subprocess.Popen(
                [executable, "-P", "-c", _COMMAND, json.dumps(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the training
            )
        except (OSError, ValueError):
            logger.debug("There is no process that draws; tiles are drawn in this one.", exc_info=True)
            return
        self._finalizer = weakref.finalize(self, _ended, self.process)
        self._asked(self._journal.manifest.encoded())

    def _end(self) -> None:
        self.process = None
        if self._finalizer is not None:
            self._finalizer()

    def leave(self) -> None:
        """Forgets the process without ending it, in a child that was forked: it is none of its own."""
        process, self.process = self.process, None
        self._is_over = True
        if process is None or self._finalizer is None:
            return
        self._finalizer.detach()
        for pipe in (process.stdin, process.stdout):  # or the process would live as long as this child
            assert pipe is not None
            getattr(pipe, "raw", pipe).close()  # what is buffered is the parent's to send
        process.returncode = 0  # it need not be waited for


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # it keeps nothing
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(Exception):
            assert pipe is not None
            pipe.close()
    process.wait()


def _forked() -> None:
    """A child has the pipes of its parent."""
    for renderer in list(_running):
        renderer.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
