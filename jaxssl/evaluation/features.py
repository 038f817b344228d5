"""Images to features, in batches of one shape."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from jaxssl.augment import normalize
from jaxssl.types import Features, Tree


def make_encode(
    encoder: nn.Module, normalization: str
) -> Callable[[Tree, UInt8[Array, "b s s 3"]], Float[Array, "b d"]]:
    """Returns `encode(variables, images)`, to be jitted: pooled features, BatchNorm frozen."""

    def encode(variables: Tree, images: UInt8[Array, "b s s 3"]) -> Float[Array, "b d"]:
        pixels = normalize(images.astype(jnp.float32) / 255, normalization)
        features: Features = encoder.apply(variables, pixels, train=False)  # type: ignore[assignment]
        return features.pooled

    return encode


def extract(encode: Callable, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Features f32[n, d] of images u8[n, s, s, 3]. The last batch is filled up with blanks.

    Batches are handed over one ahead of the one awaited, so that device and host overlap.
    """
    features: list[jax.Array] = []
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        missing = batch_size - len(batch)
        features.append(encode(np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))))
        if len(features) > 1:
            jax.block_until_ready(features[-2])
    return np.concatenate([np.asarray(f) for f in features])[: len(images)]
