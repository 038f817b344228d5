"""Encoders: images to `Features`; and the heads that methods put on them."""

import functools
from collections.abc import Callable

from jaxssl.models.resnet import BLOCKS, ResNet

# What `encoder.name` may be. Fields left free are the options of the encoder.
ENCODERS: dict[str, Callable[..., ResNet]] = {
    f"resnet{depth}": functools.partial(ResNet, depth=depth) for depth in BLOCKS
}
