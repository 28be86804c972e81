"""The random numbers of Python and NumPy, which tracing a model leaves as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Leaves the random numbers that Python and NumPy draw next as they were.

    A model's own code may draw some while it is traced, and its training is to draw the same ones afterwards.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is not ours to choose)
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
