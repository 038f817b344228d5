"""Crops of an image of any shape and size, at a cost that depends on the crop alone.

An image lies flat in memory with its halvings (means of 2 x 2 pixels): one `level` after the other,
and in each level row after row, of each row first its reds, then its greens, then its blues. A crop
takes the largest level in which its box is at most 2.5 times as large as the result, copies a
window of that size out of it, three runs of bytes for each row, and resizes the window by two small
matrix products. (Pixel after pixel instead of plane after plane would pad each to 128
lanes on a TPU, and took 1.3 times as long on a CPU.) A TPU copies runs that begin anywhere one
after the other; for it the bytes are words, in rows of 128, of which it copies all at once.

A box is f32[4] = y0 x0 y1 x1 in pixels of the *original* image, end-exclusive, whatever it was
shrunk to. Every function is for one image; the caller vmaps, after `detach`.
"""

import functools
import math
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt32

from jaxssl.image.boxes import kernel_weights
from jaxssl.types import Batch, Leaf

# A crop is taken from the largest level in which its box has at most this times its side. Mean PSNR
# against exact crops of photographs of 2.5 megapixels: 51 dB; 45 with 2, 49 with 2.25, 54 with 3.
OVERSAMPLING = 2.5
LANES = 128  # words in a row of a TPU's memory
SUBLANES = 8  # rows in a tile of it
SHIFTS = ((32, 4), (8, 4), (2, 4), (1, 2))  # units, and how many of them: each place below LANES


@flax.struct.dataclass
class Packed:
    """Arrays of many images, of different length, one after the other on pages of one length."""

    pages: Leaf  # [g, q, ...]
    page: Leaf  # i32[b]: on which of them each image of a batch lies
    start: Leaf  # i32[b]: and where on it


def detach(batch: Batch) -> tuple[Batch, Callable[[Batch], Batch]]:
    """Takes the pages that images share out of a batch; returns it and `attach(image)`.

    All that is left has an axis of images, for `jax.vmap` or `jax.lax.map` to go through; `attach`
    gives one of them its pages back.
    """
    pages = {name: v.pages for name, v in batch.items() if isinstance(v, Packed)}

    def attach(image: Batch) -> Batch:
        return image | {name: image[name].replace(pages=pages[name]) for name in pages}

    return batch | {name: batch[name].replace(pages=None) for name in pages}, attach


def look_up(resident: Batch, index: Int[Array, " b"]) -> Batch:
    """The images `index` out of arrays of a whole data set; what is packed stays where it is."""

    def take(values: Leaf | Packed) -> Leaf | Packed:
        if isinstance(values, Packed):
            return Packed(values.pages, values.page[index], values.start[index])
        return values[index]

    return {name: take(values) for name, values in resident.items()}


def as_words(image: Shaped[np.ndarray, "*b n"]) -> Shaped[np.ndarray, "*b m 128"]:
    """Bytes as words, u32, the first byte the lowest; zeros behind the last one."""
    missing = -image.shape[-1] % (4 * LANES)
    padded = np.pad(image, [(0, 0)] * (image.ndim - 1) + [(0, missing)])
    return padded.view("<u4").reshape(*image.shape[:-1], -1, LANES)


