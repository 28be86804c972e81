"""Watch where a Keras model looks while it learns: Grad-CAM for a fixed probe set, every epoch, in MLflow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcam_callbacks.callback import GradCAMCallback
    from gradcam_callbacks.errors import GradCAMError
    from gradcam_callbacks.explaining.evaluating.evaluate import evaluate
    from gradcam_callbacks.explaining.evaluating.evaluation import Comparison, Evaluation
    from gradcam_callbacks.explaining.explain import explain
    from gradcam_callbacks.explaining.explainer import Explainer
    from gradcam_callbacks.explaining.explanation import Explanation
    from gradcam_callbacks.explaining.methods import METHODS
    from gradcam_callbacks.explaining.reliance import measure_reliance
    from gradcam_callbacks.probes.probe_set import ProbeSet
    from gradcam_callbacks.publishing.checks import check
    from gradcam_callbacks.publishing.memory_store import InMemoryStore
    from gradcam_callbacks.publishing.reports import report, write_report
    from gradcam_callbacks.publishing.store import Store
    from gradcam_callbacks.record.reliance import Reliance
    from gradcam_callbacks.sweeping.sweep import Sweep, explain_checkpoints

__all__ = [  # noqa: RUF022 (plainly sorted)
    "Comparison",
    "Evaluation",
    "Explainer",
    "Explanation",
    "GradCAMCallback",
    "GradCAMError",
    "InMemoryStore",
    "METHODS",
    "ProbeSet",
    "Reliance",
    "Store",
    "Sweep",
    "check",
    "evaluate",
    "explain",
    "explain_checkpoints",
    "measure_reliance",
    "report",
    "write_report",
]
__version__ = "0.1.0"

_HOMES = {
    "Comparison": "explaining.evaluating.evaluation",
    "Evaluation": "explaining.evaluating.evaluation",
    "Explainer": "explaining.explainer",
    "Explanation": "explaining.explanation",
    "GradCAMCallback": "callback",
    "GradCAMError": "errors",
    "InMemoryStore": "publishing.memory_store",
    "METHODS": "explaining.methods",
    "ProbeSet": "probes.probe_set",
    "Reliance": "record.reliance",
    "Store": "publishing.store",
    "Sweep": "sweeping.sweep",
    "check": "publishing.checks",
    "evaluate": "explaining.evaluating.evaluate",
    "explain": "explaining.explain",
    "explain_checkpoints": "sweeping.sweep",
    "measure_reliance": "explaining.reliance",
    "report": "publishing.reports",
    "write_report": "publishing.reports",
}
_ON_KERAS = {"GradCAMCallback", "evaluate"}
"""Those whose modules load Keras: where it cannot run on an engine of ours, a sentence says so first."""


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _ON_KERAS:
        from gradcam_callbacks.explaining.backend import refuse_other_backends

        refuse_other_backends()
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, also those that were not loaded yet, for completion."""
    return sorted({*globals(), *__all__})
