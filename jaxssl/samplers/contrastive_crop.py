"""Crops about what the encoder looks at: ContrastiveCrop (Peng et al., arXiv 2202.03278).

    M = normalize(sum of the channels of F)         heat map in [0, 1]          section 3.2
    B = smallest box around all of 1[M > k]                                     eq. (2)
    x = B_x0 + (B_x1 - B_x0) u,  u ~ Beta(alpha, alpha)    center of a crop     Algorithm 1
    y = B_y0 + (B_y1 - B_y0) v,  v ~ Beta(alpha, alpha)

F is features of the whole image without augmentation. With alpha < 1 centers lie
near the corners of B, so that two views differ; each view draws its own. B may also be the same
box in every image (SimCCrop), or the box of a region.
"""

import dataclasses
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxssl.errors import UserError, check_range
from jaxssl.image.boxes import TRIES, centered_box, whole_box
from jaxssl.samplers.random_crop import boxes_within
from jaxssl.samplers.region_crop import RegionCrop
from jaxssl.types import Batch, Leaf, Tree, ViewSpec


@flax.struct.dataclass
class Memory:
    """The boxes that the sampler has found so far."""

    box: Leaf  # f32[n, 4]: B, as fractions of height and width
    in_use: Leaf  # bool[]: whether crops follow the boxes yet


def heat_map(
    grid: Float[Array, "h w d"], shape: tuple[int, int]
) -> Float[Array, "{shape[0]} {shape[1]}"]:
    """M: the sum of the channels of the features at each place of an image, scaled to [0, 1].

    A constant map, of features that died, is 0 everywhere.

    Args:
      grid: features of the image.
      shape: height and width of the image, pixels.
    """
    heat = grid.astype(jnp.float32).sum(axis=-1)
    low, high = heat.min(), heat.max()
    heat = (heat - low) / jnp.where(high > low, high - low, 1)
    return jax.image.resize(heat, shape, "bilinear")


def heat_map_box(
    grid: Float[Array, "h w d"], size: int, threshold: float, *, exact: bool
) -> Float[Array, "4"]:
    """B, as fractions of the image; all of it if nothing of the heat map is above the threshold.

    Args:
      grid: features of the image.
      size: side of the image that the encoder saw, pixels: the heat map is enlarged to it.
      threshold: k.
      exact: whether B ends where the last pixel ends. As released it ends where that one begins.
    """
    above = heat_map(grid, (size, size)) > threshold
    ends = []
    for axis in (1, 0):  # rows, columns
        used = above.any(axis=axis)
        ends.append((jnp.argmax(used), size - 1 - jnp.argmax(used[::-1])))
    (top, bottom), (left, right) = ends
    box = jnp.stack([top, left, bottom + exact, right + exact]) / size
    return jnp.where(above.any(), box, jnp.array([0.0, 0, 1, 1]))


def boxes_about(
    key: PRNGKeyArray,
    centers: Float[Array, "4"],
    hw: Int[Array, "2"],
    specs: tuple[ViewSpec, ...],
    alpha: float,
) -> Float[Array, "v 4"]:
    """One random box for each view, its center Beta-distributed in a box.

    Args:
      key: used once.
      centers: that box, y0 x0 y1 x1 in pixels.
      hw: height and width of the image, pixels.
      specs: of the views.
      alpha: both parameters of the distribution; below 1 it prefers the corners.
    """
    key_shape, key_place = jax.random.split(key)
    shapes = jax.random.uniform(key_shape, (len(specs), TRIES, 2))
    # X / (X + Y) of two Gamma variables: `jax.random.beta`, in one draw for both.
    log_x, log_y = jax.random.loggamma(key_place, alpha, (2, len(specs), 2))
    places = jax.nn.sigmoid(log_x - log_y)
    return jnp.stack(
        [
            centered_box(shape, place, centers, hw, s.scale, ratio=s.ratio, rule=s.crop_rule)
            for shape, place, s in zip(shapes, places, specs, strict=True)
        ]
    )


