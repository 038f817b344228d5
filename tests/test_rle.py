"""Run lengths: as pycocotools makes them, byte for byte; label maps in one pass."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from jaxssl.data.rle import decode_mask, encode_labels, encode_mask, mask_areas, mask_boxes

SIZES = [(1, 1), (1, 9), (9, 1), (4, 5), (37, 23)]


def by_pycocotools(mask):
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_a_mask_is_coded_as_pycocotools_does(size, density):
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(size) < density
        assert encode_mask(mask) == by_pycocotools(mask)
        np.testing.assert_array_equal(decode_mask(encode_mask(mask), size), mask)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_every_value_of_a_label_map_is_a_mask(size, dtype):
    rng = np.random.default_rng(1)
    for low in (0, 1, 200):
        labels = (low + rng.integers(0, 6, size)).astype(dtype)
        coded = encode_labels(labels)
        assert list(coded) == np.unique(labels).tolist()
        assert all(coded[v] == by_pycocotools(labels == v) for v in coded)


def test_negative_values_are_values_too():
    labels = np.array([[-1, 0], [3, -1]])
    assert {v: decode_mask(c, (2, 2)).tolist() for v, c in encode_labels(labels).items()} == {
        -1: [[True, False], [False, True]],
        0: [[False, True], [False, False]],
        3: [[False, False], [True, False]],
    }


def test_areas_and_boxes_of_more_masks_than_pycocotools_counts():
    rng = np.random.default_rng(2)
    masks = [rng.random((7, 9)) < 0.1 for _ in range(300)]
    rle = [encode_mask(mask) for mask in masks]
    assert mask_areas(rle).tolist() == [int(mask.sum()) for mask in masks]
    for box, mask in zip(mask_boxes(rle, (7, 9)).tolist(), masks, strict=True):
        y, x = np.nonzero(mask)
        whole = [y.min(), x.min(), y.max() + 1, x.max() + 1] if len(y) else [0, 0, 0, 0]
        assert box == whole
