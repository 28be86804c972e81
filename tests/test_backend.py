"""What runs on another backend than TensorFlow is told so; the package can be run and looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gradcam_callbacks

SCRIPT = """
import numpy as np
from gradcam_callbacks import Explainer, GradCAMCallback, GradCAMError, ProbeSet, explain

probes = ProbeSet(np.zeros((2, 8, 8, 3), np.float32))
for ask in (lambda: GradCAMCallback(probes), lambda: Explainer(None), lambda: explain(None, probes)):
    try:
        ask()
    except GradCAMError as error:
        print(error)
"""


@pytest.mark.usefixtures("process")
def test_another_backend_is_named() -> None:
    """By the callback, the explainer and `explain`, when they are made; the sentence says what to set."""
    environment = os.environ | {"KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = str(Path(gradcam_callbacks.__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=120, check=True
    ).stdout.splitlines()
    assert (
        said
        == [
            "Keras runs on the backend 'numpy' here, and only models on TensorFlow can be explained. Set "
            "KERAS_BACKEND=tensorflow before Keras is imported; saved models load there, too."
        ]
        * 3
    )


def test_the_package_is_the_command_and_names_what_is_public() -> None:
    """`python -m gradcam_callbacks`, and `dir` before anything was loaded."""
    environment = os.environ | {"PYTHONPATH": str(Path(gradcam_callbacks.__file__).parents[1])}
    call = [sys.executable, "-m", "gradcam_callbacks", "--version"]
    said = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=60, check=True).stdout
    assert said == f"gradcam, version {gradcam_callbacks.__version__}\n"
    code = "import gradcam_callbacks; print(*dir(gradcam_callbacks))"
    call = [sys.executable, "-c", code]
    said = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=60, check=True).stdout
    assert set(gradcam_callbacks.__all__) <= set(said.split())
