"""Regions in numbers: how many there are, what they cover, how well they match annotations.

Average best overlap (ABO; Uijlings et al., IJCV 2013): the intersection over union of each
annotated mask with the region that matches it best, averaged over the annotated masks.

Covering (Arbelaez et al., PAMI 2011, section 3.1.2): the same, but each annotated mask counts as
much as it has pixels, averaged over annotators and images.

Boundary recall (`boundaries.py`): averaged over annotators and images, too.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.data.rle import coco
from jaxssl.data.source import Example, Regions
from mask_tools.boundaries import boundary, boundary_recall

MIN_AREA = 1000  # pixels: smaller regions give no views in SAMCLR


class Row(NamedTuple):
    """Counts of one image."""

    regions: int
    objects: int
    usable: int  # objects whose largest region has `min_area` pixels or more
    area: int  # pixels of all regions together
    covered: int  # pixels in one region at least
    pixels: int  # of the image


class Spread(NamedTuple):
    """A count per image, over the images of a data set."""

    mean: float
    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.least} to {self.most})"


@dataclasses.dataclass(frozen=True)
class RegionStatistics:
    """The regions of a data set."""

    min_area: int  # pixels of the largest region of a usable object
    images: int
    regions: Spread
    objects: Spread
    usable: Spread  # objects
    coverage: float  # fraction of an image's pixels in a region, mean over images
    overlap: float  # regions over a pixel that is in any
    unusable_images: int  # without a usable object

    def texts(self) -> dict[str, str]:
        """The lines of a table: texts by their names."""
        share = 100 * self.unusable_images / max(1, self.images)
        return {
            "images": f"{self.images}",
            "regions per image": f"{self.regions}",
            "objects per image": f"{self.objects}",
            f"  of {self.min_area} px or more": f"{self.usable}",
            "  images without any": f"{self.unusable_images} ({share:.1f} %)",
            "covered pixels": f"{100 * self.coverage:.1f} %",
            "regions per covered pixel": f"{self.overlap:.2f}",
        }

    @property
    def warning(self) -> str:
        """What is to be done if most images have no usable object; "" if they have."""
        if 2 * self.unusable_images <= self.images:
            return ""
        return (
            f"warning: {self.unusable_images} of {self.images} images have no region of "
            f"{self.min_area} px or more, and views of them are cropped from anywhere: make larger "
            "regions, or train with a lower --config.sampler.min_area"
        )


def measure(example: Example, *, min_area: int) -> Row:
    """The counts of one example."""
    height, width = example.size
    regions = example.regions
    if regions is None or not len(regions):
        return Row(0, 0, 0, 0, 0, height * width)
    union = coco_mask.merge(coco(regions.rle, regions.size))
    return Row(
        regions=len(regions),
        objects=len(np.unique(regions.object)),
        usable=len(np.unique(regions.object[regions.area >= min_area])),
        area=int(regions.area.sum()),
        covered=int(coco_mask.area(union)),
        pixels=height * width,
    )


def as_array(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows as an array i64[n, 6]: there may be millions."""
    return np.array(rows, np.int64).reshape(-1, len(Row._fields))


def summarize(rows: np.ndarray, *, min_area: int) -> RegionStatistics:
    """The statistics of one image or more, whose rows i64[n, 6] were measured with `min_area`."""
    regions, objects, usable, area, covered, pixels = rows.T
    return RegionStatistics(
        min_area=min_area,
        images=len(rows),
        regions=_spread(regions),
        objects=_spread(objects),
        usable=_spread(usable),
        coverage=float(np.mean(covered / pixels)),
        overlap=float(area.sum() / max(1, covered.sum())),
        unusable_images=int(np.count_nonzero(usable == 0)),
    )


def _spread(counts: np.ndarray) -> Spread:
    return Spread(float(counts.mean()), int(counts.min()), int(counts.max()))


class Overlaps(NamedTuple):
    """The numbers that one image adds to the averages over a data set."""

    masks: int  # annotated
    overlap: float  # sum of the best overlaps
    covering: float
    boundary_recall: float | None  # None: no annotated mask has an outline


@dataclasses.dataclass(frozen=True)
class AnnotationMatch:
    """Scores of the regions of a data set against annotations."""

    masks: int  # annotated
    images: int  # with annotated masks
    average_best_overlap: float
    covering: float
    boundary_recall: float | None

    def texts(self) -> dict[str, str]:
        """The lines of a table: texts by their names."""
        return {
            "annotated masks": f"{self.masks} in {self.images} images",
            "average best overlap": f"{self.average_best_overlap:.3f}",
            "covering": f"{self.covering:.3f}",
            "boundary recall": "-" if (r := self.boundary_recall) is None else f"{r:.3f}",
        }


def compare(annotated: Regions, regions: Regions) -> Overlaps:
    """Scores of regions against annotated ones, whose levels are the annotators."""
    best = _overlaps(annotated, regions).max(axis=1, initial=0.0)
    levels = [annotated.level == level for level in np.unique(annotated.level)]
    coverings = [np.average(best[own], weights=annotated.area[own]) for own in levels]
    found = boundary(regions, np.ones(len(regions), bool))
    recalls = [boundary_recall(boundary(annotated, own), found) for own in levels]
    return Overlaps(len(annotated), float(best.sum()), _mean(coverings) or 0.0, _mean(recalls))


def compare_levels(regions: Regions) -> Overlaps:
    """Scores of the other levels against each: of all together, and for the covering one by one."""
    overlaps = _overlaps(regions, regions)
    levels = [regions.level == level for level in np.unique(regions.level)]
    edges = [boundary(regions, own) for own in levels]
    total, coverings, recalls = 0.0, [], []
    for i, own in enumerate(levels):
        total += float(overlaps[own][:, ~own].max(axis=1, initial=0.0).sum())
        for j in {*range(len(levels))} - {i}:
            best = overlaps[own][:, levels[j]].max(axis=1)
            coverings.append(np.average(best, weights=regions.area[own]))
            recalls.append(boundary_recall(edges[i], edges[j]))
    return Overlaps(len(regions), total, _mean(coverings) or 0.0, _mean(recalls))


def average(overlaps: Sequence[Overlaps]) -> AnnotationMatch:
    """The averages over images; those without annotated masks do not count."""
    overlaps = [image for image in overlaps if image.masks]
    masks = sum(image.masks for image in overlaps)
    return AnnotationMatch(
        masks=masks,
        images=len(overlaps),
        average_best_overlap=sum(image.overlap for image in overlaps) / max(1, masks),
        covering=sum(image.covering for image in overlaps) / max(1, len(overlaps)),
        boundary_recall=_mean([image.boundary_recall for image in overlaps]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _overlaps(annotated: Regions, regions: Regions) -> np.ndarray:
    """The overlap of each of A annotated masks with each of R regions: f64[A, R]."""
    if not len(annotated) or not len(regions):
        return np.zeros((len(annotated), len(regions)))
    overlaps: np.ndarray = coco_mask.iou(
        coco(annotated.rle, annotated.size), coco(regions.rle, regions.size), [0] * len(regions)
    )
    return overlaps
