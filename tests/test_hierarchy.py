"""The object hierarchy: the released code's output, a plain loop, and what must always hold."""

import numpy as np
import pytest

from jaxssl.data.rle import encode_mask
from mask_tools import hierarchy
from mask_tools.regions import collect, from_mask


def objects(masks):
    size = masks[0].shape if len(masks) else (4, 6)
    return hierarchy.objects([encode_mask(mask) for mask in masks], size)


def tight_box(mask):
    y, x = np.nonzero(mask)
    return y.min(), x.min(), y.max() + 1, x.max() + 1


def nested_masks(rng, count, size=(40, 56)):
    """Rectangles, many of them inside others: some by more than 0.9, some by a little less."""
    height, width = size
    masks = []
    for _ in range(count):
        if masks and rng.random() < 0.5:
            y0, x0, y1, x1 = tight_box(masks[rng.integers(len(masks))])
            jitter = rng.integers(-2, 3, 4)
            y0, x0, y1, x1 = np.maximum(0, np.array([y0, x0, y1, x1]) + jitter)
        else:
            y0, x0 = rng.integers(height - 4), rng.integers(width - 4)
            y1, x1 = y0 + rng.integers(1, 24), x0 + rng.integers(1, 24)
        mask = np.zeros(size, bool)
        inside = mask[y0:y1, x0:x1]
        inside[...] = rng.random(inside.shape) < rng.choice([0.5, 0.95, 1.0])
        if mask.any():
            masks.append(mask)
    return masks


def objects_by_loop(masks):
    """The greedy algorithm as it reads in words."""
    left = sorted(range(len(masks)), key=lambda i: -masks[i].sum())
    ids, count = [-1] * len(masks), 0
    while left:
        root = left[0]
        for i in left:
            if 10 * int((masks[root] & masks[i]).sum()) > 9 * int(masks[i].sum()):
                ids[i] = count
        left = [i for i in left if ids[i] < 0]
        count += 1
    return ids


def test_released_code_gives_the_same_objects(golden):
    released = golden("s3same_hierarchy")
    ids = objects(list(released["masks"]))
    np.testing.assert_array_equal(ids[released["order"]], released["obj_id"])


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_plain_loop(seed):
    masks = nested_masks(np.random.default_rng(seed), count=40)
    assert objects(masks).tolist() == objects_by_loop(masks)


def test_nine_tenths_exactly_is_not_inside():
    root, exactly, more = (np.zeros((20, 20), bool) for _ in range(3))
    root[:, :10] = True
    exactly[0, 1:11] = True  # 9 of its 10 pixels are in the root
    more[1, 0:11] = True  # 10 of its 11
    assert objects([root, exactly, more]).tolist() == [0, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_root_is_the_largest_and_order_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    masks = {int(m.sum()): m for m in nested_masks(rng, count=60)}  # areas all different
    masks = list(masks.values())
    ids = objects(masks)
    areas = np.array([m.sum() for m in masks])
    assert sorted(set(ids.tolist())) == list(range(ids.max() + 1))
    roots = [areas[ids == i].max() for i in range(ids.max() + 1)]
    assert roots == sorted(roots, reverse=True)
    shuffled = rng.permutation(len(masks))
    np.testing.assert_array_equal(objects([masks[i] for i in shuffled]), ids[shuffled])


def test_order_of_equal_areas_is_the_only_one_that_matters():
    one, other = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    one[:4], other[4:] = True, True
    assert objects([one, other]).tolist() == [0, 1]
    assert objects([other, one]).tolist() == [0, 1]


def test_more_masks_than_eight_bits_count():
    masks = np.eye(400, dtype=bool).reshape(400, 20, 20)
    regions = collect([from_mask(mask) for mask in masks], (20, 20))
    assert regions.area.tolist() == [1] * 400
    assert regions.object.tolist() == list(range(400))


def test_empty_masks_belong_to_no_object_and_are_left_out():
    full, empty = np.ones((4, 6), bool), np.zeros((4, 6), bool)
    assert objects([empty, full, empty]).tolist() == [-1, 0, -1]
    assert objects([]).shape == (0,)
    regions = collect([from_mask(empty), from_mask(full, score=0.5, level=2)], (4, 6))
    assert len(regions) == 1
    assert regions.score.tolist() == [0.5]
    assert regions.level.tolist() == [2]


def test_collect_measures_the_masks_and_loses_nothing():
    masks = nested_masks(np.random.default_rng(0), count=30)
    regions = collect([from_mask(mask) for mask in masks], (40, 56))
    np.testing.assert_array_equal(regions.masks(), masks)
    assert regions.area.tolist() == [int(mask.sum()) for mask in masks]
    for box, mask in zip(regions.box.astype(int), masks, strict=True):
        ys, xs = np.nonzero(mask)
        assert box.tolist() == [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]


def test_no_region_at_all():
    regions = collect([], (4, 6))
    assert len(regions) == 0
    assert regions.box.shape == (0, 4)
    assert regions.masks().shape == (0, 4, 6)


def test_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"a mask of \(4, 5\) pixels does not fit"):
        collect([from_mask(np.ones((4, 5), bool))], (4, 6))


@pytest.mark.parametrize("seed", range(3))
def test_roots_are_the_largest_regions_of_the_objects(seed):
    masks = nested_masks(np.random.default_rng(seed), count=30)
    regions = collect([from_mask(mask) for mask in masks], (40, 56))
    roots = regions.roots()
    assert regions.object[roots].tolist() == list(range(regions.object.max() + 1))
    for root in roots:
        own = regions.object == regions.object[root]
        assert root == np.flatnonzero(own)[np.argmax(regions.area[own])]  # the first of equal ones
    assert len(collect([], (40, 56)).roots()) == 0
