"""Delivery: how what was explained gets to its run, and what becomes of the journal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Delivery:
    """Settings that travel together, from the arguments of a driver to the recorder.

    Attributes:
        journal_dir: where the record is kept on disk; by default ".gradcam/<run id>".
        keep_journal: whether the journal stays when all has arrived. One in a folder that the user named always does.
        animation: whether to log an animated picture of each probe at the end.
        flush_timeout: how many seconds the end waits for the store at most.
        strict: whether problems raise at once; each step then waits until it has arrived.
        verbose: whether to print where the pictures are when all has arrived.
        cards: which probes get cards, as `cards_setting` gives it.
        live: whether a notebook shows the newest step while the training goes on.
    """

    journal_dir: str | Path | None = None
    keep_journal: bool = False
    animation: bool = False
    flush_timeout: float = 60
    strict: bool = False
    verbose: bool = True
    cards: str = ""
    live: bool = False

    def folder(self, run_id: str) -> Path:
        """The folder of the journal of a run."""
        return Path(self.journal_dir) if self.journal_dir else Path(".gradcam", run_id)

    @property
    def keeps_journal(self) -> bool:
        """Whether the journal stays when all has arrived."""
        return self.keep_journal or bool(self.journal_dir)
