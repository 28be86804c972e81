"""The probes in the structure that a model takes."""

from __future__ import annotations

import keras

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.inputs import Inputs


def as_fed(model: keras.Model, inputs: Inputs) -> Inputs:
    """The inputs in the structure that the model was built with, which Keras warns about otherwise."""
    expected = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    if isinstance(expected, dict | list | tuple) and not isinstance(inputs, dict | tuple):
        return keras.tree.pack_sequence_as(expected, [inputs])
    if isinstance(inputs, dict) and isinstance(expected, list | tuple):
        return [inputs[tensor.name] for tensor in expected]
    if isinstance(inputs, tuple) and isinstance(expected, list | dict):
        return keras.tree.pack_sequence_as(expected, list(inputs))
    return inputs


def check_inputs(model: keras.Model, inputs: Inputs) -> None:
    """Raises if a model that knows its inputs cannot take these."""
    expected = getattr(model, "inputs", None)
    if not expected:
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


def _check_shape(model: keras.Model, subject: str, given: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    """Raises if arrays of one shape do not go into an input of another; both begin with the batch."""
    if _fits(given, expected):
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
