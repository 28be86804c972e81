"""The layers of a model: their paths, and their calls while a graph is traced."""

from __future__ import annotations

import difflib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

Tensor = Any
# What is inside of these are queries, keys and values of heads, which are no maps.
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


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
