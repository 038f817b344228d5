"""Names of an encoder's weights in other libraries.

| here | torchvision, timm, facebookresearch/dino | google-deepmind: BYOL, DetCon |
| --- | --- | --- |
| `layer1_0/conv1/kernel` | `layer1.0.conv1.weight` | `block_group_0/~/block_0/~/conv_0/w` |
| `layer1_0/bn1/bias` | `layer1.0.bn1.bias` | `block_group_0/~/block_0/~/batchnorm_0/offset` |
| `layer1_0/bn1/mean` | `layer1.0.bn1.running_mean` | `.../batchnorm_0/~/mean_ema/average` |
| `layer1_0/downsample_conv` | `layer1.0.downsample.0` | `.../shortcut_conv` |
| `blocks_0/attn/qkv/kernel` | `blocks.0.attn.qkv.weight` | |
| `patch_embed/kernel` | `patch_embed.proj.weight` | |

Further libraries differ from torchvision and timm by the replacements in `_REPLACED`.
"""

import functools
import re
from collections.abc import Callable

Path = tuple[str, ...]  # collection, modules, leaf: ("params", "layer1_0", "conv1", "kernel")

_TORCH_LEAVES = {"kernel": "weight", "scale": "weight"}
_TORCH_LEAVES |= {"mean": "running_mean", "var": "running_var"}
_HAIKU_LEAVES = {"kernel": "w", "bias": "offset"}
_HAIKU_LEAVES |= {"mean": "~/mean_ema/average", "var": "~/var_ema/average"}


def torch_name(path: Path) -> str:
    """The name in torchvision's ResNet, and in timm's and DINO's ResNet and Vision Transformer."""
    _, *modules, leaf = path
    name = ".".join([*modules, _TORCH_LEAVES.get(leaf, leaf)])
    name = name.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    name = re.sub(r"^(layer\d|blocks)_", r"\1.", name)
    return name.replace("patch_embed", "patch_embed.proj")


def haiku_name(path: Path) -> str:
    """The name in Haiku's ResNet."""
    _, *modules, leaf = path
    names = []
    for module in modules:
        if block := re.fullmatch(r"layer(\d)_(\d+)", module):
            names += [f"block_group_{int(block[1]) - 1}", "~", f"block_{block[2]}", "~"]
        elif layer := re.fullmatch(r"(conv|bn)(\d)", module):
            kind = layer[1].replace("bn", "batchnorm")
            names.append(f"{kind}_{int(layer[2]) - 1}" if names else f"initial_{kind}")
        else:
            names.append(module.replace("downsample", "shortcut").replace("_bn", "_batchnorm"))
    return "/".join([*names, _HAIKU_LEAVES.get(leaf, leaf)])


Replacements = dict[
    str, str
]  # of patterns in `torch_name`, one after the other; {1+3}: group 1 + 3
_DINOV2: Replacements = {
    r"^(cls_token)": r"embeddings.\1", r"^pos_embed": "embeddings.position_embeddings",
    r"^reg_token": "embeddings.register_tokens", r"^blocks": "encoder.layer",
    r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"ls(\d)\.gamma": r"layer_scale\1.lambda1", r"^norm\.": "layernorm.",
}  # fmt: skip
_REPLACED: dict[str, Replacements] = {
    # ResNets for CIFAR, after github.com/kuangliu/pytorch-cifar
    "shortcut": {"downsample": "shortcut"},
    # torch.nn.Sequential(*list(torchvision.models.resnet50().children())[:-1])
    "nn.Sequential": {r"^conv1": "0", r"^bn1": "1", r"^layer(\d)": "{1+3}"},
    # The same of lightly.models.ResNetGenerator
    "lightly": {
        r"^conv1": "0", r"^bn1": "1", r"^layer(\d)": "{1+1}", "downsample": "shortcut",
    },
    "detectron2": {
        r"^(conv1|bn1)": r"stem.\1", r"\bbn(\d)": r"conv\1.norm", r"^layer(\d)": "res{1+1}",
        r"downsample\.0": "shortcut", r"downsample\.1": "shortcut.norm",
    },
    "transformers": {
        r"^(conv|bn)1": r"embedder.embedder.\1",
        r"^layer(\d)\.(\d+)\.(conv|bn)(\d)": r"encoder.stages.{1-1}.layers.\2.layer.{4-1}.\3",
        r"^layer(\d)\.(\d+)\.downsample\.": r"encoder.stages.{1-1}.layers.\2.shortcut.",
        r"\bconv\.|(?<=shortcut\.)0\.": "convolution.",
        r"\bbn\.|(?<=shortcut\.)1\.": "normalization.",
        r"^(cls_token)": r"embeddings.\1", r"^pos_embed": "embeddings.position_embeddings",
        r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
        r"^blocks": "encoder.layer", r"attn\.qkv": "attention.attention.qkv",
        r"attn\.proj": "attention.output.dense", r"norm1": "layernorm_before",
        r"norm2": "layernorm_after", r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense", r"^norm\.": "layernorm.",
    },
    "DINOv2": {"reg_token": "register_tokens"},
    "transformers, DINOv2": _DINOV2 | {
        r"attn\.qkv": "attention.attention.qkv", r"attn\.proj": "attention.output.dense",
    },
    "transformers 5, DINOv2": _DINOV2 | {
        r"attn\.qkv": "attention.qkv", r"attn\.proj": "attention.o_proj",
    },
    "transformers 5": {  # its Vision Transformer
        r"^(cls_token)": r"embeddings.\1", r"^pos_embed": "embeddings.position_embeddings",
        r"^patch_embed\.proj": "embeddings.patch_embeddings.projection", r"^blocks": "layers",
        r"attn\.qkv": "attention.qkv", r"attn\.proj": "attention.o_proj",
        r"norm1": "layernorm_before", r"norm2": "layernorm_after", r"^norm\.": "layernorm.",
    },
    "torchvision": {  # its Vision Transformer
        r"^cls_token": "class_token", r"^pos_embed": "encoder.pos_embedding",
        r"^patch_embed\.proj": "conv_proj", r"^blocks\.(\d+)": r"encoder.layers.encoder_layer_\1",
        r"norm(\d)": r"ln_\1", r"attn\.qkv\.": "self_attention.in_proj_",
        r"attn\.proj": "self_attention.out_proj", r"mlp\.fc1": "mlp.0", r"mlp\.fc2": "mlp.3",
        r"^norm\.": "encoder.ln.",
    },
    "mmpretrain": {  # its Vision Transformer
        r"^patch_embed\.proj": "patch_embed.projection", r"^blocks": "layers", r"norm(\d)": r"ln\1",
        r"mlp\.fc1": "ffn.layers.0.0", r"mlp\.fc2": "ffn.layers.1", r"^norm\.": "ln1.",
    },
}  # fmt: skip


def _renamed(replacements: Replacements, path: Path) -> str:
    name = torch_name(path)
    for pattern, text in replacements.items():
        name = re.sub(pattern, functools.partial(_expand, text), name)
    return name


def _expand(text: str, match: re.Match[str]) -> str:
    counted = re.sub(
        r"\{(\d)([+-]\d)\}", lambda sum: str(int(match[int(sum[1])]) + int(sum[2])), text
    )
    return match.expand(counted)


# By the name of whoever names them so. All but Flax and Haiku lay kernels out as torch does.
NAMINGS: dict[str, Callable[[Path], str]] = {
    "flax": "/".join,
    "torch": torch_name,
    "haiku": haiku_name,
} | {name: functools.partial(_renamed, changes) for name, changes in _REPLACED.items()}
