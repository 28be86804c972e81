"""The engine that Keras runs on, of which one can be explained; and what to install where it cannot be loaded."""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gradcam_callbacks.errors import GradCAMError, NotInstalledError
from gradcam_callbacks.versions import refuse_older

ENGINES = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""Keras's names of the backends on which models can be explained, and what people call them."""
_CHOICE = "pip install tensorflow, or tensorflow[and-cuda], or tensorflow-cpu: one of them."


def import_keras() -> Any:
    """Keras, with what it runs on.

    Raises:
        NotInstalledError: if one of them is missing, cannot be loaded, or is too old.
    """
    try:
        keras = importlib.import_module("keras")
    except Exception as error:  # the loader of TensorFlow's libraries has many
        raise _not_loaded(error) from error
    refuse_older(keras, "Keras", "Older versions fail on Sequential models, or count batches wrongly.")
    return keras


def refuse_other_backends() -> None:
    """Raises where Keras runs on an engine on which no model can be explained.

    Raises:
        NotInstalledError: if Keras or the engine is missing, cannot be loaded, or is too old.
        GradCAMError: if Keras runs on something else.
    """
    backend = import_keras().config.backend()
    if backend not in ENGINES:
        raise GradCAMError(
            f"Keras runs on the backend '{backend}' here, and only models on {' or '.join(ENGINES.values())} can be "
            "explained.",
            f"Set KERAS_BACKEND={' or '.join(ENGINES)} before Keras is imported; saved models load there, too.",
        )
    refuse_older(importlib.import_module(backend), ENGINES[backend], "Older versions are not tested.")


def _not_loaded(error: Exception) -> NotInstalledError:
    """What to install, after Keras could not be imported."""
    if find_spec("keras") is None:
        return NotInstalledError("Keras is not installed here.", _CHOICE)
    if isinstance(error, ModuleNotFoundError) and error.name == "tensorflow":
        problem = "TensorFlow is not installed here, and Keras runs on it."
        return NotInstalledError(problem, _CHOICE)
    packages = sorted(set(packages_distributions().get("tensorflow", [])))
    if len(packages) > 1:
        named = " and ".join(f"{package} {version(package)}" for package in packages)
        return NotInstalledError(
            f"TensorFlow is installed here more than once, as {named}, which write over each other's files.",
            f"Remove all of them, pip uninstall {' '.join(packages)}, and install the one that you want.",
        )
    return NotInstalledError(
        f"Keras cannot be loaded here: {_reason(error)}",
        "If packages of TensorFlow were installed beside each other before, such as tensorflow and tensorflow-cpu, the "
        "one that is left lacks files: pip uninstall it, and install it again.",
    )


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first: TensorFlow wraps it into a page."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error).strip().partition("\n")[0].rstrip(".") + "."


def chosen_backend() -> str:
    """The backend of Keras in this process, or that on which it would be loaded; loads nothing.

    Keras takes that of the environment, or of its own file keras.json, or TensorFlow.
    """
    keras: Any = sys.modules.get("keras")
    if keras is not None:
        return str(keras.config.backend())
    folder = os.environ.get("KERAS_HOME") or "~/.keras"
    try:
        of_file = json.loads((Path(folder).expanduser() / "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError, RuntimeError):
        of_file = None
    return os.environ.get("KERAS_BACKEND") or of_file or "tensorflow"
