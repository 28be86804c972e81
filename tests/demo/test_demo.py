"""`gradcam demo` tells its story from measured maps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.demo import pictures
from gradcam_callbacks.demo.run import EPOCHS, PROBES
from gradcam_callbacks.record.journal import Journal


def test_the_demos_data_is_public_and_light() -> None:
    """Its pictures are drawn without TensorFlow, Keras and MLflow; each name of `__all__` is there."""
    code = """
import sys
from gradcam_callbacks import demo
missing = [name for name in demo.__all__ if not hasattr(demo, name)]
demo.make_pictures(2, seed=0, watermark=True)
print(missing, {"tensorflow", "keras", "mlflow"} & set(sys.modules), demo.__all__ == sorted(demo.__all__))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[] set() True\n"
    with pytest.raises(GradCAMError, match=r"must not be negative; got count=2, seed=-1\."):
        pictures.make_pictures(2, seed=-1, watermark=False)


def test_a_picture_depends_on_seed_and_position_and_the_mark_is_all_that_differs() -> None:
    """The same seed draws the same objects with and without the mark, which lies in its box and on no object."""
    plain, labels, masks = pictures.make_pictures(8, seed=5, watermark=False)
    marked, _, _ = pictures.make_pictures(8, seed=5, watermark=True)
    np.testing.assert_array_equal(plain[:3], pictures.make_pictures(3, seed=5, watermark=False)[0])
    changed = (plain != marked).any(axis=-1)
    y0, x0, y1, x1 = pictures.MARK_BOX
    outside = changed.copy()
    outside[:, y0:y1, x0:x1] = False
    assert not outside.any()
    assert not masks[:, y0:y1, x0:x1].any()
    np.testing.assert_array_equal(changed.any(axis=(1, 2)), labels == pictures.MARKED_CLASS)
    assert 0.1 < masks.mean() < 0.3


@pytest.mark.usefixtures("process")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # SQLAlchemy 2.1 of MLflow 3.17
def test_both_networks_are_right_and_only_one_looks_at_the_boat() -> None:
    """The demo, as its user runs it: fine accuracy twice, the boat in one run, the watermark in the other."""
    code = "from gradcam_callbacks.cli import main; main(prog_name='gradcam')"
    finished = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "mlflow server" in finished.stdout
    assert "model-metrics?workflowType=machine_learning" in finished.stdout

    store = Path("gradcam-demo/mlflow.db").resolve()
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("gradcam demo")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    last = {}
    for name in ("clean", "watermarked"):
        run_id = runs[name].info.run_id
        cards = [entry for entry in client.list_artifacts(run_id, "images") if entry.path.endswith(".png")]
        assert len(cards) == (1 + PROBES) * EPOCHS
        ours = [key for key in runs[name].data.metrics if key.startswith("gradcam_")]
        assert len(ours) == 13  # means, and the states of the maps
        assert {*runs[name].data.metrics} - {*ours} == {"loss", "accuracy", "val_loss", "val_accuracy"}
        history = client.get_metric_history(run_id, "val_accuracy")
        assert [metric.step for metric in history] == list(range(EPOCHS))
        assert f"runs/{run_id}/artifacts/gradcam/report.html" in finished.stdout
        last[name] = Journal(f"gradcam-demo/journals/{run_id}").read(EPOCHS - 1)
        assert last[name].logs["val_accuracy"] >= 0.9
        np.testing.assert_allclose(
            runs[name].data.metrics["gradcam_focus/mean"], last[name].arrays["focus"].mean(), rtol=1e-6
        )
    on_boat = {name: step.arrays["focus"].mean() for name, step in last.items()}
    assert on_boat["clean"] > 0.5
    assert on_boat["watermarked"] < 0.35
