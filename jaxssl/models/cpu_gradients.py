"""The first layers of a ResNet, on a CPU in the way that is fastest there: the same numbers.

XLA's gradient of max-pooling and that of the weights of a convolution with three input channels run
far below what a CPU can do. On accelerators they are left to XLA.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Pads = Sequence[tuple[int, int]]
PIXELS_IN_CACHE = 4096  # results of the convolution whose patches are made at a time


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


def _pads(x: Array, kernel: Sequence[int], strides: Sequence[int], padding: Pads | str) -> Pads:
    """Of the rows and of the columns of x, before and behind."""
    if isinstance(padding, str):
        return jax.lax.padtype_to_pads(x.shape[1:3], kernel, strides, padding)
    return padding


def convolve(
    images: Array, kernel: Array, strides: Sequence[int], padding: Pads | str, **options: Any
) -> Array:
    """`jax.lax.conv_general_dilated` of channels-last images, for `nn.Conv`."""

    def plain(images: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(images, kernel, strides, padding, **options)

    if jax.device_count() > 1:  # a loop would go through the images of all devices on each
        return plain(images, kernel)

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        images, kernel = saved
        _, of_both = jax.vjp(plain, images, kernel)

        def by_patches(images: Array, gradient: Array) -> Array:
            pads = _pads(images, kernel.shape[:2], strides, padding)
            images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
            return _gradient_by_patches(images, gradient, kernel.shape, strides)

        of_kernel = jax.lax.platform_dependent(
            images, gradient, cpu=by_patches, default=lambda _, gradient: of_both(gradient)[1]
        )
        return of_both(gradient)[0], of_kernel

    run = jax.custom_vjp(plain)
    run.defvjp(lambda images, kernel: (plain(images, kernel), (images, kernel)), backward)
    return run(images, kernel)


def _gradient_by_patches(
    images: Float[Array, "b h w c"],
    gradient: Float[Array, "b i j d"],
    shape: Sequence[int],
    strides: Sequence[int],
) -> Float[Array, "y x c d"]:
    """That of the kernel: patches of padded images times the result's, few images at a time."""
    b, rows, columns, _ = gradient.shape
    few = max(1, min(b, PIXELS_IN_CACHE // (rows * columns)))
    few = next(n for n in range(few, 0, -1) if b % n == 0)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        images, gradient = part
        shifted = [
            images[
                :, y : y + strides[0] * rows : strides[0], x : x + strides[1] * columns : strides[1]
            ]
            for y in range(shape[0])
            for x in range(shape[1])
        ]
        patches = jnp.concatenate(shifted, axis=-1).reshape(-1, shape[0] * shape[1] * shape[2])
        of_patches = gradient.reshape(-1, shape[3])
        return total + jnp.matmul(patches.T, of_patches, preferred_element_type=jnp.float32), None

    parts = jax.tree.map(lambda x: x.reshape(-1, few, *x.shape[1:]), (images, gradient))
    total, _ = jax.lax.scan(add, jnp.zeros((shape[0] * shape[1] * shape[2], shape[3])), parts)
    return total.reshape(shape).astype(gradient.dtype)
