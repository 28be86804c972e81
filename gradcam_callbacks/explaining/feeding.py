"""The probes in the structure, and in the number, that a model takes."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.keras_internals import calls_wrapped
from gradcam_callbacks.explaining.layers import Layers
from gradcam_callbacks.probes.inputs import Inputs, each


def called(model: keras.Model, inputs: Inputs) -> Any:
    """What a model gives when it predicts; it is called in the way that it was built in or that its `call` asks for.

    Args:
        model: a model.
        inputs: what it is fed.
    """
    inputs = _without_channel(model, inputs)
    order = _one_by_one(model, inputs)
    if order is None:
        return _called_with_one(model, _as_built(model, inputs))
    named = inputs if isinstance(inputs, dict) else dict(zip(order, inputs, strict=True))
    first, *others = (name for name in order if name in named)
    # Keras takes the first one by its place alone.
    return model(named[first], **{name: named[name] for name in others}, training=False)


def is_built(model: keras.Model) -> bool:
    """Whether a model has its weights.

    On a subclassed one without a `build` of its own, `model.build(shape)` marks it as built, and builds nothing in it.
    """
    if not model.built or type(model).build is not keras.Model.build:
        return bool(model.built)
    return all(layer.built for layer in Layers(model).by_path.values() if isinstance(layer, keras.Layer))


def build(model: keras.Model, inputs: Inputs) -> None:
    """Gives a model its weights, as Keras does with the first batch, and leaves everything else as it is.

    The model does not run: that would already draw from the seeds of random layers, and move states.

    Args:
        model: not built, only marked as built, or built but for layers that `call` never uses.
        inputs: what it is fed; the number of pictures does not matter.
    """
    was_built, model.built, has_failed = model.built, False, False

    def only_to_build(model: keras.Model, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)  # its arguments are asked for
        def stopped(*args: Any, **kwargs: Any) -> Any:
            nonlocal has_failed
            if model.built or (was_built and has_failed):
                raise _BuiltError
            try:
                return call(*args, **kwargs)  # Keras calls it with symbols, to build what is inside
            except Exception:
                has_failed = True  # what Keras does next is to run it
                raise

        return stopped

    try:
        with warnings.catch_warnings(), calls_wrapped([model], only_to_build), suppress(_BuiltError):
            if was_built:  # Keras has said already that it knows layers without weights
                warnings.simplefilter("ignore", UserWarning)
            called(model, inputs)
    finally:
        model.built = model.built or was_built


class _BuiltError(Exception):
    """A model has its weights."""


@dataclass(frozen=True)
class FixedBatch:
    """How many pictures a model takes at once.

    Attributes:
        size: how many.
        is_certain: False where the model may only have kept the size of the first batch that it saw, as a `Sequential`
            without an `Input` does: only a run of another batch tells then.
    """

    size: int
    is_certain: bool

    @classmethod
    def of(cls, model: keras.Model) -> FixedBatch | None:
        """What the states of recurrent layers, or the input, of a built model say; None where any batch will do."""
        for layer in Layers(model).by_path.values():
            states = getattr(layer, "states", None) if getattr(layer, "stateful", False) is True else None
            for state in keras.tree.flatten(states or ()):
                return cls(int(state.shape[0]), True)
        for tensor in getattr(model, "inputs", None) or ():
            if tensor.shape[0] is not None:
                return cls(int(tensor.shape[0]), not isinstance(model, keras.Sequential))
        return None


def filled(arrays: Any, count: int | None) -> Any:
    """The arrays with their last element repeated, so that there are `count`; None leaves them as they are."""
    if count is None:
        return arrays
    return each(lambda array: array[np.minimum(np.arange(count), len(array) - 1)], arrays)


def takes_several(model: keras.Model) -> bool:
    """Whether a model takes more than one input: it was built with several, or its `call` asks for them one by one."""
    return len(getattr(model, "inputs", None) or ()) > 1 or len(_asked_by_call(model)[0]) > 1


def is_labelled(model: keras.Model, given: tuple[Any, ...]) -> bool:
    """Whether a tuple is (images, labels): of a model of several inputs, two arrays are two inputs."""
    return len(given) == 2 and (isinstance(given[0], dict | tuple) or not takes_several(model))


def check_inputs(model: keras.Model, inputs: Inputs) -> None:
    """Raises if a model that knows its inputs, or whose `call` names them, cannot take these."""
    expected = getattr(model, "inputs", None)
    if not expected:
        _check_call(model, inputs)
        return
    if not isinstance(inputs, dict | tuple):
        if len(expected) > 1:
            names = ", ".join(repr(tensor.name) for tensor in expected)
            raise GradCAMError(
                f"Model '{model.name}' takes {len(expected)} inputs.",
                f"Give the probes as a dict of arrays, by their names: {names}.",
            )
        _check_shape(model, "The probes have", inputs.shape, tuple(expected[0].shape))
        return
    if len(inputs) != len(expected):
        raise GradCAMError(f"The probes have {len(inputs)} inputs; model '{model.name}' takes {len(expected)}.")
    keys = list(model.input) if isinstance(model.input, dict) else [tensor.name for tensor in expected]
    if isinstance(inputs, dict):
        unknown = [key for key in inputs if key not in keys]
        if unknown:
            raise GradCAMError(
                f"No input '{unknown[0]}'. The inputs of model '{model.name}': {', '.join(map(repr, keys))}."
            )
        given = [inputs[key] for key in keys]
    else:
        given = list(inputs)
    shapes = [tuple(tensor.shape) for tensor in (model.input.values() if isinstance(model.input, dict) else expected)]
    for key, array, shape in zip(keys, given, shapes, strict=True):
        _check_shape(model, f"Input '{key}' of the probes has", array.shape, shape)


def _without_channel(model: keras.Model, inputs: Inputs) -> Inputs:
    """The one input without its one channel, where the model takes pictures, or signals, that have none."""
    expected = getattr(model, "inputs", None)
    if isinstance(inputs, dict | tuple) or not expected or len(expected) > 1:
        return inputs
    is_over = len(inputs.shape) == len(expected[0].shape) + 1 and inputs.shape[-1] == 1
    return keras.ops.squeeze(inputs, -1) if is_over else inputs


def _as_built(model: keras.Model, inputs: Inputs) -> Inputs:
    """The inputs in the structure that the model was built with, which Keras warns about otherwise."""
    expected = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    if isinstance(expected, dict | list | tuple) and not isinstance(inputs, dict | tuple):
        return keras.tree.pack_sequence_as(expected, [inputs])
    if isinstance(inputs, dict) and isinstance(expected, list | tuple):
        return [inputs[tensor.name] for tensor in expected]
    if isinstance(inputs, tuple) and isinstance(expected, list | dict):
        return keras.tree.pack_sequence_as(expected, list(inputs))
    return inputs


def _called_with_one(model: keras.Model, structure: Inputs) -> Any:
    """What a model gives for its inputs in one structure.

    Raises:
        GradCAMError: if it cannot take them as a tuple and its `call` has a name for each: it may want them one by one.
    """
    names = [] if getattr(model, "inputs", None) else _asked_by_call(model)[1]
    if not isinstance(structure, tuple) or len(names) < len(structure):
        return model(structure, training=False)
    try:
        return model(structure, training=False)
    except _BuiltError:
        raise
    except Exception as error:
        raise GradCAMError(
            f"The `call` of model '{model.name}' raised {type(error).__name__} when it got its inputs as a tuple.",
            "If it takes them one by one, give the probes as a dict of arrays by the names that it has for them: "
            f"{', '.join(map(repr, names))}.",
        ) from error


def _asked_by_call(model: keras.Model) -> tuple[list[str], list[str]]:
    """The arguments that a model's `call` needs, and all that it can be given by name, in their order.

    `training` is none of them, nor is a `mask` that may be left out: Keras gives these.
    """
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    given = [
        parameter
        for parameter in inspect.signature(model.call).parameters.values()
        if parameter.kind in by_name
        and parameter.name != "training"
        and (parameter.name != "mask" or parameter.default is inspect.Parameter.empty)
    ]
    needed = [parameter.name for parameter in given if parameter.default is inspect.Parameter.empty]
    return needed, [parameter.name for parameter in given]


def _one_by_one(model: keras.Model, inputs: Inputs) -> list[str] | None:
    """The arguments of `call` that several inputs are passed as; None where `call` takes all of them as one."""
    if not isinstance(inputs, dict | tuple) or getattr(model, "inputs", None):
        return None
    needed, known = _asked_by_call(model)
    if isinstance(inputs, dict):
        is_named = len(inputs) > 1 and set(needed) <= set(inputs) <= set(known)
        return known if is_named else None
    return known[: len(inputs)] if len(needed) > 1 and len(needed) <= len(inputs) <= len(known) else None


def _check_call(model: keras.Model, inputs: Inputs) -> None:
    """Raises if `call` asks for several inputs one by one, and these are others."""
    needed, known = _asked_by_call(model)
    if len(needed) < 2 or _one_by_one(model, inputs) is not None:
        return
    if not isinstance(inputs, dict | tuple):
        if "mask" in needed[1:] and len(needed) == 2:
            return  # Keras gives it
        came = "The probes are one array"
    elif isinstance(inputs, dict):
        came = f"The probes are named {', '.join(map(repr, inputs))}"
    else:
        came = f"The probes have {len(inputs)} inputs"
    names = ", ".join(map(repr, known))
    raise GradCAMError(
        f"{came}; the `call` of model '{model.name}' takes its inputs one by one: {names}.",
        "Give the probes as a dict of arrays by these names.",
    )


def _check_shape(model: keras.Model, subject: str, given: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    """Raises if arrays of one shape do not go into an input of another; both begin with the batch."""
    if _fits(given, expected) or (given[-1] == 1 and _fits(given[:-1], expected)):
        return
    problem = f"{subject} shape {given[1:]}; model '{model.name}' takes {expected[1:]}."
    if len(expected) == len(given) == 4 and expected[-1] in (None, given[-1]):
        raise GradCAMError(
            problem,
            "Pass {argument} where the probes are read, or resize them.",
            argument="image_size",
            value=expected[1:3],
        )
    advice = "Give the probes that shape."
    if _fits((1, *given), expected):
        advice = "For one picture pass images[None]."
    elif _fits((*given, 1), expected):
        advice = "For grey pictures pass images[..., None]."
    raise GradCAMError(problem, advice)


def _fits(given: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(given) == len(expected) and all(
        wanted in (None, size) for wanted, size in zip(expected[1:], given[1:], strict=True)
    )
