"""Names of annotations and images: what matches, what does not, what is refused."""

import time
import unicodedata

import pytest

from jaxssl.data.folder import SUFFIXES
from jaxssl.data.name_matching import NameIndex, describe_mismatch, masks_beside
from jaxssl.errors import UserError


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("a/1.jpg", "1.png"),
        ("1.jpg", "train2014/1.jpg"),
        ("1.jpg", r"C:\photos\train\1.JPG"),
        ("b/1.jpg", "./b/1"),
        ("val/1.jpg", "http://host.org/set/val2017/1.jpg?size=big"),
        ("a b.jpg", "https://host.org/a%20b.jpg"),
        (unicodedata.normalize("NFD", "Bär.jpg"), unicodedata.normalize("NFC", "Bär.json")),
        ("IMG_7.JPG", "img_7.txt"),
        ("1.jpg", "1.jpg.json"),
        ("a.b.c.jpg", "a.b.c.npz"),
        ("images/train/1.jpg", "labels/train/1.txt"),
        ("training/1.jpg", "Annotations/train/1.png"),
        ("seq/7_leftImg8bit.png", "val/seq/7_gtFine_instanceIds.png"),
        ("104_sat.jpg", "104_mask.png"),
        ("seq/7_leftImg8bit.png", "seq/7_gtFine_polygons.json"),
        ("cat.jpg", "images/1a2b3c4d-cat.jpg"),
        ("val2017/000000000139.jpg", "COCO_val2014_000000000139.jpg"),
        ("image_003.tif", "mask_003.tif"),
        ("cell/images/cell.png", "cell/masks"),
        ("shelf/img.png", "shelf_json/label.png"),
    ],
)
def test_names_that_match(key, name):
    assert NameIndex(["other", name]).match(["unlike.jpg", key]).number_of == {key: 1}
    assert NameIndex([name]).find(key) == 0


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("train/1.jpg", "val/1.png"),
        ("a/1.jpg", "b/1.jpg"),
        ("11.jpg", "1.jpg"),
        ("a.b.jpg", "a.jpg"),
        ("seq_1/7.jpg", "seq_2/7.png"),
        ("mask.jpg", "label.png"),
    ],
)
def test_names_that_do_not(key, name):
    assert NameIndex([name]).match([key]).number_of == {}


def test_a_better_match_goes_first():
    matches = NameIndex(["1.png", "a/2.png", "3_mask.png"]).match(
        ["1.jpg", "b/1.jpg", "2.jpg", "a/2.jpg", "3.jpg", "img_3.jpg", "4.jpg"]
    )
    assert matches.number_of == {"1.jpg": 0, "a/2.jpg": 1, "3.jpg": 2}
    assert matches.loose == ("3.jpg",)
    assert NameIndex(["1_mask", "1"]).match(["1.jpg"]).number_of == {"1.jpg": 1}


def test_files_of_one_name_in_many_folders_are_matched_at_once():
    keys = [f"{i}/frames/{j}.jpg" for i in range(3000) for j in range(2)]
    began = time.process_time()
    matches = NameIndex([key.replace("jpg", "png") for key in keys]).match(keys)
    assert time.process_time() - began < 2  # comparing each with each takes 10
    assert list(matches.number_of.values()) == [*range(6000)]
    deeper, shorter = NameIndex(["x/a/1.jpg", "a/1"]), NameIndex(["1.jpg", "c/b/a/1.jpg"])
    assert [index.find("a/1.jpg") for index in (deeper, shorter)] == [0, 0]


@pytest.mark.parametrize("ending", [*SUFFIXES, ".hif", ".heic"])
def test_endings_of_images_are_no_part_of_their_names(ending):
    assert NameIndex(["1.png", "2.png"]).find(f"2{ending}") == 1


