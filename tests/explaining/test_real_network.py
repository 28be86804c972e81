"""A real network with real weights on real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from keras import ops
from mlflow import MlflowClient
from support.efficientnet_lite import efficientnet_lite0, preprocess
from support.engines import gradient
from support.mlflow_runs import artifact_paths, image_steps
from support.photographs import EGYPTIAN_CAT, ESPRESSO, TABBY, TIGER_CAT, cat, cat_beside_espresso, crops, espresso

from gradcam_callbacks import GradCAMCallback, ProbeSet, explain
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing.events import find_events
from gradcam_callbacks.reviewing.measuring import measure
from gradcam_callbacks.reviewing.sentences import summary

pytestmark = pytest.mark.usefixtures("large_network")


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return efficientnet_lite0()


def both_photographs() -> np.ndarray:
    return np.stack([cat(), espresso()])


def test_the_network_knows_the_cat_and_the_espresso(network: keras.Model) -> None:
    """The weights are the real ones: the cat is a domestic cat, the cup an espresso."""
    probabilities = network.predict(preprocess(both_photographs()), verbose=0)
    assert probabilities[0, [TABBY, TIGER_CAT, EGYPTIAN_CAT]].sum() >= 0.85
    assert probabilities[1, ESPRESSO] > 0.85


def tutorial_maps(network: keras.Model, images: np.ndarray, targets: list[int]) -> np.ndarray:
    """The tutorial's way: a second model, no softmax, gradients, averaged, weighed, ReLU; a target at a time."""
    without_softmax = efficientnet_lite0(classifier_activation=None)
    last = without_softmax.get_layer("top_act").output
    activations = keras.Model(without_softmax.inputs[0], last)(images, training=False)
    head = keras.Model(last, without_softmax.output)
    maps = []
    for target in targets:
        gradients = gradient(lambda given, target=target: head(given, training=False)[:, target], activations)
        weights = ops.mean(gradients, axis=(1, 2), keepdims=True)
        maps.append(np.asarray(ops.relu(ops.sum(weights * activations, axis=-1))))
    return np.stack(maps, axis=1)


def test_the_maps_are_those_of_the_tutorial(network: keras.Model) -> None:
    """Three targets in one pass give what the tutorial's loop gives one by one."""
    explanation = explain(network, both_photographs(), targets=[285, 967, 281], preprocess=preprocess)
    expected = tutorial_maps(network, preprocess(both_photographs()), [285, 967, 281])
    assert explanation.layer == "top_act"
    assert expected.max() > 0.1
    np.testing.assert_allclose(explanation.maps, expected, atol=1e-5)


def test_asked_for_the_cat_it_looks_at_the_cat_and_for_the_espresso_at_the_cup(network: keras.Model) -> None:
    """In one picture of both, each map peaks in its own half and has at least 80 % of its mass there."""
    explanation = explain(network, cat_beside_espresso()[None], targets=[EGYPTIAN_CAT, ESPRESSO], preprocess=preprocess)
    for_cat, for_espresso = explanation.heatmaps()[0]
    middle = for_cat.shape[1] // 2
    assert np.unravel_index(for_cat.argmax(), for_cat.shape)[1] < middle
    assert np.unravel_index(for_espresso.argmax(), for_espresso.shape)[1] >= middle
    assert for_cat[:, :middle].sum() >= 0.8 * for_cat.sum()
    assert for_espresso[:, middle:].sum() >= 0.8 * for_espresso.sum()


def test_plot_and_save_show_the_tutorials_panels(network: keras.Model) -> None:
    """The figure has the picture and one titled panel a target; saved files are complete and never overwritten."""
    names = [f"class {index}" for index in range(1000)]
    names[EGYPTIAN_CAT], names[ESPRESSO] = "Egyptian cat", "espresso"
    explanation = explain(
        network,
        both_photographs(),
        targets=["Egyptian cat", "predicted", ("espresso", "Egyptian cat")],
        preprocess=preprocess,
        class_names=names,
    )
    titles = [" ".join(axes.get_title().split()) for axes in explanation.plot().axes]
    probabilities = explanation.probabilities
    assert probabilities is not None
    assert titles[1:4] == [
        f"What made you think Egyptian cat? ({probabilities[0, 0]:.2f})",
        f"What made you think Egyptian cat? ({probabilities[0, 1]:.2f})",
        "What made you think espresso rather than Egyptian cat? (empty)",
    ]
    assert titles[6] == f"What made you think espresso? ({probabilities[1, 1]:.2f})"
    assert [name for _, name, _ in explanation.predictions(1)[1]] == ["espresso"]
    assert explanation.predictions(5)[0][0][:2] == (EGYPTIAN_CAT, "Egyptian cat")

    saved = explanation.save("out")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(path.name for path in saved)
    with np.load("out/maps.npz", allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["maps"], explanation.maps)
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    assert manifest["layer"] == "top_act"
    assert manifest["files"] == [path.name for path in saved if path.suffix == ".png"]
    before = {path: path.read_bytes() for path in saved}
    with pytest.raises(FileExistsError, match=r"is there already; choose another folder or pass overwrite=True"):
        explanation.save("out")
    assert {path: path.read_bytes() for path in saved} == before
    explanation.save("out", overwrite=True)


