"""One training at a time records into a run: it claims the run, and its journal, until all is over."""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path
from typing import IO

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.publishing import living

PATIENCE = 1.0
"""Seconds that a claim waits for another one. A training whose `fit` was left is closed within that time."""

_lock = threading.RLock()  # Python may delete, and so end, a training while it is held
_claims: weakref.WeakValueDictionary[str, Claim] = weakref.WeakValueDictionary()
"""Of this process, by run and by folder; one whose training is gone is gone, too."""


class Claim:
    """That a run and the folder of its journal belong to a training.

    Attributes:
        is_ending: whether the training only waits for what is left to arrive.
    """

    def __init__(self, run_id: str, folder: Path) -> None:
        """Claims them in this process; `against_processes` does in others.

        Raises:
            GradCAMError: if another training of this process has the run or the folder, and goes on.
        """
        self.is_ending = False
        self._file: IO[bytes] | None = None
        self._names = (f"Run {run_id}", f"Journal '{folder.absolute()}'")
        deadline = time.monotonic() + PATIENCE
        while (taken := self._taken()) is not None:
            if taken and time.monotonic() > deadline:
                raise _is_taken(taken, "another training of this process")
            time.sleep(0.05)

    def check(self, journal: Path) -> None:
        """Refuses to go on where another process has a journal, such as that of another part of the run.

        Raises:
            GradCAMError: if one has.
        """
        if living.is_held(journal / "manifest.json"):
            raise _is_taken(self._names[1], "another process")

    def against_processes(self, journal: Path) -> None:
        """Claims a journal that is there against other processes of this machine.

        Raises:
            GradCAMError: if one has it.
        """
        self.check(journal)
        self._file = living.hold(journal / "manifest.json")
        weakref.finalize(self, living.release, self._file)

    def release(self) -> None:
        """Lets the next training have them."""
        living.release(self._file)
        with _lock:
            for name in self._names:
                if _claims.get(name) is self:
                    del _claims[name]

    def _taken(self) -> str | None:
        """What another one has, "" where that ends by itself; None where all belongs to this claim now."""
        with _lock:
            others = [(name, other) for name in self._names if (other := _claims.get(name)) is not None]
            if not others:
                _claims.update(dict.fromkeys(self._names, self))
                return None
            return next((name for name, other in others if not other.is_ending), "")


def _is_taken(what: str, whose: str) -> GradCAMError:
    return GradCAMError(
        f"{what} is recorded into by {whose} now. Choose another run, such as a nested one, or wait until it has ended."
    )


def _forked() -> None:
    """A child records nothing of its parent's trainings."""
    global _lock
    _lock = threading.RLock()
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
