"""Each CAM formula gives its paper's numbers, on every grid, for either form of the gradient, in a traced graph."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from keras import ops
from support.engines import IS_TENSORFLOW, largest_over_targets, over_targets

from gradcam_callbacks.explaining.methods import METHODS, ablates, attends, masks, occludes, takes_gradients

# By what the second argument has one number for, beside the picture: each channel, or each place.
BY_CHANNEL = {name for name, method in METHODS.items() if masks(method) or ablates(method)}
BY_PLACE = {name for name, method in METHODS.items() if occludes(method)}
BY_PAIR = {name for name, method in METHODS.items() if attends(method)}
GRADIENT_METHODS = sorted(name for name, method in METHODS.items() if takes_gradients(method) and not attends(method))
GRIDS = [(4,), (2, 2), (2, 1, 2)]
# JAX computes in float32 unless it is told to, and Keras in parts even then.
DTYPES = ["float32", "float64"] if IS_TENSORFLOW else ["float32"]
EXACT, NEARLY, NOTHING = (1e-12, 1e-9, 1e-12) if IS_TENSORFLOW else (1e-5, 1e-5, 1e-5)

# One picture of four places and two channels; the formulas do not care how the places are arranged in a grid.
# A^1 sums to 10, A^2 to 6; the gradients' means are 1 and -1.
A1, A2 = np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 0, 3])
G1, G2 = np.array([1.0, -1, 2, 2]), np.array([-2.0, 0, 4, -6])
OF_CHANNELS = [math.log(3), 0.0]
# Of two blocks what each token tells each other one: the four places, and after them a class token, which alone is
# told anything in the second block. (I + A2)(I + A1) - I = A1 + A2 + A2 A1.
OF_PAIRS = np.zeros((2, 5, 5))
OF_PAIRS[0, 4, :4], OF_PAIRS[0, 1, 0], OF_PAIRS[1, 4, :4] = [1, 0, 2, 0], 2, [0, 3, 0, 1]
OF_PLACES = np.array([2.0, -1, 0, 0.5])
SCORE = -2.0
GOLDEN = math.sqrt(5) - 1

BY_HAND = {
    # 1 A^1 - 1 A^2 = (-1, 1, 3, 1)
    "gradcam": [0, 1, 3, 1],
    # ReLU(g) / (2 + g sum A): channel 1 has 1/(2+10) and twice 2/(2+20), together 35/132; channel 2 has 4/(2+24).
    "gradcam++": 35 / 132 * A1 + 2 / 13 * A2,
    "finercam": [0, 1, 3, 1],
    # (1, -2, 6, 8) + (-4, 0, 0, -18) = (-3, -2, 6, -10)
    "hirescam": [0, 0, 6, 0],
    # w_1 = (1 - 2 + 6 + 8) / 10 = 13/10, w_2 = (-4 - 18) / 6 = -11/3: only the third place is positive, 3 * 13/10.
    "xgradcam": [0, 0, 3.9, 0],
    # (1, 0, 6, 8) + 0: the one positive gradient of channel 2 meets an activation of 0.
    "layercam": [1, 0, 6, 8],
    # A^T A = ((30, 16), (16, 14)), its larger eigenvalue 22 + 8 sqrt 5, its vector along (2, sqrt 5 - 1).
    "eigencam": (2 * A1 + GOLDEN * A2) / math.sqrt(4 + GOLDEN**2),
    # The first channel loses ln 3 of a score of size 2, the second nothing.
    "ablationcam": math.log(3) / 2 * A1,
    # The class token is told (1, 0, 2, 0), (0, 3, 0, 1), and by way of the second place 3 times (2, 0, 0, 0).
    "attention": [7, 3, 2, 1],
    # What the covered places lose; the second one gains.
    "occlusion": [2, 0, 0, 0.5],
    # exp of the increases is 3 to 1, so the weights are 3/4 and 1/4.
    "scorecam": [1.25, 1.75, 2.25, 3.75],
}


def pictures(places: list[np.ndarray], grid: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    """(2, *grid, channels): a picture and its mirror image."""
    stacked = np.stack(places, axis=-1)
    return np.stack([stacked, stacked[::-1]]).reshape(2, *grid, len(places)).astype(dtype)


def random_arguments(name: str, grid: tuple[int, ...], dtype: str, seed: int = 0) -> tuple[Any, Any]:
    """Activations and second arguments of both signs: (3, *grid, 6), and (3, *grid, 6), (3, 6) or (3, *grid).

    Of methods that attend these are (3, 2, T, T), of one token more than there are places, and not negative.
    """
    rng = np.random.default_rng(seed)
    if name in BY_PAIR:
        tokens = math.prod(grid) + 1
        told = np.maximum(rng.normal(size=(3, 2, tokens, tokens)), 0)
        told[..., :1] = 0  # nobody is told anything by the first place
        return rng.normal(size=(3, *grid, 6)).astype(dtype), told.astype(dtype)
    second = (3, 6) if name in BY_CHANNEL else (3, *grid) if name in BY_PLACE else (3, *grid, 6)
    return rng.normal(size=(3, *grid, 6)).astype(dtype), rng.normal(size=second).astype(dtype)


def maps(name: str, activations: Any, second: Any) -> np.ndarray:
    scores = np.full(len(activations), SCORE, activations.dtype)
    return np.asarray(METHODS[name](*map(ops.convert_to_tensor, (activations, second, scores))))


def close(dtype: str) -> dict[str, Any]:
    return {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-11}


# numbers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_maps_are_those_computed_by_hand(name: str, grid: tuple[int, ...], dtype: str) -> None:
    """A method gives the values worked out above for a picture and its mirror image, on 1-D, 2-D and 3-D grids."""
    second = pictures([G1, G2], grid, dtype)
    if name in BY_CHANNEL:
        second = np.array([OF_CHANNELS, OF_CHANNELS], dtype)
    elif name in BY_PLACE:
        second = pictures([OF_PLACES], grid, dtype)[..., 0]
    elif name in BY_PAIR:
        mirrored = [3, 2, 1, 0, 4]
        second = np.stack([OF_PAIRS, OF_PAIRS[:, mirrored][:, :, mirrored]]).astype(dtype)

    found = maps(name, pictures([A1, A2], grid, dtype), second)

    assert found.dtype == dtype
    expected = pictures([np.asarray(BY_HAND[name], float)], grid)[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else EXACT, atol=1e-6)


def test_every_method_has_its_numbers() -> None:
    """No method is added without a value computed by hand."""
    assert METHODS.keys() == BY_HAND.keys()
    assert {"scorecam", "ablationcam"} == BY_CHANNEL
    assert {"occlusion"} == BY_PLACE
    assert {"attention"} == BY_PAIR


def test_gradcam_plus_plus_weighs_objects_of_any_size_alike() -> None:
    """Where A = dy/dA = 1 on n places and 0 elsewhere, Grad-CAM++ is n/(2+n) there; Grad-CAM is n/Z, so fades."""
    # alpha = 1 / (2 + n) on each of n places, and the weight sums it over them
    activations = np.zeros((1, 4, 4, 3))
    activations[0, 0, 0, 0] = 1
    activations[0, 1, :2, 1] = 1
    activations[0, 2:, 1:, 2] = 1
    sizes = np.array([1, 2, 6])

    plus_plus = maps("gradcam++", activations, activations)
    plain = maps("gradcam", activations, activations)

    np.testing.assert_allclose(plus_plus, activations @ (sizes / (2 + sizes)), rtol=EXACT)
    np.testing.assert_allclose(plain, activations @ (sizes / 16), rtol=EXACT)


def test_gradcam_plus_plus_keeps_gradients_whose_cube_underflows() -> None:
    """A gradient of 1e-20 has the weight 1e-20/2 in float32, though its square is 0 there."""
    activations, gradients = np.ones((1, 2, 2, 1), np.float32), np.full((1, 2, 2, 1), 1e-20, np.float32)
    np.testing.assert_allclose(maps("gradcam++", activations, gradients), np.full((1, 2, 2), 4 * 0.5e-20), rtol=1e-6)


def test_gradcam_plus_plus_drops_places_whose_denominator_is_zero() -> None:
    """With sum A = -2 and g = 1, alpha is 1/(2-2): it counts as 0, and the other place gives 3/(2-6) = -3/4."""
    activations, gradients = np.array([[[1.0], [-3.0]]]), np.array([[[1.0], [3.0]]])
    np.testing.assert_allclose(maps("gradcam++", activations, gradients), [[0, 2.25]], rtol=EXACT)


@pytest.mark.parametrize("gradients", [[[[4.0, 1.0]]], [[[1.0, 1.0], [7.0, 1.0]]]], ids=["one", "full"])
def test_xgradcam_drops_channels_that_sum_to_zero(gradients: list[Any]) -> None:
    """A channel with the activations 1 and -1 has no shares, so its weight is 0 and only the other one shows."""
    activations = np.array([[[1.0, 2.0], [-1.0, 3.0]]])
    np.testing.assert_allclose(maps("xgradcam", activations, np.array(gradients)), [[2, 3]], rtol=EXACT)


def test_layercam_is_zero_where_positive_gradients_meet_negative_activations() -> None:
    """ReLU is applied to the sum as well: 1 * -2 + ReLU(-1) * 5 is 0, and 3 * 1 - 2 * 1 is 1."""
    activations, gradients = np.array([[[-2.0, 5.0], [3.0, -2.0]]]), np.array([[[1.0, -1.0], [1.0, 1.0]]])
    np.testing.assert_allclose(maps("layercam", activations, gradients), [[0, 1]], rtol=EXACT)


@pytest.mark.parametrize("sign", [1, -1])
def test_eigencam_chooses_the_sign_that_makes_the_sum_positive(sign: int) -> None:
    """A = ± p q^T with p = (3, -1, -1) and |q| = 5 gives 5 ReLU(p), because p sums to 1."""
    activations = sign * np.outer([3, -1, -1], [3, 4])[None].astype(float)
    np.testing.assert_allclose(maps("eigencam", activations, activations), [[15, 0, 0]], rtol=EXACT, atol=NOTHING)


def test_eigencam_does_not_depend_on_the_gradients() -> None:
    """Two targets have the same Eigen-CAM."""
    activations, gradients = random_arguments("eigencam", (3, 3), "float64")
    np.testing.assert_array_equal(
        maps("eigencam", activations, gradients), maps("eigencam", activations, np.zeros_like(gradients))
    )


def test_scorecam_survives_large_increases() -> None:
    """Increases of 1000 and 1000 - ln 3 are weighed 3/4 to 1/4; exp(1000) alone overflows."""
    found = maps("scorecam", pictures([A1, A2], (4,)), np.full((2, 2), 1000.0) - [0, math.log(3)])
    np.testing.assert_allclose(found[0], BY_HAND["scorecam"], rtol=NEARLY)


# what holds for all


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", [(5,), (4, 3), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_one_gradient_for_the_whole_grid_gives_the_same_maps(name: str, grid: tuple[int, ...], dtype: str) -> None:
    """Gradients (N, 1, ..., 1, C) and their repetition over the grid give the same maps."""
    activations, _ = random_arguments(name, grid, dtype)
    one = np.random.default_rng(1).normal(size=(3, *(1 for _ in grid), 6)).astype(dtype)
    full = np.broadcast_to(one, activations.shape)

    found = maps(name, activations, one)

    assert found.any()
    np.testing.assert_allclose(found, maps(name, activations, full), **close(dtype))


@pytest.mark.parametrize("grid", [(5,), (4, 3), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_no_map_is_negative(name: str, grid: tuple[int, ...]) -> None:
    """Whatever the signs of activations and gradients, a map is zero in places and nowhere below."""
    for seed in range(5):
        found = maps(name, *random_arguments(name, grid, "float32", seed))
        assert found.shape == (3, *grid)
        assert found.min() == 0
        assert found.max() > 0


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_nothing_gives_zeros(name: str, grid: tuple[int, ...]) -> None:
    """Zero activations, zero gradients or both give zeros, never NaN.

    Eigen- and Score-CAM ask for activations only, and occlusion and attention not for them.
    """
    activations, second = random_arguments(name, grid, "float32")
    nothing = np.zeros_like(activations)

    if name not in BY_PLACE | BY_PAIR:
        assert (maps(name, nothing, second) == 0).all()
    assert (maps(name, nothing, np.zeros_like(second)) == 0).all()
    if name in {"eigencam", "scorecam"}:
        assert np.isfinite(maps(name, activations, np.zeros_like(second))).all()
    else:
        assert (maps(name, activations, np.zeros_like(second)) == 0).all()
        if name in GRADIENT_METHODS:
            assert (maps(name, activations, np.zeros_like(second[:, *(slice(1) for _ in grid)])) == 0).all()


@pytest.mark.parametrize("name", ["hirescam", "xgradcam"])
def test_constant_gradients_give_gradcam(name: str) -> None:
    """HiResCAM and XGrad-CAM are Grad-CAM where the gradient does not change over the grid."""
    activations, _ = random_arguments(name, (4, 3), "float64")
    gradients = np.broadcast_to(np.random.default_rng(1).normal(size=(3, 1, 1, 6)), activations.shape)
    np.testing.assert_allclose(maps(name, activations, gradients), maps("gradcam", activations, gradients), rtol=NEARLY)


# in a graph


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", [(5,), (4, 3), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("form", ["one", "full"])
@pytest.mark.parametrize("name", METHODS)
def test_vectorised_targets_give_the_maps_of_each_target(
    name: str, form: str, grid: tuple[int, ...], dtype: str
) -> None:
    """Traced for any batch and vectorised over targets without a loop, each target's map is what it is alone."""
    activations, _ = random_arguments(name, grid, dtype)
    second = np.stack([random_arguments(name, grid, dtype, seed)[1] for seed in range(1, 5)])
    if form == "one" and name in GRADIENT_METHODS:
        second = second[:, :, *(slice(1) for _ in grid)]
    scores = np.full((4, 3), SCORE, dtype)
    graph = over_targets(METHODS[name], activations, second, scores)

    for n in (3, 1):
        found = np.asarray(graph(activations[:n], second[:, :n], scores[:, :n]))
        alone = [maps(name, activations[:n], of_target[:n]) for of_target in second]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, alone, **close(dtype))


@pytest.mark.parametrize("name", METHODS)
def test_a_thousand_targets_make_no_array_of_a_thousand_activations(name: str) -> None:
    """With one gradient for the whole grid no tensor of the graph is as large as targets x activations."""
    targets, n, grid, channels = 1000, 2, (7, 7), 64
    second = (targets, n, channels) if name in BY_CHANNEL else (targets, n, 1, 1, channels)
    if name in BY_PLACE:
        second = (targets, n, *grid)
    if name in BY_PAIR:  # which come target by target
        return
    given = [np.ones(shape, np.float32) for shape in ((n, *grid, channels), second, (targets, n))]
    assert largest_over_targets(METHODS[name], *given) <= targets * n * max(channels, math.prod(grid))
