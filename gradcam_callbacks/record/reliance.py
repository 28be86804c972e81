"""Reliance: what became of the answers when areas of the pictures were covered, or pasted on other pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.drawing.masks import encode_mask
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.manifest import decoded_png

OUTCOMES = ("confirmed", "untold", "cleared")
"""Of a finding, the most serious first: the answers rest on the area; the test could not tell; they do not."""
KINDS = ("outside", "around", "common")
"""Of areas: one outside the region where a person says the model should look; all that is around the region; one that
pictures of a class have in common, be it in the region or not."""
COUNTS = (
    *("covered", "elsewhere", "hidden", "hidden_covered", "hidden_elsewhere", "hidden_others"),
    *("pasted", "pasted_elsewhere", "pasted_others"),
)
"""The names of a finding's counts."""
MOST_TEST_BYTES = 8 << 20
"""How long the file of a test may be."""
_MOST_FINDINGS = 200
_MOST_PIXELS = 1 << 28  # of all the areas of a finding
_MOST_COUNT = 2**31


class Count(NamedTuple):
    """How many of how many."""

    changed: int
    of: int

    @property
    def share(self) -> float:
        """In [0, 1]; NaN of none."""
        return self.changed / self.of if self.of else math.nan

    def __str__(self) -> str:
        """Such as "7 of 8"."""
        return f"{self.changed} of {self.of}"


_NONE = Count(0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """What the test of one class's answers found.

    An answer counts as changed where it is another with most of the fillings.

    Attributes:
        answer: the class that the pictures are answered as.
        kind: one of `KINDS`.
        outcome: one of `OUTCOMES`.
        probes: the M pictures tested, as indices of the probes; they are answered as that class.
        decisive: those of them on which the area decides.
        areas: of the M pictures, each (H, W) bool, what was covered and pasted.
        alike: whether the areas of the decisive pictures show the same, wherever they lie.
        in_place: whether they lie at the same place of the pictures.
        covered: answers that change when the area is covered.
        elsewhere: answers that change when as much is covered elsewhere.
        hidden: answers that change when the region itself is covered; of none without regions.
        hidden_covered: answers that are another when region and area are covered.
        hidden_elsewhere: answers that are another when the region and as much elsewhere are covered.
        hidden_others: pictures of other classes that are answered as this one when their own regions are covered; asked
            where answers stay without the region.
        pasted: pictures of other classes that turn into this one when the area is pasted on them.
        pasted_elsewhere: those that do when as much from elsewhere in the same picture is.
        pasted_others: those that do when the same place of a picture of yet another class is.
    """

    answer: int
    kind: str
    outcome: str
    probes: tuple[int, ...]
    decisive: tuple[int, ...]
    areas: tuple[Array, ...] = field(repr=False)
    alike: bool = False
    in_place: bool = False
    covered: Count = _NONE
    elsewhere: Count = _NONE
    hidden: Count = _NONE
    hidden_covered: Count = _NONE
    hidden_elsewhere: Count = _NONE
    hidden_others: Count = _NONE
    pasted: Count = _NONE
    pasted_elsewhere: Count = _NONE
    pasted_others: Count = _NONE

    @property
    def shown(self) -> tuple[int, ...]:
        """The pictures whose area is worth a look: the decisive ones, or else all that were tested."""
        return self.decisive or self.probes

    def area(self, probe: int) -> Array:
        """(H, W) bool, what was covered of a probe."""
        return self.areas[self.probes.index(probe)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliance:
    """What a model's answers rest on, as far as covering and pasting tells.

    Attributes:
        findings: the most serious first; none where there was nothing to test.
        passes: how many pictures went through the model.
        reason: why nothing was tested, in a sentence; "" where it was.
    """

    findings: tuple[Finding, ...] = ()
    passes: int = 0
    reason: str = ""

    @property
    def confirmed(self) -> tuple[Finding, ...]:
        """The findings that the test confirmed: shortcuts."""
        return tuple(finding for finding in self.findings if finding.outcome == "confirmed")

    def encoded(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {"passes": self.passes, "reason": self.reason, "findings": [_as_json(each) for each in self.findings]}
        ).encode()

    @classmethod
    def parse(cls, content: bytes, name: str, *, probes: int) -> Reliance:
        """What `encoded` made.

        Args:
            content: of the file.
            name: of the file, for errors.
            probes: how many there are.

        Raises:
            GradCAMError: if it is damaged.
        """
        try:
            if len(content) > MOST_TEST_BYTES:
                raise ValueError("it is too long")
            held = json.loads(content)
            findings = held["findings"]
            if not isinstance(findings, list) or len(findings) > _MOST_FINDINGS:
                raise ValueError("its findings are no list")
            reason = held.get("reason", "")
            if not isinstance(reason, str):
                raise ValueError("its reason is no text")
            return cls(
                findings=tuple(_from_json(each, probes) for each in findings),
                passes=_whole(held.get("passes", 0)),
                reason=reason[:1000],
            )
        except Exception as error:  # JSON, Pillow and NumPy raise a dozen kinds at damaged bytes
            raise GradCAMError(f"Journal file '{name}' is damaged: it is no test of reliance.") from error


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        **{name: getattr(finding, name) for name in ("answer", "kind", "outcome", "probes", "decisive")},
        **{name: getattr(finding, name) for name in ("alike", "in_place", *COUNTS)},
        "areas": [encode_mask(area) for area in finding.areas],
        "size": list(finding.areas[0].shape) if finding.areas else [0, 0],
    }


def _from_json(held: Mapping[str, Any], probes: int) -> Finding:
    """A finding, each field of its own kind.

    Raises:
        ValueError: if one is not.
    """
    tested, decisive = (tuple(_whole(each) for each in held[name]) for name in ("probes", "decisive"))
    if held["kind"] not in KINDS or held["outcome"] not in OUTCOMES:
        raise ValueError("unknown words")
    if len(set(tested)) != len(tested) or not set(decisive) <= set(tested) <= set(range(probes)):
        raise ValueError("no such probes")
    if len(held["areas"]) != len(tested):
        raise ValueError("as many areas as probes")
    height, width = (_whole(each) for each in held["size"])
    if height * width * len(tested) > _MOST_PIXELS:
        raise ValueError("areas that are too large")
    areas = tuple(_mask(each, (height, width)) for each in held["areas"])
    counts = {name: Count(*(_whole(each) for each in held.get(name, (0, 0)))) for name in COUNTS}
    if any(count.changed > count.of for count in counts.values()):
        raise ValueError("more than all")
    return Finding(
        answer=_whole(held["answer"]),
        kind=held["kind"],
        outcome=held["outcome"],
        probes=tested,
        decisive=decisive,
        areas=areas,
        alike=bool(held["alike"]),
        in_place=bool(held["in_place"]),
        **counts,
    )


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_COUNT:
        raise ValueError("no whole number")
    return value


def _mask(encoded: str | None, size: tuple[int, int]) -> Array:
    """(H, W) bool of a PNG of that size; of None an empty one."""
    if encoded is None:
        return np.zeros(size, bool)
    mask = decoded_png(encoded, "an area") > 0
    if mask.shape != size:
        raise ValueError("an area of another size")
    return mask
