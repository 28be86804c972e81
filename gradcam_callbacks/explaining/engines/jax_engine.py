"""JAX as an engine: what `engine.Engine` says, with the jaxpr of a forward pass that leaves all variables alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import keras
import numpy as np
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.engines.jax_graph import Graph, Tensor
from gradcam_callbacks.explaining.engines.jax_primitives import MARK, translated
from gradcam_callbacks.explaining.engines.tracing import left_alone
from gradcam_callbacks.explaining.feeding import called, filled
from gradcam_callbacks.explaining.graph import WITHOUT_DATA
from gradcam_callbacks.explaining.keras_internals import has_no_value, seed_states
from gradcam_callbacks.explaining.places import PICTURES
from gradcam_callbacks.probes.inputs import Inputs

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.calls import Call
    from gradcam_callbacks.explaining.engines.engine import Forward, Marker, Plan, Values

_Shape: Any = jax.ShapeDtypeStruct
WRONG_SIZE = (TypeError, ValueError)
COMPILES_EACH_SIZE = True
_WITHOUT_GRADIENT = WITHOUT_DATA | {
    *("StopGradient", "Sign", "Floor", "Ceil", "Round", "Jax:pure_callback", "Jax:io_callback"),
}


def is_tensor(value: Any) -> bool:
    """See `Engine`."""
    return isinstance(value, Tensor)


def static_value(tensor: Tensor) -> Any:
    """See `Engine`."""
    return tensor.static


def body_of(operation: Any, attribute: str = "f") -> Any:
    """See `Engine`. Functions are inlined, so there is none."""
    return None


def has_numbers(tensor: Tensor) -> bool:
    """See `Engine`. Of a function with a gradient of its own only the results have."""
    return tensor.graph.computes(tensor)


def has_gradient(scores: Sequence[Tensor], tensor: Tensor) -> bool:
    """See `Engine`."""
    todo = [score for score in scores if score.dtype.is_floating]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is tensor:
            return True
        if id(one) in seen or one.op.type in _WITHOUT_GRADIENT:
            continue
        seen.add(id(one))
        todo += [given for given in one.op.inputs if given.dtype.is_floating]
    return False


def gradient(function: Callable[[Any], Values], values: Any) -> Any:
    """See `Engine`."""
    return jax.grad(lambda given: jnp.sum(function(given)))(values)


def one_by_one(function: Callable[[Any], Any], values: Any, like: Any) -> Any:
    """See `Engine`."""
    return jax.lax.map(function, values)


def is_chief() -> bool:
    """See `Engine`."""
    return jax.process_index() == 0


def restore(model: keras.Model, prefix: str) -> None:
    """See `Engine`.

    Raises:
        GradCAMError: as these checkpoints know no variables but TensorFlow's.
    """
    raise GradCAMError(
        f"'{prefix}' is a checkpoint of TensorFlow's own, and Keras runs on JAX here.",
        "Read it with KERAS_BACKEND=tensorflow, or save the model as a .keras file.",
    )


def traced(
    model: keras.Model,
    read: Callable[[Forward], Plan],
    compute: Callable[..., Any],
    inputs: Inputs,
    *others: keras.KerasTensor,
    watching: Callable[[Marker], AbstractContextManager[list[Call]]] | None = None,
    batch: int | None = None,
    same_noise: bool = False,
) -> Any:
    """See `Engine`. What is compiled is for one number of pictures, and is made again for another."""
    return _Traced(model, read, compute, inputs, others, watching, batch, same_noise)


class _Scope(keras.StatelessScope):  # type: ignore[misc]
    """Keeps what is written to variables from them, and takes note of those that are read without being given."""

    def __init__(self, given: Sequence[tuple[Any, Any]]) -> None:
        super().__init__(given)
        self.others: dict[int, Any] = {}

    def get_current_value(self, variable: Any) -> Any:
        value = super().get_current_value(variable)
        if value is None:
            self.others[id(variable)] = variable
        return value


class _Marker:
    """Marks tensors by a name that the jaxpr keeps: see `engine.Marker`.

    The model goes on with its own tensors, so that what Keras has written on them stays.
    """

    def __init__(self) -> None:
        self._count = 0

    def position(self) -> _Mark:
        return self._marked(np.float32(0))

    def noted(self, result: Any) -> Any:
        return keras.tree.map_structure(lambda one: self._marked(one) if keras.ops.is_tensor(one) else one, result)

    def _marked(self, value: Any) -> _Mark:
        checkpoint_name(value, f"{MARK}{self._count}")  # type: ignore[no-untyped-call]
        self._count += 1
        return _Mark(self._count - 1)


_HERE = object()
"""Stands for a tensor in a structure."""


class _Mark:
    """Stands for a tensor, or a position, until the jaxpr is there."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Pass:
    """The graph of one forward pass, for one number of pictures.

    Attributes:
        graph: its inputs are the variables and then what is fed.
        forward: what rules read of it.
        others: the variables that it reads though they are not among those that are given.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[Any],
        fed: Any,
        watching: Callable[[Marker], AbstractContextManager[list[Call]]] | None,
        batch: int | None,
        like: Graph | None = None,
    ) -> None:
        """Traces the model.

        Args:
            model: a built model.
            variables: whose values are given.
            fed: the shapes and dtypes of what it is fed.
            watching: see `Engine.traced`.
            batch: see `Forward`.
            like: the graph for another number of pictures.
        """
        from gradcam_callbacks.explaining.engines.engine import Forward

        others, structures, noted = [], [], []  # no tensors of the trace, which is over by the time they are read

        def call(state: Any, fed: Any) -> Any:
            scope = _Scope(list(zip(variables, state, strict=True)))
            others.append(scope.others)
            watched = nullcontext([]) if watching is None else watching(_Marker())
            with scope, watched as calls:
                outputs = called(model, fed)
            noted.append(calls)
            structures.append(keras.tree.map_structure(lambda one: _HERE if keras.ops.is_tensor(one) else one, outputs))
            return [jnp.asarray(one) for one in keras.tree.flatten(outputs) if keras.ops.is_tensor(one)]

        state = [_Shape(variable.shape, variable.value.dtype) for variable in variables]
        # A layer may make its weights only now. The outer scope has Keras give them numbers after the trace, not in it.
        with left_alone(model), keras.StatelessScope():
            closed = jax.make_jaxpr(call)(state, fed)
        self.others = list(others[-1].values())
        self.graph = Graph(like)
        inputs = [self.graph.placeholder(variable.aval) for variable in closed.jaxpr.invars]
        results = iter(translated(self.graph, closed, inputs))
        outputs = keras.tree.map_structure(lambda one: next(results) if one is _HERE else one, structures[-1])
        flat = jax.tree.structure(fed)
        self.length = len(self.graph.get_operations())
        self.made: list[tuple[Callable[[Any], Any], Any]] = []
        self.forward = Forward(
            self.graph,
            jax.tree.unflatten(flat, inputs[len(variables) :]),
            outputs,
            [found for found in map(self._found, noted[-1]) if found is not None],
            batch,
            self.applied,
        )

    def _found(self, call: Call) -> Call | None:
        """A call with its tensors in place of the marks; None where its trace was given up."""
        marks, positions = self.graph.marks, self.graph.positions

        def tensor(one: Any) -> Any:
            return marks[one.number] if isinstance(one, _Mark) else one

        try:
            given, output = (keras.tree.map_structure(tensor, side) for side in (call.given, call.output))
            first, last = (positions[mark.number] for mark in (call.first, call.last))  # type: ignore[attr-defined]
        except KeyError:
            return None
        return replace(call, given=given, output=output, first=first, last=last)

    def applied(self, function: Callable[[Any], Any], given: Any) -> Any:
        """See `Forward`."""
        flat = keras.tree.flatten(given)
        tensors = [one for one in flat if isinstance(one, Tensor)]
        structures = []

        def of_tensors(*numbers: Any) -> Any:
            rest = iter(numbers)
            whole = [next(rest) if isinstance(one, Tensor) else one for one in flat]
            structures.append(function(keras.tree.pack_sequence_as(given, whole)))
            return keras.tree.flatten(structures[-1])

        closed = jax.make_jaxpr(of_tensors)(*(_Shape(one.sizes, one.dtype.as_numpy_dtype) for one in tensors))
        self.made.append((function, given))
        return keras.tree.pack_sequence_as(structures[-1], translated(self.graph, closed, tensors))

    def moved_to(self, other: _Pass) -> bool:
        """Adds to the graph of another pass what was applied to this one; False where it has other operations."""
        if self.length != other.length or not other.graph.begins_like(self.graph):
            return False
        for function, given in self.made:
            other.applied(function, keras.tree.map_structure(lambda one: self.there(one, other), given))
        return True

    def there(self, tensor: Any, other: _Pass) -> Any:
        """The tensor of another pass that stands where one of this stands; anything else as it is."""
        return self.graph.counterpart(tensor, other.graph) if isinstance(tensor, Tensor) else tensor


class _OneIsOtherwiseError(Exception):
    """With one picture other operations run than with several, as nothing needs to be broadcast then."""


class _Traced:
    """A forward pass that is read once, and compiled for each number of pictures.

    One picture goes through it twice where otherwise other operations would run, of which nothing was read.
    """

    def __init__(
        self,
        model: keras.Model,
        read: Callable[[Forward], Plan],
        compute: Callable[..., Any],
        inputs: Inputs,
        others: Sequence[keras.KerasTensor],
        watching: Callable[[Marker], AbstractContextManager[list[Call]]] | None,
        batch: int | None,
        same_noise: bool,
    ) -> None:
        self._model, self._read, self._compute, self._watching = model, read, compute, watching
        self._of_each = [other.shape[0] is None for other in others]
        self._takes_one = True
        _have_values(model, model.variables)
        self._variables = list({id(one): one for one in (*model.variables, *seed_states(model))}.values())
        self._noise: dict[int, Any] = {}
        if same_noise:
            for number, seed in enumerate(seed_states(model)):
                self._noise[id(seed)] = np.asarray([number, 0], seed.value.dtype)
        shapes = jax.tree.map(
            lambda array: _Shape((batch or PICTURES, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype)),
            inputs,
        )
        self._first = self._pass(shapes, batch)
        if self._first.others:  # such as variables that a model reads, but does not hold
            self._variables += self._first.others
            self._first = self._pass(shapes, batch)
        self._plan = read(self._first.forward)
        self._compiled = jax.jit(self._of_numbers)

    def _pass(self, fed: Any, batch: int | None, like: Graph | None = None) -> _Pass:
        return _Pass(self._model, self._variables, fed, self._watching, batch, like)

    def __call__(self, inputs: Inputs, *others: Any) -> Any:
        """Runs it.

        Raises:
            GradCAMError: if the model's variables are with a training that is under way, and that is not its own, or
                parts of them in other processes.
        """
        _have_values(self._model, self._variables)
        state = [self._noise.get(id(variable), _of_this_process(variable)) for variable in self._variables]
        is_one = len(jax.tree.leaves(inputs)[0]) == 1
        if self._takes_one or not is_one:
            try:
                return keras.tree.map_structure(np.asarray, self._compiled(state, inputs, *others))
            except _OneIsOtherwiseError:
                self._takes_one = False
        both = (
            filled(inputs, 2),
            *(filled(one, 2) if each else one for one, each in zip(others, self._of_each, strict=True)),
        )
        return keras.tree.map_structure(lambda array: np.asarray(array)[:1], self._compiled(state, *both))

    def _of_numbers(self, state: Any, fed: Any, *others: Any) -> Any:
        """What is compiled."""
        count = jax.tree.leaves(fed)[0].shape[0]
        here = self._pass(_shapes(fed), count, self._first.graph)
        plan, source = self._plan, self._first
        if not self._first.moved_to(here):
            if count == 1:
                raise _OneIsOtherwiseError
            plan, source = self._read(here.forward), here
        return self._compute(_Run(self, source, here, [*state, *jax.tree.leaves(fed)], state), plan, *others)


def _of_this_process(variable: Any) -> Any:
    """The value of a variable, of which each of several processes that train together has a copy.

    Only one of them explains. What it computes with copies of its own does not wait for the others.

    Raises:
        GradCAMError: if parts of it are in other processes.
    """
    value = variable.value
    if value.is_fully_addressable:
        return value
    if not value.is_fully_replicated:
        raise GradCAMError(
            f"Parts of the variable '{variable.path}' are in other processes, and one process explains alone.",
            "Spread the model over the devices of one process, or record another time, from saved checkpoints.",
        )
    return value.addressable_data(0)


def _have_values(model: keras.Model, variables: Sequence[Any]) -> None:
    """Has variables hold their values: within an epoch of `fit` Keras keeps them in the state of the training alone."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    if any(map(has_no_value, variables)):
        raise GradCAMError(
            f"The variables of model '{model.name}' have no values: another model that holds it is being trained, and "
            "has taken them until the epoch ends.",
            "Explain it at the end of an epoch, or call jax_state_sync() of the model that is trained first.",
        )


