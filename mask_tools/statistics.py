"""What regions are worth, in numbers: a row per image, a table per data set."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.data.source import Example

MIN_AREA = 1000  # pixels: smaller regions give no views in SAMCLR


class Row(NamedTuple):
    """Counts of one image."""

    regions: int
    objects: int
    usable: int  # objects whose largest region has `min_area` pixels or more
    area: int  # pixels of all regions together
    covered: int  # pixels in one region at least
    pixels: int  # of the image


def measure(example: Example, *, min_area: int) -> Row:
    """The counts of one example."""
    height, width = example.image.shape[:2]
    regions = example.regions
    if regions is None or not len(regions):
        return Row(0, 0, 0, 0, 0, height * width)
    union = coco_mask.merge([{"size": [height, width], "counts": rle} for rle in regions.rle])
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


def table(rows: np.ndarray, *, min_area: int) -> dict[str, str]:
    """What the rows i64[n, 6] say: texts by their names. Coverage is a mean over images."""
    counts = Row(*rows.T)
    none = np.count_nonzero(np.equal(counts.usable, 0))
    return {
        "images": f"{len(rows)}",
        "regions per image": _spread(counts.regions),
        "objects per image": _spread(counts.objects),
        f"  of {min_area} px or more": _spread(counts.usable),
        "pixels in a region": f"{100 * np.mean(np.divide(counts.covered, counts.pixels)):.1f} %",
        "regions over such a pixel": f"{np.sum(counts.area) / max(1, np.sum(counts.covered)):.2f}",
        f"images without {min_area} px": f"{none} ({100 * none / max(1, len(rows)):.1f} %)",
    }


def format_table(lines: dict[str, str]) -> str:
    """The lines under one another, their texts aligned."""
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def _spread(counts: object) -> str:
    values = np.asarray(counts)
    return f"{values.mean():.1f} ({values.min()} to {values.max()})"
