"""What we rely on of MLflow that it does not promise. Where one of these fails, MLflow has changed it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from PIL import Image
from support.journals import make_journal
from support.manifests import a_manifest
from support.mlflow_runs import artifact_paths
from support.models import pictures, small_model
from support.reliance import a_test

from gradcam_callbacks import GradCAMCallback
from gradcam_callbacks.publishing import mlflow_store
from gradcam_callbacks.publishing.mlflow_store import MLflowStore, find_run
from gradcam_callbacks.publishing.store import HungUpError, Item, Kind, Review, UnreachableError, steps_of
from gradcam_callbacks.publishing.tiles import encoded
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing.verdict import Verdict

TILE = np.zeros((300, 300, 3), np.uint8)


@pytest.fixture
def store(client: MlflowClient) -> MLflowStore:
    """A run on the server."""
    experiment = mlflow.get_experiment_by_name(mlflow.get_experiment("0").name)
    assert experiment is not None
    return find_run(client.create_run(experiment.experiment_id).info.run_id, client.tracking_uri)


def test_requests_of_one_thread_are_bounded() -> None:
    """MLflow asks `MLFLOW_HTTP_REQUEST_TIMEOUT.get()` at each request; read once, a hung server would hold us up."""
    before = (MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get())
    seen = []
    with mlflow_store._bounded_requests(3):
        assert (MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get()) == (0, 3)
        other = threading.Thread(
            target=lambda: seen.append((MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get()))
        )
        other.start()
        other.join()
    assert seen == [before]
    assert (MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get()) == before
    assert "get" not in vars(MLFLOW_HTTP_REQUEST_TIMEOUT)


def test_images_have_the_names_that_we_read(store: MLflowStore, client: MlflowClient) -> None:
    """`log_image` makes a picture and a small copy, named by key, step and time; else tiles would be sent twice."""
    item = Item(Kind.TILE, 3, "cat_1")
    store.put(item, TILE, 12.5)
    assert store.held(Kind.TILE) == {item}
    assert len(artifact_paths(client, store.run_id, "images")) == 2
    copies = store._images()[item]
    assert [sorted(files) for files in copies.values()] == [["+compressed.webp", ".png"]]


@pytest.mark.parametrize("again", [TILE, encoded(TILE)], ids=["array", "file"])
def test_half_an_image_is_completed(store: MLflowStore, client: MlflowClient, again: Any) -> None:
    """A picture whose small copy is missing has not arrived; sent again, it gets that copy, and is there once."""
    item = Item(Kind.TILE, 0, "cat")
    store.put(item, TILE, 1.0)
    (files,) = store._images()[item].values()
    repository = mlflow_store.get_artifact_repository(
        client.get_run(store.run_id).info.artifact_uri, tracking_uri=client.tracking_uri
    )
    repository.delete_artifacts(files["+compressed.webp"])
    assert store.held(Kind.TILE) == set()
    store.put(item, again, 1.0)
    assert store.held(Kind.TILE) == {item}
    assert len(artifact_paths(client, store.run_id, "images")) == 2


def test_what_is_there_twice_is_there_once_afterwards(store: MLflowStore, client: MlflowClient) -> None:
    """`tidy` deletes through the artifact repository of the run."""
    item = Item(Kind.TILE, 0, "cat")
    for time in (1.0, 2.0):
        store.put(item, TILE, time)
    assert len(artifact_paths(client, store.run_id, "images")) == 4
    store.tidy()
    assert len(artifact_paths(client, store.run_id, "images")) == 2
    assert store.held(Kind.TILE) == {item}


def test_a_file_of_the_working_directory_is_never_sent_for_ours(store: MLflowStore, client: MlflowClient) -> None:
    """A stranger's `0.npz` and `manifest.json` lie where a relative path would find them."""
    Path("0.npz").write_bytes(b"a stranger's")
    store.put(Item(Kind.MAPS, 0), b"ours", 0.0)
    assert store.fetch(0) == b"ours"


@pytest.fixture
def closing() -> Iterator[str]:
    """The address of a server that closes each connection instead of an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(1)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_hangs_up_is_told_from_one_that_is_away(closing: str, store: MLflowStore) -> None:
    """By the words of the errors of requests and MLflow: they decide whether the next item is tried at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        away = f"http://127.0.0.1:{free.getsockname()[1]}"
    for address, expected in ((closing, HungUpError), (away, UnreachableError)):
        store._client = MlflowClient(address)
        with pytest.raises(expected):
            steps_of(store)


