"""Weights from TensorFlow's own checkpoints.

Reading files is what `sweeping` does. This stands here because no other folder may know TensorFlow.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from gradcam_callbacks.errors import GradCAMError


def restore(model: keras.Model, prefix: str) -> None:
    """Loads the weights of a checkpoint of `tf.train.Checkpoint(model)` or `tf.train.Checkpoint(model=model)`.

    Args:
        model: built.
        prefix: of its files, without ".index".

    Raises:
        GradCAMError: if it lacks weights of the model.
    """
    for checkpoint in (tf.train.Checkpoint(model=model), tf.train.Checkpoint(model)):
        status = checkpoint.read(prefix).expect_partial()
        try:
            status.assert_existing_objects_matched()
        except AssertionError as error:
            problem = error
        else:
            return
    raise GradCAMError(f"It does not hold the weights of '{model.name}': {str(problem).splitlines()[0]}")
