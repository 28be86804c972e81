"""What differs in a training on TensorFlow and on JAX, and a training that goes on on the other one."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.engines import IS_TENSORFLOW, needs_jax
from support.models import pictures, small_model
from support.seeds import same_weights
from support.trainings import warnings_of

from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet
from gradcam_callbacks.record.journal import Journal

HERE, OTHER = ("tensorflow", "jax") if IS_TENSORFLOW else ("jax", "tensorflow")
TITLES = {"tensorflow": "TensorFlow", "jax": "JAX"}
GO_ON = """
import logging, sys
import keras, numpy as np
from support.models import pictures, small_model
from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet

logging.basicConfig(format="%(message)s")
probes, model = ProbeSet(pictures(3), targets=[2, "predicted"]), small_model()
model.load_weights("after.weights.h5")
np.save("maps.npy", Explainer(model)(probes).maps)
model.compile("adam", "sparse_categorical_crossentropy")
for first in (2, 3):
    ours = GradCAMCallback(probes, store=InMemoryStore(sys.argv[1]), journal_dir="kept", verbose=False, strict=True)
    model.fit(
        pictures(8), np.arange(8) % 4, initial_epoch=first, epochs=first + 1, verbose=0, callbacks=[ours]
    )
np.save("after.npy", Explainer(model)(probes).maps)
"""


def model_of(**compiled: Any) -> keras.Model:
    model = same_weights(small_model(), 4)
    model.compile("adam", "sparse_categorical_crossentropy", **compiled)
    return model


@pytest.mark.usefixtures("process")
def test_a_training_goes_on_on_the_other_engine() -> None:
    """In the same record, as the same weights have the same maps to 1e-5; it names both, and that is said once."""
    pytest.importorskip(OTHER, reason=f"needs {TITLES[OTHER]}, too")
    store, model, probes = InMemoryStore(), model_of(), ProbeSet(pictures(3), targets=[2, "predicted"])
    ours = GradCAMCallback(probes, store=store, journal_dir="kept", verbose=False, strict=True)
    model.fit(pictures(8), np.arange(8) % 4, epochs=2, verbose=0, callbacks=[ours])
    assert Journal("kept").manifest.engine == HERE
    model.save_weights("after.weights.h5")
    gone_on = subprocess.run(
        [sys.executable, "-c", GO_ON, store.run_id],
        env=os.environ | {"KERAS_BACKEND": OTHER, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert gone_on.returncode == 0, gone_on.stderr[-3000:]
    journal = Journal("kept")
    assert journal.steps() == [-1, 0, 1, 2, 3]
    assert journal.manifest.engine == f"{HERE}, {OTHER}"
    assert {"tensorflow", "jax"} <= journal.manifest.versions.keys()
    assert json.loads(Path("kept/manifest.json").read_text())["engine"] == f"{HERE}, {OTHER}"
    for step, there in ((1, "maps.npy"), (3, "after.npy")):
        maps = journal.read(step).maps
        assert maps.max() > 0
        np.testing.assert_allclose(maps, np.load(there), atol=1e-5 * maps.max())
    assert np.isfinite(journal.read(2).measured("drift")[:, 0]).all()
    said = f"The maps in run {store.run_id} were computed on {TITLES[HERE]}, and those that follow are computed on"
    assert gone_on.stderr.count(said) == 1


@needs_jax
def test_keras_does_not_wait_for_batches_that_are_not_recorded() -> None:
    """Where batches are counted it waits for each, so that the weights are those of that batch."""
    for every_batches, is_async in ((None, True), (4, False)):
        callback = GradCAMCallback(pictures(1), every_batches=every_batches, store=InMemoryStore())
        assert keras.callbacks.CallbackList([callback])._async_train is is_async


@needs_jax
def test_weights_that_keras_has_lost_are_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """Where a fault comes while JAX computes a batch, their memory is used again, and nothing is left to explain."""
    model, store = model_of(), InMemoryStore()
    model.make_train_function()
    step = model.train_function

    def broken_off(state: Any, iterator: Any) -> Any:
        result = step(state, iterator)
        if int(result[1][2][0]) == 5:  # the number of the batch: it was computed, and is not handed over
            raise KeyboardInterrupt
        return result

    model.train_function = broken_off
    ours = GradCAMCallback(pictures(2), every=9, store=store, verbose=False)
    try:
        model.fit(pictures(8), np.arange(8) % 4, batch_size=4, epochs=4, verbose=0, callbacks=[ours])
    except KeyboardInterrupt:
        gc.collect()
    deadline = time.monotonic() + 10
    while store.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (store.status, sorted(store.maps)) == ("FAILED", [-1, 0])
    with pytest.raises(RuntimeError, match="deleted"):
        model.get_weights()
    assert warnings_of(caplog) == [
        "The failed training has no last step to record. Keras lost the weights of model 'small', as JAX reuses their "
        "memory in the batch that was broken off. Load them from a checkpoint to go on."
    ]


@needs_jax
def test_a_training_compiles_the_maps_once_and_keeps_no_array() -> None:
    """Over 40 epochs there are no more arrays than after two, and nothing else is compiled for the maps."""
    import jax

    compiled: list[float] = []

    def noted(event: str, seconds: float, **others: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    alive: list[int] = []
    model, data = model_of(), (pictures(8), np.arange(8) % 4)
    model.fit(*data, epochs=2, verbose=0)  # compiles the training
    ours = GradCAMCallback(pictures(2), store=InMemoryStore(), verbose=False, strict=True, reliance=False)
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: alive.append(gc.collect() * 0 + len(jax.live_arrays()))
    )
    jax.monitoring.register_event_duration_secs_listener(noted)
    model.fit(*data, epochs=40, verbose=0, callbacks=[ours, count])
    assert len(compiled) == 1
    assert alive[-1] == alive[2]


@pytest.mark.usefixtures("long")
def test_two_models_in_one_script_do_not_mix() -> None:
    """Trained by turns, each with a callback of its own, each has its own maps."""
    probes, stores = ProbeSet(pictures(3), targets=[1]), [InMemoryStore(), InMemoryStore()]
    models = [same_weights(small_model(), seed) for seed in (4, 5)]
    for model, store in zip(models, stores, strict=True):
        model.compile("adam", "sparse_categorical_crossentropy")
        ours = GradCAMCallback(probes, store=store, journal_dir=store.run_id, verbose=False, strict=True)
        model.fit(pictures(8), np.arange(8) % 4, epochs=2, verbose=0, callbacks=[ours])
    for model, store in zip(models, stores, strict=True):
        np.testing.assert_array_equal(Journal(store.run_id).read(1).maps, Explainer(model)(probes).maps)


SPREAD = """
import sys
import keras, numpy as np
from support.models import pictures, small_model
from support.seeds import same_weights
from gradcam_callbacks import Explainer, GradCAMCallback, InMemoryStore, ProbeSet
from gradcam_callbacks.record.journal import Journal

