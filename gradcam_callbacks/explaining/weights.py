"""Weights from TensorFlow's own checkpoints.

Reading files is what `sweeping` does. This stands here because only the engines know such checkpoints: TensorFlow reads
them, JAX refuses them in a sentence.
"""

from __future__ import annotations

import keras

from gradcam_callbacks.explaining.engines.engine import engine


def restore(model: keras.Model, prefix: str) -> None:
    """Loads the weights of a checkpoint of `tf.train.Checkpoint(model)` or `tf.train.Checkpoint(model=model)`.

    Args:
        model: built.
        prefix: of its files, without ".index".

    Raises:
        GradCAMError: if it lacks weights of the model.
    """
    engine.restore(model, prefix)