@dataclasses.dataclass(frozen=True)
class ContrastiveCrop:
    """Plain random crops during the warm-up, then crops about boxes found at regular intervals.

    The defaults are those for small images, trained for 500 epochs. For ImageNet's 100 the released
    code (xyupeng/ContrastiveCrop) has `alpha=0.6, warmup_epochs=20, interval_epochs=20`; the paper
    finds boxes every 10 epochs.
    """

    alpha: float = 0.1
    threshold: float = 0.1  # k; for the flat maps of a ViT the authors advise 0.3 to 0.5
    warmup_epochs: int = 100
    interval_epochs: int = 100
    exact: bool = False  # `heat_map_box`

    needs_regions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("sampler.alpha", self.alpha, "above 0")
        check_range("sampler.threshold", self.threshold, "in [0, 1)")  # as the heat map's values
        check_range("sampler.warmup_epochs", self.warmup_epochs, "0 or more")
        check_range("sampler.interval_epochs", self.interval_epochs, "1 or more")

    def init(self, num_examples: int) -> Tree:
        """The whole image as the box of each."""
        box = jnp.tile(jnp.array([[0.0, 0, 1, 1]]), (num_examples, 1))
        return Memory(box=box, in_use=jnp.array(self.warmup_epochs == 0))

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """A box for each view, and whether B, in use, is the whole image."""
        key_plain, key_about = jax.random.split(key)
        hw, box = example["hw"], memory.box[example["index"]]
        about = boxes_about(key_about, box * jnp.tile(hw, 2), hw, specs, self.alpha)
        plain = boxes_within(key_plain, whole_box(hw), specs)
        is_whole = (box == jnp.array([0, 0, 1, 1])).all()
        return jnp.where(memory.in_use, about, plain), memory.in_use & is_whole

    def refresh_due(self, epoch: int) -> bool:
        """Whether boxes are found again once `epoch` epochs are over.

        The released code does so in the multiples of `interval_epochs`; as its warm-ups are such
        multiples, that is the same. After the last epoch nobody asks.
        """
        since = epoch - self.warmup_epochs
        return epoch > 0 and since >= 0 and since % self.interval_epochs == 0

    def refresh(
        self, memory: Tree, index: Int[Array, "b"], grid: Float[Array, "b h w d"], size: int
    ) -> Tree:
        """The memory with the boxes of some images found in their features."""
        box = jax.vmap(lambda g: heat_map_box(g, size, self.threshold, exact=self.exact))(grid)
        return Memory(box=memory.box.at[index].set(box), in_use=jnp.array(True))


@dataclasses.dataclass(frozen=True)
class SimCCrop:
    """Crops about one box, the same in every image, from the first step on. No memory."""

    alpha: float = 0.1
    box: tuple[float, float, float, float] = (0.25, 0.25, 0.75, 0.75)  # y0 x0 y1 x1, fractions

    needs_regions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("sampler.alpha", self.alpha, "above 0")
        low, high = self.box[:2], self.box[2:]
        if len(self.box) != 4 or not all(0 <= a <= b <= 1 for a, b in zip(low, high, strict=True)):
            raise UserError(
                f"sampler.box is {self.box}; give fractions y0 x0 y1 x1 with 0 <= y0 <= y1 <= 1 "
                "and 0 <= x0 <= x1 <= 1"
            )

    def init(self, num_examples: int) -> Tree:
        """No memory."""
        return ()

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """A box for each view; never falls back."""
        centers = jnp.array(self.box) * jnp.tile(example["hw"], 2)
        return boxes_about(key, centers, example["hw"], specs, self.alpha), jnp.array(False)


@dataclasses.dataclass(frozen=True)
class RegionCCrop(RegionCrop):
    """Crops of the whole image with their centers in one region: B is the box of `RegionCrop`.

    No paper has it: SAMCLR's objects, ContrastiveCrop's centers. The area of a view is a fraction
    of the image here, so that a crop may reach out of the region.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sampler.alpha", self.alpha, "above 0")

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """A box for each view, and whether there was no usable region: then B is the image."""
        key_region, key_boxes = jax.random.split(key)
        centers, found = self.draw_region(key_region, example)
        return boxes_about(key_boxes, centers, example["hw"], specs, self.alpha), ~found
