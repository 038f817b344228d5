"""Boxes: how they are drawn, and the crops along them.

A box is f32[4] = y0 x0 y1 x1 in pixels of the *original* image, end-exclusive. `crop` cuts it from
a copy of the image of any size, as colors that come before the crop need it; other views
are cut from a pyramid (`pyramid.crop`). Every function is for one image; the caller vmaps.
"""

import fractions
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, Shaped

from jaxssl.errors import UserError

MAX_EXPAND = 20  # beyond which 32 bits might not hold the sides of a grown box, times a thousand
TRIES = 10  # of torchvision's RandomResizedCrop before it takes the center


def whole_box(hw: Int[Array, "2"]) -> Float[Array, "4"]:
    """The box of a whole image of height and width `hw`."""
    return jnp.concatenate([jnp.zeros(2), hw.astype(jnp.float32)])


def grow_box(box: Float[Array, "4"], expand: float, hw: Int[Array, "2"]) -> Float[Array, "4"]:
    """`box` with height and width times `expand` about its center, each side cut at the image.

    Rounds as benji2264/s3same does: whole pixels, the new side and the margin rounded toward 0. A
    box at the border is cut, not shifted. A side stays at least one pixel long.
    """
    # An exact fraction: in float32, 1.3 times a multiple of 10 may fall below the whole number.
    numerator, denominator = fractions.Fraction(expand).limit_denominator(1000).as_integer_ratio()
    low, high = box[:2].astype(jnp.int32), box[2:].astype(jnp.int32)
    side = high - low
    longer = jnp.maximum(side * numerator // denominator, 1) - side  # below 0 if expand is below 1
    margin = jnp.sign(longer) * (jnp.abs(longer) // 2)
    grown = jnp.concatenate([jnp.maximum(low - margin, 0), jnp.minimum(high + margin, hw)])
    return grown.astype(jnp.float32)


def random_box(
    key: PRNGKeyArray,
    within: Float[Array, "4"],
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    *,
    rule: str = "torchvision",
) -> Float[Array, "4"]:
    """A box of whole pixels inside the box `within`, of random area, aspect and place.

    Args:
        key: used once.
        within: whole pixels.
        scale: range of its area, as a fraction of the area of `within`.
        ratio: range of width / height, drawn uniformly in its logarithm.
        rule: when the drawn shape does not fit: "torchvision" draws again, at last takes the
            center; "clip" cuts its sides to those of `within` (BYOL and DetCon).
    """
    key_shape, key_place = jax.random.split(key)
    shape = jax.random.uniform(key_shape, (TRIES, 2))
    place = jax.random.uniform(key_place, (2,))
    return box_from_uniforms(shape, place, within, scale, ratio, rule=rule)


def box_from_uniforms(
    shape: Float[Array, "tries 2"],
    place: Float[Array, "2"],
    within: Float[Array, "4"],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    *,
    rule: str,
) -> Float[Array, "4"]:
    """`random_box` as a function of its draws in [0, 1).

    Args:
      shape: area and aspect ratio of each try.
      place: offset of the top and the left side.
      within: box to cut from, as of `random_box`; so are `scale`, `ratio` and `rule`.
      scale: least and largest area, fractions of that of `within`.
      ratio: least and largest width / height.
      rule: when the drawn shape does not fit.
    """
    side = within[2:] - within[:2]  # height, width
    box, found = _box_shape(shape, side, scale, ratio, rule=rule)
    room = side - box
    # Any whole number in [0, room]; the minimum because a u close to 1 may round up to room + 1.
    offset = jnp.minimum(jnp.floor(place * (room + 1)), room)
    offset = jnp.where(found, offset, jnp.floor(room / 2))
    start = within[:2] + offset
    return jnp.concatenate([start, start + box])


def centered_box(
    shape: Float[Array, "tries 2"],
    place: Float[Array, "2"],
    centers: Float[Array, "4"],
    hw: Int[Array, "2"],
    scale: tuple[float, float],
    *,
    ratio: tuple[float, float],
    rule: str,
) -> Float[Array, "4"]:
    """A box as `box_from_uniforms` shapes it in the whole image, its center in the box `centers`.

    Rounds as xyupeng/ContrastiveCrop does. A box that would reach out of the image is shifted back
    into it; where no try fits, `centers` has no say and the box is that of the image's center.

    Args:
      shape: area and aspect ratio of each try, in [0, 1); the area is a fraction of the image's.
      place: of the center, from the top left of `centers`, 0, to its bottom right, 1.
      centers: may be empty; need not be whole pixels.
      hw: height and width of the image, pixels.
      scale: least and largest area, fractions of that of the image.
      ratio: least and largest width / height.
      rule: as in `random_box`.
    """
    side = hw.astype(jnp.float32)
    box, found = _box_shape(shape, side, scale, ratio, rule=rule)
    room = side - box
    corners = jnp.floor(centers).reshape(2, 2)
    low, high = jnp.clip(corners - jnp.floor(box / 2)[None], 0, room[None])
    offset = low + jnp.floor((high - low) * place)
    start = jnp.where(found, offset, jnp.floor(room / 2))
    return jnp.concatenate([start, start + box])


def _box_shape(
    shape: Float[Array, "tries 2"],
    side: Float[Array, "2"],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    *,
    rule: str,
) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
    """Height and width of the first try that fits in `side`, and whether there was one."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    area = side.prod() * (scale[0] + shape[:, 0] * (scale[1] - scale[0]))
    aspect = jnp.exp(low + shape[:, 1] * (high - low))
    tries = jnp.round(jnp.sqrt(jnp.stack([area / aspect, area * aspect], axis=-1)))  # [tries, 2]
    if rule == "clip":
        return jnp.clip(tries[0], 1, side), jnp.array(True)
    if rule == "torchvision":
        fits = ((tries > 0) & (tries <= side[None])).all(axis=-1)
        found, (height, width) = fits.any(), side
        # torchvision's fallback: the largest box of an allowed aspect ratio
        tall = jnp.minimum(height, jnp.round(width / min(ratio)))
        wide = jnp.minimum(width, jnp.round(height * max(ratio)))
        largest = jnp.stack([tall, wide])
        return jnp.where(found, tries[jnp.argmax(fits)], largest), found
    raise UserError(f"crop rule is {rule!r}; choose one of torchvision, clip")


def crop(
    image: Num[Array, "h w 3"],
    box: Float[Array, "4"],
    hw: Int[Array, "2"],
    size: int,
    interpolation: str,
) -> Float[Array, "{size} {size} 3"]:
    """The pixels in `box`, and no others, resized to `size` x `size`, in [0, 1].

    Equals torchvision's crop followed by an antialiased resize.

    Args:
        image: the whole image, resized to any size; bytes or floats in [0, 1].
        box: in pixels of the original image.
        hw: height and width of the original image.
        size: pixels.
        interpolation: "bilinear" or "bicubic".
    """
    zoom = jnp.array(image.shape[:2], jnp.float32) / hw  # its pixels per original one
    y0, x0, y1, x1 = box * jnp.tile(zoom, 2)
    rows = kernel_weights(y0, y1, jnp.arange(image.shape[0]), size, interpolation)
    columns = kernel_weights(x0, x1, jnp.arange(image.shape[1]), size, interpolation)
    rows, columns = (w / w.sum(axis=1, keepdims=True) for w in (rows, columns))
    # Full float32: with the 10 bits of TF32, an accelerator's default, a view would be off by up
    # to 1e-3, and a crop of the whole not the image; the products cost nothing beside a network.
    # Columns first and planes apart in between is the fastest order on a CPU.
    pixels = image.astype(jnp.float32)
    precision = jax.lax.Precision.HIGHEST
    narrow = jnp.einsum("hwc,pw->chp", pixels, columns, precision=precision)
    resized = jnp.einsum("oh,chp->opc", rows, narrow, precision=precision)
    if image.dtype == jnp.uint8:
        resized = resized / 255
    return jnp.clip(resized, 0, 1)  # the cubic overshoots


def kernel_weights(
    start: Float[Array, ""],
    stop: Float[Array, ""],
    pixels: Int[Array, " n"],
    size: int,
    interpolation: str,
    sharpen: Float[Array, ""] | float = 0.0,
) -> Float[Array, "{size} n"]:
    """The matrix that resizes an interval of a line of pixels, but for a factor of each row.

    Args:
      start: where the interval begins, in pixels; need not be whole.
      stop: where it ends.
      pixels: those that there are weights for, in any order.
      size: pixels of the result.
      interpolation: "bilinear" or "bicubic".
      sharpen: the part of each pixel's two neighbors that is taken off it and added to it first.

    Returns:
      In row i the weights of the pixels in pixel i of the result.
    """
    step = (stop - start) / size
    center = start + step * (jnp.arange(size) + 0.5)
    pixel = pixels + 0.5
    width = jnp.maximum(step, 1)  # widened: antialiasing

    def weights(shift: int) -> Array:
        return _kernel(jnp.abs(pixel[None, :] + shift - center[:, None]) / width, interpolation)

    weight = weights(0)
    if not isinstance(sharpen, float) or sharpen:
        weight = (1 + 2 * sharpen) * weight - sharpen * (weights(-1) + weights(1))
    # On a squashed canvas a box may end, or even lie, within a pixel: that counts in part.
    inside = jnp.minimum(pixel + 0.5, stop) - jnp.maximum(pixel - 0.5, start)
    return weight * jnp.clip(inside, 0, 1)[None, :]


def _kernel(distance: Float[Array, "..."], interpolation: str) -> Float[Array, "..."]:
    """The interpolation kernel: a triangle, or Keys's cubic with a = -1/2 (Pillow, torchvision)."""
    if interpolation == "bilinear":
        return jnp.maximum(1 - distance, 0)
    if interpolation == "bicubic":
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        return jnp.where(distance < 1, near, jnp.where(distance < 2, far, 0))
    raise UserError(f"interpolation is {interpolation!r}; choose one of bilinear, bicubic")


def flip(
    key: PRNGKeyArray, image: Shaped[Array, "h w *c"], prob: float, axis: int = 1
) -> Shaped[Array, "h w *c"]:
    """Mirrors an image or a map at random.

    Args:
      key: one key mirrors all maps alike.
      image: of one image.
      prob: probability that it is mirrored.
      axis: along which.
    """
    return jnp.where(jax.random.bernoulli(key, prob), jnp.flip(image, axis), image)
