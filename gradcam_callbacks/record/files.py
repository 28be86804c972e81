"""Files that are there as a whole or not at all, and survive a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def stamp(path: Path | os.DirEntry[str]) -> tuple[int, ...]:
    """What changes when a file is written anew."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def write_whole(path: Path, content: bytes, *, is_durable: bool = True) -> None:
    """Writes under another name, then renames: a reader never sees half a file.

    Args:
        path: of the file; one that is there is replaced.
        content: of it.
        is_durable: whether it must survive a power cut. That asks more of the folder: to be readable and flushed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with _changing(path.parent) if is_durable else contextlib.nullcontext():
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                if is_durable:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, so that a power cut does not take them away."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        with _changing(missing.parent):
            missing.mkdir(exist_ok=True)


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Shares a lock on a folder with other writers, and flushes its names to the disk at the end.

    Where the system has neither for folders (Windows), or the file system has no locks, it does without.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
    finally:
        os.close(handle)


def remove_stale(folder: Path) -> None:
    """Removes temporary files, unless a living process is writing in the folder."""
    with contextlib.suppress(OSError):  # the next opening finds them too
        stale = list(folder.glob(".*.tmp"))
        if not stale:
            return
        if sys.platform != "win32":  # where nobody can remove a file that is open
            # Who wrote one of these took the shared lock before; that nobody has it now means that they have ended. It
            # is let go at once, since names are never used again.
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(handle)
        for path in stale:
            path.unlink(missing_ok=True)
