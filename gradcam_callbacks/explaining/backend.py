"""The engine that Keras runs on, of which one can be explained."""

from __future__ import annotations

from gradcam_callbacks.errors import GradCAMError


def refuse_other_backends() -> None:
    """Raises where Keras does not run on TensorFlow.

    Raises:
        GradCAMError: if it runs on something else.
    """
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise GradCAMError(
            f"Keras runs on the backend '{backend}' here, and only models on TensorFlow can be explained.",
            "Set KERAS_BACKEND=tensorflow before Keras is imported; saved models load there, too.",
        )
