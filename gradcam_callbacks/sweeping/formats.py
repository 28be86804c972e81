"""The formats of checkpoints, one class each.

A new format is a class derived from `Checkpoint` and its place in `FORMATS`; nothing else knows a format by its name.
"""
# ruff: noqa: D102 (what a method does is said once, in `Checkpoint`)

from __future__ import annotations

import json
import logging
import re
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.sweeping.layout import load_by_keras

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint(ABC):
    """One saved state of a model; a class derived from this is a format, with all that differs from the others.

    The libraries that read it are imported in its methods, so that a sweep loads only those that it needs.

    Attributes:
        path: the file, the prefix of TensorFlow's files, or the folder.
        step: the 0-based epoch.
        model_id: the LoggedModel of MLflow that it is, or None.
        kind: "model" (.keras, .h5), "weights" (.weights.h5, .h5), "tensorflow" or "orbax".
        files: what the files of the format are called, for messages.
    """

    path: Path
    step: int
    model_id: str | None = field(default=None, kw_only=True)
    kind: ClassVar[str]
    files: ClassVar[str]

    @staticmethod
    @abstractmethod
    def recognise(path: Path) -> Path | None:
        """The `path` of the checkpoint that a path stands for; None if it is not of this format.

        Where other programs write files of the same ending, look inside.

        Raises:
            GradCAMError: if it is of this format and cannot be loaded.
        """

    @staticmethod
    def is_part(path: Path) -> bool:
        """Whether another path stands for the checkpoint that this file belongs to; a glob then passes over it."""
        del path
        return False

    @staticmethod
    def step_of(path: Path) -> int | None:
        """The 0-based step of a path that was recognised, if the format or the folder says it.

        None where the number in the name decides, which is counted from 1, as Keras's ModelCheckpoint counts.
        """
        # MLflow's callback writes epoch_0/checkpoint.h5 first.
        is_mlflow = path.name.startswith("checkpoint.") and re.fullmatch(r"epoch_\d+", path.parent.name)
        return int(path.parent.name.removeprefix("epoch_")) if is_mlflow else None

    def describe(self) -> dict[str, Any] | None:
        """The model as `keras.saving.serialize_keras_object` describes it; None where there are weights alone."""
        return None

    def architecture(self) -> str | None:
        """The architecture in the description, as text to compare; None where there are weights alone."""
        described = self.describe()
        if described is None:
            return None
        return json.dumps({key: described.get(key) for key in ("module", "class_name", "config")}, sort_keys=True)

    def build(self, *, custom_objects: dict[str, Any] | None, safe_mode: bool) -> keras.Model:
        """The whole model of a checkpoint that describes it; the arguments are those of `keras.saving.load_model`."""
        import keras

        model = keras.saving.deserialize_keras_object(self.describe(), custom_objects, safe_mode)
        self.load_weights(model)
        return model

    @abstractmethod
    def load_weights(self, model: keras.Model) -> None:
        """Loads the weights into a model of the same architecture."""

    def weights_file(self) -> AbstractContextManager[Path | None]:
        """The .weights.h5 file that a checkpoint is or contains, while the context is open; None where there is none.

        Such a file is read ahead, and loaded without a walk through the model; see `Layout`.
        """
        return nullcontext()


class _OfKeras(Checkpoint):
    """What Keras itself loads."""

    def build(self, *, custom_objects: dict[str, Any] | None, safe_mode: bool) -> keras.Model:
        import keras

        return keras.saving.load_model(self.path, custom_objects, compile=False, safe_mode=safe_mode)

    def load_weights(self, model: keras.Model) -> None:
        with _unpacked(self.path) as weights:
            load_by_keras(model, weights)


class KerasArchive(_OfKeras):
    """The .keras archive of a whole model."""

    kind = "model"
    files = ".keras"

    @staticmethod
    def recognise(path: Path) -> Path | None:
        return path if path.suffix == ".keras" and path.is_file() else None

    def describe(self) -> dict[str, Any] | None:
        with zipfile.ZipFile(self.path) as archive:
            return dict(json.loads(archive.read("config.json")))

    @contextmanager
    def weights_file(self) -> Iterator[Path | None]:
        with _unpacked(self.path) as weights:
            yield weights if weights != self.path else None


class KerasH5(_OfKeras):
    """The .h5 file of a whole model."""

    kind = "model"
    files = ".h5"

    @staticmethod
    def recognise(path: Path) -> Path | None:
        if path.name.endswith(".weights.h5") or WeightsH5.recognise(path) is None:
            return None
        import h5py

        try:
            with h5py.File(path) as file:
                return path if "model_config" in file.attrs else None
        except OSError as error:
            raise GradCAMError(f"It is damaged or truncated: {error}.") from error

    def describe(self) -> dict[str, Any] | None:
        import h5py

        with h5py.File(self.path) as file:
            return dict(json.loads(file.attrs["model_config"]))


