"""Words on pictures: in one font, and in others of the machine for letters that it does not have."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import logging
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

logger = logging.getLogger(__name__)

ELLIPSIS = "…"
_BITMAP_SIZE = 109
"""The one size that fonts of coloured emoji have, in pixels."""
_has_warned = False


class Face:
    """Our font in one size; what it has no letters for is written with another font of the machine.

    Attributes:
        size: in pixels.
    """

    def __init__(self, size: float) -> None:
        """Loads the font."""
        self.size = size

    def getlength(self, text: str) -> float:
        """How many pixels wide a text is."""
        return sum(self._length(run, path) for run, path in _runs(text))

    def draw(
        self, sheet: Image.Image, place: tuple[float, float], text: str, colour: tuple[int, int, int], anchor: str
    ) -> None:
        """Writes a text.

        Args:
            sheet: RGB, written on.
            place: (x, y) in pixels.
            text: one line.
            colour: red, green and blue; emoji have their own.
            anchor: what of the text lies there, as Pillow names it: its left end, "lm", its middle, "mm", or its right
                end, "rm".
        """
        x, y = place
        draw = ImageDraw.Draw(sheet)
        x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * self.getlength(text)
        for run, path in _runs(text):
            if _is_bitmap(path):
                self._draw_emoji(sheet, (x, y), run, path)
            else:
                draw.text((x, y), run, colour, _font(path, self.size), "lm")
            x += self._length(run, path)

    def _length(self, run: str, path: Path) -> float:
        if _is_bitmap(path):
            return _font(path, _BITMAP_SIZE).getlength(run) * self._share
        return _font(path, self.size).getlength(run)

    def _draw_emoji(self, sheet: Image.Image, place: tuple[float, float], run: str, path: Path) -> None:
        large = _font(path, _BITMAP_SIZE)
        _, top, right, bottom = large.getbbox(run)
        drawn = Image.new("RGBA", (max(1, round(right)), max(1, round(bottom))))
        ImageDraw.Draw(drawn).text((0, 0), run, font=large, embedded_color=True)
        drawn = drawn.crop((0, round(top), round(right), round(bottom)))
        size = (max(1, round(drawn.width * self._share)), max(1, round(drawn.height * self._share)))
        small = drawn.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(small, (round(place[0]), round(place[1] - small.height / 2)), small)

    @property
    def _share(self) -> float:
        """How much an emoji is shrunk, so that it is as high as letters with what goes below the line."""
        return 0.94 * self.size / _BITMAP_SIZE


def shorten(text: str, width: float, font: Face) -> str:
    """`text`, or its longest beginning that fits `width` pixels with an ellipsis after it."""
    if font.getlength(text) <= width:
        return text
    cut = _fitting(text, width - font.getlength(ELLIPSIS), font)
    return text[:cut].rstrip() + ELLIPSIS if cut else ""


def break_line(text: str, width: float, font: Face) -> tuple[str, str]:
    """`text` in two: what fits `width` pixels, broken between words if it can be, and the rest."""
    if font.getlength(text) <= width:
        return text, ""
    cut = _fitting(text, width, font)
    # A space may fall just outside; a hyphen, an underscore or a slash stays on the first line.
    ends = [n for n in range(1, cut + 1) if text[n] == " " or text[n - 1] in "-_/"]
    cut = ends[-1] if ends else cut
    return text[:cut], text[cut:].lstrip()


def _fitting(text: str, width: float, font: Face) -> int:
    """How many of the first characters of `text` fit `width` pixels."""
    lengths = range(1, len(text) + 1)
    return bisect.bisect_right(lengths, width, key=lambda n: font.getlength(text[:n]))


def wrap(text: str, *, characters: int) -> str:
    """At most three lines of at most `characters`, about as long as each other; a wide letter counts as two."""
    text = clean(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    characters = max(6, characters * len(text) // (len(text) + wide)) if wide else characters
    lines = textwrap.wrap(text, characters)
    if len(lines) > 3:
        lines = textwrap.wrap(text, characters, max_lines=3, placeholder=ELLIPSIS)
    elif lines:
        longest_word = max(map(len, text.split()))
        tighter = (textwrap.wrap(text, width) for width in range(longest_word, characters))
        lines = next((wrapped for wrapped in tighter if len(wrapped) == len(lines)), lines)
    return "\n".join(lines)


def clean(text: str) -> str:
    """One line that can be drawn: no line breaks, no half characters (undecodable file names)."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def font_path() -> Path:
    """The font that all pictures are labelled with: Matplotlib brings it."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


# ---- Other fonts ----


def said(text: str, otherwise: str) -> str:
    """A text, or another one where no font of the machine has all of its letters."""
    return text if _can_be_written(text) else otherwise


def warn_of_missing(texts: Iterable[str]) -> None:
    """Warns once in a process, where there are letters that no font of the machine has.

    Args:
        texts: names that pictures say.
    """
    global _has_warned
    missing = [] if _has_warned else [text for text in dict.fromkeys(texts) if not _can_be_written(text)]
    if missing:
        _has_warned = True
        logger.warning(
            "No font of this machine has the letters of %r%s: in pictures they are numbered. Install fonts that have "
            "them, such as the packages fonts-noto-core and fonts-noto-cjk of Debian and Ubuntu, and start again.",
            missing[0],
            f" and {len(missing) - 1} more names" if len(missing) > 1 else "",
        )


def _can_be_written(text: str) -> bool:
    return all(_font_of(character) is not None for character in set(clean(text)) if not _goes_along(character))


def families(texts: Iterable[str]) -> list[str]:
    """The names of the fonts that Matplotlib needs for texts, the usual one first."""
    from matplotlib import font_manager

    found = ["DejaVu Sans"]
    for character in sorted(set("".join(texts))):
        path = None if _goes_along(character) else _font_of(character)
        if path is None or path == font_path() or _is_bitmap(path):  # Matplotlib draws no bitmaps
            continue
        entry = _entry(path)
        if entry.name not in found:
            if entry not in font_manager.fontManager.ttflist:
                font_manager.fontManager.ttflist.append(entry)
            found.append(entry.name)
    return found


def without_bitmaps(text: str) -> str:
    """A text without what Matplotlib cannot draw: emoji that only a font of coloured pictures has, or none."""
    drawn = (each for each in text if _goes_along(each) or _font_of(each) is not None)
    return "".join(run for run, path in _runs("".join(drawn)) if not _is_bitmap(path)).strip()


def _runs(text: str) -> Iterator[tuple[str, Path]]:
    """A text in parts that one font writes; a letter that no font has goes along with what is before it."""
    paths: list[Path] = []
    for character in text:
        found = None if _goes_along(character) else _font_of(character)
        paths.append(found or (paths[-1] if paths else font_path()))
    for path, run in itertools.groupby(zip(paths, text, strict=True), key=lambda pair: pair[0]):
        yield "".join(character for _, character in run), path


def _goes_along(character: str) -> bool:
    """Whether a character is written with the one before it: marks, joiners and the like."""
    return unicodedata.category(character) in ("Mn", "Me", "Cf", "Sk") or "\ufe00" <= character <= "\ufe0f"


@functools.cache
def _font_of(character: str) -> Path | None:
    """The first font that has a letter: ours, then those of the machine; None where none has it."""
    if ord(character) in _letters(font_path()) or not character.isprintable():
        return font_path()
    return next((path for path in _fonts_of_machine() if ord(character) in _letters(path)), None)


@functools.cache
def _fonts_of_machine() -> tuple[Path, ...]:
    """Files of fonts, regular ones of wide coverage first; found anew, since Matplotlib keeps its list for ever."""
    from matplotlib import font_manager

    files = sorted(map(Path, font_manager.findSystemFonts()))

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.stem.lower()
        is_styled = any(word in name for word in ("bold", "italic", "oblique", "light", "thin", "black", "mono"))
        is_wide = any(word in name for word in ("noto", "cjk", "wqy", "hei", "gothic", "nanum", "source"))
        return is_styled, not is_wide, name

    return tuple(sorted(files, key=rank))


@functools.cache
def _letters(path: Path) -> frozenset[int]:
    """The code points that a font has; none where the file is no font that can be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except Exception:  # FreeType has its own errors, and any file may lie in a folder of fonts
        return frozenset()


@functools.cache
def _entry(path: Path) -> FontEntry:
    """What Matplotlib is told of a font: it is taken for a regular one, so that nothing is said of its weight."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    return dataclasses.replace(font_manager.ttfFontProperty(FT2Font(str(path))), weight=400)


@functools.cache
def _is_bitmap(path: Path) -> bool:
    """Whether a font has pictures of one size instead of outlines, as coloured emoji do."""
    from matplotlib.ft2font import FT2Font

    return path != font_path() and not FT2Font(str(path)).scalable


@functools.lru_cache(64)
def _font(path: Path, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
