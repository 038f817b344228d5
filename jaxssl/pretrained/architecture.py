"""Finds the encoder of a file of weights that does not name it, by trying those that there are."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxssl.config import build, defaults
from jaxssl.config.parts import KNOWN
from jaxssl.errors import UserError
from jaxssl.models import variable_shapes
from jaxssl.models.vit import ViT
from jaxssl.pretrained.param_names import Found, find_tensors, from_tensors

SIZE = 224  # side of the images that released ResNets are evaluated on
FLOAT32: dict[str, Any] = {"dtype": jnp.dtype("float32"), "remat": False}
# Of the tensors that tell options, by their paths.
_DIMENSIONS = {("patch_embed", "kernel"): 4, ("pos_embed",): 3, ("reg_token",): 3}
_DIMENSIONS |= {("conv1", "kernel"): 4}
# MoCo v3 calls a network so. Its small Vision Transformer has 12 heads, which no tensor shows.
_OF_MOCO_V3 = re.compile(r"(^|[./])momentum_encoder[./]")
_RESIZED = {"plain": "transformers", "offset": "the releases of DINO", "antialias": "timm"}
_MAY_DIFFER = {"drop_path", "layer_scale", "zero_init", "remat_expansions"}


class OddShapeError(UserError):
    """A tensor has the name of an encoder's and the shape of none."""


def find_architecture(
    tensors: Mapping[str, np.ndarray], name: str = "", prefix: str = ""
) -> tuple[ConfigDict, int]:
    """The section `encoder` of a config that fits, and the side of its images.

    Args:
      tensors: of a file, by name.
      name: of the encoder, which then need not fit; "": the first that fits.
      prefix: chooses one of several networks; see `param_names.find_tensors`.

    Raises:
      UserError: none fits.
    """
    of_moco_v3 = is_moco_v3(tensors)
    known = (
        [name] if name else sorted(KNOWN["encoder"], key=lambda n: ("moco_v3" in n) < of_moco_v3)
    )
    options: dict[type, dict[str, Any]] = {}  # by the kind of network
    odd = ""
    for tried in known:
        network = build("encoder", defaults("encoder", tried), **FLOAT32)
        try:
            if type(network) not in options:
                options[type(network)] = _find_options(tensors, network, prefix)
            section = defaults("encoder", tried, **options[type(network)])
            size = section.get("image_size", SIZE)
            if not name:
                network = build("encoder", section, **FLOAT32)
                from_tensors(tensors, variable_shapes(network, size), prefix)
        except OddShapeError as error:
            odd = f"; {error}"
        except UserError:  # it is of another
            continue
        else:
            return section, size
    raise UserError(f"it fits none of {', '.join(known)}{odd}")


def is_moco_v3(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the tensors of a file have names of MoCo v3."""
    return any(map(_OF_MOCO_V3.search, tensors))


def describe(encoder: ConfigDict, size: int, normalize: str) -> str:
    """An encoder that was found, what its name does not tell, and which images it is given."""
    default, network = defaults("encoder", encoder.name), build("encoder", encoder, **FLOAT32)
    told = [f"{k}={v}" for k, v in encoder.items() if v != default[k] and k != "pos_resize"]
    told += [f"{network.heads} heads"] if isinstance(network, ViT) else []
    options = f" ({', '.join(told)})" if told else ""
    images = f"for images of {size} pixels, normalized as --encoder-normalize {normalize}"
    return f"{encoder.name}{options}, {images}{_other_sizes(encoder)}"


def _other_sizes(encoder: ConfigDict) -> str:
    if encoder.get("stem") == "cifar":
        return "; its stem is for small images: give --size 32 for those of CIFAR"
    if resized := _RESIZED.get(encoder.get("pos_resize", "")):
        return f"; for images of other sizes positions are resized as by {resized}"
    return ""


def differing_options(before: Mapping[str, Any], now: ConfigDict) -> dict[str, Any]:
    """Those options of an encoder, as it was, that now have another value and change features."""
    plain = json.loads(json.dumps(now.to_dict()))  # tuples become lists, as in a file
    return {k: v for k, v in before.items() if k not in _MAY_DIFFER and plain.get(k, v) != v}


def _find_options(
    tensors: Mapping[str, np.ndarray], network: nn.Module, prefix: str
) -> dict[str, Any]:
    """The options that show in the shapes of a network's first tensors, where those are there."""
    if isinstance(network, ViT):
        network = network.clone(registers=1, layer_scale=1.0)  # to look for them
    flat = flax.traverse_util.flatten_dict(variable_shapes(network, SIZE))
    found = find_tensors(tensors, list(flat), prefix)
    shape = {path[1:]: found.array(path).shape for path in found.names}
    for path, dimensions in _DIMENSIONS.items():
        if path in shape and (len(shape[path]) != dimensions or 0 in shape[path]):
            name = found.names["params", *path]
            raise OddShapeError(f"{name} is {found.tensors[name].shape}, of an encoder of no kind")
    if ("patch_embed", "kernel") in shape and ("pos_embed",) in shape:
        return _vit_options(shape, found)
    if ("conv1", "kernel") in shape:
        side, *_, channels = shape["conv1", "kernel"]
        stem = "cifar" if side == 3 else "imagenet"
        padding = "same" if found.naming == "haiku" else "torch"
        return {"stem": stem, "width": channels / 64, "padding": padding}
    return {}


def _vit_options(shape: Mapping[tuple[str, ...], tuple[int, ...]], found: Found) -> dict[str, Any]:
    """The options of a Vision Transformer, by the shapes of its tensors and by their names.

    Names tell who resizes its positional embeddings. timm's are those of the releases of DINO and
    DINOv2: DINO's are told by their teacher and student, a DINOv2 without registers is taken for
    the release, and all others for timm's.
    """
    patch, places = shape["patch_embed", "kernel"][0], shape[("pos_embed",)][1]
    side = math.isqrt(places - 1)  # one is the class token's, but in timm where there are registers
    side = side if side**2 == places - 1 else math.isqrt(places)
    options: dict[str, Any] = {"patch": patch, "image_size": patch * side}
    if ("blocks_0", "ls1", "gamma") not in shape:
        of_dino = any(re.search(r"\b(teacher|student)\b", prefix) for prefix in found.networks)
        in_torch = "offset" if of_dino else "antialias"
        return options | {"pos_resize": in_torch if found.naming == "torch" else "plain"}
    registers = shape.get(("reg_token",), (1, 0))[1]
    others = "plain" if found.naming.startswith("transformers") else "offset"
    resize = "antialias" if registers else others
    return options | {"layer_scale": 1e-5, "registers": registers, "pos_resize": resize}
