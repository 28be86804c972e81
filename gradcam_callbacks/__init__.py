"""Watch where a Keras model looks while it learns: Grad-CAM for a fixed probe set, every epoch, in MLflow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcam_callbacks.callback import GradCAMCallback
    from gradcam_callbacks.checkpoints import Sweep, explain_checkpoints
    from gradcam_callbacks.heatmap import Explainer, Explanation
    from gradcam_callbacks.probes import ProbeSet
    from gradcam_callbacks.quality import Evaluation, evaluate
    from gradcam_callbacks.standalone import explain

__all__ = [
    "Evaluation",
    "Explainer",
    "Explanation",
    "GradCAMCallback",
    "ProbeSet",
    "Sweep",
    "evaluate",
    "explain",
    "explain_checkpoints",
]
__version__ = "0.1.0"

_HOMES = {
    "Evaluation": "quality",
    "Explainer": "heatmap",
    "Explanation": "heatmap",
    "GradCAMCallback": "callback",
    "ProbeSet": "probes",
    "Sweep": "checkpoints",
    "evaluate": "quality",
    "explain": "standalone",
    "explain_checkpoints": "checkpoints",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
