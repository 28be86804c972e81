"""What a notebook shows: pieces of HTML, and whether there is a notebook."""

from __future__ import annotations

import base64
import importlib
import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def cell() -> int | None:
    """The number of the notebook's cell that runs now; None in a script or a terminal, which can show no HTML.

    IPython is not loaded for that: where a kernel runs, it is there.
    """
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    return None if getattr(shell, "kernel", None) is None else int(shell.execution_count)


def display(html: str) -> Any:
    """Shows HTML in the cell that runs now, which must be there, see `cell`.

    Returns:
        What `replace` takes, from any thread.
    """
    ipython = importlib.import_module("IPython.display")
    return ipython.display({"text/html": html, "text/plain": ""}, raw=True, display_id=True)


def replace(shown: Any, html: str) -> None:
    """Shows other HTML in the place of what `display` has shown."""
    shown.update({"text/html": html, "text/plain": ""}, raw=True)


def page(html: str, *, height: int) -> str:
    """A whole page in a frame of its own, whose script reaches nothing of the notebook.

    Args:
        html: of the page.
        height: of the frame, in pixels.
    """
    allowed = "allow-scripts allow-downloads allow-popups"
    style = f"width: 100%; height: {height}px; border: 0"
    return f'<div><iframe sandbox="{allowed}" style="{style}" srcdoc="{escape(html)}"></iframe></div>'


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
