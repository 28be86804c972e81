"""What Keras does when a `fit` fails, and that we notice it. One test for each thing that Keras might change."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gradcam_callbacks.training import failed_fit


class FaultError(RuntimeError):
    """What ends a training."""


class Watched(keras.callbacks.Callback):
    """Is watched from its `on_train_begin` on, and notes in which thread it was closed with which status."""

    def __init__(self, *, fails: bool = True, begin: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self.closed: list[tuple[str, threading.Thread]] = []
        self.lists: list[list[keras.callbacks.CallbackList]] = []
        self._fails = fails
        self._begin = begin

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        failed_fit.close_left()
        failed_fit.watch(self)
        if self._begin is not None:
            self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._fails:
            raise FaultError

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.close("FINISHED")

    def close(self, status: str) -> None:
        failed_fit.unwatch(self)
        self.closed.append((status, threading.current_thread()))

    @property
    def statuses(self) -> list[str]:
        return [status for status, _ in self.closed]


@pytest.fixture(autouse=True)
def nothing_watched() -> Iterator[None]:
    """No test leaves a training to the next one."""
    gc.collect()
    assert not failed_fit._watched
    yield
    gc.collect()
    assert not failed_fit._watched


def fit(*callbacks: keras.callbacks.Callback) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(np.zeros((1, 1)), np.zeros((1, 1)), verbose=0, callbacks=list(callbacks))


def failing(*callbacks: keras.callbacks.Callback) -> FaultError:
    """The exception of a `fit`, held with its frames."""
    with pytest.raises(FaultError) as caught:
        fit(*callbacks)
    return caught.value


def test_keras_calls_no_hook_when_fit_raises() -> None:
    """If this fails, Keras tells callbacks of a failed `fit`, and failed_fit.py can go."""
    called: list[str] = []

    class Telling(keras.callbacks.Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                called.append(name)
            return super().__getattribute__(name)

    with contextlib.suppress(FaultError):
        fit(Telling(), Watched())
    gc.collect()
    assert called[-1] == "on_epoch_end"


def test_keras_calls_hooks_from_a_list_that_fit_holds() -> None:
    """If this fails, other names or places must be looked for: the list is in the frames of both functions."""
    found: dict[str, list[keras.callbacks.CallbackList]] = {}

    def look() -> None:
        for function in ("fit", "on_train_begin"):
            found[function] = [callbacks for _, callbacks in failed_fit._callback_lists(function)]

    ours = Watched(fails=False, begin=look)
    fit(ours)
    (of_fit,), (caller,) = found["fit"], found["on_train_begin"]
    assert of_fit is caller
    assert ours in caller.callbacks
    assert list(failed_fit._callback_lists("fit")) == []


def test_a_fit_that_raised_is_closed_when_its_list_is_deleted() -> None:
    """If this fails, something else holds Keras's list of callbacks now, and failed trainings are closed late."""
    ours = Watched()
    with contextlib.suppress(FaultError):
        fit(ours)
    gc.collect()
    assert ours.closed == [("FAILED", threading.current_thread())]


def test_ctrl_c_is_a_fault_too() -> None:
    """KeyboardInterrupt, which is no Exception, ends a training in the same way."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    ours = Watched(begin=interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        fit(ours)
    gc.collect()
    assert ours.statuses == ["FAILED"]


def wait_until(is_true: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_true()


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gradcam-watcher"]


@pytest.mark.parametrize("fault", [FaultError, KeyboardInterrupt, SystemExit])
def test_a_fit_whose_exception_is_held_is_closed_within_a_second(fault: type[BaseException]) -> None:
    """A notebook holds the last exception, and with it Keras's list: a thread sees that `fit` does not run any more."""

    def fail() -> None:
        raise fault

    ours = Watched(begin=fail)
    with pytest.raises(fault) as held:
        fit(ours)
    wait_until(lambda: ours.statuses == ["FAILED"], 1)
    wait_until(lambda: not watchers(), 1)
    ((_, thread),) = ours.closed
    assert thread.name == "gradcam-watcher"
    del held
    gc.collect()
    assert ours.statuses == ["FAILED"], "once"


def test_a_wrapper_that_holds_the_exception_does_not_keep_the_training_open() -> None:
    """As autolog's does: while it works on after the exception, the training is closed."""
    ours = Watched()

    def wrapped() -> None:
        try:
            fit(ours)
        except FaultError as error:
            wait_until(lambda: ours.statuses == ["FAILED"], 1)
            raise RuntimeError from error

    with pytest.raises(RuntimeError):
        wrapped()


def test_a_thread_that_has_ended_has_left_fit() -> None:
    """Its frames are gone, whoever holds its exception."""
    ours, held = Watched(), []
    thread = threading.Thread(target=lambda: held.append(failing(ours)))
    thread.start()
    thread.join(60)
    wait_until(lambda: ours.statuses == ["FAILED"], 1)
    assert held


def test_a_fit_that_begins_where_one_has_failed_closes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, as it would hide from a watcher that the other is gone. Two callbacks of one `fit` are left alone."""
    monkeypatch.setattr(failed_fit, "LOOK_EVERY", 60)
    failed, one, two = Watched(), Watched(fails=False), Watched(fails=False)
    held = failing(failed)
    assert failed.statuses == []
    fit(one, two)
    assert (failed.statuses, one.statuses, two.statuses) == (["FAILED"], ["FINISHED"], ["FINISHED"])
    assert held


def test_a_stack_that_is_cut_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`faulthandler` writes the hundred innermost calls: a `fit` below these is not taken for one that has failed."""
    monkeypatch.setattr(failed_fit, "LOOK_EVERY", 0.02)

    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        else:
            time.sleep(0.3)

    ours = Watched(fails=False, begin=lambda: deep(120))
    fit(ours)
    assert ours.statuses == ["FINISHED"]


