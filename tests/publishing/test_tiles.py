"""What MLflow shows of a record says what the record says."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.manifests import a_manifest
from support.models import pictures

from gradcam_callbacks import ProbeSet, drawing
from gradcam_callbacks.publishing import metrics as step_numbers
from gradcam_callbacks.publishing import strip as strips
from gradcam_callbacks.publishing import tiles
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step

MASK = np.zeros((16, 16), bool)
MASK[2:9, 3:12] = True
PROBES = ProbeSet(
    (pictures(2) * 255).astype(np.uint8), targets=[0, 1], class_names=["cat", "dog"], regions=[MASK, None]
)
MANIFEST = Manifest(**PROBES.description())


def step(number: int, place: int = 0, **more: Any) -> Step:
    """Whose maps are one hot cell each."""
    maps = np.zeros((2, 2, 4, 4), np.float32)
    maps[..., place, place] = 1
    arrays = {
        "maps": maps,
        "scores": np.array([[1.5, -2.0], [np.inf, 4.0]], np.float32),
        "explained": np.array([[0, 1], [0, 1]]),
        "predicted": np.array([0, 1]),
        "health": np.array([["ok", "empty"], ["non-finite", "ok"]]),
    }
    return Step(number, arrays | more, {"loss": 0.5}, 1000.0 + number)


def test_metrics_name_probe_and_target_and_leave_out_what_is_not_known() -> None:
    """NaN is no metric; means are over what is known; the states are counted."""
    moved = np.array([[0.25, np.nan], [0.75, np.nan]])
    manifest = replace(MANIFEST, metrics="all")
    metrics = step_numbers.step_metrics(step(3, drift=moved, floor=moved / 10, lost=np.array(2)), manifest)
    assert metrics == {
        "gradcam_score/probe_0.cat": 1.5,
        "gradcam_score/probe_0.dog": -2.0,
        "gradcam_score/probe_1.dog": 4.0,
        "gradcam_drift/probe_0.cat": 0.25,
        "gradcam_drift/probe_1.cat": 0.75,
        "gradcam_drift/mean": 0.5,
        "gradcam_drift/noise_floor": 0.05,
        "gradcam_health/lost": 2.0,
        "gradcam_health/ok": 2.0,
        "gradcam_health/empty": 1.0,
        "gradcam_health/flat": 0.0,
        "gradcam_health/zero-gradient": 0.0,
        "gradcam_health/misplaced": 0.0,
        "gradcam_health/non-finite": 1.0,
    }
    unknown = step_numbers.step_metrics(step(3, drift=np.full((2, 2), np.nan)), MANIFEST)
    assert not [key for key in unknown if key.startswith("gradcam_drift")]


def test_by_default_metrics_are_means_and_means_a_class() -> None:
    """Of the maps of that class's probes, where what is known; of one class, or more than ten, there is none."""
    moved = np.array([[0.25, np.nan], [0.75, 0.25]])
    classes = replace(MANIFEST, labels=(0, 1))
    found = step_numbers.step_metrics(step(3, drift=moved, floor=moved / 10), classes)
    assert {key: value for key, value in found.items() if not key.startswith("gradcam_health/")} == {
        "gradcam_drift/mean": (0.25 + 0.75 + 0.25) / 3,
        "gradcam_drift/mean of cat": 0.25,
        "gradcam_drift/mean of dog": 0.5,
        "gradcam_drift/noise_floor": (0.25 + 0.75 + 0.25) / 30,
    }
    assert list(found)[-1] == step_numbers.ARRIVED
    same = step_numbers.step_metrics(step(3, drift=moved), replace(MANIFEST, labels=(1, 1)))
    assert [key for key in same if key.startswith("gradcam_drift")] == ["gradcam_drift/mean"]
    assert step_numbers.step_metrics(step(3, drift=moved), replace(classes, metrics="none")) == {}


