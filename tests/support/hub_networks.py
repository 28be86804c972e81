"""keras-hub's networks with small numbers and random weights, each split by hand at the layer that an expert explains.

A split runs the first part of a network eagerly, and gives what the layer made of the pictures and the rest of the
network as a function of it. No engine is needed for the gradient between the two: a plain tape does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras_hub import models as hub

Tensor = Any
Head = Callable[[Tensor], Tensor]
CLASSES = 5


@dataclass(frozen=True)
class Network:
    """One network, and what is right about it.

    Its name in the table begins with the name of keras-hub's class.

    Attributes:
        build: makes it; pictures have the shape of its input.
        layer: the path of the layer that an expert explains.
        split: (model, images) -> the layer's output, and the logits as a function of it.
        grid: (h, w) of the layer's map.
        extra_tokens: how many tokens come before those of the grid.
    """

    build: Callable[[], keras.Model]
    layer: str
    split: Callable[[keras.Model, Any], tuple[Tensor, Head]]
    grid: tuple[int, int]
    extra_tokens: int = 0


def _classifier(kind: str, *, task: dict[str, Any] | None = None, **settings: Any) -> Callable[[], keras.Model]:
    """Builds a backbone of keras-hub and its image classifier around it."""

    def build() -> keras.Model:
        backbone = getattr(hub, f"{kind}Backbone")(**settings)
        return getattr(hub, f"{kind}ImageClassifier")(
            backbone=backbone, num_classes=CLASSES, preprocessor=None, **task or {}
        )

    return build


def _encoder(kind: str, head: Callable[[Tensor], Tensor], **settings: Any) -> Callable[[], keras.Model]:
    """Builds an encoder of keras-hub, and a classifying head of our own on its output."""

    def build() -> keras.Model:
        encoder = getattr(hub, kind)(**settings, name="encoder")
        pictures = keras.Input(settings["image_shape"], name="pictures")
        features = head(encoder(_fed(encoder, pictures)))
        return keras.Model(pictures, keras.layers.Dense(CLASSES, name="predictions")(features), name="classifier")

    return build


def _fed(encoder: keras.Model, pictures: Any) -> Any:
    """The pictures as an encoder takes them: under the name of its input, where that has one."""
    return dict.fromkeys(encoder.input, pictures) if isinstance(encoder.input, dict) else pictures


def at_the_backbone(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    """The backbone's own output, of which the head takes the mean."""
    return model.backbone(images), lambda maps: model.output_dense(keras.ops.mean(maps, axis=(1, 2)))


