"""What `benchmarks/verdicts.py` counts, against numbers worked out by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from planted import marks, odds, training


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (0, 10, 0, 1 - 0.025 ** (1 / 10)),
        (10, 10, 0.025 ** (1 / 10), 1),
        (1, 2, 1 - 0.975**0.5, 0.975**0.5),
        (0, 1, 0, 0.975),
    ],
)
def test_intervals_are_exact(hits, count, low, high):
    """The bounds are those at which the tail of the binomial distribution holds 2.5 %."""
    assert odds.interval(hits, count) == pytest.approx((low, high), abs=1e-9)


def test_130_without_a_hit_leave_2_8_percent():
    """No hit among n leaves 0 to 1 - 0.025 ** (1 / n)."""
    assert odds.interval(0, 130)[1] == pytest.approx(1 - 0.025 ** (1 / 130), abs=1e-9)
    assert odds.share(0, 130) == "0 of 130 (0–2.8 %)"


def test_reliance_counts_the_pictures_that_turn():
    """Pictures of the class, and those answered as it before, do not count."""
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    before = np.array([0, 1, 1, 0, 2, 2, 3, 1])
    after_ = np.array([0, 0, 0, 0, 0, 2, 3, 0])
    # Class 0: of pictures 2, 4, 5, 6, 7 (3 was answered 0 before) 2, 4 and 7 turn.
    assert training.reliance(before, after_, labels, 0) == (pytest.approx(3 / 5), 0)
    assert training.reliance(before, after_, labels, 1) == (0, 1)


def test_reliance_without_a_marked_class_is_the_highest():
    """Where no class was marked, the class that most pictures turn into is asked about."""
    labels = np.array([0, 1, 2, 3])
    assert training.reliance(labels, np.array([0, 1, 3, 3]), labels, None) == (pytest.approx(1 / 3), 3)
    assert training.reliance(labels, labels, labels, None)[0] == 0


@pytest.mark.parametrize("mark", marks.MARKS)
def test_a_mark_lies_where_it_says(mark):
    """Outside its mask a marked picture is the picture; the look is the same for each picture and differs by seed."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(60, 200, (3, 64, 64, 3), np.uint8)
    masks = np.zeros((3, 64, 64), bool)
    masks[:, 20:44, 20:44] = True
    marked, where = marks.add(mark, pictures, masks, look=[1], places=[[0], [1], [2]])
    np.testing.assert_array_equal(marked[~where], pictures[~where])
    assert (marked != pictures)[where].mean() > 0.5
    again, _ = marks.add(mark, pictures, masks, look=[1], places=[[0], [1], [2]])
    np.testing.assert_array_equal(again, marked)
    other, _ = marks.add(mark, pictures, masks, look=[2], places=[[0], [1], [2]])
    assert (other != marked).any()
    if mark == "inside":
        assert not (where & ~masks).any()
    if mark in ("patch", "tint"):
        assert not (where & masks).any()


def test_hits_false_alarms_and_delays_are_counted(tmp_path):
    """Found are alarms at reliance ≥ 0.5, accused those at ≤ 0.1, and the delay is from reliance to alarm."""
    courses = {"logo": [0.1, 0.5, 0.7], "patch": [0.6, 0.4, 0.9], "frame": [0, 0, 0.1], "tint": [0, 0, 0.3]}
    alarms = {"logo": 2, "patch": None, "frame": None, "tint": 1}
    wanted = [training.Settings("disks", "small", mark, "100", 1) for mark in courses]
    (tmp_path / "trainings").mkdir()
    with (tmp_path / "verdicts.jsonl").open("w") as lines:
        for settings in wanted:
            with training.path(settings, tmp_path).open("wb") as file:
                np.savez(file, log_reliance=np.array(courses[settings.mark]))
            alarm = alarms[settings.mark]
            verdict = "ok" if alarm is None else "shortcut"
            line = {"training": settings.name, "rule": "ours", "regions": True, "verdict": "unfit", "alarm_epoch": None}
            print(json.dumps(line), file=lines)  # a later line replaces it
            print(json.dumps(line | {"verdict": verdict, "alarm_epoch": alarm}), file=lines)
    judged = odds.read(tmp_path, wanted)
    assert [(one.reliance, one.relies_from) for one in judged] == [(0.7, 1), (0.9, 2), (0.1, None), (0.3, None)]
    assert odds.delays(judged) == [1]
    (table,) = odds.tables(judged)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0][2:] == (
        "1 of 2 (1.26–98.7 %)",
        "0 of 1 (0–97.5 %)",
        "1 of 1",
        "0, 0, 0",
        "median 1, 10 to 90 %: 1 to 1",
    )
    odds.picture(judged, tmp_path / "odds.png")
    assert (tmp_path / "odds.png").stat().st_size > 10_000
