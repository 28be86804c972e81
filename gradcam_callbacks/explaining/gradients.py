"""What the gradients behind a map say of its network: whether they vanish, explode or are well."""

from __future__ import annotations

import numpy as np

from gradcam_callbacks.arrays import Array

VANISHING, EXPLODING = 1e-3, 1e4
"""What the activations may bring the score together, at first order; less vanishes, more explodes.

They are in units of the score. A logit of a network that is well is of the order of 1 to 100, and so are the sums of
what speaks for it and of what speaks against it; a gradient alone has no scale that could be judged.
"""


def summary_of_gradients(activations: Array, gradients: Array) -> str:
    """One sentence on the gradients of one score of one picture.

    What speaks for the score is the sum of the positive gradients times activations, what speaks against it that of the
    negative ones: the first term of the score's Taylor series around activations of zero.

    Args:
        activations: (*grid, C).
        gradients: (*grid, C).
    """
    bad = int(gradients.size - np.isfinite(gradients).sum())
    if bad:
        return f"{bad:,} of {gradients.size:,} gradients are NaN or infinite: the weights or the input have diverged."
    if not gradients.any():
        return f"All {gradients.size:,} gradients are zero: the score does not react to this layer."
    if not activations.any():
        return f"All {activations.size:,} activations are zero: the layer is dead, or the picture is empty to it."
    brought = np.asarray(gradients, np.float64) * activations
    speaks_for, against = brought[brought > 0].sum(), -brought[brought < 0].sum()
    told = f"the layer speaks for the score with +{speaks_for:.3g} and against it with −{against:.3g}"
    largest = np.abs(gradients).max()
    if max(speaks_for, against) < VANISHING:
        return f"The gradients vanish: the largest is {largest:.1e}, and {told}."
    if not max(speaks_for, against) <= EXPLODING:
        return f"The gradients explode: the largest is {largest:.1e}, and {told}."
    return f"The gradients are well: {told}; {(gradients == 0).mean():.0%} of them are zero."
