"""Raw masks to objects: which masks of an image lie inside one another.

The greedy hierarchy of SAMCLR (arXiv 2310.14736, section 3, and the released generate_masks.py):
the largest mask left is the root of a new object, which takes every mask left of which the root
covers more than 0.9; repeat until none is left. No mask is dropped or changed: each gets an id.
"""

from collections.abc import Sequence

import numpy as np


def objects(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The object of each mask: i64[R], 0 for the largest mask's object; -1 for an empty mask.

    Exact: masks are compared by counts of pixels, 10 |root & mask| > 9 |mask|. Equal areas keep
    the order they come in.

    Args:
        masks: R masks bool[h, w] of one image.
    """
    box = np.array([tight_box(mask) for mask in masks], np.int64).reshape(-1, 4)
    area = np.array([np.count_nonzero(_cut(m, b)) for m, b in zip(masks, box, strict=True)], int)
    result = np.full(len(masks), -1, np.int64)
    left = np.argsort(-area, kind="stable")
    left = left[area[left] > 0]
    count = 0
    while left.size:
        root = left[0]
        # What two masks share lies in what their boxes share: this rules out nearly every pair.
        shared = _intersect(box[root], box[left])
        possible = 10 * _box_area(shared) > 9 * area[left]
        for mask, part in zip(left[possible], shared[possible], strict=True):
            common = np.count_nonzero(_cut(masks[root], part) & _cut(masks[mask], part))
            if 10 * common > 9 * area[mask]:
                result[mask] = count
        left = left[result[left] < 0]
        count += 1
    return result


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """y0 x0 y1 x1 around the pixels of a mask bool[h, w], end-exclusive; zeros if it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0, 0, 0, 0
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    return y0, int(columns[0]), y1, int(columns[-1]) + 1


def _cut(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    y0, x0, y1, x1 = box
    return mask[y0:y1, x0:x1]


def _intersect(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Boxes i64[n, 4] that a box i64[4] and boxes i64[n, 4] share."""
    start = np.maximum(one[None, :2], many[:, :2])
    end = np.minimum(one[None, 2:], many[:, 2:])
    return np.concatenate([start, np.maximum(start, end)], axis=1)


def _box_area(box: np.ndarray) -> np.ndarray:
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
