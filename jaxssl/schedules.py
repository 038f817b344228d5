"""Values that change over training, as functions of its progress t in [0, 1]."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def cosine(t: Float[Array, "..."] | float, start: float, end: float) -> Float[Array, "..."]:
    """Half a cosine wave from `start` at t = 0 to `end` at t = 1, level before and after."""
    return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(t, 0, 1)))


def linear_warmup(t: Float[Array, "..."] | float, length: float) -> Float[Array, "..."]:
    """A ramp from 0 at t = 0 to 1 at t = `length`, level after; 1 throughout if `length` is 0."""
    return jnp.clip(t / length, 0, 1) if length > 0 else jnp.ones_like(t)
