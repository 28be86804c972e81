"""CAM formulas, one function each. Written with `keras.ops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops


def gradcam(activations: Any, gradients: Any, scores: Any) -> Any:
    """Gradient-weighted class activation mapping.

    Args:
        activations: (N, h, w, C), A, the target layer's output.
        gradients: (N, h, w, C), dy/dA.
        scores: (N,), y, the logit that is explained; not used.

    Returns:
        (N, h, w) raw maps, >= 0, not normalised.

    Reference:
        Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        equations 1 and 2.
    """
    del scores
    # a_k = 1/Z sum_ij dy/dA_ij^k                                               eq. 1
    weights = ops.mean(gradients, axis=(1, 2))
    # L = ReLU(sum_k a_k A^k)                                                   eq. 2
    return ops.relu(ops.einsum("nhwc,nc->nhw", activations, weights))


METHODS: Mapping[str, Callable[[Any, Any, Any], Any]] = {"gradcam": gradcam}
