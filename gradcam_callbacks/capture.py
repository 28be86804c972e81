"""Activations and gradients of any Keras model, in one traced graph. The only file that differentiates."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_callbacks.probes import NO_CLASS, PREDICTED

Array = np.ndarray[Any, np.dtype[Any]]
Tensor = Any
Method = Callable[[Tensor, Tensor, Tensor], Tensor]

# Layers whose map repeats that of the layer before them, at best at the same resolution.
_REPEATERS = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.UpSampling2D,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Identity,
)
# Operations that mix channels or places with weights: a map that none of them made is still the input picture.
_MIXING = frozenset(
    {"Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMulV2", "Einsum"}
)
_SQUASHING = frozenset({"Softmax", "Sigmoid", "LogSoftmax"})
_PASSING = frozenset({"Identity", "Cast", "EnsureShape"})
_POINTWISE = _PASSING | {
    *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Pow", "Log", "Exp", "Neg", "Sum"),
    *("Minimum", "Maximum", "ClipByValue", "Reshape", "Squeeze", "ExpandDims", "Transpose"),
}


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained.

    Attributes:
        path: the names from the model down to the layer, joined by "/".
        kind: its class.
        shape: of its output, the batch first; None where it depends on the picture.
    """

    path: str
    kind: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Capture:
    """One traced graph from images and a target matrix to raw maps.

    Attributes:
        layer: the layer that is explained.
        runners_up: the other layers that could be, last on the way to the score first.
        score_kind: "logit", or "probability" where the model does more than squash its logits.
        classes: how many classes a target may name; None where only the pictures decide.
        has_probabilities: whether the model's outputs are probabilities.
        single_output: whether the model has one output unit, read as the classes 0 and 1.
    """

    layer: LayerInfo
    runners_up: tuple[LayerInfo, ...]
    score_kind: str
    classes: int | None
    has_probabilities: bool
    single_output: bool
    _graph: Callable[[Tensor, Tensor], Mapping[str, Tensor]]

    def __call__(self, images: Array, targets: Array) -> dict[str, Array]:
        """Runs the graph once.

        Args:
            images: (N, H, W, C), what the model is fed, in the dtype that was traced.
            targets: (N, K, 2) int32; `[..., 0]` is the class explained or `PREDICTED`, `[..., 1]` the
                class whose score is subtracted or `NO_CLASS`.

        Returns:
            maps (N, K, h, w) float32; scores (N, K) float32; outputs (N, classes) float32; predicted (N,) int32;
            explained (N, K) int32; gradient_peak (N, K) float32, the largest absolute gradient.
        """
        result = self._graph(tf.constant(images), tf.constant(targets))
        return {name: tensor.numpy() for name, tensor in result.items()}


def trace(
    model: keras.Model,
    method: Method,
    *,
    layer: str | None,
    output: str | int | None,
    images: Array,
    target_count: int,
) -> Capture:
    """Traces one graph that explains `target_count` targets a picture in one forward pass.

    The layers' outputs are seen by wrapping `call` on the layer instances while the graph is traced, and only then,
    so that nested, subclassed and Sequential models all work and nothing stays patched.

    Args:
        model: a built Keras model on the TensorFlow backend.
        method: (activations (N, h, w, C), gradients (N, h, w, C), scores (N,)) -> raw maps (N, h, w).
        layer: its path or unique name; None picks one.
        output: the head of a multi-output model, by name or index.
        images: pictures of the shape and dtype that will come; their number does not matter.
        target_count: K.

    Raises:
        ValueError: if the layer or the output does not exist or cannot be explained, or the model cannot take
            the images.
    """
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built: it has no weights to explain. Call it once, fit it, load its weights, "
            f"or call model.build({(None, *images.shape[1:])}) first."
        )
    _check_input(model, images)
    layers = _layers(model)
    wanted = [_find(layers, layer)] if layer is not None else list(layers)
    found: dict[str, Any] = {}

    def graph(batch: Tensor, targets: Tensor) -> dict[str, Tensor]:
        calls: list[tuple[str, Tensor]] = []
        with _watch({path: layers[path] for path in wanted}, calls):
            outputs = _head(model, model(batch, training=False), output)
        logits, score_kind = _logits(outputs)
        usable = _usable(calls, layers, logits, named=layer)
        activations = usable[0][1]
        has_probabilities = score_kind == "probability" or logits is not outputs
        single = logits.shape[-1] == 1
        if single:  # one unit z is the score of class 1, and -z that of class 0
            logits = tf.concat([-logits, logits], axis=-1)
            outputs = tf.concat([1 - outputs, outputs], axis=-1)
        infos = [LayerInfo(p, type(layers[p]).__name__, tuple(tensor.shape)) for p, tensor in usable]
        found.update(
            layer=infos[0],
            runners_up=tuple(infos[1:]),
            score_kind=score_kind,
            classes=logits.shape[-1],
            has_probabilities=has_probabilities,
            single_output=single,
        )

        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        explained = tf.where(targets[..., 0] == PREDICTED, predicted[:, None], targets[..., 0])
        against = targets[..., 1]
        scores = tf.gather(logits, explained, batch_dims=1) - tf.where(
            against == NO_CLASS,
            tf.zeros([], logits.dtype),
            tf.gather(logits, tf.maximum(against, 0), batch_dims=1),
        )
        # The pictures of a batch do not touch each other at inference, so the gradient of their sum is each one's own.
        maps, peaks = [], []
        wide = _at_least_float32(activations)
        for k in range(target_count):
            gradients = _at_least_float32(tf.gradients(scores[:, k], activations)[0])
            maps.append(method(wide, gradients, scores[:, k]))
            peaks.append(tf.reduce_max(tf.abs(gradients), axis=[1, 2, 3]))
        return {
            "maps": tf.cast(tf.stack(maps, axis=1), tf.float32),
            "scores": tf.cast(scores, tf.float32),
            "outputs": tf.cast(outputs, tf.float32),
            "predicted": predicted,
            "explained": explained,
            "gradient_peak": tf.cast(tf.stack(peaks, axis=1), tf.float32),
        }

    signature = [
        tf.TensorSpec((None, *images.shape[1:]), images.dtype),
        tf.TensorSpec((None, target_count, 2), tf.int32),
    ]
    concrete = tf.function(graph, input_signature=signature, autograph=False).get_concrete_function()
    return Capture(_graph=concrete, **found)


