"""The numbers of runs as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from support.journals import HOSTILE, make_journal

from gradcam_callbacks.record.measures import MEASURES
from gradcam_callbacks.reviewing import drift
from gradcam_callbacks.reviewing.assessing import assess
from gradcam_callbacks.reviewing.numbers import as_csv
from gradcam_callbacks.reviewing.report import read_steps


def test_each_map_has_a_row_with_all_measures(tmp_path: Path) -> None:
    """Of two runs each probe and target at each step, with the numbers of the record; what is not known is empty."""
    mask = np.zeros((48, 64), bool)
    mask[:24] = True
    about = {"names": ["cat", HOSTILE], "steps": range(-1, 3), "regions": [mask, None]}
    journals = [make_journal(tmp_path / name, **about) for name in ("one", "two")]
    found = [assess(journal, read_steps(journal)) for journal in journals]
    rows = list(csv.DictReader(io.StringIO(as_csv(["one", "two"], journals, found), newline="")))
    assert len(rows) == 2 * 4 * 2 * 2
    words = ["run", "epoch", "probe", "target", "label", "explained", "predicted", "score", "probability"]
    assert list(rows[0]) == [*words, *[name for name, row in MEASURES.items() if row.of != "model"], "health"]
    (row,) = [
        row for row in rows if (row["run"], row["epoch"], row["probe"], row["target"]) == ("two", "2", HOSTILE, "tabby")
    ]
    before, now = journals[1].read(1), journals[1].read(2)
    assert (row["label"], row["explained"], row["predicted"], row["health"]) == ("beagle", "tabby", "beagle", "ok")
    assert float(row["score"]) == now.scores[1, 1]
    assert float(row["probability"]) == 0.25
    assert float(row["drift"]) == drift.drift(before.maps, now.maps)[1, 1]
    assert float(row["shift"]) == pytest.approx(drift.shift(before.maps, now.maps)[1, 1])
    assert row["focus"] == ""
    focus = [float(each["focus"]) for each in rows if each["probe"] == "cat" and each["run"] == "one"]
    recorded = np.stack([journals[0].read(step).arrays["focus"][0] for step in range(-1, 3)])
    np.testing.assert_allclose(focus, recorded.ravel())
    assert {each["drift"] for each in rows if each["epoch"] == "-1"} == {""}


def test_runs_of_other_probes_and_units_stand_in_one_table(tmp_path: Path) -> None:
    """What a step is has a neutral name then."""
    journals = [
        make_journal(tmp_path / "one", names=["a"], steps=[0]),
        make_journal(tmp_path / "two", names=["b", "c"], steps=[0], unit="batch", digest="b" * 64),
    ]
    found = [assess(journal, read_steps(journal)) for journal in journals]
    rows = list(csv.DictReader(io.StringIO(as_csv(["one", "two"], journals, found), newline="")))
    assert [(row["run"], row["step"], row["probe"]) for row in rows[::2]] == [
        ("one", "0", "a"),
        ("two", "0", "b"),
        ("two", "0", "c"),
    ]
