"""Which of the layers is explained."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.calls import Call
from gradcam_callbacks.explaining.engines.engine import engine
from gradcam_callbacks.explaining.graph import PASSING, Ways, joins, reached_from
from gradcam_callbacks.explaining.places import Places
from gradcam_callbacks.explaining.tokens import Tokens
from gradcam_callbacks.explaining.views import LayerInfo, Reader, Video, View

Tensor = Any
# Layers whose map repeats that of the layer before them, and shows no more than that.
_REPEATERS = (
    *(
        getattr(keras.layers, f"{kind}{rank}D")
        for kind in ("MaxPooling", "AveragePooling", "ZeroPadding", "Cropping", "UpSampling")
        for rank in (1, 2, 3)
    ),
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Identity,
)
# Operations that multiply with learned weights. Before the first of them every map is the picture itself, only scaled.
_MIXING = frozenset(
    {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        *("MatMul", "BatchMatMulV2", "Einsum", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
    }
)
_JOINS = {
    **{"Add": "Add", "AddV2": "Add", "AddN": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div"},
    **{"Maximum": "Maximum", "Minimum": "Minimum", "ConcatV2": "Concat"},
}
"""Operations that join several ways, and what they are called in a path."""
_RESHAPING = PASSING | {
    *("Reshape", "Squeeze", "ExpandDims", "Transpose", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"),
    *("StridedSlice", "BiasAdd", "Resample"),
}
_REPEATING_OPERATIONS = frozenset({"GetItem", "Reshape", "Transpose", "Squeeze", "ExpandDims", "Swapaxes", "Moveaxis"})
"""Keras's operations that hand on the numbers of the layer before them, by the names of their classes."""
_ADD_CHANNELS = "Pass the pictures with an axis for their one channel: images[..., None]."
_SAY_GRID = "Say the grid's height and width with {argument}."
_MOST_LOOKED_AT = 200
"""From how many operations the ways are followed back at most."""
_MOST_FUSED = 8
"""How many maps that lead to the score side by side are fused at most."""


@dataclass(frozen=True)
class Choice:
    """What is explained.

    Attributes:
        views: of the layers; of several the maps are fused.
        others: that would be picked next, the best first.
        notes: what a user must know of the choice, in whole sentences.
    """

    views: list[View | Video]
    others: list[View] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def named(
    views: Sequence[View],
    wanted: Sequence[tuple[str, int | None]],
    has_gradient: Callable[[Tensor], bool],
) -> Choice:
    """The views of the layers that the user named, in that order. Any layer that has a map and a gradient will do.

    Of a layer that is called several times and of which no call is named, the last one is taken that depends on the
    picture shown; where each call is one frame of a video, all of them are.

    Args:
        views: of all calls of these layers.
        wanted: paths, each with the number of the call; negative numbers count from the last.
        has_gradient: whether the score has a gradient with respect to a tensor.

    Raises:
        GradCAMError: if one was not called, or cannot be explained.
    """
    chosen: list[View | Video] = []
    for path, number in wanted:
        calls = [view for view in views if re.sub(r"\[\d+\]$", "", view.info.path) == path or view.info.path == path]
        video = _video(calls) if number is None else None
        if video is not None:
            chosen.append(video)
            continue
        # The best call comes last: one that lies as the picture does, then one that has a map.
        ranks = [(view.problem is None) + (view.problem is None and view.misplaced is None) for view in calls]
        turn = number if number is not None else max(range(len(calls)), key=lambda call: (ranks[call], call), default=0)
        if not calls and ">" in path:
            joined = ", ".join(f"'{view.info.path}'" for view in views if ">" in view.info.path)
            problem: str | None = f"no ways join so; where some do: {joined or 'nowhere'}"
        elif not calls:
            problem = "the model does not call it when it predicts, so the score does not depend on it"
        elif not -len(calls) <= turn < len(calls):
            problem = f"it has {len(calls)} calls, [0] to [{len(calls) - 1}]; [{turn}] is none of them"
        elif calls[turn].problem is None and not has_gradient(calls[turn].output):
            problem = "the score depends on it only through operations that have no gradient"
        else:
            problem = calls[turn].problem
        if problem is not None:
            refused = f"Layer '{path}' cannot be explained: {problem}."
            if any(view.lacks_grid for view in calls):
                raise GradCAMError(refused, _SAY_GRID, argument="grid")
            if any(view.lacks_channels for view in calls):
                raise GradCAMError(refused, _ADD_CHANNELS)
            raise GradCAMError(refused, argument="layer")
        chosen.append(calls[turn])
    return Choice(chosen, notes=tuple(_of_reading(chosen)))


