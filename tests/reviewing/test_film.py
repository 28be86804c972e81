"""The maps of runs over time as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.journals import Array, jumping, make_journal, place_of

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing.assessing import assess
from gradcam_callbacks.reviewing.film import MOST_ROWS, film
from gradcam_callbacks.reviewing.report import read_steps

# Where frames are, in pixels: of pictures of 48 x 64, 84 x 112.
LEFT, TOP, WIDE, HIGH, SIZE = 202, 51, 118, 107, (84, 112)


def drawn(journals: Sequence[Journal]) -> Array:
    names = [journal.directory.name for journal in journals]
    return film(names, journals, [assess(journal, read_steps(journal)) for journal in journals]).astype(int)


def hottest(sheet: Array, row: int, column: int) -> tuple[float, float]:
    """Where a frame is most colourful, in shares of its sides: on a white picture that is where its heat is highest."""
    y, x = TOP + row * HIGH, LEFT + column * WIDE
    colourful = np.ptp(sheet[y : y + SIZE[0], x : x + SIZE[1]], axis=2)
    rows, columns = np.nonzero(colourful == colourful.max())
    return (columns.mean() + 0.5) / SIZE[1], (rows.mean() + 0.5) / SIZE[0]


def test_a_row_shows_where_a_map_is_at_each_step(tmp_path: Path) -> None:
    """Each probe and target has a row; the first and the last step are among the twelve."""
    journal = make_journal(tmp_path / "run", steps=range(24))
    sheet = drawn([journal])
    assert sheet.shape == (TOP + 4 * HIGH + 6, LEFT + 12 * WIDE + 6, 3)
    for row, (n, k) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        for column, step in ((0, 0), (11, 23)):
            assert hottest(sheet, row, column) == pytest.approx(place_of(step, n, k), abs=0.08)


def test_several_runs_stand_one_below_the_other(tmp_path: Path) -> None:
    """Each at the last step that it had by then; one that has none yet is pale, and one of other probes is refused."""
    early = make_journal(tmp_path / "early", names=["cat"], targets=["tabby"], steps=range(3))
    late = make_journal(tmp_path / "late", names=["cat"], targets=["tabby"], steps=range(2, 6))
    sheet = drawn([early, late])
    assert sheet.shape[:2] == (TOP + 2 * HIGH + 6, LEFT + 6 * WIDE + 6)
    assert hottest(sheet, 0, 5) == hottest(sheet, 0, 2)
    assert hottest(sheet, 1, 5) == pytest.approx(place_of(5), abs=0.08)
    y = TOP + HIGH
    assert np.ptp(sheet[y : y + SIZE[0], LEFT : LEFT + SIZE[1]], axis=2).max() == 0
    other = make_journal(tmp_path / "other", names=["dog"], targets=["tabby"], digest="b" * 64)
    with pytest.raises(GradCAMError, match="different probes"):
        drawn([early, other])


def test_of_many_maps_those_are_shown_that_moved_the_most(tmp_path: Path) -> None:
    """Of 60 probes one jumps: it is among the rows, which stay in the order of the record."""
    maps = jumping(range(5), 3, count=60)
    for step, of_step in maps.items():
        of_step[:59] = maps[0][:59] if step else of_step[:59]
    journal = make_journal(
        tmp_path / "many", names=[f"probe {n}" for n in range(60)], targets=["tabby"], steps=range(5), maps=maps
    )
    sheet = drawn([journal])
    assert sheet.shape[0] == TOP + MOST_ROWS * HIGH + 6
    assert hottest(sheet, MOST_ROWS - 1, 0)[0] < 0.4
    assert hottest(sheet, MOST_ROWS - 1, 4)[0] > 0.6
    assert hottest(sheet, 0, 4)[0] < 0.4


@pytest.mark.parametrize("grid", [(9,), (2, 3, 3)])
def test_signals_and_volumes_have_films(tmp_path: Path, grid: tuple[int, ...]) -> None:
    """Heat lies on the curve of a signal, and on the slices of a volume."""
    maps = {step: np.zeros((1, 1, *grid), np.float32) for step in range(2)}
    for of_step in maps.values():
        of_step[(0, 0, *(0 for _ in grid))] = 1
    slices = {"slices": 4} if len(grid) == 3 else {}
    journal = make_journal(tmp_path / "run", names=["a"], targets=["tabby"], steps=range(2), maps=maps, **slices)
    sheet = drawn([journal])
    x, y = hottest(sheet, 0, 1)
    assert x < 0.4
    assert y < 0.4 or len(grid) == 1
