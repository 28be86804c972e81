"""The worker sends numbers before pictures, whatever waits, and gives way to the training."""

from __future__ import annotations

import threading
import time as clock
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.journals import make_journal

from gradcam_callbacks import InMemoryStore
from gradcam_callbacks.publishing.store import Item, Kind
from gradcam_callbacks.publishing.uploader import AT_ONCE, Uploader
from gradcam_callbacks.publishing.worker import Worker
from gradcam_callbacks.record.journal import Journal


class Slow(InMemoryStore):
    """Takes its time for each picture, and keeps the order of what arrived."""

    tiles_at_once = 4

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__("run")
        self.seconds = seconds
        self.arrived: list[str] = []
        self.has_picture = threading.Event()
        self.at_once = self.most_at_once = 0

    def put(self, item: Item, content: Any, time: float) -> None:
        if item.kind is Kind.TILE:
            self.has_picture.set()
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            clock.sleep(self.seconds)
            self.at_once -= 1
        super().put(item, content, time)
        self.arrived.append(str(item))


def a_journal(folder: Path, probes: int, steps: int, **manifest: Any) -> Journal:
    """Of small pictures."""
    names = [f"p{n}" for n in range(probes)]
    small = np.zeros((probes, 16, 16, 3), np.uint8)
    return make_journal(folder / "run", names=names, pictures=small, steps=range(steps), **manifest)


@pytest.mark.usefixtures("long")
def test_after_a_short_wait_only_pictures_are_missing(tmp_path: Path) -> None:
    """256 probes whose pictures take an hour: the numbers of all steps and the page of the last one are there."""
    store = Slow(seconds=0.3)
    uploader = Uploader(a_journal(tmp_path, 256, 8, cards="all"), store)
    worker = Worker(uploader)
    for step in range(8):
        worker.put(step)
    assert store.has_picture.wait(60)
    worker.close(3)
    assert set(store.metrics) == set(store.maps) == set(range(8))
    assert store.review is not None
    missing = uploader.missing()
    assert {item.kind for item in missing} == {Kind.TILE}
    assert len(missing) > 1500
    assert "report/7" in store.arrived


@pytest.mark.usefixtures("long")
def test_the_numbers_of_a_new_step_go_before_pictures_that_wait(tmp_path: Path) -> None:
    """At most those that are drawn or on their way are sent before."""
    store = Slow(seconds=0.02)
    worker = Worker(Uploader(a_journal(tmp_path, 32, 4), store))
    for step in range(3):
        worker.put(step)
    waiting = threading.Thread(target=worker.wait, args=(60,))
    waiting.start()  # so that pictures follow each other
    assert store.has_picture.wait(30)
    before = len(store.arrived)
    worker.put(3)
    assert worker.wait(60)
    waiting.join()
    worker.close(10)
    after = store.arrived[before:]
    assert after.index("metrics/3") <= 2 * AT_ONCE
    assert after.index("maps/3") <= 2 * AT_ONCE + 1
    assert len(store.tiles) == 4 * 33
    assert 1 < store.most_at_once <= store.tiles_at_once


def test_a_store_gets_one_tile_at_a_time_unless_it_takes_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that says nothing of it need not be made for several threads."""
    monkeypatch.delattr(Slow, "tiles_at_once")
    store = Slow(seconds=0.02)
    assert Uploader(a_journal(tmp_path, 8, 2), store).send()
    assert store.most_at_once == 1


def test_each_card_begins_with_the_first_step_and_then_has_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures wait in this order."""
    journal = a_journal(tmp_path, 2, 5)
    monkeypatch.delattr(Slow, "tiles_at_once")
    store = Slow()
    sending = Uploader(journal, store)
    pictures = [item.step for item in sending.missing() if item.kind is Kind.TILE]
    assert pictures == [0, 0, 0, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1]
    assert sending.send()
    arrived = [int(item.rpartition("/")[2]) for item in store.arrived if item.startswith("image")]
    assert arrived == pictures