@dataclass(frozen=True)
class Picker:
    """Picks what is explained where the user named no layer.

    It is the last map that all ways from the picture to the score go through: the output of a layer, or of an operation
    that joins several. Where there is none, the last maps of the ways that lead to the score side by side are fused.

    Left out are single numbers a channel (1x1), layers that only repeat the map before them, the picture itself, the
    score itself, the inside of attention, and what lies otherwise than the picture.

    Attributes:
        views: of all calls of all layers, in the order of the calls.
        calls: with their paths, in the same order.
        reader: reads the outputs of operations.
        places: of the tensors that depend on the picture shown, by their ids.
        picture: the tensor that holds the pictures shown.
        scores: the tensors whose explanation is asked for.
        scored: what they are made of: what the model gives, before a softmax.
        has_gradient: whether the score has a gradient with respect to a tensor.
        without: the paths of layers that are not to be picked.
    """

    views: Sequence[View]
    calls: Sequence[tuple[str, Call]]
    reader: Reader
    places: Mapping[int, Places]
    picture: Tensor
    scores: Sequence[Tensor]
    scored: Sequence[Tensor]
    has_gradient: Callable[[Tensor], bool]
    without: frozenset[str] = frozenset()

    def pick(self) -> Choice:
        """The choice.

        Raises:
            GradCAMError: if there is nothing to explain.
        """
        ends = [tensor.op for tensor in self.scores]
        for is_last_resort in (False, True):
            candidates = self._candidates(is_last_resort=is_last_resort)
            found, is_whole = self._on_ways(candidates, ends, set())
            together = self._side_by_side(found)
            if not together:
                is_whole = False
                loose = [view for view in reversed(self.views) if id(view.output) in candidates and view.frame is None]
                together += [view for view in loose if self.has_gradient(view.output)][:1]
            if together:
                # Frames that are no whole video, and more maps than are fused, have been left out.
                is_whole = is_whole and (isinstance(together[0], Video) or len(together) == len(found))
                break
        else:
            raise self._nothing()
        taken = {view.info.path for view in together}
        others = [
            view for view in reversed(self.views) if id(view.output) in candidates and view.info.path not in taken
        ]
        notes = _of_reading(together)
        if not is_whole:
            beside = ", ".join(f"'{view.info.path}'" for view in others[:3])
            names = " and ".join(f"'{view.info.path}'" for view in together)
            notes.append(
                f"Not all of the score goes through {names}, which {'is' if len(together) == 1 else 'are'} explained"
                + (f"; others that lead there: {beside}." if beside else ".")
            )
        elif isinstance(together[0], View) and len(together) == 1:
            notes += self._of_later(together[0], candidates, ends)
        return Choice(together, others, tuple(notes))

    @cached_property
    def joined_views(self) -> dict[int, View]:
        """The operations in the code of a model that join several ways, as views, by the ids of their outputs."""
        ways = Ways.between([self.picture.op], [tensor.op for tensor in self.scores])
        given = {id(call.output) for _, call in self.calls}
        order = {id(one): number for number, one in enumerate(self.picture.graph.get_operations())}
        inside = self._inside_layers()
        found: dict[int, View] = {}
        often: Counter[str] = Counter()
        for operation in joins(ways, _JOINS):
            output = operation.outputs[0]
            number = order[id(operation)]
            if (
                id(output) in given
                or not engine.has_numbers(output)
                or any(first <= number < last for first, last in inside)
            ):
                continue
            before = [(call.last, path) for path, call in self.calls if call.last <= number]
            path = f"{max(before)[1] if before else ''}>{_JOINS[operation.type]}"
            often[path] += 1
            path += f"#{often[path]}" if often[path] > 1 else ""
            found[id(output)] = self.reader.read(View(LayerInfo(path, _JOINS[operation.type], ()), None, output))
        return found

    def _inside_layers(self) -> list[tuple[int, int]]:
        """For each call in which no other layer is called: its operations, from the first to before the last."""
        spans = sorted({(call.first, call.last) for _, call in self.calls})
        return [
            span
            for span, following in zip(spans, [*spans[1:], None], strict=False)
            if following is None or not (span[0] <= following[0] and following[1] <= span[1])
        ]

    @cached_property
    def _learned(self) -> set[str]:
        """The names of the operations that depend on learned weights."""
        return reached_from(self.scores[0].graph, lambda operation: operation.type in _MIXING)

    def _candidates(self, *, is_last_resort: bool) -> dict[int, View]:
        """What may be explained, by the ids of the outputs; as a last resort also what lost a side of the picture."""
        found = {}
        for view in (*self.joined_views.values(), *self.views):
            reason = self._reason_against(view)
            if view.info.path in self.without:
                continue
            if reason is None or (is_last_resort and reason == self._lost(view)):
                found[id(view.output)] = view
        return found

    def _reason_against(self, view: View) -> str | None:
        """Why a layer is not picked; None where it may be."""
        if view.problem is not None:
            return view.problem
        if set(view.grid) == {1}:
            return "its map has a single place"
        if isinstance(view.layer, _REPEATERS) or view.info.kind in _REPEATING_OPERATIONS:
            return "it only repeats the map of the layer before it"
        if view.output.op.name not in self._learned:
            return "it is the picture itself, before any learned weights"
        if id(view.output) in self._scored:
            return "it is the score itself"
        if view.misplaced is not None and view.frame is None:
            return f"its places {view.misplaced}"
        return self._lost(view)

    def _lost(self, view: View) -> str | None:
        """What a map lacks that may still be explained where there is nothing better."""
        if view.lost:
            return f"along the picture's {view.lost} its places were put together"
        if len(view.grid) == 3 and sorted(view.grid)[1] == 1:
            return "it has places along one side of three only"
        return None

    @cached_property
    def _scored(self) -> set[int]:
        """The ids of the tensors that are the score itself, or hold the same numbers in another shape or size."""
        found: set[int] = set()
        todo = [*self.scores, *self.scored]
        while todo:
            tensor = todo.pop()
            found.add(id(tensor))
            if tensor.op.type in _RESHAPING and tensor.op.inputs:
                todo.append(tensor.op.inputs[0])
        return found

    def _on_ways(self, candidates: Mapping[int, View], ends: Sequence[Any], seen: set[int]) -> tuple[list[View], bool]:
        """The last view that all ways to these operations go through, or those of the ways that they join.

        Args:
            candidates: what may be explained, by the ids of the outputs.
            ends: the operations.
            seen: where to look again is of no use.

        Returns:
            The views, and whether all ways go through one of them.
        """
        ways = Ways.between([self.picture.op], ends)
        cuts = ways.cuts(ends)
        made = {id(view.output.op) for view in candidates.values()}
        places = [number for number, operation in enumerate(ways.operations) if id(operation) in made]
        if not places:
            return [], not ways.operations
        tokens = Tokens(self.places, ways, ends)
        for operation in reversed(cuts):
            view = self._view_of(operation, candidates, ways)
            if view is not None and tokens.matter(view.output) and self.has_gradient(view.output):
                return [self._after(view, candidates, ends, tokens) or view], True
        # They are side by side up to the first operation after the last of them that joins all ways.
        later = {id(operation) for operation in ways.operations[places[-1] :]}
        joined = [
            {id(tensor.op): tensor.op for tensor in ways.inputs[id(operation)]}
            for operation in cuts
            if id(operation) in later
        ]
        parts = next((part for part in joined if len(part) > 1), {id(operation): operation for operation in ends})
        found: dict[str, View] = {}
        is_whole = True
        for part in parts.values():
            if id(part) in seen or len(found) > _MOST_FUSED or len(seen) > _MOST_LOOKED_AT:
                is_whole = is_whole and id(part) in seen
                continue
            seen.add(id(part))
            views, all_of_it = self._on_ways(candidates, [part], seen)
            found |= {view.info.path: view for view in views}
            is_whole = is_whole and all_of_it
        return list(found.values()), is_whole

    def _after(self, view: View, candidates: Mapping[int, View], ends: Sequence[Any], tokens: Tokens) -> View | None:
        """A later view that all ways from the places of a view go through, where some tokens are no places.

        The class token holds what earlier layers have told it, and takes it past the last attention. What the places
        tell it there goes through that attention, or the norm before it.
        """
        if not tokens.are_extra:
            return None
        ways = Ways.between([view.output.op], ends, passes=tokens.after(view.output))
        for operation in reversed(ways.cuts(ends)):
            later = self._view_of(operation, candidates, ways)
            if later is not None and tokens.matter(later.output) and self.has_gradient(later.output):
                return later
        return None

    def _of_later(self, view: View, candidates: Mapping[int, View], ends: Sequence[Any]) -> list[str]:
        """A sentence on maps that come after the one that is explained, side by side, where there are some."""
        ways = Ways.between([view.output.op], ends)
        if Tokens(self.places, ways, ends).are_extra:
            return []
        made = {id(other.output.op): other for other in candidates.values()} | {id(view.output.op): view}
        last: list[View] = []
        leads_to_one: set[int] = set()  # the operations from which a way goes on to a map
        for operation in reversed(ways.operations):
            other = made.get(id(operation))
            if other is not None and other is not view and id(operation) not in leads_to_one:
                last.append(other)
            if id(operation) in leads_to_one or (other is not None and other is not view):
                leads_to_one.update(id(tensor.op) for tensor in ways.inputs[id(operation)])
        if not 1 < len(last) <= _MOST_FUSED:
            return []
        names = ", ".join(f"'{other.info.path}'" for other in reversed(last))
        return [
            f"All of the score goes through layer '{view.info.path}'. Side by side after it are {names}; "
            f"layer=[{names}] fuses these."
        ]

    def _view_of(self, operation: Any, candidates: Mapping[int, View], ways: Ways) -> View | None:
        for output in operation.outputs:
            view = candidates.get(id(output))
            if view is not None and ways.uses_only(output):
                return view
        return None

    def _side_by_side(self, views: Sequence[View]) -> list[View | Video]:
        """Views that are explained together: the frames of one video, or maps over the whole picture."""
        video = _video(views)
        if video is not None:
            return [video]
        whole: list[View | Video] = [view for view in views if view.frame is None]
        return whole if len(whole) <= _MOST_FUSED else []

    def _nothing(self) -> GradCAMError:
        """Says why no layer can be explained."""
        reasons = []
        for view in reversed(self.views):
            reason = self._reason_against(view)
            if reason is not None and reason != "the score does not depend on it":
                reasons.append(f"'{view.info.path}': {reason}")
        problem = (
            "The model has no spatial layer to explain: no layer on the way to the score makes a map (batch, h, w, "
            "channels) larger than 1x1 from learned weights."
        )
        if reasons:
            problem += f" From its end: {'; '.join(reasons[:5])}."
        for view in reversed(self.views):
            if view.lacks_grid:
                return GradCAMError(
                    f"{problem} Layer '{view.info.path}' might have one, but {view.problem}.",
                    _SAY_GRID,
                    argument="grid",
                )
        if any(view.lacks_channels for view in self.views):
            return GradCAMError(problem, _ADD_CHANNELS)
        if any(view.is_inside for view in self.views):
            return GradCAMError(problem, "Have the model call its layers outside of loops and branches of the graph.")
        if any(view.misplaced is not None for view in self.views):
            advice = "Name a layer with {argument} to have its maps all the same; they are then marked as misplaced."
            return GradCAMError(problem, advice, argument="layer")
        return GradCAMError(problem, "Grad-CAM needs a convolutional model, or a transformer whose tokens are places.")


def _of_reading(views: Sequence[View | Video]) -> list[str]:
    """Sentences on what was guessed of the places of views, and on what of them is gone."""
    notes = [view.guess for view in views if view.guess]
    return notes + [
        f"Along the picture's {view.lost} the places of layer '{view.info.path}' were put together, so its map is the "
        "same all along it."
        for view in views
        if view.lost
    ]


def _video(views: Sequence[View]) -> Video | None:
    """The frames of one video as one view: one after the other they cover a whole side. None where they do not."""
    frames = sorted((view for view in views if view.frame is not None), key=lambda view: view.frame or (0, 0.0, 0.0))
    spans = [view.frame for view in frames if view.frame is not None]
    alike = {(span[0], view.grid) for span, view in zip(spans, frames, strict=True)}
    if len(spans) < max(2, len(views)) or len(alike) > 1:
        return None
    ends = [0.0, *(span[2] for span in spans)]
    follows = all(abs(span[1] - end) < 1e-6 for span, end in zip(spans, ends, strict=False))
    return Video(tuple(frames), spans[0][0]) if follows and abs(ends[-1] - 1) < 1e-6 else None
