"""Where the pictures and the review are is printed when a training begins and when it has ended."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from support.models import pictures, small_model

from gradcam_callbacks import GradCAMCallback, InMemoryStore


def fit(*callbacks: keras.callbacks.Callback, epochs: int = 1) -> None:
    keras.utils.set_random_seed(1)
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(8), np.arange(8) % 4, epochs=epochs, callbacks=list(callbacks), verbose=0)


def places(text: str) -> dict[str, str]:
    """Of the lines of `text` that name a place what they are and the place."""
    return dict(re.findall(r"^  (pictures|review|after|file) +(\S.*)$", text, re.MULTILINE))


class ReadsThePage(keras.callbacks.Callback):  # type: ignore[misc]
    """Reads, at the end of each epoch, the file that was printed at the beginning."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__()
        self.capsys = capsys
        self.printed = ""
        self.pages: list[str] = []

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.printed += self.capsys.readouterr().out
        file = Path(places(self.printed)["file"])
        if file.exists():
            self.pages.append(file.read_text(encoding="utf-8"))


def test_a_training_says_where_to_look_when_it_begins(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Run and review, each on one line, and a file that holds the review meanwhile; at the end what stays."""
    reads = ReadsThePage(capsys)
    with mlflow.start_run(run_name="owl") as run:
        fit(GradCAMCallback(pictures(2), strict=True), reads, epochs=6)
    begun, ended = reads.printed, capsys.readouterr().out
    assert begun.startswith("Grad-CAM watches 2 probes in run owl.")
    path = f"{client.tracking_uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    links = {
        "pictures": f"{path}/model-metrics?workflowType=machine_learning",
        "review": f"{path}/artifacts/gradcam/report.html?workflowType=machine_learning",
    }
    file = Path(".gradcam", run.info.run_id, "report.html").absolute()
    assert places(begun) == links | {"file": str(file)}
    assert reads.pages
    assert reads.pages[-1].startswith("<!doctype html>")
    assert "Grad-CAM of 2 probes in run owl:" in ended
    assert places(ended) == links  # the journal is gone
    assert not file.exists()


@pytest.mark.usefixtures("long")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # SQLAlchemy 2.1 of MLflow 3.17
def test_a_store_on_this_machine_has_the_review_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """The file among the artifacts is named, and none is written beside the journal; with how to start a server."""
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').absolute()}")
    mlflow.set_experiment("here")
    try:
        with mlflow.start_run():
            fit(GradCAMCallback(pictures(2), keep_journal=True))
    finally:
        mlflow.set_tracking_uri(None)
    begun, ended = map(places, capsys.readouterr().out.split("Grad-CAM of 2 probes"))
    assert begun == ended
    assert "mlflow server --port 5000 --backend-store-uri sqlite:////" in ended["after"]
    assert Path(ended["file"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert ".gradcam" not in ended["file"]
    assert list(Path(".gradcam").rglob("report.html")) == []


def test_a_journal_that_stays_keeps_the_review(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no store has it on this machine."""
    fit(GradCAMCallback(pictures(2), store=InMemoryStore(), journal_dir="kept"))
    ended = capsys.readouterr().out.split("Grad-CAM of 2 probes")[1]
    assert places(ended) == {"file": str(Path("kept/report.html").absolute())}
    assert Path("kept/report.html").exists()


@pytest.mark.usefixtures("long")
def test_short_trainings_in_one_run_say_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict is said again where it is another one."""
    store = InMemoryStore()
    for _ in range(4):
        fit(GradCAMCallback(pictures(2), store=store))
    printed = capsys.readouterr().out
    assert printed.count("Grad-CAM watches") == printed.count("Grad-CAM of 2 probes") == 1
    verdicts = re.findall(r"^Grad-CAM verdict: .*$", printed, re.MULTILINE)
    assert 1 <= len(verdicts) == len(set(verdicts))
    fit(GradCAMCallback(pictures(2), store=InMemoryStore()))  # another run
    assert "Grad-CAM watches" in capsys.readouterr().out


def test_who_wants_to_hear_nothing_hears_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither at the beginning nor at the end."""
    fit(GradCAMCallback(pictures(2), store=InMemoryStore(), verbose=False))
    assert capsys.readouterr().out == ""
