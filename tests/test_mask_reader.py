"""Masks in all the forms in which programs write them, and what is none."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.decode import decode_upright
from jaxssl.data.folder import Folder
from jaxssl.data.rle import decode_mask, encode_mask, run_ends
from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.mask_reader import (
    fit,
    read_array,
    read_entry,
    read_segmentation,
    stored_frame,
    take_boxes,
    to_masks,
)
from mask_tools.regions import Region

SIZE = (6, 8)
MASK = np.zeros(SIZE, bool)
MASK[1:4, 2:7] = True
RLE = encode_mask(MASK)
RUNS = np.diff(run_ends([RLE])[0], prepend=0).tolist()
CORNERS = [[2, 1], [7, 1], [7, 4], [2, 4]]
FLAT = [n for corner in CORNERS for n in corner]
LEFT, RIGHT = encode_mask(MASK & (np.arange(8) < 4)), encode_mask(MASK & (np.arange(8) >= 4))


@pytest.mark.parametrize(
    "given",
    [
        {"size": [6, 8], "counts": RLE.decode()},
        {"size": [6, 8], "counts": RUNS},
        {"size": [6.0, 8.0], "counts": [float(run) for run in RUNS]},
        [{"size": [6, 8], "counts": part.decode()} for part in (LEFT, RIGHT)],
        [FLAT],
        FLAT,
        CORNERS,
        [CORNERS],
        [FLAT, [1, 1, 5, 5], []],
        [{"x": x, "y": y} for x, y in CORNERS],
        [[{"x": x, "y": y} for x, y in CORNERS]],
        [[float(n) for n in FLAT]],
        MASK.tolist(),
        MASK.astype(int).tolist(),
    ],
)
def test_a_mask_in_every_form(given):
    assert read_segmentation(given, SIZE) == (RLE, SIZE)
    (region,) = read_entry({"segmentation": given, "predicted_iou": 0.5}, SIZE, "a")
    assert (region.rle, region.size, region.score, region.fault) == (RLE, SIZE, 0.5, "")


def test_a_box_alone_is_a_fault_unless_it_is_taken():
    (region,) = read_entry({"bbox": [1, 2, 4, 3], "score": 0.5}, SIZE, "a")
    assert region.fault == "has no mask, a box only"
    for nothing in ([], [[]], {}, None, ""):
        entry = {"bbox": [1, 2, 4, 3], "score": 0.5, "segmentation": nothing}
        assert read_entry(entry, SIZE, "a") == [region]
    crowd = Region(b"", SIZE, fault="is a crowd (iscrowd)")
    taken, other = take_boxes([region, crowd])
    rectangle = np.zeros(SIZE, bool)
    rectangle[2:5, 1:5] = True
    np.testing.assert_array_equal(decode_mask(taken.rle, SIZE), rectangle)
    assert (taken.fault, taken.score, other) == ("", 0.5, crowd)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"bbox": [1, 1, 2]}, "has a box that is not x, y, width and height"),
        ({"bbox": [1, 1, -2, 0]}, "has a mask that covers no pixel"),
        ({"segmentation": []}, "has no mask"),
        ({"segmentation": None}, "has no mask"),
        ("entry", "is no annotation"),
        ({"segmentation": [[1, 1, 5, 5]]}, "has a polygon of fewer than three points"),
        ({"segmentation": [[1, 1, 2, 2, 3, 3, 4]]}, "a polygon of it is no list x, y"),
        ({"segmentation": "abc"}, "has a mask that is neither run lengths nor polygons"),
        ({"segmentation": [[20, 20, 30, 20, 30, 30]]}, "has a mask that covers no pixel"),
        ({"segmentation": {"counts": RUNS}}, "has run lengths without a size"),
        ({"segmentation": [[n / 8 for n in FLAT]]}, "has points from 0 to 1: they must be in pixe"),
        ({"segmentation": [[2 * n for n in FLAT]]}, "reaches far out of its image of 6 x 8 pixels"),
        ({"segmentation": [{"x": 1}]}, "has run lengths without a size"),
        ({"segmentation": [FLAT], "score": "high"}, "has a score that is no number"),
        ({"segmentation": [FLAT], "score": float("nan")}, "has a score that is no number"),
    ],
)
def test_what_is_no_mask_is_a_fault_of_one_annotation(entry, fault):
    (region,) = read_entry(entry, SIZE, "annotation 7")
    assert region.fault.startswith(fault)
    assert (region.name, region.rle) == ("annotation 7", b"")


TWO = np.stack([MASK, np.roll(MASK, 1, axis=0)])


@pytest.mark.parametrize(
    "values",
    [
        TWO,
        TWO.astype(np.uint8),
        TWO * np.uint8(255),
        TWO.astype(np.int64),
        TWO * 0.9 + 0.05,
        (TWO * 16.0 - 8).astype(np.float16),
        np.where(TWO, 250, 12).astype(np.uint8),
        TWO * 255.0,
        TWO[:, None],
        TWO[None],
        TWO[..., None],
        np.moveaxis(TWO, 0, -1),
    ],
)
def test_arrays_of_masks_of_every_type_and_order(values):
    found = read_array(values, [SIZE], np.array([0.2, 0.7]))
    np.testing.assert_array_equal([decode_mask(r.rle, r.size) for r in found], TWO)
    assert [r.score for r in found] == [0.2, 0.7]


def test_a_plane_of_numbers_is_a_label_map_or_a_mask():
    labels = MASK.astype(np.uint16) * 3
    labels[5, 7] = 1
    void = labels.astype(int)
    void[0] = -1
    for values in (labels, labels[None], labels[..., None], void):
        found = read_array(values, [SIZE], None)
        assert [int(decode_mask(r.rle, r.size).sum()) for r in found] == [1, 15]
    assert [r.rle for r in read_array(MASK, [SIZE], None)] == [RLE]
    assert [r.rle for r in read_array(np.dstack([MASK] * 3), [SIZE], None)] == [RLE]
    assert len(read_array(np.dstack([labels] * 3), [SIZE], None)) == 2
    assert len(read_array(np.stack([MASK] * 3), [SIZE], None)) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (TWO[:, 1:], r"has an array of \(2, 5, 8\) for an image of \(6, 8\)"),
        (np.where(TWO, np.nan, 0.0), "values that are not finite"),
        (np.where(TWO, 7.0, 2.0), "neither masks, logits nor shares of 1"),
        (np.stack([MASK * 2, MASK * 3]), "from 0 to 3: neither masks"),
        (TWO.astype(complex), "array of complex128"),
    ],
)
def test_arrays_that_are_no_masks(values, message):
    with pytest.raises(UserError, match=message):
        read_array(values, [SIZE], None)


def disc(size=(60, 80)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.hypot(y - 30, x - 35)


def test_a_single_mask_with_soft_edges_is_one_mask():
    soft = (255 * (20.5 - disc()).clip(0, 1)).astype(np.uint8)
    blurred = (255 / (1 + np.exp((disc() - 20) / 3))).astype(np.uint8)
    for values in (soft, blurred):
        for given in (values, values[None], np.stack([values] * 2)):
            for region in read_array(given, [values.shape], None):
                np.testing.assert_array_equal(decode_mask(region.rle, region.size), values > 127)
        assert len(read_array(values[None], [values.shape], None)) == 1


@pytest.mark.parametrize("classes", [(1, 2, 255), (3, 20, 140), (0, 7, 26, 33, 200)])
def test_label_maps_are_no_masks(classes):
    rings = np.array(classes, np.uint8)[(disc() // 8).astype(int) % len(classes)]
    for values in (rings, rings[None]):  # each class is a region of an array
        found = read_array(values, [rings.shape], None)
        assert len(found) == np.count_nonzero(classes)
    with pytest.raises(UserError, match=r"neither masks.* \(label maps are for --segmenter annot"):
        to_masks(rings)


def test_a_mask_that_was_saved_as_jpeg_is_one():
    mask = np.where(disc() < 20, 255, 0).astype(np.uint8)
    for quality in (30, 75, 95):
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "JPEG", quality=quality)
        found = to_masks(np.asarray(Image.open(buffer)))
        assert (found == (mask > 0)).mean() > 0.99


def test_scores_of_another_number():
    with pytest.raises(UserError, match="scores"):
        read_array(TWO, [SIZE], np.ones(3))


def test_a_score_that_is_none_costs_its_own_mask_alone():
    good, bad = read_array(TWO, [SIZE], np.array([1, np.nan]))
    assert (good.score, good.fault) == (1, "")
    assert bad.fault == "has a score that is no number"


def test_masks_of_no_pixel_are_faults_and_no_masks_are_none(tmp_path):
    example = Example("a.png", np.zeros((*SIZE, 3), np.uint8))
    for empty in (np.zeros((1, *SIZE), bool), np.full((1, *SIZE), 0.4, np.float32)):
        (region,) = read_array(empty, [SIZE], None)
        assert fit(region, example).fault == "has a mask that covers no pixel"
    assert read_array(np.array([]), [SIZE], None) == []
    assert read_array(np.zeros((0, *SIZE), bool), [SIZE], np.zeros(0)) == []


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("form", ["png", "webp", "tif"])
def test_masks_of_the_stored_image_are_turned_with_it(tmp_path, form, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gray = Image.fromarray(MASK * np.uint8(255))
    gray.save(tmp_path / f"a.{form}", exif=exif, lossless=True)
    example = Folder(tmp_path)[0]
    region = fit(Region(RLE, SIZE), example, stored=stored)
    found = decode_mask(region.rle, region.size)
    turned = example.image[..., 0] > 0
    np.testing.assert_array_equal(found, turned if stored or orientation > 4 else MASK)


@pytest.mark.parametrize("orientation", [1, 6])
def test_polygons_without_a_size_are_of_the_stored_image_if_so_said(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(MASK * np.uint8(255)).save(buffer, "PNG", exif=exif)
    image, _, found = decode_upright(buffer.getvalue(), "a.png", lambda size: size)
    example = Example("a.png", image, orientation=found)
    frame = stored_frame(example)
    assert frame.image.shape[:2] == SIZE
    (region,) = read_entry({"points": FLAT}, frame.image.shape[:2], "a")
    found = fit(region, example, stored=True)
    np.testing.assert_array_equal(decode_mask(found.rle, found.size), example.image[..., 0] > 0)


def test_a_mask_of_another_size_is_at_fault():
    example = Example("a", np.zeros((8, 6, 3), np.uint8))
    assert fit(Region(RLE, SIZE), example).fault == "is not of its image's size: 6 x 8"
    assert fit(Region(b"", SIZE, fault="is a crowd"), example).fault == "is a crowd"


def test_a_score_is_needed_only_where_it_counts():
    example = Example("a", np.zeros((*SIZE, 3), np.uint8))
    region = Region(RLE, SIZE, float("nan"))
    assert fit(region, example).score == 1
    assert fit(region, example, needs_score=True).fault == "has no score"
