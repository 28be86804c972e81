"""Which probes get cards follows from the setting and the record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.journals import blob_at, make_journal

from gradcam_callbacks import GradCAMCallback, GradCAMError, InMemoryStore
from gradcam_callbacks.publishing.cards import MOST_CARDS, Cards, cards_setting
from gradcam_callbacks.publishing.store import Kind
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing.assessing import Assessment, assess
from gradcam_callbacks.reviewing.drift import drift
from gradcam_callbacks.reviewing.report import read_steps

COUNT = 40


def a_journal(folder: Path, *, moving: Mapping[int, float] | None = None, **more: Any) -> Journal:
    """Of 40 probes and 4 epochs; the maps of some move to and fro by so much of the picture."""
    maps = {}
    for step in range(4):
        now = np.broadcast_to(blob_at(0.3, 0.5), (COUNT, 1, 7, 7)).copy()
        for n, far in (moving or {}).items():
            now[n, 0] = blob_at(0.3 + (step % 2) * far, 0.5)
        maps[step] = now
    journal = make_journal(
        folder / "run",
        names=[f"p{n}" for n in range(COUNT)],
        targets=["predicted"],
        pictures=np.zeros((COUNT, 16, 16, 3), np.uint8),
        steps=range(4),
        maps=maps,
        **more,
    )
    for step in range(1, 4):  # as a recorder measures them
        read, before = journal.read(step), journal.read(step - 1)
        arrays = {**read.arrays, "explained": np.zeros((COUNT, 1), np.int32), "predicted": np.zeros(COUNT, np.int32)}
        journal.append(step, arrays | {"drift": drift(before.maps, read.maps)}, read.logs)
    first = journal.read(0)
    arrays = {**first.arrays, "explained": np.zeros((COUNT, 1), np.int32), "predicted": np.zeros(COUNT, np.int32)}
    journal.append(0, arrays, first.logs)
    return journal


def found_in(journal: Journal) -> Assessment:
    return assess(journal, read_steps(journal))


def cards_of(store: InMemoryStore) -> set[str]:
    return {probe for probe, _ in store.tiles}


@pytest.mark.parametrize("wrong", [-1, "some", "1.5", True, 2.5, "", "٣"])
def test_what_makes_no_sense_is_said_before_a_training(wrong: Any) -> None:
    """The message has the argument, and what to pass."""
    with pytest.raises(GradCAMError, match=r"not .*\. Pass cards=32 for the first ones") as error:
        GradCAMCallback(np.zeros((2, 8, 8, 3), np.uint8), cards=wrong)
    assert error.value.argument == "cards"


def test_settings_are_texts_in_a_record() -> None:
    """None is the default."""
    assert [cards_setting(each) for each in (None, 3, "12", 0, "all", "moved")] == ["", "3", "12", "0", "all", "moved"]


@pytest.mark.parametrize(
    ("setting", "count", "first"),
    [("", 32, 32), ("", 33, 16), ("5", 40, 5), ("50", 40, 40), ("0", 40, 0), ("all", 300, 300), ("moved", 40, 0)],
)
def test_the_first_ones_have_cards_from_the_start(setting: str, count: int, first: int) -> None:
    """Before the record says anything; a small set has all."""
    assert Cards(setting, count).chosen == list(range(first))


def test_those_that_moved_most_are_chosen(tmp_path: Path) -> None:
    """In the order of how much they moved; half of the places first, and those that did not move never."""
    moving = {39: 0.4, 20: 0.3, 3: 0.2}
    found = found_in(a_journal(tmp_path, moving=moving))
    cards = Cards("moved", COUNT)
    assert cards.choose(found) == [39, 20, 3]
    assert cards.choose_last() == []
    many = Cards("moved", COUNT)
    every = found_in(a_journal(tmp_path / "every", moving={n: 0.01 * (n + 1) for n in range(COUNT)}))
    assert many.choose_last() == []
    assert many.choose(every) == list(range(39, 23, -1))
    assert many.choose(every) == list(range(23, 15, -1))
    assert many.choose_last() == list(range(15, 7, -1))
    assert len(many.chosen) == MOST_CARDS
    one_by_one = Cards("moved", COUNT)
    assert [len(one_by_one.choose(every)) for _ in range(7)] == [16, 8, 4, 2, 1, 1, 0]


def test_those_with_something_to_see_are_flagged(tmp_path: Path) -> None:
    """A map that says nothing at the end, and attention that left its region: a tenth of it, and three of what was."""
    journal = a_journal(tmp_path, moving={7: 0.4}, states={(9, 0): "empty"})
    last = journal.read(3)
    focus = np.full((COUNT, 1), 0.8)
    focus[31] = 0.1
    journal.append(2, {**journal.read(2).arrays, "focus": focus}, {})
    focus = focus.copy()
    focus[30:33, 0] = 0.3, 0.06, 0.65
    journal.append(3, {**last.arrays, "focus": focus}, {})
    assert Cards("flagged", COUNT).choose(found_in(journal)) == [9, 30]
    default = Cards("", COUNT)
    assert default.choose(found_in(journal)) == [30]  # the ninth has one already, 7 too
    assert default.chosen == [*range(16), 30]


def test_a_probe_that_joins_gets_its_earlier_steps(tmp_path: Path) -> None:
    """Its card does not open blank."""
    journal = a_journal(tmp_path, moving={39: 0.4}, cards="moved")
    store = InMemoryStore("run")
    sending = Uploader(journal, store)
    for step in range(3):
        assert sending.send({step}, whole=False)
    assert store.tiles == {}
    assert sending.send({3})
    assert sorted(store.tiles) == [(probe, step) for probe in ("all", "p39") for step in range(4)]
    assert sending.missing() == []


def test_who_was_chosen_keeps_the_card_in_another_process(tmp_path: Path) -> None:
    """`gradcam upload` sends the pictures of those that the training chose, though the record says more now."""
    journal = a_journal(tmp_path, moving={39: 0.4, 20: 0.3}, cards="moved")
    store = InMemoryStore("run")

    class NoPictures(InMemoryStore):
        def put(self, item: Any, content: Any, time: float) -> None:
            if item.kind == "image":
                raise ValueError("no")
            store.put(item, content, time)

    assert not Uploader(journal, NoPictures("run")).send()
    again = Uploader(Journal(journal.directory), store)
    assert {item.probe for item in again.missing()} == {"all", "p20", "p39"}
    assert again.send()
    assert cards_of(store) == {"all", "p20", "p39"}


def test_all_probes_are_in_maps_and_page(tmp_path: Path) -> None:
    """Whoever has a card."""
    journal = a_journal(tmp_path, cards="2")
    store = InMemoryStore("run")
    assert Uploader(journal, store).send()
    assert cards_of(store) == {"all", "p0", "p1"}
    assert store.review is not None
    assert '"p39"' in store.review.page


# ---- The contact sheet ----


@pytest.mark.parametrize(
    ("setting", "count", "on_sheet"),
    [("", 3, 3), ("", 32, 16), ("", 33, 16), ("5", 40, 5), ("0", 40, 0), ("all", 300, 16), ("moved", 40, 0)],
)
def test_the_sheet_has_the_first_sixteen_cards(setting: str, count: int, on_sheet: int) -> None:
    """From the start, where those that have cards do not depend on the record."""
    assert Cards(setting, count).on_sheet == tuple(range(on_sheet))


def test_a_sheet_of_chosen_probes_is_made_once(tmp_path: Path) -> None:
    """As soon as 16 are chosen, in the order of the set; later ones do not change it. Fewer wait for the end."""
    found = found_in(a_journal(tmp_path, moving={n: 0.01 * (n + 1) for n in range(COUNT)}))
    many = Cards("moved", COUNT)
    many.choose(found)
    assert many.on_sheet == tuple(range(24, 40))
    many.choose_last()
    assert many.on_sheet == tuple(range(24, 40))
    few = Cards("moved", COUNT)
    few.choose(found_in(a_journal(tmp_path / "few", moving={39: 0.4, 3: 0.2})))
    assert (few.chosen, few.on_sheet) == ([39, 3], ())
    few.choose_last()
    assert few.on_sheet == (3, 39)


@pytest.mark.usefixtures("long")
def test_the_sheet_shows_the_maps_of_its_probes(tmp_path: Path) -> None:
    """A step's sheet changes where the map of a probe that is on it does, and nowhere else; it goes first."""
    still, moving = (a_journal(tmp_path / name, moving=moved) for name, moved in (("a", {}), ("b", {5: 0.4, 20: 0.4})))
    sheets = []
    for journal in (still, moving):
        store = InMemoryStore("run")
        sending = Uploader(journal, store)
        pictures = [str(item) for item in sending.missing() if item.kind is Kind.TILE]
        assert pictures[:2] == ["image/all/0", "image/p0/0"]
        assert sending.send()
        sheets.append(store.tiles["all", 3].astype(int))
    one, other = sheets
    assert one.shape == other.shape
    assert 0.8 < one.shape[0] / one.shape[1] < 1.25
    rows, columns = np.nonzero((one != other).any(axis=-1))
    side = one.shape[1] // 4
    rows -= one.shape[0] - 4 * side  # the title
    assert (rows.min() // side, rows.max() // side) == (1, 1)  # the sixth of 4 x 4: of the 21st nothing is seen
    assert (columns.min() // side, columns.max() // side) == (1, 1)


def test_who_is_on_the_sheet_stays_on_it_in_another_process(tmp_path: Path) -> None:
    """Though others were chosen after them, and come before them in the set."""
    journal = a_journal(tmp_path, moving={n: 0.01 * (n + 1) for n in range(COUNT)}, cards="moved")
    store = InMemoryStore("run")
    assert Uploader(journal, store).send()
    again = Uploader(Journal(journal.directory), store)
    assert again._cards.on_sheet == tuple(range(24, 40))
    assert len(again._cards.chosen) == MOST_CARDS
    assert again.missing() == []


def test_a_probe_named_all_is_not_the_sheet(tmp_path: Path) -> None:
    """It has a card of its own, with another key."""
    journal = make_journal(tmp_path / "run", names=["all", "cat"], steps=range(2))
    store = InMemoryStore("run")
    assert Uploader(journal, store).send()
    assert cards_of(store) == {"all", "all-2", "cat"}
    assert store.tiles["all", 0].shape != store.tiles["all-2", 0].shape
