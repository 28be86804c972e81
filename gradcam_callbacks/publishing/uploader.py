"""Uploader: sends what a journal holds and a run lacks, in order, each item once."""

from __future__ import annotations

import bisect
import logging
import os
import shutil
import tempfile
import threading
import time
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.slugs import SHEET, ascii_slugs
from gradcam_callbacks.publishing import living
from gradcam_callbacks.publishing.cards import Cards
from gradcam_callbacks.publishing.credentials import without_credentials
from gradcam_callbacks.publishing.metrics import step_metrics
from gradcam_callbacks.publishing.render_process import Drawn
from gradcam_callbacks.publishing.renderer import Renderer
from gradcam_callbacks.publishing.senders import Senders
from gradcam_callbacks.publishing.store import EncodedTile, HungUpError, Item, Kind, Review, Store, UnreachableError
from gradcam_callbacks.publishing.tiles import MOST_FRAMES, Sheet, animation, thinned
from gradcam_callbacks.record.files import write_whole
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.parts import part_folder, run_folder
from gradcam_callbacks.record.step import BASELINE, Step, compressed
from gradcam_callbacks.reviewing.report import read_steps
from gradcam_callbacks.reviewing.verdict import Verdict

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

AT_ONCE = 8
"""How many pictures are drawn while those before are on their way."""
_IN_ROW, _ROW = 8, 104
"""How many probes a notebook shows while a training goes on, and how many pixels wide each is."""
_CARD = "card/"
"""How the mark of a probe that was chosen to have a card begins."""
_ON_SHEET = "sheet/"
"""How the mark of one that is on the contact sheet begins."""


class _UnusableError(Exception):
    """What cannot be read or drawn: no later try will help, and no other item suffers."""


class _EndedError(Exception):
    """The pass has to end: nobody answers, or it was stopped."""


@dataclass(frozen=True)
class Kept:
    """A part of a run that has arrived as a whole, and whose journal is gone.

    Attributes:
        manifest: of its journal.
        steps: the files of its steps, by number; those that are not here are fetched from the run.
        tests: the files of its tests, likewise.
    """

    manifest: Manifest
    steps: dict[int, bytes] = field(default_factory=dict)
    tests: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pass:
    """One pass over what is missing.

    Attributes:
        stop: asked before each item.
        on_item: told of each item that has arrived.
        failed: the kinds of which an item has failed; others of that kind are left for the next pass.
    """

    stop: Callable[[], bool]
    on_item: Callable[[Item], None]
    failed: set[Kind] = field(default_factory=set)


