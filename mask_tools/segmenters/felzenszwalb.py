"""Felzenszwalb and Huttenlocher's graph segmentation (IJCV 2004), as DetCon uses it.

DetCon (arXiv 2103.10957, section 3.1) runs it on the image as decoded, at its own resolution, with
scale = minimum size = 1000, and on COCO at 500, 1000 and 1500. The released code keeps ids in eight
bits, which merges segments 256 apart; here every segment is its own mask.
"""

import dataclasses
import math
from typing import ClassVar

from skimage.segmentation import felzenszwalb

from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_labels
from mask_tools.segmenters.fields import take_fields


@dataclasses.dataclass(frozen=True)
class Felzenszwalb:
    """One partition of the image for each scale; those of scale i are the regions of level i.

    A larger scale gives larger segments. The minimum size is the area in pixels of the smallest
    segment, one for each scale; without any it is the scale. Sigma is that of a Gaussian blur, in
    pixels, applied before.
    """

    needs_original_size: ClassVar[bool] = False

    scale: tuple[float | int, ...] = (1000,)
    min_size: tuple[float | int, ...] = ()
    sigma: float = 0.8

    def __post_init__(self) -> None:
        take_fields(self)
        known = self.scale and all(0 < number < math.inf for number in self.scale)
        sizes = self.min_size or (tuple(round(scale) for scale in self.scale) if known else ())
        whole = all(size >= 1 and float(size).is_integer() for size in sizes)
        if not (known and whole and 0 <= self.sigma < math.inf):
            raise UserError(
                f"fh with scale {self.scale}, min size {sizes}, sigma {self.sigma}: scales must be "
                "above 0, sizes whole numbers from 1 on, sigma not negative"
            )
        object.__setattr__(self, "min_size", tuple(int(size) for size in sizes))
        if len(self.min_size) != len(self.scale):
            raise UserError(
                f"fh with {len(self.scale)} scales and {len(self.min_size)} minimum sizes: "
                "give one minimum size per scale, or none to use the scales"
            )

    def __call__(self, example: Example) -> list[Region]:
        """The segments of the image, level by level."""
        regions: list[Region] = []
        for level, (scale, min_size) in enumerate(zip(self.scale, self.min_size, strict=True)):
            # Eight-bit input on purpose: the library scales it to [0, 1] but would take 0-255
            # floats as they are, and cut four times as many segments.
            ids = felzenszwalb(example.image, scale=scale, sigma=self.sigma, min_size=min_size)
            regions += from_labels(ids, level=level)
        return regions
