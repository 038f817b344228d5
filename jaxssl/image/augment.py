"""Augmentation of views: normalization, random changes to an image, the recipes of papers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Optional

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxssl.image.color import (
    Image,
    Padding,
    blur,
    gaussian_taps,
    grayscale,
    jitter,
    posterize,
    solarize,
)

# Mean and standard deviation of each channel.
NORMALIZE = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # of Google's Vision Transformers, timm's `augreg`
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
    """Probabilities and strengths of changes to a view. One of probability 0 costs nothing."""

    family: str = "torch"  # a name in `color.FAMILIES`
    jitter_prob: float = 0.0
    # Brightness, contrast, saturation: factor in 1 -+ this; hue: turn in -+ this.
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    gray_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    blur_rule: str = "pil"  # a name in `BLUR_RULES`
    solarize_prob: float = 0.0
    solarize_threshold: float = 0.5
    posterize_prob: float = 0.0
    posterize_bits: int = 4
    posterize_last: bool = False  # after solarize; else before it
    # Noise in +-alpha / 2 pixels, smoothed with sigma pixels; regions do not move along.
    elastic_prob: float = 0.0
    elastic_alpha: float = 50.0
    elastic_sigma: float = 5.0
    flip_axis: int = 1  # of the recipe's flip; 1: left and right change places, 0: top and bottom
    before_crop: Optional["Color"] = None  # what happens to the whole image, as large as a view


def augment(key: PRNGKeyArray, image: Float[Array, "s s 3"], color: Color) -> Image:
    """The image, changed at random, in [0, 1].

    The order: elastic, jitter, gray, blur, posterize, solarize.
    """
    keys = jax.random.split(key, 6)
    jitter_key, gray_key, blur_key, solarize_key, posterize_key, elastic_key = keys
    if color.elastic_prob > 0:
        image = displace(image, draw_offset(elastic_key, color, len(image)))
    if color.jitter_prob > 0:
        image = jitter(image, *draw_jitter(jitter_key, color), color.family)
    if color.gray_prob > 0:
        gray = jax.random.bernoulli(gray_key, color.gray_prob)
        image = jnp.where(gray, grayscale(image), image)
    if color.blur_prob > 0:
        radius, padding = BLUR_RULES[color.blur_rule](len(image), color.blur_sigma[1])
        image = blur(image, draw_taps(blur_key, color, radius), padding)
    if color.posterize_prob > 0 and not color.posterize_last:
        image = _maybe_posterize(posterize_key, image, color)
    if color.solarize_prob > 0:
        negative = jax.random.bernoulli(solarize_key, color.solarize_prob)
        image = jnp.where(negative, solarize(image, color.solarize_threshold), image)
    if color.posterize_prob > 0 and color.posterize_last:
        image = _maybe_posterize(posterize_key, image, color)
    return jnp.clip(image, 0, 1)


def _maybe_posterize(key: PRNGKeyArray, image: Array, color: Color) -> Array:
    coarse = jax.random.bernoulli(key, color.posterize_prob)
    return jnp.where(coarse, posterize(image, color.posterize_bits), image)


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


def draw_offset(key: PRNGKeyArray, color: Color, side: int) -> Float[Array, "{side} {side} 2"]:
    """Offsets in pixels for `displace`; none with probability 1 - `elastic_prob`."""
    apply_key, noise_key = jax.random.split(key)
    apply = jax.random.bernoulli(apply_key, color.elastic_prob)
    noise = jax.random.uniform(noise_key, (side, side, 2), minval=-1, maxval=1)
    # torchvision's ElasticTransform: a kernel of 8 sigma + 1, and alpha in halves of a pixel.
    taps = gaussian_taps(color.elastic_sigma, math.floor(4 * color.elastic_sigma))
    offset = color.elastic_alpha / 2 * blur(noise, taps, "reflect")
    return jnp.where(apply, offset, 0)


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
    """The augmentation of a paper's views, without their number, sizes and scales."""

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

# maxjappert/pet_segmentation: the first view has the transforms of the paper's Table 1, in an order
# that differs from row to row, the second the colors. The first is cut with scale (0.5, 1), the
# second with (0.08, 1): a global view of the one scale and a local view of the other.
_PETS_2 = Color(jitter_prob=1.0, jitter=(0.5, 0.5, 0.5, 0.5), flip_axis=0)
_ET = Color(elastic_prob=1.0)
_RP = Color(posterize_prob=0.5)
_RS = Color(solarize_prob=0.5, solarize_threshold=191.5 / 255)  # from the byte 192 on
_PETS_1 = {
    "pets": Color(),
    "pets_et": Color(before_crop=_ET),
    "pets_rp": Color(before_crop=_RP),
    "pets_rs": _RS,
    "pets_et_rp": replace(_ET, posterize_prob=0.5),
    "pets_et_rs": replace(_RS, elastic_prob=1.0),
    "pets_rp_rs": replace(_RS, posterize_prob=0.5, posterize_last=True),
    "pets_et_rp_rs": replace(_RS, elastic_prob=1.0, posterize_prob=0.5),
}

# All recipes resize as torchvision does, which averages the pixels of a crop that is made smaller.
# The codes of SimCLR, BYOL and DetCon do not (`tf.image.resize` without antialiasing): their views
# of large crops are sharper, with aliases; those of small crops are the same.
RECIPES = {
    "none": Recipe((Color(),), local=Color()),  # crop and flip only
    # The quickstart: color says nothing of a drawn shape, and to learn that takes many steps
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
    # facebookresearch/moco and simsiam; MoCo v1 there grays before the jitter
    "moco_v1": Recipe((_MOCO_V1,), local=_MOCO_V1),
    "moco_v2": Recipe((_MOCO_V2,), local=_MOCO_V2),
    "simsiam": Recipe((_MOCO_V2,), local=_MOCO_V2),
    # facebookresearch/dino and swav
    "dino": Recipe((_DINO_1, _DINO_2), local=_DINO, interpolation="bicubic"),
    "swav": Recipe((_SWAV,), local=_SWAV),
    # xyupeng/ContrastiveCrop on small images; on ImageNet it is moco_v2
    "contrastive_crop": Recipe((_CCROP,), local=_CCROP),
    **{name: Recipe((first, _PETS_2), local=_PETS_2) for name, first in _PETS_1.items()},
}