def test_fine_tuning_on_crops_lands_in_mlflow(client: MlflowClient) -> None:
    """The network as a nested backbone under a new head, three epochs: the layer is found inside, all has arrived."""
    backbone = efficientnet_lite0(include_top=False, name="backbone")
    backbone.trainable = False
    inputs = keras.Input((224, 224, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x_train = preprocess(np.concatenate([crops(cat(), 8, seed=0), crops(espresso(), 8, seed=1)]))
    y_train = np.repeat([0, 1], 8)
    probes = ProbeSet(
        np.stack([cat(), espresso(), cat_beside_espresso()]),
        names=["cat", "espresso", "both"],
        targets=["cat", "espresso", "predicted"],
        class_names=["cat", "espresso"],
        regions=[None, None, (0, 0, 224, 112)],
        preprocess=preprocess,
    )
    frozen = [weight.copy() for weight in backbone.get_weights()]
    with mlflow.start_run() as run:
        model.fit(
            x_train, y_train, batch_size=8, epochs=3, verbose=0, callbacks=[GradCAMCallback(probes, metrics="all")]
        )
    run_id = run.info.run_id
    assert image_steps(client, run_id) == {f"gradcam/{name}": [0, 1, 2] for name in ("all", *probes.names)}
    paths = artifact_paths(client, run_id)
    assert len([path for path in paths if path.startswith("images/")]) == 2 * (1 + 3) * 3  # a PNG and its small WebP
    assert [path for path in paths if path.startswith("gradcam/maps/")] == [
        f"gradcam/maps/{n}.npz" for n in range(-1, 3)
    ]
    data = client.get_run(run_id).data
    assert data.tags["gradcam.layer"] == "backbone/top_act"
    assert len([name for name in data.metrics if name.startswith("gradcam_score/")]) == 3 * 3
    assert len([name for name in data.metrics if name.startswith("gradcam_probability/")]) == 3 * 3
    assert [metric.step for metric in client.get_metric_history(run_id, "gradcam_focus/both.cat")] == [0, 1, 2]
    assert data.metrics["gradcam_probability/cat.cat"] > 0.9
    assert data.metrics["gradcam_focus/both.cat"] > 0.7 > 0.3 > data.metrics["gradcam_focus/both.espresso"]
    assert all(np.array_equal(a, b) for a, b in zip(frozen, backbone.get_weights(), strict=True))


def test_where_the_weights_do_not_change_there_is_no_drift_and_nothing_to_flag(client: MlflowClient) -> None:
    """Four epochs on photographs with learning rate 0: drift is exactly 0, focus stays, the review says so."""
    model = efficientnet_lite0()
    for layer in model.layers:  # batch normalisation would go on learning the mean of its inputs
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    probes = ProbeSet(
        np.stack([cat(), espresso(), cat_beside_espresso()]),
        names=["cat", "espresso", "both"],
        labels=[EGYPTIAN_CAT, ESPRESSO, EGYPTIAN_CAT],
        targets=["label", "predicted", (ESPRESSO, EGYPTIAN_CAT)],
        regions=[None, None, (0, 0, 224, 112)],
        preprocess=preprocess,
    )
    photographs = preprocess(np.concatenate([crops(cat(), 4, seed=0), crops(espresso(), 4, seed=1)]))
    callback = GradCAMCallback(probes, journal_dir="kept", strict=True)
    model.fit(
        photographs, np.repeat([EGYPTIAN_CAT, ESPRESSO], 4), batch_size=4, epochs=4, verbose=0, callbacks=[callback]
    )
    journal = Journal("kept")
    steps = [journal.read(step) for step in journal.steps()]
    assert [step.step for step in steps] == [-1, 0, 1, 2, 3]
    assert steps[0].arrays["maps"].max() > 0
    measures = measure(steps)
    known = measures["drift"][1:, steps[0].arrays["health"] == "ok"]
    assert known.shape[1] >= 6
    assert np.array_equal(known, np.zeros(known.shape))
    events = find_events(steps, measures, journal.manifest)
    assert events == []
    said = summary(steps, measures, journal.manifest, events)
    assert said.startswith("The maps did not change: drift is exactly 0 from before training to epoch 3.")
    run_id = journal.manifest.run_id
    assert client.get_run(run_id).data.metrics["gradcam_drift/mean"] == 0
