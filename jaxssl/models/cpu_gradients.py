"""A convolution and a max-pooling whose gradients are fast on a CPU: the same numbers.

There XLA's gradient of a convolution's weights runs at a third of what products of patches reach,
and that of max-pooling at a half of what maxima of shifted slices do. On accelerators, and for
numbers other than float32, both are left to XLA.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Pads = Sequence[tuple[int, int]]
BYTES_IN_CACHE = 2**22  # of the patches that are made at a time


def max_pool(x: Float[Array, "b h w d"], padding: Pads | str) -> Float[Array, "b i j d"]:
    """The largest of 3 x 3, with stride 2. Of equal ones the first gets the gradient."""

    def windows(x: Array) -> Array:
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)

    def shifted(x: Array) -> Array:
        pads = _pads(x, (3, 3), (2, 2), padding)
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
        for axis in (2, 1):
            last = x.shape[axis] - 2  # one behind the first entry of the last window
            a, b, c = (jax.lax.slice_in_dim(x, i, last + i, 2, axis) for i in range(3))
            x = _first_largest(_first_largest(a, b), c)
        return x

    return jax.lax.platform_dependent(x, cpu=shifted, default=windows)


def _first_largest(a: Array, b: Array) -> Array:
    return jnp.where(a >= b, a, b)


def _pads(x: Array, window: Sequence[int], strides: Sequence[int], padding: Pads | str) -> Pads:
    """The padding before and behind the rows and the columns of x."""
    if isinstance(padding, str):
        return jax.lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return padding


def convolve(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Pads | str,
    rhs_dilation: Sequence[int],
    **options: Any,
) -> Array:
    """`jax.lax.conv_general_dilated` of one group of channels, which come last, for `nn.Conv`.

    Args:
      x: [b, h, w, c].
      kernel: [y, x, c, d].
      strides: of the rows and the columns.
      padding: before and behind them, or its name in XLA.
      rhs_dilation: of the kernel.
      **options: for `jax.lax.conv_general_dilated`.
    """

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=rhs_dilation, **options
        )

    # On several devices a loop would go through the images of all of them on each.
    if jax.device_count() > 1 or x.dtype != jnp.float32:
        return plain(x, kernel)

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        x, kernel = saved
        _, of_both = jax.vjp(plain, x, kernel)

        def by_patches(x: Array, gradient: Array) -> Array:
            side = [(n - 1) * d + 1 for n, d in zip(kernel.shape, rhs_dilation, strict=False)]
            x = jnp.pad(x, ((0, 0), *_pads(x, side, strides, padding), (0, 0)))
            return _gradient_by_patches(x, gradient, kernel.shape, strides, rhs_dilation)

        of_kernel = jax.lax.platform_dependent(
            x, gradient, cpu=by_patches, default=lambda _, gradient: of_both(gradient)[1]
        )
        return of_both(gradient)[0], of_kernel

    run = jax.custom_vjp(plain)
    run.defvjp(lambda x, kernel: (plain(x, kernel), (x, kernel)), backward)
    return run(x, kernel)


def _gradient_by_patches(
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b i j d"],
    shape: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> Float[Array, "y x c d"]:
    """The gradient of the kernel: the result's times patches of the input, few images at a time.

    Args:
      x: padded.
      gradient: of the result.
      shape: of the kernel.
      strides: of the rows and the columns.
      dilation: of the kernel.
    """
    b, rows, columns, d = gradient.shape
    length = shape[0] * shape[1] * shape[2]  # of a patch
    few = max(1, min(b, BYTES_IN_CACHE // (4 * length * rows * columns)))
    few = next(n for n in range(few, 0, -1) if b % n == 0)

    def along(start: int, number: int, axis: int) -> slice:
        first = start * dilation[axis]
        return slice(first, first + strides[axis] * (number - 1) + 1, strides[axis])

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        x, gradient = part
        shifted = [
            x[:, along(i, rows, 0), along(j, columns, 1)]
            for i in range(shape[0])
            for j in range(shape[1])
        ]
        patches = jnp.concatenate(shifted, axis=-1).reshape(-1, length)
        return total + gradient.reshape(-1, d).T @ patches, None

    parts = jax.tree.map(lambda a: a.reshape(-1, few, *a.shape[1:]), (x, gradient))
    total, _ = jax.lax.scan(add, jnp.zeros((d, length)), parts)
    return total.T.reshape(shape)
