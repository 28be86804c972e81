"""A child process that was forked during a training leaves the run of its parent alone."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from support.mlflow_runs import image_steps
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.training import failed_fit

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # Python 3.12 warns of what is tested here
    pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning"),
]


class Forking(keras.callbacks.Callback):
    """Forks at the end of epoch 1; the child calls our hooks, fails, is cleaned up, and says what it saw."""

    def __init__(self, callback: GradCAMCallback, report: Path) -> None:
        super().__init__()
        self.callback = callback
        self.report = report

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch != 1:
            return
        child = os.fork()
        if child:
            _, self.status = os.waitpid(child, 0)
            return
        try:
            logging.getLogger("gradcam_callbacks").addHandler(logging.FileHandler(self.report))
            self.callback.on_epoch_end(2, {})
            self.callback.on_train_end()
            failed_fit._close_all()
            self.callback._close("FAILED")
            sys.stdout.flush()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_child_neither_writes_to_the_run_nor_ends_it(client: MlflowClient, tmp_path: Path, is_ours: bool) -> None:
    """Whatever hook is called there: one line says so, and the parent records on to the end."""
    callback = GradCAMCallback(pictures(1), verbose=False)
    forking = Forking(callback, tmp_path / "report")
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    if not is_ours:
        mlflow.start_run()
    model.fit(pictures(8), np.arange(8) % 4, epochs=4, callbacks=[callback, forking], verbose=0)
    if not is_ours:
        mlflow.end_run()
    run = mlflow.last_active_run()
    assert forking.status == 0
    assert (tmp_path / "report").read_text() == (
        "This process was forked from one that trains; only that one goes on to record the training.\n"
    )
    assert run.info.status == "FINISHED"
    assert image_steps(client, run.info.run_id) == {"gradcam/all": [0, 1, 2, 3], "gradcam/probe_0": [0, 1, 2, 3]}


def test_a_training_in_a_child_has_a_run_of_its_own(client: MlflowClient) -> None:
    """The active run is that of the parent; and what the parent's threads held is free."""
    with mlflow.start_run() as run, mlflow_store._lock:
        child = os.fork()
        if not child:
            chosen = mlflow_store.choose_run(None)
            os._exit(0 if chosen.is_ours and chosen.run_id != run.info.run_id else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
