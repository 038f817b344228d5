"""Samplers choose where in an image each view is cut. They see no network and no loss.

To add one: a file here with a frozen dataclass of the functions below, and its name in `SAMPLERS`.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxssl.samplers.contrastive_crop import ContrastiveCrop, RegionCCrop, SimCCrop
from jaxssl.samplers.random_crop import RandomCrop
from jaxssl.samplers.region_crop import RegionCrop
from jaxssl.types import Batch, Tree, ViewSpec


@runtime_checkable
class Sampler(Protocol):
    """Frozen dataclass of hyperparameters."""

    needs_regions: bool  # whether images without regions make it pointless

    def init(self, num_examples: int) -> Tree:
        """The memory it starts with: () or one entry for each image of the data set."""

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """The boxes from which the views of one image are cut; the caller vmaps.

        Args:
          key: used once.
          example: `index` i32[], of the image in the data set; `hw` i32[2], height and width of the
            original; and, where there are regions, `region_boxes` f32[r, 4], the box of the largest
            region of each object, and `region_areas` f32[r], its pixels, zeros after the last.
          memory: as `init` or `refresh` returned it.
          specs: what each of the v views is to be.

        Returns:
          Boxes f32[v, 4], y0 x0 y1 x1 in pixels of the original image, inside it and not empty; and
          whether the sampler had to fall back on the whole image.
        """


@runtime_checkable
class RefreshingSampler(Sampler, Protocol):
    """A sampler that looks at all images with the encoder from time to time."""

    def refresh_due(self, epoch: int) -> bool:
        """Whether to refresh when `epoch` epochs are over and another begins."""

    def refresh(
        self, memory: Tree, index: Int[Array, "b"], grid: Float[Array, "b h w d"], size: int
    ) -> Tree:
        """The memory, updated by the features of some images.

        Args:
          memory: as `init` or the refresh before returned it.
          index: of the images in the data set.
          grid: their features, of the whole image without augmentation.
          size: side of the square that the encoder saw, pixels.
        """


SAMPLERS = {
    "random_crop": RandomCrop,
    "region_crop": RegionCrop,
    "contrastive_crop": ContrastiveCrop,
    "sim_ccrop": SimCCrop,
    "region_ccrop": RegionCCrop,
}
