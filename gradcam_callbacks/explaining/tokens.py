"""Whether the places among the tokens of a transformer still matter to the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcam_callbacks.explaining.graph import Ways
from gradcam_callbacks.explaining.places import Axis, Places

Tensor = Any
_SELECTING = frozenset({"StridedSlice", "Slice", "GatherV2", "Split", "SplitV", "Unpack"})


class Tokens:
    """Follows through a graph, from the score back, whether it is the places that matter or only the class token.

    After the last attention a head may take the class token alone. The layers there have a gradient, but not at the
    places.
    """

    def __init__(self, places: Mapping[int, Places], ways: Ways, ends: Sequence[Any]) -> None:
        self._places, self._ways = places, ways
        self._matter: dict[int, bool] = {}
        self.are_extra = False
        """Whether any tensor on the ways has tokens that are no places."""
        for operation in reversed(ways.operations):
            for tensor in operation.outputs:
                self.are_extra = self.are_extra or self._extra(tensor) is not None
                if self._tokens(tensor) is not None:
                    takers = [taker for taker in tensor.consumers() if id(taker) in ways.inputs]
                    is_end = any(operation is end for end in ends)
                    self._matter[id(tensor)] = is_end or any(self._passes(tensor, taker) for taker in takers)

    def matter(self, tensor: Tensor) -> bool:
        """Whether the score depends on the places of a tensor."""
        return self._matter.get(id(tensor), True)

    def after(self, start: Tensor) -> Callable[[Tensor, Any], bool]:
        """Whether what the places of a tensor say goes on from any tensor into an operation that takes it.

        It goes as places as long as these matter, and as the class token from the attention on that tells it to it.
        """
        places, told = {id(start)}, set[int]()
        for operation in self._ways.operations:
            taken = self._ways.inputs[id(operation)]
            from_places = [tensor for tensor in taken if id(tensor) in places and self._goes(tensor, operation)]
            is_told = any(id(tensor) in told for tensor in taken)
            for output in operation.outputs:
                if id(output) == id(start):
                    continue
                if from_places and self.matter(output):
                    places.add(id(output))
                if is_told or (from_places and self._extra(output) is not None and not self.matter(output)):
                    told.add(id(output))
        return lambda tensor, operation: id(tensor) in told or (id(tensor) in places and self._goes(tensor, operation))

    def _goes(self, tensor: Tensor, operation: Any) -> bool:
        """Whether the places of a tensor matter to the score through an operation that takes it."""
        return self.matter(tensor) and (self._extra(tensor) is None or self._passes(tensor, operation))

    def _extra(self, tensor: Tensor) -> Axis | None:
        """The axis of tokens of which some are no places."""
        known = self._places.get(id(tensor))
        return next((axis for axis in (known.axes if known and known.axes else ()) if axis.has_extra), None)

    def _tokens(self, tensor: Tensor) -> Axis | None:
        """The axis of tokens of which some are no places, or else the first that has places."""
        known = self._places.get(id(tensor))
        placed = (axis for axis in (known.axes if known and known.axes else ()) if axis.sides)
        return self._extra(tensor) or next(placed, None)

    def _passes(self, tensor: Tensor, operation: Any) -> bool:
        """Whether the places of a tensor go into what matters of an operation's result."""
        axis = self._tokens(tensor)
        for output in operation.outputs:
            known = self._places.get(id(output))
            if known is None:  # such as a spare output that nobody takes
                continue
            if known.axes is None:
                return True
            if self._extra(output) is None and not any(one.sides for one in known.axes):
                if operation.type not in _SELECTING or self._extra(tensor) is None:
                    return True  # a sum over the tokens, or one of the places
            elif self._is_contracted(tensor, operation, axis) or self.matter(output):
                return True
        return False

    def _is_contracted(self, tensor: Tensor, operation: Any, axis: Axis | None) -> bool:
        """Whether a product sums over a tensor's tokens, or makes them the columns of an attention."""
        takes = [position for position, given in enumerate(operation.inputs) if given is tensor]
        if operation.type == "Einsum":
            given, result = operation.get_attr("equation").decode().replace(" ", "").split("->")
            for position in takes:
                letter = given.split(",")[position][self._number(tensor, axis)]
                rows = self._number(operation.outputs[0], self._tokens(operation.outputs[0]))
                if letter not in result or result.index(letter) != rows:
                    return True
            return False
        if operation.type.startswith("BatchMatMul"):
            if 1 in takes:
                return True
            last = self._number(tensor, axis) - len(tensor.shape)
            return last == (-2 if operation.get_attr("adj_x") else -1)
        return operation.type == "MatMul" and 1 in takes

    def _number(self, tensor: Tensor, axis: Axis | None) -> int:
        known = self._places[id(tensor)]
        return next(number for number, one in enumerate(known.axes or ()) if one is axis or one == axis)