def test_what_fits_twice_is_refused():
    with pytest.raises(UserError, match=r"'1.png' fits the images 'a/1.jpg' and 'b/1.jpg'"):
        NameIndex(["1.png"]).match(["a/1.jpg", "b/1.jpg"])
    with pytest.raises(UserError, match=r"'1.jpg' fits the annotations 'a/1' and 'b/1'"):
        NameIndex(["a/1", "b/1"]).match(["1.jpg"])
    with pytest.raises(UserError, match=r"'1.png' fits the images '1.bmp' and '1.jpg'"):
        NameIndex(["1.png"]).match(["1.bmp", "1.jpg"])
    with pytest.raises(UserError, match=r"'1.jpg' and '1.jpg' equally well; they list it twice"):
        NameIndex(["1.jpg", "1.jpg"]).find("1.jpg")


def test_a_mismatch_is_explained():
    text = describe_mismatch(["x.jpg", "val/1.jpg"], ["train/2.png", "train/1.png"])
    assert text.startswith("the image 'val/1.jpg' and the annotation 'train/1.png' have the same")
    text = describe_mismatch(["x.jpg"], ["y.png"])
    assert text.endswith("annotation 'y.png' has no image; one named 'x' would match")


def test_masks_beside_their_images():
    files = [
        *("1.jpg", "1_seg.png", "1_parts_2.png", "IMG_2.JPG", "IMG_2-Mask.PNG"),
        *("10_sat.jpg", "10_mask.png", "a/image.png", "a/mask.png", "b/7_mask.tif", "7.tif"),
        *("e/ADE_7.jpg", "e/ADE_7/instance_000_ADE_7.png", "e/cat/instance_1_cat.png"),
        *("4.jpg", "4_L.png", "4_instances.png", "4_alpha.png", "5_color.png", "5_depth.png"),
        *("c/images/x.png", "c/masks/y.png", "d/masks/z.png", "bottle.jpg", "bottle_label.jpg"),
    ]
    assert masks_beside(files) == {
        "1_seg.png": "1.jpg",
        "1_parts_2.png": "1.jpg",
        "IMG_2-Mask.PNG": "IMG_2.JPG",
        "10_mask.png": "10_sat.jpg",
        "a/mask.png": "a/image.png",
        "e/ADE_7/instance_000_ADE_7.png": "e/ADE_7.jpg",
        "4_L.png": "4.jpg",
        "4_instances.png": "4.jpg",
        "4_alpha.png": "4.jpg",
        "5_depth.png": "5_color.png",
        "c/masks/y.png": "c/images/x.png",
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("train_images/1.jpg", "train_masks/1.png"),
        ("train/1.jpg", "train_masks/1_mask.gif"),
        ("DUTS-TR/DUTS-TR-Image/1.jpg", "DUTS-TR/DUTS-TR-Mask/1.png"),
        ("images_val/1.jpg", "labels_val/1.png"),
        ("training/images/1.jpg", "training/v1.2/instances/1.png"),  # Mapillary Vistas
        ("training/image_2/1_10.png", "training/semantic_rgb/1_10.png"),  # KITTI
        ("gt_set/images/1.jpg", "gt_set/depth/1.png"),
        ("1.jpg", "masks/1_mask.PNG"),
        ("a/1.jpg", "a/gt/1.png"),
    ],
)
def test_folders_of_masks_beside_those_of_images(image, mask):
    assert masks_beside([image, mask]) == {mask: image}
    assert NameIndex([mask]).find(image) == 0


@pytest.mark.parametrize(
    "files",
    [
        ("ski/1.png", "ski mask/1.png"),
        ("with_mask/1.png", "without_mask/1.png"),
        ("depth/1.png", "semantic/1.png"),
        ("train/1.png", "train_extra/1.png"),
        ("1.jpg", "mask/2.png", "mask/1.jpg"),
    ],
)
def test_classes_with_words_of_masks_are_none(files):
    assert masks_beside(files) == {}


@pytest.mark.parametrize("year", ["2019", "VOC2012"])
def test_years_tell_folders_apart_unless_they_are_of_parts(year):
    names = [f"{folder}/labels/1.png" for folder in (year, "2020", "VOC2007")]
    assert NameIndex(names).match([f"{year}/images/1.jpg"]).number_of == {f"{year}/images/1.jpg": 0}
