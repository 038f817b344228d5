"""What a segmenter returns, and how it becomes the `Regions` of an example."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxssl.data.example import Regions, encode_mask
from mask_tools.hierarchy import objects, tight_box


@dataclasses.dataclass(frozen=True)
class Region:
    """One mask of one image, as a segmenter found it."""

    mask: np.ndarray  # bool[h, w]
    score: float = 1.0  # the segmenter's confidence
    level: int = 0  # which of the segmenter's parameter sets found it


def collect(found: Sequence[Region], size: tuple[int, int]) -> Regions:
    """The regions of an image of `size` (height, width), grouped into objects; empty ones left out.

    Raises ValueError where a mask is not of the image's size.
    """
    for region in found:
        if region.mask.shape != size:
            raise ValueError(
                f"a mask of {region.mask.shape} pixels does not fit an image of {size}"
            )
    kept = [region for region in found if region.mask.any()]
    masks = [region.mask for region in kept]
    return Regions(
        size=size,
        box=np.array([tight_box(mask) for mask in masks], np.float32).reshape(-1, 4),
        area=np.array([np.count_nonzero(mask) for mask in masks], np.int64),
        object=objects(masks),
        score=np.array([region.score for region in kept], np.float32),
        level=np.array([region.level for region in kept], np.int64),
        rle=tuple(encode_mask(mask) for mask in masks),
    )
