"""What TensorFlow's libraries write past Python, and how not to read it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def native_log_muted() -> Iterator[None]:
    """Drops what is written to the file descriptor of stderr.

    TensorFlow reports missing CUDA libraries there while it loads, past Python and past its own log level.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
