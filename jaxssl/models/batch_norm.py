"""Batch norm of several views in one pass, each of which is a batch of its own."""

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def of_each_view(views: int) -> contextlib.AbstractContextManager[None]:
    """Batch norm in this context takes its rows [b v, ...] for `views` batches, not for one.

    The views of an image lie next to one another. The result and the running averages are those of
    one pass after the other, at half of the program or less: it holds each layer once.
    """

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        norm = context.module
        if isinstance(norm, nn.BatchNorm) and not norm.use_running_average:
            return _normalize(norm, args[0], views)
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def _normalize(norm: nn.BatchNorm, x: Float[Array, "n *s d"], views: int) -> Array:
    """The output of `norm` for x, as Flax computes it, but with statistics of each view."""
    rows, *inside, d = x.shape

    def mean(values: Array) -> Float[Array, "v d"]:
        # Of each row first: an accelerator may keep large arrays with the rows innermost.
        by_row = values.mean(axis=tuple(range(1, x.ndim - 1)))
        return by_row.reshape(-1, views, d).mean(axis=0)

    def of_row(values: Float[Array, "v d"]) -> Array:
        return jnp.tile(values, (rows // views, 1)).reshape(rows, *(1 for _ in inside), d)

    def param(name: str, init: Any) -> Float[Array, "1 d"]:
        value: Array = norm.param(name, init, (d,), norm.param_dtype)
        return value[None]

    wide = x.astype(jnp.float32)
    average = mean(wide)
    variance = jnp.maximum(mean(wide * wide) - average * average, 0)
    for name, values, start in (("mean", average, jnp.zeros), ("var", variance, jnp.ones)):
        running = norm.variable("batch_stats", name, start, (d,))
        for i in range(views):
            running.value = norm.momentum * running.value + (1 - norm.momentum) * values[i]
    factor = jax.lax.rsqrt(variance + norm.epsilon)
    if norm.use_scale:
        factor = factor * param("scale", norm.scale_init)
    y = (wide - of_row(average)) * of_row(factor)
    if norm.use_bias:
        bias = param("bias", norm.bias_init)
        y = y + bias.reshape(*(1 for _ in x.shape[:-1]), d)
    return y.astype(norm.dtype or y.dtype)