@pytest.mark.parametrize(("count", "expected"), [(10, 10), (11, 0)])
def test_dozens_of_classes_have_no_means(count: int, expected: int) -> None:
    """Ten do; the names of classes stay distinct where their keys would be the same."""
    manifest = a_manifest(
        [f"p{n}" for n in range(count)],
        ["a"],
        labels=tuple(range(count)),
        class_names=tuple("a b" for _ in range(count)),
    )
    arrays = {
        "drift": np.arange(count, dtype=float)[:, None],
        "scores": np.zeros((count, 1)),
        "health": np.full((count, 1), "ok"),
    }
    found = step_numbers.step_metrics(Step(0, arrays, {}, 0.0), manifest)
    of_classes = {key: value for key, value in found.items() if key.startswith("gradcam_drift/mean of ")}
    assert sorted(of_classes.values()) == list(range(expected))


def test_a_misplaced_map_is_a_label_and_no_colours() -> None:
    """Its tile shows the picture as it is, with the word below it."""
    health = np.array([["ok", "misplaced"], ["ok", "ok"]])
    wrong = replace(step(3), arrays={**step(3).arrays, "maps": np.ones((2, 2, 4, 4), np.float32), "health": health})
    overlays = tiles.overlays_of(wrong, MANIFEST, PROBES.pictures, 0)
    np.testing.assert_array_equal(overlays[1], PROBES.pictures[0])
    assert (overlays[0] != PROBES.pictures[0]).any()
    as_empty = {**wrong.arrays, "health": np.array([["ok", "empty"], ["ok", "ok"]])}
    shown = tiles.step_tile(wrong, MANIFEST, PROBES.pictures, 0)
    assert (shown != tiles.step_tile(replace(wrong, arrays=as_empty), MANIFEST, PROBES.pictures, 0)).any()


def test_a_region_is_outlined_in_white_on_black_and_its_inside_is_seen() -> None:
    """The edge lies just inside, its dark border just outside, and nothing else is changed."""
    drawn = drawing.outline(PROBES.pictures, MASK)
    edge = MASK.copy()
    edge[3:8, 4:11] = False
    border = np.zeros_like(MASK)
    border[1:10, 3:12] = border[2:9, 2:13] = True
    border &= ~MASK
    assert (drawn[:, edge] == 255).all()
    assert (drawn[:, border] == 0).all()
    np.testing.assert_array_equal(drawn[:, ~(edge | border)], PROBES.pictures[:, ~(edge | border)])


def test_a_tile_shows_the_region_of_its_probe_only() -> None:
    """The probe with a region has another tile than without, the one without has the same."""
    bare = replace(MANIFEST, regions=None)
    drawn = [[tiles.step_tile(step(0), which, PROBES.pictures, n) for which in (MANIFEST, bare)] for n in range(2)]
    assert (drawn[0][0] != drawn[0][1]).any()
    np.testing.assert_array_equal(*drawn[1])


def test_a_strip_shows_the_map_that_moved_most_at_twelve_steps_at_most() -> None:
    """55 pixels high; 30 steps are thinned to 12, the first and the last among them."""
    moved = np.array([[0.0, np.nan], [0.0, 0.9]])
    steps = [step(-1), *(step(n, (n + 1) % 4, drift=moved) for n in range(29))]
    strip = strips.strip(steps, MANIFEST, PROBES.pictures)
    assert strip.shape == (55, 66 + 12 * 45 - 3, 3)
    frames = [strip[13:, 66 + 45 * n : 66 + 45 * n + 42].astype(int) for n in range(12)]
    shown = drawing.overlays(PROBES.pictures[1:], drawing.heatmaps(steps[0].arrays["maps"][1:, 1:], (16, 16)))[0, 0]
    expected = np.asarray(Image.fromarray(shown).resize((42, 42), Image.Resampling.LANCZOS)).astype(int)
    np.testing.assert_array_equal(frames[0], expected)
    assert (frames[0] != frames[-1]).any()
    assert strips.strip(steps[:1], MANIFEST, PROBES.pictures).shape == (55, 66 + 42, 3)


def test_an_animation_has_a_frame_a_step() -> None:
    """An animated WebP that any browser plays."""
    steps = [step(n - 1, n % 4) for n in range(4)]
    with Image.open(io.BytesIO(tiles.animation(steps, MANIFEST, PROBES.pictures, 0))) as animation:
        assert (animation.format, animation.n_frames) == ("WEBP", 4)
        assert animation.size[::-1] == tiles.step_tile(steps[0], MANIFEST, PROBES.pictures, 0).shape[:2]
