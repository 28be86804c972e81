"""The type of all numbers that travel through this package."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
"""Numbers of any shape and dtype; docstrings say which."""
