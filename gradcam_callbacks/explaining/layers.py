"""The layers of a model by their paths."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.keras_internals import children

# What is inside of these are queries, keys and values of heads, which are no maps.
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


class Layers:
    """The layers and operations of a model, as they are when this is made.

    A layer that two parts of the model share has a path in each. Of several children of the same name the paths end in
    "#1", "#2" and so on.

    Attributes:
        model: the model.
        by_path: every layer and operation below the model, in the order of the model.
        in_attention: the paths of those inside an attention layer.
        channels_first: whether the model's pictures have their channels before their places.
    """

    def __init__(self, model: keras.Model) -> None:
        walked = list(_walk(model))
        self.model = model
        self.by_path: dict[str, Any] = {path: layer for path, layer, _ in walked}
        self.in_attention = {path for path, _, is_inside in walked if is_inside}
        formats = [layer.data_format for _, layer, _ in walked if getattr(layer, "data_format", None)]
        self.channels_first = (formats or [keras.config.image_data_format()])[0] == "channels_first"

    def find(self, name: str) -> tuple[str, int | None]:
        """The path of the layer that a user named by its path or by its own name, and which of its calls is meant.

        The call is None where the user did not say.

        Raises:
            GradCAMError: if there is none, or more than one.
        """
        call: int | None = None
        if name not in self.by_path and (numbered := re.fullmatch(r"(.+)\[(-?\d+)\]", name)):
            name, call = numbered[1], int(numbered[2])
        if name in self.by_path:
            return name, call
        named = [path for path in self.by_path if name in _names(path)]
        if len(named) == 1:
            return named[0], call
        if named:
            paths = ", ".join(map(repr, named))
            raise GradCAMError(
                f"{len(named)} layers are named '{name}'.", f"Name one by its path: {paths}.", argument="layer"
            )
        own_names = {path.rpartition("/")[2] for path in self.by_path}
        close = difflib.get_close_matches(name, {*self.by_path, *own_names}, n=3)
        hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
        raise GradCAMError(
            f"No layer '{name}'.{hint} The model's layers: {_some(list(self.by_path))}.", argument="layer"
        )

    def place(self, path: str) -> str:
        """Where a layer stands in the model, whatever it is called: "Functional 1 of 1 > Conv2D 2 of 5".

        Each part is the class of a layer and its number among the layers of that class that stand beside it. What a
        path says beyond a layer, such as the number of a call, stays as it is.

        Args:
            path: of the layer, as `LayerInfo` has it.
        """
        found, start = [], 0
        for end in [*(match.start() for match in re.finditer(r"[/\[>]", path)), len(path)]:
            layer = self.by_path.get(path[:end])
            if layer is None:
                continue
            parent = path[:end].rpartition("/")[0]
            beside = [
                other
                for name, other in self.by_path.items()
                if type(other) is type(layer) and name.rpartition("/")[0] == parent
            ]
            number = next(n for n, other in enumerate(beside, 1) if other is layer)
            found.append(f"{type(layer).__name__} {number} of {len(beside)}")
            start = end
        return " > ".join(found) + path[start:]


def weights_by_layer(model: keras.Model) -> dict[str, list[Any]]:
    """The weights of a model by the path of the layer that holds them, in the order of the model.

    A layer's own weights come after those of the layers inside it; shared ones are listed once.
    """
    found: dict[str, list[Any]] = {}
    seen: set[int] = set()
    for path, layer, _ in [*_walk(model, children_first=True), (model.name, model, False)]:
        own = [weight for weight in getattr(layer, "weights", ()) if id(weight) not in seen]
        seen.update(map(id, own))
        if own:
            found.setdefault(path, []).extend(own)
    return found


def _walk(
    parent: Any, prefix: str = "", above: tuple[int, ...] = (), inside: bool = False, *, children_first: bool = False
) -> Iterator[tuple[str, Any, bool]]:
    """Every layer and operation below another, with its path, and whether it is inside an attention layer."""
    above = (*above, id(parent))
    once = {id(child): child for child in children(parent) if not isinstance(child, keras.layers.InputLayer)}
    often = Counter(child.name for child in once.values())
    numbers: Counter[str] = Counter()
    for child in once.values():
        if id(child) in above:
            continue
        numbers[child.name] += 1
        path = f"{prefix}{child.name}" + f"#{numbers[child.name]}" * (often[child.name] > 1)
        if not children_first:
            yield path, child, inside
        if isinstance(child, keras.layers.Layer):
            is_attention = isinstance(child, _ATTENTION)
            yield from _walk(child, f"{path}/", above, inside or is_attention, children_first=children_first)
        if children_first:
            yield path, child, inside


def _names(path: str) -> tuple[str, str]:
    """A layer's own name: with the number that its path may have, and without."""
    last = path.rpartition("/")[2]
    return last, re.sub(r"#\d+$", "", last)


def _some(names: Sequence[str], limit: int = 12) -> str:
    """The last names of a list: the layers that people explain stand near the end of a model."""
    listed = ", ".join(names[-limit:])
    return listed if len(names) <= limit else f"… ({len(names) - limit} more), {listed}"