@pytest.fixture
def asynchronous() -> Iterator[None]:
    """The user has told MLflow to log on threads of its own."""
    mlflow.config.enable_async_logging(True)
    yield
    mlflow.config.enable_async_logging(False)


@pytest.mark.usefixtures("asynchronous")
def test_what_is_refused_raises_under_asynchronous_logging_too(store: MLflowStore, client: MlflowClient) -> None:
    """Our calls are synchronous on our thread: metrics, tags and the note of a deleted run are errors, none arrives."""
    manifest = a_manifest()
    threads = set(threading.enumerate())
    client.delete_run(store.run_id)
    for item, content in (
        (Item(Kind.METRICS, 0), {"a": 1.0}),
        (Item(Kind.DESCRIPTION), manifest),
        (Item(Kind.TILE, 0, "cat"), TILE),
        (Item(Kind.REVIEW, 0), Review("page", None)),
    ):
        with pytest.raises(mlflow.MlflowException, match="must be in the 'active' state"):
            store.put(item, content, 1.0)
    assert {thread.name for thread in set(threading.enumerate()) - threads} == set()


@pytest.mark.usefixtures("asynchronous")
def test_a_training_whose_batches_are_refused_keeps_its_journal_and_says_so(
    store: MLflowStore, client: MlflowClient, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No batch counts as arrived, nothing is removed, and no success is said."""
    delete = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch or client.delete_run(store.run_id))
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = GradCAMCallback(pictures(1), run_id=store.run_id, flush_timeout=1)
    model.fit(pictures(8), np.arange(8) % 4, epochs=2, callbacks=[delete, callback], verbose=0)
    journal = Journal(Path(".gradcam", store.run_id))
    assert journal.steps() == [-1, 0, 1]
    assert not {mark for mark in journal.uploaded() if mark.startswith(("metrics", "report"))}
    assert "Grad-CAM of" not in capsys.readouterr().out
    assert "items have not arrived in MLflow" in caplog.text


# ---- The verdict ----

BOATS = Verdict("shortcut", "Confirmed by the test: 5 of 6 answers *change* at val_loss <0.1. More [of] it.")
LINE = "**Grad-CAM verdict: shortcut.** Confirmed by the test: 5 of 6 answers \\*change\\* at val\\_loss \\<0.1."


def described(store: MLflowStore, client: MlflowClient) -> str:
    return client.get_run(store.run_id).data.tags["mlflow.note.content"]


def test_runs_are_found_by_their_verdict(store: MLflowStore, client: MlflowClient) -> None:
    """Tags say what the review came to, on a real server; a later review replaces them."""
    experiment = client.get_run(store.run_id).info.experiment_id

    def found(verdict: str) -> list[str]:
        runs = client.search_runs([experiment], filter_string=f"tags.\"gradcam.verdict\" = '{verdict}'")
        return [run.info.run_id for run in runs if run.info.run_id == store.run_id]

    store.put(Item(Kind.REVIEW, 0), Review("page", None, BOATS), 0.0)
    assert found("shortcut") == [store.run_id]
    assert client.get_run(store.run_id).data.tags["gradcam.summary"] == BOATS.summary
    store.put(Item(Kind.REVIEW, 1), Review("page", None, Verdict("ok", "Attention settled at epoch 1.")), 0.0)
    assert (found("shortcut"), found("ok")) == ([], [store.run_id])
    opened = find_run(store.run_id, client.tracking_uri)
    assert (opened.verdict, opened.summary) == ("ok", "Attention settled at epoch 1.")


def test_the_verdict_stands_before_the_strip(store: MLflowStore, client: MlflowClient) -> None:
    """Its first sentence alone, in which nothing is Markdown; a later one replaces that line, and nothing else."""
    store.put(Item(Kind.REVIEW, 0), Review("page", b"strip", BOATS), 0.0)
    assert described(store, client).startswith(f"{LINE}\n\n[![Open the Grad-CAM review](get-artifact?")
    strip = described(store, client).removeprefix(LINE)
    store.put(Item(Kind.REVIEW, 1), Review("page", b"strip", Verdict("ok", r"All \1 settled.")), 0.0)
    assert described(store, client) == rf"**Grad-CAM verdict: ok.** All \\1 settled.{strip}"


def test_what_a_user_wrote_is_never_replaced(store: MLflowStore, client: MlflowClient) -> None:
    """What stood there before stays in front, and what was written around our lines stays where it is."""
    client.set_tag(store.run_id, "mlflow.note.content", "Mine.\n")
    store.put(Item(Kind.REVIEW, 0), Review("page", b"strip", BOATS), 0.0)
    note = described(store, client)
    assert note.startswith(f"Mine.\n\n{LINE}\n\n[![Open the Grad-CAM review](")
    client.set_tag(store.run_id, "mlflow.note.content", f"New.\n\n{note}\n\nLast.")
    store.put(Item(Kind.REVIEW, 1), Review("page", b"strip", Verdict("ok", "Fine.")), 0.0)
    assert described(store, client) == f"New.\n\n{note}\n\nLast.".replace(LINE, "**Grad-CAM verdict: ok.** Fine.")


def test_a_run_of_an_earlier_version_gets_the_line_before_its_strip(store: MLflowStore, client: MlflowClient) -> None:
    """And no second strip."""
    store.put(Item(Kind.REVIEW, 0), Review("page", b"strip"), 0.0)
    before = described(store, client)
    assert before.startswith("[![Open")
    client.set_tag(store.run_id, "mlflow.note.content", f"Mine.\n\n{before}")
    store.put(Item(Kind.REVIEW, 1), Review("page", b"strip", BOATS), 0.0)
    assert described(store, client) == f"Mine.\n\n{LINE}\n\n{before}"


def test_tests_are_artifacts_that_are_fetched_back(store: MLflowStore, client: MlflowClient, tmp_path: Path) -> None:
    """A journal that is fetched from a run has its tests."""
    journal = make_journal(tmp_path / store.run_id, steps=(-1, 0, 1))
    journal.leave_test(1, a_test("confirmed"))
    assert Uploader(journal, store).send()
    assert "gradcam/tests/1.json" in artifact_paths(client, store.run_id)
    assert store.held(Kind.TEST) == {Item(Kind.TEST, 1)}
    assert store.fetch(1, Kind.TEST) == journal.test_content(1)
    (tmp_path / "fetched").mkdir()
    fetched = mlflow_store.fetch_journal(store, tmp_path / "fetched")
    assert list(fetched.tests()) == [1]
    assert fetched.test_content(1) == journal.test_content(1)
    assert client.get_run(store.run_id).data.tags["gradcam.verdict"] == "shortcut"


# ---- Images that are encoded here ----


def test_files_of_images_have_the_names_and_sizes_that_log_image_gives(
    store: MLflowStore, client: MlflowClient
) -> None:
    """But for the id: MLflow shows a picture by its name alone, and the small copy on its card."""
    assert store.takes_encoded_tiles  # else this MLflow names them in another way, and makes them itself
    tile = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    item = Item(Kind.TILE, 3, "cat")
    store.put(item, encoded(tile), 12.5)
    ours = artifact_paths(client, store.run_id, "images")
    client.log_image(store.run_id, tile, key="gradcam/cat", step=3, timestamp=12500, synchronous=True)
    theirs = [path for path in artifact_paths(client, store.run_id, "images") if path not in ours]

    def without_id(path: str) -> str:
        return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", path)

    assert sorted(map(without_id, ours)) == sorted(map(without_id, theirs))
    pairs = zip(sorted(ours, key=without_id), sorted(theirs, key=without_id), strict=True)
    for one, other in pairs:
        files = [Path(client.download_artifacts(store.run_id, path)) for path in (one, other)]
        with Image.open(files[0]) as here, Image.open(files[1]) as there:
            assert here.format == there.format
            assert (here.size, there.size) == (((60, 90),) * 2 if one.endswith(".png") else ((133, 200), (170, 256)))
            if one.endswith(".png"):
                np.testing.assert_array_equal(np.asarray(here), np.asarray(there))
    assert client.get_run(store.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_an_image_that_is_put_twice_is_there_once(store: MLflowStore, client: MlflowClient) -> None:
    """Its name follows from the run, the probe and the step: what arrives late replaces itself."""
    item = Item(Kind.TILE, 0, "cat")
    for _ in range(2):
        store.put(item, encoded(TILE), 1.0)
    assert len(artifact_paths(client, store.run_id, "images")) == 2
    assert store.held(Kind.TILE) == {item}


def test_where_names_are_not_known_log_image_makes_the_files(
    store: MLflowStore, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As older versions of MLflow name them: tiles come as arrays then."""

    def older(self: object, run_id: str, image: object, **more: object) -> None:
        with self._log_artifact_helper(run_id, f"images/gradcam#a%step%{more['step']}.png"):  # type: ignore[attr-defined]
            pass

    mlflow_store.names_are_known.cache_clear()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(MlflowClient, "log_image", older)
            assert not store.takes_encoded_tiles
        assert not mlflow_store.names_are_known()
        journal = make_journal(tmp_path / store.run_id, names=["cat"], steps=[0])
        assert Uploader(journal, store).send()
        assert len(artifact_paths(client, store.run_id, "images")) == 4
    finally:
        mlflow_store.names_are_known.cache_clear()


def test_a_run_is_told_once_that_it_has_images(
    store: MLflowStore, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A picture takes two requests, and not three."""
    told = []
    set_tag = MlflowClient.set_tag

    def counting(self: MlflowClient, run_id: str, key: str, *rest: object, **more: object) -> object:
        told.append(key)
        return set_tag(self, run_id, key, *rest, **more)

    monkeypatch.setattr(MlflowClient, "set_tag", counting)
    journal = make_journal(tmp_path / store.run_id, steps=range(8))
    assert Uploader(journal, store).send()
    assert len(artifact_paths(client, store.run_id, "images")) == 3 * 2 * 8
    assert told.count("mlflow.loggedImages") == 1


def test_256_probes_leave_nothing_but_pictures(client: MlflowClient) -> None:
    """After a second of waiting all metrics, all maps and the page are there, and a card for 32 probes at most."""
    probes = np.random.default_rng(0).random((256, 16, 16, 3), dtype="float32")
    epochs = 6
    with mlflow.start_run() as run:
        callback = GradCAMCallback(probes, flush_timeout=8, reliance=False, verbose=False)
        model = small_model()
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        model.fit(pictures(4), np.zeros(4, int), epochs=epochs, verbose=0, callbacks=[callback])
    run_id = run.info.run_id
    history = client.get_metric_history(run_id, "gradcam_health/non-finite")
    assert [metric.step for metric in history] == list(range(epochs))
    held = artifact_paths(client, run_id, "gradcam")
    assert {f"gradcam/maps/{step}.npz" for step in range(-1, epochs)} <= set(held)
    assert {"gradcam/report.html", "gradcam/strip.png", "gradcam/manifest.json"} <= set(held)
    shown = {path.partition("+")[0] for path in artifact_paths(client, run_id, "images")}
    assert len(shown) <= 1 + 32


def test_who_asks_what_a_run_holds_asks_for_nothing_else(
    store: MLflowStore, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One request lists a folder. MLflow's client makes four, and five to fetch a file: the server may be far away."""
    journal = make_journal(tmp_path / store.run_id, steps=range(3))
    assert Uploader(journal, store).send()
    sent: list[str] = []
    send = requests.Session.send

    def counting(self: requests.Session, request: requests.PreparedRequest, **settings: Any) -> requests.Response:
        if "server-info" not in (request.path_url or ""):  # which MLflow itself asks for now and then
            sent.append(request.path_url)
        return send(self, request, **settings)

    monkeypatch.setattr(requests.Session, "send", counting)
    assert len(store.held(Kind.TILE)) == 3 * 3
    assert len(store.held(Kind.MAPS)) == 3
    assert len(sent) == 2, sent
    assert store.fetch(1)
    assert len(sent) == 2 + 2, sent  # is it a folder, and what is in it
    assert mlflow_store.fetch_journal(store, tmp_path / "fetched").steps() == [0, 1, 2]
    assert len(sent) == 4 + 3 + 2 + (1 + 3), sent  # folders, the manifest, and the maps
    assert {path.split("/artifacts")[0] for path in sent} == {"/api/2.0/mlflow-artifacts"}
