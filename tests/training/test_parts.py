"""Several trainings in one run: what can be compared goes on in one record, what cannot is recorded beside it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from support.mlflow_runs import artifact_paths, image_steps
from support.models import pictures
from support.seeds import same_weights

from gradcam_callbacks import GradCAMCallback, GradCAMError, InMemoryStore, ProbeSet, check, write_report
from gradcam_callbacks.cli import main
from gradcam_callbacks.publishing.mlflow_store import fetch_journal, find_run
from gradcam_callbacks.publishing.reports import told
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.parts import journals_in
from gradcam_callbacks.record.step import Step

X, Y = pictures(16), np.arange(16) % 4


def network(kernel: int = 3, name: str | None = None) -> keras.Model:
    """Its layers are named by Keras, with other numbers each time; its map is 14 × 14, or smaller."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, kernel, activation="relu", name=name),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # or a training traces its first batch twice
    return model


def callback(probes: Any = None, **settings: Any) -> GradCAMCallback:
    return GradCAMCallback(X[:2] if probes is None else probes, **({"verbose": False, "reliance": False} | settings))


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs: int = 2, **settings: Any) -> None:
    settings = {"callbacks": list(callbacks), "batch_size": 8, "verbose": 0} | settings
    model.fit(X, Y, epochs=epochs, **settings)


def steps_of(client: MlflowClient, run_id: str) -> list[int]:
    """The steps whose metrics the run holds, as often as it holds them."""
    return sorted(metric.step for metric in client.get_metric_history(run_id, "gradcam_health/ok"))


def maps_in(client: MlflowClient, run_id: str, folder: str = "gradcam") -> set[int]:
    return {int(Path(path).stem) for path in artifact_paths(client, run_id, f"{folder}/maps")}


def page_of(client: MlflowClient, run_id: str, folder: str = "gradcam") -> str:
    return Path(client.download_artifacts(run_id, f"{folder}/report.html")).read_text(encoding="utf-8")


def names_on(page: str) -> list[str]:
    """Of what is side by side on a page."""
    return [json.loads(f'"{name}"') for name in re.findall(r'"name":"([^"]*)","link"', page)]


def steps_on(page: str) -> list[list[int]]:
    """Of each that is side by side on a page."""
    return [[int(step) for step in listed.split(",")] for listed in re.findall(r'"steps":\[([-0-9,]+)\],"maps"', page)]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("gradcam_callbacks")]


