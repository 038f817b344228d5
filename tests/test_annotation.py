"""Regions that others made: every format of annotations, and proposals of other programs."""

import functools
import re

import numpy as np
import pytest
import scipy.io
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_annotations import (
    SIZE,
    assert_values,
    faults,
    make_example,
    make_labels,
    masks,
    save,
    write_json,
)

from jaxssl.data.records import Records, read_info
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools import export
from mask_tools.regions import collect
from mask_tools.segmenters.annotation import Annotation
from mask_tools.segmenters.proposals import Proposals


@pytest.fixture
def labels():
    return make_labels()


@pytest.fixture
def example():
    return make_example()


CROWD = "is a crowd (iscrowd)"


def test_instances_of_a_label_map(tmp_path, labels, example):
    save(tmp_path / "town" / "street_1.png", labels)
    segmenter = Annotation(path=str(tmp_path))
    assert_values(segmenter(example), labels, 1, 2, 255)
    assert_values(Annotation(path=str(tmp_path), ignore=(1, 255))(example), labels, 0, 2)
    assert_values(Annotation(path=str(tmp_path), ignore=(-1,))(example), labels, 0, 1, 2, 255)


def test_annotations_are_found_by_name_alone(tmp_path, labels, example):
    save(tmp_path / "street_1.png", labels.astype(np.uint16) * 300)
    assert_values(Annotation(path=str(tmp_path))(example), labels, 1, 2, 255)


def test_colors_are_numbers(tmp_path, labels, example):
    colors = np.stack([labels % 2 * 7, labels // 2, labels // 2], axis=-1)
    save(tmp_path / "street_1.png", colors.astype(np.uint8))
    assert_values(Annotation(path=str(tmp_path))(example), labels, 1, 2, 255)


def test_a_map_of_fractions_is_none(tmp_path, labels, example):
    Image.fromarray(labels.astype(np.float32)).save(tmp_path / "street_1.tif")
    assert_values(Annotation(path=str(tmp_path))(example), labels, 1, 2, 255)
    Image.fromarray(labels.astype(np.float32) / 2).save(tmp_path / "street_1.tif")
    with pytest.raises(BrokenImage, match=r"street_1.jpg: .*street_1.tif has fractions"):
        Annotation(path=str(tmp_path))(example)


def test_masks_with_soft_edges_are_no_label_maps(tmp_path):
    mask = Image.fromarray(np.kron([[0, 255, 0], [255, 0, 255]], np.ones((9, 9))).astype(np.uint8))
    for soft in (mask.resize((61, 43), Image.Resampling.BICUBIC), mask.resize((54, 36), 2)):
        soft.save(tmp_path / "1.png")
        with pytest.raises(UserError, match="as masks with soft edges do: give --segmenter propos"):
            Annotation(path=str(tmp_path)).opened()
    blocks = np.kron(np.arange(20).reshape(4, 5) * 13, np.ones((5, 5))).astype(np.uint8)
    Image.fromarray(blocks).save(tmp_path / "1.png")
    assert Annotation(path=str(tmp_path)).opened().names == ("1.png",)


def test_objects_of_a_class_are_told_apart_by_numbers_in_the_alpha_channel(tmp_path):
    ids = np.zeros((40, 60, 4), np.uint8)
    boxes = (0, 0, 10, 10), (0, 20, 10, 50), (20, 0, 40, 30)
    for number, (y0, x0, y1, x1) in zip((1, 2, 254), boxes, strict=True):
        ids[y0:y1, x0:x1] = (3, 0, 1, number)
    save(tmp_path / "1.png", ids)
    example = Example("1.jpg", np.zeros((40, 60, 3), np.uint8))
    found = collect(Annotation(path=str(tmp_path))(example), (40, 60))
    assert found.box.tolist() == [[*box] for box in boxes]


def test_gray_in_three_channels_is_gray_and_red_is_a_color(tmp_path, labels, example):
    segmenter = Annotation(format="semantic", path=str(tmp_path))
    save(tmp_path / "street_1.png", np.dstack([labels] * 3))
    assert_values(segmenter(example), labels, 0, 1, 2)
    red = np.zeros((*SIZE, 3), np.uint8)
    red[labels == 1] = (255, 0, 0)
    red[labels == 2] = (0, 255, 0)
    save(tmp_path / "street_1.png", red)
    assert_values(segmenter(example), np.where(labels == 255, 0, labels), 0, 2, 1)


def test_classes_and_their_connected_parts(tmp_path, labels, example):
    save(tmp_path / "street_1.png", labels)
    whole = Annotation(format="semantic", path=str(tmp_path))
    assert_values(whole(example), labels, 0, 1, 2)
    parts = Annotation(format="semantic", path=str(tmp_path), components=True)(example)
    upper = np.where(np.arange(12)[:, None] < 6, labels, 0) == 1
    lower = np.where(np.arange(12)[:, None] < 6, 0, labels) == 1
    expected = [labels == 0, upper, labels == 2, lower]
    np.testing.assert_array_equal(masks(parts), expected)


def test_parts_that_touch_at_corners_are_one(tmp_path, example):
    labels = np.full(SIZE, 255, np.uint8)
    labels[0:2, 0:2] = labels[2:4, 2:4] = 3
    save(tmp_path / "street_1.png", labels)
    parts = Annotation(format="semantic", path=str(tmp_path), components=True)
    assert_values(parts(example), labels, 3)


@pytest.mark.parametrize("name", ["GTinst", "GTcls", "groundTruth"])
@pytest.mark.parametrize("components", [False, True])
def test_zero_is_a_region_of_bsds_and_none_of_sbd(tmp_path, labels, example, name, components):
    labels[labels == 255] = 0
    content = {"Segmentation": labels}
    if name == "groundTruth":
        content = np.array([[content]], object)
    scipy.io.savemat(tmp_path / "street_1.mat", {name: content})
    segmenter = Annotation(format="bsds", path=str(tmp_path), components=components)
    areas = [mask.sum() for mask in masks(segmenter(example))]
    expected = [12, 28, 12] if components else [24, 28]
    assert sorted(areas) == sorted(expected + [140] * (name == "groundTruth"))


@pytest.mark.parametrize("format_", ["instances", "semantic", "voc", "cityscapes", "bsds"])
def test_parts_cover_what_values_cover(tmp_path, labels, example, format_):
    after = {"cityscapes": "_gtFine_instanceIds", "bsds": "_0"}.get(format_, "")
    save(tmp_path / f"street_1{after}.png", labels)
    make = functools.partial(Annotation, format=format_, path=str(tmp_path), ignore=(0, 255))
    whole, parts = make()(example), make(components=True)(example)
    assert_values(whole, labels, 1, 2)
    assert sorted(mask.sum() for mask in masks(parts)) == [12, 12, 28]
    carried = Example(example.key, example.image, semantic=labels.astype(np.int32) - 1)
    found = Annotation("source", ignore=(254,), components=True)(carried)  # -1 is none there, too
    assert [region.rle for region in found] == [region.rle for region in parts]


def test_pascal_voc(tmp_path, labels, example):
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.save(tmp_path / "street_1.png")
    segmenter = Annotation(format="voc", path=str(tmp_path))
    assert_values(segmenter(example), labels, 1, 2)
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]], np.uint8)
    save(tmp_path / "street_1.png", colors[np.minimum(labels, 3)])
    assert_values(segmenter(example), labels, 1, 2)


