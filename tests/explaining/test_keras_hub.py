"""The networks of keras-hub are explained at the layer that an expert names, with the right numbers."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from support.engines import gradient

from gradcam_callbacks import Explainer, GradCAMError, explain

hub_networks = pytest.importorskip("support.hub_networks", reason="needs keras-hub: pip install keras-hub")


@pytest.fixture(autouse=True)
def memory_given_back() -> Iterator[None]:
    """Names are numbered from zero in each test, and nothing of its model stays."""
    keras.backend.clear_session()
    yield
    keras.backend.clear_session()
    gc.collect()


def as_if_trained_for_a_step(model: keras.Model, images: np.ndarray) -> None:
    """Draws all weights anew that start as zeros or ones, so that none of them is without effect."""
    noise = np.random.default_rng(3)
    for weight in model.trainable_weights:
        if np.ptp(weight.numpy()) == 0:
            weight.assign(weight + noise.normal(0, 0.1, weight.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    if model.non_trainable_weights:
        model(images, training=True)


def by_hand(activations: Any, score: Any, grid: tuple[int, int], extra_tokens: int = 0) -> np.ndarray:
    """(N, h, w): Grad-CAM by the gradient of what comes after the layer.

    Args:
        activations: (N, h, w, C), or (N, tokens, C).
        score: a function of these that gives (N,).
        grid: (h, w).
        extra_tokens: how many tokens come before those of the grid.
    """
    gradients = gradient(score, activations)
    if len(activations.shape) == 3:
        places = (-1, *grid, activations.shape[-1])
        activations, gradients = (ops.reshape(both[:, extra_tokens:], places) for both in (activations, gradients))
    weights = ops.mean(gradients, axis=(1, 2), keepdims=True)
    return np.asarray(ops.relu(ops.sum(weights * activations, axis=-1)))


# keras-hub's Swin has an argument `mask` of its own, which Keras takes for a mask of the tokens.
@pytest.mark.filterwarnings("ignore:Layer 'attn':UserWarning", "ignore:Layer 'stage_:UserWarning")
@pytest.mark.usefixtures("large_network")
@pytest.mark.parametrize("name", sorted(hub_networks.NETWORKS))
def test_a_network_is_explained_at_the_last_map_that_matters(name: str) -> None:
    """The layer is the one that an expert names, its maps are those of a split by hand, the scores are the logits."""
    network = hub_networks.NETWORKS[name]
    model = network.build()
    images = np.random.default_rng(1).random((2, *hub_networks.picture_shape(model)), dtype=np.float32)
    as_if_trained_for_a_step(model, images)

    explanation = explain(model, images, targets=list(range(hub_networks.CLASSES)))

    activations, head = network.split(model, images)
    scores = np.asarray(head(activations))
    of_classes = [lambda rest, index=index: head(rest)[:, index] for index in range(hub_networks.CLASSES)]
    maps = np.stack([by_hand(activations, score, network.grid, network.extra_tokens) for score in of_classes], axis=1)
    assert explanation.layer == network.layer
    assert explanation.maps.shape == (2, hub_networks.CLASSES, *network.grid)
    np.testing.assert_allclose(explanation.scores, scores, rtol=0, atol=1e-5 * np.abs(scores).max())
    np.testing.assert_allclose(explanation.maps, maps, rtol=0, atol=1e-4 * maps.max())
    assert (np.ptp(maps, axis=(2, 3)) > 0.05 * maps.max()).any(axis=1).all(), "a map of each picture tells places apart"
    assert explanation.score_kind == "logit"


def test_no_classifier_is_forgotten() -> None:
    """Every image classifier of keras-hub has a network in the table."""
    classifiers = [name for name in dir(hub_networks.hub) if name.endswith("ImageClassifier")]
    there = {name.removesuffix("ImageClassifier") for name in classifiers} - {""}
    assert there <= {name.split()[0] for name in hub_networks.NETWORKS}


# Paths of layers whose first axis holds windows, cut out of the pictures, and of those that give attention scores.
NO_MAPS = {
    "SwinTransformer": [
        "swin_transformer_backbone/stage_0/blocks_0/attn/attention_projection",
        "swin_transformer_backbone/stage_0/blocks_1/attn/attention_qkv",
        "swin_transformer_backbone/stage_0/blocks_1/attn/dropout_2",
    ],
    "ViTDet": [
        "encoder/windowed_transformer_encoder/multi_head_attention_with_relative_pe/dense",
        "encoder/windowed_transformer_encoder_1/multi_head_attention_with_relative_pe_1/"
        "add_relative_positional_embedding_1",
    ],
    "MobileNetV5": ["mobile_net_v5_backbone/mobile_attention/attn/dropout"],
}


@pytest.mark.filterwarnings("ignore:Layer 'attn':UserWarning", "ignore:Layer 'stage_:UserWarning")
@pytest.mark.usefixtures("large_network")
@pytest.mark.parametrize("name", sorted(NO_MAPS))
def test_windows_and_attention_scores_are_no_maps_of_the_picture(name: str) -> None:
    """Layers inside a window or an attention are not listed, and refused with a sentence where they are named."""
    model = hub_networks.NETWORKS[name].build()
    images = np.random.default_rng(1).random((2, *hub_networks.picture_shape(model)), dtype=np.float32)

    listed = [info.path for info in Explainer(model).layers()]

    for path in NO_MAPS[name]:
        assert path not in listed
        with pytest.raises(GradCAMError, match=f"'{re.escape(path)}' cannot be explained"):
            explain(model, images, targets=[0], layer=path)


def upper_half(pixels: Any) -> Any:
    """(N,), how strongly the upper half of a picture is the class 1."""
    return ops.mean(pixels[:, : pixels.shape[1] // 2, :, 1], axis=(1, 2))


def all_boxes(outputs: Any) -> Any:
    """(N,), how strongly all boxes together are the class 1."""
    return ops.sum(outputs["cls_logits"][..., 1], axis=1)


@pytest.mark.usefixtures("large_network")
def test_a_segmenting_network_is_explained_before_its_linear_head() -> None:
    """SegFormer: not the linear head, whose output is the score at each place, but what it classifies."""
    model = hub_networks.segformer()
    images = np.random.default_rng(1).random((2, 32, 32, 3), dtype=np.float32)
    as_if_trained_for_a_step(model, images)

    explanation = explain(model, images, targets=[upper_half])

    features = model.backbone(images, training=False)  # without the word it normalises as in training
    maps = by_hand(features, lambda maps: upper_half(model.resizing(model.output_segmentation_head(maps))), (8, 8))
    assert explanation.layer == "seg_former_backbone/sequential/activation"
    np.testing.assert_allclose(explanation.maps[:, 0], maps, rtol=0, atol=1e-4 * maps.max())


@pytest.mark.usefixtures("large_network")
def test_the_scored_pixels_are_no_layer_to_explain() -> None:
    """DeepLabV3: not the last convolution, which gives the scored pixels, and not the enlarged map before it."""
    model = hub_networks.deep_lab()
    images = np.random.default_rng(1).random((2, 32, 48, 3), dtype=np.float32)
    as_if_trained_for_a_step(model, images)

    explanation = explain(model, images, targets=[upper_half])

    relu, enlarge = map(model.backbone.get_layer, ("segmentation_head_relu", "backbone_output_upsampling"))
    features = keras.Model(model.backbone.input, relu.output)(images)
    maps = by_hand(features, lambda maps: upper_half(model.output_conv(enlarge(maps))), (8, 12))
    assert explanation.layer == "deep_lab_v3_backbone/segmentation_head_relu"
    np.testing.assert_allclose(explanation.maps[:, 0], maps, rtol=0, atol=1e-4 * maps.max())


@pytest.mark.usefixtures("large_network")
def test_a_detector_is_explained_at_the_map_that_all_its_boxes_come_from() -> None:
    """RetinaNet: boxes of all sizes come out of the map P3 of its backbone; the other head is not in the score."""
    model = hub_networks.retina_net()
    images = np.random.default_rng(1).random((2, 32, 64, 3), dtype=np.float32)
    as_if_trained_for_a_step(model, images)

    explanation = explain(model, images, targets=[all_boxes])

    extractor, pyramid = model.backbone.get_layer("backbone"), model.backbone.feature_pyramid
    p3, p4, p5 = (extractor.output[level] for level in ("P3", "P4", "P5"))
    rest = keras.Model(p3, [p4, p5])
    heads = model.get_layer("classification_head")

    def score(maps: Any) -> Any:
        levels = pyramid(dict(zip(("P3", "P4", "P5"), (maps, *rest(maps)), strict=True)))
        logits = [ops.reshape(heads(level), (2, -1, hub_networks.CLASSES)) for level in levels.values()]
        return all_boxes({"cls_logits": ops.concatenate(logits, axis=1)})

    maps = by_hand(keras.Model(extractor.inputs[0], p3)(images), score, (4, 8))
    assert explanation.layer == "retina_net_backbone/backbone/stack1_block0_out"
    np.testing.assert_allclose(explanation.maps[:, 0], maps, rtol=0, atol=1e-4 * maps.max())
