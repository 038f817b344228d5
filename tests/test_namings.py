"""Encoders under the names of other libraries, and of several in a file the one that is meant."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from test_param_names import assert_same, scenes, without, zeros

from jaxssl.errors import UserError
from jaxssl.models import variable_shapes
from jaxssl.models.vit import ViT
from jaxssl.pretrained.param_names import from_tensors, to_torch


def moco_to_detectron2(name):
    """After what MoCo's authors do to their weights for detectron2."""
    name = name if "layer" in name else f"stem.{name}"
    name = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def in_transformers(name):
    """torchvision's name of a tensor of a ResNet as transformers' ResNetModel has it."""
    kind = "normalization" if re.search(r"bn\d|downsample.1", name) else "convolution"
    leaf = name.rpartition(".")[2]
    if not name.startswith("layer"):
        return f"resnet.embedder.embedder.{kind}.{leaf}"
    stage, block, part = name[5:].split(".")[:3]
    layer = "shortcut" if part == "downsample" else f"layer.{int(part[-1]) - 1}"
    return f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.{layer}.{kind}.{leaf}"


def numbered(offset):
    """As torch.nn.Sequential numbers the parts, the first stage being at 1 + offset."""

    def rename(name):
        name = name.replace("conv1.", "0.", 1) if name.startswith("conv1") else name
        name = name.replace("bn1.", "1.", 1) if name.startswith("bn1") else name
        name = re.sub(r"^layer(\d)", lambda match: str(int(match[1]) + offset), name)
        return f"backbone.{name}" if offset == 3 else name.replace("downsample", "shortcut")

    return rename


@pytest.mark.parametrize(
    ("naming", "rename"),
    [
        ("shortcut", lambda name: "net." + name.replace("downsample", "shortcut")),
        ("nn.Sequential", numbered(3)),
        ("lightly", numbered(1)),
        ("detectron2", lambda name: f"backbone.bottom_up.{moco_to_detectron2(name)}"),
        ("transformers", in_transformers),
    ],
)
def test_a_resnet_under_the_names_of_others(small_resnet, naming, rename):
    shapes, variables = small_resnet
    tensors = {rename(k): v for k, v in to_torch(variables).items()}
    assert len(tensors) == 85
    more = {"projector.0.weight": np.zeros(3)}
    loaded = from_tensors(tensors | more, shapes)
    assert (loaded.naming, loaded.ignored) == (naming, ("projector.0.weight",))
    assert_same(loaded.variables, variables)
    with pytest.raises(UserError, match=f"84 of the 85 tensors of the encoder by {naming} names"):
        from_tensors(without(tensors, min(tensors)), shapes)


def test_a_vision_transformer_of_torchvision():
    net = torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 192).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    net.heads = torch.nn.Identity()
    ours = ViT(dim=48, depth=2, heads=3, patch=8, image_size=32)
    tensors = {k: v.numpy() for k, v in net.state_dict().items()}
    loaded = from_tensors(tensors, variable_shapes(ours, 32))
    assert (loaded.naming, loaded.ignored) == ("torchvision", ())
    images = scenes()[:, :32, :32]
    variables = jax.tree.map(jnp.asarray, loaded.variables)
    features = ours.apply(variables, jnp.asarray(images), train=False).pooled
    with torch.no_grad():
        expected = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)