def _mobilenet(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    def head(maps: Tensor) -> Tensor:
        return model.output_dense(model.flatten(model.output_conv(model.pooler(maps))))

    return model.backbone(images), head


def _hgnet(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    last = model.backbone(images)[model.backbone.stage_names[-1]]
    return model.last_conv(last), lambda maps: model.output_dense(keras.ops.mean(maps, axis=(1, 2)))


def _mobilenet_v5(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    def head(maps: Tensor) -> Tensor:
        features = model.global_pool(maps)
        if model.conv_head is not None:
            features = model.flatten(model.conv_head(features))
        return model.classifier(features)

    return model.backbone(images), head


def _vgg(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    last = model.backbone.layers[-2]
    maps = keras.Model(model.backbone.input, last.output)(images)
    return maps, lambda maps: model.head(model.backbone.layers[-1](maps))


def _vit(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    tokens = model.backbone.get_layer("vit_patching_and_embedding")(images)
    encoder = model.backbone.get_layer("vit_encoder")
    *blocks, last = encoder.encoder_layers
    for block in blocks:
        tokens = block(tokens)

    def head(normed: Tensor) -> Tensor:
        attended = tokens + last.mha(normed, normed)
        attended = attended + last.mlp(last.layer_norm_2(attended))
        return model.output_dense(encoder.layer_norm(attended)[:, 0])

    return last.layer_norm_1(tokens), head


def _mean_of_tokens(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    return model.backbone(images), lambda tokens: model.output_dense(keras.ops.mean(tokens, axis=1))


def _deit(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    tokens = model.backbone.get_layer("deit_patching_and_embedding")(images)
    encoder = model.backbone.get_layer("deit_encoder")
    *blocks, last = encoder.encoder_layers
    for block in blocks:
        tokens, _ = block(tokens)

    def head(normed: Tensor) -> Tensor:
        attended = tokens + last.mha(normed, normed)
        attended = last.output_layer(last.mlp(last.layer_norm_2(attended)), attended)
        return model.output_dense(encoder.layer_norm(attended)[:, 0])

    return last.layer_norm_1(tokens), head


def _dino(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    """DINOv2 and DINOv3, whose head takes the class token."""
    encoder = model.get_layer("encoder")
    tokens, positions = encoder.embeddings(images), {}
    if hasattr(encoder, "rope_embedding"):
        prefix = 1 + encoder.num_register_tokens
        positions = {"position_embeddings": encoder.rope_embedding(images), "num_prefix_tokens": prefix}
    *blocks, last = encoder.encoder.layers
    for block in blocks:
        tokens = block(tokens, **positions)

    def head(normed: Tensor) -> Tensor:
        attended = tokens + last.layer_scale1(last.attention(normed, **positions))
        attended = attended + last.layer_scale2(last.mlp(last.norm2(attended)))
        return model.get_layer("predictions")(encoder.layernorm(attended)[:, 0])

    return last.norm1(tokens), head


def _dino_linear(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    encoder = model.get_layer("encoder")
    extra = 1 + encoder.num_register_tokens

    def head(tokens: Tensor) -> Tensor:
        return model.get_layer("predictions")(class_token_and_mean(extra)(tokens))

    return encoder(_fed(encoder, images)), head


def _clip(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    encoder = model.get_layer("encoder")
    tokens = encoder.pre_layer_norm(encoder.embedding(images))
    *blocks, last = encoder.encoder_layers
    for block in blocks:
        tokens = block(tokens)

    def head(normed: Tensor) -> Tensor:
        attended = tokens + last.attention(normed, normed, normed)
        hidden = last.activation(last.dense_1(last.layer_norm_2(attended)))
        attended = attended + last.dense_2(hidden)
        if hasattr(encoder, "layer_norm"):
            attended = encoder.layer_norm(attended)
        return model.get_layer("predictions")(attended[:, 0])

    return last.layer_norm_1(tokens), head


def _vit_det(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    maps = model.get_layer("encoder")(images)
    return maps, lambda maps: model.get_layer("predictions")(keras.ops.mean(maps, axis=(1, 2)))


def _siglip(model: keras.Model, images: Any) -> tuple[Tensor, Head]:
    encoder = model.get_layer("encoder")
    tokens = encoder.embedding(images)
    for block in encoder.encoder_layers:
        tokens = block(tokens)
    return encoder.post_layer_norm(tokens), lambda normed: model.get_layer("predictions")(encoder.head(normed))


def class_token(tokens: Tensor) -> Tensor:
    """(N, C), what most heads take."""
    return tokens[:, 0]


def class_token_and_mean(extra: int) -> Callable[[Tensor], Tensor]:
    """(N, 2 C), what DINOv2's own linear head takes: the class token, and the mean of the patches."""

    def head(tokens: Tensor) -> Tensor:
        return keras.ops.concatenate([tokens[:, 0], keras.ops.mean(tokens[:, extra:], axis=1)], axis=-1)

    return head


_RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 64],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_strides": [1, 2],
    "image_shape": (32, 48, 3),
}
_TRANSFORMER = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
_CSPNET = {
    "stem_filters": 8,
    "stem_kernel_size": 3,
    "stem_strides": 2,
    "stackwise_depth": [1, 2],
    "stackwise_strides": [2, 2],
    "stackwise_num_filters": [16, 32],
    "image_shape": (32, 48, 3),
}
_MIT = {
    "layerwise_depths": [1, 2],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [2, 1],
    "max_drop_path_rate": 0.0,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
    "image_shape": (32, 32, 3),
    "hidden_dims": [8, 16],
}
_MOBILENET_V5 = {
    "stackwise_block_types": [["er"], ["uir", "mqa"]],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_filters": [[16], [24, 24]],
    "stackwise_strides": [[2], [2, 1]],
    "stackwise_act_layers": [["relu"], ["relu", "relu"]],
    "stackwise_exp_ratios": [[2.0], [2.0, 2.0]],
    "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
    "stackwise_dw_kernel_sizes": [[0], [3, 3]],
    "stackwise_dw_start_kernel_sizes": [[0], [3, 0]],
    "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
    "stackwise_exp_kernel_sizes": [[3], [0, 0]],
    "stackwise_pw_kernel_sizes": [[1], [0, 0]],
    "stackwise_num_heads": [[0], [0, 2]],
    "stackwise_key_dims": [[0], [0, 8]],
    "stackwise_value_dims": [[0], [0, 8]],
    "stackwise_kv_strides": [[0], [0, 1]],
    "stackwise_use_cpe": [[False], [False, False]],
    "image_shape": (32, 48, 3),
}

NETWORKS: dict[str, Network] = {
    # The activation after the last sum, the only thing that the pooling takes.
    **{
        f"ResNet {kind}": Network(
            _classifier("ResNet", **_RESNET, block_type=block),
            "res_net_backbone/stack1_block1_out",
            at_the_backbone,
            (4, 6),
        )
        for kind, block in {
            "basic": "basic_block",
            "bottleneck": "bottleneck_block",
            "vd": "basic_block_vd",
            "bottleneck vd": "bottleneck_block_vd",
        }.items()
    },
    "ResNet v2": Network(
        _classifier("ResNet", **_RESNET, block_type="basic_block", use_pre_activation=True),
        "res_net_backbone/post_relu",
        at_the_backbone,
        (4, 6),
    ),
    "DenseNet": Network(
        _classifier("DenseNet", stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=(32, 48, 3)),
        "dense_net_backbone/relu",
        at_the_backbone,
        (4, 6),
    ),
    "EfficientNet": Network(
        _classifier(
            "EfficientNet",
            stackwise_kernel_sizes=[3, 3],
            stackwise_num_repeats=[1, 2],
            stackwise_input_filters=[8, 8],
            stackwise_output_filters=[8, 16],
            stackwise_expansion_ratios=[1, 4],
            stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
            stackwise_strides=[1, 2],
            stackwise_block_types=["v1", "v1"],
            stackwise_width_coefficients=[1.0, 1.0],
            stackwise_depth_coefficients=[1.0, 1.0],
            num_features=32,
            dropout=0.0,
            input_shape=(32, 48, 3),
        ),
        "efficient_net_backbone/top_activation",
        at_the_backbone,
        (8, 12),
    ),
    "EfficientNet v2": Network(
        _classifier(
            "EfficientNet",
            stackwise_kernel_sizes=[3, 3],
            stackwise_num_repeats=[1, 2],
            stackwise_input_filters=[8, 8],
            stackwise_output_filters=[8, 16],
            stackwise_expansion_ratios=[1, 4],
            stackwise_squeeze_and_excite_ratios=[0.0, 0.25],
            stackwise_strides=[1, 2],
            stackwise_block_types=["fused", "unfused"],
            stackwise_width_coefficients=[1.0, 1.0],
            stackwise_depth_coefficients=[1.0, 1.0],
            num_features=32,
            dropout=0.0,
            input_shape=(32, 48, 3),
        ),
        "efficient_net_backbone/top_activation",
        at_the_backbone,
        (8, 12),
    ),
    # The last hard swish. The convolution after the pooling sees one place only.
    "MobileNet v3": Network(
        _classifier(
            "MobileNet",
            stackwise_expansion=[[16], [24, 32]],
            stackwise_num_blocks=[1, 2],
            stackwise_num_filters=[[16], [16, 16]],
            stackwise_kernel_size=[[3], [5, 5]],
            stackwise_num_strides=[[2], [2, 1]],
            stackwise_se_ratio=[[None], [0.25, 0.25]],
            stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
            stackwise_padding=[[1], [2, 2]],
            output_num_filters=32,
            depthwise_filters=16,
            depthwise_stride=1,
            depthwise_residual=True,
            last_layer_filter=32,
            squeeze_and_excite=0.5,
            image_shape=(32, 48, 3),
            task={"num_features": 16},
        ),
        "mobile_net_backbone/block_3_0/activation_7",
        _mobilenet,
        (4, 6),
    ),
    "MobileNetV5": Network(
        _classifier("MobileNetV5", **_MOBILENET_V5, use_msfa=False, task={"head_hidden_size": 32}),
        "mobile_net_v5_backbone/mobile_attention",
        _mobilenet_v5,
        (4, 6),
    ),
    "MobileNetV5 fused": Network(
        _classifier("MobileNetV5", **_MOBILENET_V5, use_msfa=True, num_features=32, msfa_output_resolution=4),
        "mobile_net_v5_backbone/msfa/rms_norm2d_1",
        _mobilenet_v5,
        (4, 4),
    ),
    "CSPNet dark": Network(
        _classifier("CSPNet", **_CSPNET, stage_type="dark", block_type="dark_block"),
        "csp_net_backbone/stage_1_block_1_dark_block_add",
        at_the_backbone,
        (4, 6),
    ),
    "CSPNet csp": Network(
        _classifier(
            "CSPNet",
            **_CSPNET,
            stage_type="csp",
            block_type="bottleneck_block",
            bottle_ratio=[0.5],
            block_ratio=[1.0],
            expand_ratio=[2.0],
        ),
        "csp_net_backbone/stage_1_csp_transition_activation",
        at_the_backbone,
        (4, 6),
    ),
    "CSPNet cs3": Network(
        _classifier(
            "CSPNet",
            **_CSPNET,
            stage_type="cs3",
            block_type="edge_block",
            bottle_ratio=[0.5],
            block_ratio=[0.5],
            expand_ratio=[1.0],
        ),
        "csp_net_backbone/stage_1_cs3_activation_3",
        at_the_backbone,
        (4, 6),
    ),
    # The head has a convolution of its own, with its activation, before the pooling.
    "HGNetV2": Network(
        _classifier(
            "HGNetV2",
            depths=[1, 2],
            embedding_size=8,
            hidden_sizes=[16, 32],
            stem_channels=[3, 8, 8],
            hidden_act="relu",
            use_learnable_affine_block=False,
            stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 1, 3)],
            apply_downsample=[False, True],
            use_lightweight_conv_block=[False, False],
            image_shape=(32, 48, 3),
            task={"head_filters": 24},
        ),
        "head_last/head_last_relu",
        _hgnet,
        (4, 6),
    ),
    "HGNetV2 light": Network(
        _classifier(
            "HGNetV2",
            depths=[1, 2],
            embedding_size=8,
            hidden_sizes=[16, 32],
            stem_channels=[3, 8, 8],
            hidden_act="relu",
            use_learnable_affine_block=True,
            stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 1, 3)],
            apply_downsample=[False, True],
            use_lightweight_conv_block=[True, True],
            image_shape=(32, 48, 3),
            task={"head_filters": 24},
        ),
        "head_last/head_last_lab",
        _hgnet,
        (4, 6),
    ),
    # Not the pooling after it, which repeats its map at half the size.
    "VGG": Network(
        _classifier(
            "VGG",
            stackwise_num_repeats=[1, 2],
            stackwise_num_filters=[8, 16],
            image_shape=(28, 28, 3),
            task={"pooling_hidden_dim": 16},
        ),
        "vgg_backbone/block2_conv2",
        _vgg,
        (14, 14),
    ),
    "VGG flattened": Network(
        _classifier(
            "VGG",
            stackwise_num_repeats=[1, 2],
            stackwise_num_filters=[8, 16],
            image_shape=(24, 32, 3),
            task={"pooling": "flatten", "pooling_hidden_dim": 16},
        ),
        "vgg_backbone/block2_conv2",
        _vgg,
        (12, 16),
    ),
    "Xception": Network(
        _classifier(
            "Xception",
            stackwise_conv_filters=[[8, 16], [24, 24], [32, 32]],
            stackwise_pooling=[False, True, False],
            image_shape=(32, 48, 3),
        ),
        "xception_backbone/block3_sepconv2_act",
        at_the_backbone,
        (7, 11),
    ),
    # After the last attention the class token alone goes on: the patches' last word is what that attention takes.
    "ViT": Network(
        _classifier("ViT", **_TRANSFORMER, mlp_dim=32, image_shape=(32, 48, 3)),
        "vi_t_backbone/vit_encoder/transformer_block_2/ln_1",
        _vit,
        (4, 6),
        extra_tokens=1,
    ),
    # Without a class token the mean of all patches is taken, after the last normalisation.
    "ViT mean": Network(
        _classifier(
            "ViT", **_TRANSFORMER, mlp_dim=32, image_shape=(32, 48, 3), use_class_token=False, task={"pooling": "gap"}
        ),
        "vi_t_backbone/vit_encoder/ln",
        _mean_of_tokens,
        (4, 6),
    ),
    "DeiT": Network(
        _classifier("DeiT", **_TRANSFORMER, intermediate_dim=32, image_shape=(32, 48, 3)),
        "dei_t_backbone/deit_encoder/transformer_block_2/ln_1",
        _deit,
        (4, 6),
        extra_tokens=2,  # class, distillation
    ),
    "DINOv2": Network(
        _encoder("DINOV2Backbone", class_token, **_TRANSFORMER, intermediate_dim=32, image_shape=(32, 32, 3)),
        "encoder/encoder_encoder/layers_1/norm1",
        _dino,
        (4, 4),
        extra_tokens=1,
    ),
    "DINOv2 with registers": Network(
        _encoder(
            "DINOV2Backbone",
            class_token,
            **_TRANSFORMER,
            intermediate_dim=32,
            image_shape=(32, 32, 3),
            num_register_tokens=4,
            use_swiglu_ffn=True,
        ),
        "encoder/encoder_encoder/layers_1/norm1",
        _dino,
        (4, 4),
        extra_tokens=5,
    ),
    # This head takes the patches, too.
    "DINOv2 linear": Network(
        _encoder(
            "DINOV2Backbone",
            class_token_and_mean(5),
            **_TRANSFORMER,
            intermediate_dim=32,
            image_shape=(32, 32, 3),
            num_register_tokens=4,
        ),
        "encoder/encoder_layernorm",
        _dino_linear,
        (4, 4),
        extra_tokens=5,
    ),
    "DINOv3": Network(
        _encoder("DINOV3Backbone", class_token, **_TRANSFORMER, intermediate_dim=32, image_shape=(32, 48, 3)),
        "encoder/encoder_encoder/layers_1/norm1",
        _dino,
        (4, 6),
        extra_tokens=5,
    ),
    "CLIP": Network(
        _encoder("CLIPVisionEncoder", class_token, **_TRANSFORMER, intermediate_dim=32, image_shape=(32, 32, 3)),
        "encoder/encoder_encoder_block_1/layer_norm_1",
        _clip,
        (4, 4),
        extra_tokens=1,
    ),
    "MetaCLIP2": Network(
        _encoder("MetaCLIP2VisionEncoder", class_token, **_TRANSFORMER, intermediate_dim=32, image_shape=(32, 32, 3)),
        "encoder/encoder_encoder_block_1/layer_norm_1",
        _clip,
        (4, 4),
        extra_tokens=1,
    ),
    # Some of its blocks cut the map into windows, and put it together again.
    "ViTDet": Network(
        _encoder(
            "ViTDetBackbone",
            lambda maps: keras.ops.mean(maps, axis=(1, 2)),
            hidden_size=16,
            num_layers=2,
            intermediate_dim=32,
            num_heads=2,
            global_attention_layer_indices=[1],
            image_shape=(40, 40, 3),
            patch_size=8,
            num_output_channels=16,
            window_size=3,
        ),
        "encoder/sequential_2/layer_normalization_5",
        _vit_det,
        (5, 5),
    ),
    # A learned query attends to the patches: their last word is what it attends to.
    "SigLIP": Network(
        _encoder(
            "SigLIPVisionEncoder", lambda pooled: pooled, **_TRANSFORMER, intermediate_dim=32, image_shape=(32, 32, 3)
        ),
        "encoder/encoder_post_layer_norm",
        _siglip,
        (4, 4),
    ),
    # The last normalisation, whose tokens are then laid on their grid and pooled.
    "MiT": Network(
        _classifier(
            "MiT",
            **_MIT,
        ),
        "mi_t_backbone/layer_normalization_10",
        at_the_backbone,
        (4, 4),
    ),
    "SwinTransformer": Network(
        _classifier(
            "SwinTransformer",
            image_shape=(32, 64, 3),
            embed_dim=8,
            depths=(2, 2),
            num_heads=(1, 2),
            window_size=4,
            patch_size=4,
        ),
        "swin_transformer_backbone/norm",
        _mean_of_tokens,
        (4, 8),
    ),
}


def segformer() -> keras.Model:
    """A segmenting network with a linear head, which the rescaling to the picture's size follows."""
    encoder = hub.MiTBackbone(**_MIT)
    backbone = hub.SegFormerBackbone(image_encoder=encoder, projection_filters=16)
    return hub.SegFormerImageSegmenter(backbone=backbone, num_classes=CLASSES)


def deep_lab() -> keras.Model:
    """A segmenting network with a linear head at the picture's size."""
    backbone = hub.DeepLabV3Backbone(
        image_encoder=hub.ResNetBackbone(**_resnet_of(3), block_type="basic_block"),
        projection_filters=8,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[2, 3],
        image_shape=(32, 48, 3),
    )
    return hub.DeepLabV3ImageSegmenter(backbone=backbone, num_classes=CLASSES)


def retina_net() -> keras.Model:
    """A detector whose boxes come from maps of several sizes, side by side."""
    backbone = hub.RetinaNetBackbone(
        image_encoder=hub.ResNetBackbone(**{**_resnet_of(4), "image_shape": (32, 64, 3)}, block_type="basic_block"),
        min_level=3,
        max_level=6,
        use_p5=False,
        image_shape=(32, 64, 3),
    )
    return hub.RetinaNetObjectDetector(backbone, num_classes=CLASSES)


def _resnet_of(stacks: int) -> dict[str, Any]:
    """Settings of a ResNet with that many stacks, each half the size of the one before."""
    strides = [1, *[2] * (stacks - 1)]
    sizes = {"stackwise_num_filters": [64] * stacks, "stackwise_num_blocks": [1] * stacks}
    return {**_RESNET, **sizes, "stackwise_num_strides": strides}


def picture_shape(model: keras.Model) -> tuple[int, ...]:
    """(h, w, channels) of what a network takes."""
    return tuple(keras.tree.flatten(model.inputs)[0].shape[1:])
