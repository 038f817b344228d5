"""Cuts all views of an image from inside one region: SAMCLR (arXiv 2310.14736, section 3).

Step 1: drop the objects whose mask has fewer than `min_area` pixels of the original image.
Step 2: draw one object, each with the same chance, whatever its size.
Step 3: grow its bounding box about its center: height and width times `expand`.
Step 4: cut every view from that box as if it were the image.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxssl.errors import UserError
from jaxssl.image.boxes import MAX_EXPAND, grow_box, whole_box
from jaxssl.samplers.random_crop import boxes_within
from jaxssl.types import Batch, Tree, ViewSpec


@dataclasses.dataclass(frozen=True)
class RegionCrop:
    """Crops inside one region. With no usable region the whole image is the region.

    The paper's numbers are the defaults. Its released code keeps masks of more than 600 pixels
    and, by way of `scale = 1 + scale`, doubles the boxes: `min_area=601, expand=2.0`.
    """

    min_area: int = 1000  # pixels of the mask in the original image
    expand: float = 1.3

    needs_regions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.expand <= MAX_EXPAND:
            raise UserError(
                f"sampler.expand is {self.expand}; give a factor above 0, up to {MAX_EXPAND}"
            )

    def init(self, num_examples: int) -> Tree:
        """No memory."""
        return ()

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """A box for each view, and whether there was no usable region.

        Reads `region_boxes f32[R, 4]` (one for each object) and `region_areas f32[R]`, zero where
        there is none.
        """
        key_region, key_boxes = jax.random.split(key)
        within, found = self.draw_region(key_region, example)
        return boxes_within(key_boxes, within, specs), ~found

    def draw_region(
        self, key: PRNGKeyArray, example: Batch
    ) -> tuple[Float[Array, "4"], Bool[Array, ""]]:
        """The grown box of one region, and whether there was one: else the box of the image."""
        areas = example["region_areas"]
        usable = (areas > 0) & (areas >= self.min_area)
        region = jax.random.categorical(key, jnp.where(usable, 0.0, -jnp.inf))
        grown = grow_box(example["region_boxes"][region], self.expand, example["hw"])
        found = usable.any()
        return jnp.where(found, grown, whole_box(example["hw"])), found
