"""What a recorder makes of the maps before it writes them down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.models import pictures

from gradcam_callbacks import InMemoryStore, ProbeSet
from gradcam_callbacks.publishing.delivery import Delivery
from gradcam_callbacks.publishing.recorder import FLOOR_EVERY, Recorder
from gradcam_callbacks.record.manifest import Manifest

Array = np.ndarray[Any, np.dtype[Any]]

LEFT = np.zeros((16, 16), bool)
LEFT[:, :8] = True
PROBES = ProbeSet(pictures(2), targets=[0, 1], regions=[LEFT, LEFT])


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    manifest = Manifest(**PROBES.description(), layer="conv", method="gradcam")
    delivery = Delivery("kept", flush_timeout=5, strict=True, verbose=False)
    opened = Recorder.open(InMemoryStore(), PROBES, manifest, delivery)
    yield opened
    opened.close("FINISHED")


def explained(places: Any, health: Any = "ok") -> dict[str, Array]:
    """Maps of two cells (1 - x, x), as an explanation has them."""
    x = np.broadcast_to(np.asarray(places, np.float32), (2, 2))
    return {
        "maps": np.stack([1 - x, x], axis=-1)[:, :, None],
        "scores": np.ones((2, 2), np.float32),
        "explained": np.array([[0, 1], [0, 1]], np.int32),
        "predicted": np.zeros(2, np.int32),
        "health": np.broadcast_to(np.array(health), (2, 2)),
    }


def test_a_map_within_the_noise_is_flat(recorder: Recorder) -> None:
    """Where noise moves as much of the attention as would make the map even; also between the measurements."""
    uneven = np.array([[0.6, 0.6], [0.9, 0.45]])  # by 0.1, 0.1, 0.4 and 0.05
    moved = np.array([[0.05, 0.15], [0.3, 0.1]])
    recorder.record(0, explained(uneven), {}, noisy=explained(uneven - moved))
    for step in range(1, FLOOR_EVERY):
        assert not recorder.wants_noise()
        recorder.record(step, explained(uneven), {})
    assert recorder.wants_noise()
    recorder.record(FLOOR_EVERY, explained(uneven), {}, noisy=explained(uneven))
    found = [recorder.journal.read(step).health.tolist() for step in range(FLOOR_EVERY + 1)]
    assert found == [[["ok", "flat"], ["ok", "flat"]]] * FLOOR_EVERY + [[["ok", "ok"], ["ok", "ok"]]]
    np.testing.assert_allclose(recorder.journal.read(0).maps, explained(uneven)["maps"])


def test_without_a_measurement_no_map_is_within_the_noise(recorder: Recorder) -> None:
    """Nothing is known of it; and a state that says more than "flat" stays."""
    recorder.record(0, explained(0.51), {})
    assert set(recorder.journal.read(0).health.ravel()) == {"ok"}
    recorder.record(1, explained(0.51, "zero-gradient"), {}, noisy=explained(0.9))
    assert set(recorder.journal.read(1).health.ravel()) == {"zero-gradient"}


def test_an_even_map_says_nothing_however_quiet_the_noise_is(recorder: Recorder) -> None:
    """What is as even as can be is within a noise that moves nothing."""
    recorder.record(0, explained([[0.5, 0.51], [0.5, 0.5]]), {}, noisy=explained([[0.5, 0.51], [0.5, 0.5]]))
    assert recorder.journal.read(0).health.tolist() == [["flat", "ok"], ["flat", "flat"]]


def test_a_measurement_that_failed_leaves_the_one_before(recorder: Recorder) -> None:
    """Where the noisy map is empty, the noise is what it was."""
    recorder.record(0, explained(0.6), {}, noisy=explained(0.45))
    noisy = explained(0.6)
    noisy["maps"] = noisy["maps"] * np.array([0, 1], np.float32)[:, None, None]
    recorder.record(1, explained(0.6), {}, noisy=noisy)
    assert recorder.journal.read(0).health.tolist() == [["flat", "flat"]] * 2
    assert recorder.journal.read(1).health.tolist() == [["flat", "ok"]] * 2


def test_a_misplaced_map_is_kept_and_not_measured(recorder: Recorder) -> None:
    """Its places mean nothing on the picture: it has no focus, no peak in a region and no drift, also afterwards."""
    states = [["misplaced", "ok"], ["ok", "ok"]]
    recorder.record(0, explained(0.2, states), {}, noisy=explained(0.25, states))
    recorder.record(1, explained(0.3), {})
    first, second = recorder.journal.read(0), recorder.journal.read(1)
    np.testing.assert_allclose(first.maps, explained(0.2)["maps"])
    assert first.health.tolist() == states
    for name in ("focus", "pointing", "floor"):
        assert np.isnan(first.measured(name)).tolist() == [[True, False], [False, False]]
    np.testing.assert_allclose(second.measured("drift"), [[np.nan, 0.1], [0.1, 0.1]], rtol=1e-5)
    np.testing.assert_allclose(second.measured("focus"), 0.7, rtol=1e-5)
