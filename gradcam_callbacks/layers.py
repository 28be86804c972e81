"""The layers of a model, what they gave while it was traced, how that is read as a map, and which one is picked."""

from __future__ import annotations

import difflib
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Tensor = Any

# Layers whose map repeats that of the layer before them, at best at the same resolution.
_REPEATERS = (
    *(getattr(keras.layers, f"{kind}{rank}D") for kind in ("MaxPooling", "AveragePooling") for rank in (1, 2, 3)),
    *(
        getattr(keras.layers, f"{kind}{rank}D")
        for kind in ("ZeroPadding", "Cropping", "UpSampling")
        for rank in (1, 2, 3)
    ),
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Identity,
)
# What is inside of these are queries, keys and values of heads, which are no maps.
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
# Operations that mix channels or places with weights: a map that none of them made is still the input picture.
_MIXING = frozenset(
    {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        *("MatMul", "BatchMatMulV2", "Einsum", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
    }
)


# Operations that hand on what they get.
PASSING = frozenset({"Identity", "Cast", "EnsureShape"})


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained.

    Attributes:
        path: the names from the model down to the layer, joined by "/"; of a layer that is called more than once
            with the number of the call, "backbone/conv[0]".
        kind: its class.
        shape: of its output, the batch first; None where it depends on the picture.
        picked: whether it is explained when no layer is named.
    """

    path: str
    kind: str
    shape: tuple[int | None, ...]
    picked: bool = False


class InsideFunctionError(Exception):
    """The model calls layers inside a `tf.function` of its own, whose graph cannot be looked into."""


def has_inner_functions(scored: Any) -> bool:
    """Whether the scores come out of a `tf.function`; those that XLA compiles are single operations of Keras's."""
    return any(
        operation.type in ("PartitionedCall", "StatefulPartitionedCall")
        and not operation.node_def.attr["_XlaMustCompile"].b
        for operation in _ancestors([tensor.op for tensor in tf.nest.flatten(scored)]).values()
    )


@contextmanager
def functions_inlined() -> Iterator[None]:
    """Has a `tf.function` that is called add its operations to the graph of the caller."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def is_channels_first(layers: Iterable[Any]) -> bool:
    """Whether the model's pictures have their channels before their places."""
    formats = [layer.data_format for layer in layers if getattr(layer, "data_format", None)]
    return bool((formats or [keras.config.image_data_format()])[0] == "channels_first")


@dataclass(frozen=True)
class Call:
    """One call of a layer while the graph was traced; `order` sorts the calls of a layer as they stand in the code."""

    path: str
    layer: Any
    order: tuple[int, ...]
    output: Any


def all_layers(model: keras.Model) -> tuple[dict[str, Any], set[str]]:
    """Every layer and operation below the model by its path, in the order of the model, and those inside attention.

    A layer that two parts of the model share has a path in each. Of several children of the same name the paths end in
    "#1", "#2" and so on.
    """
    paths: dict[str, Any] = {}
    inner: set[str] = set()

    def walk(parent: Any, prefix: str, above: tuple[int, ...], inside: bool) -> None:
        children = getattr(parent, "operations", None)
        if children is None:
            children = parent._flatten_layers(include_self=False, recursive=False)
        once = {id(child): child for child in children if not isinstance(child, keras.layers.InputLayer)}
        often = Counter(child.name for child in once.values())
        numbers: Counter[str] = Counter()
        for child in once.values():
            if id(child) in above:
                continue
            numbers[child.name] += 1
            path = f"{prefix}{child.name}" + f"#{numbers[child.name]}" * (often[child.name] > 1)
            paths[path] = child
            if inside:
                inner.add(path)
            if isinstance(child, keras.layers.Layer):
                walk(child, f"{path}/", (*above, id(child)), inside or isinstance(child, _ATTENTION))

    walk(model, "", (id(model),), False)
    return paths, inner


def find(layers: Mapping[str, Any], name: str) -> tuple[str, int]:
    """The path of the layer that a user named by its path or by its own name, and which of its calls is meant."""
    call = -1
    if name not in layers and (numbered := re.fullmatch(r"(.+)\[(-?\d+)\]", name)):
        name, call = numbered[1], int(numbered[2])
    if name in layers:
        return name, call
    named = [path for path in layers if name in _names(path)]
    if len(named) == 1:
        return named[0], call
    if named:
        raise ValueError(
            f"{len(named)} layers are named '{name}'. Name one by its path: {', '.join(map(repr, named))}."
        )
    close = difflib.get_close_matches(name, {*layers, *(path.rpartition("/")[2] for path in layers)}, n=3)
    hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    raise ValueError(f"No layer '{name}'.{hint} The model's layers: {_some(list(layers))}.")


def _names(path: str) -> tuple[str, str]:
    """A layer's own name, as its path has it and as the layer has it."""
    last = path.rpartition("/")[2]
    return last, re.sub(r"#\d+$", "", last)


def _some(names: Sequence[str], limit: int = 12) -> str:
    """The last names of a list, which is where a layer worth explaining stands."""
    listed = ", ".join(names[-limit:])
    return listed if len(names) <= limit else f"… ({len(names) - limit} more), {listed}"


def calling_order(model: keras.Model, layers: Mapping[str, Any]) -> dict[str, list[int]]:
    """For each layer that a functional model calls several times, which call stands where in its order of running.

    Keras runs a functional model by depth, which need not be the order in which the layer was called in the code.
    """
    turns: dict[str, list[int]] = {}
    for prefix, parent in (("", model), *((f"{path}/", layer) for path, layer in layers.items())):
        by_depth: dict[int, list[Any]] = getattr(parent, "_nodes_by_depth", {})
        nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
        often = Counter(id(node.operation) for node in nodes)
        for node in nodes:
            path = f"{prefix}{getattr(node.operation, 'name', '')}"
            layer = layers.get(path)
            if layer is not None and layer is node.operation and often[id(layer)] > 1:
                turns.setdefault(path, []).append(layer._inbound_nodes.index(node))
    return turns


@contextmanager
def watch(
    model: keras.Model,
    layers: Mapping[str, Any],
    wanted: Iterable[str],
    turns: Mapping[str, list[int]],
    calls: list[Call],
    on_output: Callable[[Tensor], None],
) -> Iterator[None]:
    """Adds to `calls` whenever this thread calls one of the wanted layers; leaves all layers as they were.

    `on_output` gets each output, where it is a tensor of real numbers, before anything else is made of it.

    The wrappers are put straight into the instances' dictionaries, past Keras's tracking of attributes. The models
    around a wanted layer are wrapped too, to know in which of their calls it was called. One thread at a time.
    """
    wanted = set(wanted)
    instances = {id(layers[path]) for path in wanted}
    everywhere = {path for path, layer in layers.items() if id(layer) in instances}
    around = {path[:end] for path in everywhere for end in range(len(path)) if path[end] == "/"}
    thread = threading.get_ident()
    active: list[tuple[str, tuple[int, ...], Counter[str]]] = [("", (), Counter())]

    def wrap(layer: Any, paths: Sequence[str], call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return call(*args, **kwargs)
            parent, outer, counts = active[-1]
            path = next((path for path in paths if path.rpartition("/")[0] == parent), paths[0])
            turn = counts[path]
            counts[path] += 1
            order = (*outer, turns[path][turn] if turn < len(turns.get(path, [])) else turn)
            active.append((path, order, Counter()))
            try:
                result = call(*args, **kwargs)
            finally:
                active.pop()
            if path in wanted:
                calls.append(Call(path, layer, order, result))
                if tf.is_tensor(result) and result.dtype.is_floating:
                    on_output(result)
            return result

        return watched

    paths_of: dict[int, list[str]] = {}
    for path in (path for path in layers if path in everywhere or path in around):
        paths_of.setdefault(id(layers[path]), []).append(path)
    touched = {id(layers[paths[0]]): layers[paths[0]] for paths in paths_of.values()}
    # Keras quantises a layer by calling another method of it.
    methods = {
        key: "quantized_call" if getattr(layer, "quantization_mode", None) else "call" for key, layer in touched.items()
    }
    before = {key: layer.__dict__.get(methods[key]) for key, layer in touched.items()}
    with_losses = [layer for layer in (model, *layers.values()) if hasattr(layer, "_losses")]
    losses = [list(layer._losses) for layer in with_losses]
    try:
        for key, layer in touched.items():
            layer.__dict__[methods[key]] = wrap(layer, paths_of[key], getattr(layer, methods[key]))
        yield
    finally:
        for key, layer in touched.items():
            if before[key] is None:
                layer.__dict__.pop(methods[key], None)
            else:
                layer.__dict__[methods[key]] = before[key]
        for layer, of_layer in zip(with_losses, losses, strict=True):  # not those of the graph that was traced
            layer._losses[:] = of_layer


# ---- How a layer's output is read as a map ----


@dataclass(frozen=True)
class View:
    """A layer's output as a map of C channels over a grid.

    Attributes:
        info: the layer.
        layer: the layer itself.
        output: what it gave, as it gave it.
        problem: why no map can be made of it, in words that end a sentence; None where one can.
        grid: the map's size; None where it depends on the picture.
        extra_tokens: how many tokens before those of the grid are no places, such as a class token.
        is_guess: whether only the number of the tokens speaks for the grid.
        channels_first: whether the channels come before the grid.
        pooled: (N, C) or (N, 1, ..., 1, C), its mean over the grid, where the score depends on that alone.
    """

    info: LayerInfo
    layer: Any
    output: Any
    problem: str | None = None
    grid: tuple[int | None, ...] = ()
    extra_tokens: int = 0
    is_guess: bool = False
    channels_first: bool = False
    pooled: Tensor | None = None

    @property
    def has_tokens(self) -> bool:
        """Whether the grid is one row of tokens."""
        return len(self.output.shape) < len(self.grid) + 2

    @property
    def cells(self) -> int:
        """How many places the grid has; 1 for a side that depends on the picture."""
        return math.prod(side or 1 for side in self.grid)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.output.shape[1 if self.channels_first else -1] or 1)

    @property
    def source(self) -> Tensor:
        """What to differentiate by. The mean is much smaller, and its gradient is that of every place."""
        return self.output if self.pooled is None else self.pooled

    @property
    def floats(self) -> int:
        """How many numbers one target of one picture needs: its map, and its gradients where all targets go at once."""
        return self.cells + (0 if self.pooled is None else self.channels)

    def activations(self) -> Tensor:
        """(N, *grid, C), at least float32."""
        return self._on_grid(self.output)

    def gradients(self, raw: Tensor) -> Tensor:
        """(N, *grid, C) or (N, 1, ..., 1, C) from the gradient of the source."""
        raw = tf.ensure_shape(raw, self.source.shape)  # that of a maximum does not know its own
        if self.pooled is None:
            return self._on_grid(raw)
        places = tf.cast(tf.size(self.output) // tf.size(self.pooled), tf.float32)
        wide = at_least_float32(raw) / tf.cast(places, at_least_float32(raw).dtype)
        return tf.reshape(wide, (-1, *[1] * len(self.grid), self.channels))

    def _on_grid(self, tensor: Tensor) -> Tensor:
        wide = at_least_float32(tensor)
        if self.channels_first:
            return tf.transpose(wide, [0, *range(2, wide.shape.rank), 1])
        if self.has_tokens:
            return tf.reshape(wide[:, self.extra_tokens :], (-1, *self.grid, self.channels))
        return wide


def read_as_maps(
    calls: Sequence[Call], size: tuple[int, ...], grid: tuple[int, int] | None, scored: Any, *, channels_first: bool
) -> list[View]:
    """What can be read as a map, one entry a call.

    Several layers may return the very same tensor, such as dropout at inference, or a model and its last layer: it
    belongs to the first of them.
    """
    on_the_way = _ancestors([tensor.op for tensor in tf.nest.flatten(scored)])
    makers = {id(call.output): call for call in reversed(calls)}
    by_path: dict[str, list[Call]] = {}
    for call in sorted(calls, key=lambda call: call.order):
        by_path.setdefault(call.path, []).append(call)
    numbers = {path: iter(range(len(of_layer))) for path, of_layer in by_path.items()}
    views = []
    for running in calls:
        number = next(numbers[running.path])
        call = by_path[running.path][number]
        path = f"{call.path}[{number}]" if len(by_path[call.path]) > 1 else call.path
        view = View(LayerInfo(path, type(call.layer).__name__, ()), call.layer, call.output)
        output = call.output
        maker = makers[id(output)]
        if maker is not call:
            views.append(replace(view, problem=f"it hands on the very tensor that '{maker.path}' gives; name that"))
            continue
        if not tf.is_tensor(output) or not output.dtype.is_floating or output.shape.rank is None:
            views.append(replace(view, problem="its output is not one tensor of real numbers of a known rank"))
            continue
        view = replace(view, info=replace(view.info, shape=tuple(output.shape)))
        if id(output.op) not in on_the_way:
            views.append(replace(view, problem="the score does not depend on it"))
        elif output.shape.rank == len(size) + 2:
            inside = tuple(output.shape[2:] if channels_first else output.shape[1:-1])
            axes = list(range(2, output.shape.rank)) if channels_first else list(range(1, output.shape.rank - 1))
            pooled = _mean_over(output, axes, on_the_way)
            views.append(replace(view, grid=inside, channels_first=channels_first, pooled=pooled))
        elif output.shape.rank == 3 and len(size) == 2:
            views.append(_tokens(view, grid, on_the_way))
        else:
            expected = ", ".join(("batch", *("length", "h, w", "d, h, w")[len(size) - 1 : len(size)], "channels"))
            views.append(replace(view, problem=f"its output has shape {tuple(output.shape)}, not ({expected})"))
    return views


def _tokens(view: View, grid: tuple[int, int] | None, on_the_way: Mapping[int, Any]) -> View:
    """Reads (N, L, C) tokens as the grid that the user gave, or that of the patches that they come from."""
    length = view.output.shape[1]
    if length is None:
        return replace(view, problem="its number of tokens depends on the picture")
    if grid is not None:
        extra = length - grid[0] * grid[1]
        if extra < 0:
            return replace(view, problem=f"its {length} tokens are fewer than the {grid[0]}x{grid[1]} of grid=")
        return replace(view, grid=grid, extra_tokens=extra)
    for extra in (0, 1):
        merged = _merged_grid(view.output, length - extra)
        if merged is not None:
            pooled = None if extra else _mean_over(view.output, [1], on_the_way)
            return replace(view, grid=merged, extra_tokens=extra, pooled=pooled)
    for extra in (0, 1):
        side = math.isqrt(length - extra)
        if side * side == length - extra > 1:
            return replace(view, grid=(side, side), extra_tokens=extra, is_guess=True)
    return replace(view, problem=f"its {length} tokens are not a grid that can be told; pass grid=(h, w)")


def _merged_grid(tokens: Tensor, length: int) -> tuple[int, int] | None:
    """The (h, w) of tokens, where some (N, h, w, ...) before them was reshaped to (N, h * w, the rest)."""
    for operation in _ancestors([tokens.op]).values():
        if operation.type != "Reshape":
            continue
        before, after = operation.inputs[0].shape, operation.outputs[0].shape
        if before.rank is None or before.rank < 4 or after.rank != 3 or None in (*before[1:], *after[1:]):
            continue
        height, width, *rest = before[1:]
        if height * width == after[1] == length and math.prod(rest) == after[2] and min(height, width) > 0:
            return (height, width)
    return None


def named(
    views: Sequence[View], wanted: Sequence[tuple[str, int]], has_gradient: Callable[[Tensor], bool]
) -> list[View]:
    """The views that the user named: of them only the possible is asked, not the sensible.

    Raises:
        ValueError: if one was not called, or cannot be explained.
    """
    chosen = []
    for path, number in wanted:
        calls = [view for view in views if re.sub(r"\[\d+\]$", "", view.info.path) == path or view.info.path == path]
        if not calls:
            problem: str | None = "the model does not call it when it predicts, so the score does not depend on it"
        elif not -len(calls) <= number < len(calls):
            problem = f"it has {len(calls)} calls, [0] to [{len(calls) - 1}]; [{number}] is none of them"
        else:
            view = calls[number]
            problem = view.problem
            if problem is None and not has_gradient(view.output):
                problem = "the score depends on it only through operations that have no gradient"
        if problem is not None:
            raise ValueError(f"Layer '{path}' cannot be explained: {problem}.")
        chosen.append(view)
    return chosen


def pick(views: Sequence[View], scored: Any, has_gradient: Callable[[Tensor], bool]) -> list[View]:
    """The views that are worth explaining, the best first: the last on the way to the score.

    Raises:
        ValueError: if there is none.
    """
    graph = tf.nest.flatten(scored)[0].graph
    learned = _reached_from(graph, lambda operation: operation.type in _MIXING)
    tokens = {view.output.op.name: view.grid for view in views if view.problem is None and view.has_tokens}
    after_tokens = _reached_from(graph, lambda operation: operation.name in tokens)

    def is_worth_it(view: View) -> bool:
        if view.problem is not None or set(view.grid) == {1} or isinstance(view.layer, _REPEATERS):
            return False
        name = view.output.op.name
        # What is made of tokens and is no map of them is the inside of an attention: (batch, heads, tokens, tokens).
        return name in learned and (name not in after_tokens or view.grid in tokens.values())

    worth = [view for view in reversed(views) if is_worth_it(view)]
    worth = [view for view in worth if not view.is_guess] or worth
    for position, view in enumerate(worth):
        if has_gradient(view.output):
            return worth[position:]
    hints = [f" Layer '{view.info.path}': {view.problem}." for view in views if "grid=" in (view.problem or "")]
    raise ValueError(
        "The model has no spatial layer to explain: no layer on the way to the score makes a map (batch, h, w, "
        f"channels) larger than 1x1 from learned weights.{''.join(hints[-1:])} Grad-CAM needs a convolutional model, "
        "or a transformer whose tokens are places."
    )


def _reached_from(graph: Any, is_start: Callable[[Any], bool]) -> set[str]:
    """The names of the operations that depend on one where `is_start`, and of those themselves."""
    reached: set[str] = set()
    for operation in graph.get_operations():  # in the order in which they were made, so inputs come first
        if is_start(operation) or any(tensor.op.name in reached for tensor in operation.inputs):
            reached.add(operation.name)
    return reached


def _mean_over(output: Tensor, axes: Sequence[int], on_the_way: Mapping[int, Any]) -> Tensor | None:
    """The mean of a layer's output over its grid, where it is all that the score takes of it."""
    tensor = output
    while True:
        takers = {id(taker): taker for taker in tensor.consumers() if id(taker) in on_the_way}
        if len(takers) != 1:
            return None
        (taker,) = takers.values()
        if taker.type == "Mean":
            reduced = tf.get_static_value(taker.inputs[1])
            same = reduced is not None and sorted(np.ravel(reduced) % output.shape.rank) == list(axes)
            return taker.outputs[0] if same and taker.inputs[0] is tensor else None
        if taker.type not in PASSING:
            return None
        tensor = taker.outputs[0]


def _ancestors(operations: Sequence[Any]) -> dict[int, Any]:
    """The operations of the graph that results depend on, the given ones among them, by id."""
    reached = {id(operation): operation for operation in operations}
    todo = list(operations)
    while todo:
        for tensor in todo.pop().inputs:
            if id(tensor.op) not in reached:
                reached[id(tensor.op)] = tensor.op
                todo.append(tensor.op)
    return reached


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision would overflow in sums over a map."""
    return tf.cast(tensor, tf.float32) if tensor.dtype.size < 4 else tensor
