"""What a worker process of a sweep runs.

Importing this loads no Keras: a worker that has not loaded it yet loads it on the engine of the process that asks.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.backend import ENGINES, import_keras

if TYPE_CHECKING:
    from gradcam_callbacks.sweeping.loading import Loader, Outcome
    from gradcam_callbacks.sweeping.spreading import Turn

_loader: Loader | None = None
"""Of a worker process: it keeps the model from one chunk to the next."""


def explain_chunk(name: str, packed: Array, chunk: bytes, threads: int, backend: str) -> list[Outcome]:
    """Explains a chunk in a worker process, which keeps its model for the next one.

    Args:
        name: of the task.
        packed: the task, pickled.
        chunk: which checkpoints, pickled.
        threads: how many threads the process has for its computations.
        backend: that of Keras in the process that asks.

    Raises:
        GradCAMError: if Keras is there on another backend, or cannot be loaded.
    """
    global _loader
    # TensorFlow reads the first two when it loads, and JAX the third, and else they take all cores.
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"):
        os.environ.setdefault(variable, str(threads))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _load_keras(backend)
    from gradcam_callbacks.sweeping.loading import Loader

    if _loader is None or _loader.name != name:
        _loader = Loader(pickle.loads(packed.data))
    return [*explained(_loader, pickle.loads(chunk))]


def explained(loader: Loader, turns: Sequence[Turn]) -> Iterator[Outcome]:
    """The outcomes in their order."""
    for turn, following in zip_longest(turns, [turn.checkpoint for turn in turns[1:]]):
        yield loader.outcome(turn.checkpoint, with_noise=turn.with_noise, with_test=turn.with_test, following=following)


def _load_keras(backend: str) -> None:
    """Loads Keras on a backend, unless it is there.

    Raises:
        GradCAMError: if it is there on another one, or cannot be loaded.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
    here = import_keras().config.backend()
    if here != backend:
        raise GradCAMError(
            f"A worker process has loaded Keras on {ENGINES.get(here, here)}, and this process on "
            f"{ENGINES.get(backend, backend)}.",
            f"Start the workers anew, with KERAS_BACKEND={backend} in their environment.",
        )
