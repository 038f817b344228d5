"""Label maps from folders, scenes and records as arrays: which value is which class."""

import dataclasses
import os
import re

import numpy as np
import pytest
from PIL import Image
from small_export import run_export

from jaxssl.data import open_source
from jaxssl.data.image_folders import find_images
from jaxssl.data.label_maps import VOID, open_label_maps
from jaxssl.data.records import Info, shard_name, write_info, write_shard
from jaxssl.data.source import BrokenImage, Example
from jaxssl.data.squares import SquareSpec
from jaxssl.data.synthetic.scenes import Scenes
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.evaluation.label_names import KNOWN, data_set_name
from jaxssl.evaluation.pixels import maps_of
from mask_tools.dataset_export import segment_dataset
from mask_tools.segmenters.annotation import Annotation

LAYOUTS = [
    ("train", "trainannot", "test", "testannot"),
    ("images/train", "labels/train", "images/test", "labels/test"),
    ("images/training", "annotations/training", "images/validation", "annotations/validation"),
]


def write_folder(root, layout, values=(1, 2, 3, 11), size=(20, 26)):
    """Six images to learn from and three to test on, with label maps of those values."""
    rng = np.random.default_rng(0)
    maps = {}
    for part, (images, labels) in {"train": layout[:2], "test": layout[2:]}.items():
        (root / images).mkdir(parents=True)
        (root / labels).mkdir(parents=True)
        for i in range(6 if part == "train" else 3):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            maps[part, i] = rng.choice(np.array(values, np.uint8), size)
            Image.fromarray(pixels).save(root / images / f"{i}.jpg")
            Image.fromarray(maps[part, i]).save(root / labels / f"{i}.png")
    return maps


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_images_and_label_maps(layout, tmp_path):
    maps = write_folder(tmp_path, layout)
    for part, count in (("train", 6), ("test", 3)):
        source = open_source(f"folder:{tmp_path}", part)
        assert (len(source), source.class_names) == (count, ())
        for i in range(count):
            assert source[i].image.shape == (20, 26, 3)
            np.testing.assert_array_equal(source[i].semantic, maps[part, i])


