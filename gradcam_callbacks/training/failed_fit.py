"""Notices that a `fit` has failed, of which Keras tells its callbacks nothing.

What Keras does not tell: where `fit` raises, by a fault or by Ctrl-C, it calls no hook of its callbacks any more.

What we look at instead:

1. `fit` has the only reference to the `keras.callbacks.CallbackList` that calls the hooks. When it has raised and the
   exception was handled, Python deletes that list, and a `weakref.finalize` on it closes the training. The list is
   found in the frame of `CallbackList.on_train_begin`, which calls our own hook.
2. An exception keeps the frames that it came through, so while somebody holds it, as a notebook or a wrapper around
   `fit` does, the list lives on. So a thread looks ten times a second whether Keras's function `fit` still runs, and
   closes the training when it does not. It reads that from what `faulthandler` writes. To walk the frames of another
   thread can end the process, as Python may free one meanwhile: seen on 3.11, once in some 60,000 looks.
3. When the process ends, `atexit` closes what is left.

What breaks when Keras changes it: without the names `fit` and `on_train_begin`, or with lists in other places, no list
is found, and 1 and 2 do nothing. A failed training is then closed when its callback begins another one, or when the
process ends. Until then its run stays open; nothing that was recorded is lost. tests/training/test_failed_fit.py says
which of the two has changed.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import re
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Protocol

from keras.callbacks import CallbackList

logger = logging.getLogger(__name__)


class Training(Protocol):
    """What is closed when its `fit` has failed."""

    def close(self, status: str) -> None:
        """Ends it with the status "FAILED"."""


LOOK_EVERY = 0.1
"""Seconds between two looks at whether `fit` still runs."""


class _Watcher(threading.Thread):
    """Closes a training when its `fit` does not run any more.

    Attributes:
        thread: that of the training, in which this is made.
        fit: the id of the frame of its `fit`. The frame itself would keep the list alive.
        depth: how many calls of `fit` run in that thread, one within the other, where its own is the innermost; 0 where
            that cannot be told, and then nothing is ever closed.
    """

    def __init__(self, training: Training, fit: FrameType) -> None:
        """Looks once, in the thread of the training.

        Args:
            training: to close.
            fit: the frame of its `fit`.

        Raises:
            OSError: if there can be no temporary file.
        """
        super().__init__(name="gradcam-watcher", daemon=True)
        self._training: Training | None = training
        self._is_over = threading.Event()
        self.thread, self.fit = threading.current_thread(), id(fit)
        self._stack = _Stack(self.thread, fit.f_code.co_filename)
        self.depth = self._stack.calls_of_fit() or 0

    def start(self) -> None:
        """Begins to look.

        Raises:
            RuntimeError: if there can be no thread more.
        """
        try:
            super().start()
        except RuntimeError:
            self._stack.close()
            raise

    def run(self) -> None:
        try:
            missing = 0  # the number of looks in a row without it; a second one makes sure
            while missing < 2:
                if self._is_over.wait(LOOK_EVERY):
                    return
                calls = self._stack.calls_of_fit()
                missing = missing + 1 if calls is not None and calls < self.depth else 0
        finally:
            self._stack.close()
        training, self._training = self._training, None
        assert training is not None
        training.close("FAILED")

    def end(self) -> None:
        """Ends it; where it closes the training now, waits until that is done."""
        self._is_over.set()
        if self is not threading.current_thread():
            self.join()
        self._training = None


class _Stack:
    """What runs in a thread, as `faulthandler` writes it into a temporary file."""

    def __init__(self, thread: threading.Thread, file: str) -> None:
        """Opens the file.

        Args:
            thread: which.
            file: in which Keras's `fit` is.

        Raises:
            OSError: if there can be no temporary file.
        """
        self._thread = thread
        self._fit = file.encode("ascii", "backslashreplace")[-60:] + b'" in fit'
        self._written = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (`close` closes it)

    def calls_of_fit(self) -> int | None:
        """How many calls of `fit` run in the thread.

        None where that cannot be told: `faulthandler` writes the hundred innermost calls of a hundred threads.
        """
        if not self._thread.is_alive():
            return 0
        try:
            written = self._everything()
        except (OSError, RuntimeError, MemoryError):
            return None
        found = re.search(rb"hread 0x0*%x\b.*?\n(.*?)\n(?:\n|\Z)" % (self._thread.ident or 0), written, re.DOTALL)
        if not written.endswith(_END) or found is None or found[1].endswith(b"..."):
            return None
        calls = re.sub(rb", line (?:\d+|\?+) in ", b" in ", found[1]).splitlines()
        return sum(call.endswith(self._fit) for call in calls)

    def close(self) -> None:
        """Removes the file."""
        self._written.close()

    def _everything(self) -> bytes:
        """All that `faulthandler` writes; where a disk takes no more, it does not end with `_END`."""
        self._written.seek(0)
        self._written.truncate()
        faulthandler.dump_traceback(self._written)
        self._written.seek(0, os.SEEK_END)
        self._written.write(_END)
        self._written.seek(0)
        return self._written.read()


_END = b"\n\nEnd.\n"
_watched: weakref.WeakKeyDictionary[Training, _Watcher | None] = weakref.WeakKeyDictionary()
"""Each training that is not closed; a loop without `fit` has no watcher."""
_closing: weakref.WeakSet[_Watcher] = weakref.WeakSet()
"""The watchers that close, or have closed, a training."""


def watch(training: Training) -> None:
    """Closes a training when its `fit` fails; to be called from its `on_train_begin`."""
    fit = next((frame for frame, _ in _callback_lists("fit")), None)
    watcher = None
    if fit is not None:
        with suppress(OSError, RuntimeError):  # it is closed later then
            started = _Watcher(training, fit)
            started.start()
            watcher = started
    _watched[training] = watcher
    caller = next((found for _, found in _callback_lists("on_train_begin")), None)
    if caller is not None:
        weakref.finalize(caller, _close, training, threading.get_ident(), watcher)
    # The functions of `atexit` run in the reverse order. With ours as the last one, a training is closed before Python
    # removes the temporary folders that it may still need.
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def close_left() -> None:
    """Closes the trainings of this thread whose `fit` was left; to be called before another one begins.

    A watcher counts calls of `fit`, and the new one would stand in for the one that failed.
    """
    running = {id(frame) for frame in _frames()}
    for training in _all_watched():
        watcher = _watched.get(training)
        if watcher is not None and watcher.thread is threading.current_thread() and watcher.fit not in running:
            try:
                training.close("FAILED")
            except Exception:  # of another training, which must not end this one
                logger.exception("A training that has failed could not be closed.")


def unwatch(training: Training) -> None:
    """Leaves a training alone from now on, since it is closed. One that its watcher closes now is closed then."""
    watcher = _watched.pop(training, None)
    if watcher is threading.current_thread():
        _closing.add(watcher)
    elif watcher is not None:
        watcher.end()


def _close(training: Training, thread: int, watcher: _Watcher | None) -> None:
    """Closes a training whose list of callbacks was deleted, unless it was closed before; see 1 above.

    Python may delete the list in any thread, even in one that the closing would wait for. So where that is not the
    thread of the training, it is closed in a new one.
    """
    if threading.get_ident() == thread:
        if training in _watched:
            training.close("FAILED")
        elif watcher is not None and watcher in _closing:
            watcher.join()
    elif training in _watched:
        threading.Thread(target=training.close, args=("FAILED",), name="gradcam-close").start()


def _close_all() -> None:
    """Closes what is left when the process ends; see 3 above."""
    for training in _all_watched():
        training.close("FAILED")
    for watcher in list(_closing):
        watcher.join()


def _all_watched() -> list[Training]:
    """Those that are watched now; other threads may add and remove some meanwhile."""
    return [training for reference in _watched.keyrefs() if (training := reference()) is not None]


def _callback_lists(function: str) -> Iterator[tuple[FrameType, CallbackList]]:
    """Keras's functions of that name that run in this thread, the innermost first, each with its list of callbacks."""
    for frame in _frames():
        # The variables of other frames are left alone: reading `f_locals` would keep their values alive.
        if frame.f_code.co_name == function and frame.f_globals.get("__name__", "").startswith("keras."):
            yield from ((frame, value) for value in frame.f_locals.values() if isinstance(value, CallbackList))


def _frames() -> Iterator[FrameType]:
    """Those that run in this thread, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
