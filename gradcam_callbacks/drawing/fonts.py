"""Words on pictures, in one font."""

from __future__ import annotations

import bisect
import textwrap
from pathlib import Path

import matplotlib
from PIL import ImageFont

ELLIPSIS = "…"


def shorten(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """`text`, or its longest beginning that fits `width` pixels with an ellipsis after it."""
    if font.getlength(text) <= width:
        return text
    cut = _fitting(text, width - font.getlength(ELLIPSIS), font)
    return text[:cut].rstrip() + ELLIPSIS if cut else ""


def break_line(text: str, width: float, font: ImageFont.FreeTypeFont) -> tuple[str, str]:
    """`text` in two: what fits `width` pixels, broken between words if it can be, and the rest."""
    if font.getlength(text) <= width:
        return text, ""
    cut = _fitting(text, width, font)
    # A space may fall just outside; a hyphen, an underscore or a slash stays on the first line.
    ends = [n for n in range(1, cut + 1) if text[n] == " " or text[n - 1] in "-_/"]
    cut = ends[-1] if ends else cut
    return text[:cut], text[cut:].lstrip()


def _fitting(text: str, width: float, font: ImageFont.FreeTypeFont) -> int:
    """How many of the first characters of `text` fit `width` pixels."""
    lengths = range(1, len(text) + 1)
    return bisect.bisect_right(lengths, width, key=lambda n: font.getlength(text[:n]))


def wrap(text: str, *, characters: int) -> str:
    """At most three lines of at most `characters`, about as long as each other."""
    text = clean(text)
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