@pytest.mark.parametrize("fault", ["no file", "disk full"])
def test_where_nothing_can_be_written_a_fit_goes_on(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """It is not taken for one that has failed, and is closed when its list is deleted, as without a watcher."""
    monkeypatch.setattr(failed_fit, "LOOK_EVERY", 0.02)

    def unusable(buffering: int) -> Any:
        if fault == "no file":
            raise OSError(24, "Too many open files")
        return Path("/dev/full").open("r+b", buffering=buffering)

    monkeypatch.setattr(failed_fit.tempfile, "TemporaryFile", unusable)
    ours, failed = Watched(fails=False, begin=lambda: time.sleep(0.2)), Watched()
    fit(ours)
    with contextlib.suppress(FaultError):
        fit(failed)
    gc.collect()
    assert (ours.statuses, failed.statuses) == (["FINISHED"], ["FAILED"])


@pytest.mark.usefixtures("long")
def test_a_training_that_ends_leaves_no_watcher() -> None:
    """Not for a moment, and a training that takes longer than several looks is left alone."""
    ours = Watched(fails=False, begin=lambda: time.sleep(5 * failed_fit.LOOK_EVERY))
    fit(ours)
    assert watchers() == []
    assert ours.statuses == ["FINISHED"]


@pytest.mark.usefixtures("long")
def test_who_closes_waits_for_a_watcher_that_closes_already() -> None:
    """So that the next training, or the end of the process, finds everything done."""

    class Slow(Watched):
        def close(self, status: str) -> None:
            failed_fit.unwatch(self)
            time.sleep(1)
            self.closed.append((status, threading.current_thread()))

    first, second = Slow(), Slow()
    held = [failing(first), failing(second)]
    time.sleep(3.5 * failed_fit.LOOK_EVERY)
    assert first not in failed_fit._watched
    failed_fit._close_all()
    assert (first.statuses, second.statuses) == (["FAILED"], ["FAILED"])
    assert len(held) == 2


def test_a_fit_that_still_runs_is_not_closed() -> None:
    """Neither the one around a `fit`, nor one in another thread, whose list is in no frame of this thread."""
    inner, goes_on, has_begun = Watched(fails=False), threading.Event(), threading.Event()
    outer = Watched(fails=False, begin=lambda: fit(inner))
    fit(outer)
    assert (outer.statuses, inner.statuses) == (["FINISHED"], ["FINISHED"])

    def wait() -> None:
        has_begun.set()
        goes_on.wait(60)

    elsewhere = Watched(fails=False, begin=wait)
    thread = threading.Thread(target=fit, args=(elsewhere,))
    thread.start()
    assert has_begun.wait(60)
    fit(Watched(fails=False))
    assert elsewhere.statuses == []
    goes_on.set()
    thread.join(60)
    assert elsewhere.statuses == ["FINISHED"]


def test_a_training_is_not_closed_in_the_thread_that_happens_to_delete_its_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That may be one that the closing waits for, so it is done in its own thread, or else in a new one."""
    monkeypatch.setattr(failed_fit, "LOOK_EVERY", 60)
    ours, held = Watched(), []

    def train() -> None:
        held.append(failing(ours))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(60)
    assert ours.statuses == []
    held.clear()  # the last reference to the exception goes, in this thread
    gc.collect()
    for closing in [thread for thread in threading.enumerate() if thread.name == "gradcam-close"]:
        closing.join(60)
    ((status, closing),) = ours.closed
    assert (status, closing.name) == ("FAILED", "gradcam-close")


def test_a_loop_without_keras_s_list_is_only_closed_at_the_end_of_the_process() -> None:
    """Where hooks are called directly there is no list in any frame, and no `fit` whose end could be seen."""
    ours = Watched()
    ours.on_train_begin()
    fit(Watched(fails=False))
    gc.collect()
    assert ours.statuses == []
    failed_fit._close_all()
    assert ours.statuses == ["FAILED"]


AT_EXIT = """
import tempfile
from pathlib import Path
from gradcam_callbacks.training import failed_fit
from test_failed_fit import Watched, fit

folder = tempfile.TemporaryDirectory()

class Late(Watched):
    def close(self, status):
        super().close(status)
        print(status, Path(folder.name).is_dir())

fit(Late())
"""


@pytest.mark.usefixtures("process")
def test_at_the_end_of_the_process_it_is_closed_before_temporary_folders_go() -> None:
    """Nobody caught the exception, which the interpreter holds: our turn comes before that of earlier functions."""
    ended = subprocess.run(
        [sys.executable, "-c", AT_EXIT],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "FAILED True\n"), ended.stderr
    assert ended.stderr.rstrip().endswith("FaultError")


AT_THE_PROMPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:]
from training.test_failed_fit import Watched, fit

class Noting(Watched):
    def close(self, status):
        super().close(status)
        Path(status).touch()

fit(Noting())
"""


@pytest.mark.usefixtures("process")
def test_a_fit_that_failed_in_an_interactive_session_is_closed() -> None:
    """Nothing of Python runs in its thread then: it waits at the prompt, which holds the exception."""
    Path("script.py").write_text(AT_THE_PROMPT)
    session = subprocess.Popen(
        [sys.executable, "-i", "script.py", str(Path(__file__).parents[1]), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(Path("FAILED").exists, 60)
    assert session.poll() is None
    session.communicate(timeout=60)
