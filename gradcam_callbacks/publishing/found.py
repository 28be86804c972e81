"""What there is of a run before something is recorded in it: which of its parts goes on, and which steps are taken."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.backend import ENGINES
from gradcam_callbacks.publishing.store import Store
from gradcam_callbacks.publishing.uploader import Kept
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest, differences, with_engine
from gradcam_callbacks.record.parts import decided, journals_in, part_folder, part_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What is there of a run: which part goes on, and the others.

    Attributes:
        number: of the part that goes on, or begins.
        page: of that part, see `Manifest`.
        engine: what computed the maps of that part, and what will; see `Manifest`.
        own: the folder of its journal.
        others: the journals of the other parts.
        told: the parts that the run was told of.
        kept: the parts that the last training in this process left.
    """

    number: int
    page: int
    engine: str
    own: Path
    others: Mapping[int, Journal]
    told: Set[int]
    kept: Mapping[int, Kept]

    @classmethod
    def of(cls, store: Store, folder: Path, manifest: Manifest, kept: Mapping[int, Kept]) -> Found:
        """Looks at the disk, in the memory, and in the run; one that cannot be asked now is known by the others alone.

        Args:
            store: the run.
            folder: of its journals.
            manifest: of the maps that are to be recorded.
            kept: the parts that the last training in this process left.

        Raises:
            GradCAMError: if a journal is damaged, or they hold other maps and this is a sweep.
        """
        journals: dict[int, Journal] = {}
        with contextlib.suppress(OSError):  # it is new, or cannot be read now, which `Journal.create` tells apart
            journals = journals_in(folder)
        told: Mapping[int, Mapping[str, str | None]] = {}
        if not store.is_new:
            with contextlib.suppress(Exception):  # the worker will say so
                told = store.descriptions()
        for journal in journals.values():
            if journal.manifest.run_id != store.run_id:
                own = _own(folder, journal)
                return cls(journal.manifest.part, 1, manifest.engine, own, {}, set(), {})  # which the recorder refuses
        manifests = {number: one.manifest for number, one in kept.items()}
        known: dict[int, Mapping[str, str | None] | Manifest] = {**told, **manifests}
        known |= {number: journal.manifest for number, journal in journals.items()}
        number = part_of(manifest, known)
        different = differences(known[min(known)], manifest) if known else ""
        if number is None and different and manifest.source is not None:
            raise GradCAMError(
                f"Run {store.run_id} holds maps that were made with {different}. Choose another run, such as a nested "
                "one."
            )
        number = number or max(known, default=0) + 1
        page = min((other for other, before in known.items() if _shares_page(before, manifest)), default=number)
        if number > 1:
            _say_part(store, number, page, different, is_new=number not in known)
        engine = manifest.engine
        if number in known:
            engine = with_engine(_engine_of(known[number]), engine)
            if engine != _engine_of(known[number]):
                _say_engine(store, _engine_of(known[number]), manifest.engine)
        own = _own(folder, journals.pop(number)) if number in journals else part_folder(folder, number)
        return cls(number, page, engine, own, journals, told.keys(), kept)

    def as_part(self, manifest: Manifest) -> Manifest:
        """The manifest of that part."""
        return replace(manifest, part=self.number, page=self.page, engine=self.engine)

    def steps_elsewhere(self) -> set[int]:
        """The steps of other parts that journals, or this process, hold; each has a baseline of its own."""
        steps = {step for journal in self.others.values() for step in journal.steps()}
        steps |= {step for number, one in self.kept.items() if number != self.number for step in one.steps}
        return {step for step in steps if step >= 0}


def _own(folder: Path, journal: Journal) -> Path:
    """Where a journal is, as the user named it; one that was moved is not where a part of its number would be."""
    usual = part_folder(folder, journal.manifest.part)
    return usual if usual.absolute() == journal.directory else journal.directory


def _shares_page(before: Mapping[str, str | None] | Manifest, manifest: Manifest) -> bool:
    """Whether two parts have the same probes, and steps of the same unit."""
    said = decided(before) if isinstance(before, Manifest) else before
    return said.get("probes") == manifest.probes and (said.get("unit") or manifest.unit) == manifest.unit


def _engine_of(before: Mapping[str, str | None] | Manifest) -> str:
    """On which engine the maps of a part were computed; versions that knew one alone do not say it."""
    said = decided(before) if isinstance(before, Manifest) else before
    return said.get("engine") or "tensorflow"


def _say_engine(store: Store, before: str, now: str) -> None:
    """Says once that a part goes on on another engine."""
    logger.warning(
        "The maps in run %s were computed on %s, and those that follow are computed on %s. Both give the same maps of "
        "the same weights to 1e-5, so that they stay in one record.",
        store.run_id,
        " and ".join(ENGINES.get(one, one) for one in before.split(", ")),
        ENGINES.get(now, now),
    )


def _say_part(store: Store, number: int, page: int, different: str, *, is_new: bool) -> None:
    """Says that a training is recorded as a later part of its run, and why."""
    beside = "side by side with the first part on its page"
    if page > 1:
        beside = "with a page of its own" if page == number else f"side by side with part {page} on its page"
    logger.warning(
        "Run %s holds maps that were made with %s. Those cannot be compared with these, so that this training %s part "
        "%d of the run, %s.",
        store.run_id,
        different,
        "is recorded as" if is_new else "goes on with",
        number,
        beside,
    )
