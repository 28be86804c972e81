"""What tracing a model leaves as it was: its layers, their losses, and the random numbers of Python and NumPy."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from gradcam_callbacks.explaining.keras_internals import losses_kept
from gradcam_callbacks.explaining.layers import Layers

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def left_alone(model: keras.Model) -> Iterator[None]:
    """Leaves what a model changes while it is traced as it was, for one thread at a time.

    Its layers may be wrapped meanwhile, which two threads would undo in the wrong order. Losses that layers add would
    be tensors of the trace. A model's own code may draw random numbers, and its training is to draw the same ones
    afterwards.

    Args:
        model: that is traced within this.
    """
    with _ONE_AT_A_TIME, losses_kept([model, *Layers(model).by_path.values()]):
        of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is not ours to choose)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
