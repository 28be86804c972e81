"""Notebooks that are run in a fresh kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import nbclient
import nbformat


class _Listening(nbclient.NotebookClient):  # type: ignore[misc]
    """Keeps what the kernel sends to be shown, in order."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def process_message(self, message: Any, *arguments: Any) -> Any:
        self.heard.append((message["msg_type"], message["content"]))
        return super().process_message(message, *arguments)


def executed(sources: Sequence[str]) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """Runs cells in a kernel that finds what this process finds.

    Returns:
        The notebook with its outputs, and what the kernel sent: the type of each message, and its content.
    """
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client = _Listening(book, timeout=120, kernel_name="python3")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        client.execute()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return book, client.heard