class WeightsH5(_OfKeras):
    """The .weights.h5 file, or an .h5 file of weights alone."""

    kind = "weights"
    files = ".weights.h5"

    @staticmethod
    def recognise(path: Path) -> Path | None:
        return path if path.suffix in (".h5", ".hdf5") and path.is_file() else None

    def weights_file(self) -> AbstractContextManager[Path | None]:
        return nullcontext(self.path if self.path.name.endswith(".weights.h5") else None)


class TensorFlowCheckpoint(Checkpoint):
    """The files of `tf.train.Checkpoint`; their common prefix is the path, such as ckpt-1 of ckpt-1.index."""

    kind = "tensorflow"
    files = "TensorFlow's .index"

    @staticmethod
    def recognise(path: Path) -> Path | None:
        if path.suffix == ".index" and path.is_file():
            return path.with_suffix("")
        return path if not path.exists() and path.with_name(f"{path.name}.index").is_file() else None

    @staticmethod
    def is_part(path: Path) -> bool:
        is_data = re.fullmatch(r"(.+)\.data-\d+-of-\d+", path.name)
        if is_data:
            return path.with_name(f"{is_data[1]}.index").is_file()
        return path.name == "checkpoint" and any(path.parent.glob("*.index"))  # the list of them

    def load_weights(self, model: keras.Model) -> None:
        from gradcam_callbacks.explaining.weights import restore

        restore(model, str(self.path))


class Orbax(Checkpoint):
    """A folder of Keras's OrbaxCheckpoint, which is called like its 0-based step."""

    kind = "orbax"
    files = "Orbax's folders"

    @staticmethod
    def recognise(path: Path) -> Path | None:
        marks = ("orbax.checkpoint", "pytree.orbax-checkpoint", "checkpoint_metadata", "_CHECKPOINT_METADATA")
        return path if path.name.isdecimal() and any((path / mark).exists() for mark in marks) else None

    @staticmethod
    def step_of(path: Path) -> int | None:
        return int(path.name)

    def describe(self) -> dict[str, Any] | None:
        described = self.path / "model_config" / "_strings.json"
        return dict(json.loads(json.loads(described.read_bytes())["config"])) if described.is_file() else None

    def load_weights(self, model: keras.Model) -> None:
        # Keras's own loading takes the last step alone, asks for an optimizer, and passes over names that it misses.
        try:
            from orbax.checkpoint import v1 as orbax
        except ImportError as error:
            raise GradCAMError(
                "It is one of Orbax, which needs another package:", "pip install 'gradcam_callbacks[orbax]'."
            ) from error
        import keras
        import numpy as np

        path = str(self.path.absolute())
        # Asked for as arrays of NumPy: those of JAX would go to the devices of the training, which need not be here.
        described = orbax.checkpointables_metadata(path).metadata["pytree"]
        wanted = keras.tree.map_structure(
            lambda one: np.empty(one.shape, one.dtype) if hasattr(one, "shape") else one, described
        )
        state = orbax.load_checkpointables(path, {"pytree": wanted})["pytree"]
        kinds = [kind for kind in ("trainable_variables", "non_trainable_variables") if kind in state]
        held = {name for kind in kinds for name in _paths(state[kind])}
        missing = [variable.path for variable in model.weights if variable.path not in held]
        if missing:
            raise GradCAMError(
                f"It has no weights for '{missing[0]}' of the model ({len(missing)} of {len(model.weights)} are "
                "missing).",
                "Give the layers the names that they had in the training, or leave {argument} away if it holds the "
                "whole model.",
                argument="model",
            )
        model.set_state_tree({kind: state[kind] for kind in kinds})


FORMATS: tuple[type[Checkpoint], ...] = (KerasArchive, KerasH5, WeightsH5, TensorFlowCheckpoint, Orbax)
"""Asked in this order; the first that recognises a path takes it."""


def recognise(path: Path) -> tuple[type[Checkpoint], Path] | None:
    """The format that a path has, and the path of its checkpoint; None if it has none.

    Raises:
        GradCAMError: if it is a checkpoint that cannot be loaded.
    """
    if (path / "saved_model.pb").exists():
        raise GradCAMError(
            "It is a SavedModel, which Keras 3 cannot open as layers.", "Save the model as .keras where it was trained."
        )
    for format_ in FORMATS:
        found = format_.recognise(path)
        if found is not None:
            return format_, found
    return None


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A copy of the weights in a .keras archive: Keras would take half as long again to read them packed."""
    with tempfile.TemporaryDirectory(prefix="gradcam-") as folder:
        weights = path
        if path.suffix == ".keras":
            try:
                with zipfile.ZipFile(path) as archive:
                    weights = Path(archive.extract("model.weights.h5", folder))
            except (KeyError, OSError):  # the weights have several files, or there is no room
                logger.debug("'%s' is not unpacked.", path, exc_info=True)
        yield weights


def _paths(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths of the variables in a nested dictionary."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}/")
        else:
            yield f"{before}{name}"
