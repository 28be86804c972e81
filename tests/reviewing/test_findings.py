"""What a test found, in words with the counts behind them; and where the attention lay meanwhile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.manifests import a_manifest
from support.reliance import a_finding, box

from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import findings
from gradcam_callbacks.reviewing.words import percent

BOATS = a_manifest(("a", "b", "c"), class_names=("sailboat", "rowboat"))


def test_outside_of_regions() -> None:
    """A confirmed area says what became of the answers, beside every control that was there."""
    finding = a_finding(
        areas=(box(0, 0, 6, 61),),
        covered=(5, 6),
        elsewhere=(0, 18),
        hidden=(0, 6),
        hidden_covered=(6, 6),
        hidden_elsewhere=(1, 18),
        pasted=(29, 36),
        pasted_elsewhere=(0, 108),
        pasted_others=(1, 36),
    )
    assert findings.text(finding, BOATS) == (
        "Confirmed by the test: without an area outside the marked regions (12 % of the picture), 5 of 6 answers "
        "“sailboat” change; without as much elsewhere, 0 of 18. With the marked region itself covered, 6 of 6 stay "
        "“sailboat”; with the area covered, too, 0 of 6 do; with as much elsewhere, 17 of 18. Pasted on other "
        "pictures, the area makes 29 of 36 “sailboat”; areas from elsewhere make 0 of 108; the same place of other "
        "pictures makes 1 of 36."
    )


@pytest.mark.parametrize(
    ("alike", "in_place", "says"),
    [
        (True, False, "without one area that looks alike in the pictures (40 × 30 pixels), 7 of 8"),
        (False, True, "without an area at the same place of the pictures (40 × 30 pixels), 7 of 8"),
        (
            True,
            True,
            "without an area at the same place of the pictures that looks alike in them (40 × 30 pixels), 7 of 8",
        ),
        (False, False, "without one area of each picture (40 × 30 pixels), 7 of 8"),
    ],
)
def test_what_pictures_have_in_common(alike: bool, in_place: bool, says: str) -> None:
    """Whether one place decides, or one look, is said, with the size of the area in pixels."""
    finding = a_finding(kind="common", areas=(box(1, 2, 41, 32),), alike=alike, in_place=in_place, covered=(7, 8))
    told = findings.text(finding, BOATS)
    assert told == f"Confirmed by the test: {says} answers “sailboat” change."


def test_an_area_that_is_no_box_is_a_share_of_the_picture() -> None:
    """A diagonal has no height and width that tell its size."""
    finding = a_finding(kind="common", areas=(np.eye(50, dtype=bool),), in_place=True)
    assert "without an area at the same place of the pictures (2 % of the picture), 1 of 1 answers" in findings.text(
        finding, BOATS
    )


def test_an_area_has_a_size_where_it_fills_three_quarters_of_its_box() -> None:
    """A corner may be missing; where one picture's area is no box, the share of all is said."""
    cornered = box(0, 0, 8, 8) & ~box(0, 0, 4, 4)
    told = findings.text(a_finding(kind="common", areas=(cornered,)), BOATS)
    assert "without one area of each picture (8 × 8 pixels), 1 of 1" in told
    cornered[7, 7] = False
    told = findings.text(a_finding(kind="common", areas=(cornered,)), BOATS)
    assert "without one area of each picture (2 % of the picture), 1 of 1" in told
    both = a_finding(kind="common", probes=(0, 1), areas=(box(0, 0, 12, 16), np.eye(48, 64, dtype=bool)))
    assert "(4 % of the picture)" in findings.text(both, BOATS)


def test_counts_of_none_are_not_said() -> None:
    """What could not be tried is left away; where nothing could be, that is said."""
    assert findings.text(a_finding("cleared", covered=(0, 4), elsewhere=(0, 12)), BOATS) == (
        "Cleared by the test: without an area outside the marked regions (25 % of the picture), 0 of 4 answers "
        "“sailboat” change; without as much elsewhere, 0 of 12."
    )
    assert findings.text(a_finding("untold", covered=(0, 0), answer=7), BOATS) == (
        "Suspected, and the test could not tell: no answer “class_7” could be tested."
    )
    assert findings.text(a_finding("untold", covered=(0, 0), pasted=(1, 4)), BOATS) == (
        "Suspected, and the test could not tell: pasted on other pictures, the area makes 1 of 4 “sailboat”."
    )


