"""A small training, something that happens in it, and what was said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import keras
import numpy as np
import pytest
from support.models import pictures, small_model


class At(keras.callbacks.Callback):
    """Does something at the end of an epoch."""

    def __init__(self, epoch: int, do: Callable[[], object]) -> None:
        super().__init__()
        self.epoch, self.do = epoch, do

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == self.epoch:
            self.do()


def fit(*callbacks: keras.callbacks.Callback, epochs: int, initial_epoch: int = 0) -> None:
    """Trains a new small model."""
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(
        pictures(8),
        np.arange(8) % 4,
        initial_epoch=initial_epoch,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    )


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the package warned of, and its errors."""
    ours = [record for record in caplog.records if record.name.startswith("gradcam_callbacks")]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]
