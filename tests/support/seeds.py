"""Random numbers that begin again."""

from __future__ import annotations

import keras


def seed_afresh(seed: int) -> None:
    """Seeds all that is random. Keras 3.11 goes on with the generator that is there, unless that is forgotten first."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
