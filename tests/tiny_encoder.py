"""An encoder for tests, and for processes that they start: `python tiny_encoder.py` trains it."""

import sys
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxssl import train
from jaxssl.config.parts import KNOWN
from jaxssl.types import Features


class TinyEncoder(nn.Module):
    """Two convolutions: compiling is what tests wait for, and a ResNet has twenty."""

    width: float = 1.0  # stands for the options of an encoder
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(8, (3, 3), strides=4, use_bias=False)(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        grid = nn.relu(nn.Conv(12, (2, 2))(x))
        return Features(grid=grid, pooled=grid.mean(axis=(1, 2)))


if __name__ == "__main__":
    KNOWN["encoder"]["tiny"] = TinyEncoder
    sys.exit(train.main(sys.argv[1:]))
