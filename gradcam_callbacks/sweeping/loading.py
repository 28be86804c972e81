"""One model in memory, into which one checkpoint after the other is loaded and explained."""

from __future__ import annotations

import logging
import threading
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.explaining.keras2 import refuse_keras2
from gradcam_callbacks.explaining.methods import Method, find_method
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.sweeping.failures import why_not_loaded
from gradcam_callbacks.sweeping.formats import Checkpoint
from gradcam_callbacks.sweeping.layout import Layout, read_arrays

if TYPE_CHECKING:
    import keras


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What each process needs to know; the settings are those of `explain_checkpoints`."""

    probes: ProbeSet
    model: Any
    layer: str | Sequence[str] | None
    method: str | Method
    output: str | int | None
    grid: tuple[int, int] | None
    custom_objects: dict[str, Any] | None
    safe_mode: bool
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def method_name(self) -> str:
        """What the method is called in the record.

        Raises:
            GradCAMError: if it is a function that cannot be a method.
        """
        return find_method(self.method)[0]


@dataclass(frozen=True)
class Outcome:
    """What became of one checkpoint.

    Attributes:
        checkpoint: which.
        arrays: of its `Explanation`; none where there is an error.
        noisy: the arrays under `ProbeSet.jittered`, where they were asked for.
        layer: the path of the explained layer.
        place: where it stands in the model; see `Manifest`.
        score_kind: "logit" or "probability".
        engine: on which Keras ran; see `Manifest`.
        notes: what to know of the layer; see `Manifest`.
        reliance: what the answers rest on, where that was asked for.
        error: why it was not explained.
        traceback: the text of it, where explaining failed in a way that nobody foresaw.
    """

    checkpoint: Checkpoint
    arrays: Mapping[str, Array] = field(default_factory=dict)
    noisy: Mapping[str, Array] | None = None
    layer: str = ""
    place: str = ""
    score_kind: str = ""
    engine: str = ""
    notes: tuple[str, ...] = ()
    reliance: Reliance | None = None
    error: GradCAMError | None = None
    traceback: str = ""


class Loader:
    """Loads checkpoints into one model, one after the other, and explains the probes to it.

    Attributes:
        name: that of its task.
    """

    def __init__(self, task: Task) -> None:
        self.name = task.name
        self._task = task
        self._model: keras.Model | None = None
        self._architecture: str | None = None
        self._explainer: Explainer | None = None
        self._layout: Layout | None = None
        self._is_layout_asked = False
        self._ahead: _Reading | None = None

    def outcome(
        self, checkpoint: Checkpoint, *, with_noise: bool, with_test: bool = False, following: Checkpoint | None = None
    ) -> Outcome:
        """Explains a checkpoint; an error is an outcome too.

        Args:
            checkpoint: which.
            with_noise: whether to explain the probes under a tiny change, too.
            with_test: whether to test what the answers rest on; an error of that is logged, and no outcome.
            following: the checkpoint that is asked for next: its file is read while this one is explained.
        """
        try:
            try:
                model = self._load(checkpoint)
            finally:
                self._ahead = None if following is None or self._layout is None else _Reading(following)
        except Exception as error:  # Keras, h5py, zipfile and TensorFlow raise a dozen kinds at damaged files
            logger.debug("'%s' could not be loaded.", checkpoint.path, exc_info=True)
            whole = checkpoint.path if self._task.model is None else None
            return Outcome(checkpoint, error=why_not_loaded(error, whole).alone())
        try:
            explained = self._explain(model, checkpoint, with_noise=with_noise)
            return replace(explained, reliance=self._tested()) if with_test else explained
        except GradCAMError as error:
            return Outcome(checkpoint, error=error.alone())
        except Exception as error:  # a fault of this library, of a method or of a target: the next may still do
            said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            problem = f"It was loaded, but explaining it failed ({said})."
            return Outcome(
                checkpoint, error=GradCAMError(problem, "The log has the traceback."), traceback=traceback.format_exc()
            )

    def _load(self, checkpoint: Checkpoint) -> keras.Model:
        """The model, with the weights of a checkpoint."""
        task = self._task
        if task.model is not None:
            if self._model is None:
                self._model = self._ready(built(task.model))
        else:
            architecture = checkpoint.architecture()
            if architecture is None:
                remedy = "pass {argument}, the model or a function that builds it."
                raise GradCAMError("It holds weights alone:", remedy, argument="model")
            if self._model is None or architecture != self._architecture:
                self._model = self._explainer = self._layout = None  # never two models in memory
                self._is_layout_asked = False
                model = checkpoint.build(custom_objects=task.custom_objects, safe_mode=task.safe_mode)
                self._model, self._architecture = self._ready(model), architecture
                return self._model
        if not self._assign(checkpoint):
            checkpoint.load_weights(self._model)
        return self._model

    def _assign(self, checkpoint: Checkpoint) -> bool:
        """Loads the weights of a checkpoint as it is known how Keras does it; false where it must be asked."""
        ahead = self._ahead
        try:
            if self._layout is not None:
                is_read = ahead is not None and ahead.checkpoint == checkpoint
                arrays = ahead.arrays() if is_read else _read(checkpoint)  # type: ignore[union-attr]
                if arrays is None or not self._layout.is_of(arrays):
                    return False
                self._layout.assign(arrays)
                return True
            with checkpoint.weights_file() as weights:
                if weights is None or self._is_layout_asked:
                    return False
                layout = Layout.learned(self._model, weights)
                checkpoint.load_weights(self._model)
                self._is_layout_asked = True
                if layout is not None and layout.is_assigned(read_arrays(weights)):
                    self._layout = layout
            return True
        except Exception:  # a damaged file, of which Keras says what is wrong
            logger.debug("'%s' could not be read into arrays.", checkpoint.path, exc_info=True)
            return False

    def _ready(self, model: keras.Model) -> keras.Model:
        """The model, with weights: a subclassed one has none before its first call."""
        from gradcam_callbacks.explaining.feeding import build, is_built

        if not is_built(model):
            build(model, self._task.probes.batch(0, 1))
        return model

    def _explain(self, model: keras.Model, checkpoint: Checkpoint, *, with_noise: bool) -> Outcome:
        import keras

        task = self._task
        if self._explainer is None:
            self._explainer = Explainer(
                model, layer=task.layer, method=task.method, output=task.output, grid=task.grid, same_noise=True
            )
        explanation = self._explainer(task.probes)
        jittered = task.probes.jittered() if with_noise else None
        noisy = None if jittered is None else self._explainer(jittered).arrays()
        return Outcome(
            checkpoint,
            explanation.arrays(),
            noisy,
            layer=explanation.layer,
            place=self._explainer.prepare(task.probes).place,
            score_kind=explanation.score_kind,
            engine=keras.config.backend(),
            notes=explanation.notes,
        )

    def _tested(self) -> Reliance | None:
        """What the answers of the model rest on, or why that cannot be tested; None where it failed."""
        from gradcam_callbacks.explaining.reliance import measure_reliance

        assert self._explainer is not None
        try:
            return measure_reliance(self._explainer, self._task.probes)
        except GradCAMError as error:
            return Reliance(reason=str(error))
        except Exception:
            logger.exception("What the answers rest on could not be tested; the sweep goes on without.")
            return None


class _Reading:
    """A file that is read on a thread, of the checkpoint that comes next."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._arrays: dict[str, Array] | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="gradcam-reading", daemon=True)
        self._thread.start()

    def arrays(self) -> dict[str, Array] | None:
        """What `_read` gives or raises, when it is there."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._arrays

    def _read(self) -> None:
        try:
            self._arrays = _read(self.checkpoint)
        except Exception as error:
            self._error = error


def _read(checkpoint: Checkpoint) -> dict[str, Array] | None:
    """The arrays of a checkpoint's file of weights; None where it has none of Keras's."""
    with checkpoint.weights_file() as weights:
        return None if weights is None else read_arrays(weights)


def built(model: Any) -> Any:
    """A model as it is, or as the function builds it.

    Raises:
        GradCAMError: if it is one of Keras 2.
    """
    import keras

    refuse_keras2(model)
    result = model if model is None or isinstance(model, keras.Model) else model()
    refuse_keras2(result)
    return result
