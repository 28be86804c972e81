"""The head of a model, from which the scores of targets are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.engines.engine import Forward, engine
from gradcam_callbacks.explaining.graph import PASSING, at_least_float32
from gradcam_callbacks.probes.targets import NO_CLASS, PREDICTED

Tensor = Any
Values = Any
_SQUASHING = frozenset({"Softmax", "Sigmoid", "LogSoftmax"})
# Operations that only combine, rescale or rearrange numbers: of probabilities they still make something of that kind.
_POINTWISE = PASSING | {
    *("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Pow", "Log", "Exp", "Neg", "Sum", "Mean", "Max"),
    *("Minimum", "Maximum", "ClipByValue", "Reshape", "Squeeze", "ExpandDims", "Transpose", "BroadcastTo"),
    *("ConcatV2", "Pack", "StridedSlice", "GatherV2"),
}

_PASS_FUNCTION = "Pass a function of the outputs that gives (N,) scores to explain() as the target."


@dataclass(frozen=True)
class Head:
    """What comes out of one forward pass: the tensors that scores are made of, or their numbers.

    Attributes:
        scored: the tensor before the last softmax or sigmoid, or a structure of such tensors. Target functions get it.
        given: (N, classes) or (N, 1), what the model gives, or None where it is no classifier.
        score_kind: see `Capture`.
        has_probabilities: see `Capture`.
    """

    scored: Any
    given: Any
    score_kind: str
    has_probabilities: bool

    @classmethod
    def of(cls, model: keras.Model, forward: Forward, output: str | int | None, *, name_classes: bool) -> Head:
        """Reads the head of a model.

        Args:
            model: a built model.
            forward: the operations of a forward pass.
            output: the head of a multi-output model, by name or index.
            name_classes: whether there will be targets that name classes.

        Raises:
            GradCAMError: if the head does not exist, or targets name classes and it is no classifier's.
        """
        given = _chosen(model, forward.outputs, output, name_classes=name_classes)
        if keras.tree.is_nested(given):
            read = [_logits(tensor, forward) for tensor in keras.tree.flatten(given)]
            kinds = {kind for _, kind in read}
            scored = keras.tree.pack_sequence_as(given, [tensor for tensor, _ in read])
            return cls(scored, None, "probability" if "probability" in kinds else "logit", False)
        scored, kind = _logits(given, forward)
        if _before_passing(given).type == "LogSoftmax":
            given = forward.applied(ops.exp, given)
        has_probabilities = kind == "probability" or scored is not given
        if given.shape.rank != 2 or given.shape[-1] is None:
            return cls(scored, None, kind, False)
        return cls(scored, given, kind, has_probabilities)

    def of_numbers(self, scored: Any, given: Any) -> Head:
        """The same with the numbers of `scored` and `given`."""
        return replace(self, scored=scored, given=given)

    @property
    def classes(self) -> int | None:
        """How many classes there are; 0 where the model is no classifier."""
        if self.given is None:
            return 0
        return 2 if self.given.shape[-1] == 1 else self.scored.shape[-1]

    @property
    def logits(self) -> Values | None:
        """(N, classes), or None where the model is no classifier.

        A single unit z is read as two classes, 0 and 1, with the logits -z and z.
        """
        if self.given is None or self.given.shape[-1] != 1:
            return None if self.given is None else self.scored
        return ops.concatenate([-self.scored, self.scored], axis=-1)

    @property
    def outputs(self) -> Values | None:
        """(N, classes), what the model gives for the classes, or None."""
        if self.given is None or self.given.shape[-1] != 1:
            return self.given
        return ops.concatenate([1 - self.given if self.has_probabilities else -self.given, self.given], axis=-1)

    @property
    def tensors(self) -> tuple[Any, Any]:
        """What `of_numbers` takes the numbers of."""
        return self.scored, self.given

    def explained(
        self, forward: Forward, functions: Sequence[Callable[[Any], Values]], *, name_classes: bool
    ) -> list[Tensor]:
        """The tensors that the explained scores are made of: the logits, or what the functions give.

        Args:
            forward: that the tensors are of.
            functions: targets that are functions.
            name_classes: whether there are targets that name classes.
        """
        own = keras.tree.flatten(self.scored) if name_classes or not functions else []
        made = [forward.applied(partial(_of_function, function), self.scored) for function in functions]
        return [tensor for tensor in (*own, *made) if tensor.dtype.is_floating]

    def scores(self, targets: Values, functions: Sequence[Callable[[Any], Values]]) -> tuple[Values, Values]:
        """The (N, K + F) scores of K classes and F functions, and the (N, K) classes that are explained."""
        parts, explained, logits = [], targets[..., 0], self.logits
        if logits is not None:
            explained = ops.where(explained == PREDICTED, self.predicted[:, None], explained)
            against = targets[..., 1]
            subtracted = ops.take_along_axis(logits, ops.maximum(against, 0), axis=1)
            subtracted = ops.where(against == NO_CLASS, ops.zeros_like(subtracted), subtracted)
            parts.append(ops.take_along_axis(logits, explained, axis=1) - subtracted)
        parts += [_of_function(function, self.scored)[:, None] for function in functions]
        return ops.concatenate([at_least_float32(part) for part in parts], axis=1), explained

    @property
    def predicted(self) -> Values:
        """(N,) int32 the class of the highest logit."""
        return ops.cast(ops.argmax(self.logits, axis=-1), "int32")

    def signs(self, targets: Values) -> Values:
        """The (N, classes) gradients, by the logits, of the scores of one class a picture.

        Args:
            targets: (N, 2), without `PREDICTED`; `NO_CLASS` subtracts nothing.
        """
        dtype = self.scored.dtype
        return ops.one_hot(targets[:, 0], self.classes, dtype=dtype) - ops.one_hot(
            targets[:, 1], self.classes, dtype=dtype
        )

    def seeds(self, signs: Values) -> Values:
        """The (N, …) gradients by the scored tensor, from the (N, classes) gradients by the logits."""
        return signs[:, 1:] - signs[:, :1] if self.given.shape[-1] == 1 else signs


def _of_function(function: Callable[[Any], Values], scored: Any) -> Values:
    """The (N,) scores that a target function gives."""
    name = getattr(function, "__name__", function)
    try:
        score = ops.convert_to_tensor(function(scored))
    except Exception as error:
        raise GradCAMError(f"The target function '{name}' raised {type(error).__name__}: {error}") from error
    if score.ndim != 1:
        raise GradCAMError(
            f"The target function '{name}' gave shape {score.shape}; expected one score a picture, (N,)."
        )
    return score


def _chosen(model: keras.Model, outputs: Any, output: str | int | None, *, name_classes: bool) -> Any:
    """The one output that is explained; all of them where functions are to choose."""
    heads = _heads(model, outputs)
    if heads is None:
        if output not in (None, 0, *(getattr(model, "output_names", None) or ())):
            raise GradCAMError(
                f"No output '{output}': model '{model.name}' has a single output.",
                "Leave {argument}.",
                argument="output",
                value=None,
            )
        tensor = outputs
    elif output is None and len(heads) > 1:
        if not name_classes:
            _check_real(model, outputs)
            return outputs
        classifying = [name for name, head in heads.items() if _is_classifier(head)]
        if not classifying:
            raise GradCAMError(
                f"None of the {len(heads)} outputs of model '{model.name}' is a classifier's (batch, classes), so a "
                "target cannot be a class.",
                _PASS_FUNCTION,
            )
        raise GradCAMError(
            f"Model '{model.name}' has {len(heads)} outputs.",
            f"Choose one with {{argument}}: {', '.join(map(repr, classifying))}.",
            argument="output",
        )
    elif output in heads:
        tensor = heads[output]
    elif output is None or (isinstance(output, int) and 0 <= output < len(heads)):
        tensor = list(heads.values())[output or 0]
    else:
        raise GradCAMError(
            f"No output '{output}'. The outputs of model '{model.name}': {', '.join(map(repr, heads))}.",
            argument="output",
        )
    _check_real(model, tensor)
    if name_classes:
        _check_classifier(model, tensor, output)
    return tensor


def _heads(model: keras.Model, outputs: Any) -> dict[Any, Any] | None:
    """The outputs by their names, or by their numbers where they have none; None where there is a single one."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if not isinstance(outputs, list | tuple):
        return None
    # A named tuple says its names in `_fields`.
    names = getattr(outputs, "_fields", None) or getattr(model, "output_names", None) or range(len(outputs))
    return dict(zip(names, outputs, strict=True))


