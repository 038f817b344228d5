"""The model card of an exported encoder: Markdown for those who get the file."""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import flatten
from jaxssl.metrics import read_metrics
from jaxssl.models.resnet import BLOCKS
from jaxssl.models.vit import ViT

_CIFAR_STEM = """\
net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
net.maxpool = torch.nn.Identity()
"""


def torch_code(network: Any, form: str, file: str) -> str:
    """Python that makes `net`, the encoder in torch, out of the file; "" if torch has none like it.

    Args:
      network: the encoder.
      form: "torchvision" or "timm"; "flax" is not for torch.
      file: name of the file.
    """
    if form == "flax":
        return ""
    if isinstance(network, ViT):
        made = _timm_vit(network)
    elif (network.width, network.padding) == (1.0, "torch"):
        made = _torch_resnet(network, form)
    else:
        return ""
    return (
        f"import {form}\nimport torch\nfrom safetensors.torch import load_file\n\n"
        f'{made}net.load_state_dict(load_file("{file}"))\nnet.eval()\n'
    )


def _timm_vit(network: Any) -> str:
    pool = '\n    global_pool="avg", fc_norm=False,' if network.pool == "mean" else ""
    return (
        "net = timm.models.vision_transformer.VisionTransformer(\n"
        f"    img_size={network.image_size}, patch_size={network.patch}, num_classes=0,\n"
        f"    embed_dim={network.dim}, depth={network.depth}, num_heads={network.heads},{pool}\n)\n"
    )


def _torch_resnet(network: Any, form: str) -> str:
    if form == "timm":
        made = f'net = timm.create_model("resnet{network.depth}", num_classes=0)\n'
    else:
        block = "Bottleneck" if network.depth >= 50 else "BasicBlock"
        made = (
            f"resnet = torchvision.models.resnet  # what resnet{network.depth}() is made with\n"
            f"net = resnet.ResNet(resnet.{block}, {list(BLOCKS[network.depth])})\n"
            "net.fc = torch.nn.Identity()\n"
        )
    return made + (_CIFAR_STEM if network.stem == "cifar" else "")


def model_card(
    config: ConfigDict, workdir: pathlib.Path, metadata: dict[str, str], file: str, code: str
) -> str:
    """What the encoder is, how to use it, how it was trained and how good it is.

    Args:
      config: of the run in `workdir`.
      metadata: of the file named `file`.
      code: of `torch_code`.
    """
    preprocessing = json.loads(metadata["preprocessing"])
    in_torch = f"In torch:\n\n```python\n{code}```\n" if code else _why_not_in_torch(metadata)
    rows = [f"| {name} | {value:.4g} |" for name, value in results(workdir, int(metadata["step"]))]
    table = "\n".join(["| result | value |", "| --- | --- |", *rows]) if rows else "None yet."
    values = "\n".join(f"{key} = {value!r}" for key, value in flatten(config).items())
    return f"""# {file}

The encoder {config.encoder.name} (`{metadata["encoder"]}`), trained by {config.method.name} with
the sampler {config.sampler.name} on `{config.data.source}`, without labels: {config.epochs} epochs
of batches of {config.batch_size}; these weights are of step {metadata["step"]}. Written by jaxssl
{metadata["jaxssl"]}, format {metadata["format"]}.

## Use

Images are divided by 255, less the mean {preprocessing["mean"]}, over the standard deviation
{preprocessing["std"]} (RGB). The results below are at {preprocessing["size"]} pixels a side.

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


def _why_not_in_torch(metadata: dict[str, str]) -> str:
    if metadata["format"] == "flax":
        return "The names in the file are paths of Flax; export `timm` names for torch.\n"
    return f"{metadata['format']} has no encoder like this one: load it as above.\n"


def results(workdir: pathlib.Path, step: int) -> list[tuple[str, float]]:
    """What was measured of the weights of a step: during training, and by `jaxssl.evaluate`."""
    found: dict[str, float] = {}
    for line in read_metrics(workdir):
        if line["step"] == step:
            found |= {k: v for k, v in line.items() if k.startswith("eval/")}
    path = workdir / "eval.json"
    for entry in json.loads(path.read_text()) if path.exists() else []:
        if entry["step"] == step:
            name = f"{entry['dataset']}/{entry['task']}, seed {entry['seed']}"
            found |= {f"{name}: {k}": v for k, v in entry["results"].items()}
    return list(found.items())
