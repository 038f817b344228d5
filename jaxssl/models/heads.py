"""Heads: small networks on the pooled features, which are thrown away after pre-training."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """torch's default for weights and biases of linear layers: uniform in +-1/sqrt(fan_in).

    The papers' released code relies on it. The variance is a third of that of Flax's default, which
    in a head without batch norm is the scale of what comes out.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


class MLP(nn.Module):
    """Linear layers, with batch norm and ReLU after each but the last.

    | head | options |
    | --- | --- |
    | SimCLR in lightly 1.4.14, SAMCLR | `final_batch_norm="affine"` |
    | SimCLR (google-research/simclr) | `final_batch_norm="scale"` |
    | BYOL, DetCon | `bias=True` |
    | MoCo v2 | `batch_norm=False, bias=True, final_bias=True` |
    | SimSiam, projector | two of `hidden`, `final_batch_norm="fixed"` |
    | SimSiam, predictor | `final_bias=True` |
    """

    hidden: tuple[int, ...]  # widths of the layers before the last; (): one linear layer
    out: int
    bias: bool = False  # in the layers before the last
    final_bias: bool = False
    batch_norm: bool = True  # in the layers before the last
    final_batch_norm: str = "none"  # affine: scale and offset | scale | fixed: neither | none
    dtype: Any = jnp.float32  # of the computation; parameters and statistics are float32

    def __post_init__(self) -> None:
        if self.final_batch_norm not in (allowed := ("none", "affine", "scale", "fixed")):
            raise ValueError(
                f"unknown final_batch_norm {self.final_batch_norm!r}; "
                f"choose one of {', '.join(allowed)}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "*n k"], train: bool) -> Float[Array, "*n d"]:
        """Returns float32. Batch norm averages over all axes but the last."""
        last = len(self.hidden) + 1
        for i, width in enumerate(self.hidden, start=1):
            x = self._linear(i, width, self.bias, x)
            x = self._batch_norm(i, train)(x) if self.batch_norm else x
            x = nn.relu(x)
        x = self._linear(last, self.out, self.final_bias, x)
        if self.final_batch_norm != "none":
            x = self._batch_norm(
                last,
                train,
                use_scale=self.final_batch_norm != "fixed",
                use_bias=self.final_batch_norm == "affine",
            )(x)
        return x.astype(jnp.float32)

    def _linear(self, i: int, width: int, bias: bool, x: Array) -> Array:
        init = _torch_uniform(fan_in=x.shape[-1])
        return nn.Dense(
            width,
            use_bias=bias,
            kernel_init=init,
            bias_init=init,
            dtype=self.dtype,
            name=f"linear{i}",
        )(x)

    def _batch_norm(
        self, i: int, train: bool, *, use_scale: bool = True, use_bias: bool = True
    ) -> nn.BatchNorm:
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            use_scale=use_scale,
            use_bias=use_bias,
            dtype=self.dtype,
            name=f"bn{i}",
        )
