"""Files that somebody else may have put there: only regular ones are opened, and only so much of them is read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from gradcam_callbacks.errors import GradCAMError

_PIECE = 1 << 20


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading, without ever waiting for another process as a pipe does.

    Args:
        path: of a file, or of a link to one.

    Raises:
        GradCAMError: if it is a pipe, a device or a socket, or a link to one.
        OSError: if it is missing, a folder, or cannot be opened.
    """
    _check(path, path.stat().st_mode)  # before it is opened, since that alone may start a device
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        _check(path, os.fstat(handle).st_mode)  # it may be another file by now
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """The content of a file.

    Args:
        path: see `open_regular`.
        most: how many bytes it may have.

    Raises:
        GradCAMError: if it is no regular file, or has more.
        OSError: see `open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(size + 1)
        while size < len(content) <= most:  # it grows, or its size is not what it says, as of files of /proc
            piece = file.read(_PIECE)
            if not piece:
                break
            content += piece
    if max(size, len(content)) > most:
        raise GradCAMError(f"File '{path}' has more than {most:,} bytes, which are not read.")
    return content


def _check(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise GradCAMError(f"'{path}' is no regular file but a pipe, a device or a socket; it is not read.")
