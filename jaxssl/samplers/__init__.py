"""Where in an image each view is cut. A sampler sees no network and no loss.

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
        ...

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """A box for each view of one image (the caller vmaps), in pixels of the original image.

        Also whether the sampler had to fall back on the whole image. `example` holds the `index` of
        the image in the data set, for the memory, and its `hw` and regions.
        """
        ...


@runtime_checkable
class RefreshingSampler(Sampler, Protocol):
    """A sampler that looks at all images with the encoder from time to time."""

    def refresh_due(self, epoch: int) -> bool:
        """Whether to do so when `epoch` epochs are over and another begins."""
        ...

    def refresh(
        self, memory: Tree, index: Int[Array, "b"], grid: Float[Array, "b h w d"], size: int
    ) -> Tree:
        """The memory after a look at some images.

        Args:
          index: of the images in the data set.
          grid: their features, of the whole image without augmentation.
          size: side of the square that the encoder saw, pixels.
        """
        ...


SAMPLERS = {
    "random_crop": RandomCrop,
    "region_crop": RegionCrop,
    "contrastive_crop": ContrastiveCrop,
    "sim_ccrop": SimCCrop,
    "region_ccrop": RegionCCrop,
}