def test_one_changes_and_several_change() -> None:
    """Verbs agree with their counts."""
    finding = a_finding(covered=(1, 1), hidden=(2, 3), hidden_covered=(2, 3))
    assert findings.text(finding, BOATS).endswith(
        "1 of 1 answers “sailboat” changes. With the marked region itself covered, 1 of 3 stays “sailboat”; with the "
        "area covered, too, 1 of 3 does."
    )


def steps_with(*shares: float, explained: int = 0) -> list[Step]:
    """Steps of one probe and two targets, the second with so much of its attention in the upper left quarter."""
    steps = []
    for number, share in enumerate(shares):
        maps = np.zeros((1, 2, 2, 2), np.float32)
        maps[0, 0, 1, 1] = 1
        maps[0, 1] = [[share, 0], [0, 1 - share]]
        if math.isnan(share):
            maps[:] = 0
        arrays = {
            "maps": maps,
            "scores": np.zeros((1, 2)),
            "explained": np.array([[1, explained]]),
            "predicted": np.array([0]),
            "health": np.full((1, 2), "ok"),
        }
        steps.append(Step(3 * number, arrays, {}, 0.0))
    return steps


def test_attention_in_the_area() -> None:
    """It is that of the map that explains the class, and is not known where none does or the map says nothing."""
    finding = a_finding()
    np.testing.assert_allclose(findings.attention(finding, steps_with(0.25, np.nan, 0.75)), [0.25, np.nan, 0.75])
    assert np.isnan(findings.attention(finding, steps_with(0.25, 0.5, explained=2))).all()


def test_attention_is_the_mean_of_the_decisive_probes() -> None:
    """Probes on which the area decides nothing do not count, where there are others."""
    (step,) = steps_with(0.25)
    doubled = {name: np.concatenate([array, array]) for name, array in step.arrays.items()}
    doubled["maps"] = np.concatenate([step.maps, steps_with(0.75)[0].maps])
    both = [Step(0, doubled, {}, 0.0)]
    tested = a_finding(probes=(0, 1), decisive=())
    np.testing.assert_allclose(findings.attention(tested, both), [0.5])
    np.testing.assert_allclose(findings.attention(a_finding(probes=(0, 1), decisive=(1,)), both), [0.75])


@pytest.mark.parametrize(
    ("shares", "step"),
    [
        ((0.1, 0.2, 0.5, 0.6, 0.9), 6),  # half way from 0.1 to 0.9 is 0.5
        ((0.1, 0.7, 0.4, 0.6, 0.9), 9),  # it was there, and left again
        ((0.1, np.nan, 0.8, 0.9), 6),
        ((0.9, 0.89, 0.9, 0.91), 9),  # there from the beginning, so nothing tells when it began to matter
        ((0.9, 0.5), 3),
        ((0.9,), 0),
        ((np.nan, np.nan), 3),
    ],
)
def test_when_it_began(shares: tuple[float, ...], step: int) -> None:
    """It is the step from which on at least half of the rise stays; the last one where nothing rose."""
    assert findings.began(a_finding(), steps_with(*shares)) == step


def test_what_is_around_tells_the_class() -> None:
    """Pictures of other classes that become this one without their own regions are counted."""
    finding = a_finding(kind="around", covered=(0, 0), hidden=(0, 4), hidden_others=(5, 6))
    assert findings.text(finding, BOATS) == (
        "Confirmed by the test: with the marked region itself covered, 4 of 4 stay “sailboat”, and of pictures "
        "of other classes without theirs 5 of 6 become “sailboat”: what is around tells the class."
    )


def test_areas_of_no_pixel_have_no_size() -> None:
    """None is said, and no attention lies in what was not tested."""
    empty = a_finding(kind="common", areas=(np.zeros((8, 8), bool),), covered=(0, 1))
    assert "without one area of each picture, 0 of 1 answers" in findings.text(empty, BOATS)
    assert np.isnan(findings.attention(a_finding(probes=(), areas=(), covered=(0, 0)), steps_with(0.5, 0.5))).all()


@pytest.mark.parametrize(
    ("share", "says"),
    [(0, "0 %"), (1e-6, "less than 0.01 %"), (0.0001, "0.01 %"), (0.005, "0.5 %"), (0.01, "1 %"), (1, "100 %")],
)
def test_a_share_is_a_percentage(share: float, says: str) -> None:
    """Small ones keep one digit; what is noise of the numbers is no 0."""
    assert percent(share) == says