def test_sixteen_bit_images_of_all_parts_are_scaled_alike(tmp_path):
    write_folder(tmp_path, LAYOUTS[2])
    ramp = np.linspace(0, 4095, 20 * 26).astype(np.uint16).reshape(20, 26)
    for part, pixels in (("training", ramp), ("validation", ramp // 4)):
        for path in (tmp_path / "images" / part).iterdir():
            path.unlink()
            Image.fromarray(pixels).save(path.with_suffix(".png"))
    for part, pixels in {None: ramp, "train": ramp, "test": ramp // 4}.items():
        image = open_source(f"folder:{tmp_path}", part)[0].image
        np.testing.assert_array_equal(image[..., 0], pixels >> 4)


def test_camvids_test_part_is_test_and_not_val(tmp_path):
    write_folder(tmp_path, ("train", "trainannot", "test", "testannot"))
    (tmp_path / "val").mkdir()
    (tmp_path / "valannot").mkdir()
    assert len(open_source(f"folder:{tmp_path}", "test")) == 3
    assert len(open_source(f"folder:{tmp_path}")) == 6  # to pre-train on


def test_an_image_that_cannot_be_read_has_no_classes(tmp_path):
    maps = write_folder(tmp_path, LAYOUTS[0])
    (tmp_path / "test" / "1.jpg").write_bytes(b"no image")
    (data,) = open_datasets([f"folder:{tmp_path}"], 8, str(tmp_path / "c"))
    truth = [data.label_maps.truth("test", row) for row in range(3)]
    assert (truth[1] == VOID).all()  # and not the map of the image in its place
    assert data.label_maps.classes == tuple(map(str, range(12)))
    np.testing.assert_array_equal(truth[2], maps["test", 2])


def test_values_become_classes_and_void(tmp_path):
    maps = write_folder(tmp_path, LAYOUTS[0], values=(1, 2, 4, 11, 255))
    (data,) = open_datasets(
        [f"folder:{tmp_path}"], 8, str(tmp_path / "c"), ignore_labels=(0, 3, 11)
    )
    assert data.offers == {"images", "label maps"}
    pixels = data.label_maps
    classes = ("1", "2", "4")
    assert pixels.classes == classes
    squares = data.label_squares.meaning(data.label_squares.test["semantic"])
    rows = ((np.arange(8) + 0.5) * 20 / 8).astype(int)
    columns = ((np.arange(8) + 0.5) * 26 / 8).astype(int)
    for i in range(3):
        values = maps["test", i][rows][:, columns]
        for truth, label in ((squares[i], values), (pixels.truth("test", i), maps["test", i])):
            for value, found in zip(label.ravel(), truth.ravel(), strict=True):
                assert found == (VOID if value in (11, 255) else classes.index(str(value)))


def test_a_value_that_is_no_class_adds_none(tmp_path):
    write_folder(tmp_path, LAYOUTS[0], values=(0, 1, 2, 254))
    (data,) = open_datasets([f"folder:{tmp_path}"], 8, str(tmp_path / "c"), ignore_labels=(254,))
    assert data.label_maps.classes == ("0", "1", "2")


def test_label_maps_are_there_where_the_first_image_has_none(tmp_path):
    drawn = [Scenes(2)[0], Scenes(2)[1]]
    shard = write_shard(
        tmp_path / shard_name("train", 0, 1),
        [dataclasses.replace(drawn[0], semantic=None), drawn[1]],
    )
    write_info(tmp_path, Info(source="x", segmenter=None, splits={"train": (shard,)}))
    assert maps_of(open_source(f"records:{tmp_path}")) == {"semantic"}


def test_one_class_is_too_few(tmp_path):
    write_folder(tmp_path, LAYOUTS[0], values=(0, 11))
    ignore_labels = (*range(1, 12),)
    (data,) = open_datasets(
        [f"folder:{tmp_path}"], 8, str(tmp_path / "cache"), ignore_labels=ignore_labels
    )
    with pytest.raises(ValueError, match=r"label values \[0, 11\]: two classes are needed"):
        _ = data.label_maps


def test_scenes_name_their_shapes(tmp_path):
    (data,) = open_datasets(["scenes:20"], 192, str(tmp_path))
    assert data.offers == {"images", "regions", "label maps", "labeled regions"}
    pixels = data.label_maps
    assert len(pixels.classes) == 11
    assert pixels.classes[:2] == ("ground", "disc")
    np.testing.assert_array_equal(pixels.truth("train", 3), data.train[3].semantic)
    shown = pixels.shown(dict.fromkeys(range(5), np.zeros((192, 192), np.uint8)))
    assert {k: len(v) for k, v in shown.items()} == {"image": 5, "truth": 5, "predicted": 5}
    np.testing.assert_array_equal(shown["image"][0], data.test[0].image)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("scenes:40", "scenes"),
        ("objects:40", "objects"),
        ("folder:data/2017", "2017"),
        ("folder:2017", "2017"),
        ("folder:2017?labels=a/b.csv", "2017"),
        ("records:12", "12"),
        ("tfds:stl10/train", "stl10"),
    ],
)
def test_names_of_data_sets(spec, name):
    assert data_set_name(spec) == name


def test_a_data_set_is_named_for_its_folder_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "pets" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "pets")
    monkeypatch.setenv("HOME", str(tmp_path))
    names = {"folder:.": "pets", "folder:cats/..": "pets", "folder:..": tmp_path.name}
    names |= {"folder:~/pets": "pets", "records:./cats/": "cats", "folder:/": "folder"}
    assert {spec: data_set_name(spec) for spec in names} == names


def test_what_a_layout_calls_no_class_is_not_said_to_be_absent(tmp_path, caplog):
    for part, split in (("training", "train"), ("validation", "val")):  # ADE20K's
        for kind in ("images", "annotations"):
            (tmp_path / kind / part).mkdir(parents=True)
        for i in range(3):
            name = f"{part}/ADE_{split}_{i:08}"
            Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"{name}.jpg")
            labels = np.arange(48).reshape(6, 8) % 4
            labels = Image.fromarray(labels.astype(np.uint8))
            labels.save(tmp_path / "annotations" / f"{name}.png")
    options = {"cache_dir": str(tmp_path / "c")}
    (data,) = open_datasets([f"folder:{tmp_path}"], 8, **options)
    assert data.void == (0,)
    assert VOID in data.label_maps.truth("test", 0)
    assert "to be ignored" not in caplog.text
    (data,) = open_datasets([f"folder:{tmp_path}"], 8, ignore_labels=(77,), **options)
    assert len(data.label_maps.test["hw"]) == 3
    assert "no pixel has a label value that is to be ignored: 77" in caplog.text


