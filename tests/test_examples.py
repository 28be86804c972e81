"""What a reader can paste runs, in a process of its own."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import keras
import mlflow
import pytest
from mlflow import MlflowClient
from PIL import Image
from support.efficientnet_lite import efficientnet_lite0
from support.photographs import EGYPTIAN_CAT, ESPRESSO, cat_beside_espresso

from gradcam_callbacks.publishing.mlflow_store import fetch_journal, find_run
from gradcam_callbacks.publishing.uploader import Uploader

pytestmark = pytest.mark.usefixtures("process")

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda example: example.stem)
def test_examples_use_public_names_alone(example: Path) -> None:
    """What an example imports of ours is in the `__all__` of the package, or of its demo."""
    for node in ast.walk(ast.parse(example.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("gradcam_callbacks")]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("gradcam_callbacks"):
            assert node.module in ("gradcam_callbacks", "gradcam_callbacks.demo")
            assert {alias.name for alias in node.names} <= set(importlib.import_module(node.module).__all__)


def run(*command: str) -> str:
    finished = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def store_here() -> str:
    """The store that an example made; absolute, because MLflow keeps one store a name in a process."""
    return f"sqlite:///{Path('mlflow.db').absolute()}"


def the_run(experiment: str) -> tuple[MlflowClient, mlflow.entities.Run]:
    """The one run of an experiment, which has finished."""
    client = MlflowClient(store_here())
    (finished,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert finished.info.status == "FINISHED"
    return client, finished


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # SQLAlchemy 2.1 of MLflow 3.17
def test_train_and_track_fills_an_experiment() -> None:
    """The example leaves one finished run with a card of three steps for each of its eight probes, and one for all."""
    output = run(str(EXAMPLES / "train_and_track.py"))
    assert "Grad-CAM of 8 probes in run " in output
    client, finished = the_run("where it looks")
    cards = [entry for entry in client.list_artifacts(finished.info.run_id, "images") if entry.path.endswith(".png")]
    assert len(cards) == (1 + 8) * 3


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # Keras's save, NumPy 2
def test_explain_one_image_draws_three_panels() -> None:
    """Asked about a cat beside an espresso, a saved network answers with both, and draws why."""
    network = efficientnet_lite0()
    inputs = keras.Input((224, 224, 3))
    whole = keras.Model(inputs, network(keras.layers.Rescaling(1 / 128, -127 / 128)(inputs)))
    whole.save("network.keras")
    Image.fromarray(cat_beside_espresso()).save("picture.png")
    output = run(str(EXAMPLES / "explain_one_image.py"), "picture.png", "--model", "network.keras")
    for index in (EGYPTIAN_CAT, ESPRESSO):
        assert f"What made you think class_{index}?" in output
    with Image.open("panels.png") as panels:
        width, height = panels.size
    assert 2.5 < width / height < 4


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # SQLAlchemy 2.1 of MLflow 3.17
def test_review_checkpoints_fills_a_run_and_compare_runs_shows_two() -> None:
    """Each checkpoint is a step of a finished run with a review; two runs are one page."""
    output = run(str(EXAMPLES / "review_checkpoints.py"))
    assert "Explained 3 checkpoints into run" in output
    client, finished = the_run("post-hoc")
    assert "gradcam_focus/mean" in finished.data.metrics
    # Compared is what the store of a demo holds: here twice the same.
    demo = client.create_experiment("gradcam demo")
    for name in ("one", "other"):
        copy = client.create_run(demo, run_name=name).info.run_id
        journal = fetch_journal(find_run(finished.info.run_id, store_here()), Path(name))
        assert Uploader(journal, find_run(copy, store_here())).send()
    output = run(str(EXAMPLES / "compare_runs.py"), ".")
    assert "compare.html" in output
    page = Path("compare.html").read_text(encoding="utf-8")
    assert all(f'"{name}"' in page for name in ("one", "other"))
