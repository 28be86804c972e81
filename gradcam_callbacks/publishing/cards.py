"""Which probes get cards: a picture a step each, and one of all. All are in the maps and the review in any case."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.reviewing.assessing import Assessment

MOST_CARDS = 32
"""How many probes get cards, unless more are asked for."""
MOST_ON_SHEET = 16
"""How many probes are on the contact sheet, at most."""
_NAMED = ("all", "moved", "flagged")
# When attention has left a region: by a tenth of the attention, and three tenths of what it was.
_FOCUS_LOSS, _FOCUS_LOSS_SHARE = 0.1, 0.3


def cards_setting(cards: int | str | None) -> str:
    """The setting as records hold it: "" for the default, a number, "all", "moved" or "flagged".

    Raises:
        GradCAMError: if it makes no sense.
    """
    if cards is None:
        return ""
    text = str(cards)
    if isinstance(cards, bool) or (text not in _NAMED and not re.fullmatch(r"0|[1-9]\d{0,8}", text)):
        raise GradCAMError(
            f"Which probes get cards is told by a number, 'all', 'moved' or 'flagged', not {cards!r}.",
            "Pass {argument} for the first ones, for example.",
            argument="cards",
            value=MOST_CARDS,
        )
    return text


class Cards:
    """Chooses, as the record grows; who was chosen keeps the card.

    With a number, the first so many probes have cards, and with "all" every one. "moved" are the 32 whose maps moved
    most, "flagged" up to 32 with something to see; see `_flagged`. By default all have cards where there are 32 or
    less. Of more, the first 16 do, and 16 others: the flagged ones, and then those that moved most.

    What depends on the record is chosen with each review: half of the places that are left, so that there is one for a
    probe to which something happens late, and at the end all of them.

    Attributes:
        chosen: which probes have cards, in the order in which they were chosen.
        on_sheet: which are on the contact sheet: the first 16 that were chosen, in the order of the set. As long as
            fewer were chosen, and others may be, there are none, so that it shows the same probes at each step.
    """

    def __init__(self, setting: str, count: int, chosen: Collection[int] = (), on_sheet: Collection[int] = ()) -> None:
        """Begins with those that have cards whatever the record says.

        Args:
            setting: see `cards_setting`. One that this version does not know is the default.
            count: of probes.
            chosen: who was chosen before.
            on_sheet: who was on the contact sheet before.
        """
        self._orders: tuple[str, ...] = ()
        self._next: list[int] = []  # who would be chosen after those of the last time
        first, self._places = min(count, MOST_CARDS), 0
        if setting.isdecimal():
            first = min(count, int(setting))
        elif setting == "all":
            first = count
        elif setting in _NAMED or count > MOST_CARDS:
            self._orders = (setting,) if setting in _NAMED else ("flagged", "moved")
            first = 0 if setting in _NAMED else MOST_CARDS // 2
            self._places = MOST_CARDS - first
        self.chosen = list(range(first))
        self.chosen += [n for n in chosen if n >= first]
        self._places = max(0, self._places - len(self.chosen) + first)
        self.on_sheet = tuple(sorted(on_sheet))
        self._fill_sheet()

    def choose(self, found: Assessment) -> list[int]:
        """Gives away half of the places that are left, as the record is now.

        Args:
            found: what can be said of the record.

        Returns:
            Who was chosen now.
        """
        if not self._places:
            return []
        moved = np.nan_to_num(found.measures["drift"]).sum(axis=(0, 2))
        scores = {"moved": moved, "flagged": _flagged(found)}
        wanted = [n for name in self._orders for n in _descending(scores[name], moved)]
        self._next = [n for n in dict.fromkeys(wanted) if n not in self.chosen]
        return self._given((self._places + 1) // 2)

    def choose_last(self) -> list[int]:
        """Gives away all places that are left, as the record was at the last choice."""
        new = self._given(self._places)
        self._fill_sheet(is_over=True)
        return new

    def _given(self, places: int) -> list[int]:
        new, self._next = self._next[:places], self._next[places:]
        self.chosen += new
        self._places -= len(new)
        self._fill_sheet()
        return new

    def _fill_sheet(self, *, is_over: bool = False) -> None:
        """Fills the contact sheet once: when as many are chosen as it takes, or when no other will be."""
        is_known = len(self.chosen) >= MOST_ON_SHEET or not self._places or is_over
        if is_known and not self.on_sheet:
            self.on_sheet = tuple(sorted(self.chosen[:MOST_ON_SHEET]))


def _flagged(found: Assessment) -> Array:
    """(N,) how many things there are to see at a probe.

    They are a map that says nothing at the last step, attention that jumped while the answer stayed, and attention that
    lies less in the region than it did.
    """
    last = found.steps[-1]
    signs: Array = (last.health != "ok").any(axis=1).astype(int)
    for n in {event.probe for event in found.events if event.kind == "moved" and event.probe is not None}:
        signs[n] += 1
    focus = found.measures["focus"]
    then = np.where(np.isfinite(focus), focus, 0).max(axis=0)
    lost = then - np.where(np.isfinite(focus[-1]), focus[-1], then)
    signs += ((lost >= _FOCUS_LOSS) & (lost >= _FOCUS_LOSS_SHARE * then)).any(axis=1)
    return signs


def _descending(scores: Array, then: Array) -> Sequence[int]:
    """The probes whose score is above 0, the highest first; of equal ones those that are higher in `then`."""
    order = np.lexsort((-then, -scores))
    return [int(n) for n in order if scores[n] > 0]
