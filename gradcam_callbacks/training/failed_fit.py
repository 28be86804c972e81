"""Notices that a `fit` has failed, of which Keras tells its callbacks nothing.

What Keras does not tell: where `fit` raises, by a fault or by Ctrl-C, it calls no hook of its callbacks any more.

What we look at instead:

1. `fit` has the only reference to the `keras.callbacks.CallbackList` that calls the hooks. When it has raised and the
   exception was handled, Python deletes that list, and a `weakref.finalize` on it closes the training. The list is
   found in the frame of `CallbackList.on_train_begin`, which calls our own hook.
2. An exception keeps the frames that it came through, so while somebody holds it, as a notebook or a wrapper around
   `fit` does, the list lives on. So a thread looks five times a second whether Keras's function `fit` still runs, and
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


class Training(Protocol):
    """What is closed when its `fit` has failed."""

    def close(self, status: str) -> None:
        """Ends it with the status "FAILED"."""


LOOK_EVERY = 0.2
"""Seconds between two looks at whether `fit` still runs."""


class _Watcher(threading.Thread):
    """Closes a training when its `fit` does not run any more.

    Attributes:
        thread: that of the training, in which this is made.
        fit: the id of the frame of its `fit`, which would keep the list alive itself.
        depth: how many calls of `fit` run in that thread, one within the other, where its own is the innermost.
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

    def run(self) -> None:
        missing = 0  # in so many looks one after the other; a second one makes sure
        while not self._is_over.wait(LOOK_EVERY):
            calls = self._stack.calls_of_fit()
            missing = missing + 1 if calls is not None and calls < self.depth else 0
            if missing == 2:
                training, self._training = self._training, None
                assert training is not None
                training.close("FAILED")
                break
        self._stack.close()

    def end(self) -> None:
        """Ends it; where it closes the training now, waits until that is done."""
        self._is_over.set()
        if self is not threading.current_thread():
            self.join()
        self._training = None


class _Stack:
    """What runs in a thread, as `faulthandler` writes it into a temporary file."""

    def __init__(self, thread: threading.Thread, file: str) -> None:
        """Looks once.

        Args:
            thread: which.
            file: in which Keras's `fit` is.

        Raises:
            OSError: if there can be no temporary file.
        """
        self._thread = thread
        self._fit = file.encode("ascii", "backslashreplace")[-60:] + b'" in fit'
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 (`close` closes it)
        self._outermost = self._calls()[-1:]

    def calls_of_fit(self) -> int | None:
        """How many calls of `fit` run in the thread.

        None where that cannot be told: the hundred innermost calls of a hundred threads are written, and no more than
        a disk takes. All are there where the outermost call is.
        """
        if not self._thread.is_alive():
            return 0
        calls = self._calls()
        if not calls or calls[-1:] != self._outermost or calls[-1].endswith(b"..."):
            return None
        return sum(call.endswith(self._fit) for call in calls)

    def close(self) -> None:
        """Removes the file."""
        self._written.close()

    def _calls(self) -> list[bytes]:
        """The calls that run in the thread, the innermost first, each with its file; none if they are not written."""
        try:
            self._written.seek(0)
            self._written.truncate()
            faulthandler.dump_traceback(self._written)
            self._written.seek(0)
            written = self._written.read()
        except OSError:
            return []
        found = re.search(rb"hread 0x0*%x\b.*?\n(.*?)(\n\n|\Z)" % (self._thread.ident or 0), written, re.DOTALL)
        return [] if found is None else re.sub(rb", line \d+ in ", b" in ", found[1]).splitlines()


_watched: weakref.WeakKeyDictionary[Training, _Watcher | None] = weakref.WeakKeyDictionary()
"""Each training that is not closed; a loop without `fit` has no watcher."""
_closing: weakref.WeakSet[_Watcher] = weakref.WeakSet()
"""The watchers that close, or have closed, a training."""


def watch(training: Training) -> None:
    """Closes a training when its `fit` fails; to be called from its `on_train_begin`."""
    fit = next((frame for frame, _ in _callback_lists("fit")), None)
    watcher = None
    if fit is not None:
        with suppress(OSError):
            watcher = _Watcher(training, fit)
    _watched[training] = watcher
    caller = next((found for _, found in _callback_lists("on_train_begin")), None)
    if caller is not None:
        weakref.finalize(caller, _close, training, threading.get_ident(), watcher)
    # The functions of `atexit` run in the reverse order. With ours as the last one, a training is closed before Python
    # removes the temporary folders that it may still need.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    if watcher is not None:
        watcher.start()


def close_left() -> None:
    """Closes the trainings of this thread whose `fit` was left; to be called before another one begins.

    Its `fit` would hide from a watcher that the other one is gone.
    """
    running = {id(frame) for frame in _frames()}
    for training, watcher in list(_watched.items()):
        if watcher is not None and watcher.thread is threading.current_thread() and watcher.fit not in running:
            training.close("FAILED")


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
    for training in list(_watched):
        training.close("FAILED")
    for watcher in list(_closing):
        watcher.join()


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
