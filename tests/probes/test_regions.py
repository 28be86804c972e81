"""What holds of any box and any mask."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from support.fuzzing import fuzzed

from gradcam_callbacks import GradCAMError, ProbeSet
from gradcam_callbacks.probes.regions import as_regions
from gradcam_callbacks.record.manifest import Manifest

SIZES = arrays_of.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)


@fuzzed
@given(SIZES, st.data())
def test_a_box_is_the_mask_of_its_pixels(size: tuple[int, int], data: st.DataObject) -> None:
    """The box around a mask that is a box gives that mask; its area is that of its sides; None has no pixel."""
    (y0, y1), (x0, x1) = (
        sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in size
    )
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    masks = as_regions([(y0, x0, y1, x1), mask, None], 3, size)
    assert masks is not None
    np.testing.assert_array_equal(masks, [mask, mask, np.zeros(size, bool)])
    assert masks[0].sum() == (y1 - y0) * (x1 - x0)


@fuzzed
@given(SIZES, st.data())
def test_any_mask_comes_back_from_the_record(size: tuple[int, int], data: st.DataObject) -> None:
    """What a person marked is what a review shows, pixel by pixel, also at the end of a row."""
    masks = data.draw(arrays_of.arrays(bool, (2, *size)))
    probes = ProbeSet(np.zeros((2, *size, 3), np.float32), regions=[*masks])
    read = Manifest.parse(Manifest(**probes.description()).encoded(), "journal").masks()
    np.testing.assert_array_equal(np.zeros_like(masks) if read is None else read, masks)  # None where all are empty


@fuzzed
@given(
    st.lists(st.integers(-3, 9) | st.floats() | st.just(np.nan), min_size=4, max_size=4)
    | st.lists(st.integers(0, 3) | st.none() | st.text(max_size=2), max_size=5)
    | st.text(max_size=4)
    | st.integers()
)
def test_fuzzed_boxes(region: Any) -> None:
    """Four numbers are a box inside the picture, and anything else is refused in our words."""
    with suppress(GradCAMError):
        masks = as_regions([region], 1, (7, 6))
        assert masks is not None
        y0, x0, y1, x1 = region
        assert masks.sum() == (int(y1) - int(y0)) * (int(x1) - int(x0)) > 0


def test_a_box_in_shares_of_the_picture_is_refused_as_it_came() -> None:
    """Some tools give boxes in 0..1; the message shows that box, and not what it was rounded to."""
    with pytest.raises(GradCAMError, match=r"Region 0 is \(0\.1, 0\.2, 0\.9, 0\.8\); a box is \(y0, x0, y1, x1\)"):
        as_regions([(0.1, 0.2, 0.9, 0.8)], 1, (16, 16))
