"""The model card of an exported encoder, in Markdown, and the code that loads it in torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from jaxssl.config.checks import flatten
from jaxssl.models.resnet import BLOCKS, ResNet
from jaxssl.models.vit import ViT
from jaxssl.pretrained.metadata import Metadata

_DEPTHS = {"timm": tuple(BLOCKS), "torchvision": (18, 34, 50, 101, 152)}
# Options of the ResNets that detectron2 has.
_PLAIN = {"width": 1.0, "stem": "imagenet", "padding": "torch", "dilated_stages": 0}
_CIFAR_STEM = """\
net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
net.maxpool = torch.nn.Identity()
"""
_CARD = """\
# {file}

| | |
| --- | --- |
| encoder | {config.encoder.name}: `{encoder}` |
| trained by | {config.method.name} with views by {config.sampler.name}, without labels |
| data | `{config.data.source}` |
| length | {metadata.step} steps of {config.batch_size} images; all of it: {config.epochs} epochs |
| format | {metadata.format}, written by jaxssl {metadata.jaxssl} |

## Use

Images are divided by 255, less the mean {preprocessing[mean]}, over the standard deviation
{preprocessing[std]} (RGB). The results below are at {preprocessing[size]} pixels a side.

```python
import jaxssl

encoder = jaxssl.load_encoder("{file}")
features = encoder(images)  # uint8 [b, h, w, 3] to float32 [b, d]; encoder.grid(images): the grid
```

{in_torch}
## Results

{table}

## Config

```
{values}
```
"""

_IN_DETECTRON2 = """\
In detectron2, in a config of `build_resnet_backbone` of the same depth:

```yaml
INPUT: {{FORMAT: RGB}}
MODEL:
  WEIGHTS: {file}
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  RESNETS: {{STRIDE_IN_1X1: False}}
```
"""


def torch_code(network: nn.Module, format: str, file: str) -> str:
    """Python code that builds `net`, the encoder in torch, and loads the file into it.

    "" if torch has no such encoder, and for the formats "flax" and "detectron2".
    """
    made = ""
    if format in ("timm", "torchvision"):
        made = _vit(network) if isinstance(network, ViT) else _resnet(network, format)
    if not made:
        return ""
    read, imports = f'torch.load("{file}")', f"import torch\nimport {format}\n"
    if file.endswith(".safetensors"):
        read, imports = (
            f'load_file("{file}")',
            imports + "from safetensors.torch import load_file\n",
        )
    return f"{imports}\n{made}net.load_state_dict({read})\nnet.eval()\n"


def _vit(network: ViT) -> str:
    pool = '\n    global_pool="avg", fc_norm=False,' if network.pool == "mean" else ""
    dino_v2 = "\n    init_values=1.0," if network.layer_scale else ""
    if network.registers:
        dino_v2 += f"\n    reg_tokens={network.registers}, no_embed_class=True,"
    return f"""\
net = timm.models.vision_transformer.VisionTransformer(
    img_size={network.image_size}, patch_size={network.patch}, num_classes=0,
    embed_dim={network.dim}, depth={network.depth}, num_heads={network.heads},{pool}{dino_v2}
)
"""


def _resnet(network: nn.Module, format: str) -> str:
    if not isinstance(network, ResNet) or network.depth not in _DEPTHS[format]:
        return ""
    stages = network.dilated_stages
    can_dilate = 2 if format == "timm" else 3 if network.depth >= 50 else 0
    if (network.width, network.padding) != (1.0, "torch") or stages > can_dilate:
        return ""
    if format == "timm":
        dilated = f", output_stride={32 >> stages}" if stages else ""
        made = f'net = timm.create_model("resnet{network.depth}", num_classes=0{dilated})\n'
    else:
        which = [stage >= 3 - stages for stage in range(3)]
        dilated = f"replace_stride_with_dilation={which}" if stages else ""
        made = f"net = torchvision.models.resnet{network.depth}({dilated})\n"
        made += "net.fc = torch.nn.Identity()\n"
    return made + (_CIFAR_STEM if network.stem == "cifar" else "")


def use_in_torch(metadata: Metadata, file: str, code: str) -> str:
    """How a library of torch takes the file; "" if its library has no such encoder.

    Args:
      metadata: of the file.
      file: its name.
      code: of `torch_code`.
    """
    if code:
        return f"In torch:\n\n```python\n{code}```\n"
    if metadata.format == "flax":
        return "The names in the file are paths of Flax; export `timm` names for torch.\n"
    options: Mapping[str, Any] = metadata.encoder
    if metadata.format != "detectron2" or any(options.get(k, v) != v for k, v in _PLAIN.items()):
        return ""
    return _IN_DETECTRON2.format(
        file=file,
        mean=[round(255 * value, 3) for value in metadata.preprocessing["mean"]],
        std=[round(255 * value, 3) for value in metadata.preprocessing["std"]],
    )


def model_card(
    config: ConfigDict,
    results: Sequence[tuple[str, str]],
    metadata: Metadata,
    file: str,
    in_torch: str,
) -> str:
    """The card: the encoder, its use, its training, its results.

    Args:
      config: of the run.
      results: names and values, as they are shown, of the measurements of these weights.
      metadata: of the file.
      file: its name.
      in_torch: of `use_in_torch`.
    """
    in_torch = in_torch or f"{metadata.format} has no encoder like this one: load it as above.\n"
    rows = [f"| {name} | {value} |" for name, value in results]
    table = "\n".join(["| result | value |", "| --- | --- |", *rows]) if rows else "None yet."
    values = "\n".join(f"{key} = {value!r}" for key, value in flatten(config).items())
    return _CARD.format(
        file=file,
        config=config,
        metadata=metadata,
        encoder=metadata.texts()["encoder"],
        preprocessing=metadata.preprocessing,
        in_torch=in_torch,
        table=table,
        values=values,
    )
