"""Store: the seam between the uploader and what keeps a run. MLflow is one, the memory of a process is another."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Kind(StrEnum):
    """What a run gets. The values are part of the marks in journals on disk: keep them."""

    DESCRIPTION = "description"
    METRICS = "metrics"
    MAPS = "maps"
    TILE = "image"
    ANIMATION = "animation"
    REVIEW = "report"
    STATUS = "status"


@dataclass(frozen=True)
class Item:
    """One thing that a run gets, once.

    Attributes:
        kind: what it is.
        step: of which step; of what is of the whole record, the last one that is in it. None for the description and
            the status.
        probe: the slug of its probe, for tiles and animations.
    """

    kind: Kind
    step: int | None = None
    probe: str | None = None

    def __str__(self) -> str:
        """Its mark in a journal, such as "image/cat/3"; a slug has no slash."""
        return "/".join(str(part) for part in (self.kind, self.probe, self.step) if part is not None)


@dataclass(frozen=True)
class Review:
    """What tells of the whole record.

    Attributes:
        page: HTML that loads nothing else.
        strip: a low PNG, made to stand in the run's description.
    """

    page: str
    strip: bytes


class UnreachableError(Exception):
    """Nobody answers: the next request would fail too, after another time-out."""


class HungUpError(Exception):
    """The connection was closed instead of an answer: on a new one, the same request may do."""


class Store(Protocol):
    """One run, at whatever keeps it.

    All methods may be called from any thread. What goes wrong raises: `UnreachableError` where nobody answers,
    `HungUpError` where the same request may do on a new connection, and anything else for this item alone. Then it is
    tried again later.

    Attributes:
        run_id: of the run; journals remember it.
        name: what people called it when it was opened.
        address: where the run is, for `gradcam upload` to find it again.
        is_ours: whether the run was begun here, so that it must be ended here too.
        is_new: whether the run can hold nothing of ours yet, so that it need not be asked.
        was_empty: whether it held nothing of ours when it was opened.
    """

    run_id: str
    name: str
    address: str
    is_ours: bool
    is_new: bool
    was_empty: bool

    def current_name(self) -> str:
        """What people call the run now."""

    def description(self) -> Mapping[str, str | None]:
        """What the run says of the maps that it holds, by the names in `record.manifest.DECIDING`; empty for none."""

    def held(self, kind: Kind) -> Set[Item]:
        """Which items of a kind have arrived as a whole: of `METRICS`, `MAPS` and `TILE`."""

    def put(self, item: Item, content: Any, time: float) -> None:
        """Takes an item.

        Tiles and metrics are put once, unless `held` says that they have not arrived. All else may be put again, and
        replaces what is there.

        Args:
            item: what it is.
            content: of the description a `Manifest`; of metrics their finite values by key; of maps the bytes of the
                step's file; of a tile (height, width, 3) uint8; of an animation a WebP; of the review a `Review`.
            time: seconds since 1970 when the step was recorded.
        """

    def fetch(self, step: int) -> bytes:
        """The file of a step's maps, as it was put."""

    def finish(self, status: str) -> None:
        """Ends the run with "FINISHED" or "FAILED"."""

    def tidy(self) -> None:
        """Removes what is there twice because it arrived after it had been given up. Problems are ignored."""

    def where_to_look(self) -> str:
        """Lines for a person: where the pictures and the review are."""
