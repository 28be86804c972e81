"""CAM formulas, one pure function each, written with `keras.ops`.

Every method is `method(activations, gradients, scores) -> maps`:

- activations: (N, *grid, C) float32 or float64, A, the layer's output; a grid of 1, 2 or 3 dimensions.
- gradients: dy/dA, of the same shape, or (N, 1, ..., 1, C) where it is the same everywhere, as it is where the layer
  leads straight into a global average pooling; both give the same maps. In the second case there may be a thousand
  targets at once, so make no array of the grid's size that depends on the gradients: contract the channels at once, as
  `_weighted_sum` does.
- scores: (N,), y, the logit that is explained.
- maps: (N, *grid), >= 0, of the activations' dtype, not normalised. NaN may come through.

Some methods get something else in place of the gradients, the first three by running the network again. Each says so by
an attribute:

- `method.masks = True`: `increases` (N, C), how much each score rises when only what the channel marks is left of the
  picture.
- `method.ablates = True`: `drops` (N, C), how much each score falls when the channel gives zeros.
- `method.occludes = True`: `drops` (N, *grid), how much each score falls when that place of the picture is covered.
- `method.attends = True`: `attentions` (N, B, T, T), in each of the B blocks of a transformer how much the attention of
  a token (row) to another one (column) speaks for the score, from the same forward pass. First of the T tokens come the
  places of the grid in their order, then those that are no places, such as a class token.

With `method.compares = True` the gradients are those of the score minus `COMPARED` times the mean of the scores of the
`REFERENCES` classes next to it.

The functions are traced under `keras.ops.vectorized_map`, on TensorFlow with any N: only grid and C are known.
In the comments k is a channel, ij a place on the grid, and a sum over ij is one over the whole grid, whatever its rank.

A function of one's own is used as `method=my_method`, or by its name once it is in `METHODS`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from gradcam_callbacks.errors import GradCAMError


class _LazyOps:
    """`keras.ops`, loaded when a method runs: whoever only lists METHODS loads no Keras."""

    def __getattr__(self, name: str) -> Any:
        from keras import ops as loaded

        return getattr(loaded, name)


ops: Any = _LazyOps()

Method = Callable[[Any, Any, Any], Any]
"""(activations, gradients or what comes in their place, scores) -> maps, see above."""

COMPARED = 0.6
"""How much of the mean of its references is taken from a score by methods that compare: gamma of Finer-CAM."""
REFERENCES = 3
"""How many classes these compare with: T of Finer-CAM; of fewer classes all others."""


def gradcam(activations: Any, gradients: Any, scores: Any) -> Any:
    """Gradient-weighted class activation mapping.

    Args:
        activations: (N, *grid, C).
        gradients: (N, *grid, C) or (N, 1, ..., 1, C).
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        equations 1 and 2.
    """
    del scores
    # a_k = 1/Z sum_ij dy/dA_ij^k                                               eq. 1
    weights = ops.mean(gradients, axis=_grid_axes(gradients))
    # L = ReLU(sum_k a_k A^k)                                                   eq. 2
    return _weighted_sum(activations, weights)


def gradcam_plus_plus(activations: Any, gradients: Any, scores: Any) -> Any:
    """Grad-CAM++: positive gradients only, each by its own weight, so that several objects count alike.

    The paper differentiates exp(y), where y is the logit. That multiplies a whole map by exp(y), which overflows, and
    changes nothing within the map, so it is left out: compare these maps between pictures with care.

    Args:
        activations: (N, *grid, C).
        gradients: (N, *grid, C) or (N, 1, ..., 1, C), of the logit, not of its exponential.
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Chattopadhay et al. 2018, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks",
        equation 19.
    """
    del scores
    # alpha_ij = g_ij^2 / (2 g_ij^2 + sum_ab A_ab g_ij^3) = 1 / (2 + g_ij sum_ab A_ab)                    eq. 19
    # The second form does not underflow. Where g_ij = 0 they differ, but there ReLU(g_ij) = 0 is the factor.
    total = ops.sum(activations, axis=_grid_axes(activations), keepdims=True)
    terms = ops.divide_no_nan(ops.relu(gradients), 2 + gradients * total)
    # w_k = sum_ij alpha_ij ReLU(g_ij), as Z times the mean: that holds for one gradient for the whole grid, too.
    places = math.prod(activations.shape[1:-1])
    weights = places * ops.mean(terms, axis=_grid_axes(terms))
    # L = ReLU(sum_k w_k A^k)
    return _weighted_sum(activations, weights)


def hirescam(activations: Any, gradients: Any, scores: Any) -> Any:
    """HiResCAM: each place by its own gradient, so that it shows only places that the score depends on.

    Args:
        activations: (N, *grid, C).
        gradients: (N, *grid, C) or (N, 1, ..., 1, C).
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0; those of `gradcam` where the gradient is the same everywhere.

    Reference:
        Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
        networks".
    """
    if _same_everywhere(gradients):
        return gradcam(activations, gradients, scores)
    # L_ij = ReLU(sum_k dy/dA_ij^k A_ij^k)
    return ops.relu(ops.sum(gradients * activations, axis=-1))


def xgradcam(activations: Any, gradients: Any, scores: Any) -> Any:
    """XGrad-CAM: Grad-CAM with the gradients averaged by the activations' shares.

    It was derived for activations >= 0. Where they take both signs, as after a swish, their sum may be close to zero
    and the weight huge.

    Args:
        activations: (N, *grid, C).
        gradients: (N, *grid, C) or (N, 1, ..., 1, C).
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0; those of `gradcam` where the gradient is the same everywhere and no channel sums to 0.

    Reference:
        Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs".
    """
    del scores
    # w_k = sum_ij (A_ij^k / sum_ab A_ab^k) dy/dA_ij^k, and 0 where sum_ab A_ab^k = 0
    axes = _grid_axes(activations)
    total = ops.sum(activations, axis=axes)
    if _same_everywhere(gradients):  # the shares add up to 1
        weights = ops.where(ops.equal(total, 0), 0.0, ops.mean(gradients, axis=axes))
    else:
        weights = ops.divide_no_nan(ops.sum(activations * gradients, axis=axes), total)
    # L = ReLU(sum_k w_k A^k)
    return _weighted_sum(activations, weights)


def layercam(activations: Any, gradients: Any, scores: Any) -> Any:
    """LayerCAM: HiResCAM of the positive gradients, made for early layers of high resolution.

    Args:
        activations: (N, *grid, C).
        gradients: (N, *grid, C) or (N, 1, ..., 1, C).
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization".
    """
    # L_ij = ReLU(sum_k ReLU(dy/dA_ij^k) A_ij^k)
    return hirescam(activations, ops.relu(gradients), scores)


def eigencam(activations: Any, gradients: Any, scores: Any) -> Any:
    """Eigen-CAM: the activations' first principal component, not centred. It does not depend on the target.

    The sign of a singular vector is arbitrary; it is chosen so that the map, before its ReLU, sums to a positive
    number. The map is arbitrary where that sum is 0, or where the first two singular values are equal.

    Args:
        activations: (N, *grid, C).
        gradients: not used.
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0; zeros where the activations are all zero.

    Reference:
        Muhammad and Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components".
    """
    del gradients, scores
    *grid, channels = activations.shape[1:]
    # A = U S V^T, a row a place and a column a channel
    matrices = ops.reshape(activations, (-1, math.prod(grid), channels))
    _, _, transposed = ops.svd(matrices, full_matrices=False)
    # L = A v_1
    projection = ops.einsum("npc,nc->np", matrices, transposed[:, 0, :])
    negative = ops.sum(projection, axis=-1, keepdims=True) < 0
    return ops.relu(ops.reshape(ops.where(negative, -projection, projection), (-1, *grid)))


def scorecam(activations: Any, increases: Any, scores: Any) -> Any:
    """Score-CAM: each channel by how much it raises the score when only what it marks is left of the picture.

    It costs C forward passes a picture, in batches, whatever the number of targets, and no gradients.

    Args:
        activations: (N, *grid, C).
        increases: (N, C), any sign: the score of the picture masked with the channel's map, scaled up to the picture's
            size and to [0, 1], minus the score of the baseline.
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks".
    """
    del scores
    # a_k = exp(s_k) / sum_l exp(s_l), s_k the increase of channel k
    weights = ops.softmax(increases, axis=-1)
    # L = ReLU(sum_k a_k A^k)
    return _weighted_sum(activations, weights)


scorecam.masks = True  # type: ignore[attr-defined]


def finercam(activations: Any, gradients: Any, scores: Any) -> Any:
    """Finer-CAM: Grad-CAM of what tells the class from the three classes that score most like it.

    Those are the classes whose logits are nearest to the target's. A contrast (a, b) and a function say themselves what
    is compared: of these it is Grad-CAM.

    Args:
        activations: (N, *grid, C).
        gradients: (N, *grid, C) or (N, 1, ..., 1, C), of the score minus 0.6 times the mean of those of the references.
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Zhang et al. 2025, "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation": the
        gradients of y^c - gamma y^d in Grad-CAM's weights, averaged over the references d before the ReLU.
    """
    return gradcam(activations, gradients, scores)


finercam.compares = True  # type: ignore[attr-defined]


def ablationcam(activations: Any, drops: Any, scores: Any) -> Any:
    """Ablation-CAM: each channel by how much of the score is lost without it.

    It runs what follows the layer C times, with one channel at zero each time, whatever the number of pictures and
    targets, and needs no gradients. The paper divides by y; here it is |y|, or else the map of a score below zero would
    show what speaks against it.

    Args:
        activations: (N, *grid, C).
        drops: (N, C), any sign: the score minus the score with the channel at zero at all places.
        scores: (N,).

    Returns:
        (N, *grid) maps, >= 0; zeros where the score is 0.

    Reference:
        Desai and Ramaswamy 2020, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
        Localization".
    """
    # w_k = (y - y_k) / |y|
    weights = ops.divide_no_nan(drops, ops.abs(scores)[:, None])
    # L = ReLU(sum_k w_k A^k)
    return _weighted_sum(activations, weights)


ablationcam.ablates = True  # type: ignore[attr-defined]


def occlusion(activations: Any, drops: Any, scores: Any) -> Any:
    """Occlusion: how much of the score is lost where a place of the picture is covered with its mean colour.

    The plain control that knows nothing of the network's inside: of the layer it takes the grid alone. It costs one
    forward pass a place, in batches, whatever the number of targets.

    Args:
        activations: (N, *grid, C), not used.
        drops: (N, *grid), any sign: the score minus that of the picture with this place covered.
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2, with squares that
        do not overlap.
    """
    del activations, scores
    return ops.relu(drops)


occlusion.occludes = True  # type: ignore[attr-defined]


def attention(activations: Any, attentions: Any, scores: Any) -> Any:
    """Attention of a transformer, where it speaks for the class, through all blocks.

    For networks whose places are tokens that attend to each other; others are refused. Of the layer it takes the grid
    alone. The maps of all targets cost one forward pass.

    Args:
        activations: (N, *grid, C), only their shape is used.
        attentions: (N, B, T, T), >= 0, E_h[ReLU(dy/dA * A)] of each block, the places before the other tokens.
        scores: (N,), not used.

    Returns:
        (N, *grid) maps, >= 0.

    Reference:
        Chefer et al. 2021, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
        Transformers", equations 5 and 6. The paper reads the row of the class token; here it is the mean of the rows
        that the head takes, which are those where the last block has any, and without a token's own part, which is
        the same for all.
    """
    del scores
    grid = activations.shape[1:-1]
    taken = ops.cast(ops.any(attentions[:, -1] > 0, axis=-1), attentions.dtype)
    taken = ops.divide_no_nan(taken, ops.sum(taken, axis=-1, keepdims=True))
    # R = I, and for each block R = R + A R                                     eq. 6
    # so a row r of the last R is r (I + A_B) ... (I + A_1).
    row = taken
    for block in reversed(range(attentions.shape[1])):
        row = row + ops.sum(row[..., None] * attentions[:, block], axis=-2)
    return ops.reshape((row - taken)[:, : math.prod(grid)], (-1, *grid))


attention.attends = True  # type: ignore[attr-defined]

METHODS: Mapping[str, Method] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "hirescam": hirescam,
    "xgradcam": xgradcam,
    "layercam": layercam,
    "finercam": finercam,
    "eigencam": eigencam,
    "ablationcam": ablationcam,
    "attention": attention,
    "occlusion": occlusion,
    "scorecam": scorecam,
}
"""The methods that can be asked for by name."""


def masks(method: Method) -> bool:
    """Whether a method takes the increases of the scores under masks, (N, C), and not the gradients."""
    return bool(getattr(method, "masks", False))


def ablates(method: Method) -> bool:
    """Whether a method takes the drops of the scores without each channel, (N, C), and not the gradients."""
    return bool(getattr(method, "ablates", False))


def occludes(method: Method) -> bool:
    """Whether a method takes the drops of the scores without each place, (N, *grid), and not the gradients."""
    return bool(getattr(method, "occludes", False))


def attends(method: Method) -> bool:
    """Whether a method takes the attention between the tokens of a transformer, (N, B, T, T), and not the gradients."""
    return bool(getattr(method, "attends", False))


def compares(method: Method) -> bool:
    """Whether a method takes the gradients of a score's difference to those of the classes next to it."""
    return bool(getattr(method, "compares", False))


