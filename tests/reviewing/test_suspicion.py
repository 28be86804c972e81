"""What the maps alone say of a shortcut, at the end of a record and after each step of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.journals import encoded_mask
from support.manifests import a_manifest
from support.reliance import box

from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import suspicion
from gradcam_callbacks.reviewing.measuring import measure
from gradcam_callbacks.reviewing.suspicion import Suspicion, find_look

RISING = (0.5, 0.8, 0.9, 0.95)


def with_regions(share: float, probes: int = 2) -> Manifest:
    """Probes with a region that is such a share of the picture."""
    region = encoded_mask(box(0, 0, 10, round(100 * share), size=(10, 100)))
    return a_manifest([f"cat_{n}" for n in range(probes)], ("tabby",), regions=[region] * probes)


def watched(focus: Sequence[float], accuracy: Sequence[float], first: int = 0) -> list[Step]:
    """Quiet maps of two probes whose focus has these means; a NaN accuracy was not logged."""
    steps = []
    for s, (mean, value) in enumerate(zip(focus, accuracy, strict=True)):
        arrays = {
            "maps": np.full((2, 1, 2, 2), 0.25, np.float32),
            "scores": np.zeros((2, 1), np.float32),
            "explained": np.zeros((2, 1), int),
            "predicted": np.zeros(2, int),
            "health": np.full((2, 1), "ok"),
            "focus": np.array([[mean], [mean]]),
        }
        steps.append(Step(first + s, arrays, {} if np.isnan(value) else {"accuracy": value}, 0.0))
    return steps


@pytest.mark.parametrize(
    ("focus", "share", "is_seen"),
    [
        ((0.99, 0.9, 0.8, 0.67), 0.13, False),  # one hot spot first, the whole disk then, at five times chance
        ((0.99, 0.9, 0.6, 0.36), 0.13, True),  # twice chance is little
        ((0.9, 0.7, 0.5, 0.38), 0.13, False),  # odds of 0.61, and of 0.15 by chance: 4.1 times
        ((0.9, 0.7, 0.5, 0.37), 0.13, True),  # 3.9 times
        ((0.98, 0.9, 0.8, 0.67), 0.4, True),  # of a large region a third more than its share is not much
    ],
)
def test_a_fall_to_well_above_chance_is_no_sign(focus: tuple[float, ...], share: float, is_seen: bool) -> None:
    """Four times the odds of the regions' share of the picture, and a network looks there."""
    steps = watched(focus, RISING)
    look = find_look(steps, measure(steps), with_regions(share))
    assert (look is not None) == is_seen
    if look is not None:
        assert look.text.startswith(f"Attention on the marked regions fell from {focus[0]:.0%}".replace("%", " %"))


def test_it_begins_where_focus_is_not_well_above_chance_any_more() -> None:
    """What fell, and was still four times chance, is not part of it."""
    steps = watched((0.99, 0.7, 0.5, 0.3, 0.25), (0.5, 0.8, 0.9, 0.95, 0.96))
    look = find_look(steps, measure(steps), with_regions(0.13))
    assert look is not None
    assert look.step == 3


@pytest.mark.parametrize(
    ("focus", "share", "is_seen"),
    [
        (0.81, 0.8, True),
        (0.92, 0.8, False),  # no map has 1.5 times 80 %, but its odds are nearly three times as much
        (0.3, 0.25, True),
        (0.4, 0.25, False),
        (0.1, 0.1, True),
    ],
)
def test_a_network_that_is_right_and_looks_there_no_more_than_by_chance(
    focus: float, share: float, is_seen: bool
) -> None:
    """Below 1.5 times the odds, whatever the size of the region."""
    steps = watched([focus] * 4, RISING)
    look = find_look(steps, measure(steps), with_regions(share))
    assert (look is not None) == is_seen
    if look is not None:
        assert look.step == 2
        assert look.text.startswith("Only ")


@pytest.mark.parametrize("first", [-1, 0])
@pytest.mark.parametrize(
    ("focus", "accuracy"),
    [
        ((0.99, 0.9, 0.8, 0.67), RISING),
        ((0.99, 0.9, 0.6, 0.3), RISING),
        ((0.99, 0.3, 0.6, 0.3), RISING),
        ((0.3, 0.99, 0.6, 0.3), RISING),  # it fell from a step that is not the first
        ((0.1, 0.1, 0.1, 0.1), RISING),
        ((0.6, 0.3, 0.3, 0.2), (0.9, 0.5, 0.5, 0.5)),
        ((0.6, 0.3, 0.3, 0.2), (np.nan, 0.5, np.nan, 0.95)),
        ((np.nan,) * 4, RISING),
    ],
)
def test_a_training_is_asked_the_same_as_its_record(
    focus: tuple[float, ...], accuracy: tuple[float, ...], first: int
) -> None:
    """After each step with metrics, what is suspected is what the record up to there says."""
    steps = watched(focus, accuracy, first)
    about = with_regions(0.13)
    suspicion_so_far = Suspicion(about)
    for s, step in enumerate(steps):
        so_far = steps[: s + 1]
        seen = find_look(so_far, measure(so_far), about) is not None
        assert suspicion_so_far.is_raised_by(step) == (seen and np.isfinite(accuracy[s]))


def test_without_regions_nothing_is_suspected() -> None:
    """And nothing is kept."""
    steps = watched((0.99, 0.6, 0.3, 0.1), RISING)
    for about in (a_manifest(("a", "b")), replace(with_regions(0.2), regions=(None, None))):
        asked = Suspicion(about)
        assert not any(asked.is_raised_by(step) for step in steps)
        assert asked._focus == []


def test_a_long_training_is_remembered_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept does not grow with the steps, and the first step is part of it."""
    monkeypatch.setattr(suspicion, "_REMEMBERED", 4)
    asked = Suspicion(with_regions(0.13))
    steps = watched([0.95] + [0.5] * 98 + [0.2], [0.5] + [0.9] * 99)
    assert [asked.is_raised_by(step) for step in steps] == [False] * 99 + [True]
    assert len(asked._focus) <= 8
