"""The uploader sends in order, each item once, and tries again; a store that keeps all in memory tells."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.journals import make_journal
from support.reliance import a_test

from gradcam_callbacks import GradCAMError, InMemoryStore
from gradcam_callbacks.publishing.metrics import ARRIVED, step_metrics
from gradcam_callbacks.publishing.recorder import steps_of
from gradcam_callbacks.publishing.store import HungUpError, Item, Kind, UnreachableError
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.health import HEALTHS
from gradcam_callbacks.record.journal import Journal


class Sick(InMemoryStore):
    """Raises at each put as long as there are errors left, and then takes everything, in a list."""

    def __init__(self, *errors: Exception | None, takes_it_first: bool = False) -> None:
        super().__init__("run")
        self.errors = list(errors)
        self.takes_it_first = takes_it_first
        self.arrived: list[str] = []
        self.asked: list[Kind] = []

    def put(self, item: Item, content: Any, time: float) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is None or self.takes_it_first:
            super().put(item, content, time)
            self.arrived.append(str(item))
        if error is not None:
            raise error

    def held(self, kind: Kind) -> Set[Item]:
        self.asked.append(kind)
        return super().held(kind)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Of one probe: before training, and two epochs."""
    return make_journal(tmp_path / "run", names=["cat"], targets=["predicted"], steps=[-1, 0, 1])


ALL = [
    *("description", "metrics/0", "metrics/1", "maps/-1", "maps/0", "maps/1"),
    *("report/1", "image/all/0", "image/cat/0", "image/all/1", "image/cat/1"),
]


def test_items_arrive_in_order_and_once(journal: Journal) -> None:
    """What describes the run, metrics, maps, the review, and pictures last; a second pass sends nothing."""
    store = Sick()
    sending = Uploader(journal, store)
    assert [str(item) for item in sending.missing()] == ALL
    assert sending.send()
    assert store.arrived == ALL
    assert sending.send()
    assert Uploader(Journal(journal.directory), store).send()
    assert store.arrived == ALL
    assert store.asked == []  # a new run need not be asked
    assert store.metrics[1].keys() == step_metrics(journal.read(1), journal.manifest).keys()
    assert store.maps[1] == journal.content(1)
    assert store.tiles["cat", 1].dtype == np.uint8
    assert store.review is not None
    assert store.review.strip.startswith(b"\x89PNG")


def test_an_item_that_failed_holds_up_its_kind_alone(journal: Journal) -> None:
    """After an error at the metrics of step 0, no other metrics are tried in this pass, and all else is sent."""
    store = Sick(None, ValueError("no"))
    sending = Uploader(journal, store)
    assert not sending.send()
    assert str(sending.error) == "no"
    assert store.arrived == [item for item in ALL if not item.startswith("metrics")]
    assert sending.send()
    assert sorted(store.arrived) == sorted(ALL)
    assert store.asked == [Kind.METRICS]  # it may have arrived although it failed


def test_nothing_more_is_tried_when_nobody_answers(journal: Journal) -> None:
    """One request found out; the next one would wait as long."""
    store = Sick(None, UnreachableError("nobody"))
    assert not Uploader(journal, store).send()
    assert store.arrived == ["description"]


@pytest.mark.parametrize("takes_it_first", [False, True])
def test_a_store_that_hung_up_is_asked_again_at_once(journal: Journal, takes_it_first: bool) -> None:
    """The same pass brings the item, and brings it once, whether the first request had arrived or not."""
    store = Sick(None, HungUpError("again"), takes_it_first=takes_it_first)
    assert Uploader(journal, store).send()
    assert store.arrived == ALL
    assert store.asked == [Kind.METRICS]


def test_a_store_that_hangs_up_twice_is_left_for_now(journal: Journal) -> None:
    """The item is missing, and the others have arrived."""
    store = Sick(None, HungUpError("again"), HungUpError("again"))
    sending = Uploader(journal, store)
    assert not sending.send()
    assert [str(item) for item in sending.missing()] == ["metrics/0", "metrics/1"]


