"""Names in any script are written, with the fonts that the machine has."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, features

from gradcam_callbacks import ProbeSet, drawing
from gradcam_callbacks.drawing import fonts
from gradcam_callbacks.publishing.tiles import step_tile
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step

CHINESE, JAPANESE, KOREAN, EMOJI = "猫在床上", "ベッドの猫", "고양이", "🚀"
UNKNOWN = "\U00012000\U00012001"  # cuneiform
needs_cjk = pytest.mark.skipif(
    drawing.said(CHINESE + JAPANESE + KOREAN, "") == "",
    reason="needs a font with Chinese, Japanese and Korean letters, such as the package fonts-wqy-zenhei",
)
needs_emoji = pytest.mark.skipif(
    drawing.said(EMOJI, "") == "", reason="needs a font with emoji, such as the package fonts-noto-color-emoji"
)
needs_raqm = pytest.mark.skipif(
    not features.check("raqm"), reason="needs a Pillow with Raqm, which shapes Arabic and orders Hebrew"
)


def written(text: str, size: int = 40) -> np.ndarray:
    """(60, width) what is written, from black to white."""
    font = fonts.Face(size)
    sheet = Image.new("RGB", (round(font.getlength(text)) + 2, 60))
    font.draw(sheet, (0, 30), text, (255, 255, 255), "lm")
    return np.asarray(sheet.convert("L"))


def glyphs(text: str) -> list[np.ndarray]:
    """What is written, cut where there are gaps, from left to right."""
    drawn = written(text)
    is_ink = (drawn > 40).any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_ink, [False]]).astype(int)))
    return [drawn[:, start:stop] for start, stop in edges.reshape(-1, 2)]


@needs_cjk
@pytest.mark.parametrize("text", [CHINESE, JAPANESE, KOREAN, f"cat {CHINESE} café"])
def test_letters_of_east_asia_are_written(text: str) -> None:
    """Each has a shape of its own; none is the box of a missing one; words of several scripts stand in one line."""
    drawn = written(text)
    assert (drawn > 128).sum() > 50 * len(text)
    assert not np.array_equal(drawn, written("\uffff" * len(text)))
    for letter in set(text) & set(CHINESE + JAPANESE + KOREAN):
        assert (
            (written(letter) != written("\uffff")).any() if written(letter).shape == written("\uffff").shape else True
        )


@needs_cjk
def test_a_line_of_several_fonts_is_as_long_as_its_parts() -> None:
    """So that it is shortened, broken and set at the right end where it should be."""
    font = fonts.Face(20)
    whole = font.getlength(f"cat {CHINESE} 12")
    assert whole == pytest.approx(font.getlength("cat ") + font.getlength(CHINESE) + font.getlength(" 12"), abs=1.5)
    cut = fonts.shorten(CHINESE * 20, 200, font)
    assert cut.endswith(fonts.ELLIPSIS)
    assert 150 < font.getlength(cut) <= 200
    sheet = Image.new("RGB", (300, 40))
    font.draw(sheet, (300, 20), f"cat {CHINESE}", (255, 255, 255), "rm")
    columns = np.flatnonzero(np.asarray(sheet).any(axis=(0, 2)))
    assert columns.min() == pytest.approx(300 - font.getlength(f"cat {CHINESE}"), abs=4)
    assert columns.max() >= 295


@needs_emoji
def test_emoji_have_their_colours_and_the_height_of_letters() -> None:
    """Also beside words."""
    font = fonts.Face(30)
    sheet = Image.new("RGB", (round(font.getlength(f"{EMOJI} a")), 60))
    font.draw(sheet, (0, 30), f"{EMOJI} a", (255, 255, 255), "lm")
    drawn = np.asarray(sheet).astype(int)
    coloured = np.ptp(drawn, axis=-1) > 60
    assert coloured.sum() > 100
    rows = np.flatnonzero(coloured.any(axis=1))
    assert 20 < np.ptp(rows) < 40
    columns = np.flatnonzero(coloured.any(axis=0))
    assert columns.max() < font.getlength(EMOJI) + 2


@needs_raqm
def test_arabic_is_joined_and_hebrew_starts_at_the_right() -> None:
    """Two letters that join have no gap between them; the first letter of a word is the rightmost."""
    assert len(glyphs("مم")) == 1
    (first,), (left, right) = glyphs("א"), glyphs("אב")
    assert first.shape == right.shape
    assert np.abs(first.astype(int) - right).mean() < 25  # they may begin at another part of a pixel
    assert left.shape != first.shape


@needs_cjk
def test_figures_write_them_too() -> None:
    """Without a warning of a missing glyph, and without one on the weight of a font."""
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("error")
        said: list[str] = []
        patched.setattr(logging.getLogger("matplotlib.font_manager"), "warning", lambda text, *more: said.append(text))
        names = [CHINESE, f"{JAPANESE} {EMOJI}", KOREAN]
        drawn = drawing.figure(picture, np.zeros((1, 3, 64, 64, 3), np.uint8), titles=[names], picture_titles=["قطة"])
        drawn.png()
    assert said == []
    assert [axes.get_title() for axes in drawn.axes[:4]] == ["قطة", CHINESE, JAPANESE, KOREAN]


def test_wide_letters_count_as_two() -> None:
    """So that a title of them is as wide as one of Latin letters."""
    lines = fonts.wrap("日本語のとても長い名前の画像です", characters=12).split("\n")
    assert max(map(len, lines)) <= 6


def test_a_name_that_no_font_can_write_is_numbered(caplog: pytest.LogCaptureFixture) -> None:
    """On the tile stands the probe's number, as the key of its card has it, and the class's; a process warns once."""
    code = (
        "from gradcam_callbacks import drawing\n"
        f"drawing.warn_of_missing(['cat', {UNKNOWN!r}, {UNKNOWN[0]!r}])\n"
        f"drawing.warn_of_missing([{UNKNOWN[1]!r}])\n"
    )
    if drawing.said(UNKNOWN, "") == UNKNOWN:
        pytest.skip("this machine has a font with cuneiform")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert said.count("No font of this machine has the letters of") == 1
    assert "and 1 more names: in pictures they are numbered. Install fonts that have them" in said
    probes = ProbeSet(
        np.zeros((2, 16, 16, 3), np.uint8), names=["cat", UNKNOWN], targets=[1], class_names=["a", UNKNOWN]
    )
    plain = ProbeSet(np.zeros((2, 16, 16, 3), np.uint8), names=["cat", "n1"], targets=[1], class_names=["a", "class_1"])
    arrays = {
        "maps": np.ones((2, 1, 4, 4), np.float32),
        "scores": np.ones((2, 1), np.float32),
        "explained": np.ones((2, 1), np.int32),
        "predicted": np.ones(2, np.int32),
        "health": np.full((2, 1), "ok"),
    }
    tiles = [
        step_tile(Step(0, arrays, {}, 0.0), Manifest(**each.description()), each.pictures, 1)
        for each in (probes, plain)
    ]
    np.testing.assert_array_equal(*tiles)
