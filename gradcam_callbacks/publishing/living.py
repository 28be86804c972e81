"""Whether the process that trains still lives: a lock on a file of its journal, which the system frees when it ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has none: nobody is known to live there
    fcntl = None  # type: ignore[assignment]

_held: set[IO[bytes]] = set()


def hold(path: Path) -> IO[bytes] | None:
    """Locks a file until `release`, or the end of this process; None where it cannot be locked, or another one does."""
    with contextlib.suppress(OSError):
        file = path.open("rb")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _held.add(file)
                return file
        except OSError:
            file.close()
            return None
        file.close()
    return None


def release(file: IO[bytes] | None) -> None:
    """Frees what `hold` has locked."""
    if file is not None:
        _held.discard(file)
        file.close()


def is_held(path: Path) -> bool:
    """Whether a process that lives has locked a file."""
    if fcntl is None:
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file, or its drive knows no locks
        return False
    return False


def _forked() -> None:
    """A child has the open files of its parent, and would hold the locks when that has ended."""
    for file in list(_held):
        release(file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