def test_cityscapes(tmp_path, labels):
    example = Example("train/ulm/ulm_01_leftImg8bit.png", np.zeros((*SIZE, 3), np.uint8))
    ids = np.select([labels == 0, labels == 1, labels == 2], [7, 26001, 26002], 3)
    save(tmp_path / "train" / "ulm" / "ulm_01_gtFine_instanceIds.png", ids.astype(np.uint16))
    regions = Annotation(format="cityscapes", path=str(tmp_path))(example)
    assert_values(regions, ids, 7, 26001, 26002)


@pytest.mark.parametrize("first", [0, 1])
def test_bsds_has_a_level_for_each_annotator(tmp_path, labels, example, first):
    save(tmp_path / f"street_1_{first}.png", labels.astype(np.uint16))
    save(tmp_path / f"street_1_{first + 1}.png", (labels > 0).astype(np.uint16))
    regions = Annotation(format="bsds", path=str(tmp_path))(example)
    assert [region.level for region in regions] == [0, 0, 0, 0, 1, 1]
    assert_values(regions[:4], labels, 0, 1, 2, 255)
    assert_values(regions[4:], labels > 0, False, True)


def test_the_label_map_of_the_source(labels, example):
    carried = Example(example.key, example.image, semantic=labels.astype(np.int32))
    assert_values(Annotation(format="source")(carried), labels, 0, 1, 2)
    with pytest.raises(BrokenImage, match=r"town/street_1.jpg: its source carries no label map"):
        Annotation(format="source")(example)


