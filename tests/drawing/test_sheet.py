"""A contact sheet shows each panel in its place, as large as it can, under words that can be read on a card."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_callbacks import drawing

SHOWN = 189
"""How many pixels wide cards of MLflow 3.17 show a picture in a window of 1280 with its assistant open."""
HIGH = 200
"""How many pixels of its height they show then."""


def plain(height: int, width: int, rgb: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


def sheet_of(count: int, height: int = 100, width: int = 100, **more: object) -> np.ndarray:
    """Of panels of colours that no letter has."""
    panels = np.stack([plain(height, width, (200, 10 * n, 30)) for n in range(count)])
    captions = [("", "")] * count
    return drawing.sheet(panels, **({"title": "", "captions": captions} | more))  # type: ignore[arg-type]


def box(changed: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) around the pixels that are true."""
    rows, columns = np.nonzero(changed)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize(
    ("count", "shape", "columns"),
    [
        (16, (100, 100), 4),
        (12, (100, 100), 4),
        (5, (100, 100), 3),
        (2, (60, 200), 1),
        (2, (200, 60), 2),
        (1, (50, 50), 1),
    ],
)
def test_panels_are_whole_in_order_and_as_large_as_they_can_be(
    count: int, shape: tuple[int, int], columns: int
) -> None:
    """Row by row; together they fill what a card shows, whose height is not cut off."""
    drawn = sheet_of(count, *shape)
    boxes = [box((drawn == (200, 10 * n, 30)).all(axis=-1)) for n in range(count)]
    height, width = boxes[0][1] - boxes[0][0], boxes[0][3] - boxes[0][2]
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert {(bottom - top, right - left) for top, bottom, left, right in boxes} == {(height, width)}
    corners = [(top, left) for top, _, left, _ in boxes]
    assert corners == sorted(corners)
    assert len({left for _, left in corners}) == columns
    assert drawn.shape[0] * SHOWN / drawn.shape[1] <= HIGH + 1
    assert max(drawn.shape) > 470


@pytest.mark.parametrize("count", [1, 5, 12])
def test_words_of_a_sheet_can_be_read_on_a_card(count: int) -> None:
    """Letters of 9 pixels, whose capitals are at least 6.5 high, where MLflow shows the sheet smallest."""
    empty = sheet_of(count)
    for drawn in (sheet_of(count, title="H"), sheet_of(count, captions=[("H", "")] + [("", "")] * (count - 1))):
        top, bottom, _, _ = box((drawn != empty).any(axis=-1))
        assert (bottom - top) * SHOWN / drawn.shape[1] >= 6.5


@pytest.mark.parametrize("k", range(1, 9))
def test_words_of_a_tile_can_be_read_on_a_card(k: int) -> None:
    """Likewise, on tiles of one to eight targets, whose names stay beside them."""
    panel = plain(224, 224, (200, 0, 30))
    tiles = [
        drawing.tile(panel, np.repeat(panel[None], k, axis=0), title=title, captions=[("", "")] * k)
        for title in ("", "H")
    ]
    top, bottom, _, _ = box((tiles[0] != tiles[1]).any(axis=-1))
    assert (bottom - top) * SHOWN / tiles[0].shape[1] >= 6.5
    assert tiles[0].shape[0] * SHOWN / tiles[0].shape[1] <= HIGH + 1


def test_what_is_wrong_with_a_map_stands_beside_its_name() -> None:
    """In full, whatever the name is."""
    empty = sheet_of(6)
    state = sheet_of(6, captions=[("", "empty")] + [("", "")] * 5)
    both = sheet_of(6, captions=[("a name that is too long", "empty")] + [("", "")] * 5)
    top, bottom, left, right = box((state != empty).any(axis=-1))
    np.testing.assert_array_equal(both[top:bottom, left:right], state[top:bottom, left:right])


def test_sixteen_panels_have_no_names_and_are_larger_for_it() -> None:
    """Each is a quarter of the width, but for the gaps, where names would have left a sixth; the title is there."""
    np.testing.assert_array_equal(sheet_of(16), sheet_of(16, captions=[("H", "empty")] * 16))
    assert (sheet_of(16) == (200, 0, 30)).all(axis=-1).sum() > 115**2
    assert (sheet_of(16) != sheet_of(16, title="H")).any()


def test_words_do_not_move_the_panels() -> None:
    """The steps of a run lie on each other."""
    named = sheet_of(5, title="epoch 12: a name " * 9, captions=[("cat" * n, "empty") for n in range(5)])
    for n in range(5):
        is_panel = (sheet_of(5) == (200, 10 * n, 30)).all(axis=-1)
        np.testing.assert_array_equal((named == (200, 10 * n, 30)).all(axis=-1), is_panel)


def test_a_row_has_panels_of_the_width_that_was_asked_for() -> None:
    """One row, for the output of a notebook."""
    drawn = sheet_of(8, row=104)
    boxes = [box((drawn == (200, 10 * n, 30)).all(axis=-1)) for n in range(8)]
    assert {(bottom - top, right - left) for top, bottom, left, right in boxes} == {(104, 104)}
    assert len({top for top, *_ in boxes}) == 1


def test_a_region_is_outlined_on_its_panel_alone() -> None:
    """The other panels are as without."""
    mask = np.zeros((100, 100), bool)
    mask[20:80, 20:80] = True
    rows, columns = np.nonzero((sheet_of(4) != sheet_of(4, regions=[None, mask, None, None])).any(axis=-1))
    _, _, left, right = box((sheet_of(4) == (200, 10, 30)).all(axis=-1))
    assert len(rows) > 100
    assert left < columns.min() < columns.max() < right


def test_a_sheet_says_what_does_not_fit() -> None:
    """A caption too few is refused in words, and so is a sheet of nothing."""
    with pytest.raises(ValueError, match="one caption a panel, 2 in all, at least one; got 1"):
        sheet_of(2, captions=[("", "")])
    with pytest.raises(ValueError, match="at least one; got 0"):
        drawing.sheet(np.zeros((0, 8, 8, 3), np.uint8), title="", captions=[])


def test_a_value_makes_room_for_the_whole_name() -> None:
    """Beside "(predicted)" there is no room for it, so that it stands beside "fish"."""
    panel = plain(128, 128, (200, 0, 30))

    def captioned(name: str, value: str) -> np.ndarray:
        return drawing.tile(panel, np.stack([panel] * 2), title="", captions=[(name, value), ("", "")])

    empty = captioned("", "")
    alone = box((captioned("", "0.32") != empty).any(axis=-1))
    both, name = captioned("fish (predicted)", "0.32"), captioned("fish (predicted)", "")
    top, bottom, left, right = box((both != name).any(axis=-1))
    assert (left, right) == alone[2:]
    assert bottom <= alone[0]
    assert top >= 0
