"""Notices that a `fit` has failed, of which Keras tells its callbacks nothing.

What Keras does not tell: where `fit` raises, by a fault or by Ctrl-C, it calls no hook of its callbacks any more.

What we look at instead:

1. `fit` has the only reference to the `keras.callbacks.CallbackList` that calls the hooks. When it has raised and the
   exception was handled, Python deletes that list, and a `weakref.finalize` on it closes the training. The list is
   found in the frame of `CallbackList.on_train_begin`, which calls our own hook.
2. An exception keeps the frames that it came through, so while somebody holds it, as a notebook does, the list lives
   on. When the next training begins in the same thread, each earlier one is closed whose list is that of no `fit` that
   runs now. Those lists are found in the frames of Keras's functions named `fit`.
3. The exception may be held until the process ends, as one that nobody has caught is. Then `atexit` closes.

What breaks when Keras changes it: without the names `fit` and `on_train_begin`, or with lists in other places, no list
is found, and 1 and 2 do nothing. A failed training is then closed when its callback begins another one, or when the
process ends. Until then its run stays open; nothing that was recorded is lost. tests/training/test_failed_fit.py says
which of the two has changed.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from keras.callbacks import CallbackList


class Training(Protocol):
    """What is closed when its `fit` has failed."""

    def close(self, status: str) -> None:
        """Ends it with the status "FAILED"."""


_watched: weakref.WeakKeyDictionary[Training, tuple[int, weakref.ref[CallbackList] | None]] = (
    weakref.WeakKeyDictionary()
)
"""Of each training that is not closed, its thread and the list in the frame of `fit`; a loop without `fit` has none."""


def watch(training: Training) -> None:
    """Closes a training when its `fit` fails; to be called from its `on_train_begin`."""
    thread = threading.get_ident()
    callbacks = next(_callback_lists("fit"), None)
    _watched[training] = thread, None if callbacks is None else weakref.ref(callbacks)
    caller = next(_callback_lists("on_train_begin"), None)
    if caller is not None:
        weakref.finalize(caller, _close, training, thread)
    # The functions of `atexit` run in the reverse order. With ours as the last one, a training is closed before Python
    # removes the temporary folders that it may still need.
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def unwatch(training: Training) -> None:
    """Leaves a training alone from now on, since it was closed."""
    _watched.pop(training, None)


def close_failed() -> None:
    """Closes the trainings whose `fit` ran in this thread and does not run any more; see 2 above."""
    running = list(_callback_lists("fit"))
    for training, (thread, reference) in list(_watched.items()):
        callbacks = None if reference is None else reference()
        if callbacks is not None and thread == threading.get_ident() and callbacks not in running:
            training.close("FAILED")


def _close(training: Training, thread: int) -> None:
    """Closes a training whose list of callbacks was deleted, unless it was closed before; see 1 above.

    Python may delete the list in any thread, even in one that the closing would wait for. So where that is not the
    thread of the training, it is closed in a new one.
    """
    if training in _watched and threading.get_ident() == thread:
        training.close("FAILED")
    elif training in _watched:
        threading.Thread(target=training.close, args=("FAILED",), name="gradcam-close").start()


def _close_all() -> None:
    """Closes what is left when the process ends; see 3 above."""
    for training in list(_watched):
        training.close("FAILED")


def _callback_lists(function: str) -> Iterator[CallbackList]:
    """The lists of callbacks in Keras's functions of that name that run in this thread, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # The variables of other frames are left alone: reading `f_locals` would keep their values alive.
        if frame.f_code.co_name == function and frame.f_globals.get("__name__", "").startswith("keras."):
            yield from (value for value in frame.f_locals.values() if isinstance(value, CallbackList))
        frame = frame.f_back
