"""The formats of checkpoints."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of a model.

    Attributes:
        path: the file, the prefix of TensorFlow's files, or the folder.
        step: the 0-based epoch.
        kind: "model" (.keras, .h5), "weights" (.weights.h5, .h5), "tensorflow" or "orbax".
    """

    path: Path
    step: int
    kind: str


SUFFIXES = frozenset({".keras", ".h5", ".hdf5", ".index"})


def is_orbax(folder: Path) -> bool:
    """Whether a folder is one of Keras's OrbaxCheckpoint."""
    marks = ("orbax.checkpoint", "pytree.orbax-checkpoint", "checkpoint_metadata", "_CHECKPOINT_METADATA")
    return any((place / mark).exists() for place in (folder, *folder.glob("[0-9]*")) for mark in marks)


def kind_of(path: Path) -> str:
    """What kind of checkpoint a file is.

    Raises:
        ValueError: if it is none that can be loaded; the message says what to do.
    """
    if (path / "saved_model.pb").exists():
        raise ValueError(
            "It is a SavedModel, which Keras 3 cannot open as layers. Save the model as .keras where it was trained."
        )
    if path.is_dir() and is_orbax(path):
        return "orbax"
    if not path.is_file():
        prefix = path.with_name(f"{path.name}.index")
        if prefix.is_file():
            return "tensorflow"
        raise ValueError("There is no such file." if not path.exists() else "It is a folder without checkpoints.")
    if path.name.endswith(".weights.h5"):
        return "weights"
    if path.suffix in (".h5", ".hdf5"):
        import h5py

        try:
            with h5py.File(path) as file:
                return "model" if "model_config" in file.attrs else "weights"
        except OSError as error:
            raise ValueError(f"It is damaged or truncated: {error}.") from error
    if path.suffix == ".keras":
        return "model"
    if path.suffix == ".index":
        return "tensorflow"
    raise ValueError(f"'{path.suffix}' is no checkpoint that Keras writes: expected .keras, .h5, .weights.h5, .index.")


def model_in(
    checkpoint: Checkpoint, *, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool
) -> keras.Model:
    """The whole model that a checkpoint holds."""
    import keras

    objects = None if custom_objects is None else dict(custom_objects)
    if checkpoint.kind != "orbax":
        return keras.saving.load_model(checkpoint.path, compile=False, custom_objects=objects, safe_mode=safe_mode)
    described = _description(checkpoint)
    if described is None:
        raise ValueError("It holds weights alone: pass model=, the model or a function that builds it.")
    model = keras.saving.deserialize_keras_object(described, custom_objects=objects, safe_mode=safe_mode)
    load_weights(model, checkpoint)
    return model


def load_weights(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Loads the weights of a checkpoint into a model of the same architecture."""
    if checkpoint.kind == "tensorflow":
        from gradcam_callbacks.explaining.weights import restore

        restore(model, str(checkpoint.path))
    elif checkpoint.kind == "orbax":
        _load_orbax(model, checkpoint.path)
    else:
        with _unpacked(checkpoint.path) as path, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # no map depends on it
            model.load_weights(path)


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file of weights in a .keras archive: Keras jumps to and fro in it, which takes half as long again packed."""
    with tempfile.TemporaryDirectory(prefix="gradcam-") as folder:
        weights = path
        if path.suffix == ".keras":
            try:
                with zipfile.ZipFile(path) as archive:
                    weights = Path(archive.extract("model.weights.h5", folder))
            except (KeyError, OSError):  # the weights have several files, or there is no room
                logger.debug("'%s' is not unpacked.", path, exc_info=True)
        yield weights


def _load_orbax(model: keras.Model, path: Path) -> None:
    """Loads one step. Keras takes the last one alone, asks for an optimizer, and passes over names that it misses.

    Raises:
        ValueError: if the package is missing, or the model's variables have other names.
    """
    try:
        from orbax.checkpoint import v1 as orbax
    except ImportError as error:
        raise ValueError(
            "It is one of Orbax, which needs another package: pip install 'gradcam_callbacks[orbax]'."
        ) from error
    if not path.name.isdigit():
        (path,) = (child for child in path.iterdir() if child.name.isdigit())
    state = orbax.load_checkpointables(str(path.absolute()), {"pytree": None})["pytree"]
    kinds = ("trainable_variables", "non_trainable_variables")
    held = {name for kind in kinds for name in _paths(state.get(kind, {}))}
    missing = [variable.path for variable in model.weights if variable.path not in held]
    if missing:
        raise ValueError(
            f"It has no weights for '{missing[0]}' of the model ({len(missing)} of {len(model.weights)} are missing). "
            "Give the layers the names that they had in the training, or leave model= away if it holds the whole model."
        )
    model.set_state_tree({kind: state[kind] for kind in kinds if kind in state})


def _paths(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths of the variables in a nested dictionary."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}/")
        else:
            yield f"{before}{name}"


def architecture(checkpoint: Checkpoint) -> str | None:
    """The architecture that a file describes, as text to compare; None where it describes none."""
    described = _description(checkpoint)
    if described is None:
        return None
    return json.dumps({key: described.get(key) for key in ("module", "class_name", "config")}, sort_keys=True)


def _description(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Keras's description of the model in a checkpoint; None where it has none."""
    described: dict[str, Any]
    if checkpoint.path.suffix == ".keras":
        with zipfile.ZipFile(checkpoint.path) as archive:
            described = json.loads(archive.read("config.json"))
    elif checkpoint.kind == "model":
        import h5py

        with h5py.File(checkpoint.path) as file:
            described = json.loads(file.attrs["model_config"])
    elif (checkpoint.path / "model_config" / "_strings.json").is_file():  # Orbax
        described = json.loads(json.loads((checkpoint.path / "model_config" / "_strings.json").read_bytes())["config"])
    else:
        return None
    return described


def why_not_loaded(error: Exception) -> str:
    """In one line what was wrong with a checkpoint, and what to do."""
    text = str(error).strip().rpartition("Exception encountered: ")[2]  # what Keras says at the end of a long message
    text = (text.splitlines() or [type(error).__name__])[0]
    if isinstance(error, zipfile.BadZipFile):
        return f"It is damaged or truncated: {text}."
    if "Lambda" in text and "safe_mode" in str(error):
        return (
            "It has a Lambda layer, whose code would be run from the file. If you trust its author, pass "
            "safe_mode=False."
        )
    unknown = re.match(r"(?:Could not locate \w+|Unknown [\w ]+:) '([^']+)'", text)
    return f"It needs '{unknown[1]}', which Keras does not know: pass custom_objects=." if unknown else text
