"""Worker: the thread that sends, so that the training does not wait."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from gradcam_callbacks.publishing.live import LiveView
from gradcam_callbacks.publishing.uploader import AT_ONCE, Uploader
from gradcam_callbacks.record.step import BASELINE
from gradcam_callbacks.reviewing.verdict import Verdict

logger = logging.getLogger(__name__)

REPORT_EVERY = 5
"""Steps after which the review page is written anew, at least; of a long training more."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries while a store is away, at most."""
PICTURES_REST, LONGEST_REST = 15, 5.0
"""How many times as long as the last pictures took the next ones wait, and how many seconds at most.

That is while the training goes on: drawing and sending takes the processor from it, and so does a server on the same
machine.
"""
LONGEST_WAY = 1.0
"""Seconds that a picture waits for the training thread, at most."""


class Worker:
    """Sends the steps of a journal, in order, on a thread of its own.

    After a failure there is one warning, then quiet tries with growing pauses until the store takes them again.

    Attributes:
        uploader: what sends.
        failures: how many passes have failed.
    """

    def __init__(self, uploader: Uploader, live: LiveView | None = None) -> None:
        """Starts the thread; what describes the run is sent first.

        Args:
            uploader: what sends.
            live: where the newest step is shown, too.
        """
        self.uploader = uploader
        self._live = live
        self._shown: tuple[int, Verdict | None] = BASELINE - 1, None  # the step, and the verdict
        self.failures = 0
        self._steps: set[int] = set()
        self._unreported = 0
        self._recorded = 0
        self._is_review_due = False
        self._has_news = False  # since the pass under way began
        self._changed = threading.Condition()
        self._closing = False
        self._stopping = False
        self._waiters = 0  # threads in `wait`
        self._pictures_at = 0.0  # when the next pictures may be sent, by the monotonic clock
        self._has_way = threading.Event()
        self._has_way.set()
        self._is_done = False
        self._thread = threading.Thread(target=self._work, name="gradcam-worker", daemon=True)
        self._thread.start()

    def put(self, step: int) -> None:
        """Asks for a recorded step to be sent; returns at once."""
        with self._changed:
            self._steps.add(step)
            self._recorded += 1
            self._has_news = True
            self._is_done = False
            self._changed.notify_all()

    def review(self) -> None:
        """Asks for what is of the whole record to be sent, with what was recorded so far; returns at once."""
        with self._changed:
            self._is_review_due = True
            self._has_news = True
            self._is_done = False
            self._changed.notify_all()

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Lets the training thread go first: inside, no picture is begun, since threads share the interpreter."""
        self._has_way.clear()
        try:
            yield
        finally:
            self._has_way.set()

    def wait(self, timeout: float) -> bool:
        """Whether everything so far has arrived within so many seconds; earlier if a try failed."""
        before = self.failures
        self._has_way.set()  # who waits for the worker does not go first
        with self._changed:
            self._waiters += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._is_done or self.failures > before, timeout)
            finally:
                self._waiters -= 1
            return self._is_done

    def close(self, timeout: float) -> None:
        """Waits until everything has arrived, and ends the thread.

        Args:
            timeout: seconds to wait at most.
        """
        with self._changed:
            self._closing = True
            self._has_news = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        try:
            self._thread.join(min(1.0, timeout))
            if self._thread.is_alive() and timeout > 1:
                where = self.uploader.store.title
                print(f"Waiting up to {timeout:.0f} s for {where} to take the last heatmaps …", flush=True)  # noqa: T201
            self._thread.join(max(0.0, deadline - time.monotonic()))
        finally:  # also after Ctrl-C
            with self._changed:
                self._stopping = True  # a request cannot be interrupted: the thread ends when it returns
                self._changed.notify_all()
            if self._thread.is_alive():
                self.uploader.stop_drawing()
        self._thread.join(0.5)

    def _work(self) -> None:
        pause = 0.0
        while not self._stopping:
            with self._changed:
                steps, is_last, is_due = set(self._steps), self._closing, self._is_review_due
                self._is_review_due = self._has_news = False
            due = max(REPORT_EVERY, self._recorded // 5)
            whole = is_last or is_due or self._unreported + len(steps) >= due
            is_hurried = is_last or self._is_waited_for()
            has_pictures = is_hurried or time.monotonic() >= self._pictures_at
            self._show(max(steps, default=BASELINE - 1))
            arrived = self.uploader.send(
                steps,
                whole=whole,
                is_over=is_last,
                most_pictures=None if is_hurried else AT_ONCE * has_pictures,
                stop=lambda: self._stopping,
                gives_way=self._gives_way,
            )
            self._show(self._shown[0], is_last=is_last)
            if has_pictures:
                rest = min(PICTURES_REST * self.uploader.picture_seconds, LONGEST_REST)
                self._pictures_at = time.monotonic() + rest
            pause = 0.0 if arrived else min(2 * pause or 1.0, LONGEST_PAUSE)
            if not arrived and not self._stopping:
                self._failed()
            with self._changed:
                if arrived:
                    self._steps -= steps
                    self._unreported = 0 if whole else self._unreported + len(steps)
                else:
                    self._is_review_due |= is_due
                is_left = bool(self._steps) or self._is_review_due or self.uploader.has_waiting
                self._is_done = arrived and not is_left
                self._changed.notify_all()
                if self._is_done and is_last:
                    break
                self._rest(pause)
        if not self._stopping:
            self.uploader.tidy()
        self.uploader.close()

    def _show(self, step: int, *, is_last: bool = False) -> None:
        """Shows a step if it is newer than the one that is shown, and the verdict if it is another one."""
        verdict = self.uploader.verdict
        is_newer = step > self._shown[0]
        if self._live is None or not (is_newer or verdict != self._shown[1] or is_last):
            return
        self._shown = max(step, self._shown[0]), verdict
        words = f"The verdict comes with the review: after {REPORT_EVERY} records, or at the end."
        if verdict is not None:
            words = f"Verdict{'' if is_last else ' so far'}: {verdict.name}. {verdict.sentence}"
        png = None
        if is_newer:
            self._has_way.wait(LONGEST_WAY)
            try:
                png = self.uploader.live_picture(step)
            except Exception:
                logger.debug("Step %d cannot be shown.", step, exc_info=True)
        self._live.show(words, png, f"Grad-CAM of the first probes at step {step}")

    def _is_waited_for(self) -> bool:
        """Whether somebody waits until all has arrived."""
        return self._closing or self._stopping or self._waiters > 0

    def _gives_way(self) -> bool:
        """Asked before each picture: whether something waits that goes first. The training thread is waited for."""
        if not self._stopping:
            self._has_way.wait(LONGEST_WAY)
        return self._has_news

    def _rest(self, pause: float) -> None:
        """Waits for more to send, or for the next try; called with the lock held.

        Args:
            pause: seconds until the next try; 0 where the last one succeeded.
        """
        if self._is_done:
            self._changed.wait_for(lambda: self._closing or not self._is_done)
        elif not pause:  # pictures are left
            left = self._pictures_at - time.monotonic()
            self._changed.wait_for(lambda: self._has_news or self._is_waited_for(), max(0.0, left))
        else:
            self._changed.wait_for(lambda: self._closing, pause)
            if self._closing:  # `close` waits: the next try comes after a second at most
                self._changed.wait_for(lambda: self._stopping, min(pause, 1.0))

    def _failed(self) -> None:
        error = self.uploader.error
        self.failures += 1
        if self.failures == 1:
            logger.warning(
                "%s did not take the heatmaps of run %s (%s); training goes on. They are kept in '%s' and sent when it "
                "takes them again.",
                self.uploader.store.title,
                self.uploader.store.run_id,
                (str(error).strip().splitlines() or [type(error).__name__])[0],
                self.uploader.journal.directory,
            )
