"""VERDICTS: the words for what a record comes to."""

from __future__ import annotations

VERDICTS = ("shortcut", "suspect", "constant", "unfit", "moved", "unsettled", "ok")
"""All that a verdict can be, the most serious first; `reviewing.verdict` says when each holds."""


def is_serious(name: str, limit: str) -> bool:
    """Whether a verdict is as serious as another one, or more.

    Args:
        name: one of `VERDICTS`.
        limit: one of `VERDICTS`.
    """
    return VERDICTS.index(name) <= VERDICTS.index(limit)
