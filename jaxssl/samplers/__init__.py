"""Where in an image each view is cut. A sampler sees no network and no loss.

To add one: a file here with a frozen dataclass of the functions below, and its name in `SAMPLERS`.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, PRNGKeyArray

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

        Also whether the sampler had to fall back on the whole image.
        """
        ...


SAMPLERS = {"random_crop": RandomCrop, "region_crop": RegionCrop}
