"""What one traced graph is to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.probes.inputs import Inputs, picture_of

if TYPE_CHECKING:
    import keras

    from gradcam_callbacks.explaining.methods import Method


@dataclass(frozen=True, eq=False)
class Request:
    """What one traced graph is to answer: which maps of which model.

    Attributes:
        model: a Keras model.
        method: what makes maps of activations and gradients, see `methods`.
        method_name: what it is called in messages.
        layer: its path or unique name, or several of them; None picks one.
        output: the head of a multi-output model, by name or index.
        grid: (h, w) of the tokens of a transformer; None infers it.
        inputs: what the model will be fed; the number of pictures does not matter.
        picture: the key of the picture among the inputs, None where it is the only one.
        functions: F targets that are functions of the model's outputs.
        is_listing: whether only the layers are asked for.
        name_classes: whether there will be targets that name classes.
        batch: how many pictures the model takes at once where that is fixed; None where any number will do.
        same_noise: whether random layers draw the same numbers in every run.
        at_once: how many masked pictures go through the model at once, by methods that mask.
        keep_gradients: whether activations and gradients are given, too.
    """

    model: keras.Model
    method: Method
    method_name: str
    layer: str | Sequence[str] | None
    output: str | int | None
    grid: tuple[int, int] | None
    inputs: Inputs
    picture: str | int | None
    functions: tuple[Callable[[Any], Any], ...]
    name_classes: bool
    batch: int | None
    same_noise: bool
    is_listing: bool
    at_once: int
    keep_gradients: bool = False

    @property
    def image(self) -> Array:
        """The pictures among the inputs."""
        return picture_of(self.inputs, self.picture)