class Uploader:
    """Sends the items of a journal to a store.

    What has arrived is marked in the journal. Where that is not sure, because a request failed, the store is asked.

    A journal is one part of its run, see `record.parts`. The journals of other parts are sent with it, and the review
    tells of all parts: of those that have no journal any more as the run holds them.

    Attributes:
        journal: where the steps are read from.
        store: the part of the run that gets them.
        error: what went wrong in the last pass, or None.
        verdict: what the run came to when the review was last made, or None.
        ends_run: whether to end the run, too, where the journal says with what.
        picture_seconds: how long the last pass drew and sent pictures.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        *,
        has_animation: bool = False,
        earlier: Mapping[int, bytes] | None = None,
        earlier_tests: Mapping[int, bytes] | None = None,
        others: Sequence[Uploader] = (),
        kept: Mapping[int, Kept] | None = None,
    ) -> None:
        """Sends nothing yet.

        Args:
            journal: of the run, or of another one whose record is to be copied.
            store: the run, as it was opened.
            has_animation: whether each probe gets an animated picture.
            earlier: files of steps that the run holds and the journal does not, by number; others are fetched from the
                run.
            earlier_tests: files of its tests, likewise.
            others: of the other parts of the run that have journals.
            kept: the other parts that have none, by number; those that are not here are fetched from the run.
        """
        self.journal = journal
        self.store = store if journal.manifest.part == 1 else store.part(journal.manifest.part)
        self.error: Exception | None = None
        self.verdict: Verdict | None = None
        directories = [journal.directory, *(other.journal.directory for other in others)]
        self.ends_run = not any(living.is_held(directory / "status") for directory in directories)  # who trains ends it
        self.picture_seconds = 0.0
        self._probes = ascii_slugs(journal.manifest.probe_slugs)
        page = journal.manifest.page
        self._sheet, *self._tiles = (name if page == 1 else f"part{page}/{name}" for name in (SHEET, *self._probes))
        self._index = {name: n for names in (self._probes, self._tiles) for n, name in enumerate(names)}
        self._has_animation = has_animation
        self._earlier = dict(earlier or {})
        self._earlier_tests = dict(earlier_tests or {})
        self._is_copy = store.run_id != journal.manifest.run_id
        self._sent: set[str] = set() if self._is_copy else set(journal.uploaded())
        self._unusable: set[Item] = set()
        # A new run need not be asked what it holds.
        self._held: dict[Kind, Set[Item]] = {Kind.METRICS: set(), Kind.TILE: set()} if store.is_new else {}
        self._is_tidy = self._has_earlier = store.is_new
        self._step: Step | None = None
        self._frames: tuple[int, list[Step]] = (BASELINE, [])
        self._renderer = Renderer(journal)
        self._senders = Senders(getattr(store, "tiles_at_once", 1))
        self._asking = threading.Lock()  # held by the sender that asks the store what it holds
        chosen, on_sheet = (
            [n for n, probe in enumerate(self._probes) if mark + probe in self._sent] for mark in (_CARD, _ON_SHEET)
        )
        self._cards = Cards(journal.manifest.cards, len(self._probes), chosen, on_sheet)
        self._has_sheet = bool(self._cards.on_sheet)
        self._seen: set[int] = set()  # steps whose pictures wait, or have waited
        self._first = BASELINE  # of these
        self._waiting: dict[int, list[Item]] = {}  # pictures of these steps
        self._order: list[int] = []  # the steps with pictures that wait
        self._run = store
        self._tells = True  # of the run: it makes the review
        self._others, self._unsent = list(others), list(others)
        self._kept = dict(kept or {})
        self._copies: dict[int, Uploader] = {}  # of the other parts that have no journal
        self._removals: list[weakref.finalize[..., Any]] = []
        self._has_copies = store.is_new
        for other in others:
            other._tells = other.ends_run = False
            other._is_tidy = True  # one of them is enough

    @property
    def has_waiting(self) -> bool:
        """Whether pictures wait that a pass has taken up and not sent."""
        return bool(self._order) or any(other.has_waiting for other in self._unsent)

    @property
    def journals(self) -> list[Journal]:
        """Of all parts of the run, as far as they are known: also copies of what the run alone holds."""
        return [self.journal, *(other.journal for other in (*self._others, *self._copies.values()))]

    @property
    def _status(self) -> str | None:
        """What the run is still to be ended with, as one of its journals says; None where it is not."""
        return next((journal.status for journal in self.journals if journal.status is not None), None)

    def remove_copies(self) -> None:
        """Removes what was fetched of parts that have no journal here; a next review fetches it again."""
        for remove in self._removals:
            remove()
        self._removals, self._copies, self._has_copies = [], {}, self.store.is_new

    def missing(self, steps: Collection[int] | None = None, *, whole: bool = True) -> list[Item]:
        """The items that are not known to have arrived, in the order in which they are sent.

        Numbers come before pictures: the description, all metrics, all maps, the tests, the review. Each card then
        begins with its first step; the newest one follows, and those before it. What is missing of other parts of the
        run comes first.

        Args:
            steps: of which steps; all of the journal by default.
            whole: whether to count what is of the whole record.
        """
        others = [item for other in self._unsent for item in other.missing()]
        recorded = self.journal.steps() if steps is None or whole else []
        numbers = recorded if steps is None else sorted(steps)
        items = [*self._numbers(numbers), *(self._of_record(recorded) if whole else [])]
        pictured = [step for step in numbers if step != BASELINE]
        items += [item for step in _first_and_newest(pictured) for item in self._pictures(step)]
        items += self._of_end(recorded) if whole else []
        return others + [item for item in items if self._mark_of(item) not in self._sent]

    def send(
        self,
        steps: Collection[int] | None = None,
        *,
        whole: bool = True,
        is_over: bool = True,
        most_pictures: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        gives_way: Callable[[], bool] = lambda: False,
        on_item: Callable[[Item], None] = lambda item: None,
    ) -> bool:
        """Tries each missing item once.

        After a failure, other items of that kind are left for the next pass. Where the store cannot be reached, the
        pass ends.

        Args:
            steps: which steps; all of the journal by default. Pictures that an earlier pass has left are sent, too.
            whole: whether to send what is of the whole record.
            is_over: whether the record is complete: then `whole` counts animations and the status, too.
            most_pictures: how many pictures to send at most, in steps of `AT_ONCE`; others are left for the next pass.
            stop: asked before each item.
            gives_way: asked before each picture: whether to leave the others for the next pass, since something waits
                that goes first.
            on_item: told of each item that has arrived.

        Returns:
            Whether everything has arrived that can be read, but for pictures that are left; see `has_waiting`.
        """
        self.error = None
        recorded = self.journal.steps() if steps is None or whole else []
        numbers = recorded if steps is None else sorted(steps)
        for step in numbers:
            self._let_wait(step)
        one_pass = _Pass(stop, on_item)
        try:
            self._send_others(one_pass, gives_way, most_pictures=0)
            self._send_each([*self._numbers(numbers), *(self._of_record(recorded) if whole else [])], one_pass)
            if whole and is_over:
                self._give_cards(self._cards.choose_last())
            have_arrived = self._send_others(one_pass, gives_way, most_pictures)
            self._send_pictures(one_pass, gives_way, most_pictures)
            if whole and is_over and not gives_way():
                self._send_each(self._of_end(recorded), one_pass)
        except _EndedError:
            return False
        return not one_pass.failed and have_arrived

    def live_picture(self, number: int) -> bytes:
        """A PNG of the first probes at a step, in one row; to be asked for by the thread that sends.

        Raises:
            Exception: if it cannot be drawn.
        """
        step, content = self._read(number), self.journal.content(number)
        shown = Sheet(tuple(range(min(_IN_ROW, len(self._probes)))), row=_ROW)
        (drawn,) = self._renderer.tiles(step, content, [shown], is_encoded=True)
        if isinstance(drawn, Exception):
            raise drawn
        assert isinstance(drawn, EncodedTile)
        return drawn.png

    def close(self) -> None:
        """Ends the process that draws, and the threads that send; also those of other parts."""
        for other in self._others:
            other.close()
        self._renderer.close()
        self._senders.close()

    def stop_drawing(self) -> None:
        """Ends the process that draws; may be called from any thread."""
        for other in self._others:
            other.stop_drawing()
        self._renderer.close()

    def _numbers(self, steps: Collection[int]) -> list[Item]:
        """What describes the run, and the numbers of steps."""
        has_metrics = self.journal.manifest.metrics != "none"
        metrics = [Item(Kind.METRICS, step) for step in steps if has_metrics and step != BASELINE]  # from epoch 0 on
        return [Item(Kind.DESCRIPTION), *metrics, *(Item(Kind.MAPS, step) for step in steps)]

    def _of_record(self, recorded: list[int]) -> list[Item]:
        """What is of the whole record, and goes before the pictures."""
        if not recorded:
            return []
        review = [Item(Kind.REVIEW, recorded[-1])] if self._tells else []
        return [*(Item(Kind.TEST, step) for step in self.journal.tests()), *review]

    def _of_end(self, recorded: list[int]) -> list[Item]:
        """What is sent last."""
        items = []
        if self._has_animation and recorded:
            items += [Item(Kind.ANIMATION, recorded[-1], self._probes[n]) for n in self._cards.chosen]
        if self.ends_run and not self._is_copy and self._status is not None:
            items.append(Item(Kind.STATUS))
        return items

    def _pictures(self, step: int) -> list[Item]:
        """The pictures of a step, one a card; the contact sheet is the first."""
        return [*self._sheets([step]), *(self._tile(step, n) for n in sorted(self._cards.chosen))]

    def _sheets(self, steps: Iterable[int]) -> list[Item]:
        """The contact sheets of steps; none as long as it is not known who is on them."""
        return [Item(Kind.TILE, step, self._sheet) for step in steps if self._cards.on_sheet]

    def _tile(self, step: int, n: int) -> Item:
        return Item(Kind.TILE, step, self._tiles[n])

    def _drawing_of(self, item: Item) -> int | Sheet:
        """What to draw for a picture."""
        return Sheet(self._cards.on_sheet) if item.probe == self._sheet else self._index[item.probe or ""]

    def _send_others(self, one_pass: _Pass, gives_way: Callable[[], bool], most_pictures: int | None) -> bool:
        """Sends other parts of the run that have journals; see `send`.

        Returns:
            Whether all of them has arrived that can be read, but for pictures that are left.

        Raises:
            _EndedError: if the pass has to end.
        """
        have_arrived = True
        for other in list(self._unsent):
            if other.send(
                stop=one_pass.stop, gives_way=gives_way, most_pictures=most_pictures, on_item=one_pass.on_item
            ):
                if not other.missing():  # else something of it cannot be read
                    self._unsent.remove(other)
                continue
            have_arrived = False
            self.error = self.error or other.error
            if one_pass.stop() or isinstance(other.error, UnreachableError):
                raise _EndedError
        return have_arrived

    def _send_each(self, items: Collection[Item], one_pass: _Pass) -> None:
        """Sends what has not arrived, one after the other.

        Raises:
            _EndedError: if the pass has to end.
        """
        for item in items:
            if self._mark_of(item) not in self._sent:
                self._try(item, partial(self._send, item), one_pass)

    def _try(self, item: Item, put: Callable[[], None], one_pass: _Pass) -> None:
        """Sends an item; what goes wrong is kept in `error`. Pictures are tried by several threads at once.

        Args:
            item: which.
            put: sends it.
            one_pass: the pass.

        Raises:
            _EndedError: if the pass has to end.
        """
        if one_pass.stop():
            raise _EndedError
        if item.kind in one_pass.failed or item in self._unusable:
            return
        try:
            self._deliver(item, put)
        except _UnusableError as error:
            self.error = self.error or error
            self._unusable.add(item)
            logger.warning("'%s' cannot be sent: %s", item, error)
            logger.debug("The reason:", exc_info=error)
            return
        except Exception as error:  # whatever store or network it is: the item is kept, and tried again
            one_pass.failed.add(item.kind)
            self.error = self.error or error
            if isinstance(error, UnreachableError):
                raise _EndedError from error
            return
        one_pass.on_item(item)
        if not self._mark(item):
            raise _EndedError

    def _let_wait(self, step: int) -> None:
        """Takes up the pictures of a step, once."""
        if step not in self._seen and step != BASELINE:
            self._seen.add(step)
            self._first = step if self._first == BASELINE else min(step, self._first)
            self._queue(self._pictures(step))

    def _queue(self, items: Iterable[Item]) -> None:
        """Lets pictures wait that have not arrived."""
        for item in items:
            if str(item) in self._sent or item in self._unusable:
                continue
            assert item.step is not None
            if item.step not in self._waiting:
                bisect.insort(self._order, item.step)
                self._waiting[item.step] = []
            if item.probe == self._sheet:  # what people look at first
                self._waiting[item.step].insert(0, item)
            else:
                self._waiting[item.step].append(item)

    def _taken(self) -> list[Item]:
        """The next pictures of one step, which do not wait any more: of the first step, or else of the newest."""
        if not self._order:
            return []
        place = 0 if self._order[0] == self._first else -1
        waiting = self._waiting[self._order[place]]
        taken, waiting[:AT_ONCE] = waiting[:AT_ONCE], []
        if not waiting:
            del self._waiting[self._order.pop(place)]
        return taken

    def _send_pictures(self, one_pass: _Pass, gives_way: Callable[[], bool], most: int | None) -> None:
        """Sends the pictures that wait: some are on their way while the next are drawn.

        Raises:
            _EndedError: if the pass has to end.
        """
        is_ended = threading.Event()
        taken: list[Item] = []
        begun = time.monotonic()

        def has_to_end() -> bool:
            return is_ended.is_set() or Kind.TILE in one_pass.failed or gives_way() or one_pass.stop()

        def send(left: deque[tuple[Item, Callable[[], None]]]) -> None:
            with suppress(IndexError):  # another sender has taken the last one
                while not has_to_end():
                    item, put = left.popleft()
                    try:
                        self._try(item, put, one_pass)
                    except _EndedError:
                        is_ended.set()

        try:
            while (most is None or len(taken) < most) and not has_to_end() and (items := self._taken()):
                taken += items
                drawn = deque(zip(items, self._drawn(items), strict=True))
                self._senders.wait()
                self._senders.begin(partial(send, drawn), len(items))
        finally:
            self._senders.wait()
            self._queue(taken)
            self.picture_seconds = time.monotonic() - begun
        if is_ended.is_set() or one_pass.stop():
            raise _EndedError

    def _drawn(self, items: Sequence[Item]) -> list[Callable[[], None]]:
        """For each picture of one step what sends it; those that the store holds are not drawn."""
        needed = list(items)
        with suppress(Exception):  # `_deliver` asks again, and deals with it
            needed = [item for item in items if not self._is_there(item)]
        number, recorded = items[0].step, 0.0
        assert number is not None
        is_encoded = getattr(self.store, "takes_encoded_tiles", False)
        found: list[Drawn] = []
        try:
            if needed:
                step, content = self._read(number), self.journal.content(number)
                recorded = step.time
                shown = [self._drawing_of(item) for item in needed]
                found = self._renderer.tiles(step, content, shown, is_encoded=is_encoded)
        except Exception as error:
            found = [error] * len(needed)
        drawn = dict(zip(needed, found, strict=True))
        return [partial(self._put_picture, item, drawn.get(item), recorded) for item in items]

    def _put_picture(self, item: Item, drawn: Drawn | None, recorded: float) -> None:
        """Sends a picture.

        Raises:
            _UnusableError: if it could not be drawn.
        """
        if isinstance(drawn, Exception):
            raise _UnusableError(str(drawn) or type(drawn).__name__) from drawn
        if drawn is None:
            raise ValueError(f"'{item}' is not there any more.")
        self.store.put(item, drawn, recorded)

    def _give_cards(self, probes: Iterable[int]) -> None:
        """Lets probes that were chosen have cards, from the first step on, and the sheet once it is known."""
        steps = sorted(self._seen)
        for n in probes:
            self._remember(_CARD + self._probes[n])
            self._queue(self._tile(step, n) for step in steps)
        if self._cards.on_sheet and not self._has_sheet:
            self._has_sheet = True
            self._remember(*(_ON_SHEET + self._probes[n] for n in self._cards.on_sheet))
            self._queue(self._sheets(steps))

    def _remember(self, *marks: str) -> bool:
        """Keeps marks, also in the journal; false where a strict journal cannot."""
        self._sent.update(marks)
        if not self._is_copy:
            try:
                self.journal.mark_uploaded(*marks)
            except OSError as error:  # of a strict journal
                self.error = error
                return False
        return True

    def tidy(self) -> None:
        """Removes what is there twice because it arrived after it had been given up."""
        if not self._is_tidy:
            with suppress(Exception):  # two copies harm nobody
                self.store.tidy()
                self._is_tidy = True

    def _mark(self, *items: Item) -> bool:
        """Remembers that items have arrived; false where a strict journal cannot."""
        return self._remember(*(self._mark_of(item) for item in items))

    def _mark_of(self, item: Item) -> str:
        """What is remembered of an item that has arrived.

        A test may be made again at its step, and each review tells of all tests: with other ones they are other items.
        """
        steps = [item.step] if item.kind is Kind.TEST else []
        if item.kind is Kind.REVIEW:
            steps = list(self.journal.tests())
        digest = 0
        for step in steps:
            with suppress(OSError, ValueError):  # it was removed meanwhile
                digest = zlib.crc32(self.journal.test_content(step or 0), digest)
        return f"{item}/{digest:08x}" if steps else str(item)

    def _deliver(self, item: Item, put: Callable[[], None]) -> None:
        """Sends an item that the run lacks; twice where the store hung up, because a new connection may do."""
        for is_again in (False, True):
            try:
                if not self._is_there(item):
                    put()
                return
            except _UnusableError:
                raise
            except Exception as error:
                self._held.pop(item.kind, None)  # it may have arrived although it failed, and it may still arrive
                self._is_tidy = False
                if is_again or not isinstance(error, HungUpError):
                    raise

    def _is_there(self, item: Item) -> bool:
        """Whether the run holds metrics or a tile; all else can be put again."""
        if item.kind not in (Kind.METRICS, Kind.TILE):
            return False
        with self._asking:
            held = self._held.get(item.kind)
            if held is None:
                held = self._held[item.kind] = self.store.held(item.kind)
        return item in held

    def _send(self, item: Item) -> None:
        if item.kind is Kind.STATUS:
            self.store.finish(self._status or "FAILED")
            return
        step = self._read(item.step) if item.kind in (Kind.METRICS, Kind.MAPS) else None
        manifest = self.journal.manifest
        is_elsewhere = item.kind is Kind.REVIEW and manifest.page != manifest.part
        store = self.store.part(manifest.page) if is_elsewhere else self.store
        store.put(item, self._content(item, step), 0.0 if step is None else step.time)

    def _content(self, item: Item, step: Step | None) -> Any:
        """What the store gets; see `Store.put`.

        Args:
            item: which item.
            step: its step, for items of one step.
        """
        manifest = self.journal.manifest
        if item.kind is Kind.DESCRIPTION:  # the journal of an earlier version may name a password
            return replace(manifest, tracking_uri=without_credentials(manifest.tracking_uri))
        if item.kind is Kind.REVIEW:
            return self._review()
        if item.kind is Kind.TEST:
            assert item.step is not None
            return self.journal.test_content(item.step)
        if item.kind is Kind.ANIMATION:
            steps, pictures = self._frames_until(item.step or 0), self._pictures_of_probes()
            return _made(lambda: animation(steps, manifest, pictures, self._index[item.probe or ""]))
        assert step is not None
        if item.kind is Kind.METRICS:
            return _made(lambda: step_metrics(step, manifest))
        file = self.journal.content(step.step)
        return _made(lambda: compressed(file))

    def _frames_until(self, last: int) -> list[Step]:
        """The steps that animations show; they are kept for the next one."""
        if self._frames[0] != last:
            self._frames = last, thinned(read_steps(self.journal), MOST_FRAMES)
        return self._frames[1]

    def _review(self) -> Review:
        """The page of the parts that have the probes of this one, and the verdict on all parts."""
        self._fetch_earlier()
        for other in (*self._others, *self._fetched_copies()):
            other._fetch_earlier()
        name = self.store.current_name()
        made = _made(lambda: self._renderer.review(self.journals, name, self._cards))
        self.verdict, self._cards = made.review.verdict, made.cards
        self._give_cards(made.chosen)
        self._leave_page(made.review.page)
        return made.review

    @property
    def review_file(self) -> Path:
        """Where the review lies on this machine: where the store has it, or else in the folder of the journal."""
        store = self._run.part(self.journal.manifest.page)
        found: Path | None = getattr(store, "review_file", lambda: None)()
        return found or self._page_beside_journal

    @property
    def _page_beside_journal(self) -> Path:
        folder = part_folder(run_folder(self.journal.directory), self.journal.manifest.page)
        return folder.absolute() / "report.html"

    def _leave_page(self, page: str) -> None:
        """Writes the review beside the journal, for a browser, where the store leaves none on this machine."""
        path = self._page_beside_journal
        if not self._is_copy and self.review_file == path:
            with suppress(OSError):  # a full disk, or a folder that is for reading only: the run gets it in any case
                write_whole(path, page.encode(), is_durable=False)

    def _fetched_copies(self) -> list[Uploader]:
        """Copies of the parts that the run alone holds, whose steps `_fetch_earlier` brings; they send nothing.

        They lie in folders that are gone with this object, at the latest.
        """
        if not self._has_copies and not self._is_copy:
            here = {journal.manifest.part for journal in self.journals}
            numbers = [number for number in self.store.descriptions() if number not in here]
            for number in numbers:
                kept = self._kept.get(number)
                content = (
                    self.store.part(number).fetch(None, Kind.DESCRIPTION) if kept is None else kept.manifest.encoded()
                )
                folder = Path(tempfile.mkdtemp(prefix="gradcam-"))
                self._removals.append(weakref.finalize(self, _remove, folder, os.getpid()))
                (folder / "manifest.json").write_bytes(content)
                try:
                    journal = Journal(folder)
                except GradCAMError as error:
                    logger.warning("Part %d of the run is left out of the review: %s", number, error)
                    continue
                steps, tests = (None, None) if kept is None else (kept.steps, kept.tests)
                self._copies[number] = copy = Uploader(journal, self._run, earlier=steps, earlier_tests=tests)
                copy._tells = False
            self._has_copies = True
        return list(self._copies.values())

    def _read(self, number: int | None) -> Step:
        """A step; the last one read is kept, since its items follow each other."""
        assert number is not None
        if self._step is None or self._step.step != number:
            self._step = _made(lambda: self.journal.read(number))
        return self._step

    def _pictures_of_probes(self) -> Array:
        return _made(self._renderer.pictures)

    def _fetch_earlier(self) -> None:
        """Takes back the steps of earlier trainings in this run, whose journal is gone: the review tells of all."""
        if self._has_earlier or self._is_copy:
            return
        known = set(self.journal.steps())
        for item in self.store.held(Kind.MAPS):
            step = item.step
            if step is None or step in known:
                continue
            content = self._earlier[step] if step in self._earlier else self.store.fetch(step)
            try:
                _made(lambda step=step, content=content: self.journal.add(step, content))  # type: ignore[misc]
            except _UnusableError as error:
                if self._tells:
                    raise
                logger.warning("In part %d, step %d is left out: %s", self.journal.manifest.part, step, error)
                continue
            tiles = [Item(Kind.TILE, step, probe) for probe in (self._sheet, *self._tiles)]
            if not self._mark(Item(Kind.METRICS, step), Item(Kind.MAPS, step), *tiles) and self.error is not None:
                raise self.error
        tested = self.journal.tests()
        for item in self.store.held(Kind.TEST):
            step = item.step
            if step is None or step in tested:
                continue
            kept = self._earlier_tests.get(step)
            try:
                self.journal.add_test(step, self.store.fetch(step, Kind.TEST) if kept is None else kept)
            except GradCAMError as error:
                logger.warning("The run's test at step %d is left out: %s", step, error)
                continue
            if not self._mark(item) and self.error is not None:
                raise self.error
        self._has_earlier = True


def _first_and_newest(steps: Sequence[int]) -> list[int]:
    """The first step, and then from the newest one back."""
    return [*steps[:1], *reversed(steps[1:])]


def of_parts(journals: Mapping[int, Journal], store: Store) -> Uploader:
    """What sends all parts of a run, and ends the run after that where a journal says with what.

    Args:
        journals: of all parts that have one, by number; see `record.parts.journals_in`.
        store: the run.
    """
    recorded = [number for number, journal in journals.items() if journal.steps()] or [*journals]
    last = max([number for number in recorded if journals[number].status is not None] or recorded)
    others = [Uploader(journal, store) for number, journal in journals.items() if number != last]
    return Uploader(journals[last], store, others=others)


def _remove(folder: Path, process: int) -> None:
    """Removes a folder of this process; a child that was forked leaves it to its parent."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _made(make: Callable[[], Made]) -> Made:
    """What is read or drawn here.

    Raises:
        _UnusableError: if it cannot be.
    """
    try:
        return make()
    except Exception as error:
        raise _UnusableError(str(error) or type(error).__name__) from error
