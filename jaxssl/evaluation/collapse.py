"""Is the encoder collapsing? Measures that need no labels, on features of training images.

    std            of each dimension of z / |z|; 1 / sqrt(d) if directions are spread evenly
                   (SimSiam, arXiv 2011.10566, section 4.1)
    RankMe         exp(-sum_k p_k log p_k),  p_k = s_k / |s|_1 + 1e-7,  s: singular values of Z
                   (Garrido et al., arXiv 2210.02885, eq. 1 and 2)
    alignment      mean |x - y|^2 over positive pairs, rows of length one
    uniformity     log mean exp(-2 |x_i - x_j|^2) over pairs i < j, rows of length one
                   (Wang and Isola, arXiv 2005.10242, section 4.1.2, alpha = t = 2)

Alignment is better the lower, and so is uniformity; a collapse has a perfect alignment and the
worst uniformity, 0.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.loading import stack_arrays
from jaxssl.data.source import Example
from jaxssl.data.squares import SquareSpec
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.features import check_finite
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.losses import unit
from jaxssl.pretrained.encoder import Encoder
from jaxssl.samplers import RandomCrop, Sampler
from jaxssl.samplers.region_crop import RegionCrop
from jaxssl.types import Batch, View
from jaxssl.views import ViewConfig, make_views

# Measured on synthetic scenes (ResNet-18 of a quarter of the width, 512 images, d = 128): runs that
# learn have a RankMe of 34 to 60, untrained encoders 31, BYOL and SimSiam that learn nothing 14
# and 12. The spread of an untrained encoder is 0.2 of an even one.
MIN_SPREAD = 0.05  # std, as a share of that of even directions
MIN_RANK = 1 / 8  # RankMe, as a share of the most it can be
CHUNK = 64  # images whose views are cut at once
ROWS = 256  # of features that are compared with all others at once
DEAD = 1e-3  # std of a dimension, as a share of that of even directions
MAX_WITHOUT = 0.5  # share of images without a usable region


def dimension_std(z: Float[Array, "n d"]) -> Float[Array, " d"]:
    """Standard deviation of each dimension over the rows of z, scaled to length one."""
    return jnp.std(unit(z), axis=0)


def rank_me(z: Float[Array, "n d"]) -> Float[Array, ""]:
    """RankMe of the rows of z, not scaled: the number of directions in use, 1 to min(n, d)."""
    singular = jnp.linalg.svd(z.astype(jnp.float32), compute_uv=False)
    p = singular / jnp.maximum(singular.sum(), 1e-12) + 1e-7
    return jnp.exp(-jnp.sum(p * jnp.log(p)))


def alignment(x: Float[Array, "n d"], y: Float[Array, "n d"]) -> Float[Array, ""]:
    """Mean squared distance between the row of one view and the same row of the other."""
    return jnp.mean(jnp.sum((unit(x) - unit(y)) ** 2, axis=1))


def uniformity(x: Float[Array, "n d"]) -> Float[Array, ""]:
    """Logarithm of the mean Gaussian potential of pairs of rows; 0 if all are the same.

    Some rows at a time, so that many images take memory in proportion.
    """
    x, n = unit(x), len(x)
    square = jnp.sum(x**2, axis=1)  # 1; of a row of zeros 0

    def mean_potential(row: Int[Array, ""]) -> Float[Array, ""]:
        product = jnp.matmul(x, x[row], precision=jax.lax.Precision.HIGHEST)
        potential = jnp.exp(-2 * (square + square[row] - 2 * product))
        return jnp.where(jnp.arange(n) == row, 0.0, potential).sum() / (n - 1)

    return jnp.log(jax.lax.map(mean_potential, jnp.arange(n), batch_size=ROWS).mean())


@jax.jit
def health(
    whole: Float[Array, "n d"], view: Float[Array, "n d"], other: Float[Array, "n d"]
) -> dict[str, Array]:
    """Measures by name: of features of whole images, and of how alike two views of each are."""
    std = dimension_std(whole)
    return {
        "rank_me": rank_me(whole),
        "std": std.mean(),
        "std_if_even": jnp.float32(whole.shape[1] ** -0.5),
        "dead_dimensions": jnp.mean(std < DEAD * whole.shape[1] ** -0.5),
        "alignment": alignment(view, other),
        "uniformity": uniformity(whole),
    }


def regions_used(canvases: Batch, sampler: Sampler) -> np.ndarray:
    """The number of regions of each image that training draws from: i64[b]; empty if it reads none.

    Those that the sampler finds large enough, else those that the method pools features over.
    """
    if isinstance(sampler, RegionCrop):
        areas = np.asarray(canvases["region_areas"])
        return np.sum((areas > 0) & (areas >= sampler.min_area), axis=1)
    if "region_planes" in canvases:
        bits = np.bitwise_or.reduce(np.asarray(canvases["region_planes"]), axis=1)
        return np.bitwise_count(bits).astype(np.int64).sum(axis=1)
    return np.zeros(0, np.int64)


def advise(
    measures: Mapping[str, float], remedies: str, *, max_rank: int, trained: bool = True
) -> list[str]:
    """A line for each thing that is wrong with a run, and what to change; [] if nothing is.

    Args:
      measures: those of `health`, with `no_region` where training reads regions.
      remedies: of the method, against a collapse.
      max_rank: the smaller of the number of images and of dimensions.
      trained: whether the encoder is; before, its features tell nothing.
    """
    lines = []
    spread, rank = measures["std"] / measures["std_if_even"], measures["rank_me"]
    if trained and (spread < MIN_SPREAD or rank < MIN_RANK * max_rank):
        lines.append(
            f"the features are collapsing: they use {rank:.1f} of {max_rank} directions (RankMe) "
            f"and spread {spread:.0%} as far as even ones; {remedies}"
        )
    if measures.get("no_region", 0.0) > MAX_WITHOUT:
        lines.append(
            f"{measures['no_region']:.0%} of the images have no usable region, so that their views "
            "come from anywhere; lower sampler.min_area or segment with other settings "
            "(python -m mask_tools.inspect DIR counts them)"
        )
    return lines


@dataclasses.dataclass(frozen=True)
class Health:
    """The protocol of the task: test images, their centers; two random crops for the alignment."""

    images: int = 1024
    recipe: str = "moco_v2"  # a name in `augment.RECIPES`
    scale: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self) -> None:
        check_numbers(self, {"2 or more": "images", "in (0, 1]": "scale"})
        ViewConfig(scale=self.scale, recipe=self.recipe)  # which checks both


def check_health(data: DataSet, protocol: Health) -> None:
    """Raises UserError if there are no two images to compare."""
    if len(data.test) < 2:
        raise UserError(f"{data.spec} has one test image and health compares images; give more")


def _run(encoder: Encoder, data: DataSet, protocol: Health, seed: int) -> TaskResult:
    """Measures signs of a collapse on a data set, which needs no labels."""
    views = ViewConfig(
        size=data.size, scale=protocol.scale, recipe=protocol.recipe, normalize="none"
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(data.test))[: protocol.images]
    images = stack_arrays(data.test, order, SquareSpec(data.size))["image"]
    parts = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    key = jax.random.key(seed)
    pairs = [cut_pairs(part, views, jax.random.fold_in(key, n)) for n, part in enumerate(parts)]
    view, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    features = [encoder(pixels) for pixels in (images, view, other)]
    check_finite(np.stack(features), data.name)
    measures = health(*features)
    results = {name: float(measures[name]) for name in ("rank_me", *measures)}
    return TaskResult(results | {"images": float(len(images))})


def cut_pairs(images: np.ndarray, views: ViewConfig, key: PRNGKeyArray) -> tuple[np.ndarray, ...]:
    """Two views u8[n, s, s, 3] of each image u8[n, s, s, 3]."""
    side = images.shape[1]
    spec = CanvasSpec(side**2, (views.size, views.size))
    canvases = [spec.make(Example("", image), (side, side)) for image in images]
    batch = {name: np.stack([canvas[name] for canvas in canvases]) for name in spec.arrays()}
    cut = _cut(batch, key, views)
    return tuple(np.rint(255 * np.clip(view.image, 0, 1)).astype(np.uint8) for view in cut)


@functools.partial(jax.jit, static_argnames="views")
def _cut(batch: Batch, key: Array, views: ViewConfig) -> list[View]:
    sampler: Any = RandomCrop()
    return make_views(key, batch, (), sampler, views)[0]


HEALTH = Task(_run, Health(), "images", check=check_health)