def test_records_carry_label_maps(tmp_path):
    drawn = Scenes(12)
    shard = write_shard(tmp_path / shard_name("train", 0, 1), [drawn[i] for i in range(12)])
    info = Info(source=drawn.spec, segmenter=None, splits={"train": (shard,)}, has_semantic=True)
    write_info(tmp_path, info)
    (data,) = open_datasets([f"records:{tmp_path}"], 96, str(tmp_path / "cache"))
    assert "label maps" in data.offers
    assert data.label_maps.classes == tuple(KNOWN["scenes"].values())
    for i in range(len(data.train)):
        found = data.label_maps.truth("train", i)
        np.testing.assert_array_equal(found, data.train[i].semantic)


def test_records_know_the_values_that_their_export_ignored(tmp_path, caplog):
    maps = write_folder(tmp_path / "camvid", LAYOUTS[0])
    out, source = tmp_path / "records", f"folder:{tmp_path / 'camvid'}"
    for part in ("train", "test"):
        path = str(tmp_path / "camvid" / f"{part}annot")
        classes = Annotation("semantic", path, ignore=(0, 11))
        segment_dataset(source, classes, out, part=part, split=part, workers=1)
    (data,) = open_datasets([f"records:{out}"], 8, str(tmp_path / "cache"))
    with caplog.at_level("INFO", "jaxssl"):
        assert data.label_maps.classes == ("1", "2", "3")
    assert "label values 0, 11 are no class, as --ignore said" in caplog.text
    found = data.label_maps.truth("test", 0)
    np.testing.assert_array_equal(found == VOID, maps["test", 0] == 11)
    assert data.label_maps.protocol["ignore_labels"] == [0, 11]
    others = dataclasses.replace(data, ignore_labels=(3,))
    assert others.label_maps.classes == ("0", "1", "2", *map(str, range(4, 12)))


@pytest.mark.parametrize(
    ("name", "values", "count", "first"),
    [
        ("scenes", range(11), 11, "0"),
        ("cityscapes", range(19), 19, "0"),  # trainIds
        ("cityscapes", (7, 8, 33), 19, "road"),
        ("cityscapes", (7, 8, 34), 35, "0"),
        ("oxford_iiit_pet", (1, 2, 3), 3, "pet"),
    ],
)
def test_a_folder_is_known_by_its_values(tmp_path, name, values, count, first):
    write_folder(tmp_path / name, LAYOUTS[0], values)
    (data,) = open_datasets([f"folder:{tmp_path / name}"], 8, str(tmp_path / "cache"))
    pixels = data.label_maps
    assert (len(pixels.classes), pixels.classes[0]) == (count, first)
    assert VOID not in pixels.truth("test", 0)


def test_values_of_no_class_are_named(tmp_path, monkeypatch):
    others = dict.fromkeys(range(3, 11), "")
    monkeypatch.setitem(KNOWN, "scenes", {0: "ground", 1: "disc"} | others)
    (data,) = open_datasets(["scenes:20"], 8, str(tmp_path))
    with pytest.raises(ValueError, match=r"scenes has label values \[2\], .* as --ignore-labels$"):
        _ = data.label_maps
    ignoring = dataclasses.replace(data, ignore_labels=(2,))
    assert ignoring.label_maps.classes == ("ground", "disc")


def test_values_to_ignore_that_no_pixel_has_are_said(tmp_path, caplog):
    (data,) = open_datasets(["scenes:20"], 8, str(tmp_path), ignore_labels=(0, 77))
    _ = data.label_maps
    assert "to be ignored" not in caplog.text
    _ = dataclasses.replace(data, ignore_labels=(-1, 77)).label_maps
    assert "scenes: no pixel has a label value that is to be ignored: -1, 77" in caplog.text


