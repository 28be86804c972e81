"""One model in memory, into which one checkpoint after the other is loaded and explained."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.sweeping.formats import Checkpoint, architecture, load_weights, model_in, why_not_loaded

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.methods import Method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What each process needs to know."""

    probes: ProbeSet
    model: Any
    layer: str | Sequence[str] | None
    method: str | Method
    output: str | int | None
    grid: tuple[int, int] | None
    custom_objects: Mapping[str, Any] | None
    safe_mode: bool
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Outcome:
    """Of one checkpoint: its arrays, or why there are none."""

    checkpoint: Checkpoint
    arrays: Mapping[str, Array] = field(default_factory=dict)
    noisy: Mapping[str, Array] | None = None
    layer: str = ""
    score_kind: str = ""
    problem: str = ""


class Loader:
    """Loads checkpoints into one model, one after the other, and explains the probes to it."""

    def __init__(self, task: Task) -> None:
        self.name = task.name
        self._task = task
        self._config: str | None = None
        self._explainer: Explainer | None = None

    def outcome(self, checkpoint: Checkpoint, *, with_noise: bool) -> Outcome:
        """Explains a checkpoint; a problem is an outcome too."""
        try:
            explainer = self._load(checkpoint)
            explanation = explainer(self._task.probes)
            jittered = self._task.probes.jittered() if with_noise else None
            return Outcome(
                checkpoint,
                explanation.arrays(),
                None if jittered is None else explainer(jittered).arrays(),
                explanation.layer,
                explanation.score_kind,
            )
        except Exception as error:  # whatever Keras, h5py, zipfile or TensorFlow raise at a file that is not theirs
            logger.debug("'%s' could not be explained.", checkpoint.path, exc_info=True)
            return Outcome(checkpoint, problem=why_not_loaded(error))

    def _load(self, checkpoint: Checkpoint) -> Explainer:
        task = self._task
        if task.model is not None:
            if self._explainer is None:
                self._explain(built(task.model))
        elif checkpoint.kind in ("weights", "tensorflow"):
            raise ValueError("It holds weights alone: pass model=, the model or a function that builds it.")
        else:
            config = architecture(checkpoint)
            if self._explainer is None or config is None or config != self._config:
                self._explainer = self._config = None  # never two models in memory
                self._explain(model_in(checkpoint, custom_objects=task.custom_objects, safe_mode=task.safe_mode))
                self._config = config
                assert self._explainer is not None
                return self._explainer
        assert self._explainer is not None
        load_weights(self._explainer.model, checkpoint)
        return self._explainer

    def _explain(self, model: keras.Model) -> None:
        task = self._task
        if not model.built:
            model(task.probes.batch(0, 1), training=False)
        self._explainer = Explainer(model, layer=task.layer, method=task.method, output=task.output, grid=task.grid)


def built(model: Any) -> Any:
    """A model as it is, or as the function builds it."""
    import keras

    return model if model is None or isinstance(model, keras.Model) else model()
