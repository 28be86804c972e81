"""InMemoryStore: a run in the memory of this process, for tests and for whoever wants the numbers and no server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Set
from typing import Any

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.publishing.store import Item, Kind, Review
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.parts import decided


class InMemoryStore:
    """Keeps one run in memory: `GradCAMCallback(probes, store=InMemoryStore())`.

    What is said of manifest, maps, animations, tests and review is of part 1; `part(2)` has those of the second part.

    Attributes:
        run_id: of the run.
        name: the same as `run_id`.
        manifest: what it was told of the maps, or None.
        metrics: of each step the values by key.
        maps: of each step the bytes of its file.
        tiles: by the name of the probe in ASCII and the step, (height, width, 3) uint8; by "all" the contact sheets.
        animations: by the name of the probe in ASCII, a WebP.
        tests: of each step whose model was tested the bytes of the file.
        review: the page and the strip, or None.
        verdict: what the record comes to, as the word in the last review; "" before there is one.
        summary: why, in a few sentences; "" before.
        status: "RUNNING", or what it was ended with.
    """

    def __init__(self, run_id: str | None = None) -> None:
        """Begins a run.

        Args:
            run_id: a new one by default.
        """
        self.run_id = run_id or uuid.uuid4().hex
        self.name = self.run_id
        self.address = ""
        self.title = "memory"
        self.is_ours = True
        self.is_new = self.was_empty = True
        self.manifest: Manifest | None = None
        self.metrics: dict[int, Mapping[str, float]] = {}
        self.maps: dict[int, bytes] = {}
        self.tiles: dict[tuple[str, int], Array] = {}
        self.animations: dict[str, bytes] = {}
        self.tests: dict[int, bytes] = {}
        self.review: Review | None = None
        self.verdict = self.summary = ""
        self.status = "RUNNING"
        self._parts: dict[int, InMemoryStore] = {1: self}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """What it holds; a lock is of one process."""
        with self._lock:
            return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()

    def current_name(self) -> str:
        """The same as `run_id`: a run in memory has no other name."""
        return self.name

    def part(self, number: int) -> InMemoryStore:
        """See `Store`."""
        with self._lock:
            if number not in self._parts:
                self._parts[number] = part = InMemoryStore(self.run_id)
                part.metrics, part.tiles, part._parts = self.metrics, self.tiles, self._parts
            return self._parts[number]

    def descriptions(self) -> Mapping[int, Mapping[str, str | None]]:
        """See `Store`."""
        with self._lock:
            told = {number: part.manifest for number, part in self._parts.items()}
        return {number: decided(manifest) for number, manifest in told.items() if manifest is not None}

    def held(self, kind: Kind) -> Set[Item]:
        """See `Store`."""
        with self._lock:
            if kind is Kind.TILE:
                return {Item(kind, step, probe) for probe, step in self.tiles}
            steps: dict[Kind, Mapping[int, Any]] = {
                Kind.METRICS: self.metrics,
                Kind.MAPS: self.maps,
                Kind.TEST: self.tests,
            }
            return {Item(kind, step) for step in steps.get(kind, {})}

    def put(self, item: Item, content: Any, time: float) -> None:
        """See `Store`."""
        del time
        probe, step = item.probe or "", -1 if item.step is None else item.step
        with self._lock:
            if item.kind is Kind.DESCRIPTION:
                self.manifest = content
            elif item.kind is Kind.METRICS:
                self.metrics[step] = content
            elif item.kind is Kind.MAPS:
                self.maps[step] = content
            elif item.kind is Kind.TILE:
                self.tiles[probe, step] = content
            elif item.kind is Kind.ANIMATION:
                self.animations[probe] = content
            elif item.kind is Kind.TEST:
                self.tests[step] = content
            elif item.kind is Kind.REVIEW:
                self.review = content
                for part in self._parts.values() if content.verdict is not None else ():
                    part.verdict, part.summary = content.verdict.name, content.verdict.summary
            for part in self._parts.values():
                part.is_new = part.was_empty = False

    def fetch(self, step: int | None, kind: Kind = Kind.MAPS) -> bytes:
        """See `Store`."""
        if kind is Kind.DESCRIPTION:
            assert self.manifest is not None
            return self.manifest.encoded()
        assert step is not None
        return (self.tests if kind is Kind.TEST else self.maps)[step]

    def finish(self, status: str) -> None:
        """See `Store`."""
        for part in self._parts.values():
            part.status = status

    def tidy(self) -> None:
        """Nothing is there twice."""

    def where_to_look(self) -> str:
        """See `Store`."""
        return f"  in memory, run {self.run_id}"
