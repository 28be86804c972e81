"""What JAX traced is read as the operations that the rules know. Run with KERAS_BACKEND=jax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

if keras.config.backend() != "jax":
    pytest.skip("needs KERAS_BACKEND=jax", allow_module_level=True)

import jax
from jax import lax
from jax import numpy as jnp

from gradcam_callbacks.explaining.axes import followed
from gradcam_callbacks.explaining.engines.jax_graph import Graph, Tensor
from gradcam_callbacks.explaining.engines.jax_primitives import translated
from gradcam_callbacks.explaining.places import PICTURES, Places, of_picture

Function = Callable[..., Any]
Array = np.ndarray[Any, np.dtype[Any]]
SIZE = (16, 32, 3)
KERNEL = np.ones((3, 3, 3, 4), np.float32)
NUMBERS = np.random.default_rng(0)


def read(function: Function, *shapes: tuple[int, ...]) -> tuple[Graph, list[Tensor]]:
    """The graph of a function of arrays, and what it gives."""
    closed = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))
    graph = Graph()
    inputs = [graph.placeholder(variable.aval) for variable in closed.jaxpr.invars]
    return graph, translated(graph, closed, inputs)


def places_after(function: Function, size: tuple[int, ...] = SIZE) -> Places:
    """Where the numbers of what a function makes of pictures lie."""
    graph, (result,) = read(function, (PICTURES, *size))
    start = {id(graph.inputs[0]): of_picture(size, channels_first=False)}
    return followed(graph, start, {})[id(result)]


def convolved(x: Any, strides: tuple[int, int] = (1, 1), padding: Any = "SAME", **more: Any) -> Any:
    return lax.conv_general_dilated(x, KERNEL, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **more)


def pooled(x: Any, reducer: Any, start: float) -> Any:
    return lax.reduce_window(x, start, reducer, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def patches(x: Any) -> Any:
    """(N, 8, 4 * 4 * 3) tokens of 4x4 pixels."""
    cut = jnp.reshape(x, (-1, 4, 4, 8, 4, 3)).transpose(0, 1, 3, 2, 4, 5)
    return jnp.reshape(cut, (-1, 32, 48))


def attention(x: Any) -> Any:
    tokens = patches(x)
    shares = jax.nn.softmax(jnp.einsum("nqc,nkc->nqk", tokens, tokens))
    return tokens + jnp.einsum("nqk,nkc->nqc", shares, tokens)


def resized(method: str) -> Function:
    return lambda x: jax.image.resize(x, (x.shape[0], 8, 64, 3), method)


def enlarged(x: Any) -> Any:
    """Rows 4 to 12, and beyond the last columns, made as large as the picture."""
    scale, move = jnp.asarray([2.0, 1.0]), jnp.asarray([-8.0, -16.0])
    return jax.image.scale_and_translate(x, x.shape, (1, 2), scale, move, method="linear")


def spans(places: Places) -> list[tuple[float, float]]:
    return [(round(side.start, 3), round(side.end, 3)) for side in places.sides]


WHOLE: dict[str, tuple[Function, list[int]]] = {
    "a convolution": (convolved, [16, 32]),
    "a convolution in steps": (lambda x: convolved(x, (2, 2)), [8, 16]),
    "a convolution in steps of an uneven padding": (lambda x: convolved(x, (2, 2), [(1, 0), (1, 0)]), [8, 16]),
    "a dilated convolution": (lambda x: convolved(x, rhs_dilation=(2, 2)), [16, 32]),
    "a transposed convolution": (lambda x: convolved(x, padding=[(1, 2), (1, 2)], lhs_dilation=(2, 2)), [32, 64]),
    "a maximum over windows": (lambda x: pooled(x, lax.max, -jnp.inf), [8, 16]),
    "a mean over windows": (lambda x: pooled(x, lax.add, 0.0) / 4, [8, 16]),
    "an activation": (lambda x: jax.nn.gelu(jax.nn.relu6(x)), [16, 32]),
    "a norm over the channels": (lambda x: (x - x.mean(-1, keepdims=True)) / jnp.std(x, -1, keepdims=True), [16, 32]),
    "a gate of each channel": (lambda x: x * jax.nn.sigmoid(x.mean((1, 2), keepdims=True)), [16, 32]),
    "bilinear enlarging": (resized("linear"), [8, 64]),
    "bicubic enlarging": (resized("cubic"), [8, 64]),
    "enlarging to the nearest": (resized("nearest"), [8, 64]),
    "repeating": (lambda x: jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), [32, 64]),
    "every second row and column": (lambda x: x[:, ::2, ::2], [8, 16]),
    "a function of its own under jit": (jax.jit(lambda x: convolved(x) + 1), [16, 32]),
    "a recomputed function": (jax.checkpoint(convolved), [16, 32]),
}
"""Functions that keep the places where they are, and how many there are afterwards."""


@pytest.mark.parametrize("name", WHOLE)
def test_places_stay_where_they_are(name: str) -> None:
    """After it the axes run over the whole height and width, and all is certain."""
    function, cells = WHOLE[name]
    places = places_after(function)
    assert places.is_certain
    assert [axis.runs_along for axis in places.axes or ()][:3] == [None, 0, 1]
    assert [side.cells for side in places.sides] == cells
    for side in places.sides:
        assert side.covers_picture
        assert not side.is_mirrored
        assert not side.rolled
        assert not side.is_mixed


def test_tokens_of_patches_are_a_grid() -> None:
    """32 tokens of 4x4 pixels are 4 rows of 8, before and after attention between them."""
    for function in (patches, attention):
        axis = (places_after(function).axes or ())[1]
        assert [(part.size, part.side) for part in axis.stretches] == [(4, 0), (8, 1)]  # type: ignore[union-attr]


MOVED: dict[str, tuple[Function, Callable[[Places], bool]]] = {
    "turned": (lambda x: x.transpose(0, 2, 1, 3), lambda places: (places.axes or ())[1].runs_along == 1),
    "mirrored": (lambda x: x[:, ::-1], lambda places: places.sides[0].is_mirrored),
    "flipped": (lambda x: jnp.flip(x, 2), lambda places: places.sides[1].is_mirrored),
    "rolled": (lambda x: jnp.roll(x, 3, axis=2), lambda places: places.sides[1].rolled == 3),
    "cut": (lambda x: x[:, 4:12], lambda places: (places.sides[0].start, places.sides[0].end) == (0.25, 0.75)),
    "taken": (lambda x: jnp.take(x, 5, axis=1), lambda places: places.sides[0].cells == 1),
    "summed up": (lambda x: x.sum(1), lambda places: not places.axis_of(0)),
    "scaled and moved": (enlarged, lambda places: spans(places) == [(0.25, 0.75), (0.5, 1.5)]),
    "frequencies": (lambda x: jnp.fft.fft(x, axis=2).real, lambda places: not places.axis_of(1)),
    "frequencies of two axes": (
        lambda x: jnp.fft.fft2(x.transpose(0, 3, 1, 2)).real,
        lambda places: places.is_certain and not places.axis_of(0) and not places.axis_of(1),
    ),
    "mixed with its mirror image": (lambda x: x + x[:, ::-1], lambda places: places.sides[0].is_mixed),
}
"""Functions that move the places, and what is then known of them."""


@pytest.mark.parametrize("name", MOVED)
def test_places_that_are_moved_are_known_as_moved(name: str) -> None:
    """It is told which side is turned, mirrored, rolled, cut or lost."""
    function, is_known = MOVED[name]
    assert is_known(places_after(function))


def test_what_has_no_name_is_not_understood() -> None:
    """A cumulative sum has the shape of the picture, and it is not certain that it lies as the picture does."""
    assert not places_after(lambda x: jnp.cumsum(x, axis=1)).is_certain


RECOGNISED: dict[str, tuple[Function, str]] = {
    "jax.nn.softmax": (jax.nn.softmax, "Softmax"),
    "a softmax by hand": (lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True), "RealDiv"),
    "a softmax over other axes": (lambda x: jax.nn.softmax(x, axis=(0, 1)), "RealDiv"),
    "jax.nn.log_softmax": (jax.nn.log_softmax, "LogSoftmax"),
    "jax.nn.sigmoid": (jax.nn.sigmoid, "Sigmoid"),
    "jax.nn.relu": (jax.nn.relu, "Relu"),
    "a mean": (lambda x: x.mean((1, 2)), "Mean"),
    "a mean that keeps its axes": (lambda x: x.mean((1, 2), keepdims=True), "Mean"),
    "a sum": (lambda x: x.sum((1, 2)), "Sum"),
    "a sum divided by something else": (lambda x: x.sum((1, 2)) / 3, "RealDiv"),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_forms_that_jax_writes_out_are_recognised(name: str) -> None:
    """A softmax, of which the logits are asked for, is one operation of them; two exponentials are not."""
    function, kind = RECOGNISED[name]
    graph, (result,) = read(function, (PICTURES, *SIZE))
    assert result.op.type == kind
    if kind != "RealDiv":
        assert result.op.inputs[0] is graph.inputs[0]


@pytest.mark.parametrize("count", [2, 3])
def test_for_some_pictures_the_operations_are_those_of_any_number(count: int) -> None:
    """Numbers that only then could be worked out, such as zeros for each picture, are left as they are."""

    def function(x: Any) -> Any:
        return jnp.where(jnp.zeros((len(x), 1)) > 1, x, jnp.ones((len(x), 4)) * 2)

    def graph_of(number: int, like: Graph | None) -> Graph:
        graph = Graph(like)
        closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((number, 4), np.float32))
        translated(graph, closed, [graph.placeholder(variable.aval) for variable in closed.jaxpr.invars])
        return graph

    of_any = graph_of(PICTURES, None)
    assert of_any.begins_like(graph_of(count, of_any))
    assert not of_any.begins_like(graph_of(count, None))


def test_numbers_and_gradients_are_those_of_the_function() -> None:
    """Also by a tensor in the middle, inside a function under jit, and through a gradient of its own."""
    inner = jax.jit(lambda x: jax.nn.relu(x) * 3)

    def function(x: Any) -> Any:
        return (inner(x - 1) ** 2).sum((1, 2, 3))

    graph, (result,) = read(function, (2, 4, 4, 3))
    (middle,) = [operation.outputs[0] for operation in graph.get_operations() if operation.type == "Relu"]
    picture = NUMBERS.normal(1, 1, (2, 4, 4, 3)).astype(np.float32)

    def moved(by: Any) -> Any:
        return graph.computed([result], [picture], moved={id(middle): by})[0]

    np.testing.assert_allclose(moved(0.0), function(picture), rtol=1e-6)
    gradient = jax.grad(lambda by: moved(by).sum())(np.zeros_like(picture))
    np.testing.assert_allclose(gradient, 18 * np.maximum(picture - 1, 0), rtol=1e-6)