probes = ProbeSet(pictures(3), targets=[1, "predicted"])
of_data = keras.distribution.DataParallel()
mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"))
layout = keras.distribution.LayoutMap(mesh)
layout["conv/kernel"] = (None, None, None, "model")
of_model = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
for kind, distribution in (("data", of_data), ("model", of_model)):
    keras.distribution.set_distribution(distribution)
    model = same_weights(small_model(), 4)
    assert len(model.layers[1].kernel.value.sharding.device_set) == 2
    model.compile("adam", "sparse_categorical_crossentropy")
    ours = GradCAMCallback(
        probes, every_batches=3, store=InMemoryStore(), journal_dir=kind, verbose=False, strict=True
    )
    model.fit(pictures(32), np.arange(32) % 4, batch_size=8, epochs=2, verbose=0, callbacks=[ours])
    weights = model.get_weights()
    keras.distribution.set_distribution(None)
    alone = small_model()
    alone.set_weights(weights)
    assert Journal(kind).steps() == [-1, 0, 3, 6, 7]
    maps = Journal(kind).read(7).maps
    assert maps.max() > 0
    np.testing.assert_allclose(maps, Explainer(alone)(probes).maps, rtol=1e-5, atol=1e-7)
"""


@needs_jax
@pytest.mark.usefixtures("cluster")
def test_a_training_on_two_devices_has_the_maps_of_one() -> None:
    """Whether the pictures are spread over them or the weights."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SPREAD], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


TOGETHER = """
import json, sys
import jax

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import keras, numpy as np
from support.models import pictures, small_model
from gradcam_callbacks import Explainer, GradCAMCallback, GradCAMError, InMemoryStore, ProbeSet

def fit(distribution, *callbacks):
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(4)  # so that both begin with the same weights
    model = small_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    settings = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(pictures(32), np.arange(32) % 4, callbacks=list(callbacks), **settings).history
    keras.distribution.set_distribution(None)
    return model, history["loss"]

of_data = keras.distribution.DataParallel(auto_shard_dataset=False)  # each brings pictures of its own
probes, folder = ProbeSet(pictures(3), targets=[1, "predicted"]), f"process{sys.argv[2]}"
ours = GradCAMCallback(probes, store=InMemoryStore(), journal_dir=folder, verbose=False, strict=True)
model, losses = fit(of_data, ours)
_, without = fit(of_data)
alone = small_model()
alone.set_weights(model.get_weights())
np.savez(f"{folder}.npz", losses=losses, without=without, maps=Explainer(alone)(probes).maps)

layout = keras.distribution.LayoutMap(keras.distribution.DeviceMesh((1, 2), ("batch", "model")))
layout["conv/kernel"] = (None, None, None, "model")
keras.distribution.set_distribution(keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"))
keras.utils.set_random_seed(4)
try:
    Explainer(small_model())(probes)
except GradCAMError as error:
    print(error)
"""


@needs_jax
@pytest.mark.usefixtures("cluster")
def test_of_two_processes_the_first_records_and_waits_for_no_other() -> None:
    """Its maps are those of the weights that both have; a model of which each has a part is refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, address, str(number)],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in running:
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err[-3000:]
        assert "Parts of the variable 'conv/kernel' are in other processes" in out
    assert Journal("process0").steps() == [-1, 0, 1]
    assert not Path("process1").exists()
    for number in range(2):
        with np.load(f"process{number}.npz") as there:
            np.testing.assert_array_equal(there["losses"], there["without"])
            np.testing.assert_allclose(Journal("process0").read(1).maps, there["maps"], rtol=1e-5, atol=1e-7)