class _Run:
    """See `engine.Run`."""

    def __init__(self, traced: _Traced, source: _Pass, here: _Pass, fed: Sequence[Any], state: Any) -> None:
        self._traced, self._source, self._here, self._fed, self._state = traced, source, here, fed, state

    def _there(self, tensors: Any) -> Any:
        if self._source is self._here:
            return tensors
        return keras.tree.map_structure(lambda one: self._source.there(one, self._here), tensors)

    def values(self, tensors: Any) -> Any:
        return _numbers_of(self._here.graph, self._there(tensors), self._fed)

    def differentiated(self, scored: Sequence[Tensor], sources: Sequence[Tensor], others: Any = ()) -> Any:
        scored, sources, others = self._there(list(scored)), self._there(list(sources)), self._there(others)

        def after(moved: Sequence[Any]) -> Any:
            added = {id(tensor): one for tensor, one in zip(different, moved, strict=True)}
            found = _numbers_of(self._here.graph, (scored, others), self._fed, added)
            return list(found[0]), found[1]

        different = list({id(tensor): tensor for tensor in sources}.values())  # several layers may share some
        nothing = [jnp.zeros(tensor.sizes, tensor.dtype.as_numpy_dtype) for tensor in different]
        numbers, pull, rest = jax.vjp(after, nothing, has_aux=True)

        def gradients(seeds: Sequence[Values]) -> list[Values]:
            found = dict(zip(map(id, different), pull(list(seeds))[0], strict=True))
            return [found[id(tensor)] for tensor in sources]

        return numbers, rest, gradients

    def rerun(self, starts: Sequence[Tensor], ends: Sequence[Tensor]) -> Any:
        starts, ends = self._there(list(starts)), self._there(list(ends))
        graph = self._here.graph
        beside = graph.beside(starts, ends)
        known = dict(zip(map(id, beside), graph.computed(beside, self._fed), strict=True))

        def of(values: Sequence[Values]) -> list[Values]:
            return graph.computed(ends, self._fed, known=known | dict(zip(map(id, starts), values, strict=True)))

        return of

    def again(self, fed: Inputs, read: Callable[[Forward], Any]) -> Any:
        another = _Pass(self._traced._model, self._traced._variables, _shapes(fed), None, None)
        return _numbers_of(another.graph, read(another.forward), [*self._state, *jax.tree.leaves(fed)])


def _numbers_of(graph: Graph, tensors: Any, fed: Sequence[Any], added: Any = None) -> Any:
    """The numbers of a structure of tensors, in that structure."""
    flat = keras.tree.flatten(tensors)
    numbers = iter(graph.computed([one for one in flat if isinstance(one, Tensor)], fed, moved=added or {}))
    return keras.tree.pack_sequence_as(tensors, [next(numbers) if isinstance(one, Tensor) else one for one in flat])


def _shapes(arrays: Any) -> Any:
    return jax.tree.map(lambda array: _Shape(array.shape, array.dtype), arrays)
