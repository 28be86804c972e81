"""Senders: threads that send pictures, several at once."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class Senders:
    """Threads that are kept for the next batch; they end with whoever holds this."""

    def __init__(self, count: int) -> None:
        """Starts none yet.

        Args:
            count: how many there are.
        """
        self._count = count
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done = threading.Semaphore(0)
        self._begun = 0
        self._threads: list[threading.Thread] = []
        weakref.finalize(self, _dismiss, self._works, count)

    def begin(self, work: Callable[[], None], most: int) -> None:
        """Lets all of them, or so many at most, do a piece of work, each all of it."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=_serve, args=(self._works, self._done), name=f"gradcam-sender-{n}", daemon=True)
                for n in range(self._count)
            ]
            for thread in self._threads:
                thread.start()
        count = min(self._count, most)
        self._begun += count
        for _ in range(count):
            self._works.put(work)

    def wait(self) -> None:
        """Returns when all that was begun is done."""
        while self._begun:
            self._done.acquire()
            self._begun -= 1

    def close(self) -> None:
        """Ends the threads."""
        if self._threads:
            _dismiss(self._works, self._count)
        for thread in self._threads:
            thread.join()
        self._threads = []


def _serve(works: SimpleQueue[Callable[[], None] | None], done: threading.Semaphore) -> None:
    while (work := works.get()) is not None:
        try:
            work()
        except Exception:
            logger.exception("A picture could not be sent.")
        finally:
            work = None
            done.release()


def _dismiss(works: SimpleQueue[Callable[[], None] | None], count: int) -> None:
    for _ in range(count):
        works.put(None)
