"""Store: the seam between the uploader and what keeps a run. MLflow is one, the memory of a process is another."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gradcam_callbacks.record.step import BASELINE
from gradcam_callbacks.reviewing.verdict import Verdict

__all__ = ["EncodedTile", "HungUpError", "Item", "Kind", "Review", "Store", "UnreachableError"]


class Kind(StrEnum):
    """What a run gets. The values are part of the marks in journals on disk: keep them."""

    DESCRIPTION = "description"
    METRICS = "metrics"
    MAPS = "maps"
    TILE = "image"
    ANIMATION = "animation"
    REVIEW = "report"
    TEST = "test"
    STATUS = "status"


@dataclass(frozen=True)
class Item:
    """One thing that a run gets, once.

    Attributes:
        kind: what it is.
        step: of which step; of what is of the whole record, the last one that is in it. None for the description and
            the status.
        probe: the name of its probe in ASCII, see `ascii_slugs`, for tiles and animations; "all" for the contact sheet
            of a step, which is put like a tile. Tiles of a part with other probes than the first one have the number of
            the page before it, "part2/cat".
    """

    kind: Kind
    step: int | None = None
    probe: str | None = None

    def __str__(self) -> str:
        """Its mark in a journal, such as "image/cat/3"."""
        return "/".join(str(part) for part in (self.kind, self.probe, self.step) if part is not None)


@dataclass(frozen=True)
class Review:
    """What tells of the whole record.

    Attributes:
        page: HTML that loads nothing else.
        strip: a low PNG, made to stand in the run's description; None where it could not be drawn.
        verdict: what the record comes to, to be found without opening the page.
    """

    page: str
    strip: bytes | None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class EncodedTile:
    """A tile as files.

    Attributes:
        png: all of it.
        small: a WebP that is at most 256 pixels wide and 200 high, as much as a card shows.
    """

    png: bytes
    small: bytes


class UnreachableError(Exception):
    """The store cannot be reached. Other items are not tried now: each would wait for its own time-out."""


class HungUpError(Exception):
    """The connection was closed instead of an answer. On a new connection the same request may succeed."""


class Store(Protocol):
    """One run in one place that keeps runs, such as MLflow; or one part of it.

    Trainings whose maps cannot be compared, such as those of another architecture, are parts of one run, from 1. The
    run as it is opened is its part 1, and `part` gives the others. Metrics, tiles, status and verdict are those of the
    run; description, maps, tests, animations and page each part has of its own.

    All methods may be called from any thread. What goes wrong raises: `UnreachableError` where nobody answers,
    `HungUpError` where the same request may do on a new connection, and anything else for this item alone. Then it is
    tried again later.

    A store may say two things more of tiles: `takes_encoded_tiles = True`, and with `tiles_at_once` how many threads
    may put tiles at the same time; by default one. With `review_file()` it may say in which file of this machine the
    review is; where there is none, it is also in the folder of the journal as long as that is there.

    Attributes:
        run_id: of the run, the same whenever the run is opened: it names the folder of the journal, which is gone on
            with.
        name: what people called it when it was opened.
        address: the tracking URI of MLflow, for `gradcam upload` to find the run again; "" for another place.
        title: what people call the place, such as "MLflow".
        is_ours: whether the run was begun here, so that it must be ended here too.
        is_new: whether the run can hold nothing of ours yet, so that it need not be asked. An object that serves a
            second training says no then.
        was_empty: whether it held nothing of ours when this training began.
    """

    run_id: str
    name: str
    address: str
    title: str
    is_ours: bool
    is_new: bool
    was_empty: bool

    def current_name(self) -> str:
        """What people call the run now."""

    def part(self, number: int) -> Store:
        """A part of the run, whether it holds something yet or not; of a part, too, any part of its run."""

    def descriptions(self) -> Mapping[int, Mapping[str, str | None]]:
        """What the run was told of the maps of each part, by its number: `record.parts.decided` of the manifest.

        What was not said may be missing, as earlier versions did not say all of it.
        """

    def held(self, kind: Kind) -> Set[Item]:
        """Which items of a kind have arrived as a whole: metrics and tiles of the run, maps and tests of the part."""

    def put(self, item: Item, content: Any, time: float) -> None:
        """Takes an item.

        Tiles and metrics are put once, unless `held` says that they have not arrived. All else may be put again, and
        replaces what is there.

        Args:
            item: what it is; step -1 is the baseline, before the training, of which there are maps alone.
            content: of the description a `Manifest`; of metrics their finite values by key, see `Metrics`; of maps the
                bytes of the step's .npz file; of a tile (height, width, 3) uint8, or an `EncodedTile` for a store that
                says `takes_encoded_tiles = True`; of an animation a WebP; of the review a `Review`; of a test the bytes
                of its .json file.
            time: seconds since 1970 when the step was recorded.
        """

    def fetch(self, step: int | None, kind: Kind = Kind.MAPS) -> bytes:
        """The file of a step's maps, or of its test, as it was put; of no step the encoded manifest of the part."""

    def finish(self, status: str) -> None:
        """Ends the run with "FINISHED" or "FAILED"."""

    def tidy(self) -> None:
        """Removes what is there twice because it arrived after it had been given up."""

    def where_to_look(self) -> str:
        """Lines for a person: where the pictures and the review are."""


def steps_of(store: Store) -> set[int]:
    """The steps that a run holds: those whose metrics or maps have arrived. A run may have been asked for no metrics.

    Raises:
        UnreachableError: if the store cannot be reached; or whatever else it raises.
    """
    held = set(store.held(Kind.METRICS))
    for number in {1, *store.descriptions()}:
        held |= store.part(number).held(Kind.MAPS)
    return {item.step for item in held if item.step is not None and item.step > BASELINE}
