"""Pieces of HTML that a notebook shows for an object."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape


def picture(png: bytes, words: str) -> str:
    """A picture that needs no file.

    Args:
        png: its content.
        words: what it shows, for who cannot see it.
    """
    return f'<img alt="{escape(words)}" style="max-width: 100%" src="data:image/png;base64,{_text(png)}">'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, each as it is."""
    body = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{_row('th', heads)}</thead><tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    """A text as it is."""
    return f"<p>{escape(text)}</p>"


def _row(cell: str, texts: Sequence[str]) -> str:
    cells = "".join(f'<{cell} style="text-align: left">{escape(text)}</{cell}>' for text in texts)
    return f"<tr>{cells}</tr>"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
