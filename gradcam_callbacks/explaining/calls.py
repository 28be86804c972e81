"""The calls of a model's layers while a graph is traced."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gradcam_callbacks.explaining.engines.engine import Marker
from gradcam_callbacks.explaining.keras_internals import calls_in_running_order, calls_wrapped
from gradcam_callbacks.explaining.layers import Layers


@dataclass(frozen=True)
class Call:
    """One call of a layer while the graph was traced.

    Attributes:
        path: of the layer.
        layer: itself.
        order: sorts the calls of a layer as they stand in the code.
        given: the first argument of the call.
        output: what the layer gave.
        first: how many operations the graph had before the call.
        last: and after it.
    """

    path: str
    layer: Any
    order: tuple[int, ...]
    given: Any
    output: Any
    first: int
    last: int

    @property
    def kind(self) -> str:
        """The layer's class."""
        return type(self.layer).__name__


@contextmanager
def calls_watched(layers: Layers, wanted: Iterable[str], marker: Marker) -> Iterator[list[Call]]:
    """Gives a list that grows with every call of the wanted layers by this thread; leaves all layers as they were.

    One thread at a time.

    Args:
        layers: of the model that will be called.
        wanted: paths.
        marker: takes note of each output, before anything else is made of it.
    """
    watcher = _Watcher(layers, set(wanted), marker)
    with calls_wrapped(watcher.wrapped, watcher.wrap):
        yield watcher.calls


class _Watcher:
    """Knows in which call of which model a layer is called, and keeps the calls of those that are wanted."""

    def __init__(self, layers: Layers, wanted: set[str], marker: Marker) -> None:
        self.calls: list[Call] = []
        self._wanted = wanted
        self._marker = marker
        self._turns = _turns(layers)
        self._thread = threading.get_ident()
        # The calls that are under way, the innermost last: path, order, and how often each path was called inside.
        self._active: list[tuple[str, tuple[int, ...], Counter[str]]] = [("", (), Counter())]
        instances = {id(layers.by_path[path]) for path in wanted}
        everywhere = {path for path, layer in layers.by_path.items() if id(layer) in instances}
        around = {path[:end] for path in everywhere for end in range(len(path)) if path[end] == "/"}
        self._paths: dict[int, list[str]] = {}
        for path, layer in layers.by_path.items():
            if path in everywhere or path in around:
                self._paths.setdefault(id(layer), []).append(path)
        self.wrapped = [layers.by_path[paths[0]] for paths in self._paths.values()]

    def wrap(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """What a layer does instead of its own `call` while it is watched."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return call(*args, **kwargs)
            path, order = self._enter(layer)
            first = self._marker.position()
            try:
                result = call(*args, **kwargs)
            finally:
                self._active.pop()
            if path in self._wanted:
                given = args[0] if args else next(iter(kwargs.values()), None)
                noted = self._marker.noted(given), self._marker.noted(result)
                self.calls.append(Call(path, layer, order, *noted, first, self._marker.position()))
            return result

        return watched

    def _enter(self, layer: Any) -> tuple[str, tuple[int, ...]]:
        """Takes note that a layer is called; gives its path below the layer that calls it, and the call's order."""
        parent, outer, counts = self._active[-1]
        paths = self._paths[id(layer)]
        path = next((path for path in paths if path.rpartition("/")[0] == parent), paths[0])
        turn, turns = counts[path], self._turns.get(path, [])
        counts[path] += 1
        order = (*outer, turns[turn] if turn < len(turns) else turn)
        self._active.append((path, order, Counter()))
        return path, order


def numbered(calls: Sequence[Call]) -> list[tuple[str, Call]]:
    """The calls with their paths, of a layer that is called more than once with a number, in the order of the code."""
    by_path: dict[str, list[Call]] = {}
    for call in sorted(calls, key=lambda call: call.order):
        by_path.setdefault(call.path, []).append(call)
    numbers = {path: iter(range(len(of_layer))) for path, of_layer in by_path.items()}
    named = []
    for running in calls:
        of_layer, number = by_path[running.path], next(numbers[running.path])
        named.append((f"{running.path}[{number}]" if len(of_layer) > 1 else running.path, of_layer[number]))
    return named


def _turns(layers: Layers) -> dict[str, list[int]]:
    """For each layer that a functional model calls several times: which call in the code runs first, second and so on.

    In the code the calls are numbered from 0.
    """
    turns: dict[str, list[int]] = {}
    for prefix, parent in (("", layers.model), *((f"{path}/", layer) for path, layer in layers.by_path.items())):
        calls = calls_in_running_order(parent)
        often = Counter(id(operation) for operation, _ in calls)
        for operation, number in calls:
            path = f"{prefix}{operation.name}"
            if often[id(operation)] > 1 and layers.by_path.get(path) is operation:
                turns.setdefault(path, []).append(number)
    return turns
