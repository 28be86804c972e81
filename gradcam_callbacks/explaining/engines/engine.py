"""The seam between what is explained and the engine that Keras runs on.

The rules that choose a layer and read a map walk the operations of one forward pass. They know them as TensorFlow
names them: an operation has a `type` ("Conv2D", "Reshape", "Einsum" …), a `name`, `inputs`, `outputs`, a `graph` and
`get_attr`; a tensor has an `op`, a `shape`, a `dtype`, a `graph` and `consumers()`; a graph has `get_operations()`, in
the order in which they run. TensorFlow's graphs are that as they are. `jax_graph` makes the same of what JAX traced.

All else that differs from engine to engine stands in `tensorflow_engine` and `jax_engine`, which are modules of the
form of `Engine`. Numbers are computed with `keras.ops`.

A third one, for PyTorch, would need: a trace of the forward pass with shapes that does not run Python again
(`torch.export` or `torch.fx.experimental.proxy_tensor.make_fx` on fake tensors, whose ATen operations map onto the
names above as the primitives of JAX do), forward hooks in place of the markers, and `torch.func.vjp` with
`torch.func.vmap` over a replay of that trace for the gradients. None of it was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import keras

from gradcam_callbacks.probes.inputs import Inputs

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.calls import Call

Tensor = Any
"""Of a graph: it stands for numbers, and has none."""
Values = Any
"""Numbers that `keras.ops` computes with, while a run is traced."""
Plan = Any
"""What was read of a graph: a structure that holds tensors of it."""


@dataclass(frozen=True)
class Forward:
    """One forward pass of a model, as operations that can be read.

    Attributes:
        graph: all operations.
        fed: the tensors that the model is fed, in their structure.
        outputs: what the model gives, in its structure.
        calls: of the layers that were watched.
        batch: how many pictures there are where that is known; None where there may be any number.
        applied: gives what a function written with `keras.ops` makes of a structure of tensors, as tensors.
    """

    graph: Any
    fed: Inputs
    outputs: Any
    calls: Sequence[Call]
    batch: int | None
    applied: Callable[[Callable[[Any], Any], Any], Any]


class Marker(Protocol):
    """Takes note of where the calls of layers are in the graph, while they are traced."""

    def position(self) -> Any:
        """How many operations there are by now."""

    def noted(self, result: Any) -> Any:
        """What stands for what a layer gets or gives in its `Call`."""


class Run(Protocol):
    """A forward pass with numbers, while it is traced."""

    def values(self, tensors: Any) -> Values:
        """The numbers of a structure of tensors of the graph that was read."""

    def differentiated(
        self, scored: Sequence[Tensor], sources: Sequence[Tensor], others: Any = ()
    ) -> tuple[list[Values], Values, Callable[[Sequence[Values]], list[Values]]]:
        """Numbers, and gradients by tensors, of the same forward pass.

        Args:
            scored: what is differentiated.
            sources: by what.
            others: a structure of tensors.

        Returns:
            The numbers of `scored` and of `others`, and a function that gives the gradients by the sources, zeros
            where nothing connects them, from those by `scored`.
        """

    def rerun(self, starts: Sequence[Tensor], ends: Sequence[Tensor]) -> Callable[[Sequence[Values]], list[Values]]:
        """What runs the operations that lie between tensors again.

        Args:
            starts: tensors.
            ends: tensors.

        Returns:
            A function that gives the numbers of the ends from other numbers of the starts. What the ends take from
            beside these is what it was.
        """

    def again(self, fed: Inputs, read: Callable[[Forward], Any]) -> Values:
        """The numbers of the tensors that `read` finds in another forward pass, of these inputs.

        A pass begins with the state that the model has, whatever passes before it changed.
        """


class Engine(Protocol):
    """What an engine's module gives."""

    WRONG_SIZE: tuple[type[Exception], ...]
    """What a model raises that takes another number of pictures."""

    COMPILES_EACH_SIZE: bool
    """Whether what is traced is compiled anew for each number of pictures and of targets."""

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is a tensor of a graph."""

    def static_value(self, tensor: Tensor) -> Any:
        """The numbers of a tensor that are the same in every run; None where they are not, or not known to be."""

    def body_of(self, operation: Any, attribute: str = "f") -> Any:
        """The graph of the function that an operation calls; None where it is not to be had."""

    def has_numbers(self, tensor: Tensor) -> bool:
        """Whether the numbers of a tensor, and gradients by it, can be had; those of all that layers give can."""

    def has_gradient(self, scores: Sequence[Tensor], tensor: Tensor) -> bool:
        """Whether any of the scores has a gradient by a tensor."""

    def gradient(self, function: Callable[[Any], Values], values: Any) -> Any:
        """d(sum of what a function gives)/d(values), in the structure of these; zeros where nothing connects them."""

    def one_by_one(self, function: Callable[[Any], Any], values: Any, like: Any) -> Any:
        """What a function gives for each entry of the first axis, never two at a time, for the memory.

        Args:
            function: of one entry.
            values: a structure of arrays.
            like: the structure, shapes and dtypes of what it gives, as `keras.KerasTensor`.
        """

    def traced(
        self,
        model: keras.Model,
        read: Callable[[Forward], Plan],
        compute: Callable[..., Any],
        inputs: Inputs,
        *others: keras.KerasTensor,
        watching: Callable[[Marker], AbstractContextManager[list[Call]]] | None = None,
        batch: int | None = None,
        same_noise: bool = False,
    ) -> Callable[..., Any]:
        """A compiled function that leaves the model as it was, while it is traced and whenever it is run.

        Args:
            model: a built model. It is called for a prediction.
            read: gets the `Forward`, and gives a plan. It may be asked again, for another number of pictures.
            compute: (run, plan, *others) -> a structure of arrays, of which the first axis is the pictures where there
                is but one.
            inputs: what the model will be fed; the number of pictures does not matter.
            others: the shapes and dtypes of what else is computed with; None first where that is the pictures.
            watching: has the calls of layers noted meanwhile.
            batch: how many pictures the model takes at once where that is fixed.
            same_noise: whether random layers draw the same numbers in every run.

        Returns:
            A function (inputs, *others) -> a structure of NumPy arrays.
        """

    def is_chief(self) -> bool:
        """Whether this process records: it trains alone, or is the first of those that train together."""

    def restore(self, model: keras.Model, prefix: str) -> None:
        """Loads the weights of a checkpoint of `tf.train.Checkpoint`; see `weights`."""


engine: Engine = cast("Engine", import_module(f"gradcam_callbacks.explaining.engines.{keras.config.backend()}_engine"))
"""That on which Keras runs."""

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.engines import jax_engine, tensorflow_engine

    _tensorflow: Engine = tensorflow_engine
    _jax: Engine = jax_engine