VIT = {  # in timm, in transformers as hubs have them, in transformers 5, in mmpretrain
    "cls_token": ("embeddings.cls_token", "embeddings.cls_token", "cls_token"),
    "pos_embed": ("embeddings.position_embeddings", "embeddings.position_embeddings", "pos_embed"),
    "patch_embed.proj": (
        "embeddings.patch_embeddings.projection", "embeddings.patch_embeddings.projection",
        "patch_embed.projection",
    ),
    "blocks.0.norm1": (
        "encoder.layer.0.layernorm_before", "layers.0.layernorm_before", "layers.0.ln1"
    ),
    "blocks.0.norm2": (
        "encoder.layer.0.layernorm_after", "layers.0.layernorm_after", "layers.0.ln2"
    ),
    "blocks.0.attn.qkv": (
        "encoder.layer.0.attention.attention.", "layers.0.attention.", "layers.0.attn.qkv"
    ),
    "blocks.0.attn.proj": (
        "encoder.layer.0.attention.output.dense", "layers.0.attention.o_proj", "layers.0.attn.proj"
    ),
    "blocks.0.mlp.fc1": (
        "encoder.layer.0.intermediate.dense", "layers.0.mlp.fc1", "layers.0.ffn.layers.0.0"
    ),
    "blocks.0.mlp.fc2": (
        "encoder.layer.0.output.dense", "layers.0.mlp.fc2", "layers.0.ffn.layers.1"
    ),
    "norm": ("layernorm", "layernorm", "ln1"),
}  # fmt: skip


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_vision_transformer_under_the_names_of_others(column):
    net = ViT(dim=16, depth=1, heads=2, image_size=32)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.random(x.shape, np.float32), zeros(net))
    tensors = {}
    for name, array in to_torch(variables).items():
        module, _, leaf = (name, "", "") if name in VIT else name.rpartition(".")
        theirs = VIT[module][column]
        if theirs.endswith("attention."):
            words = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))[column]
            tensors |= {
                f"{theirs}{w}.{leaf}": a for w, a in zip(words, np.split(array, 3), strict=True)
            }
        else:
            tensors[f"{theirs}.{leaf}" if leaf else theirs] = array
    tensors = {f"vit.{name}": array for name, array in tensors.items()}
    loaded = from_tensors(
        tensors | {"vit.pooler.dense.bias": np.zeros(3)}, variable_shapes(net, 32)
    )
    assert loaded.naming == ("transformers", "transformers 5", "mmpretrain")[column]
    assert_same(loaded.variables, variables)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("module.base_encoder.", "module.momentum_encoder."),  # MoCo v3
        ("state_dict.backbone.", "state_dict.momentum_backbone."),  # solo-learn
        ("backbone.", "backbone_momentum."),  # lightly
        ("teacher_backbone.", "student_backbone."),
        ("state_dict_ema.", "state_dict."),  # timm
        ("model_ema.module.", "model."),  # torchvision
        ("online_encoder.net.", "target_encoder.net."),
        ("backbone.", "encoder_k.0."),  # MMSelfSup
        ("base_model.model.trunk._feature_blocks.", "loss.moco_encoder.trunk._feature_blocks."),
        ("teacher.backbone.", "student.module._orig_mod.backbone."),  # DINO, compiled
    ],
)
def test_the_network_of_two_that_is_evaluated(small_resnet, first, second):
    shapes, variables = small_resnet
    other = jax.tree.map(lambda x: x + 1, variables)
    tensors = {second + k: v for k, v in to_torch(other).items()}
    tensors |= {first + k: v for k, v in to_torch(variables).items()}
    loaded = from_tensors(tensors, shapes)
    assert_same(loaded.variables, variables)
    assert loaded.networks == (first, second)
    assert_same(from_tensors(tensors, shapes, second).variables, other)
    with pytest.raises(UserError, match="no name in it has the prefix 'nothing'; there are .*"):
        from_tensors(tensors, shapes, "nothing")


def test_mmengine_saves_the_average_as_the_network_and_the_network_as_the_average(small_resnet):
    shapes, variables = small_resnet
    average, other = to_torch(variables), to_torch(jax.tree.map(lambda x: x + 1, variables))
    tensors = {f"state_dict.backbone.{k}": v for k, v in average.items()}
    tensors |= {f"ema_state_dict.module.backbone.{k}": v for k, v in other.items()}
    loaded = from_tensors(tensors | {"ema_state_dict.steps": np.array(3)}, shapes)
    assert_same(loaded.variables, variables)
    assert loaded.networks == ("state_dict.backbone.", "ema_state_dict.module.backbone.")
    loaded = from_tensors(tensors, shapes)  # of others
    assert loaded.networks == ("ema_state_dict.module.backbone.", "state_dict.backbone.")
