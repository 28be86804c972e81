"""TensorBoard, which MLflow's autologging of TensorFlow needs, and which TensorFlow does not bring any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hiding import without

import gradcam_callbacks

SCRIPT = """
import keras, mlflow
import numpy as np
from gradcam_callbacks import GradCAMCallback

mlflow.set_tracking_uri("sqlite:///mlflow.db")
layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
model = keras.Sequential(layers)
model.compile("sgd", "mse")
images = np.zeros((4, 8, 8, 1), np.float32)
for flavour in (mlflow.tensorflow, mlflow.keras):
    flavour.autolog(log_models=False, log_datasets=False, silent=True)
    batches = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    try:
        model.fit(
            images, np.zeros((4, 2)), batch_size=4, verbose=0, callbacks=[count, GradCAMCallback(images, verbose=False)]
        )
    except ImportError as error:
        print(error)
    print(batches)
    flavour.autolog(disable=True, silent=True)
"""


@pytest.mark.usefixtures("process")
def test_autolog_without_tensorboard_is_told_before_the_first_batch(tmp_path: Path) -> None:
    """The training would end after its first epoch; with MLflow's other autologging, of Keras, it goes through."""
    package = str(Path(gradcam_callbacks.__file__).parents[1])
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": package}
    environment.pop("MLFLOW_EXPERIMENT_ID", None)  # which another test may have left; it means another store
    call = [sys.executable, "-c", without("tensorboard") + SCRIPT]
    ended = subprocess.run(
        call, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=200, check=False
    )
    assert ended.stdout.splitlines() == [
        "MLflow's autologging of TensorFlow needs TensorBoard, which is not installed here: this training would end "
        "with an error after its first epoch. pip install 'gradcam_callbacks[autolog]', or use mlflow.keras.autolog(), "
        "which does not need it.",
        "[]",
        "[0]",
    ], ended.stderr