def test_coco_instances(tmp_path, labels, example):
    square = [2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]
    coded = coco_mask.encode(np.asfortranarray(labels == 2, dtype=np.uint8))
    counts = [0, 1, 191]  # the first pixel
    annotations = [
        {"image_id": 7, "segmentation": [square]},
        {"image_id": 7, "segmentation": {"size": [*SIZE], "counts": coded["counts"].decode()}},
        {"image_id": 7, "segmentation": {"size": [*SIZE], "counts": counts}, "iscrowd": 0},
        {"image_id": 7, "segmentation": {"size": [*SIZE], "counts": [192]}, "iscrowd": 1},
        {"image_id": 8, "segmentation": [square]},
    ]
    images = [{"id": 7, "file_name": "street_1.jpg", "height": 12, "width": 16}]
    images += [{"id": 9, "file_name": "bare.jpg", "height": 12, "width": 16}]
    path = write_json(tmp_path / "instances.json", {"images": images, "annotations": annotations})
    segmenter = Annotation(format="coco", path=path)
    *found, crowd = segmenter(example)
    assert (crowd.fault, crowd.rle) == (CROWD, b"")
    polygon, mask, pixel = masks(found)
    expected = np.zeros(SIZE, bool)
    expected[3:9, 2:8] = True
    np.testing.assert_array_equal(polygon, expected)
    np.testing.assert_array_equal(mask, labels == 2)
    assert np.argwhere(pixel).tolist() == [[0, 0]]
    assert segmenter(Example("bare.jpg", example.image)) == []
    with pytest.raises(BrokenImage, match=r"other.jpg: has no annotation in"):
        segmenter(Example("other.jpg", example.image))
    found = segmenter(Example("street_1.jpg", np.zeros((5, 5, 3), np.uint8)))
    assert faults(found) == ["is not of its image's size: 12 x 16"] * 3 + [CROWD]


def test_coco_panoptic(tmp_path, labels, example):
    ids = labels.astype(int) * 1000
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    save(tmp_path / "panoptic_train" / "street_1.png", colors.astype(np.uint8))
    images = [{"id": 7, "file_name": "street_1.jpg", "height": 12, "width": 16}]
    annotations = [{"image_id": 7, "segments_info": [{"id": 1000}, {"id": 2000}]}]
    content = {"images": images, "annotations": annotations}
    path = write_json(tmp_path / "panoptic_train.json", content)
    *found, rest = Annotation(format="panoptic", path=path)(example)
    assert_values(found, labels, 1, 2)
    assert (rest.fault, rest.name) == ("is in the PNG, and not in the JSON", "segment 255000")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Annotation(format="ade"), "no annotation format 'ade'; choose --format inst"),
        (lambda p: Annotation(), "--path (none) is not the folder of the annotations"),
        (
            lambda p: Annotation(path=write_json(p / "x.json", {})),
            "x.json is not the folder of the annotations; of a file give --format coco or",
        ),
        (lambda p: Annotation(format="coco", path=str(p)), "is not the .json file of the annot"),
        (lambda p: Proposals(), "--path (none) is neither COCO results"),
        (lambda p: Proposals(path=str(p), top=-1), "--top -1 is negative"),
    ],
)
def test_mistakes_are_found_at_once(tmp_path, make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(tmp_path)


def test_a_file_of_another_kind_ends_the_run(tmp_path, example):
    instances = write_json(tmp_path / "instances.json", {"images": []})
    with pytest.raises(ValueError, match=r"has no list of annotations, so it is no COCO ann"):
        Annotation(format="coco", path=instances)(example)
    with pytest.raises(ValueError, match=r"is no list of COCO results"):
        Proposals(path=instances)(example)


def test_an_image_without_its_annotation_is_broken(tmp_path, labels, example):
    with pytest.raises(BrokenImage, match=r"street_1.jpg: has no annotation in"):
        Annotation(path=str(tmp_path))(example)
    save(tmp_path / "street_1.png", labels[1:])
    found = Annotation(path=str(tmp_path))(example)
    assert faults(found) == ["is not of its image's size: 11 x 16"] * 2
    (tmp_path / "street_1.png").write_bytes(b"nothing")
    with pytest.raises(BrokenImage, match=r"cannot be decoded"):
        Annotation(path=str(tmp_path))(example)


def test_annotations_shrink_with_their_image(tmp_path, labels):
    save(tmp_path / "images" / "a.png", np.zeros((*SIZE, 3), np.uint8))
    save(tmp_path / "images" / "b.png", np.zeros((*SIZE, 3), np.uint8))
    save(tmp_path / "labels" / "a.png", labels)
    words = ["--source", f"folder:{tmp_path / 'images'}", "--segmenter", "annotation"]
    words += ["--path", str(tmp_path / "labels"), "--out", str(tmp_path / "out"), "--workers", "0"]
    words += ["--max-side", "8", "--ignore", "0,255"]
    assert export.main([*words, "--unannotated", "error"]) == 1
    assert export.main(words) == 0
    records = Records(tmp_path / "out")
    (example,) = [records[i] for i in range(len(records))]
    small = labels[1::2, 1::2]
    np.testing.assert_array_equal(example.regions.masks(), [small == 1, small == 2])
    segmenter = read_info(tmp_path / "out").segmenter
    assert segmenter["broken"] == {"train": []}
    assert segmenter["left_out"] == {"train": {}}
    assert len(segmenter["path_sha256"]) == 64
    # Another split has annotations of its own.
    save(tmp_path / "others" / "b.png", labels)
    words[words.index("--path") + 1] = str(tmp_path / "others")
    assert export.main([*words, "--split", "val"]) == 0
    assert export.main([*words, "--split", "val", "--ignore", "0"]) == 1