def _check_input(model: keras.Model, images: Array) -> None:
    """Raises if a model that knows its input shape cannot take the images."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, list | dict):
        raise ValueError(
            f"Model '{model.name}' takes {len(shape)} inputs; gradcam_callbacks explains models of one input."
        )
    if shape is None or (
        len(shape) == images.ndim
        and all(expected in (None, actual) for expected, actual in zip(shape[1:], images.shape[1:], strict=True))
    ):
        return
    advice = "Give the probes that shape."
    if len(shape) == images.ndim == 4 and shape[-1] in (None, images.shape[-1]):
        advice = f"Pass image_size={tuple(shape[1:3])} where the probes are read, or resize them."
    raise ValueError(
        f"The probes have shape {images.shape[1:]}; model '{model.name}' takes {tuple(shape[1:])}. {advice}"
    )


def _layers(model: keras.Model) -> dict[str, Any]:
    """Every layer and operation below the model by its path, in the order of the model."""
    paths: dict[str, Any] = {}
    seen = {id(model)}

    def walk(parent: Any, prefix: str) -> None:
        children = getattr(parent, "operations", None)
        if children is None:
            children = parent._flatten_layers(include_self=False, recursive=False)
        for child in children:
            if id(child) in seen or isinstance(child, keras.layers.InputLayer):
                continue
            seen.add(id(child))
            path = f"{prefix}{child.name}"
            paths.setdefault(path, child)
            if isinstance(child, keras.layers.Layer):
                walk(child, f"{path}/")

    walk(model, "")
    return paths


def _find(layers: Mapping[str, Any], name: str) -> str:
    """The path of the layer that a user named by its path or by its own name."""
    if name in layers:
        return name
    named = [path for path in layers if path.rpartition("/")[2] == name]
    if len(named) == 1:
        return named[0]
    if named:
        raise ValueError(
            f"{len(named)} layers are named '{name}'. Name one by its path: {', '.join(map(repr, named))}."
        )
    close = difflib.get_close_matches(name, {*layers, *(path.rpartition("/")[2] for path in layers)}, n=3)
    hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    raise ValueError(f"No layer '{name}'.{hint} The model's layers: {_some(list(layers))}.")


def _some(names: Sequence[str], limit: int = 12) -> str:
    """The last names of a list, which is where a layer worth explaining stands."""
    listed = ", ".join(names[-limit:])
    return listed if len(names) <= limit else f"… ({len(names) - limit} more), {listed}"


@contextmanager
def _watch(layers: Mapping[str, Any], calls: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Appends (path, output) to `calls` whenever one of the layers is called; leaves them as they were.

    The wrappers are put straight into the instances' dictionaries, past Keras's tracking of attributes.
    """

    def wrap(path: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            calls.append((path, result))
            return result

        return watched

    before = {path: layer.__dict__.get("call") for path, layer in layers.items()}
    try:
        for path, layer in layers.items():
            layer.__dict__["call"] = wrap(path, layer.call)
        yield
    finally:
        for path, layer in layers.items():
            if before[path] is None:
                layer.__dict__.pop("call", None)
            else:
                layer.__dict__["call"] = before[path]


def _head(model: keras.Model, outputs: Any, output: str | int | None) -> Tensor:
    """The one (N, classes) output that is explained."""
    heads = dict(outputs) if isinstance(outputs, Mapping) else None
    if isinstance(outputs, list | tuple):
        names = getattr(model, "output_names", None) or range(len(outputs))
        heads = dict(zip(names, outputs, strict=True))
    if heads is None:
        if output not in (None, 0, *(getattr(model, "output_names", None) or ())):
            raise ValueError(f"No output '{output}': model '{model.name}' has a single output. Leave output=None.")
        tensor = outputs
    elif output is None and len(heads) > 1:
        raise ValueError(
            f"Model '{model.name}' has {len(heads)} outputs. Choose one with output=: {', '.join(map(repr, heads))}."
        )
    elif output in heads:
        tensor = heads[output]
    elif output is None or (isinstance(output, int) and 0 <= output < len(heads)):
        tensor = list(heads.values())[output or 0]
    else:
        raise ValueError(f"No output '{output}'. The outputs of model '{model.name}': {', '.join(map(repr, heads))}.")
    if tensor.shape.rank != 2:
        raise ValueError(
            f"The output of model '{model.name}' has shape {tuple(tensor.shape)}; "
            "a classifier's (batch, classes) is expected."
        )
    return tensor


def _logits(outputs: Tensor) -> tuple[Tensor, str]:
    """The logits behind the outputs, and what they are: "logit", or "probability" where they cannot be had.

    A saturated softmax has no gradient left, so the score is what went into it, found in the traced graph.
    """
    operation = outputs.op
    while operation.type in _PASSING:
        operation = operation.inputs[0].op
    if operation.type in _SQUASHING:
        return operation.inputs[0], "logit"
    behind, seen = [operation], set()
    while behind:
        operation = behind.pop()
        if operation.type in _SQUASHING:
            return outputs, "probability"
        if operation.type in _POINTWISE and operation.name not in seen:
            seen.add(operation.name)
            behind.extend(tensor.op for tensor in operation.inputs)
    return outputs, "logit"


def _usable(
    calls: Sequence[tuple[str, Tensor]], layers: Mapping[str, Any], logits: Tensor, *, named: str | None
) -> list[tuple[str, Tensor]]:
    """The outputs that can be explained, the best first.

    Args:
        calls: (path, output) in the order of the calls.
        layers: by path.
        logits: what the layers must lead to.
        named: the layer that the user asked for: of it only the possible is asked, not the sensible, and of several
            calls the last is taken.

    Raises:
        ValueError: if there is none.
    """
    on_the_way = _ancestors(logits.op)
    problem = "the model does not call it when it predicts, so the score does not depend on it"
    usable: list[tuple[str, Tensor]] = []
    # Several layers may return the very same tensor, such as dropout at inference, or a model and its last layer: it
    # belongs to the first.
    makers = {id(output): (path, output) for path, output in reversed(calls)}
    for path, output in makers.values():
        found = _problem(output, on_the_way)
        if found is not None:
            problem = found
        elif named is not None or _is_learned_map(layers[path], output):
            usable.append((path, output))
    for position, (_, output) in enumerate(usable):
        if tf.gradients(logits, output)[0] is not None:
            return usable[position:]
        problem = "the score depends on it only through operations that have no gradient"
    if named is not None:
        raise ValueError(f"Layer '{named}' cannot be explained: {problem}.")
    raise ValueError(
        "The model has no spatial layer to explain: no layer on the way to the score makes a map (batch, h, w, "
        "channels) larger than 1x1 from learned weights. Grad-CAM needs a convolutional model."
    )


def _is_learned_map(layer: Any, output: Tensor) -> bool:
    """Whether an output is worth explaining: larger than 1x1, made with weights, and not the repetition of a map."""
    if isinstance(layer, _REPEATERS) or output.shape[1] == output.shape[2] == 1:
        return False
    return any(operation.type in _MIXING for operation in _ancestors(output.op).values())


def _problem(output: Any, on_the_way: Mapping[int, Any]) -> str | None:
    """Why no map can be made of a layer's output, in words that end a sentence; None where one can."""
    if not tf.is_tensor(output) or not output.dtype.is_floating:
        return "its output is not one tensor of real numbers"
    if output.shape.rank != 4:
        return f"its output has shape {tuple(output.shape)}, not (batch, h, w, channels)"
    if id(output.op) not in on_the_way:
        return "the score does not depend on it"
    return None


def _ancestors(operation: Any) -> dict[int, Any]:
    """The operations of the graph that an operation's result depends on, itself among them, by id."""
    reached, todo = {id(operation): operation}, [operation]
    while todo:
        for tensor in todo.pop().inputs:
            if id(tensor.op) not in reached:
                reached[id(tensor.op)] = tensor.op
                todo.append(tensor.op)
    return reached


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision would overflow in sums over a map."""
    return tf.cast(tensor, tf.float32) if tensor.dtype.size < 4 else tensor
