"""Color: deterministic operations on one image in [0, 1].

The same word means different things in different code bases. A *family* says which:

    family      brightness f     contrast f about              saturation f
    torch       f x              mean of the gray image        mix with the gray image
    tf          x + f - 1        mean of each channel          HSV saturation times f
    simclr_v2   f x              mean of each channel          HSV saturation times f

`torch` is torchvision's; `tf` is TensorFlow's and dm_pix's, used by BYOL and DetCon; `simclr_v2` is
that of google-research/simclr. Hue is a shift of the HSV hue in all three, and each operation
ends with a clip to [0, 1]. Every function is for one image; the caller vmaps.
"""

import itertools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Image = Float[Array, "h w 3"]
Scalar = Float[Array, ""] | float
Padding = Literal["constant", "edge", "reflect"]  # numpy's words; constant is zeros


def scale_brightness(image: Image, factor: Scalar) -> Image:
    """The image times `factor`."""
    return jnp.clip(factor * image, 0, 1)


def shift_brightness(image: Image, factor: Scalar) -> Image:
    """The image plus `factor` - 1."""
    return jnp.clip(image + (factor - 1), 0, 1)


def gray_contrast(image: Image, factor: Scalar) -> Image:
    """Differences from the mean of the gray image times `factor`."""
    return _mix(image, _luma(image).mean(), factor)


def channel_contrast(image: Image, factor: Scalar) -> Image:
    """Differences from the mean of each channel times `factor`."""
    return _mix(image, image.mean(axis=(0, 1), keepdims=True), factor)


def gray_saturation(image: Image, factor: Scalar) -> Image:
    """Differences from the gray image times `factor`."""
    return _mix(image, _luma(image), factor)


def hsv_saturation(image: Image, factor: Scalar) -> Image:
    """The HSV saturation times `factor`, at most 1; hue and value stay.

    Saturation is 1 - min / max, so this stretches the distances from the largest channel.
    """
    value, chroma = _value_and_chroma(*jnp.moveaxis(image, -1, 0))
    factor = jnp.minimum(factor, value / jnp.where(chroma > 0, chroma, 1))
    return _mix(image, value[..., None], factor[..., None])


def rotate_hue(image: Image, turn: Scalar) -> Image:
    """The HSV hue turned by `turn` of the full circle."""
    red, green, blue = jnp.moveaxis(image, -1, 0)
    value, chroma = _value_and_chroma(red, green, blue)
    unit = 1 / jnp.where(chroma > 0, chroma, 1)
    hue = jnp.where(value == green, 2 + (blue - red) * unit, 4 + (red - green) * unit)
    hue = jnp.where(value == red, (green - blue) * unit, hue) + 6 * turn  # sixths of the circle

    def channel(offset: int) -> Float[Array, "h w"]:
        place = hue + offset
        place = place - 6 * jnp.floor(place / 6)  # jnp.mod takes ten times as long
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def _value_and_chroma(red: Array, green: Array, blue: Array) -> tuple[Array, Array]:
    value = jnp.maximum(jnp.maximum(red, green), blue)
    return value, value - jnp.minimum(jnp.minimum(red, green), blue)


def _mix(image: Array, other: Array, factor: Array | float) -> Array:
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


FAMILIES = {
    "torch": (scale_brightness, gray_contrast, gray_saturation),
    "tf": (shift_brightness, channel_contrast, hsv_saturation),
    "simclr_v2": (scale_brightness, channel_contrast, hsv_saturation),
}

# Orders of the first three operations; a code in [0, 24) adds the place of the hue among them.
PERMUTATIONS = np.array(list(itertools.permutations(range(3))))


def jitter(
    image: Image, factors: Float[Array, "3"], turn: Scalar, order: Int[Array, ""], family: str
) -> Image:
    """Brightness, contrast, saturation and hue in one of their 24 orders.

    Args:
      image: in [0, 1].
      factors: of brightness, contrast, saturation; 1 changes nothing.
      turn: of the hue, in full circles.
      order: 4 p + q: permutation p of the first three, q of which come before the hue.
      family: a name in `FAMILIES`.
    """
    permutation, before_hue = jnp.asarray(PERMUTATIONS)[order // 4], order % 4
    early = jnp.arange(3) < before_hue

    # Under vmap a choice costs all that could be chosen. Every order is some of the three, the hue,
    # the others: so three slots, the hue, three slots, with three of the six left empty, is far
    # cheaper than four slots that could each hold the hue.
    def slot(image: Array, choice: Array) -> tuple[Array, None]:
        results = [f(image, factor) for f, factor in zip(FAMILIES[family], factors, strict=True)]
        return jax.lax.select_n(choice, image, *results), None

    # A scan, not a loop: XLA would fuse the slots and compute the first ones again for each later.
    image, _ = jax.lax.scan(slot, image, jnp.where(early, 1 + permutation, 0))
    image, _ = jax.lax.scan(slot, rotate_hue(image, turn), jnp.where(early, 0, 1 + permutation))
    return image


def grayscale(image: Image) -> Image:
    """Luma (Rec. 601) in all three channels."""
    return jnp.broadcast_to(_luma(image), image.shape)


def _luma(image: Array) -> Array:
    red, green, blue = jnp.moveaxis(image, -1, 0)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[..., None]


def solarize(image: Image, threshold: float) -> Image:
    """The image with pixels from `threshold` on inverted."""
    return jnp.where(image < threshold, image, 1 - image)


def posterize(image: Image, bits: int) -> Image:
    """The image rounded to bytes, with the upper `bits` of their 8 alone."""
    step = 2 ** (8 - bits)
    return jnp.floor(jnp.round(image * 255) / step) * (step / 255)


def gaussian_taps(sigma: Scalar, radius: int) -> Float[Array, "{2*radius+1}"]:
    """A Gaussian at the whole pixels within `radius`, of sum 1."""
    taps = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def blur(
    image: Float[Array, "h w c"], taps: Float[Array, "taps"], padding: Padding
) -> Float[Array, "h w c"]:
    """The image convolved, down and across, with an odd number of `taps`."""
    # Two products with band matrices, which suit any accelerator. Windows on the padded identity
    # say on which pixel each tap falls, whatever the padding.
    radius, precision = len(taps) // 2, jax.lax.Precision.HIGHEST

    def band(length: int) -> Float[Array, "{length} {length}"]:
        padded = np.pad(np.eye(length, dtype=np.float32), ((radius, radius), (0, 0)), padding)
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=0)
        return jnp.einsum("ijk,k->ij", windows, taps, precision=precision)

    across = jnp.einsum("hwc,pw->chp", image, band(image.shape[1]), precision=precision)
    return jnp.einsum("oh,chp->opc", band(image.shape[0]), across, precision=precision)
