"""What Keras does not promise is still as we rely on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from gradcam_callbacks.explaining.keras_internals import (
    calls_in_running_order,
    calls_wrapped,
    children,
    has_no_value,
    iterations,
    losses_kept,
    seed_states,
)


class Block(layers.Layer):
    """Layers in an attribute, in a list and in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(2, name="first")
        self.listed = [layers.Dense(2, name="second")]
        self.named = {"third": layers.Dense(2, name="third")}

    def call(self, x: Any) -> Any:
        return self.named["third"](self.listed[0](self.first(x)))


def names(parent: Any) -> list[str]:
    return [child.name for child in children(parent)]


def test_the_layers_inside_a_layer_are_known() -> None:
    """Without `_flatten_layers` no layer inside of a subclassed model or layer could be found, named or picked."""
    assert names(Block()) == ["first", "second", "third"]
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="a"), layers.Dense(2, name="b")])
    assert names(model)[-2:] == ["a", "b"]


def test_the_operations_of_a_functional_model_are_known() -> None:
    """Without `operations` the output of an addition written with "+" could not be explained."""
    keras.backend.clear_session()  # which numbers names from zero
    inputs = keras.Input((4,), name="in")
    x = layers.Dense(4, name="dense")(inputs)
    assert names(keras.Model(inputs, x + inputs)) == ["in", "dense", "add"]


def test_the_order_of_running_is_told_apart_from_the_order_of_the_code() -> None:
    """Without `_nodes_by_depth` and `_inbound_nodes` "conv[0]" of a shared layer might mean another of its calls."""
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    late = shared(inputs)  # the first call in the code, and as deep as the second, which something else comes after
    early = layers.Dense(4, name="after")(shared(inputs * 2.0))
    model = keras.Model(inputs, early + late)
    order = [number for operation, number in calls_in_running_order(model) if operation is shared]
    assert sorted(order) == [0, 1]
    ran: list[float] = []

    def wrap(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(x: Any) -> Any:
            ran.append(float(np.asarray(x)[0, 0]))
            return call(x)

        return watched

    with calls_wrapped([shared], wrap):
        model(np.ones((1, 4), np.float32))
    assert [{1.0: 0, 2.0: 1}[value] for value in ran] == order
    assert calls_in_running_order(Block()) == []


def test_a_layer_calls_what_is_in_its_dictionary() -> None:
    """If an instance's `__dict__` no longer went before its class, or tracking saw it, no output would be seen."""
    layer = layers.Dense(2)
    layer.build((None, 4))
    x, attributes = np.ones((1, 4), np.float32), set(layer.__dict__)
    plain = np.asarray(layer(x))
    with calls_wrapped([layer], lambda layer, call: lambda *given: call(*given) + 1.0):
        np.testing.assert_allclose(np.asarray(layer(x)), plain + 1, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(layer(x)), plain)
    assert set(layer.__dict__) == attributes


def test_a_quantised_layer_calls_another_method() -> None:
    """If it did not compute in `quantized_call`, and say so in `quantization_mode`, its output would not be seen."""
    layer = layers.Dense(2)
    layer.build((None, 4))
    assert layer.quantization_mode is None
    layer.quantize("int8")
    x = np.ones((1, 4), np.float32)
    plain = np.asarray(layer(x))
    with calls_wrapped([layer], lambda layer, call: lambda *given: call(*given) + 1.0):
        np.testing.assert_allclose(np.asarray(layer(x)), plain + 1, atol=1e-6)
    assert "quantized_call" not in layer.__dict__


def test_layers_are_put_back_after_an_error() -> None:
    """What a user wrote over `call` stays; what was not there is gone."""
    own, other = layers.Dense(2), layers.Dense(2)
    written = own.call
    own.__dict__["call"] = written
    with pytest.raises(RuntimeError, match="on purpose"), calls_wrapped([own, other], lambda layer, call: call):
        raise RuntimeError("on purpose")
    assert own.__dict__["call"] is written
    assert "call" not in other.__dict__


def test_losses_of_a_call_are_forgotten() -> None:
    """If losses were not kept in `_losses`, tensors of our graph would be left in `model.losses` and break it."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, activity_regularizer="l2")(inputs))
    model(np.ones((1, 4), np.float32))
    before = [float(loss) for loss in model.losses]
    with losses_kept([model, *model.layers]):
        model(np.full((1, 4), 3.0, np.float32))
        assert [float(loss) for loss in model.losses] != before
    assert [float(loss) for loss in model.losses] == before
    assert len(before) == 1


def test_the_seeds_of_random_layers_are_known_by_their_name() -> None:
    """If states had another name, or the global generator another place, steps would be explained under other noise."""
    keras.utils.clear_session()  # without a global generator
    inner = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, name="first")])
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dropout(0.5, name="second"), layers.Dense(2)])
    own = [inner.layers[0].seed_generator.state, model.layers[1].seed_generator.state]
    assert [id(state) for state in seed_states(model)] == [id(state) for state in own]
    keras.random.normal((1,))
    *first, everywhere = seed_states(model)
    assert [id(state) for state in first] == [id(state) for state in own]
    before = everywhere.numpy()
    keras.random.normal((1,))
    assert (everywhere.numpy() != before).any()


def test_an_emptied_variable_is_known() -> None:
    """Without `_value` a model whose weights JAX has taken for its training would be explained with new ones."""
    variable = keras.Variable([1.0])
    assert not has_no_value(variable)
    variable._value = None
    assert has_no_value(variable)


OPTIMIZERS = {
    "Adam": keras.optimizers.Adam,
    "gathering two batches": lambda: keras.optimizers.SGD(gradient_accumulation_steps=2),
    "scaling the loss": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
    "both": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=2)),
    "moving averages": lambda: keras.optimizers.AdamW(use_ema=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_batches_of_an_optimizer_are_counted_within_an_epoch(optimizer: Any) -> None:
    """Without `_jax_state` no batch could be recorded on JAX, or its training would be slowed down after each one."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile(optimizer(), "mse")
    counted = [iterations(model)]
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: counted.append(iterations(model)))
    model.fit(np.ones((6, 4)), np.ones((6, 2)), batch_size=2, epochs=2, verbose=0, callbacks=[count])
    assert [*counted, iterations(model)] == [0, 1, 2, 3, 4, 5, 6, 6]
