"""Tests of reliance on disk: what was found comes back, and what is damaged is left out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.journals import make_journal
from support.reliance import a_finding, box

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.reliance import MOST_TEST_BYTES, Count, Reliance

FOUND = Reliance(
    findings=(
        a_finding(probes=(1,), areas=(box(3, 4, 9, 10),), alike=True, pasted=(3, 4), hidden=(0, 2)),
        a_finding("cleared", kind="common", probes=(0, 1), in_place=True, elsewhere=(1, 9)),
    ),
    passes=812,
    reason="One class was left out.",
)


def assert_same(found: Reliance, expected: Reliance) -> None:
    assert (found.passes, found.reason) == (expected.passes, expected.reason)
    for one, other in zip(found.findings, expected.findings, strict=True):
        held, wanted = vars(one) | {"areas": 0}, vars(other) | {"areas": 0}
        assert held == wanted
        np.testing.assert_array_equal(one.areas, other.areas)


def test_a_test_comes_back_from_the_disk() -> None:
    """Another process reads of a journal's tests what was left there, in the order of the steps."""
    journal = make_journal(Path("run"))
    assert journal.tests() == {}
    journal.leave_test(4, FOUND)
    journal.leave_test(-1, Reliance(reason="There was nothing to test."))
    assert not journal.held
    found = Journal("run").tests()
    assert list(found) == [-1, 4]
    assert_same(found[4], FOUND)
    assert found[-1].reason == "There was nothing to test."
    assert len(found[4].confirmed) == 1


def test_a_test_is_held_in_memory_while_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk does not take is served from memory, and written when the disk takes it."""
    journal = make_journal(Path("run"))
    Path("run/tests").write_text("in the way")
    journal.leave_test(2, FOUND)
    assert journal.held == 1
    assert_same(journal.tests()[2], FOUND)
    Path("run/tests").unlink()
    assert journal.flush()
    assert_same(Journal("run").tests()[2], FOUND)


def test_a_journal_without_its_folder_still_takes_a_test() -> None:
    """Where somebody removed the folder, it is made again."""
    journal = make_journal(Path("run"))
    shutil.rmtree("run")
    journal.leave_test(2, FOUND)
    assert list(Journal("run").tests()) == [2]


@pytest.mark.parametrize(
    "change",
    [
        {"findings": {}},
        {"findings": [{}]},
        {"findings": [3]},
        {"passes": -1},
        {"passes": True},
        {"reason": 3},
    ],
)
def test_a_damaged_test_is_left_out(change: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """One warning names the file, and the others are read."""
    journal = make_journal(Path("run"))
    journal.leave_test(2, FOUND)
    journal.leave_test(3, FOUND)
    damaged(3, change)
    opened = Journal("run")
    assert [*opened.tests()] == [*opened.tests()] == [2]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "tests/3.json' is damaged" in message.replace(os.sep, "/")
    assert "left out" in message


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "inside"},
        {"outcome": "likely"},
        {"probes": [0, 0]},
        {"probes": [7]},
        {"decisive": [0]},
        {"areas": []},
        {"areas": ["no PNG"]},
        {"size": [10**6, 10**6]},
        {"size": [3, 3]},
        {"covered": [3, 2]},
        {"covered": [-1, 2]},
        {"answer": 1e300},
        {"answer": "sailboat"},
    ],
)
def test_a_damaged_finding_is_refused(change: dict[str, Any]) -> None:
    """Words, probes, areas and counts that cannot be make the file a damaged one."""
    held = json.loads(FOUND.encoded())
    held["findings"][0] |= change
    with pytest.raises(GradCAMError, match="'a' is damaged"):
        Reliance.parse(json.dumps(held).encode(), "a", probes=2)


def test_other_files_among_the_tests(caplog: pytest.LogCaptureFixture) -> None:
    """Pipes and names that are no step are not read, and never waited for."""
    journal = make_journal(Path("run"))
    journal.leave_test(2, FOUND)
    if hasattr(os, "mkfifo"):
        os.mkfifo("run/tests/3.json")
    Path("run/tests/004.json").write_bytes(FOUND.encoded())
    Path("run/tests/note.txt").write_text("mine")
    assert [*Journal("run").tests()] == [2]
    assert len(caplog.records) == 1 + hasattr(os, "mkfifo")


def damaged(step: int, change: dict[str, Any]) -> None:
    file = Path(f"run/tests/{step}.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_what_cannot_be_a_test_is_named() -> None:
    """One that is too long to read, and areas of another size than those beside them."""
    with pytest.raises(GradCAMError, match="damaged: it is no test of reliance"):
        Reliance.parse(b" " * (MOST_TEST_BYTES + 1), "4.json", probes=2)
    held = json.loads(FOUND.encoded())
    small = json.loads(Reliance(findings=(a_finding(areas=(box(0, 0, 2, 2, size=(4, 4)),)),)).encoded())
    held["findings"][1]["areas"][1] = small["findings"][0]["areas"][0]
    with pytest.raises(GradCAMError, match="damaged: it is no test of reliance"):
        Reliance.parse(json.dumps(held).encode(), "4.json", probes=2)


def test_a_share_of_none_is_not_known() -> None:
    """Neither 0 nor 1."""
    assert np.isnan(Count(0, 0).share)
    assert Count(1, 4).share == 0.25


def test_a_folder_of_tests_that_cannot_be_read_is_no_test() -> None:
    """The record is used without, and the trouble is kept."""
    journal = make_journal(Path("run"))
    Path("run/tests").write_text("in the way")
    assert journal.tests() == {}
    assert isinstance(journal.trouble, NotADirectoryError)
