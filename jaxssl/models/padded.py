"""Networks on images of different shapes, padded to one: as if each image were there alone.

A convolution pads with zeros. At the border of a padded image it would see what biases and batch
norm have made of the padding instead; so that is zero again before every convolution, and after
every batch norm, for the pooling that follows. Exact for ResNets that pad by the same on all
sides; with XLA's rule ("same"), where a kernel's places depend on whether sides are even, and for a
ViT, whose tokens all see each other, padding is part of the image.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_SEE_AROUND = (nn.Conv, nn.ConvTranspose)


def cells_of(hw: Int[Array, "b 2"], padded: tuple[int, ...], grid: tuple[int, ...]) -> Array:
    """i32[b, 2]: rows and columns that images of `hw` have of the `grid` of the padded ones."""
    return -(-hw * jnp.array(grid)[None] // jnp.array(padded)[None])


def is_inside(hw: Array | np.ndarray, padded: tuple[int, ...]) -> Array | np.ndarray:
    """The places of padded images in their first rows and columns `hw` i32[b, 2]: bool[b, i, j]."""
    row, column = (
        np.arange(n, dtype=np.int32)[None] < hw[:, axis, None] for axis, n in enumerate(padded)
    )
    return row[:, :, None] & column[:, None]


@contextlib.contextmanager
def within(hw: Int[Array, "b 2"] | None, padded: tuple[int, ...]) -> Iterator[None]:
    """Modules called in this context see zeros where an image is padded.

    Args:
      hw: height and width of each image, from the top left; None: nothing is padded.
      padded: height and width of the padded ones.
    """

    def clear(x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        assert hw is not None
        cells = cells_of(hw, padded, x.shape[1:3])
        return jnp.where(is_inside(cells, x.shape[1:3])[..., None], x, 0)

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, _SEE_AROUND):
            return call(clear(args[0]), *args[1:], **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, nn.BatchNorm):
            return clear(call(*args, **kwargs))
        return call(*args, **kwargs)

    with contextlib.nullcontext() if hw is None else nn.intercept_methods(intercept):
        yield


def resize_within(
    values: Float[Array, "b h w k"],
    cells: Int[Array, "b 2"],
    hw: Int[Array, "b 2"],
    shape: tuple[int, int],
) -> Float[Array, "b i j k"]:
    """The first `cells` rows and columns of each image brought to its `hw`, bilinearly.

    Args:
      values: padded.
      cells: rows and columns that count.
      hw: height and width of each result, from the top left.
      shape: of the padded results; what is behind `hw` has no meaning.
    """
    rows, columns = (
        _weights(values.shape[1 + axis], cells[:, axis], hw[:, axis], shape[axis])
        for axis in (0, 1)
    )
    precision = "highest"
    values = jnp.einsum("bih,bhwk->biwk", rows, values, precision=precision)
    return jnp.einsum("bjw,biwk->bijk", columns, values, precision=precision)


def _weights(
    length: int, cells: Int[Array, " b"], side: Int[Array, " b"], size: int
) -> Float[Array, "b {size} {length}"]:
    """The weights of `length` cells in each of `size` pixels, `cells` being spread on `side`."""
    cells, side = jnp.maximum(cells, 1), jnp.maximum(side, 1)
    zoom = (cells / side)[:, None]
    place = jnp.clip((jnp.arange(size)[None] + 0.5) * zoom, 0, cells[:, None]) - 0.5
    distance = jnp.abs(place[..., None] - jnp.arange(length)[None, None])
    weights = jnp.maximum(1 - distance / jnp.maximum(zoom, 1)[..., None], 0)  # antialiased
    weights = jnp.where(jnp.arange(length)[None, None] < cells[:, None, None], weights, 0)
    return weights / weights.sum(axis=2, keepdims=True)
