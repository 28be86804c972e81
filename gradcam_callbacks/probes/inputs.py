"""What a model is fed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError

Inputs = Any  # what a model is fed: an array, or a dict or tuple of arrays


def frozen(array: Array) -> Array:
    """A copy that cannot be written to, so that the probes stay the same during a run."""
    array = np.array(array, copy=True)
    array.flags.writeable = False
    return array


def each(function: Callable[[Array], Any], inputs: Inputs) -> Inputs:
    """The function of the one input, or of each of several."""
    if isinstance(inputs, dict):
        return {key: function(array) for key, array in inputs.items()}
    return tuple(function(array) for array in inputs) if isinstance(inputs, tuple) else function(inputs)


def picture_of(inputs: Inputs, key: str | int | None) -> Array:
    """The picture among the inputs."""
    picture: Array = inputs if key is None else inputs[key]
    return picture


def with_picture(inputs: Inputs, key: str | int | None, picture: Any) -> Inputs:
    """The inputs with another picture among them."""
    if key is None:
        return picture
    if isinstance(inputs, dict):
        return inputs | {key: picture}
    return tuple(picture if position == key else array for position, array in enumerate(inputs))


def as_inputs(images: Any, picture: str | int | None = None) -> tuple[Inputs, str | int | None]:
    """The images as an array; several inputs as a dict or tuple of arrays, and which of them is the picture.

    Args:
        images: an array, or several.
        picture: the key of the one to explain and to show; None takes the first of four dimensions.
    """
    if not isinstance(images, dict | tuple):
        if picture is not None:
            raise GradCAMError(
                "There is one input, so none is chosen.", "Leave {argument}.", argument="picture", value=None
            )
        return _as_images(images), None
    inputs = each(lambda array: _as_single(np.asarray(array)), images)
    entries = list(inputs.items() if isinstance(inputs, dict) else enumerate(inputs))
    counts = {key: len(array) if array.ndim else 0 for key, array in entries}
    if len(set(counts.values())) != 1:
        raise GradCAMError(f"The inputs have different numbers of probes: {counts}.")
    possible = [key for dimensions in (4, 5, 3) for key, array in entries if array.ndim == dimensions and array.size]
    if not possible:
        shapes = {key: array.shape for key, array in entries}
        raise GradCAMError(f"None of the inputs is a picture (N, H, W, C): {shapes}.")
    if picture is not None and picture not in possible:
        raise GradCAMError(
            f"The inputs have no picture {picture!r}; their pictures: {', '.join(map(repr, possible))}.",
            "Name one of them with {argument}.",
            argument="picture",
        )
    chosen = possible[0] if picture is None else picture
    _as_images(inputs[chosen])
    return inputs, chosen


def _as_images(images: Any) -> Array:
    """(N, H, W, C), (N, L, C) or (N, D, H, W, C) numbers; float64 as float32."""
    try:
        array = np.asarray(images)
    except ValueError:
        shapes = sorted({np.shape(image) for image in images})
        raise GradCAMError(f"The images have different shapes {shapes}; the probes of a set share one.") from None
    if array.size == 0 or array.ndim == 0:
        raise GradCAMError("The probe set is empty: pass at least one picture.")
    if array.ndim not in (3, 4, 5):
        raise GradCAMError(
            f"Expected images (N, H, W, C), signals (N, L, C) or volumes (N, D, H, W, C); got shape {array.shape}.",
            "For signals without channels pass images[..., None]; the model is fed without it where it takes none."
            if array.ndim == 2
            else "",
        )
    if array.dtype.kind not in "uif":
        raise GradCAMError(f"Expected images of numbers, got dtype {array.dtype}.")
    return _as_single(array)


def _as_single(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def as_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """N names, "probe_0" and so on where none are given."""
    if names is None:
        return tuple(f"probe_{position}" for position in range(count))
    if len(names) != count:
        raise GradCAMError(f"{count} images but {len(names)} names; pass one a picture.")
    return tuple(str(name) for name in names)


def check_finite(inputs: Inputs, names: Sequence[str], when: str) -> None:
    """Raises where a probe holds NaN or infinity."""
    arrays = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else [inputs]
    for array in arrays:
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if bad.any():
            name = names[int(np.argmax(bad))]
            raise GradCAMError(
                f"Probe '{name}' holds NaN or infinity{when} ({int(bad.sum())} of {len(array)} probes do)."
            )


def preprocessed(preprocess: Callable[[Any], Any], inputs: Inputs, names: Sequence[str]) -> Inputs:
    """What `preprocess` makes of a copy of the inputs, checked."""
    # A copy: many preprocess_input write in place.
    copies = each(lambda array: array.astype(np.float32) if array.ndim > 2 else array.copy(), inputs)
    result = preprocess(copies)
    if not isinstance(inputs, dict | tuple):
        result = np.asarray(result)
        if result.ndim != inputs.ndim or len(result) != len(inputs):
            raise GradCAMError(
                f"preprocess gave shape {result.shape} for images {inputs.shape}; expected (N, H, W, C)."
            )
    elif type(result) is not type(inputs) or len(result) != len(inputs):
        raise GradCAMError(f"preprocess gave a {type(result).__name__}; expected a {type(inputs).__name__} as it got.")
    result = each(lambda array: _as_single(np.asarray(array)), result)
    check_finite(result, names, " after preprocess")
    return result


def digest_of(
    inputs: Inputs, target_matrix: Array, functions: Sequence[Callable[[Any], Any]], picture: str | int | None = None
) -> str:
    """SHA-256, in hexadecimal, over everything that decides the maps."""
    digest = hashlib.sha256()

    def add(array: Array) -> None:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())

    if isinstance(inputs, dict):
        digest.update(repr(list(inputs)).encode())
    each(add, inputs)
    if picture is not None:
        digest.update(repr(picture).encode())
    add(target_matrix)
    for function in functions:
        name = getattr(function, "__qualname__", type(function).__name__)
        code = getattr(function, "__code__", None)
        digest.update(f"{getattr(function, '__module__', '')}.{name}".encode())
        if code is not None:
            digest.update(
                code.co_code + repr((code.co_names, [c for c in code.co_consts if not hasattr(c, "co_code")])).encode()
            )
    return digest.hexdigest()