def _check_real(model: keras.Model, outputs: Any) -> None:
    """Raises if none of the outputs is of real numbers, so that nothing has a gradient."""
    kinds = {tensor.dtype.name for tensor in keras.tree.flatten(outputs) if not tensor.dtype.is_floating}
    if len(kinds) and not any(tensor.dtype.is_floating for tensor in keras.tree.flatten(outputs)):
        raise GradCAMError(
            f"The output of model '{model.name}' is {', '.join(sorted(kinds))}, which has no gradient.",
            "Explain the model before its last operation, such as an argmax.",
        )


def _check_classifier(model: keras.Model, tensor: Any, output: str | int | None) -> None:
    """Raises if an output is not (batch, classes), so that no target can name a class."""
    if not engine.is_tensor(tensor):
        raise GradCAMError(
            f"Output '{output}' of model '{model.name}' is a {type(tensor).__name__} of outputs, so a target cannot be "
            "a class.",
            _PASS_FUNCTION,
        )
    if not _is_classifier(tensor):
        raise GradCAMError(
            f"The output of model '{model.name}' has shape {tuple(tensor.shape)}, not a classifier's (batch, classes), "
            "so a target cannot be a class.",
            _PASS_FUNCTION,
        )


def _is_classifier(output: Any) -> bool:
    """Whether an output is (batch, classes) of real numbers."""
    is_one = engine.is_tensor(output) and output.dtype.is_floating
    return bool(is_one and output.shape.rank == 2 and output.shape[-1] is not None)


