"""When a training asks its network what the answers rest on: when suspicion first rises, and at the end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.explainer import Explainer
from gradcam_callbacks.probes.probe_set import ProbeSet
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.reviewing import findings

if TYPE_CHECKING:
    from gradcam_callbacks.publishing.recorder import Recorder

logger = logging.getLogger(__name__)

MOST_EARLY = 3
"""How many tests there are before the end of a training, at most."""


@dataclass(eq=False)
class Asking:
    """Tests what the network's answers rest on, and hands what was found to the recorder.

    A model or probes that cannot be tested are no problem: the record says why. Any other error is logged once, and
    ends the tests, and not the training; if `strict`, it raises.

    Attributes:
        explainer: of the model that is trained.
        probes: what is explained.
        recorder: the run.
        strict: whether an error raises.
    """

    explainer: Explainer
    probes: ProbeSet
    recorder: Recorder
    strict: bool

    def __post_init__(self) -> None:
        self._early = 0  # tests made before the end
        self._next = 0  # the least number of records for another one
        self._tested: tuple[int, dict[str, Array]] | None = None  # the step, and what was explained then
        self._is_over = False

    def recorded(self, step: int, arrays: dict[str, Array]) -> None:
        """Tests where the maps have begun to look like a shortcut, or still do after twice as many records.

        Args:
            step: that was recorded.
            arrays: of its `Explanation`.
        """
        count = len(self.recorder.recorded)
        if self.recorder.is_suspicious and self._early < MOST_EARLY and count >= self._next:
            self._early += 1
            self._next = 2 * count
            self._test(step, arrays)

    def train_ended(self) -> None:
        """Tests the model as it is at the end, as the last step that was recorded, unless that was tested before."""
        step = max(self.recorder.recorded, default=-1)
        if step < 0 or self._is_over:  # nothing was trained, or nothing can be tested
            return
        if self._tested is not None and self._tested[0] == step:
            try:
                arrays = self.explainer(self.probes).arrays()
            except Exception:
                self._failed()
                return
            if all(np.array_equal(arrays[name], self._tested[1][name]) for name in ("maps", "scores")):
                return  # and no callback has put other weights in their place
        self._test(step, None)

    def _test(self, step: int, arrays: dict[str, Array] | None) -> None:
        if self._is_over:
            return
        try:
            found = self._measured()
            self.recorder.leave_test(step, found)
        except Exception:
            self._failed()
            return
        if arrays is not None:
            self._tested = step, arrays
            for finding in found.confirmed:  # the training goes on: whoever watches it may stop it
                manifest = self.recorder.journal.manifest
                logger.warning("Grad-CAM, %s %d: %s", manifest.unit, step, findings.text(finding, manifest))

    def _measured(self) -> Reliance:
        from gradcam_callbacks.explaining.reliance import measure_reliance

        try:
            return measure_reliance(self.explainer, self.probes)
        except GradCAMError as error:
            self._is_over = True
            return Reliance(reason=str(error))

    def _failed(self) -> None:
        """Called where an error is handled; raises it if strict."""
        self._is_over = True
        if self.strict:
            raise
        logger.exception("What the answers rest on could not be tested; it goes on without.")