def test_a_map_that_does_not_fit():
    image = np.zeros((4, 6, 3), np.uint8)
    spec = SquareSpec(2, "squash", maps=("semantic",))
    with pytest.raises(BrokenImage, match="has no semantic map"):
        spec.make(Example("a", image), (4, 6))
    with pytest.raises(ValueError, match=r"semantic map of \(4, 4\)"):
        spec.make(Example("a", image, semantic=np.zeros((4, 4), int)), (4, 6))
    semantic = np.zeros((4, 6), int)
    semantic[1, 1] = 256
    with pytest.raises(ValueError, match=r"holds 0\.\.256"):
        spec.make(Example("a", image, semantic=semantic), (4, 6))
    with pytest.raises(ValueError, match="are unknown"):
        SquareSpec(2, "squash", maps=("normals",))


def test_depth_of_the_nearest_pixel():
    depth = np.arange(24, dtype=np.float16).reshape(4, 6)
    image = np.zeros((4, 6, 3), np.uint8)
    spec = SquareSpec(2, "squash", maps=("depth",))
    canvas = spec.make(Example("a", image, depth=depth), (4, 6))
    assert canvas["depth"].dtype == np.float32
    np.testing.assert_array_equal(canvas["depth"], depth[[1, 3]][:, [1, 4]])


def test_label_maps_of_the_training_part_alone_are_divided(tmp_path):
    write_folder(tmp_path, LAYOUTS[1])
    for i in range(6, 40):
        for folder, ending in (("images", "jpg"), ("labels", "png")):
            source = tmp_path / folder / "train" / f"{i % 6}.{ending}"
            (tmp_path / folder / "train" / f"{i}.{ending}").write_bytes(source.read_bytes())
    for path in (tmp_path / "labels" / "test").iterdir():
        path.unlink()
    parts = [set(open_source(f"folder:{tmp_path}", part).keys()) for part in ("train", "test")]
    assert parts[0] | parts[1] == {f"{i}.jpg" for i in range(40)}
    assert not parts[0] & parts[1]
    assert 2 <= len(parts[1]) <= 16
    assert len(open_source(f"folder:{tmp_path}")) == 40


def test_label_maps_that_do_not_fit_are_named(tmp_path):
    write_folder(tmp_path, LAYOUTS[0])
    for path in tmp_path.glob("*annot/*.png"):
        Image.new("L", (5, 4)).save(path)
    (data,) = open_datasets([f"folder:{tmp_path}"], 8, str(tmp_path / "c"))
    assert "label maps" in data.offers
    with pytest.raises(ValueError, match=r"annot/\d.png has \(4, 5\) pixels, the image \(20, 26\)"):
        _ = data.label_maps


def test_label_maps_are_not_in_the_way_of_images_to_learn_from(tmp_path, caplog):
    write_folder(tmp_path, LAYOUTS[1])
    maps = tmp_path / "labels" / "train"
    export = ("--segmenter", "annotation", "--path", str(maps))
    half, colors = Image.new("L", (13, 10)), Image.new("RGB", (26, 20), (1, 2, 3))
    for picture, why in (
        (half, "has (10, 13) pixels"),
        (colors, "holds 197121..197121, as colors"),
    ):
        picture.save(maps / "0.png")
        picture.save(maps / "1.png")
        caplog.clear()
        source = open_source(f"folder:{tmp_path}")
        assert [source[i].semantic is None for i in range(6)] == [True] * 2 + [False] * 4
        (said,) = caplog.messages
        assert said.startswith(f"folder:{tmp_path}: images are taken without label maps that do")
        assert why in said
        assert said.endswith(" ".join(export))
        assert run_export(tmp_path / why, f"folder:{tmp_path}", "grid", "--max-broken", "0") == 0
        with pytest.raises(BrokenImage, match=re.escape(why)):
            open_source(f"folder:{tmp_path}", "train")[0]
    (maps / "0.png").unlink()
    with caplog.at_level("INFO", "jaxssl.data"):
        source = open_source(f"folder:{tmp_path}")
    assert [source[i].semantic for i in range(len(source))] == [None] * 6
    said = f"taken without label maps; 5 of 6 images have a label map in {maps}; to make regions of"
    assert said in caplog.messages[-1]
    assert len(open_source(f"folder:{tmp_path}", "train")) == 5
    for name in ("0_mask.png", "0_seg.png"):  # which of them?
        Image.new("L", (26, 20)).save(maps / name)
    assert len(open_source(f"folder:{tmp_path}")) == 6


