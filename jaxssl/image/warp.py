"""Geometry beyond boxes: an image whose pixels are moved about."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def displace(image: Float[Array, "h w 3"], offset: Float[Array, "h w 2"]) -> Float[Array, "h w 3"]:
    """Each pixel from the place `offset` (down, right; pixels) away, bilinearly; black outside.

    torchvision's `elastic`, to which what lies outside is black twice: a pixel of which half comes
    from there has a quarter of its brightness.
    """
    height, width, _ = image.shape
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    places = [rows + offset[..., 0], columns + offset[..., 1]]

    def sample(plane: Float[Array, "h w"]) -> Float[Array, "h w"]:
        return jax.scipy.ndimage.map_coordinates(plane, places, order=1, mode="constant")

    sampled = jax.vmap(sample, in_axes=-1, out_axes=-1)(image)
    return sampled * sample(jnp.ones((height, width)))[..., None]
