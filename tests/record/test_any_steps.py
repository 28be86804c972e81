"""What a step is written as is what is read, whatever its numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from support.fuzzing import fuzzed
from support.manifests import a_manifest

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.health import HEALTHS
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import Step, compressed

Arrays = dict[str, Any]
METRICS = st.dictionaries(st.text(max_size=8), st.floats() | st.integers(-(10**20), 10**20), max_size=4)


@st.composite
def arrays(draw: st.DrawFn) -> Arrays:
    """What an explanation of two probes and three targets records."""
    each = (2, 3)
    grid = draw(arrays_of.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=50))
    classes = st.integers(-(2**31) + 1, 2**31 - 1)
    states = draw(st.lists(st.sampled_from(HEALTHS), min_size=6, max_size=6))
    return {
        "maps": draw(arrays_of.arrays(np.float32, (*each, *grid), elements=st.floats(min_value=0, width=32))),
        "scores": draw(arrays_of.arrays(np.float32, each, elements=st.floats(width=32))),
        "explained": draw(arrays_of.arrays(np.int32, each, elements=classes)),
        "predicted": draw(arrays_of.arrays(np.int32, each[:1], elements=classes)),
        "health": np.array(states).reshape(each),
    }


@fuzzed
@given(arrays(), METRICS, st.floats(0, 9e10))
def test_any_step_is_read_as_it_was_written(arrays: Arrays, metrics: dict[str, float], time: float) -> None:
    """Each number to its last bit, NaN and infinity too, names in any script; and so it is once it is compressed."""
    manifest = a_manifest(targets=["a", "b", "c"])
    content = Step(4, arrays, metrics, time).encoded()
    for written in (content, compressed(content)):
        read = Step.parse(written, Path("steps/4.npz"), manifest)
        assert (read.step, read.time) == (4, time)
        assert read.arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read.arrays[name], array)
            assert read.arrays[name].dtype == array.dtype
        assert read.logs.keys() == metrics.keys()
        np.testing.assert_array_equal([*read.logs.values()], [float(value) for value in metrics.values()])


@fuzzed
@given(st.sets(st.text(max_size=12).filter(lambda item: "\n" not in item), max_size=5))
def test_any_mark_is_read_as_it_was_made(tmp_path: Path, items: set[str]) -> None:
    """Another process knows each item that was marked, and no other."""
    journal = Journal.create(tmp_path / "run", manifest=a_manifest(), pictures=np.zeros((2, 4, 5, 3), np.uint8))
    (journal.directory / "uploaded").unlink(missing_ok=True)
    journal.mark_uploaded(*items)
    assert Journal(journal.directory).uploaded() == items


@pytest.mark.parametrize("step", [-2, 10**15])
def test_a_step_that_could_not_be_read_is_not_written(step: int) -> None:
    """The name of its file would be none."""
    journal = Journal.create("run", manifest=a_manifest(), pictures=np.zeros((2, 4, 5, 3), np.uint8))
    with pytest.raises(GradCAMError, match="A step is an epoch, 0 or more, or -1 for the baseline, not"):
        journal.append(step, {}, {})
    assert journal.steps() == []