def _runs_of_words(
    values: Leaf | Packed, starts: Int[Array, " r"], length: int
) -> UInt32[Array, "4 w r"]:
    """The bytes of the runs of `_runs`, out of words: place [i, j] is byte 4 j + i of each run."""
    if isinstance(values, Packed):
        starts = values.start + starts
    number = -(-length // 4)  # of words
    row = starts[None] // (4 * LANES) + jnp.arange(-(-number // LANES) + 1)[:, None]
    if isinstance(values, Packed):
        rows = values.pages.at[values.page, row].get(mode="clip")
    else:
        rows = values.at[row].get(mode="clip")
    # The words of a run below one another: then a shift by 8 or more moves whole tiles, and the
    # product that follows takes them as they lie.
    words = rows.swapaxes(1, 2).reshape(-1, len(starts))
    word, byte = starts[None] // 4 % LANES, starts[None] % 4
    for unit, choices in SHIFTS:
        cuts = [words[i * unit :][: number + unit] for i in range(choices)]
        which = jnp.broadcast_to(word // unit % choices, cuts[0].shape)
        words = jax.lax.select_n(which, *cuts)
    low, high, bits = words[:-1], words[1:], (8 * byte).astype(jnp.uint32)
    words = jnp.where(bits > 0, (low >> bits) | (high << (32 - bits)), low)
    return (words[None] >> jnp.arange(0, 32, 8, jnp.uint32)[:, None, None]) & 255


def _runs(
    values: Leaf | Packed, starts: Int[Array, " r"], length: int
) -> Shaped[Array, "r {length} ..."]:
    """`length` successive entries of one image's array from each of `starts`."""
    if isinstance(values, Packed):
        pages = values.pages
        shape = (1, length, *pages.shape[2:])
        rest = (0,) * (pages.ndim - 2)
        first = values.start + starts
        cut = lambda at: jax.lax.dynamic_slice(pages, (values.page, at, *rest), shape)[0]  # noqa: E731
        return jax.vmap(cut)(first)
    shape, rest = (length, *values.shape[1:]), (0,) * (values.ndim - 1)
    return jax.vmap(lambda at: jax.lax.dynamic_slice(values, (at, *rest), shape))(starts)


def crop(
    image: Batch, box: Float[Array, "4"], size: int, interpolation: str, *, beyond: bool = False
) -> Float[Array, "{size} {size} 3"]:
    """The pixels in `box`, and no others, resized to `size` x `size`, in [0, 1].

    Up to the halvings it equals torchvision's crop followed by an antialiased resize.

    Args:
      image: of one image `image` u8[n], `levels` i32[l, 3] and `hw` i32[2], as `data.canvas` has
        them, the bytes perhaps `as_words`; behind the last level are at least `3 size` bytes.
      box: in pixels of the original image.
      size: pixels.
      interpolation: "bilinear" or "bicubic".
      beyond: whether the box may reach out of the image; pixels out there mean nothing.

    Returns:
      The crop, channels last.
    """
    values = image["image"]
    words = (values.pages if isinstance(values, Packed) else values).dtype == jnp.uint32
    side = math.ceil(OVERSAMPLING * size) + 2
    tall = side + (-side % SUBLANES if words else 0)
    levels, zoom = image["levels"], image["levels"][0, 1:] / image["hw"]
    box = box * jnp.tile(zoom, 2)  # in pixels of level 0
    over = jnp.max(box[2:] - box[:2]) / (OVERSAMPLING * size)
    level = jnp.clip(jnp.ceil(jnp.log2(over)), 0, len(levels) - 1).astype(jnp.int32)
    offset, height, width = levels[level]
    y0, x0, y1, x1 = box / jnp.left_shift(1, level)
    top = jnp.clip(jnp.floor(y0).astype(jnp.int32), 0, jnp.maximum(height - tall, 0))
    left = jnp.clip(jnp.floor(x0).astype(jnp.int32), 0, jnp.maximum(width - side, 0))
    rows = jnp.minimum(top + jnp.arange(tall), height - 1)  # what is below the image has no weight
    starts = 3 * offset + width * (3 * rows[:, None] + jnp.arange(3)[None]) + left
    below, beside = top + jnp.arange(tall), left + jnp.arange(side)
    if words:  # plane after plane, or a TPU would lay the window out anew before each product
        window = _runs_of_words(values, starts.T.ravel(), side)
        beside = (left + jnp.arange(4 * window.shape[1])).reshape(-1, 4).T.ravel()
    else:
        window = _runs(values, starts.ravel(), side).reshape(tall, 3, -1)
    # Halving l times is a mean over 2**l pixels: its blur is undone to second order in frequency.
    sharpen = (1 - jnp.exp2(-2.0 * level)) / 24
    down = kernel_weights(y0, y1, below, size, interpolation, sharpen)
    across = kernel_weights(x0, x1, beside, size, interpolation, sharpen)
    if beyond:
        down, across = _within(down, below, height), _within(across, beside, width)
    cpu, default = (functools.partial(f, words) for f in (_resize, _resize_by_bfloat16))
    resized = jax.lax.platform_dependent(window, down, across, cpu=cpu, default=default)
    # The cubic overshoots.
    return jnp.clip(resized.reshape(size, 3, size).transpose(0, 2, 1) / 255, 0, 1)


def _within(
    weights: Float[Array, "s r"], pixels: Int[Array, " r"], length: Int[Array, ""]
) -> Float[Array, "s r"]:
    """Weights of these pixels, those of a line of `length` pixels alone."""
    weights = jnp.where((pixels < length)[None], weights, 0)
    # Where there are none, any that add up to more than 0.
    return jnp.where(weights.max(axis=1, keepdims=True) > 0, weights, 1)


def _resize(
    words: bool,
    window: Shaped[Array, "i j k"],
    down: Float[Array, "s h"],
    across: Float[Array, "s w"],
) -> Float[Array, "s n"]:
    """A window, bytes [h, 3, w] or of words [4, w / 4, 3 h], resized: f32[s, 3 s].

    The weights of a pixel need not add up to 1: the result is divided by their sum, which is less
    to compute than to divide the weights.
    """
    if words:
        window = window.reshape(-1, 3, down.shape[1]).transpose(2, 1, 0)
    highest = jax.lax.Precision.HIGHEST
    narrow = jnp.matmul(window.astype(jnp.float32), across.T, precision=highest)
    resized = jnp.matmul(down, narrow.reshape(down.shape[1], -1), precision=highest)
    # Sums as products: a reduction of rows takes ten times as long on a CPU.
    totals = (jnp.matmul(w, jnp.ones(w.shape[1]), precision=highest) for w in (down, across))
    return resized / _outer(*totals)


def _resize_by_bfloat16(
    words: bool,
    window: Shaped[Array, "i j k"],
    down: Float[Array, "s h"],
    across: Float[Array, "s w"],
) -> Float[Array, "s n"]:
    """The same to 16 bits, by products of bfloat16s, which matrix units are made for.

    Bytes are bfloat16s. Any other factor is the sum of two; the product of their small parts is
    below what is kept.
    """
    size, tall = down.shape
    weights = across.reshape(size, 4, -1) if words else across
    axes = "kwr,skw->rs" if words else "hcw,sw->hcs"
    narrow = _product(axes, window.astype(jnp.bfloat16), *_split(weights))
    large, small = _split(narrow.reshape(3, tall, size) if words else narrow)
    axes = "sh,chw->scw" if words else "sh,hcw->scw"
    down_large, down_small = _split(down)
    resized = _product(axes, down_large, large, small) + _product(axes, down_small, large)
    return resized.reshape(size, -1) / _outer(down.sum(axis=1), across.sum(axis=1))


def _outer(down: Float[Array, " s"], across: Float[Array, " s"]) -> Float[Array, "s n"]:
    """The sums of the weights of each pixel of the three planes."""
    return down[:, None] * jnp.tile(across, 3)[None, :]


def _split(values: Float[Array, "..."]) -> tuple[Array, Array]:
    """Two arrays of bfloat16s whose sum is the given float32s to 16 bits."""
    large = values.astype(jnp.bfloat16)
    return large, (values - large.astype(jnp.float32)).astype(jnp.bfloat16)


def _product(axes: str, left: Array, *right: Array) -> Float[Array, "..."]:
    """`left` times the sum of `right`, added up in float32."""
    products = [jnp.einsum(axes, left, r, preferred_element_type=jnp.float32) for r in right]
    return sum(products[1:], start=products[0])


def crop_nearest(
    values: Leaf | Packed,
    shape: Int[Array, "2"],
    box: Float[Array, "4"],
    hw: Int[Array, "2"],
    size: int,
) -> Shaped[Array, "{size} {size} ..."]:
    """Samples a map at the centers of `size` x `size` equal parts of `box`.

    Args:
      values: of one image, [n, ...]: `shape` points row after row, spread evenly over it.
      shape: rows and columns of the map.
      box: in pixels of the original image.
      hw: height and width of the original image.
      size: points a side.

    Returns:
      The values, of the nearest points.
    """
    zoom = shape / hw
    step = (box[2:] - box[:2]) / size
    center = box[:2, None] + step[:, None] * (jnp.arange(size) + 0.5)[None]  # f32[2, size]
    rows, columns = jnp.floor(center * zoom[:, None]).astype(jnp.int32)
    points = (rows[:, None] * shape[1] + columns[None]).ravel()
    if isinstance(values, Packed):
        found = values.pages[values.page, values.start + points]
    else:
        found = values[points]
    return found.reshape(size, size, *found.shape[1:])
