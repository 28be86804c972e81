"""Why a file could not be loaded, and what to do."""

from __future__ import annotations

import re
import zipfile

from gradcam_callbacks.errors import GradCAMError


def why_not_loaded(error: Exception) -> GradCAMError:
    """What was wrong with a file, from whatever Keras, h5py, zipfile or TensorFlow raised when it was loaded."""
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
    if unknown:
        return GradCAMError(
            f"It needs '{unknown[1]}', which Keras does not know:", "pass {argument}.", argument="custom_objects"
        )
    return GradCAMError(text)
