"""The head of a model, from which the scores of targets are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.feeding import called
from gradcam_callbacks.explaining.graph import PASSING, at_least_float32
from gradcam_callbacks.probes.inputs import Inputs
from gradcam_callbacks.probes.targets import NO_CLASS, PREDICTED

Tensor = Any
_SQUASHING = frozenset({"Softmax", "Sigmoid", "LogSoftmax"})
# Operations that only combine, rescale or rearrange numbers: of probabilities they still make something of that kind.
_POINTWISE = PASSING | {
    *("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Pow", "Log", "Exp", "Neg", "Sum", "Mean", "Max"),
    *("Minimum", "Maximum", "ClipByValue", "Reshape", "Squeeze", "ExpandDims", "Transpose"),
    *("ConcatV2", "Pack", "StridedSlice", "GatherV2"),
}

_PASS_FUNCTION = "Pass a function of the outputs that gives (N,) scores to explain() as the target."


@dataclass(frozen=True)
class Head:
    """What comes out of one forward pass: the tensors that scores are made of.

    Attributes:
        scored: the tensor before the last softmax or sigmoid, or a structure of such tensors. Target functions get it.
        logits: (N, classes), or None where the model is no classifier. A single unit z is read as two classes, 0 and 1,
            with the logits -z and z.
        outputs: (N, classes), what the model gives, or None.
        score_kind: see `Capture`.
        has_probabilities: see `Capture`.
    """

    scored: Any
    logits: Tensor | None
    outputs: Tensor | None
    score_kind: str
    has_probabilities: bool

    @classmethod
    def of(cls, model: keras.Model, batch: Inputs, output: str | int | None, *, name_classes: bool) -> Head:
        """Calls the model and reads its head.

        Args:
            model: a built model.
            batch: what it is fed.
            output: the head of a multi-output model, by name or index.
            name_classes: whether there will be targets that name classes.

        Raises:
            GradCAMError: if the head does not exist, or targets name classes and it is no classifier's.
        """
        given = _chosen(model, called(model, batch), output, name_classes=name_classes)
        if tf.nest.is_nested(given):
            read = [_logits(tensor) for tensor in tf.nest.flatten(given)]
            kinds = {kind for _, kind in read}
            scored = tf.nest.pack_sequence_as(given, [tensor for tensor, _ in read])
            return cls(scored, None, None, "probability" if "probability" in kinds else "logit", False)
        scored, kind = _logits(given)
        if _before_passing(given).type == "LogSoftmax":
            given = tf.exp(given)
        has_probabilities = kind == "probability" or scored is not given
        if given.shape.rank != 2 or given.shape[-1] is None:
            return cls(scored, None, None, kind, False)
        logits, outputs = scored, given
        if given.shape[-1] == 1:
            logits = tf.concat([-scored, scored], axis=-1)
            outputs = tf.concat([1 - given if has_probabilities else -given, given], axis=-1)
        return cls(scored, logits, outputs, kind, has_probabilities)

    def explained(self, functions: Sequence[Callable[[Any], Tensor]], *, name_classes: bool) -> list[Tensor]:
        """The tensors that the explained scores are made of: the logits, or what the functions give.

        Args:
            functions: targets that are functions.
            name_classes: whether there are targets that name classes.
        """
        own = tf.nest.flatten(self.scored) if name_classes or not functions else []
        return [
            tensor
            for tensor in (*own, *(self._of_function(function) for function in functions))
            if tensor.dtype.is_floating
        ]

    def scores(self, targets: Tensor, functions: Sequence[Callable[[Any], Tensor]]) -> tuple[Tensor, Tensor]:
        """The (N, K + F) scores of K classes and F functions, and the (N, K) classes that are explained."""
        parts, explained = [], targets[..., 0]
        if self.logits is not None:
            predicted = tf.argmax(self.logits, axis=-1, output_type=tf.int32)
            explained = tf.where(explained == PREDICTED, predicted[:, None], explained)
            against = targets[..., 1]
            subtracted = tf.gather(self.logits, tf.maximum(against, 0), batch_dims=1)
            subtracted = tf.where(against == NO_CLASS, tf.zeros([], self.logits.dtype), subtracted)
            parts.append(tf.gather(self.logits, explained, batch_dims=1) - subtracted)
        parts += [self._of_function(function)[:, None] for function in functions]
        return tf.concat([at_least_float32(part) for part in parts], axis=1), explained

    def _of_function(self, function: Callable[[Any], Tensor]) -> Tensor:
        """The (N,) scores that a target function gives."""
        name = getattr(function, "__name__", function)
        try:
            score = tf.convert_to_tensor(function(self.scored))
        except Exception as error:
            raise GradCAMError(f"The target function '{name}' raised {type(error).__name__}: {error}") from error
        if score.shape.rank != 1:
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
    kinds = {tensor.dtype.name for tensor in tf.nest.flatten(outputs) if not tensor.dtype.is_floating}
    if len(kinds) and not any(tensor.dtype.is_floating for tensor in tf.nest.flatten(outputs)):
        raise GradCAMError(
            f"The output of model '{model.name}' is {', '.join(sorted(kinds))}, which has no gradient.",
            "Explain the model before its last operation, such as an argmax.",
        )


def _check_classifier(model: keras.Model, tensor: Any, output: str | int | None) -> None:
    """Raises if an output is not (batch, classes), so that no target can name a class."""
    if not tf.is_tensor(tensor):
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
    is_one = tf.is_tensor(output) and output.dtype.is_floating
    return bool(is_one and output.shape.rank == 2 and output.shape[-1] is not None)


def _logits(outputs: Tensor) -> tuple[Tensor, str]:
    """The logits behind the outputs, and what they are: "logit", or "probability" where they cannot be had.

    A saturated softmax has no gradient left, so the score is what went into it, found in the traced graph.
    """
    operation = _before_passing(outputs)
    if operation.type in _SQUASHING:
        return operation.inputs[0], "logit"
    if operation.type == "ConcatV2":  # heads of one label each, put together
        parts = [_before_passing(tensor) for tensor in operation.inputs[:-1]]
        if all(part.type == "Sigmoid" for part in parts):
            return tf.concat([part.inputs[0] for part in parts], operation.inputs[-1]), "logit"
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