def test_folds_that_build_the_same_network_anew_go_on_in_one_record(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step is there once; the number that Keras gives to a layer tells nothing."""
    with mlflow.start_run() as run:
        for _ in range(3):
            fit(network(), callback())
    run_id = run.info.run_id
    assert steps_of(client, run_id) == [0, 1, 2, 3, 4, 5]
    assert maps_in(client, run_id) == {-1, 0, 1, 2, 3, 4, 5}
    assert not artifact_paths(client, run_id, "gradcam/parts")
    assert client.get_run(run_id).data.tags["gradcam.place"] == "Conv2D 1 of 1, 14x14x4"
    assert steps_on(page_of(client, run_id)) == [[-1, 0, 1, 2, 3, 4, 5]]
    assert said(caplog) == []
    assert not Path(".gradcam").exists()


def test_a_smaller_map_is_another_part_of_the_run(client: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    """The training goes on; maps and baseline lie in a folder of their own, steps go on, and tiles have one card."""
    with mlflow.start_run() as run:
        fit(network(3, "conv"), callback())
        fit(network(5, "conv"), callback())
    run_id = run.info.run_id
    assert steps_of(client, run_id) == [0, 1, 2, 3]
    assert maps_in(client, run_id) == {-1, 0, 1}
    assert maps_in(client, run_id, "gradcam/parts/2") == {-1, 2, 3}
    assert image_steps(client, run_id) == {
        "gradcam/all": [0, 1, 2, 3],
        "gradcam/probe_0": [0, 1, 2, 3],
        "gradcam/probe_1": [0, 1, 2, 3],
    }
    tags = client.get_run(run_id).data.tags
    assert (tags["gradcam.place"], tags["gradcam.2.place"]) == ("Conv2D 1 of 1, 14x14x4", "Conv2D 1 of 1, 12x12x4")
    page = page_of(client, run_id)
    assert names_on(page) == ["part 1: conv, 14 × 14, epochs 0–1", "part 2: conv, 12 × 12, epochs 2–3"]
    assert steps_on(page) == [[-1, 0, 1], [-1, 0, 1]]
    assert said(caplog) == [
        f"Run {run_id} holds maps that were made with layer conv (Conv2D 1 of 1, 14x14x4), now it is conv (Conv2D 1 of "
        "1, 12x12x4). Those cannot be compared with these, so that this training is recorded as part 2 of the run, "
        "side by side with the first part on its page."
    ]
    assert not Path(".gradcam").exists()


def test_what_moved_is_told_within_a_part(client: MlflowClient) -> None:
    """The first epoch of a part is compared with its own baseline; its maps are those that the journal would have."""
    with mlflow.start_run() as run:
        for kernel in (3, 5):
            # Of one class: where another one is predicted than before, no drift is measured.
            fit(same_weights(network(kernel), 4), callback(ProbeSet(X[:2], targets=[1]), keep_journal=True))
    journals = journals_in(Path(".gradcam", run.info.run_id))
    assert {number: journal.steps() for number, journal in journals.items()} == {1: [-1, 0, 1], 2: [-1, 2, 3]}
    first = journals[2].read(2)
    moved = 0.5 * np.abs(_shares(first) - _shares(journals[2].read(-1))).sum(axis=(-1, -2))
    np.testing.assert_allclose(first.measured("drift"), moved, atol=1e-5)


def _shares(step: Step) -> Any:
    return step.maps / step.maps.sum(axis=(-1, -2), keepdims=True)


def test_a_third_training_goes_on_with_the_first_part(client: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    """And a fourth with the second: each finds the part of its kind, also where its journal is long gone."""
    with mlflow.start_run() as run:
        for kernel in (3, 5, 3, 5):
            fit(network(kernel), callback())
    run_id = run.info.run_id
    assert steps_of(client, run_id) == [*range(8)]
    assert maps_in(client, run_id) == {-1, 0, 1, 4, 5}
    assert maps_in(client, run_id, "gradcam/parts/2") == {-1, 2, 3, 6, 7}
    assert steps_on(page_of(client, run_id)) == [[-1, 0, 1, 4, 5], [-1, 0, 1, 4, 5]]
    assert [re.findall(r"(recorded as|goes on with) part (\d)", text) for text in said(caplog)] == [
        [("recorded as", "2")],
        [("goes on with", "2")],
    ]


def test_other_probes_have_cards_and_a_page_of_their_own(client: MlflowClient) -> None:
    """They cannot be side by side: what was there stays as it is, and the description has a link to both pages."""
    with mlflow.start_run() as run:
        fit(network(), callback())
        before = page_of(client, run.info.run_id)
        fit(network(), callback(X[5:8]))
        fit(network(5), callback(X[5:8]))
    run_id = run.info.run_id
    assert steps_of(client, run_id) == [*range(6)]
    of_first = {f"gradcam/{name}": [0, 1] for name in ("all", "probe_0", "probe_1")}
    of_others = {f"gradcam/part2/{name}": [2, 3, 4, 5] for name in ("all", *(f"probe_{n}" for n in range(3)))}
    assert image_steps(client, run_id) == of_first | of_others
    assert page_of(client, run_id) == before
    page = page_of(client, run_id, "gradcam/parts/2")
    assert [name[:7] for name in names_on(page)] == ["part 2:", "part 3:"]
    assert "Part 1 of the run has other probes, and a review of its own." in page
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note.count("gradcam/report.html") == note.count("gradcam/parts/2/report.html") == 1
    assert "gradcam/parts/3" not in note
    store = find_run(run_id, client.tracking_uri)
    assert len(store.held(store_kind())) == 3 * 2 + 4 * 4


def store_kind() -> Any:
    from gradcam_callbacks.publishing.store import Kind

    return Kind.TILE


def test_another_method_and_another_layer_are_parts(client: MlflowClient) -> None:
    """Whatever decides the maps: three parts stand on one page."""
    with mlflow.start_run() as run:
        fit(network(), callback(), epochs=1)
        fit(network(), callback(method="hirescam"), epochs=1)
        fit(network(5), callback(method="layercam"), epochs=1)
    page = page_of(client, run.info.run_id)
    assert len(names_on(page)) == 3
    assert steps_on(page) == [[-1, 0]] * 3


def test_the_verdict_is_the_most_serious_and_says_of_which_part(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part whose maps say nothing is what a run comes to, whatever the others say."""
    model = network(5, "conv")
    model.get_layer("conv").trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    model.get_layer("conv").set_weights([np.zeros_like(weight) for weight in model.get_layer("conv").get_weights()])
    with mlflow.start_run() as run:
        fit(network(3, "conv"), callback())
        fit(model, callback())
        fit(network(3, "conv"), callback(verbose=True))
    tags = client.get_run(run.info.run_id).data.tags
    assert tags["gradcam.verdict"] in ("unfit", "constant")
    assert tags["gradcam.summary"].startswith("Part 2 (conv, 12 × 12): ")
    assert f"Grad-CAM verdict: {tags['gradcam.verdict']}. Part 2 (conv" in capsys.readouterr().out
    (content,) = told(f"runs:/{run.info.run_id}")
    assert (content["verdict"], content["summary"]) == (tags["gradcam.verdict"], tags["gradcam.summary"])
    assert [part["name"][:6] for part in content["parts"]] == ["part 1", "part 2"]
    wrong = check(f"runs:/{run.info.run_id}", fail_on="unfit")
    assert len(wrong) == 1
    assert wrong[0].startswith(f"The verdict is {tags['gradcam.verdict']}, and fails on unfit: Part 2")


def test_batches_are_counted_on_over_the_parts(client: MlflowClient) -> None:
    """Two batches an epoch: the first batch of the second part follows the last one of the first."""
    with mlflow.start_run() as run:
        fit(network(3), callback(every_batches=1))
        fit(network(5), callback(every_batches=1))
        fit(network(3), callback(every_batches=1), epochs=1)
    run_id = run.info.run_id
    assert steps_of(client, run_id) == [*range(10)]
    assert maps_in(client, run_id, "gradcam/parts/2") == {-1, 4, 5, 6, 7}
    assert names_on(page_of(client, run_id))[1].endswith("batches 4–7")


def test_epochs_and_batches_are_parts_with_pages_of_their_own(client: MlflowClient) -> None:
    """A step is not the same in the two, so that they cannot be aligned."""
    with mlflow.start_run() as run:
        fit(network(), callback())
        fit(network(), callback(every_batches=1))
    assert steps_of(client, run.info.run_id) == [*range(6)]
    assert steps_on(page_of(client, run.info.run_id)) == [[-1, 0, 1]]
    assert steps_on(page_of(client, run.info.run_id, "gradcam/parts/2")) == [[-1, 0, 1, 2, 3]]


def test_a_restarted_job_goes_on_with_its_part(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From another folder, with a checkpoint that is one epoch old: each step is there once, in its part."""
    run_id = client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id
    models = {3: network(3), 5: network(5)}
    for number, (kernel, start, end) in enumerate(((3, 0, 2), (5, 0, 2), (5, 1, 4), (3, 1, 3))):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        fit(models[kernel], callback(), initial_epoch=start, epochs=end)
        assert client.get_run(run_id).info.status == "FINISHED"
        assert not Path(".gradcam").exists()
    # Part 1 held epochs 0 and 1. Where it goes on, step 1 would be the old epoch 1, and step 2 is one of part 2.
    assert maps_in(client, run_id, "gradcam/parts/2") == {-1, 2, 3, 4, 5}
    assert maps_in(client, run_id) == {-1, 0, 1, 6, 7}
    assert steps_of(client, run_id) == [*range(8)]
    assert image_steps(client, run_id)["gradcam/probe_1"] == [*range(8)]


def test_a_journal_of_the_run_takes_another_part_and_that_of_another_run_does_not(client: MlflowClient) -> None:
    """Also where the user named its folder."""
    with mlflow.start_run() as run:
        fit(network(3), callback(journal_dir="kept"))
        fit(network(5), callback(journal_dir="kept"))
    assert {number: one.steps() for number, one in journals_in("kept").items()} == {1: [-1, 0, 1], 2: [-1, 2, 3]}
    assert Journal("kept/parts/2").manifest.run_id == run.info.run_id
    with mlflow.start_run(), pytest.raises(GradCAMError, match=r"Journal 'kept' was made with layer .* Pass another"):
        fit(network(5), callback(journal_dir="kept"))
    with mlflow.start_run(), pytest.raises(GradCAMError, match=rf"holds the maps of run {run.info.run_id}"):
        fit(network(3), callback(journal_dir="kept"))


def test_a_journal_without_its_first_part_is_still_of_its_run(client: MlflowClient) -> None:
    """It takes nothing of another one."""
    with mlflow.start_run() as run:
        fit(network(3), callback(journal_dir="kept"))
        fit(network(5), callback(journal_dir="kept"))
    shutil.rmtree("kept/steps")
    Path("kept/manifest.json").unlink()
    with mlflow.start_run(), pytest.raises(GradCAMError, match=rf"holds the maps of run {run.info.run_id}"):
        fit(network(5), callback(journal_dir="kept"))


def test_another_process_that_records_another_part_is_not_disturbed() -> None:
    """Two trainings would take the same steps: the second is refused before its first batch, and leaves nothing."""
    store = InMemoryStore()
    fit(network(3), callback(store=store, journal_dir="kept"))
    with Path("kept/manifest.json").open("rb") as manifest:
        fcntl.flock(manifest, fcntl.LOCK_EX)
        with pytest.raises(GradCAMError, match=r"Journal '.*/kept' is recorded into by another process now\."):
            fit(network(5), callback(store=store, journal_dir="kept"))
    assert [*journals_in("kept")] == [1]


def test_a_part_without_a_step_does_not_hide_the_others(client: MlflowClient) -> None:
    """The second training was killed before its first step: `gradcam upload` sends the first, and ends the run."""
    run_id = client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id
    fit(network(3), callback(run_id=run_id, journal_dir="kept"))
    first = Journal("kept")
    manifest = replace(first.manifest, part=2, layer="other", place="")
    second = Journal.create("kept/parts/2", manifest=manifest, pictures=first.pictures())
    second.leave_status("FAILED")
    Path("kept/uploaded").unlink()
    done = CliRunner().invoke(main, ["upload", "kept", "--tracking-uri", client.tracking_uri])
    assert done.exit_code == 0, done.output
    assert client.get_run(run_id).info.status == "FAILED"
    assert steps_of(client, run_id) == [0, 1]
    assert steps_on(page_of(client, run_id)) == [[-1, 0, 1]]


def test_a_report_shows_the_parts_of_a_run_and_of_a_journal(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """They are what the run's own page shows; parts of other probes are left out, which is said."""
    with mlflow.start_run() as run:
        for kernel in (3, 5):
            fit(network(kernel), callback(journal_dir="kept"))
        page = page_of(client, run.info.run_id)
        fit(network(3), callback(X[5:8], journal_dir="kept"))
    caplog.clear()
    for source in ("kept", f"runs:/{run.info.run_id}"):
        written = write_report(source).read_text(encoding="utf-8")
        assert (names_on(written), steps_on(written)) == (names_on(page), steps_on(page))
    assert [text for text in said(caplog) if "other probes" in text] == [
        f"'{run.info.run_name}' has parts of other probes, which have reviews of their own and are left out: 3."
    ] * 2
    alone = write_report("kept/parts/3").read_text(encoding="utf-8")
    assert [name[:6] for name in names_on(alone)] == ["part 3"]
    (content,) = told("kept")
    assert [part["name"][:6] for part in content["parts"]] == ["part 1", "part 2", "part 3"]
    both = write_report(["kept", f"runs:/{run.info.run_id}"]).read_text(encoding="utf-8")
    assert len(names_on(both)) == 4
    journal = fetch_journal(find_run(run.info.run_id, client.tracking_uri), Path("fetched"))
    assert {number: one.steps() for number, one in journals_in(journal.directory).items()} == {
        1: [-1, 0, 1],
        2: [-1, 2, 3],
        3: [-1, 4, 5],
    }


def test_nothing_goes_before_all_parts_have_arrived(client: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    """What MLflow did not take of the first part is sent with the second, and the journals go together."""
    address = client.tracking_uri
    run = client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id

    class Away(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: object = None) -> None:
            client.delete_run(run)

    fit(network(3), Away(), callback(run_id=run, flush_timeout=1))
    assert steps_of(client, run) == []
    assert Path(".gradcam", run, "manifest.json").exists()
    client.restore_run(run)
    fit(network(5), callback(run_id=run))
    assert steps_of(client, run) == [0, 1, 2, 3]
    assert (maps_in(client, run), maps_in(client, run, "gradcam/parts/2")) == ({-1, 0, 1}, {-1, 2, 3})
    assert len(names_on(page_of(client, run))) == 2
    assert not Path(".gradcam").exists()
    assert address == client.tracking_uri
    assert [text for text in said(caplog) if "have not arrived" in text]


KILLED = """
import os, signal, sys
import keras, mlflow
sys.path.insert(0, sys.argv[2])
from training.test_parts import callback, fit, network

mlflow.set_tracking_uri(sys.argv[1])

class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

os.environ["MLFLOW_RUN_ID"] = sys.argv[3]
fit(network(3), callback(keep_journal=True))
os.environ["MLFLOW_RUN_ID"] = sys.argv[3]
fit(network(5), callback(), Kill(), epochs=5)
"""


@pytest.mark.usefixtures("process")
def test_a_training_that_is_killed_in_its_second_part_loses_nothing(client: MlflowClient) -> None:
    """`gradcam upload` sends all parts, ends the run as failed, and may be repeated; so may it be named by the part."""
    run_id = client.create_run(mlflow.tracking.fluent._get_experiment_id()).info.run_id
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", KILLED, client.tracking_uri, str(tests), run_id]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert client.get_run(run_id).info.status == "FINISHED", "of the first training"
    client.set_terminated(run_id, "RUNNING")
    folder = Path(".gradcam", run_id)
    assert {number: one.status for number, one in journals_in(folder).items()} == {1: None, 2: "FAILED"}
    for named in (folder, folder / "parts" / "2"):
        done = CliRunner().invoke(main, ["upload", str(named), "--tracking-uri", client.tracking_uri])
        assert done.exit_code == 0, done.output
        assert "holds all 5 steps" in done.output
        assert client.get_run(run_id).info.status == "FAILED"
    assert steps_of(client, run_id) == [0, 1, 2, 3, 4]
    assert Counter(image_steps(client, run_id)["gradcam/probe_0"]) == Counter(range(5))
    assert maps_in(client, run_id, "gradcam/parts/2") == {-1, 2, 3, 4}
    assert len(names_on(page_of(client, run_id))) == 2
    shutil.rmtree(folder / "steps")
    (folder / "manifest.json").unlink()  # the first part had arrived, and its journal may be gone
    done = CliRunner().invoke(main, ["upload", str(folder), "--tracking-uri", client.tracking_uri])
    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("long")
def test_a_run_in_memory_has_parts() -> None:
    """Each has maps and manifest of its own; metrics, tiles, verdict and status are those of the run."""
    store = InMemoryStore()
    for kernel, probes in ((3, X[:2]), (5, X[:2]), (3, X[5:8]), (3, X[:2])):
        fit(network(kernel), callback(probes, store=store))
    second, third = store.part(2), store.part(3)
    assert (set(store.maps), set(second.maps), set(third.maps)) == ({-1, 0, 1, 6, 7}, {-1, 2, 3}, {-1, 4, 5})
    assert set(store.metrics) == set(second.metrics) == {*range(8)}
    of_third = {"part3/all", *(f"part3/probe_{n}" for n in range(3))}
    assert {probe for probe, step in store.tiles if step in (4, 5)} == of_third
    assert {probe for probe, step in store.tiles if step not in (4, 5)} == {"all", "probe_0", "probe_1"}
    assert store.review is not None
    assert third.review is not None
    assert second.review is None
    assert len(names_on(store.review.page)) == 2
    assert (store.status, second.status, third.verdict) == ("FINISHED", "FINISHED", store.verdict)
    assert {number: told["layer"][:6] for number, told in store.descriptions().items()} == dict.fromkeys(
        (1, 2, 3), "conv2d"
    )


def test_a_damaged_part_costs_its_own_steps_alone(client: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    """What the run holds of another part cannot be read: the rest is shown, and that is said."""
    with mlflow.start_run() as run:
        fit(network(3), callback())
    Path("0.npz").write_bytes(b"not a step")
    client.log_artifact(run.info.run_id, "0.npz", "gradcam/maps")
    with mlflow.start_run(run.info.run_id):
        forget()
        with caplog.at_level(logging.WARNING):
            fit(network(5), callback())
    assert steps_of(client, run.info.run_id) == [0, 1, 2, 3]
    assert [name[:6] for name in names_on(page_of(client, run.info.run_id))] == ["part 1", "part 2"]
    assert steps_on(page_of(client, run.info.run_id)) == [[-1, 1], [-1, 0, 1]]
    assert any(text.startswith("In part 1, step 0 is left out: ") for text in said(caplog))
    assert not Path(".gradcam").exists()


def forget() -> None:
    """What this process has kept of the last training, as in a new process."""
    from gradcam_callbacks.publishing import recorder

    recorder._left.run_id = ""