def test_folders_and_images_that_are_not_read_are_named(tmp_path, caplog):
    for name in ("images/1.jpg", "images/2.jpg", "more/3.jpg", "4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "annotations").mkdir()
    with caplog.at_level("INFO", "jaxssl.data"):
        assert len(open_source(f"folder:{tmp_path}")) == 2
    said = "the images are those in images, not in more, annotations, the folder above"
    assert caplog.messages == [f"{tmp_path}: {said}"]


def test_lists_of_pascal_voc(tmp_path):
    write_folder(tmp_path, ("JPEGImages", "SegmentationClass", "x", "y"))
    for folder in ("JPEGImages", "SegmentationClass"):
        (path,) = (tmp_path / folder).glob("3.*")
        path.rename(path.with_stem("my photo"))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0 -1\n1  1\n2\nmy photo\nphoto\n")
    (lists / "val.txt").write_text("4\r\n5\r\n")
    names = {"train": ["0", "1", "2", "my photo"], "test": ["4", "5"]}
    for part, listed in names.items():
        keys = open_source(f"folder:{tmp_path}", part).keys()
        assert keys == [f"{name}.jpg" for name in listed]


def test_what_a_list_of_pascal_voc_leaves_out_is_said(tmp_path, caplog):
    write_folder(tmp_path, ("JPEGImages", "SegmentationClass", "x", "y"))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n")
    (lists / "val.txt").write_text("3\n4\ngone\n")
    assert len(open_source(f"folder:{tmp_path}", "train")) == 2
    assert caplog.messages == []
    (tmp_path / "SegmentationClass" / "4.png").unlink()
    assert open_source(f"folder:{tmp_path}", "test").keys() == ["3.jpg"]
    missing, without_map = caplog.messages
    assert missing == f"{lists}/val.txt: 1 of 3 names have no image, such as gone"
    assert "1 of 2 images in ImageSets/Segmentation/val.txt have a label map in" in without_map
    (lists / "val.txt").write_text("2008_1\n")
    with pytest.raises(UserError, match=r"val.txt names none of the 6 images, such as 0.jpg; its"):
        open_source(f"folder:{tmp_path}", "test")


def test_a_label_map_whose_link_leads_nowhere_breaks_its_image_only(tmp_path):
    write_folder(tmp_path, LAYOUTS[0])
    before = open_source(f"folder:{tmp_path}", "train").fingerprint()
    (tmp_path / "trainannot" / "2.png").unlink()
    (tmp_path / "trainannot" / "2.png").symlink_to("/nowhere.png")
    source = open_source(f"folder:{tmp_path}", "train")
    assert source.fingerprint() != before
    with pytest.raises(BrokenImage, match="2.png cannot be read: No such file"):
        source[2]


@pytest.mark.parametrize("form", ["jpg", "webp", "tif"])
def test_label_maps_of_images_as_stored_are_turned_with_them(tmp_path, form, caplog):
    maps = write_folder(tmp_path, LAYOUTS[0])
    for number, orientation in enumerate((6, 8, 3, 2)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / "train" / f"{number}.jpg"
        image = Image.open(path).copy()
        path.unlink()
        image.save(path.with_suffix(f".{form}"), exif=exif)
    with caplog.at_level("INFO", "jaxssl.data"):
        source = open_source(f"folder:{tmp_path}", "train")
        found = [source[i].semantic for i in range(4)]
    np.testing.assert_array_equal(found[0], np.rot90(maps["train", 0], -1))
    np.testing.assert_array_equal(found[1], np.rot90(maps["train", 1]))
    np.testing.assert_array_equal(found[2], maps["train", 2])
    said = f"label maps of image files that are turned by EXIF, such as 2.{form}, are taken as upri"
    assert [said in message for message in caplog.messages] == [True]


def test_no_look_is_taken_at_each_file(tmp_path, monkeypatch):
    for i in range(99):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    looks = []
    monkeypatch.setattr(os, "stat", lambda *a, stat=os.stat, **k: looks.append(a) or stat(*a, **k))
    for part in (None, "train", "test"):
        assert open_label_maps(str(tmp_path), part) is None
    assert find_images(str(tmp_path)) == str(tmp_path)
    assert len(looks) < 99
