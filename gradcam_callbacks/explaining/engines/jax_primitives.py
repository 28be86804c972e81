"""What JAX traced, as the operations that the rules know: see `engine`.

A jaxpr is a list of equations of primitives. Each becomes one operation, or a few, of the names and attributes that
TensorFlow has; one that has no such name keeps its own, which no rule knows. Functions that are called are inlined,
except for loops. Some forms that `jax.numpy` writes out are recognised: a softmax, a mean, a resizing.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.explaining.engines.jax_graph import MOST_FOLDED, DType, Graph, Step, Tensor
from gradcam_callbacks.explaining.engines.jax_internals import Literal, bound, inner_of, is_effectful
from gradcam_callbacks.explaining.places import PICTURES

MARK = "gradcam:"
"""What the names of markers begin with."""

_SAME_NAME = {
    "add": "AddV2",
    "add_any": "AddV2",
    "sub": "Sub",
    "mul": "Mul",
    "div": "RealDiv",
    "rem": "FloorMod",
    "max": "Maximum",
    "min": "Minimum",
    "pow": "Pow",
    "atan2": "Atan2",
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "exp": "Exp",
    "exp2": "Exp",
    "expm1": "Expm1",
    "log": "Log",
    "log1p": "Log1p",
    "sqrt": "Sqrt",
    "rsqrt": "Rsqrt",
    "cbrt": "Sqrt",
    "square": "Square",
    "integer_pow": "Square",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "erf": "Erf",
    "erfc": "Erfc",
    "erf_inv": "Erfinv",
    "logistic": "Sigmoid",
    "is_finite": "IsFinite",
    "not": "LogicalNot",
    "and": "LogicalAnd",
    "or": "LogicalOr",
    "eq": "Equal",
    "ne": "NotEqual",
    "lt": "Less",
    "le": "LessEqual",
    "gt": "Greater",
    "ge": "GreaterEqual",
    "stop_gradient": "StopGradient",
    "copy": "Identity",
    "copy_p": "Identity",
    "reduce_precision": "Identity",
    "optimization_barrier": "IdentityN",
    "real": "Real",
    "imag": "Imag",
    "complex": "Complex",
    "conj": "Conj",
    "random_bits": "RandomUniform",
    "scan": "While",
    "while": "While",
}
"""Primitives that are one operation with the same inputs."""
_WHOLE = {"relu": "Relu", "relu6": "Relu6", "elu": "Elu", "selu": "Selu", "softplus": "Softplus"}
"""Functions of `jax.nn` with a gradient of their own, or under `jax.jit`, that are one operation of their first input.

They are told by their names, and by giving what has the shape of what they get.
"""
_REDUCING = {
    "reduce_sum": "Sum",
    "reduce_max": "Max",
    "reduce_min": "Min",
    "reduce_prod": "Prod",
    "reduce_and": "All",
    "reduce_or": "Any",
}
_CALLING = frozenset({"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_lin"})
_OWN_GRADIENT = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})


def translated(graph: Graph, closed: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Adds the operations of a closed jaxpr to a graph.

    Args:
        graph: that grows.
        closed: what JAX traced.
        inputs: the tensors that it is called with.

    Returns:
        The tensors of its results.
    """
    return _Translator(graph).of(closed.jaxpr, closed.consts, inputs, graph.steps)


