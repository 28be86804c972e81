"""What Keras's recurrent layers do to places, which the loop in their graph does not tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from gradcam_callbacks.explaining.calls import Call
from gradcam_callbacks.explaining.places import Axis, Places, Stretch, plain

RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)
"""The layers that are meant."""
_CONVOLVING = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)


def places_of_recurrent(calls: Sequence[Call]) -> Mapping[int, Callable[[Mapping[int, Places]], Places | None]]:
    """For the output of each recurrent layer a function that gives its places from those of other tensors.

    Step t of the output belongs to step t of the input; without sequences, the output belongs to all steps.
    """
    found = {}
    for call in calls:
        layer = call.layer.forward_layer if isinstance(call.layer, keras.layers.Bidirectional) else call.layer
        if isinstance(layer, keras.layers.RNN) and hasattr(call.given, "shape"):
            output = call.output[0] if isinstance(call.output, list | tuple) else call.output
            found[id(output)] = _Recurrent(call, layer, output)
    return found


class _Recurrent:
    """One call of a recurrent layer."""

    def __init__(self, call: Call, layer: Any, output: Any) -> None:
        self._call, self._layer, self._output = call, layer, output

    def __call__(self, places: Mapping[int, Places]) -> Places | None:
        given = places.get(id(self._call.given))
        shape = tuple(self._output.shape)
        if given is None or given.axes is None or len(given.axes) != len(shape) + (not self._layer.return_sequences):
            return None
        batch, steps, *rest = given.axes
        turned = steps.runs_along
        if self._layer.return_sequences and turned is not None and self._layer.go_backwards:
            given = given.with_side(turned, given.sides[turned].mirrored())
        if not self._layer.return_sequences and turned is not None:
            given = given.with_side(turned, replace(given.sides[turned], cells=1))
        begin = (batch, steps) if self._layer.return_sequences else (batch,)
        result = replace(given, axes=begin)
        is_spatial = isinstance(self._layer, _CONVOLVING)
        for axis, size in zip(rest, shape[len(begin) :], strict=True):
            along = axis.runs_along if is_spatial else None
            if along is not None and size is not None:  # a convolution over the places of each step
                result = result.with_side(along, replace(result.sides[along], cells=int(size)))
                axis = Axis((Stretch(int(size), along),))
            elif size is not None:
                axis = plain(int(size))
            result = replace(result, axes=(*(result.axes or ()), axis))
        return result
