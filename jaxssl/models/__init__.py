"""Encoders: images to `Features`; and the heads that methods put on them."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxssl.models.resnet import BLOCKS, ResNet
from jaxssl.models.vit import ViT
from jaxssl.types import Tree

# What `encoder.name` may be. Fields left free are the options of the encoder.
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    f"resnet{depth}": functools.partial(ResNet, depth=depth) for depth in BLOCKS
} | {
    "vit_tiny": functools.partial(ViT, dim=192, depth=12, heads=3),
    "vit_small": functools.partial(ViT, dim=384, depth=12, heads=6),
    "vit_small_moco_v3": functools.partial(ViT, dim=384, depth=12, heads=12),
    "vit_base": functools.partial(ViT, dim=768, depth=12, heads=12),
    "vit_large": functools.partial(ViT, dim=1024, depth=24, heads=16),
}


def variable_shapes(encoder: nn.Module, size: int) -> Tree:
    """Shapes of an encoder's variables; UserError if it takes no images of `size` pixels."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), image)
    return {"batch_stats": {}} | shapes  # a ViT has none