def test_what_cannot_be_drawn_is_left_out_and_the_rest_is_sent(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged pictures cost the tiles and the review, and one warning each; they are not tried again."""
    journal.manifest = replace(journal.manifest, pictures=("AAAA",))
    store = Sick()
    sending = Uploader(journal, store)
    assert sending.send()
    assert store.arrived == ["description", "metrics/0", "metrics/1", "maps/-1", "maps/0", "maps/1"]
    assert len(caplog.records) == 5
    assert sending.send()
    assert len(caplog.records) == 5


def test_the_page_arrives_where_the_strip_cannot_be_drawn(
    journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The review is more than its strip."""

    def broken(*_: Any) -> None:
        raise ValueError("no font")

    monkeypatch.setattr("gradcam_callbacks.publishing.run_review.strip", broken)
    store = Sick()
    assert Uploader(journal, store).send()
    assert store.review is not None
    assert store.review.page.startswith("<!doctype html>")
    assert store.review.strip is None
    assert [record.getMessage() for record in caplog.records] == ["The strip of the review could not be drawn."]


def test_maps_that_cannot_be_read_now_are_read_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk is no damage: the next pass tries again."""
    read = Journal.content
    errors = [OSError("the drive is away")]

    def sometimes(self: Journal, step: int) -> bytes:
        if step == 0 and errors:
            raise errors.pop()
        return read(self, step)

    store = Sick()
    sending = Uploader(journal, store)
    held = {number: journal.read(number) for number in journal.steps()}
    monkeypatch.setattr(sending, "_read", held.__getitem__)
    monkeypatch.setattr(Journal, "content", sometimes)
    assert not sending.send()
    assert "maps/0" not in store.arrived
    assert sending.send()
    assert sorted(store.arrived) == sorted(ALL)


def test_the_record_of_one_run_can_be_copied_to_another(journal: Journal) -> None:
    """The marks of the journal are not those of the copy, and stay as they are."""
    assert Uploader(journal, Sick()).send()
    marks = journal.uploaded()
    copy = InMemoryStore("another")
    assert Uploader(journal, copy).send()
    assert set(copy.maps) == {-1, 0, 1}
    assert journal.uploaded() == marks


def test_the_status_is_sent_where_one_is_left(journal: Journal) -> None:
    """`gradcam upload` ends a run that its training could not end."""
    journal.leave_status("FAILED")
    store = InMemoryStore("run")
    sending = Uploader(journal, store)
    assert str(sending.missing()[-1]) == "status"
    sending.send(gives_way=lambda: True)
    assert (store.tiles, store.status) == ({}, InMemoryStore("run").status)  # as long as pictures wait it has not ended
    assert sending.send()
    assert store.status == "FAILED"


def test_earlier_steps_are_taken_back_for_the_review(journal: Journal, tmp_path: Path) -> None:
    """A journal that begins at epoch 2 gets the steps that the run holds, and does not send them again."""
    store = Sick()
    assert Uploader(journal, store).send()
    later = make_journal(tmp_path / "later", names=["cat"], targets=["predicted"], steps=[2], run_id="run")
    assert Uploader(later, store).send()
    assert later.steps() == [-1, 0, 1, 2]
    assert store.arrived == [*ALL, "description", "metrics/2", "maps/2", "report/2", "image/all/2", "image/cat/2"]


def test_a_step_has_arrived_when_the_named_metric_has(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent last, whatever states of a map there are: a new state does not make runs of before look empty."""
    assert ARRIVED == "gradcam_health/non-finite"  # what runs of version 0.1.0 hold
    assert list(step_metrics(journal.read(1), journal.manifest))[-1] == ARRIVED
    states = (*HEALTHS, "blurred")
    monkeypatch.setattr("gradcam_callbacks.publishing.metrics.HEALTHS", states)
    metrics = step_metrics(journal.read(1), journal.manifest)
    assert "gradcam_health/blurred" in metrics
    assert list(metrics)[-1] == ARRIVED


def test_the_steps_of_a_run_are_those_whose_metrics_or_maps_arrived(journal: Journal) -> None:
    """A run may have been asked for no metrics; the baseline is no step of the training."""
    store = Sick(None, None, ValueError("metrics of step 1"))
    Uploader(journal, store).send()
    assert steps_of(store) == {0, 1}
    assert {item.step for item in store.held(Kind.METRICS)} == {0}
    assert {item.step for item in store.held(Kind.MAPS)} == {-1, 0, 1}


def test_a_journal_sends_the_metrics_that_were_asked_for_last(journal: Journal) -> None:
    """Also in another process; without any, no item of them is missing."""
    for asked in ("none", "all"):
        manifest = replace(journal.manifest, metrics=asked)
        Journal.create(journal.directory, manifest=manifest, pictures=journal.pictures())
        store = Sick()
        assert Uploader(Journal(journal.directory), store).send()
        kinds = [name for name in store.arrived if name.startswith("metrics")]
        assert kinds == ([] if asked == "none" else ["metrics/0", "metrics/1"])
        (journal.directory / "uploaded").unlink()
    assert "gradcam_score/cat.predicted" in store.metrics[1]
    (journal.directory / "manifest.json").write_bytes(replace(journal.manifest, metrics="some").encoded())
    with pytest.raises(GradCAMError, match=r"its 'metrics' are not one of means, all, none"):
        Journal(journal.directory)


def test_marks_are_those_of_version_0_1_0() -> None:
    """Journals of before are gone on with."""
    assert str(Item(Kind.TILE, 3, "cat")) == "image/cat/3"
    assert str(Item(Kind.ANIMATION, 3, "cat")) == "animation/cat/3"
    assert str(Item(Kind.MAPS, -1)) == "maps/-1"
    assert str(Item(Kind.REVIEW, 3)) == "report/3"
    assert [str(Item(kind)) for kind in (Kind.DESCRIPTION, Kind.STATUS)] == ["description", "status"]


# ---- Tests of reliance, and the verdict ----


def test_a_test_arrives_before_the_review_that_tells_of_it(journal: Journal) -> None:
    """One item a test, and the verdict is the store's."""
    journal.leave_test(1, a_test("confirmed"))
    store = Sick()
    assert Uploader(journal, store).send()
    assert store.arrived == [*ALL[:6], "test/1", *ALL[6:]]
    assert store.tests == {1: journal.test_content(1)}
    assert store.verdict == "shortcut"
    assert store.summary.startswith("Confirmed by the test: ")
    assert Uploader(Journal(journal.directory), store).missing() == []


def test_a_test_that_is_made_after_the_review_makes_it_anew(journal: Journal) -> None:
    """At the last step, too, and by another process, and where the test of a step is replaced."""
    store = Sick()
    sending = Uploader(journal, store)
    assert sending.send()
    assert store.verdict == "unsettled"
    journal.leave_test(1, a_test("confirmed"))
    assert [str(item) for item in sending.missing()] == ["test/1", "report/1"]
    assert [str(item) for item in Uploader(Journal(journal.directory), store).missing()] == ["test/1", "report/1"]
    assert sending.missing(whole=False) == []
    assert sending.send()
    assert (store.verdict, sending.missing()) == ("shortcut", [])
    journal.leave_test(1, a_test("cleared"))
    assert sending.send()
    assert store.verdict == "unsettled"
    assert store.tests == {1: journal.test_content(1)}


def test_a_test_of_an_earlier_training_is_taken_back_for_the_review(journal: Journal, tmp_path: Path) -> None:
    """It is sent no second time, and a damaged one is left out."""
    store = InMemoryStore("run")
    journal.leave_test(0, a_test("confirmed"))
    assert Uploader(journal, store).send()
    store.tests[-1] = b"damaged"
    later = make_journal(tmp_path / "later/run", names=["cat"], targets=["predicted"], steps=[2])
    sending = Uploader(later, store)
    assert sending.send()
    assert list(later.tests()) == [0]
    assert store.verdict == "shortcut"
    assert sending.missing() == []