def _logits(outputs: Tensor, forward: Forward) -> tuple[Tensor, str]:
    """The logits behind the outputs, and what they are: "logit", or "probability" where they cannot be had.

    A saturated softmax has no gradient left, so the score is what went into it, found in the traced graph.
    """
    operation = _before_passing(outputs)
    if operation.type in _SQUASHING and engine.has_numbers(operation.inputs[0]):
        return operation.inputs[0], "logit"
    if operation.type == "ConcatV2":  # heads of one label each, put together
        parts = [_before_passing(tensor) for tensor in operation.inputs[:-1]]
        if all(part.type == "Sigmoid" and engine.has_numbers(part.inputs[0]) for part in parts):
            axis = int(np.ravel(engine.static_value(operation.inputs[-1]))[0])
            return forward.applied(partial(ops.concatenate, axis=axis), [part.inputs[0] for part in parts]), "logit"
    return outputs, "probability" if _is_squashed(operation, {}) else "logit"


def _before_passing(tensor: Tensor) -> Any:
    """The operation that made a tensor, past those that only hand it on."""
    operation = tensor.op
    while operation.type in PASSING:
        operation = operation.inputs[0].op
    return operation


def _is_squashed(operation: Any, known: dict[str, bool | None]) -> bool | None:
    """Whether all that an operation's result is made of comes out of a softmax or sigmoid; None for constants.

    Args:
        operation: of the traced graph.
        known: what is known already, by the operations' names.
    """
    if operation.name not in known:
        known[operation.name] = None
        if operation.type in _SQUASHING:
            known[operation.name] = True
        elif operation.type in _POINTWISE:
            found = {_is_squashed(tensor.op, known) for tensor in operation.inputs} - {None}
            known[operation.name] = all(found) if found else None
        else:
            is_constant = not operation.inputs or operation.type in ("ReadVariableOp", "Shape", "Range", "Fill")
            known[operation.name] = None if is_constant and operation.type != "Placeholder" else False
    return known[operation.name]
