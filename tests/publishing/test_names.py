"""Names in any script in a real run: what tells the probes apart there."""

from __future__ import annotations

import keras
import mlflow
import numpy as np
from click.testing import CliRunner
from mlflow import MlflowClient
from support.mlflow_runs import image_steps
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, InMemoryStore, ProbeSet
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal


def fit(callback: keras.callbacks.Callback) -> None:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(8), np.arange(8) % 4, epochs=2, callbacks=[callback], verbose=0)


def test_names_in_any_script_are_told_apart_in_mlflow(client: MlflowClient) -> None:
    """Metrics are named as they are, image cards in ASCII, what no key tells is a tag, and nothing is sent twice."""
    probes = ProbeSet(
        pictures(5),
        names=["猫", "犬", "café", "हिन्दी", "cat"],
        targets=[0, 1, 2],
        class_names=["茶トラ", "柴犬", "🐟", "d"],
    )
    with mlflow.start_run() as run:
        fit(GradCAMCallback(probes, keep_journal=True, animation=True, metrics="all"))
    held = client.get_run(run.info.run_id).data
    of_maps = {key for key in held.metrics if key.startswith("gradcam_score/") and "." in key}
    assert of_maps == {
        f"gradcam_score/{probe}.{target}"
        for probe in ("猫", "犬", "café", "n3", "cat")
        for target in ("茶トラ", "柴犬", "n2")
    }
    cards = {f"gradcam/{key}": [0, 1] for key in ("all", "n0", "n1", "cafe", "n3", "cat")}
    assert image_steps(client, run.info.run_id) == cards
    named = {key: value for key, value in held.tags.items() if key.startswith(("gradcam.probe.", "gradcam.target."))}
    assert named == {
        "gradcam.probe.n0": "猫",
        "gradcam.probe.n1": "犬",
        "gradcam.probe.cafe": "café",
        "gradcam.probe.n3": "हिन्दी",
        "gradcam.target.n2": "🐟",
    }
    journal = Journal(f".gradcam/{run.info.run_id}")
    (journal.directory / "uploaded").unlink()
    done = CliRunner().invoke(main, ["upload", str(journal.directory)])
    assert done.exit_code == 0, done.output
    assert image_steps(client, run.info.run_id) == cards
    copy = InMemoryStore()
    assert Uploader(journal, copy).send()
    assert {probe for probe, _ in copy.tiles} == {"all", "n0", "n1", "cafe", "n3", "cat"}