class _Translator:
    """Adds the operations of jaxprs to a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def of(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Tensor], steps: list[Step] | None) -> list[Tensor]:
        """Adds a jaxpr's operations; gives its results.

        Args:
            jaxpr: what JAX traced.
            consts: the numbers, or tensors, of its constants.
            inputs: of it.
            steps: takes its equations; None where they are computed otherwise.
        """
        graph = self._graph
        known: dict[Any, Tensor] = {}
        for variable, const in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = const if isinstance(const, Tensor) else graph.constant(const)
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Tensor:
            return graph.constant(atom.val, atom.aval) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            outputs = self._after(equation, given, steps)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _after(self, equation: Any, given: Sequence[Tensor], steps: list[Step] | None) -> Sequence[Tensor]:
        """What an equation gives."""
        name, params = equation.primitive.name, equation.params
        if name == "name":
            self._mark(params["name"], given)
            return given
        if name in _CALLING:
            inner, consts = inner_of(equation)
            whole = self._whole(params.get("name"), equation, given)
            if whole is not None:
                _computed_by(steps, equation, given, whole)
                return whole
            return self.of(inner, consts, given, steps)
        folded = self._folded(equation, given)
        if folded is not None:
            return folded
        if name in _OWN_GRADIENT:
            inner, consts = inner_of(equation)
            if _is_marked(inner):  # to differentiate by what is marked, the gradient of its own is given up
                return self.of(inner, consts, given, steps)
            whole = self._whole(params.get("name"), equation, given)
            if whole is None:
                whole = [self._own(tensor, given) for tensor in self.of(inner, consts, given, None)]
            _computed_by(steps, equation, given, whole)
            return whole
        shapes = [(variable.aval.shape, DType.of(variable.aval.dtype)) for variable in equation.outvars]
        outputs = _Rules(self._graph).of(equation, list(given), shapes)
        _computed_by(steps, equation, given, outputs)
        return outputs

    def _own(self, tensor: Tensor, given: Sequence[Tensor]) -> Tensor:
        """A tensor of a function with a gradient of its own, which is another than what it gets."""
        if all(tensor is not one for one in given) and not self._graph.is_constant(tensor):
            return tensor
        return self._graph.added("Identity", [tensor], [(tensor.sizes, tensor.dtype)])[0]

    def _whole(self, name: str | None, equation: Any, given: Sequence[Tensor]) -> list[Tensor] | None:
        """What a function of `jax.nn` gives that is one operation."""
        shapes = [(variable.aval.shape, DType.of(variable.aval.dtype)) for variable in equation.outvars]
        floats = [tensor for tensor in given if tensor.sizes]
        if name not in _WHOLE or len(shapes) != 1 or len(floats) != 1 or floats[0].sizes != tuple(shapes[0][0]):
            return None
        return self._graph.added(_WHOLE[name], floats, shapes)

    def _mark(self, name: str, given: Sequence[Tensor]) -> None:
        """Takes note of a marker."""
        if name.startswith(MARK):
            number = int(name.removeprefix(MARK))
            self._graph.marks[number] = given[0]
            self._graph.positions[number] = len(self._graph.get_operations())

    def _folded(self, equation: Any, given: Sequence[Tensor]) -> list[Tensor] | None:
        """What an equation gives that takes nothing but constants; None where it takes anything else.

        For some pictures no more is worked out than for any number of them, so that the same operations are left.
        """
        numbers = [tensor.static for tensor in given]
        can_be = all(one is not None for one in numbers) and _can_be_folded(equation)
        if not self._graph.folds(can_be=can_be):
            return None
        with jax.ensure_compile_time_eval():
            values = bound(equation, [jax.numpy.asarray(one) for one in numbers])
        return [self._graph.constant(value) for value in values]


def _can_be_folded(equation: Any) -> bool:
    """Whether an equation of constants can be worked out."""
    sizes: list[Sequence[int]] = [variable.aval.shape for variable in equation.outvars]
    if is_effectful(equation) or equation.primitive.name in ("scan", "while") or not sizes:
        return False
    if any(size % PICTURES == 0 for shape in sizes for size in shape if size):
        return False
    if any(jax.numpy.issubdtype(one.aval.dtype, jax.dtypes.extended) for one in equation.outvars):
        return False
    return bool(sum(math.prod(shape) for shape in sizes) <= MOST_FOLDED)


def _computed_by(steps: list[Step] | None, equation: Any, given: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    if steps is not None:
        steps.append(Step(equation, tuple(given), tuple(outputs)))


def _is_marked(jaxpr: Any) -> bool:
    """Whether there is a marker anywhere inside."""
    return MARK in str(jaxpr)


class _Rules:
    """What each primitive is in TensorFlow's words."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def of(self, equation: Any, given: list[Tensor], shapes: list[tuple[Sequence[int], DType]]) -> list[Tensor]:
        """The outputs of an equation's operations."""
        name = equation.primitive.name
        rule: Callable[..., Tensor | list[Tensor] | None] | None = getattr(self, f"_{name}", None)
        if name in _REDUCING:
            axes = self._graph.numbers(equation.params["axes"])
            return self._graph.added(_REDUCING[name], [given[0], axes], shapes, keep_dims=False)
        if rule is not None:
            found = rule(given, shapes[0], **equation.params)
            if isinstance(found, list):
                return found
            if found is not None:
                return [found]
        if name in ("scan", "while", "cond"):
            self._inside(equation)
        kind = _SAME_NAME.get(name, f"Jax:{name}")
        return self._graph.added(kind, given, shapes)

    def _one(
        self, kind: str, inputs: Sequence[Tensor], shape: tuple[Sequence[int], DType], **attributes: Any
    ) -> Tensor:
        return self._graph.added(kind, inputs, [shape], **attributes)[0]

    def _inside(self, equation: Any) -> None:
        """Takes note of the markers in the body of a loop: what they mark is in a graph of its own."""
        for value in equation.params.values():
            for closed in value if isinstance(value, tuple | list) else [value]:
                if not hasattr(closed, "jaxpr") or not _is_marked(closed):
                    continue
                body = Graph()
                inputs = [body.placeholder(variable.aval) for variable in closed.jaxpr.invars]
                translated(body, closed, inputs)
                self._graph.marks |= body.marks
                self._graph.positions |= {mark: len(self._graph.get_operations()) for mark in body.positions}

    # ---- Number by number ----

    def _convert_element_type(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor:
        return self._one("Cast", given[:1], shape, DstT=shape[1])

    def _select_n(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor | None:
        if len(given) != 3:
            return None
        return self._one("SelectV2", [given[0], given[2], given[1]], shape)

    def _clamp(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor:
        return self._one("ClipByValue", [given[1], given[0], given[2]], shape)

    def _argmax(self, given: list[Tensor], shape: Any, /, *, axes: Any, **_: Any) -> Tensor:
        return self._one("ArgMax", [given[0], self._graph.numbers(axes[0])], shape)

    def _argmin(self, given: list[Tensor], shape: Any, /, *, axes: Any, **_: Any) -> Tensor:
        return self._one("ArgMin", [given[0], self._graph.numbers(axes[0])], shape)

    def _iota(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor:
        return self._one("Range", given, shape)

    def _div(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor | None:
        """A quotient; or the last step of a mean, or of a softmax."""
        return self._mean(given, shape) or self._softmax(given, shape)

    def _mul(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor | None:
        """A product; or the last step of a mean that multiplies with one by the count."""
        number = given[1].static
        if number is None or number.size != 1 or float(number.ravel()[0]) == 0:
            return None
        inverse = self._graph.constant(np.float32(1 / float(number.ravel()[0])))
        return self._mean([given[0], inverse], shape)

    def _mean(self, given: list[Tensor], shape: Any) -> Tensor | None:
        total, count = given[0], given[1].static
        summed = total
        if total.op.type in ("Reshape", "ExpandDims") and len(total.op.inputs) == 2:
            summed = total.op.inputs[0]
        if summed.op.type != "Sum" or count is None or count.size != 1:
            return None
        source, axes = summed.op.inputs
        gone = [int(number) for number in axes.static] if axes.static is not None else []
        reduced = math.prod(source.sizes[number] for number in gone)
        if not gone or not math.isclose(float(count.ravel()[0]), reduced, rel_tol=1e-5):
            return None
        keeps = summed is not total
        kept = tuple(1 if number in gone else size for number, size in enumerate(source.sizes))
        if keeps and tuple(total.sizes) != kept:
            return None
        return self._one("Mean", [source, axes], shape, keep_dims=keeps)

    def _softmax(self, given: list[Tensor], shape: Any) -> Tensor | None:
        """exp(x - max) / sum(exp(x - max)) is the softmax of x."""
        above, below = given
        summed = _before(below, ("Reshape", "BroadcastTo", "ExpandDims"))
        if above.op.type != "Exp" or not _sums_last_axis(summed, above):
            return None
        source = _without_maximum(above.op.inputs[0])
        return self._one("Softmax", [source], shape)

    def _sub(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor | None:
        """A difference; or the last step of the logarithm of a softmax: z - log(sum(exp(z)))."""
        logarithm = _before(given[1], ("Reshape", "BroadcastTo", "ExpandDims"))
        if logarithm.op.type != "Log":
            return None
        summed = _before(logarithm.op.inputs[0], ("Reshape", "BroadcastTo", "ExpandDims"))
        exponential = summed.op.inputs[0] if summed.op.inputs else summed
        if exponential.op.type != "Exp" or not _sums_last_axis(summed, exponential):
            return None
        if exponential.op.inputs[0] is not given[0]:
            return None
        return self._one("LogSoftmax", [_without_maximum(given[0])], shape)

    # ---- Shapes ----

    def _reshape(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor:
        return self._one("Reshape", [given[0], self._graph.numbers(shape[0])], shape)

    def _squeeze(self, given: list[Tensor], shape: Any, /, *, dimensions: Any, **_: Any) -> Tensor:
        return self._one("Squeeze", given, shape, squeeze_dims=list(map(int, dimensions)))

    def _expand_dims(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor:
        return self._reshape(given, shape)

    def _transpose(self, given: list[Tensor], shape: Any, /, *, permutation: Any, **_: Any) -> Tensor:
        return self._one("Transpose", [given[0], self._graph.numbers(permutation)], shape)

    def _broadcast_in_dim(self, given: list[Tensor], shape: Any, /, *, broadcast_dimensions: Any, **_: Any) -> Tensor:
        sizes, dtype = shape
        tensor = given[0]
        if not tensor.sizes:
            return self._one("Fill", [self._graph.numbers(sizes), tensor], shape)
        ones = [1] * len(sizes)
        for number, size in zip(broadcast_dimensions, tensor.sizes, strict=True):
            ones[number] = size
        if tuple(ones) == tuple(sizes):
            return self._reshape(given, shape)
        if tuple(ones) != tensor.sizes:
            tensor = self._one("Reshape", [tensor, self._graph.numbers(ones)], (ones, dtype))
        return self._one("BroadcastTo", [tensor, self._graph.numbers(sizes)], shape)

    # ---- Parts ----

    def _slice(
        self, given: list[Tensor], shape: Any, /, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any
    ) -> Tensor:
        steps = [1] * len(start_indices) if strides is None else strides
        return self._cut(given[0], shape, start_indices, limit_indices, steps)

    def _cut(self, tensor: Tensor, shape: Any, starts: Any, ends: Any, steps: Any) -> Tensor:
        """`tensor[start:end:step, …]`; an axis that is taken whole says so."""
        whole = 0
        for number, (start, end, step) in enumerate(zip(starts, ends, steps, strict=True)):
            whole |= (start == 0 and end == tensor.sizes[number] and step == 1) << number
        masks = {"begin_mask": whole, "end_mask": whole, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 0}
        numbers = [self._graph.numbers(values) for values in (starts, ends, steps)]
        return self._one("StridedSlice", [tensor, *numbers], shape, **masks)

    def _dynamic_slice(self, given: list[Tensor], shape: Any, /, **_: Any) -> Tensor | None:
        starts = [tensor.static for tensor in given[1:]]
        if any(start is None for start in starts):
            return None
        sizes = given[0].sizes
        begin = [
            int(np.clip(int(start), 0, have - size)) for start, have, size in zip(starts, sizes, shape[0], strict=True)
        ]
        ends = [start + size for start, size in zip(begin, shape[0], strict=True)]
        return self._cut(given[0], shape, begin, ends, [1] * len(begin))

    def _split(self, given: list[Tensor], shape: Any, /, *, sizes: Any, axis: int, **_: Any) -> list[Tensor]:
        tensor = given[0]
        shapes = [((*tensor.sizes[:axis], int(size), *tensor.sizes[axis + 1 :]), tensor.dtype) for size in sizes]
        numbers = [self._graph.numbers(sizes), self._graph.numbers(axis)]
        return self._graph.added("SplitV", [tensor, *numbers], shapes)

    def _gather(
        self, given: list[Tensor], shape: Any, /, *, dimension_numbers: Any, slice_sizes: Any, **_: Any
    ) -> Tensor | None:
        """Entries of one axis; or a resizing to the nearest; or even steps along several axes."""
        tensor, indices = given
        axes = dimension_numbers.start_index_map
        if dimension_numbers.operand_batching_dims:
            return None
        if len(axes) > 1:
            return self._stepped(tensor, indices.static, shape, dimension_numbers, slice_sizes)
        (axis,) = axes
        others = [size for number, size in enumerate(tensor.sizes) if number != axis]
        taken = [size for number, size in enumerate(slice_sizes) if number != axis]
        if taken != others or slice_sizes[axis] != 1 or dimension_numbers.collapsed_slice_dims != (axis,):
            return None
        count = len(shape[0]) - len(dimension_numbers.offset_dims)
        if set(dimension_numbers.offset_dims) != {n for n in range(len(shape[0])) if not axis <= n < axis + count}:
            return None
        known = indices.static
        if known is None:
            flat = self._one("Squeeze", [indices], (indices.sizes[:-1], indices.dtype), squeeze_dims=[-1])
        else:
            flat = self._graph.numbers(known[..., 0])
            resized = self._nearest(tensor, known[..., 0], axis, shape)
            if resized is not None:
                return resized
        return self._one("GatherV2", [tensor, flat, self._graph.numbers(axis)], shape, batch_dims=0)

    def _stepped(
        self, tensor: Tensor, indices: Array | None, shape: Any, dimension_numbers: Any, slice_sizes: Any
    ) -> Tensor | None:
        """`x[:, ::2, ::2]`, as JAX before 0.10 traces it: for each place that is taken its index along each axis."""
        axes, rank = dimension_numbers.start_index_map, len(shape[0])
        others = tuple(axis for axis in range(rank) if axis not in axes)
        if indices is None or indices.shape != (*(shape[0][axis] for axis in axes), len(axes)):
            return None
        if dimension_numbers.collapsed_slice_dims != axes or dimension_numbers.offset_dims != others:
            return None
        starts, ends, steps = [0] * rank, list(tensor.sizes), [1] * rank
        for number, axis in enumerate(axes):
            along = np.moveaxis(indices[..., number], number, -1)
            first, step = int(along.flat[0]), int(along.flat[1] - along.flat[0]) if along.shape[-1] > 1 else 1
            if step < 1 or (along != first + step * np.arange(along.shape[-1])).any():
                return None
            starts[axis], steps[axis] = first, step
            ends[axis] = min(first + step * along.shape[-1], tensor.sizes[axis])
        if any(slice_sizes[axis] != tensor.sizes[axis] for axis in others):
            return None
        return self._cut(tensor, shape, starts, ends, steps)

    def _nearest(self, tensor: Tensor, indices: Array, axis: int, shape: Any) -> Tensor | None:
        """A resizing, where each entry is the one nearest to it: entries that repeat, or that are left out evenly."""
        have, want = tensor.sizes[axis], indices.size
        if indices.ndim != 1 or want < 2 or have < 2 or want == have:
            return None
        even = (np.arange(want) + 0.5) * have / want - 0.5
        return self._resized(tensor, axis, shape) if np.abs(indices - even).max() <= 0.5 + 1e-6 else None

    def _resized(self, tensor: Tensor, axis: int, shape: Any) -> Tensor:
        want = shape[0][axis]
        numbers = [self._graph.numbers(want), self._graph.constant(np.float32(want / tensor.sizes[axis]))]
        return self._one("Resample", [tensor, *numbers, self._graph.constant(np.float32(0))], shape, axis=axis)

    def _rev(self, given: list[Tensor], shape: Any, /, *, dimensions: Any, **_: Any) -> Tensor:
        return self._one("ReverseV2", [given[0], self._graph.numbers(dimensions)], shape)

    def _pad(self, given: list[Tensor], shape: Any, /, *, padding_config: Any, **_: Any) -> Tensor | None:
        if any(inner for _, _, inner in padding_config):
            return None
        added = self._graph.numbers([(before, after) for before, after, _ in padding_config])
        return self._one("PadV2", [given[0], added, given[1]], shape)

    def _concatenate(self, given: list[Tensor], shape: Any, /, *, dimension: int, **_: Any) -> Tensor:
        """Tensors one after the other; or two parts of one that have changed places, which is a roll."""
        rolled = self._rolled(given, dimension)
        if rolled is not None:
            source, shift = rolled
            return self._one("Roll", [source, self._graph.numbers([shift]), self._graph.numbers([dimension])], shape)
        return self._one("ConcatV2", [*given, self._graph.numbers(dimension)], shape)

    @staticmethod
    def _rolled(given: Sequence[Tensor], axis: int) -> tuple[Tensor, int] | None:
        if len(given) != 2 or any(tensor.op.type != "StridedSlice" for tensor in given):
            return None
        (source, *first), (other, *second) = (tensor.op.inputs for tensor in given)
        if source is not other:
            return None
        (begin, end, step), (start, stop, stride) = (
            [np.ravel(one.static)[axis] for one in part] for part in (first, second)
        )
        is_whole = end == source.sizes[axis] and start == 0 and stop == begin and step == stride == 1
        return (source, int(end - begin)) if is_whole else None

    def _top_k(self, given: list[Tensor], shape: Any, /, *, k: int, **_: Any) -> list[Tensor]:
        number = DType.of(np.dtype(np.int32))
        return self._graph.added("TopKV2", [given[0], self._graph.numbers(k)], [shape, (shape[0], number)])

    # ---- Products ----

    def _dot_general(self, given: list[Tensor], shape: Any, /, *, dimension_numbers: Any, **_: Any) -> Tensor:
        (left, right), (left_batch, right_batch) = dimension_numbers
        letters = iter(string.ascii_letters)
        names = [[""] * len(tensor.sizes) for tensor in given]
        for one, other in [*zip(left_batch, right_batch, strict=True), *zip(left, right, strict=True)]:
            names[0][one] = names[1][other] = next(letters)
        names = [[letter or next(letters) for letter in of_one] for of_one in names]
        result = [names[0][number] for number in left_batch]
        result += [letter for n, letter in enumerate(names[0]) if n not in left_batch and n not in left]
        result += [letter for n, letter in enumerate(names[1]) if n not in right_batch and n not in right]
        if len(left) == 1 and not left_batch:
            for one, weights, axis, other in ((0, given[1], left[0], right[0]), (1, given[0], right[0], left[0])):
                resized = self._resized_by(given[one], weights, axis, other, shape, is_first=one == 0)
                if resized is not None:
                    return resized
        equation = f"{''.join(names[0])},{''.join(names[1])}->{''.join(result)}"
        return self._one("Einsum", given, shape, equation=equation.encode())

    def _resized_by(
        self, tensor: Tensor, weights: Tensor, axis: int, summed: int, shape: Any, *, is_first: bool
    ) -> Tensor | None:
        """A resizing, which may move the picture, too: a product with constant weights; see `_run_evenly`."""
        known = weights.static
        if known is None or known.ndim != 2 or not len(tensor.sizes) > 1:
            return None
        rows = np.asarray(known if summed == 1 else known.T, np.float64)  # (new, old)
        want = len(rows)
        evenly = _run_evenly(rows)
        if evenly is None:
            return None
        sizes = (*tensor.sizes[:axis], want, *tensor.sizes[axis + 1 :])
        numbers = [self._graph.numbers(want), *(self._graph.constant(np.float32(one)) for one in evenly)]
        resized = self._one("Resample", [tensor, *numbers], (sizes, tensor.dtype), axis=axis)
        rest = [number for number in range(len(sizes)) if number != axis]
        order = [*rest, axis] if is_first else [axis, *rest]
        return resized if order == sorted(order) else self._transpose([resized], shape, permutation=order)

    # ---- Over the places ----

    def _conv_general_dilated(
        self,
        given: list[Tensor],
        shape: Any,
        /,
        *,
        window_strides: Any,
        padding: Any,
        lhs_dilation: Any,
        rhs_dilation: Any,
        dimension_numbers: Any,
        batch_group_count: int = 1,
        **_: Any,
    ) -> Tensor | None:
        tensor, kernel = given
        if batch_group_count != 1 or (
            any(dilation != 1 for dilation in lhs_dilation) and any(stride != 1 for stride in window_strides)
        ):
            return None
        rank = len(tensor.sizes)
        seen, weights, result = dimension_numbers
        is_first = tuple(result[:2]) == (0, 1)
        order = (seen[0], seen[1], *seen[2:]) if is_first else (seen[0], *seen[2:], seen[1])
        tensor = self._ordered(tensor, order)
        kernel = self._ordered(kernel, (*weights[2:], weights[1], weights[0]))
        sizes, dtype = shape
        own = (result[0], result[1], *result[2:]) if is_first else (result[0], *result[2:], result[1])
        ordered = tuple(sizes[number] for number in own)
        spatial = list(range(2, rank)) if is_first else list(range(1, rank - 1))
        layout = {"data_format": b"NCHW" if is_first else b"NHWC"}
        kind = "3D" if rank == 5 else "2D"
        if any(dilation != 1 for dilation in lhs_dilation):  # a transposed convolution
            name = f"Conv{kind}BackpropInput" + ("V2" if rank == 5 else "")
            found = self._one(name, [self._graph.numbers(ordered), kernel, tensor], (ordered, dtype), **layout)
            return self._reordered(found, own, shape)
        strides, dilations = [1] * rank, [1] * rank
        widths = []
        for place, number in enumerate(spatial):
            strides[number], dilations[number] = int(window_strides[place]), int(rhs_dilation[place])
            widths.append((kernel.sizes[place] - 1) * dilations[number] + 1)
        tensor, said = self._padded(tensor, spatial, padding, strides, widths)
        found = self._one(
            f"Conv{kind}",
            [tensor, kernel],
            (ordered, dtype),
            strides=strides,
            dilations=dilations,
            padding=said,
            **layout,
        )
        return self._reordered(found, own, shape)

    def _ordered(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        if list(order) == sorted(order):
            return tensor
        sizes = tuple(tensor.sizes[number] for number in order)
        return self._one("Transpose", [tensor, self._graph.numbers(order)], (sizes, tensor.dtype))

    def _reordered(self, tensor: Tensor, order: Sequence[int], shape: Any) -> Tensor:
        """With its axes back where an order has taken them from."""
        if list(order) == sorted(order):
            return tensor
        back = [list(order).index(number) for number in range(len(order))]
        return self._one("Transpose", [tensor, self._graph.numbers(back)], shape)

    def _padded(
        self, tensor: Tensor, axes: Sequence[int], padding: Any, strides: Sequence[int], widths: Sequence[int]
    ) -> tuple[Tensor, bytes]:
        """A tensor with what a kernel reads beyond its ends, and what that kernel is then called."""
        added = [(0, 0)] * len(tensor.sizes)
        same = True
        for place, number in enumerate(axes):
            size, stride = tensor.sizes[number], strides[number]
            needed = max((-(-size // stride) - 1) * stride + widths[place] - size, 0)
            before, after = (int(one) for one in padding[place])
            same = same and (before, after) == (needed // 2, needed - needed // 2)
            added[number] = (before, after)
        if same:
            return tensor, b"SAME"
        if any(pair != (0, 0) for pair in added):
            sizes = tuple(size + sum(pair) for size, pair in zip(tensor.sizes, added, strict=True))
            tensor = self._one("Pad", [tensor, self._graph.numbers(added)], (sizes, tensor.dtype))
        return tensor, b"VALID"

    def _reduce_window_max(self, given: list[Tensor], shape: Any, /, **params: Any) -> Tensor | None:
        return self._pooled("MaxPool", given[0], shape, **params)

    def _reduce_window_sum(self, given: list[Tensor], shape: Any, /, **params: Any) -> Tensor | None:
        return self._pooled("AvgPool", given[0], shape, **params)

    def _reduce_window_min(self, given: list[Tensor], shape: Any, /, **params: Any) -> Tensor | None:
        return self._pooled("MaxPool", given[0], shape, **params)

    def _pooled(
        self,
        kind: str,
        tensor: Tensor,
        shape: Any,
        /,
        *,
        window_dimensions: Any,
        window_strides: Any,
        padding: Any,
        base_dilation: Any,
        window_dilation: Any,
        **_: Any,
    ) -> Tensor | None:
        rank = len(tensor.sizes)
        if window_dimensions[0] != 1 or any(one != 1 for one in (*base_dilation, *window_dilation)) or rank < 3:
            return None
        is_first = window_dimensions[1] == 1 and window_dimensions[-1] != 1
        axes = list(range(2, rank)) if is_first else list(range(1, rank - 1))
        if any(window_dimensions[number] != 1 for number in range(rank) if number not in axes):
            return None
        strides = list(map(int, window_strides))
        widths = [int(window_dimensions[number]) for number in axes]
        tensor, said = self._padded(tensor, axes, [padding[number] for number in axes], strides, widths)
        return self._one(
            kind + "3D" * (rank == 5),
            [tensor],
            shape,
            ksize=list(map(int, window_dimensions)),
            strides=strides,
            padding=said,
            data_format=b"NCHW" if is_first else b"NHWC",
        )

    def _fft(self, given: list[Tensor], shape: Any, /, *, fft_type: Any, fft_lengths: Any, **_: Any) -> Tensor:
        name = jax.lax.FftType(fft_type).name
        return self._one(name if len(fft_lengths) == 1 else f"{name}{len(fft_lengths)}D", given[:1], shape)


def _run_evenly(rows: Array) -> tuple[float, float] | None:
    """By how much the rows of a matrix enlarge and move what they are multiplied with, in cells of the result.

    Each row is a mean over cells around a middle, and the middles follow each other in equal steps; or it is zero,
    where the middle lies outside.

    Args:
        rows: (new, old).

    Returns:
        The scale and the translation: cell x lies at x * scale + translation. None where they are no such rows.
    """
    want, have = rows.shape
    sums = rows.sum(axis=1)
    is_mean = np.abs(sums - 1) <= 1e-3
    if have < 2 or is_mean.sum() < 2 or (np.abs(sums[~is_mean]) > 1e-3).any():
        return None
    middles = (rows * (np.arange(have) + 0.5)).sum(axis=1)
    places = np.arange(want) + 0.5
    step = float(np.median(np.diff(middles[is_mean])))
    start = float(np.median(middles[is_mean] - places[is_mean] * step))
    line = start + places * step
    tolerance = 0.75 * max(1.0, step)
    is_even = np.abs(middles - np.clip(line, 0, have))[is_mean].max() <= tolerance
    is_outside = np.maximum(-line, line - have)[~is_mean].min(initial=0) >= -tolerance
    return (1 / step, -start / step) if step > 0 and is_even and is_outside else None


def _before(tensor: Tensor, types: Sequence[str]) -> Tensor:
    """A tensor before operations of some types, which have one input that is data."""
    while tensor.op.type in types:
        tensor = tensor.op.inputs[0]
    return tensor


def _sums_last_axis(tensor: Tensor, source: Tensor) -> bool:
    """Whether a tensor is the sum of another over its last axis, as in TensorFlow's softmax, which knows no other."""
    if tensor.op.type != "Sum" or tensor.op.inputs[0] is not source:
        return False
    axes = tensor.op.inputs[1].static
    return axes is not None and axes.tolist() == [len(source.sizes) - 1]


def _without_maximum(tensor: Tensor) -> Tensor:
    """x, of x - max(x), which is taken off so that no exponential overflows; of anything else itself."""
    if tensor.op.type != "Sub":
        return tensor
    source, taken_off = tensor.op.inputs
    maximum = _before(taken_off, ("StopGradient", "Reshape", "BroadcastTo", "ExpandDims", "Identity"))
    if maximum.op.type == "Maximum":  # with minus infinity
        maximum = next((one for one in maximum.op.inputs if one.static is None), maximum)
    while maximum.op.type in ("SelectV2",):  # where it is not finite, zero
        maximum = next((one for one in maximum.op.inputs if one.op.type == "Max"), maximum.op.inputs[0])
    return source if maximum.op.type == "Max" and maximum.op.inputs[0] is source else tensor
