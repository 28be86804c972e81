"""Models of Keras 2, which cannot be explained."""

from __future__ import annotations

from typing import Any

from gradcam_callbacks.errors import GradCAMError

_KERAS2 = ("tf_keras.", "tensorflow.python.keras.", "keras.engine.", "keras.src.engine.")
"""Where the classes of Keras 2 models are: in the package of its own, in TensorFlow, and in Keras before version 3."""


def is_keras2(model: Any) -> bool:
    """Whether something is a model of Keras 2, known by the modules of its classes: nothing is imported for it."""
    return any(kind.__module__.startswith(_KERAS2) for kind in type(model).__mro__)


def refuse_keras2(model: Any) -> None:
    """Raises where a model is one of Keras 2.

    Raises:
        GradCAMError: if it is.
    """
    if is_keras2(model):
        raise GradCAMError(
            f"Model '{getattr(model, 'name', type(model).__name__)}' is a tf_keras (Keras 2) model; only models of "
            "Keras 3 can be explained.",
            "Build the same network with `import keras`, and hand the weights over with "
            "model.set_weights(tf_keras_model.get_weights()).",
        )
