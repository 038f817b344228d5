"""Regions of an image on the feature grid of a view: where they are, which to take, their features.

Regions may overlap, so they come as bit planes: bit r % 32 of plane r // 32 at a point of the view
tells whether region r covers it. DetCon (arXiv 2103.10957, section 3.1) is what needs them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32


def occupancy(planes: UInt32[Array, "b i j p"], h: int, w: int) -> Float[Array, "b m {h} {w}"]:
    """The share of each cell of an h x w grid that each of the m = 32 p regions covers.

    A point stands for the square around it; where i is no multiple of h, squares count in part.
    """
    bits = (planes[..., None] >> jnp.arange(32, dtype=jnp.uint32)[None, None, None, None]) & 1
    bits = bits.reshape(*planes.shape[:3], -1).astype(jnp.float32)  # f32[b, i, j, m]
    rows, columns = overlap(h, planes.shape[1]), overlap(w, planes.shape[2])
    return jnp.einsum("hi,wj,bijm->bmhw", rows, columns, bits, precision=jax.lax.Precision.HIGHEST)


def overlap(cells: int, points: int) -> Float[np.ndarray, "{cells} {points}"]:
    """The part of each of `cells` intervals of a line that each of its `points` intervals fills."""
    cell, point = np.arange(cells)[:, None], np.arange(points)[None]
    # In whole parts of 1 / (cells * points), so that a region that fills a cell has exactly 1.
    end = np.minimum((cell + 1) * points, (point + 1) * cells)
    start = np.maximum(cell * points, point * cells)
    return (np.maximum(end - start, 0) / points).astype(np.float32)


def winners(occupancy: Float[Array, "b m h w"]) -> Float[Array, "b m h w"]:
    """Gives each cell, whole, to the region that covers most of it; of equals, to the first.

    As google-deepmind/detcon does. Exact for a partition of the image, but of regions that lie
    inside one another only the outer one is left.
    """
    best = jax.nn.one_hot(jnp.argmax(occupancy, axis=1), occupancy.shape[1], axis=1)
    return jnp.where(occupancy > 0, best, 0.0)


def visible(occupancy: Float[Array, "b m h w"]) -> Bool[Array, "b m"]:
    """Whether each region covers any of the grid (the threshold of google-deepmind/detcon)."""
    return occupancy.sum(axis=(2, 3)) > 1e-3


def or_whole(occupancy: Float[Array, "b m h w"]) -> Float[Array, "b m+1 h w"]:
    """Adds a region: the whole view where no other is visible, and nothing elsewhere."""
    nothing = ~visible(occupancy).any(axis=1)
    whole = jnp.broadcast_to(nothing[:, None, None, None], occupancy[:, :1].shape)
    return jnp.concatenate([occupancy, whole.astype(occupancy.dtype)], axis=1)


def sample(
    key: PRNGKeyArray, occupancy: Float[Array, "b m h w"], count: int
) -> Int[Array, "b {count}"]:
    """Ids of `count` regions of each image: any visible one with the same chance, with repeats."""
    logits = jnp.where(visible(occupancy), 0.0, -jnp.inf)[:, None]
    return jax.random.categorical(key, logits, shape=(len(logits), count))


def take(occupancy: Float[Array, "b m h w"], ids: Int[Array, "b r"]) -> Float[Array, "b r h w"]:
    """The occupancy of the regions with these ids."""
    return jnp.take_along_axis(occupancy, ids[:, :, None, None], axis=1)


def sample_cell(key: PRNGKeyArray, occupancy: Float[Array, "b r h w"]) -> Float[Array, "b r h w"]:
    """Draws a cell of each region, in proportion to the share covered: 1 there, 0 elsewhere."""
    b, r, h, w = occupancy.shape
    cell = jax.random.categorical(key, jnp.log(occupancy).reshape(b, r, h * w))
    return jax.nn.one_hot(cell, h * w).reshape(b, r, h, w)


def pool(
    grid: Float[Array, "b h w d"], occupancy: Float[Array, "b r h w"]
) -> Float[Array, "b r d"]:
    """Mean of the features over each region, cells weighted by the share that it covers.

    Zero for a region that covers nothing.
    """
    area = occupancy.sum(axis=(2, 3), keepdims=True)
    weight = occupancy / jnp.where(area > 0, area, 1.0)
    return jnp.einsum("brhw,bhwd->brd", weight, grid, precision=jax.lax.Precision.HIGHEST)
