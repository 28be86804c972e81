"""LiveView: what a notebook shows under the progress bar while a training goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any

from gradcam_callbacks import notebook

logger = logging.getLogger(__name__)


class LiveView:
    """One place in the output of a cell: it shows the newest step, and is never added to.

    The training thread makes the place when Keras's progress bar is at the end of a line, or the bar would be torn in
    two. What stands there comes from the worker.
    """

    def __init__(self) -> None:
        """Shows nothing yet."""
        self._place: Any = None
        self._picture = self._words = ""
        self._lock = threading.Lock()

    @classmethod
    def of(cls, run_id: str) -> LiveView | None:
        """That of a run in the cell that runs now; several trainings of one cell share it.

        Args:
            run_id: of the run.

        Returns:
            None where there is no notebook.
        """
        global _last
        cell = notebook.cell()
        if cell is None:
            return None
        if _last is None or _last[:2] != (run_id, cell):
            _last = (run_id, cell, cls())
        return _last[2]

    def begin(self) -> None:
        """Makes the place, once; in the thread of the cell."""
        with self._lock:
            if self._place is None:
                try:
                    self._place = notebook.display(self._html())
                except Exception:  # whatever notebook it is: the training goes on
                    logger.debug("Nothing can be shown in this notebook.", exc_info=True)

    def show(self, words: str, png: bytes | None = None, alt: str = "") -> None:
        """Shows a sentence, and a picture; in any thread.

        Args:
            words: the sentence.
            png: the picture; the one before by default.
            alt: what it shows, for who cannot see it.
        """
        with self._lock:
            self._words = words
            if png is not None:
                self._picture = notebook.picture(png, alt)
            if self._place is not None:
                try:
                    notebook.replace(self._place, self._html())
                except Exception:
                    logger.debug("The notebook shows nothing new.", exc_info=True)

    def _html(self) -> str:
        words = self._words or "Grad-CAM draws its first picture."
        return f"<div>{self._picture}{notebook.paragraph(words)}</div>"


_last: tuple[str, int, LiveView] | None = None
"""Of the last training: its run, its cell, and what is shown there."""
