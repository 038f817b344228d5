"""Run lengths: as pycocotools makes them, byte for byte; label maps in one pass."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from jaxssl.data.rle import (
    check_masks,
    decode_mask,
    encode_labels,
    encode_mask,
    from_coco,
    mask_areas,
    mask_boxes,
    run_ends,
)
from jaxssl.errors import UserError

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


def test_runs_of_many_masks_are_those_of_each():
    rng = np.random.default_rng(3)
    rle = [encode_mask(rng.random((9, 11)) < density) for density in (0.5, 0, 0.1, 1, 0.9)]
    for ends, counts in zip(run_ends(rle), rle, strict=True):
        np.testing.assert_array_equal(ends, run_ends([counts])[0])
    assert run_ends([]) == []
    check_masks(rle, (9, 11))
    check_masks([], (9, 11))


@pytest.mark.parametrize(
    "counts", [b"", b"0", b"`", b"0`", b"c30", b"c3O1", b"\xb0", b"/", b"PPPPPPPPPPPPPP0", b"c3N"]
)
def test_run_lengths_that_go_out_of_bounds_are_refused(counts):
    good = encode_mask(np.ones((9, 11), bool))
    for rle in ([counts], [good, counts], [counts, good]):
        with pytest.raises(UserError, match="its run lengths are"):
            check_masks(rle, (9, 11))


def test_whatever_passes_is_read_by_pycocotools():
    rng = np.random.default_rng(4)
    passed = 0
    for _ in range(3000):
        size = tuple(rng.integers(1, 12, 2).tolist())
        counts = bytearray(encode_mask(rng.random(size) < 0.5))
        for _ in range(rng.integers(1, 4)):
            counts[rng.integers(len(counts))] = rng.integers(
                *((256,) if rng.random() < 0.2 else (48, 112))
            )
        try:
            check_masks([bytes(counts)], size)
        except UserError:
            continue
        coded = {"size": size, "counts": bytes(counts)}
        mask = decode_mask(bytes(counts), size)
        assert mask.shape == size
        assert coco_mask.merge([coded, {"size": size, "counts": encode_mask(mask)}])["size"] == [
            *size
        ]
        assert coco_mask.area([coded])[0] == mask.sum()
        passed += 1
    assert passed > 10


@pytest.mark.parametrize(
    "segmentation",
    [
        None, 3, [], [[]], [[1, 1, 5, 1]], [[1, 1, 5, 1, 5]], [[1, 1, 5, 1, 5, "5"]],
        [[1, 1, 5, 1, 5, None]], [[0, 0, 10**7, 0, 10**7, 10**7]], [[0, 0, 10**400, 0, 1, 1]],
        [[0, 0, float("nan"), 0, 1, 1]],
        [[0, 0] + [9e5, 0, -9e5, 0] * 9], {}, {"size": [4, 5]}, {"size": [4, 5], "counts": None},
        {"size": [4, 5], "counts": [20, 20]}, {"size": [4, 5], "counts": [21, -1]},
        {"size": [4, 5], "counts": [10.0, 10.0]}, {"size": [5, 4], "counts": [20]},
        {"size": [4, 5], "counts": [2**40, 20 - 2**40]}, {"size": [4, 5], "counts": []},
        {"size": [4, 5], "counts": "d0`"}, {"size": [4, 5], "counts": "\ud800"},
        {"size": [2**40, 2**40], "counts": "d0"}, {"size": "45", "counts": "d0"},
    ],
)  # fmt: skip
def test_what_is_no_mask_of_coco_never_reaches_it(segmentation):
    with pytest.raises(UserError):
        from_coco(segmentation, (4, 5))


def test_masks_of_coco_in_all_its_forms():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    counts = by_pycocotools(mask)
    runs = np.diff(run_ends([counts])[0], prepend=0).tolist()
    for form in (
        {"size": [4, 5], "counts": counts.decode()},
        {"size": [4, 5], "counts": counts},
        {"size": [4, 5], "counts": runs},
        [[1, 1, 4, 1, 4, 3, 1, 3]],
        [[1, 1, 3, 1, 3, 3, 1, 3], [3, 1, 4, 1, 4, 3, 3, 3]],
    ):
        assert from_coco(form, (4, 5)) == counts


def test_runs_of_no_pixel_leave_the_mask_of_which_pycocotools_makes_another():
    """It compares masks up to the first such run that both have; ours has none but the first."""
    rng = np.random.default_rng(0)
    full = {"size": [4, 5], "counts": [0, 4, 0, 4, 0, 12]}
    given = coco_mask.frPyObjects(full, 4, 5)
    assert coco_mask.iou([given], [given], [1])[0, 0] < 1
    for _ in range(300):
        size = tuple(rng.integers(1, 7, 2).tolist())
        cuts = np.sort(rng.integers(0, np.prod(size) + 1, rng.integers(8)))
        runs = np.diff(np.concatenate([[0], cuts, [np.prod(size)]])).tolist()
        mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T
        counts = from_coco({"size": list(size), "counts": runs}, size)
        assert counts == by_pycocotools(mask)
        coded = {"size": list(size), "counts": counts}
        assert coco_mask.iou([coded], [coded], [1])[0, 0] == mask.any()
