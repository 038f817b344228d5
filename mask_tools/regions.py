"""Collects a segmenter's masks to the `Regions` of an example."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from jaxssl.data.rle import encode_labels, encode_mask, mask_areas, mask_boxes
from jaxssl.data.source import Regions, Size
from mask_tools.hierarchy import objects


@dataclasses.dataclass(frozen=True)
class Region:
    """One mask of one image, as a segmenter found it: run lengths, for there may be thousands."""

    rle: bytes  # COCO compressed run lengths
    size: Size
    score: float = 1.0  # the segmenter's confidence
    level: int = 0  # which of the segmenter's parameter sets found it
    fault: str = ""  # why an annotation is none: then it is counted, and left out
    name: str = ""  # of the annotation


def from_mask(mask: np.ndarray, *, score: float = 1.0, level: int = 0) -> Region:
    """The region of a mask bool[h, w]."""
    return Region(encode_mask(mask), (mask.shape[0], mask.shape[1]), score, level)


def from_labels(
    labels: np.ndarray, *, level: int = 0, ignore: Collection[int] = ()
) -> list[Region]:
    """A region for each value in a label map of integers [h, w], except the ignored ones."""
    size = labels.shape[0], labels.shape[1]
    masks = encode_labels(labels).items()
    return [Region(rle, size, level=level) for value, rle in masks if value not in ignore]


def collect(found: Sequence[Region], size: Size) -> Regions:
    """The regions of an image of `size` (height, width), grouped into objects.

    Empty ones and those at fault are left out.

    Raises ValueError where a mask is not of the image's size: a bug of its segmenter.
    """
    found = [region for region in found if not region.fault]
    for region in found:
        if region.size != size:
            raise ValueError(f"a mask of {region.size} pixels does not fit an image of {size}")
    area = mask_areas([region.rle for region in found])
    kept = [region for region, pixels in zip(found, area.tolist(), strict=True) if pixels]
    rle = tuple(region.rle for region in kept)
    return Regions(
        size=size,
        box=mask_boxes(rle, size).astype(np.float32),
        area=area[area > 0],
        object=objects(rle, size),
        score=np.array([region.score for region in kept], np.float32),
        level=np.array([region.level for region in kept], np.int64),
        rle=rle,
    )
