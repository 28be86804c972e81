"""Layout: which array of a file of weights is which variable of a model.

Keras finds that out anew for each file, by a walk through the whole model: of MobileNetV2 this takes four times as long
as to read the file and to assign the arrays. It saves the same model in the same way each time, so that a sweep needs
the walk once.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_callbacks.arrays import Array

if TYPE_CHECKING:
    import h5py
    import keras


@dataclass(frozen=True)
class Layout:
    """Which array is which variable.

    Attributes:
        variables: those of the model, by the names of their arrays in the file.
        described: shape and type of each array.
    """

    variables: Mapping[str, Any]
    described: Mapping[str, tuple[tuple[int, ...], str]]

    @classmethod
    def learned(cls, model: keras.Model, weights: Path) -> Layout | None:
        """How Keras loads files like this one into a model, whose variables are left with other values.

        Keras loads a copy of the file in which each array holds nothing but its number, and the variables then say
        which array each of them got.

        Args:
            model: built.
            weights: an .h5 file that Keras can load into it.

        Returns:
            None unless each variable gets exactly one array of the file, as it is.

        Raises:
            Exception: what h5py or Keras raise if they cannot read the file.
        """
        if not all(_loads_as_usual(layer) for layer in _layers(model)):
            return None
        names: dict[int, str] = {}
        described = {}
        with tempfile.TemporaryDirectory(prefix="gradcam-") as folder:
            numbered = Path(folder, "numbered.weights.h5")
            with _opened(weights) as file, _opened(numbered, "w") as copy:
                for number, (name, found) in enumerate(_items(file), start=1):
                    if not hasattr(found, "dtype"):
                        copy.require_group(name).attrs.update(found.attrs)
                        continue
                    if not _holds(found, number):
                        return None
                    # No more than the number is written, whatever the size.
                    copy.create_dataset(name, found.shape, found.dtype, fillvalue=number)
                    names[number] = name
                    described[name] = found.shape, str(found.dtype)
            load_by_keras(model, numbered)
        variables: dict[str, Any] = {}
        for variable in model.weights:  # others, such as the seeds of Dropout, are in no file
            values = np.asarray(variable)
            name = names.pop(int(values.flat[0]), "") if values.size else ""
            if not name or values.shape != described[name][0] or (values != values.flat[0]).any():
                return None
            variables[name] = variable
        return None if names else cls(variables, described)

    def is_of(self, arrays: Mapping[str, Array]) -> bool:
        """Whether a file has the same arrays, by names, shapes and types."""
        return {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == self.described

    def assign(self, arrays: Mapping[str, Array]) -> None:
        """Sets the variables of the model to the arrays of a file."""
        for name, variable in self.variables.items():
            variable.assign(arrays[name])

    def is_assigned(self, arrays: Mapping[str, Array]) -> bool:
        """Whether the variables are the arrays of a file to the last bit."""
        return self.is_of(arrays) and all(
            np.asarray(variable).tobytes() == arrays[name].astype(np.asarray(variable).dtype).tobytes()
            for name, variable in self.variables.items()
        )


def load_by_keras(model: keras.Model, weights: Path) -> None:
    """Loads weights as Keras does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # no map depends on it
        model.load_weights(weights)


def read_arrays(weights: Path) -> dict[str, Array]:
    """The arrays of an .h5 file of weights by their names, without those of the optimizer."""
    with _opened(weights) as file:
        return {name: found[()] for name, found in _items(file) if hasattr(found, "dtype")}


def _opened(path: Path, mode: str = "r") -> h5py.File:
    import h5py

    return h5py.File(path, mode)


def _items(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """The groups and the arrays of a file, each group before what is in it, without those of the optimizer."""
    found: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: found.append((name, item)))
    return ((name, item) for name, item in found if name.partition("/")[0] != "optimizer")


def _holds(array: Any, number: int) -> bool:
    """Whether an array of an .h5 file can hold a number, and is what it seems to be (a bfloat16 is an opaque one)."""
    if array.dtype.kind not in "fiu" or "dtype" in array.attrs:
        return False
    return bool(np.asarray(number).astype(array.dtype) == number)


def _layers(parent: Any) -> Iterator[Any]:
    from gradcam_callbacks.explaining.keras_internals import children

    yield parent
    for child in children(parent):
        yield from _layers(child)


def _loads_as_usual(layer: Any) -> bool:
    """Whether to load a layer is no more than to assign its variables: `Normalization`, for one, computes from them."""
    import keras

    layers = keras.layers
    usual = (layers.Layer, layers.Conv2D, layers.Dense, layers.EinsumDense, layers.Embedding)
    load = getattr(type(layer), "load_own_variables", None)
    return load is None or any(load is known.load_own_variables for known in usual)
