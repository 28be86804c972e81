"""The attention of a transformer, where it speaks for the class, is found in the graph whoever wrote the layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.engines import IS_TENSORFLOW, gradient
from support.models import pictures, redrawn, small_model

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet, explain


def third(outputs: Any) -> Any:
    """The score of class 2."""
    return outputs[:, 2]


class ClassToken(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return ops.concatenate([ops.ones_like(x[:, :1]) * ops.mean(x, axis=1, keepdims=True), x], axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], shape[1] + 1, shape[2])


class Attention(keras.layers.Layer):
    """Two heads of three numbers each, as people write it; keeps what its softmax gave."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.parts = layers.Dense(18, name="parts")
        self.out = layers.Dense(8, name="out")
        self.kept: Any = None

    def call(self, x: Any, given: Any = None) -> Any:
        query, key, value = ops.split(ops.reshape(self.parts(x), (-1, x.shape[1], 2, 9)), 3, axis=-1)
        scores = ops.einsum("nthd,nshd->nhts", query, key) * 3
        self.kept = ops.softmax(scores, axis=-1) if given is None else given
        told = ops.einsum("nhts,nshd->nthd", self.kept, value)
        return x + self.out(ops.reshape(told, (-1, x.shape[1], 6)))


def transformer(*, class_token: bool) -> tuple[keras.Model, list[Attention], Any]:
    """Patches of 4x4, two blocks, and a head on the class token or on the mean; with what goes into the first block."""
    inputs = keras.Input((8, 16, 3))
    x = layers.Reshape((8, 8))(layers.Conv2D(8, 4, strides=4)(inputs))
    x = start = ClassToken()(x) if class_token else x
    blocks = [Attention("block0"), Attention("block1")]
    for number, block in enumerate(blocks):
        x = layers.LayerNormalization(name=f"norm{number}")(block(x))
    head = layers.Dense(4)
    model = keras.Model(inputs, head(x[:, 0] if class_token else layers.GlobalAveragePooling1D()(x)))
    return redrawn(model, seed=2), blocks, keras.Model(inputs, start)


def by_hand(model: keras.Model, blocks: list[Attention], start: Any, images: Any, score_of: Any, *, extra: int) -> Any:
    """(N, h, w): the paper's two equations, with the gradient by what is added to each attention."""
    head = model.layers[-1]
    norms = [model.get_layer(f"norm{number}") for number in range(2)]

    def score_and_attentions(added: Any) -> tuple[Any, list[Any]]:
        x, attentions = start(images), []
        for number, (block, norm) in enumerate(zip(blocks, norms, strict=True)):
            block(x)
            attentions.append(block.kept + added[number])
            x = norm(block(x, given=attentions[-1]))
        return score_of(head(x[:, 0] if extra else ops.mean(x, axis=1))), attentions

    attentions = np.stack(score_and_attentions((0.0, 0.0))[1])
    gradients = gradient(lambda added: score_and_attentions(added)[0], ops.zeros_like(attentions))
    relevance = np.eye(8 + extra)[None]
    for of_block in np.maximum(np.asarray(gradients) * attentions, 0):
        told = of_block.mean(axis=1)
        relevance = relevance + told @ relevance
    relevance = relevance - np.eye(8 + extra)
    row = relevance[:, 0, 1:] if extra else relevance.mean(axis=1)
    return row.reshape(-1, 2, 4)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("class_token", [True, False])
def test_it_is_the_papers_two_equations(*, class_token: bool) -> None:
    """Of each target in one pass: with a class token its row, without one the mean of all rows."""
    model, blocks, start = transformer(class_token=class_token)
    images = np.random.default_rng(0).random((3, 8, 16, 3), dtype=np.float32)
    targets = [1, (0, 2), third, "predicted"]
    explanation = Explainer(model, method="attention")(ProbeSet(images, targets=targets))
    assert explanation.maps.shape == (3, 4, 2, 4)
    scores = [
        lambda y: y[:, 1],
        lambda y: y[:, 0] - y[:, 2],
        third,
        lambda y: ops.max(y, axis=1),
    ]
    for k, score_of in enumerate(scores):
        expected = by_hand(model, blocks, start, images, score_of, extra=int(class_token))
        np.testing.assert_allclose(explanation.maps[:, k], expected, rtol=1e-3, atol=1e-6)
    assert np.abs(explanation.maps[:, 0] - explanation.maps[:, 1]).max() > 0


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("name", ["ViT", "ViT mean", "DeiT", "DINOv2 with registers"])
def test_the_attention_of_keras_layers_is_found(name: str) -> None:
    """Of networks of KerasHub, on the grid that other methods have, and each class has a map of its own."""
    hub_networks = pytest.importorskip("support.hub_networks", reason="needs keras-hub: pip install keras-hub")
    network = hub_networks.NETWORKS[name]
    model = network.build()
    images = np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype=np.float32)
    explanation = explain(model, images, targets=[0, 1], method="attention")
    assert explanation.maps.shape == (2, 2, *network.grid)
    assert np.isfinite(explanation.maps).all()
    # Of random weights, which JAX draws otherwise, a class may have none: all of its last attention speaks against it.
    has_map = explanation.maps.max(axis=(0, 2, 3)) > 0
    assert has_map.all() if IS_TENSORFLOW else has_map.any()
    assert np.abs(explanation.maps[:, 0] - explanation.maps[:, 1]).max() > 0


@pytest.mark.parametrize("layer", [None, "conv"])
def test_a_network_without_attention_is_refused(layer: str | None) -> None:
    """Before anything is run, with a method to take instead."""
    with pytest.raises(GradCAMError, match=r"of layer 'conv' there is no attention between all places.*'gradcam'"):
        explain(small_model(), pictures(2), method="attention", layer=layer)
