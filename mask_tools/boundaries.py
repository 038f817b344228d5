"""Boundary recall: how much of the outlines of annotated masks lies near those of the regions.

As Stutz et al. measure it (arXiv 1612.01601, section 5.1): a boundary pixel of an annotation is met
if a boundary pixel of any region lies in the square around it that reaches `REACH` of the image's
diagonal to each side. A pixel is on a boundary if its right or its lower neighbor is on the other
side of an outline; the frame of the image is none. More regions never lower it, so it is to be read
beside their number.
"""

import math

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import maximum_filter

from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Regions

REACH = 0.0025  # of the diagonal


def boundary(regions: Regions, chosen: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """The pixels on the outline of any of the regions that `chosen` bool[R] names."""
    edges = np.zeros(regions.size, bool)
    for index in np.flatnonzero(chosen):
        # An outline lies in the box, and in the row above it and the column left of it.
        y0, x0, y1, x1 = regions.box[index].astype(int)
        window = slice(max(0, y0 - 1), y1 + 1), slice(max(0, x0 - 1), x1 + 1)
        mask = decode_mask(regions.rle[index], regions.size)[window]
        edges[window][:-1] |= mask[:-1] != mask[1:]
        edges[window][:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return edges


def boundary_recall(
    annotated: Bool[np.ndarray, "h w"], found: Bool[np.ndarray, "h w"]
) -> float | None:
    """The share of annotated boundary pixels that are near a found one; None: there are none."""
    if not (count := np.count_nonzero(annotated)):
        return None
    reach = round(REACH * math.hypot(*annotated.shape))
    near = maximum_filter(found, 2 * reach + 1, mode="constant")
    return float(np.count_nonzero(annotated & near) / count)
