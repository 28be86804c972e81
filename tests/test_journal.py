"""What is in the journal is there as a whole, and read without pickle."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from gradcam_callbacks.drift import focus
from gradcam_callbacks.journal import Journal

MANIFEST = {"probes": "a" * 64, "layer": "conv", "method": "gradcam", "names": ["кот"]}


def new_journal(folder: str = "journal", **changes: str) -> Journal:
    pictures = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    return Journal.create(folder, manifest=MANIFEST | changes, pictures=pictures)


def test_what_is_written_is_read_back() -> None:
    """Arrays, logs, names in any script and pictures come back as they were, from another object."""
    arrays = {
        "maps": np.random.default_rng(0).random((2, 1, 3, 3), np.float32),
        "health": np.array([["ok"], ["empty"]]),
    }
    new_journal().append(3, arrays, {"loss": 0.5})
    journal = Journal("journal")
    step = journal.read(3)
    for name, array in arrays.items():
        np.testing.assert_array_equal(step.arrays[name], array)
    assert step.logs == {"loss": 0.5}
    assert journal.manifest["names"] == ["кот"]
    np.testing.assert_array_equal(journal.pictures(), np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3))


def test_steps_are_in_order_and_a_repeated_one_replaces() -> None:
    """Step 10 comes after step 9, and a step is there once, with what was written last."""
    journal = new_journal()
    for step, value in ((10, 1.0), (9, 2.0), (10, 3.0)):
        journal.append(step, {"scores": np.array(value)}, {})
    assert journal.steps() == [9, 10]
    assert journal.read(10).arrays["scores"] == 3


def test_a_failed_write_leaves_the_old_file_and_no_other() -> None:
    """Where the disk takes no more in the middle, the step is as it was before, and no temporary file stays."""
    journal = new_journal()
    journal.append(0, {"scores": np.array(1.0)}, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append(0, {"scores": np.random.default_rng(0).random(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.read(0).arrays["scores"] == 1
    assert [path.name for path in Path("journal/steps").iterdir()] == ["0.npz"]


@pytest.mark.parametrize("key", ["probes", "layer", "method"])
def test_a_journal_of_something_else_is_refused(key: str) -> None:
    """The message names what differs."""
    new_journal()
    assert new_journal().steps() == []
    with pytest.raises(ValueError, match=rf"Journal 'journal' was made with {key} .*, now it is other"):
        new_journal(**{key: "other"})


def test_a_journal_of_another_format_is_refused() -> None:
    """A later format is not misread."""
    new_journal()
    path = Path("journal/manifest.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match=r"Journal 'journal' has format 2; this version reads 1\."):
        Journal("journal")


def test_focus_is_the_share_of_the_attention_inside() -> None:
    """A cell half inside the region counts half; without a region or attention the share is unknown, not 0."""
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[:, 0] = [[1, 0], [0, 0]]
    maps[:, 1] = [[1, 1], [1, 5]]
    regions = np.zeros((2, 8, 8), bool)
    regions[0, :4, :] = True
    regions[0, 4:, :2] = True
    result = focus(maps, regions)
    np.testing.assert_allclose(result[0, :2], [1, (1 + 1 + 0.5) / 8])
    assert np.isnan(result[0, 2])
    assert np.isnan(result[1]).all()
