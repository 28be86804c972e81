"""Uploader: sends what a journal holds and a run lacks, in order, each item once."""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.slugs import ascii_slugs
from gradcam_callbacks.publishing import living
from gradcam_callbacks.publishing.credentials import without_credentials
from gradcam_callbacks.publishing.metrics import step_metrics
from gradcam_callbacks.publishing.store import HungUpError, Item, Kind, Review, Store, UnreachableError
from gradcam_callbacks.publishing.strip import strip
from gradcam_callbacks.publishing.tiles import animation, step_tile
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import BASELINE, Step
from gradcam_callbacks.reviewing import parts
from gradcam_callbacks.reviewing.report import build, read_steps
from gradcam_callbacks.reviewing.verdict import Verdict

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


class _UnusableError(Exception):
    """What cannot be read or drawn: no later try will help, and no other item suffers."""


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


class Uploader:
    """Sends the items of a journal to a store.

    What has arrived is marked in the journal. Where that is not sure, because a request failed, the store is asked.

    A journal is one part of its run, see `record.parts`. The journals of other parts are sent before it, and the review
    tells of all parts: of those that have no journal any more as the run holds them.

    Attributes:
        journal: where the steps are read from.
        store: the part of the run that gets them.
        error: what went wrong in the last pass, or None.
        verdict: what the run came to when the review was last made, or None.
        ends_run: whether to end the run, too, where the journal says with what.
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
        self._probes = ascii_slugs(journal.manifest.probe_slugs)
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
        self._pictures: Array | None = None
        page = journal.manifest.page
        self._tiles = [probe if page == 1 else f"part{page}/{probe}" for probe in self._probes]
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
        """The items that are not known to have arrived, in the order in which they are sent; other parts come first.

        Args:
            steps: of which steps; all of the journal by default.
            whole: whether to count what is of the whole record.
        """
        others = [item for other in self._unsent for item in other.missing()]
        return others + self._own_missing(steps, whole=whole)

    def _own_missing(self, steps: Collection[int] | None, *, whole: bool) -> list[Item]:
        """Those of the journal itself; see `missing`."""
        probes, recorded = self._probes, self.journal.steps()
        items = [Item(Kind.DESCRIPTION)]
        for step in recorded if steps is None else sorted(steps):
            if step == BASELINE:  # metrics and tiles begin with the first epoch
                items.append(Item(Kind.MAPS, step))
            else:
                items += [Item(Kind.METRICS, step)] if self.journal.manifest.metrics != "none" else []
                items.append(Item(Kind.MAPS, step))
                items += [Item(Kind.TILE, step, probe) for probe in self._tiles]
        if whole and recorded:
            items += [Item(Kind.ANIMATION, recorded[-1], probe) for probe in probes if self._has_animation]
            items += [Item(Kind.TEST, step) for step in self.journal.tests()]
            items += [Item(Kind.REVIEW, recorded[-1])] * self._tells
        if whole and self.ends_run and not self._is_copy and self._status is not None:
            items.append(Item(Kind.STATUS))
        return [item for item in items if self._mark_of(item) not in self._sent]

    def send(
        self,
        steps: Collection[int] | None = None,
        *,
        whole: bool = True,
        stop: Callable[[], bool] = lambda: False,
        on_item: Callable[[Item], None] = lambda item: None,
    ) -> bool:
        """Tries each missing item once.

        After a failure, other items of that kind are left for the next pass. Where the store cannot be reached, the
        pass ends.

        Args:
            steps: which steps; all of the journal by default.
            whole: whether to send what is of the whole record.
            stop: asked before each item.
            on_item: told of each item that has arrived.

        Returns:
            Whether everything has arrived that can be read.
        """
        self.error = None
        have_arrived = True
        for other in list(self._unsent):
            if other.send(stop=stop, on_item=on_item):
                if not other.missing():  # else something of it cannot be read
                    self._unsent.remove(other)
                continue
            have_arrived = False
            self.error = self.error or other.error
            if stop() or isinstance(other.error, UnreachableError):
                return False
        failed: set[Kind] = set()
        for item in self._own_missing(steps, whole=whole):
            if stop():
                return False
            if item.kind in failed or item in self._unusable:
                continue
            try:
                self._deliver(item)
            except _UnusableError as error:
                self.error = self.error or error
                self._unusable.add(item)
                logger.warning("'%s' cannot be sent: %s", item, error)
                logger.debug("The reason:", exc_info=error)
                continue
            except Exception as error:  # whatever store or network it is: the item is kept, and tried again
                failed.add(item.kind)
                self.error = self.error or error
                if isinstance(error, UnreachableError):
                    return False
                continue
            on_item(item)
            if not self._mark(item):
                return False
        return not failed and have_arrived

    def tidy(self) -> None:
        """Removes what is there twice because it arrived after it had been given up."""
        if not self._is_tidy:
            with suppress(Exception):  # two copies harm nobody
                self.store.tidy()
                self._is_tidy = True

    def _mark(self, *items: Item) -> bool:
        """Remembers that items have arrived; false where a strict journal cannot."""
        marks = [self._mark_of(item) for item in items]
        self._sent.update(marks)
        if not self._is_copy:
            try:
                self.journal.mark_uploaded(*marks)
            except OSError as error:  # of a strict journal
                self.error = error
                return False
        return True

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

    def _deliver(self, item: Item) -> None:
        """Sends an item that the run lacks; twice where the store hung up, because a new connection may do."""
        for is_again in (False, True):
            try:
                if not self._is_there(item):
                    self._send(item)
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
        if item.kind not in self._held:
            self._held[item.kind] = self.store.held(item.kind)
        return item in self._held[item.kind]

    def _send(self, item: Item) -> None:
        if item.kind is Kind.STATUS:
            self.store.finish(self._status or "FAILED")
            return
        step = self._read(item.step) if item.kind in (Kind.METRICS, Kind.MAPS, Kind.TILE) else None
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
        probe = 0 if item.probe is None else self._probes.index(item.probe.rpartition("/")[2])
        if item.kind is Kind.ANIMATION:
            steps, pictures = read_steps(self.journal), self._pictures_of_probes()
            return _made(lambda: animation(steps, manifest, pictures, probe))
        assert step is not None
        if item.kind is Kind.METRICS:
            return _made(lambda: step_metrics(step, manifest))
        if item.kind is Kind.MAPS:
            return self.journal.content(step.step)
        pictures = self._pictures_of_probes()
        return _made(lambda: step_tile(step, manifest, pictures, probe))

    def _review(self) -> Review:
        """The page of the parts that have the probes of this one, and the verdict on all parts."""
        self._fetch_earlier()
        for other in (*self._others, *self._fetched_copies()):
            other._fetch_earlier()
        steps, pictures, name = read_steps(self.journal), self._pictures_of_probes(), self.store.current_name()
        found = _made(lambda: parts.assessed(self.journals))
        self.verdict = verdict = _made(lambda: parts.verdict_of(found))
        page = _made(lambda: self._page(found, name))
        content = io.BytesIO()
        try:
            Image.fromarray(strip(steps, self.journal.manifest, pictures)).save(content, "PNG")
        except Exception:  # the page arrives without it
            logger.warning("The strip of the review could not be drawn.", exc_info=True)
            return Review(page, None, verdict)
        return Review(page, content.getvalue(), verdict)

    def _page(self, found: Sequence[parts.Part], name: str) -> str:
        """The page that shows the journal.

        Args:
            found: all parts of the run.
            name: of the run.
        """
        page = self.journal.manifest.page
        shown = [part for part in found if part.page == page]
        elsewhere = sorted({part.page for part in found} - {page})
        return build(
            [part.journal for part in shown],
            names=[part.name or name for part in shown],
            assessments=[part.found for part in shown],
            title=name,
            notes=[f"Part {other} of the run has other probes, and a review of its own." for other in elsewhere],
        )

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
        if self._pictures is None:
            self._pictures = _made(self.journal.pictures)
        return self._pictures

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
            tiles = [Item(Kind.TILE, step, probe) for probe in self._probes]
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
