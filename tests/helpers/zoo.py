"""The networks that people have, small enough to try: torchvision, timm, Hugging Face."""

from collections import namedtuple

import pytest
import torch
from torch import nn

Case = namedtuple("Case", "library name size make recommended bypassed earlier")


def filled(net):
    """Give every weight a value of its own: a last layer of zeros would hide any bypass."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 25
                tensor.normal_(0, (1.5 / fan_in) ** 0.5, generator=generator)
    return net


def case(library, name, size, recommended, bypassed=None, make=None, earlier=None, **options):
    """A row of the zoo: `make(library, **options)`, or the network of that name in the library.

    `earlier` has the names of layers in older versions of the library: recommended, bypassed.
    """
    names, made = recommended.split(), (make or by_name(library, name), options)
    return Case(library, name, size, made, names, bypassed, earlier)


def named(row, net):
    """The row with the names that a network has in this version of its library."""
    if row.earlier is None or row.recommended[0] in dict(net.named_modules()):
        return row
    names, bypassed = row.earlier
    return row._replace(recommended=names.split(), bypassed=bypassed)


def by_name(library, name):
    def make(module, **options):
        if library == "timm":
            return module.create_model(name, num_classes=10, **options)
        return getattr(module, name)(num_classes=10, **options)

    return make


def build(row, libraries):
    """The network of a row, with random weights."""
    make, options = row.make
    return filled(make(getattr(libraries, row.library), **options))


def small_vgg16(models):
    """The layers of vgg16 with a small classifier: its own has 120 million weights."""
    with torch.device("meta"):
        net = models.vgg16(init_weights=False)
    net.classifier = nn.Identity()
    net.to_empty(device="cpu")
    net.classifier = nn.Sequential(nn.Linear(512 * 49, 16), nn.ReLU(), nn.Linear(16, 10))
    return net


def vit(models):
    return models.VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=8,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=10,
    )


def swin(models):
    return models.SwinTransformer([4, 4], 24, [2, 2, 2, 2], [1, 2, 3, 6], [7, 7], num_classes=10)


def mixer(timm):
    return timm.models.mlp_mixer.MlpMixer(
        num_classes=10, img_size=64, patch_size=16, num_blocks=4, embed_dim=32
    )


def hf(kind, **options):
    def make(transformers):
        config = getattr(transformers, f"{kind}Config")(num_labels=10, **options)
        return getattr(transformers, f"{kind}ForImageClassification")(config)

    return make


TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}

CASES = [
    case("torchvision", "resnet18", 64, "layer1 layer2 layer3 layer4", "layer2.1.conv1"),
    case("torchvision", "resnet50", 64, "layer1 layer2 layer3 layer4", "layer3.1.conv2"),
    case(
        "torchvision",
        "vgg16",
        64,
        "features.15 features.22 features.29",
        make=small_vgg16,
    ),
    case(
        "torchvision",
        "inception_v3",
        112,
        "Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c",
        "Mixed_6b.branch1x1.conv",
        init_weights=False,
    ),
    case(
        "torchvision",
        "densenet121",
        64,
        "features.denseblock1 features.denseblock2 features.denseblock3 features.norm5",
        "features.denseblock2.denselayer3.conv2",
    ),
    case(
        "torchvision",
        "efficientnet_b0",
        64,
        "features.2 features.3 features.5 features.8",
        "features.4.1.block.0",
    ),
    case(
        "torchvision",
        "mobilenet_v3_small",
        64,
        "features.1 features.3 features.8 features.12",
        "features.5.block.0",
    ),
    case(
        "torchvision",
        "convnext_tiny",
        64,
        "features.1 features.3 features.5 features.7",
        "features.3.1.block.0",
    ),
    case(
        "torchvision",
        "regnet_y_400mf",
        64,
        "trunk_output.block1 trunk_output.block2 trunk_output.block3 trunk_output.block4",
    ),
    case(
        "torchvision",
        "swin_t",
        64,
        "features.1 features.3 features.5 norm",
        "features.1.0.mlp.0",
        make=swin,
    ),
    case(
        "torchvision",
        "vit_b_16",
        64,
        " ".join(f"encoder.layers.encoder_layer_{i}" for i in (1, 3, 5, 6)),
        "encoder.layers.encoder_layer_2.mlp",
        make=vit,
    ),
    case(
        "timm",
        "convnext_atto",
        64,
        "stages.0 stages.1 stages.2 stages.3",
        "stages.1.blocks.0.conv_dw",
    ),
    case(
        "timm",
        "vit_tiny_patch16_224",
        64,
        "blocks.1 blocks.3 blocks.5 blocks.6",
        "blocks.2.attn",
        img_size=64,
        depth=8,
    ),
    case(
        "timm",
        "vit_small_patch14_reg4_dinov2",
        56,
        "blocks.1 blocks.2 blocks.3 blocks.4",
        "blocks.2.attn",
        img_size=56,
        depth=6,
        embed_dim=48,
        num_heads=4,
    ),
    case(
        "timm",
        "vit_base_patch16_siglip_gap_224",
        64,
        "blocks.0 blocks.1 blocks.2 norm",
        "blocks.2.attn",
        img_size=64,
        depth=4,
        embed_dim=48,
        num_heads=4,
    ),
    case(
        "timm",
        "swin_tiny_patch4_window7_224",
        112,
        "layers.0 layers.1 layers.2 norm",
        "layers.2.blocks.1.mlp",
        img_size=112,
        depths=(1, 1, 2, 1),
        embed_dim=24,
        num_heads=(1, 2, 2, 2),
    ),
    case(
        "timm",
        "deit_tiny_distilled_patch16_224",
        64,
        "blocks.1 blocks.2 blocks.3 blocks.4",
        "blocks.2.attn",
        img_size=64,
        depth=6,
    ),
    case("timm", "mixer", 64, "blocks.0 blocks.1 blocks.2 norm", "blocks.1.mlp_tokens", make=mixer),
    case("timm", "efficientnet_lite0", 64, "blocks.1 blocks.2 blocks.4 bn2", "blocks.3.1.conv_pw"),
    case(
        "transformers",
        "ViT",
        32,
        " ".join(f"vit.layers.{i}" for i in (0, 1, 2, 3)),
        "vit.layers.1.attention",
        earlier=(
            " ".join(f"vit.encoder.layer.{i}" for i in (0, 1, 2, 3)),
            "vit.encoder.layer.1.attention",
        ),
        make=hf("ViT", image_size=32, patch_size=8, num_hidden_layers=5, **TINY),
    ),
    case(
        "transformers",
        "ConvNext",
        64,
        "convnext.encoder.stages.0 convnext.encoder.stages.1 convnext.encoder.stages.2",
        "convnext.encoder.stages.1.layers.0.dwconv",
        make=hf("ConvNext", num_stages=3, hidden_sizes=[8, 16, 24], depths=[1, 1, 1]),
    ),
    case(
        "transformers",
        "Swin",
        32,
        "swin.encoder.layers.1.blocks.0 swin.layernorm",
        "swin.encoder.layers.1.blocks.0.attention",
        make=hf(
            "Swin",
            image_size=32,
            patch_size=2,
            embed_dim=8,
            depths=[1, 1, 2],
            num_heads=[1, 2, 2],
            window_size=4,
        ),
    ),
]

MORE = [
    case("torchvision", "alexnet", 96, "features.1 features.4 features.11"),
    case("torchvision", "squeezenet1_1", 96, "features.4 features.7 features.12"),
    case(
        "torchvision",
        "googlenet",
        64,
        "conv3 inception3b inception4e inception5b",
        init_weights=False,
    ),
    case("torchvision", "mobilenet_v2", 64, "features.3 features.6 features.13 features.18"),
    case("torchvision", "shufflenet_v2_x0_5", 64, "stage2 stage3 conv5"),
    case("timm", "resnet10t", 64, "layer1 layer2 layer3 layer4"),
    case("timm", "regnetx_002", 64, "s1 s2 s3 s4"),
    case("timm", "mobilenetv3_small_050", 64, "blocks.0 blocks.1 blocks.3 blocks.5"),
    case("timm", "resnetv2_50", 64, "stages.0 stages.1 stages.2 norm"),
    case("timm", "pvt_v2_b0", 64, "stages.0.norm stages.1.norm stages.2 stages.3"),
    case(
        "timm",
        "eva02_tiny_patch14_224",
        56,
        "blocks.0 blocks.1 blocks.2 blocks.3",
        img_size=56,
        depth=4,
    ),
    case(
        "transformers",
        "CLIP",
        32,
        " ".join(f"vision_model.encoder.layers.{i}" for i in range(4)),
        make=hf(
            "CLIP",
            vision_config={"image_size": 32, "patch_size": 8, "num_hidden_layers": 4, **TINY},
        ),
    ),
    case(
        "transformers",
        "Dinov2WithRegisters",
        28,
        " ".join(f"dinov2_with_registers.encoder.layer.{i}" for i in range(3))
        + " dinov2_with_registers.layernorm",
        make=hf(
            "Dinov2WithRegisters",
            image_size=28,
            patch_size=7,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
        ),
    ),
    case(
        "transformers",
        "Segformer",
        64,
        "segformer.stages.0.layer_norm segformer.stages.1.layer_norm segformer.stages.2 "
        "segformer.stages.3",
        # stages were no modules
        earlier=(" ".join(f"segformer.encoder.layer_norm.{i}" for i in range(4)), None),
        make=hf(
            "Segformer",
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
        ),
    ),
]


def parameters(rows):
    return [pytest.param(row, id=f"{row.library}:{row.name}") for row in rows]