def test_no_picture_is_begun_while_the_training_goes_first(tmp_path: Path) -> None:
    """They wait until they may, and are sent without being asked for again; numbers do not wait."""
    store = Slow()
    worker = Worker(Uploader(a_journal(tmp_path, 2, 1), store))
    assert worker.wait(10)
    with worker.undisturbed():
        worker.put(0)
        clock.sleep(0.3)
        assert store.tiles == {}
        assert set(store.metrics) == {0}
    assert worker.wait(10)
    assert len(store.tiles) == 3
    worker.close(10)


def test_a_step_that_is_recorded_while_another_is_sent_arrives(tmp_path: Path) -> None:
    """Without waiting for the end of the training."""
    is_sending, may_go_on = threading.Event(), threading.Event()

    class Held(Slow):
        def put(self, item: Item, content: Any, time: float) -> None:
            if str(item) == "maps/0":
                is_sending.set()
                may_go_on.wait(10)
            super().put(item, content, time)

    store = Held()
    worker = Worker(Uploader(a_journal(tmp_path, 1, 2), store))
    worker.put(0)
    assert is_sending.wait(10)
    worker.put(1)
    may_go_on.set()
    assert worker.wait(10)
    assert set(store.metrics) == set(store.maps) == {0, 1}
    worker.close(10)


def test_the_review_is_made_anew_with_the_fifth_record(tmp_path: Path) -> None:
    """As people are told who wait for the verdict, and not before."""
    store = Slow()
    worker = Worker(Uploader(a_journal(tmp_path, 1, 5), store))
    for step in range(5):
        assert store.review is None
        worker.put(step)
        assert worker.wait(10)
    assert store.review is not None
    worker.close(10)


@pytest.mark.usefixtures("long")
def test_a_review_that_failed_is_made_again_after_a_second(tmp_path: Path) -> None:
    """It was asked for, so that no new step is needed for it."""

    class Sick(Slow):
        is_sick = False

        def put(self, item: Item, content: Any, time: float) -> None:
            if self.is_sick:
                self.is_sick = False
                raise OSError("full")
            super().put(item, content, time)

    store = Sick()
    worker = Worker(Uploader(a_journal(tmp_path, 1, 1), store))
    worker.put(0)
    assert worker.wait(10)
    assert store.review is None
    store.is_sick = True
    worker.review()
    assert worker.wait(5) or worker.wait(5)  # the first one returns where a try failed
    assert worker.failures == 1
    assert store.review is not None
    worker.close(10)


@pytest.mark.usefixtures("long")
def test_pictures_leave_time_to_the_training(tmp_path: Path) -> None:
    """Numbers are sent at once; after a batch of pictures the next one waits, until somebody waits for all."""
    store = Slow(seconds=0.2)
    worker = Worker(Uploader(a_journal(tmp_path, 16, 3), store))
    for step in range(3):
        worker.put(step)
    clock.sleep(2)
    assert set(store.metrics) == set(store.maps) == {0, 1, 2}
    assert 0 < len(store.tiles) <= 2 * AT_ONCE
    assert worker.wait(30)
    assert len(store.tiles) == 3 * 17
    worker.close(10)


def test_a_step_costs_the_same_whatever_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over new steps neither lists the journal nor looks at other steps, but for the review."""
    journal = a_journal(tmp_path, 2, 30)
    store = Slow()
    sending = Uploader(journal, store)
    asked: list[str] = []
    listed, marked = Journal.steps, Uploader._mark_of
    monkeypatch.setattr(Journal, "steps", lambda self: asked.append("steps") or listed(self))
    monkeypatch.setattr(Uploader, "_mark_of", lambda self, item: asked.append(str(item)) or marked(self, item))
    counts = []
    for step in range(30):
        asked.clear()
        assert sending.send({step}, whole=False)
        counts.append(len(asked))
    assert "steps" not in asked
    assert counts[1:] == [counts[1]] * 29
