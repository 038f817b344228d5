"""Folders of images: what is taken, labels, parts, sources."""

import logging
import os
import pathlib
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_decode import PIXELS, rgb

from jaxssl.data import folder, open_source
from jaxssl.data.folder import Folder
from jaxssl.data.source import BrokenImage
from jaxssl.errors import UserError


def put(root: pathlib.Path, *paths: str) -> None:
    """Images of 3 x 2 pixels, each of another gray."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (number,) * 3).save(root / path)


def test_sixteen_bit_images_of_a_folder_are_scaled_alike(tmp_path, caplog):
    ramp = np.linspace(0, 4095, 48).astype(np.uint16).reshape(6, 8)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    Image.fromarray(ramp).save(tmp_path / "train" / "a.png")
    Image.fromarray(ramp // 100).save(tmp_path / "train" / "dark.png")
    rgb().save(tmp_path / "val" / "b.png")
    train, val = Folder(tmp_path, "train"), Folder(tmp_path, "test")
    np.testing.assert_array_equal(train[0].image[..., 0], ramp >> 4)
    np.testing.assert_array_equal(train[1].image[..., 0], ramp // 100 >> 4)
    np.testing.assert_array_equal(train.resized(0, lambda size: size)[0].image, train[0].image)
    np.testing.assert_array_equal(val[0].image, PIXELS)
    assert train[0].encoded is None  # its readers would find it black
    assert val[0].encoded is not None
    before = train.fingerprint()
    Image.fromarray(ramp * 16).save(tmp_path / "val" / "c.png")
    again = Folder(tmp_path, "train")
    np.testing.assert_array_equal(again[0].image[..., 0], ramp >> 8)
    assert again.fingerprint() != before
    assert again[0].encoded == (tmp_path / "train" / "a.png").read_bytes()


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2", "j2k"])
def test_bits_in_use_are_found_in_files_of_every_kind(ending, tmp_path):
    ramp = np.linspace(0, 4095, 48).astype(np.uint16).reshape(6, 8)
    Image.fromarray(ramp).save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(Folder(tmp_path)[0].image[..., 0], ramp >> 4)


def test_pages_and_channels_that_are_not_read_are_said(tmp_path, caplog):
    pages = np.random.default_rng(0).integers(0, 256, (2, 6, 8), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    bands = np.dstack([*pages, *pages])
    tifffile.imwrite(tmp_path / "near.tif", bands, photometric="rgb", extrasamples=["unspecified"])
    tifffile.imwrite(tmp_path / "rgba.tif", bands, photometric="rgb", extrasamples=["unassalpha"])
    rgb().save(tmp_path / "plain.tif")
    with caplog.at_level("INFO", "jaxssl.data"):
        near, _, _, stack = (example.image for example in Folder(tmp_path))
    np.testing.assert_array_equal(near, bands[..., :3])
    np.testing.assert_array_equal(stack[..., 0], pages[0])
    said = f"folder:{tmp_path}: of TIFF files channels besides the colors and pages after the first"
    assert caplog.messages == [f"{said} are left out"]


def test_what_was_left_out_is_counted_by_ending(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jaxssl"), "propagate", True)
    monkeypatch.setattr(folder, "SUFFIXES", (".jpg",))  # as without the extra `heif`
    put(tmp_path, "a.jpg")
    for name in ("1.HEIC", "2.heic", "x/3.heic", "4.cr2", "README", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with caplog.at_level("INFO"):
        for part in (None, "train"):
            assert Folder(tmp_path, part).left_out == {".heic": 3, ".cr2": 1, "no ending": 1}
    said = "files left out: 3 .heic, 1 .cr2, 1 no ending; for HEIC: pip install 'jaxssl[heif]'"
    assert caplog.text.count(said) == 1
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"has no images; .* files left out: 3 \.heic"):
        Folder(tmp_path)


def test_images_are_sorted_and_class_folders_are_labels(tmp_path):
    put(tmp_path, "b/2.PNG", "b/deep/1.jpg", "a/9.bmp", "top.png", ".hidden/x.png", "a/._9.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    folder = pickle.loads(pickle.dumps(Folder(tmp_path)))
    read = [folder[i] for i in range(len(folder))]
    assert [e.key for e in read] == ["a/9.bmp", "b/2.PNG", "b/deep/1.jpg", "top.png"]
    assert [e.label for e in read] == [0, 1, 1, -1]
    assert folder.class_names == ("a", "b")
    assert [e.encoded is None for e in read] == [True, False, False, False]  # BMP: to be re-encoded


def test_too_few_images_to_hold_some_out(tmp_path):
    put(tmp_path, "2.png", "3.png")
    with pytest.raises(UserError, match="one in five of all: it has too few"):
        Folder(tmp_path, "test")


def test_undeclared_parts_are_stable_when_images_come(tmp_path):
    put(tmp_path, *(f"{i}.png" for i in range(60)))

    def parts() -> dict[str, set[str]]:
        folders = {part: Folder(tmp_path, part) for part in ("train", "test")}
        return {part: {f[i].key for i in range(len(f))} for part, f in folders.items()}

    before = parts()
    assert len(before["train"]) + len(before["test"]) == 60
    assert 3 <= len(before["test"]) <= 24
    put(tmp_path, *(f"more{i}.png" for i in range(40)))
    after = parts()
    assert before["train"] < after["train"]
    assert before["test"] < after["test"]


def test_the_fingerprint_is_of_names_sizes_and_times(tmp_path):
    put(tmp_path, "1.png", "2.png")
    folder = Folder(tmp_path)
    prints = {folder.fingerprint(), Folder(tmp_path).fingerprint()}
    assert len(prints) == 1
    os.utime(tmp_path / "1.png", ns=(1, 1))
    prints.add(folder.fingerprint())
    (tmp_path / "2.png").rename(tmp_path / "3.png")
    prints |= {folder.fingerprint(), Folder(tmp_path).fingerprint()}
    assert len(prints) == 4


def test_a_class_of_another_part_changes_the_fingerprint(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png")
    before = Folder(tmp_path, "train")
    put(tmp_path, "val/bird/5.png")
    after = Folder(tmp_path, "train")
    assert [before[0].label, after[0].label] == [0, 1]
    assert before.fingerprint() != after.fingerprint()


def test_a_file_that_has_gone_is_a_broken_image(tmp_path):
    put(tmp_path, "1.png")
    folder = Folder(tmp_path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(BrokenImage, match=r"1\.png: cannot be read: No such file"):
        folder[0]


def test_links_that_form_a_ring_come_to_an_end(tmp_path):
    put(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(Folder(tmp_path)) == 1


def test_sources_are_opened_by_name(tmp_path, monkeypatch):
    put(tmp_path, "photos/1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("folder:~/photos")[0].key == "1.png"
    assert len(open_source("scenes:9")) == 9
    assert len(open_source("objects:9", "test")) == 2
    one, other = open_source("objects:4", seed=1), open_source("objects:4", seed=2)
    assert (one[0].image != other[0].image).any()
    assert (one[0].image != open_source("objects:4", "test", seed=1)[0].image).any()


@pytest.mark.parametrize(
    ("spec", "part", "said"),
    [
        ("folder:nowhere", None, "nowhere does not exist"),
        ("folder:empty", None, r"no images; it should hold files that end in \.jpg"),
        ("folder:file.txt", None, "is a file"),
        ("folder:one", "nothing", "'train', 'test' or None"),
        ("folder:", None, "give one such as folder:photos"),
        ("photos", None, "records:"),
        (pathlib.Path("empty"), None, "'empty' is a folder; say what is in it: folder:empty"),
        ("empty", None, "'empty' is a folder; say what is in it: folder:empty"),
        ("records", None, "in it: records:records"),
        (
            "folder:records",
            None,
            "left out: 1 .json, 1 .tfrecord; records are given as records:PATH",
        ),
        ("records:one", None, "one has no info.json: .* give folder:one, if it has images"),
        ("images:photos", None, "scenes:10000"),
        ("scenes:", None, "needs a number of images, such as scenes:10000"),
        ("objects:-3", None, "needs a number"),
        ("scenes:0", None, "needs a number"),
        ("tfds:", None, "unknown source"),
    ],
)
def test_a_source_that_is_none_is_refused_in_one_line(spec, part, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    put(tmp_path, "one/1.png")
    (tmp_path / "records").mkdir()
    for name in ("info.json", "train-00000-of-00001.tfrecord"):
        (tmp_path / "records" / name).write_text("{}")
    with pytest.raises(ValueError, match=said) as error:
        open_source(spec, part)
    assert "\n" not in str(error.value)


def test_a_folder_that_goes_away_is_no_broken_image(tmp_path):
    put(tmp_path, "photos/1.png")
    source = open_source(f"folder:{tmp_path / 'photos'}")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    for read in (source.__getitem__, source.image_size):
        with pytest.raises(UserError, match="photos is gone; put it back"):
            read(0)


@pytest.mark.parametrize("profile", [100, 300_000], ids=["short head", "long head"])
def test_the_size_of_a_photograph_is_in_its_head(tmp_path, profile):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    path = tmp_path / "1.jpg"
    Image.new("RGB", (30, 20)).save(path, exif=exif, icc_profile=bytes(profile))
    if profile < 2**16:
        os.truncate(path, 2**42)  # a hole: more than any memory
    assert Folder(tmp_path).image_size(0) == (30, 20)


def test_masks_that_lie_beside_images_are_no_images(tmp_path, caplog):
    put(tmp_path, "a/1.jpg", "a/1_seg.png", "b/2.png", "b/2_mask.png", "c/mask.png")
    put(tmp_path / "cells", "x/images/x.png", "x/masks/1.png", "x/masks/2.png")
    with caplog.at_level(logging.INFO, "jaxssl.data"):
        assert Folder(tmp_path).keys() == [
            "a/1.jpg",
            "b/2.png",
            "c/mask.png",
            "cells/x/images/x.png",
        ]
    assert "masks of images, left out: 4, such as a/1_seg.png of a/1.jpg" in caplog.text


def test_what_may_be_meant_otherwise_is_said(tmp_path, caplog):
    put(tmp_path / "stl", "train/a/1.png", "train/b/2.png", "test/a/3.png", "unlabeled/4.png")
    put(tmp_path / "stl", "Train/a/5.png", "6.png")
    put(tmp_path / "twice", "tr/cat/1.png", "tr/dog/2.png", "te/cat/3.png", "te/images/4.png")
    put(tmp_path / "zip", "data/a/1.png", "data/b/2.png", "__MACOSX/data/a/3.png")
    with caplog.at_level(logging.INFO, "jaxssl.data"):
        assert Folder(tmp_path / "stl").class_names == ("a", "b")
        assert Folder(tmp_path / "twice").class_names == ("te", "tr")
        assert Folder(tmp_path / "zip").class_names == ("a", "b")
    assert caplog.messages == [
        f"folder:{tmp_path}/stl: images left out, in the top folder, train, unlabeled",
        f"folder:{tmp_path}/twice: its classes are the folders te, tr, not those in them, such as "
        "cat",
    ]