def takes_gradients(method: Method) -> bool:
    """Whether one forward pass is all that a method needs, and not the network again for each channel or place."""
    return not (masks(method) or ablates(method) or occludes(method))


def find_method(method: str | Method) -> tuple[str, Method]:
    """A method and its name: that in `METHODS`, or the function's own, or "function" where it has none.

    Args:
        method: a name in `METHODS`, or a function of the signature above.

    Raises:
        GradCAMError: if there is no method of that name, or the function does not take three arguments.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise GradCAMError(f"No method '{method}'. The methods: {', '.join(sorted(METHODS))}.", argument="method")
        return method, METHODS[method]
    if not callable(method):
        raise GradCAMError(f"A method is a name or a function; got {method!r}.", argument="method")
    for name, known in METHODS.items():
        if known is method:
            return name, method
    own_name = getattr(method, "__name__", type(method).__name__)
    name = "function" if own_name == "<lambda>" else str(own_name)
    try:
        inspect.signature(method).bind("activations", "gradients", "scores")
    except ValueError:  # some functions that are not written in Python do not say what they take
        pass
    except TypeError as error:
        raise GradCAMError(
            f"The method '{name}' cannot be called with (activations, gradients, scores): {error}.", argument="method"
        ) from None
    return name, method


def _grid_axes(tensor: Any) -> tuple[int, ...]:
    """The axes between the batch and the channels."""
    return tuple(range(1, len(tensor.shape) - 1))


def _same_everywhere(gradients: Any) -> bool:
    """Whether the gradients come as one for the whole grid, in which case no array of the grid's size is needed."""
    return all(size == 1 for size in gradients.shape[1:-1])


def _weighted_sum(activations: Any, weights: Any) -> Any:
    """ReLU(sum_k w_k A^k) as one contraction of (N, *grid, C) and (N, C) to (N, *grid)."""
    return ops.relu(ops.einsum("n...c,nc->n...", activations, weights))
