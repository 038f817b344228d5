"""Colour: deterministic operations on one image in [0, 1], what is drawn for it, and recipes.

The same word means different things in different code bases. A *family* says which:

    family      brightness f     contrast f about              saturation f
    torch       f x              mean of the grey image        mix with the grey image
    tf          x + f - 1        mean of each channel          HSV saturation times f
    simclr_v2   f x              mean of each channel          HSV saturation times f

`torch` is torchvision's; `tf` is TensorFlow's and dm_pix's, used by BYOL and DetCon; `simclr_v2` is
that of google-research/simclr. Hue is a shift of the HSV hue in all three, and each operation
ends with a clip to [0, 1]. Every function is for one image; the caller vmaps.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

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
    """Differences from the mean of the grey image times `factor`."""
    return _mix(image, _luma(image).mean(), factor)


def channel_contrast(image: Image, factor: Scalar) -> Image:
    """Differences from the mean of each channel times `factor`."""
    return _mix(image, image.mean(axis=(0, 1), keepdims=True), factor)


def gray_saturation(image: Image, factor: Scalar) -> Image:
    """Differences from the grey image times `factor`."""
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


def _value_and_chroma(red, green, blue):
    value = jnp.maximum(jnp.maximum(red, green), blue)
    return value, value - jnp.minimum(jnp.minimum(red, green), blue)


def _mix(image, other, factor):
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
    def slot(image, choice):
        results = [f(image, factor) for f, factor in zip(FAMILIES[family], factors, strict=True)]
        return jax.lax.select_n(choice, image, *results), None

    # A scan, not a loop: XLA would fuse the slots and compute the first ones again for each later.
    image, _ = jax.lax.scan(slot, image, jnp.where(early, 1 + permutation, 0))
    image, _ = jax.lax.scan(slot, rotate_hue(image, turn), jnp.where(early, 0, 1 + permutation))
    return image


def grayscale(image: Image) -> Image:
    """Luma (Rec. 601) in all three channels."""
    return jnp.broadcast_to(_luma(image), image.shape)


def _luma(image):
    red, green, blue = jnp.moveaxis(image, -1, 0)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[..., None]


def solarize(image: Image, threshold: float) -> Image:
    """The negative of what is not darker than `threshold`."""
    return jnp.where(image < threshold, image, 1 - image)


def gaussian_taps(sigma: Scalar, radius: int) -> Float[Array, "{2*radius+1}"]:
    """A Gaussian at the whole pixels within `radius`, of sum 1."""
    taps = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def blur(image: Image, taps: Float[Array, "taps"], padding: Padding) -> Image:
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


# mean and standard deviation of each channel
NORMALIZE = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "stl10": ((0.4406, 0.4273, 0.3858), (0.2312, 0.2265, 0.2237)),
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def normalize(image: Float[Array, "*b h w 3"], stats: str) -> Float[Array, "*b h w 3"]:
    """The image less the mean, over the standard deviation, of the data set `stats`."""
    shape = (2, *(1,) * (image.ndim - 1), 3)
    mean, deviation = jnp.array(NORMALIZE[stats]).reshape(shape)
    return (image - mean) / deviation


# From the side of a view and the largest sigma: how far a blur reaches, and what lies outside.
BLUR_RULES: dict[str, Callable[[int, float], tuple[int, Padding]]] = {
    # Pillow's GaussianBlur, which is three box filters: within 1/255 of a Gaussian, on average
    "pil": lambda side, sigma: (math.ceil(3 * sigma), "edge"),
    # google-research/simclr and BYOL: a kernel of a tenth of the side, zeros outside
    "tf": lambda side, sigma: (side // 20, "constant"),
}


@dataclass(frozen=True)
class Color:
    """How often and how strongly the colours of a view change. What has probability 0 is free."""

    family: str = "torch"  # a name in `FAMILIES`
    jitter_prob: float = 0.0
    # Brightness, contrast, saturation: factor in 1 -+ this; hue: turn in -+ this.
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    gray_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    blur_rule: str = "pil"  # a name in `BLUR_RULES`
    solarize_prob: float = 0.0
    solarize_threshold: float = 0.5


def augment(key: PRNGKeyArray, image: Float[Array, "s s 3"], color: Color) -> Image:
    """The image with random colours, in [0, 1]: jitter, then grey, then blur, then solarize."""
    jitter_key, gray_key, blur_key, solarize_key = jax.random.split(key, 4)
    if color.jitter_prob > 0:
        image = jitter(image, *draw_jitter(jitter_key, color), color.family)
    if color.gray_prob > 0:
        gray = jax.random.bernoulli(gray_key, color.gray_prob)
        image = jnp.where(gray, grayscale(image), image)
    if color.blur_prob > 0:
        radius, padding = BLUR_RULES[color.blur_rule](len(image), color.blur_sigma[1])
        image = blur(image, draw_taps(blur_key, color, radius), padding)
    if color.solarize_prob > 0:
        negative = jax.random.bernoulli(solarize_key, color.solarize_prob)
        image = jnp.where(negative, solarize(image, color.solarize_threshold), image)
    return jnp.clip(image, 0, 1)


def draw_jitter(
    key: PRNGKeyArray, color: Color
) -> tuple[Float[Array, "3"], Float[Array, ""], Int[Array, ""]]:
    """Factors, turn and order for `jitter`; no change with probability 1 - `jitter_prob`."""
    apply_key, factor_key, turn_key, order_key = jax.random.split(key, 4)
    apply = jax.random.bernoulli(apply_key, color.jitter_prob)
    strength, hue = jnp.array(color.jitter[:3]), color.jitter[3]
    low, high = jnp.maximum(1 - strength, 0), 1 + strength
    factors = jax.random.uniform(factor_key, (3,), minval=low, maxval=high)
    turn = jax.random.uniform(turn_key, minval=-hue, maxval=hue)
    order = jax.random.randint(order_key, (), 0, 24)
    return jnp.where(apply, factors, 1), jnp.where(apply, turn, 0), order


def draw_taps(key: PRNGKeyArray, color: Color, radius: int) -> Float[Array, "{2*radius+1}"]:
    """Taps for `blur`; a single one with probability 1 - `blur_prob`."""
    apply_key, sigma_key = jax.random.split(key)
    apply = jax.random.bernoulli(apply_key, color.blur_prob)
    low, high = color.blur_sigma
    taps = gaussian_taps(jax.random.uniform(sigma_key, minval=low, maxval=high), radius)
    return jnp.where(apply, taps, jnp.zeros_like(taps).at[radius].set(1))


@dataclass(frozen=True)
class Recipe:
    """How the views of one paper are made, but for their number, sizes and scales."""

    views: tuple[Color, ...]  # of global view i; the last one also of those after it
    local: Color  # of every local view
    interpolation: str = "bilinear"
    crop_rule: str = "torchvision"
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height
    flip_prob: float = 0.5


_GRAY = Color(jitter_prob=0.8, jitter=(0.8, 0.8, 0.0, 0.0), gray_prob=1.0, blur_prob=0.5)
_CCROP = Color(jitter_prob=0.8, jitter=(0.4, 0.4, 0.4, 0.1), gray_prob=0.2)
_MOCO_V1 = replace(_CCROP, jitter_prob=1.0, jitter=(0.4, 0.4, 0.4, 0.4))
_MOCO_V2 = replace(_CCROP, blur_prob=0.5)
_SWAV = replace(_MOCO_V2, jitter=(0.8, 0.8, 0.8, 0.2))
_SIMCLR = replace(_SWAV, family="simclr_v2", blur_rule="tf")
_SIMCLR_CIFAR = replace(_CCROP, family="simclr_v2")
_DINO = replace(_MOCO_V2, jitter=(0.4, 0.4, 0.2, 0.1))
_DINO_1 = replace(_DINO, blur_prob=1.0)
_DINO_2 = replace(_DINO, blur_prob=0.1, solarize_prob=0.2)
_BYOL_1 = replace(_DINO_1, family="tf", blur_rule="tf")
_BYOL_2 = replace(_DINO_2, family="tf", blur_rule="tf")
_DETCON_S_1 = replace(_SIMCLR, family="tf", blur_prob=1.0)
_DETCON_S_2 = replace(_SIMCLR, family="tf", blur_prob=0.0)

RECIPES = {
    "none": Recipe((Color(),), local=Color()),  # crop and flip only
    # The quickstart: colour says nothing of a drawn shape, and to learn that takes many steps
    "gray": Recipe((_GRAY,), local=_GRAY),
    # benji2264/s3same: lightly's DINO views with jitter 0.5 x (0.8, 0.8, 0.8, 0.2)
    "s3same": Recipe((_MOCO_V2,), local=_MOCO_V2, interpolation="bicubic"),
    # lightly's imagenette benchmark: SimCLRTransform(cj_strength=0.5)
    "lightly_simclr": Recipe((_MOCO_V2,), local=_MOCO_V2),
    # google-research/simclr, data_util.py at strength 1 (it draws up to 100 boxes, not 10), and
    # at 0.5 without blur, as its README trains on CIFAR-10
    "simclr": Recipe((_SIMCLR,), local=_SIMCLR, interpolation="bicubic"),
    "simclr_cifar": Recipe((_SIMCLR_CIFAR,), local=_SIMCLR_CIFAR, interpolation="bicubic"),
    # BYOL (arXiv 2006.07733), appendix B; also DetCon_B's (arXiv 2103.10957)
    "byol": Recipe((_BYOL_1, _BYOL_2), _BYOL_1, interpolation="bicubic", crop_rule="clip"),
    # DetCon_S, not released: SimCLR's strengths, DetCon_B's operations, lightly's blur
    "detcon_s": Recipe(
        (_DETCON_S_1, _DETCON_S_2), _DETCON_S_1, interpolation="bicubic", crop_rule="clip"
    ),
    # facebookresearch/moco and simsiam; MoCo v1 there greys before the jitter
    "moco_v1": Recipe((_MOCO_V1,), local=_MOCO_V1),
    "moco_v2": Recipe((_MOCO_V2,), local=_MOCO_V2),
    "simsiam": Recipe((_MOCO_V2,), local=_MOCO_V2),
    # facebookresearch/dino and swav
    "dino": Recipe((_DINO_1, _DINO_2), local=_DINO, interpolation="bicubic"),
    "swav": Recipe((_SWAV,), local=_SWAV),
    # xyupeng/ContrastiveCrop on small images; on ImageNet it is moco_v2
    "contrastive_crop": Recipe((_CCROP,), local=_CCROP),
}
