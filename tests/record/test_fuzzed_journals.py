"""Whatever bytes lie in a journal: our errors only, little memory, and nothing is executed."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from support.fuzzing import damaged, fuzzed, json_values
from support.journals import make_journal

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import report

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three steps, with regions."""
    mask = np.zeros((48, 64), bool)
    mask[8:20, 8:20] = True
    path = tmp_path_factory.mktemp("fuzzed") / "run"
    make_journal(path, steps=(-1, 0, 1), regions=[mask, None]).mark_uploaded("metrics/0", "maps/0")
    return path


@contextmanager
def changed(file: Path, content: bytes) -> Iterator[None]:
    """The file with other content for a while."""
    before = file.read_bytes()
    file.write_bytes(content)
    # Its date tells that it is another one; within one tick of the clock it could be the same.
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1))
    try:
        yield
    finally:
        file.write_bytes(before)


def is_used(folder: Path, *, with_page: bool = True) -> None:
    """Reads all that there is to read, as `gradcam report` and `upload` do; only our errors are let through."""
    tracemalloc.start()
    try:
        with suppress(GradCAMError):
            journal = Journal(folder)
            journal.uploaded()
            assert journal.status in (None, "FINISHED", "FAILED", "KILLED")
            for step in journal.steps():
                assert journal.read(step).maps.shape[:2] == (2, 2)
            if with_page:
                report.build([journal])
        assert tracemalloc.get_traced_memory()[1] < 100 * MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("long")
@fuzzed
@given(data=st.data())
@pytest.mark.parametrize("name", ["manifest.json", "steps/1.npz", "uploaded"])
def test_fuzzed_bytes(folder: Path, name: str, data: st.DataObject) -> None:
    """A manifest, a step and marks of any bytes."""
    file = folder / name
    with changed(file, data.draw(damaged(file.read_bytes()))):
        is_used(folder, with_page=name != "uploaded")  # nothing on the page comes from the marks


@pytest.mark.usefixtures("long")
@fuzzed
@given(data=st.data())
def test_fuzzed_fields(folder: Path, data: st.DataObject) -> None:
    """A manifest whose fields are missing, or any JSON."""
    file = folder / "manifest.json"
    held = json.loads(file.read_bytes())
    for name in data.draw(st.lists(st.sampled_from(sorted(held)), min_size=1, max_size=3)):
        value = data.draw(st.just(...) | json_values | st.sampled_from([[], ["a"], ["a", "b"], [1, 2], "x", 3]))
        held.pop(name, None)
        if value is not ...:
            held[name] = value
    with changed(file, json.dumps(held).encode()):
        is_used(folder)


@pytest.mark.usefixtures("long")
@fuzzed
@given(data=st.data())
def test_fuzzed_arrays(folder: Path, data: st.DataObject) -> None:
    """A readable step with an array that is missing, or has another shape, type or content."""
    file = folder / "steps/1.npz"
    with np.load(file) as whole:
        arrays = dict(whole)
    kinds = arrays_of.scalar_dtypes() | st.sampled_from([np.dtype("f4"), np.dtype("i4"), np.dtype("U5")])
    shapes = arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3) | st.sampled_from(
        [(2, 2), (2,), (), (2, 2, 7, 7), (2, 2, 3, 3), (2, 2, 5), (2, 2, 2, 3, 3)]
    )
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=3)):
        array = data.draw(st.none() | arrays_of.arrays(kinds, shapes))
        arrays.pop(name, None)
        if array is not None:
            arrays[name] = array
    if "arrays" in arrays and data.draw(st.booleans()):
        arrays["arrays"] = np.array(sorted(arrays.keys() - {"arrays", "logs", "time"}), str)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with changed(file, buffer.getvalue()):
        is_used(folder)
