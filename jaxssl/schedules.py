"""Values that change over training, as functions of its progress t in [0, 1]."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def cosine(t: Float[Array, "..."] | float, start: float, end: float) -> Float[Array, "..."]:
    """Half a cosine wave from `start` at t = 0 to `end` at t = 1, level before and after."""
    return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(t, 0, 1)))


def linear_warmup(
    t: Float[Array, "..."] | float, length: float, start: float = 0.0
) -> Float[Array, "..."]:
    """A ramp from `start` at t = 0 to 1 at t = `length`, level after; 1 if `length` is 0."""
    if length <= 0:
        return jnp.ones_like(t)
    return start + (1 - start) * jnp.clip(t / length, 0, 1)


def step_decay(
    t: Float[Array, "..."] | float, at: tuple[float, ...], factor: float
) -> Float[Array, "..."]:
    """1 at first, times `factor` from each t in `at` on."""
    return math.prod((jnp.where(t >= a, factor, 1.0) for a in at), start=jnp.ones_like(t))
