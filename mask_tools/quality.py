"""How well regions meet what people annotated.

Average best overlap (ABO; Uijlings et al., IJCV 2013): the intersection over union of each
annotated mask with the region that meets it best, averaged over the annotated masks.

Covering (Arbelaez et al., PAMI 2011, section 3.1.2): the same, but each annotated mask counts as
much as it has pixels, averaged over annotators and images.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.data.rle import coco
from jaxssl.data.source import Regions


class Quality(NamedTuple):
    """What one image adds to the averages."""

    masks: int  # annotated
    overlap: float  # best overlaps, added up
    covering: float


def compare(annotated: Regions, regions: Regions) -> Quality:
    """How well regions meet the annotated ones, whose levels are the annotators."""
    best = _best_overlaps(annotated, regions, np.ones(len(regions), bool))
    coverings = [
        np.average(best[annotated.level == level], weights=annotated.area[annotated.level == level])
        for level in np.unique(annotated.level)
    ]
    return Quality(len(annotated), float(best.sum()), float(np.mean(coverings or [0.0])))


def compare_levels(regions: Regions) -> Quality:
    """How well each level is met by the others: by all together, and covered by one at a time."""
    levels = np.unique(regions.level).tolist()
    total, coverings = 0.0, []
    for level in levels:
        own = _choose(regions, regions.level == level)
        others = regions.level != level
        total += float(_best_overlaps(own, regions, others).sum())
        for other in levels:
            if other != level:
                best = _best_overlaps(own, regions, regions.level == other)
                coverings.append(np.average(best, weights=own.area))
    return Quality(len(regions), total, float(np.mean(coverings or [0.0])))


def summarise(found: Sequence[Quality]) -> dict[str, str]:
    """The averages over images, as texts by their names."""
    found = [quality for quality in found if quality.masks]
    masks = sum(quality.masks for quality in found)
    overlap = sum(quality.overlap for quality in found) / max(1, masks)
    covering = sum(quality.covering for quality in found) / max(1, len(found))
    return {
        "annotated masks": f"{masks} in {len(found)} images",
        "average best overlap": f"{overlap:.3f}",
        "covering": f"{covering:.3f}",
    }


def _best_overlaps(annotated: Regions, regions: Regions, which: np.ndarray) -> np.ndarray:
    """The overlap of each annotated mask with the best of the regions chosen: f64[A]."""
    rle = [regions.rle[i] for i in np.flatnonzero(which)]
    if not rle or not len(annotated):
        return np.zeros(len(annotated))
    overlap: np.ndarray = coco_mask.iou(
        coco(annotated.rle, annotated.size), coco(rle, regions.size), [0] * len(rle)
    )
    return overlap.max(axis=1)


def _choose(regions: Regions, which: np.ndarray) -> Regions:
    return dataclasses.replace(
        regions,
        box=regions.box[which],
        area=regions.area[which],
        object=regions.object[which],
        score=regions.score[which],
        level=regions.level[which],
        rle=tuple(regions.rle[i] for i in np.flatnonzero(which)),
    )
