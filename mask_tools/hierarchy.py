"""Raw masks to objects: which masks of an image lie inside one another.

The greedy hierarchy of SAMCLR (arXiv 2310.14736, section 3, and the released generate_masks.py):
the largest mask left is the root of a new object, which takes every mask left of which the root
covers more than 0.9; repeat until none is left. No mask is dropped or changed: each gets an id.
"""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.data.rle import coco, mask_areas, mask_boxes
from jaxssl.data.source import Size


def objects(rle: Sequence[bytes], size: Size) -> np.ndarray:
    """The object of each of R masks: i64[R], 0 for the largest mask's object; -1 for an empty mask.

    Exact: masks are compared by counts of pixels, 10 |root & mask| > 9 |mask|. Equal areas keep
    the order they come in. `size` is the height and width of their image.
    """
    area, box = mask_areas(rle), mask_boxes(rle, size)
    result = np.full(len(rle), -1, np.int64)
    left = np.argsort(-area, kind="stable")
    left = left[area[left] > 0]
    count = 0
    while left.size:
        root = left[0]
        # What two masks share lies in what their boxes share: this rules out nearly every pair.
        possible = left[10 * _shared(box[root], box[left]) > 9 * area[left]]
        masks, root_mask = coco([rle[i] for i in possible], size), coco([rle[root]], size)
        # The third argument divides by the mask's own area: the count is what was divided.
        share = coco_mask.iou(masks, root_mask, [1])[:, 0]
        common = np.rint(share * area[possible]).astype(np.int64)
        result[possible[10 * common > 9 * area[possible]]] = count
        left = left[result[left] < 0]
        count += 1
    return result


def _shared(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Pixels that a box i64[4] shares with each of the boxes i64[n, 4]: i64[n]."""
    start = np.maximum(one[None, :2], many[:, :2])
    end = np.minimum(one[None, 2:], many[:, 2:])
    return np.prod(np.maximum(end - start, 0), axis=1)
