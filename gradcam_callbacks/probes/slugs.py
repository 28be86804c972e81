"""Names that a file system and MLflow take.

Measured with MLflow 3.17: names of metrics have letters and digits of any script (`str.isalnum`), but no combining
marks, as Hindi writes them, and no emoji. Keys of images are ASCII: `log_image` refuses all else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

_LONGEST = 60
_MOST_BYTES = 110
"""In UTF-8. Two slugs and what stands beside them make one name of a file, which has at most 255 bytes."""
SHEET = "all"
"""The key of the contact sheet among those of the pictures; a probe of that name gets another one."""


def slugs(names: Iterable[str]) -> tuple[str, ...]:
    """Names as file systems and MLflow's metrics take them, distinct, also where case and accents do not count.

    They have letters and digits of any script, "_", "." and "-", 1 to 60 characters, and no dot at an end. A name that
    cannot be written so, such as an emoji or a word with combining marks, is numbered: "n3".
    """
    return _distinct(_readable(name) or f"n{n}" for n, name in enumerate(names))


def ascii_slugs(readable: Iterable[str]) -> tuple[str, ...]:
    """Slugs as keys of MLflow's images, which are ASCII, distinct.

    Those that are ASCII stay as they are, but for "all", which is the contact sheet. Accents are left out: "café" is
    "cafe". Other scripts are numbered.

    Args:
        readable: what `slugs` gave, or an earlier version of it.
    """
    plain = [slug if slug.isascii() else _readable(_without_accents(slug)) for slug in readable]
    return _distinct((slug if slug.isascii() and slug else f"n{n}" for n, slug in enumerate(plain)), taken=[SHEET])


def is_told(name: str, slug: str) -> bool:
    """Whether a slug has all the letters, digits and emoji of other scripts than ASCII that a name has."""
    return not {part for part in _composed(name) if not part.isascii() and _is_meant(part)} - set(slug)


def _is_meant(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "So"


def _readable(name: str) -> str:
    """A name in what MLflow's metrics take; "" where a word would lose a part, or nothing is left."""
    composed = _composed(name)
    for lost in re.finditer(r"[^\w.-]+", composed):
        if lost.start() > 0 and unicodedata.category(lost[0][0])[0] == "M":
            return ""
    plain = re.sub(r"[^\w.-]+", "_", composed)
    return _cut(re.sub(r"\.{2,}", ".", plain)).strip("_.")  # MLflow forbids ".."


def _distinct(plain: Iterable[str], taken: Collection[str] = ()) -> tuple[str, ...]:
    """Adds "-2" and so on where databases, or file systems, would take two for the same."""
    taken = set(taken)
    result = []
    for name in plain:
        slug, number = name, 2
        while _compared(slug) in taken:
            ending = f"-{number}"
            slug, number = _cut(name, len(ending)) + ending, number + 1
        taken.add(_compared(slug))
        result.append(slug)
    return tuple(result)


def _cut(text: str, room: int = 0) -> str:
    """The beginning of a text that is not too long, with room for so many ASCII characters more."""
    in_bytes = text[: _LONGEST - room].encode(errors="replace")[: _MOST_BYTES - room]
    return in_bytes.decode(errors="ignore")


def _compared(slug: str) -> str:
    return _without_accents(slug).casefold()


def _without_accents(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(part for part in parts if unicodedata.category(part)[0] != "M"))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
