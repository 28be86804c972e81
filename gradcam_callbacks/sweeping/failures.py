"""Why a file could not be loaded, and what to do."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from gradcam_callbacks.errors import GradCAMError


def why_not_loaded(error: Exception, path: Path | None) -> GradCAMError:
    """What was wrong with a file.

    Args:
        error: whatever Keras, h5py, zipfile or TensorFlow raised when it was loaded.
        path: the file of a whole model; None where its weights alone were loaded.
    """
    if isinstance(error, GradCAMError):
        return error
    text = str(error).strip().rpartition("Exception encountered: ")[2]  # what Keras says at the end of a long message
    text = (text.splitlines() or [type(error).__name__])[0]
    if isinstance(error, zipfile.BadZipFile):
        return GradCAMError(f"It is damaged or truncated: {text}.")
    if "Lambda" in text and "safe_mode" in str(error):
        return GradCAMError(
            "It has a Lambda layer, whose code would be run from the file.",
            "If you trust its author, pass {argument}.",
            argument="safe_mode",
            value=False,
        )
    unknown = re.match(r"(?:Could not locate \w+|Unknown [\w ]+:) '([^']+)'", text)
    version = None if path is None else _version_of_keras(path)
    if version is not None and version.startswith("2."):
        lacking = "Keras 3 cannot load it"
        if unknown and unknown[1] not in ("Functional", "Sequential"):  # an archive names the classes of Keras 2 itself
            lacking = f"needs '{unknown[1]}', which Keras 3 does not have"
        return GradCAMError(
            f"It was saved by Keras {version}, and {lacking}.",
            "Load it with tf_keras, build the same network with `import keras`, hand the weights over with "
            "model.set_weights(tf_keras_model.get_weights()), and save that.",
        )
    if unknown:
        return GradCAMError(
            f"It needs '{unknown[1]}', which Keras does not know:", "pass {argument}.", argument="custom_objects"
        )
    return GradCAMError(text)


def _version_of_keras(path: Path) -> str | None:
    """The version of Keras that saved a whole model, as its file says; None where it does not."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py

        with h5py.File(path) as file:
            return str(file.attrs["keras_version"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
