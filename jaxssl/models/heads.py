"""Heads: small networks on the pooled features, which are thrown away after pre-training."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxssl.errors import check_choice


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """torch's default for weights and biases of linear layers: uniform in +-1/sqrt(fan_in).

    Code in torch relies on it. The variance is a third of that of Flax's default, which in a head
    without batch norm is the scale of what comes out.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


gelu = functools.partial(nn.gelu, approximate=False)


class MLP(nn.Module):
    """Linear layers, with batch norm and an activation after each but the last.

    | head | options |
    | --- | --- |
    | SimCLR in lightly 1.4.14, SAMCLR | `final_batch_norm="affine"` |
    | SimCLR (google-research/simclr) | `final_batch_norm="scale"` |
    | BYOL, DetCon | `bias=True` |
    | MoCo v2 | `batch_norm=False, bias=True, final_bias=True` |
    | SimSiam, projector | two of `hidden`, `final_batch_norm="fixed"` |
    | SimSiam, predictor | `final_bias=True` |
    | SwAV | `bias=True, final_bias=True` |
    | DINO | as MoCo v2, two of `hidden`, `activation=gelu, normal_std=0.02` |
    | DINO in lightly | two of `hidden`, `final_bias=True, activation=gelu, normal_std=0.02` |
    """

    hidden: tuple[int, ...]  # widths of the layers before the last; (): one linear layer
    out: int
    bias: bool = False  # in the layers before the last
    final_bias: bool = False
    batch_norm: bool = True  # in the layers before the last
    final_batch_norm: str = "none"  # affine: scale and offset | scale | fixed: neither | none
    activation: Callable[[Array], Array] = nn.relu
    normal_std: float = 0.0  # of the first weights, biases then start at 0; 0: torch's default
    dtype: Any = jnp.float32  # of the computation; parameters and statistics are float32

    def __post_init__(self) -> None:
        kinds = ("none", "affine", "scale", "fixed")
        check_choice("method.final_batch_norm", self.final_batch_norm, kinds)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "*n k"], train: bool) -> Float[Array, "*n d"]:
        """Returns float32. Batch norm averages over all axes but the last."""
        last = len(self.hidden) + 1
        batch_norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        for i, width in enumerate(self.hidden, start=1):
            x = self._linear(i, width, self.bias, x)
            x = batch_norm(name=f"bn{i}")(x) if self.batch_norm else x
            x = self.activation(x)
        x = self._linear(last, self.out, self.final_bias, x)
        if self.final_batch_norm != "none":
            scale, offset = self.final_batch_norm != "fixed", self.final_batch_norm == "affine"
            x = batch_norm(name=f"bn{last}", use_scale=scale, use_bias=offset)(x)
        return x.astype(jnp.float32)

    def _linear(self, i: int, width: int, bias: bool, x: Array) -> Array:
        kernel_init = bias_init = torch_uniform(fan_in=x.shape[-1])
        if self.normal_std:
            kernel_init, bias_init = nn.initializers.normal(self.normal_std), nn.initializers.zeros
        return nn.Dense(
            width,
            use_bias=bias,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=self.dtype,
            name=f"linear{i}",
        )(x)


def scores(x: Float[Array, "v b d"], weights: Float[Array, "k d"]) -> Float[Array, "v b k"]:
    """A linear layer without bias: the inner product of each row with each prototype."""
    return jnp.einsum("vbd,kd->vbk", x, weights, precision=jax.lax.Precision.HIGHEST)


def weight_normed_scores(
    x: Float[Array, "v b d"], weights: dict[str, Array]
) -> Float[Array, "v b k"]:
    """`scores` with weights given as directions `v` f32[k, d] and lengths `g` f32[k, 1].

    Weight normalization: Salimans and Kingma, arXiv 1602.07868. Lengths left out are 1.
    """
    direction = weights["v"] / jnp.linalg.norm(weights["v"], axis=1, keepdims=True)
    y = scores(x, direction)
    return y * weights["g"].reshape(1, 1, -1) if "g" in weights else y
