"""Canvases against a plain reading of their definition."""

import dataclasses
import io
import logging

import numpy as np
import pytest
from PIL import Image

from jaxssl.data import canvas as canvas_module
from jaxssl.data.canvas import CanvasSpec, load_canvas, make_canvas
from jaxssl.data.folder import Folder
from jaxssl.data.records import Info, Records, shard_name, write_info, write_shard
from jaxssl.data.rle import bit_planes, encode_mask, run_ends
from jaxssl.data.source import BrokenImage, Example, Regions

RNG = np.random.default_rng(0)


def blobs(height: int, width: int, number: int) -> np.ndarray:
    """Masks bool[number, height, width]: none, all, noise and patches."""
    masks = RNG.random((number, height, width)) < RNG.random((number, 1, 1))
    for mask in masks[::2]:
        mask[: height // 2, width // 3 :] = True
    masks[:1] = False
    masks[1:2] = True
    return masks


def regions_of(masks: np.ndarray, objects: np.ndarray | None = None) -> Regions:
    count = len(masks)
    return Regions(
        size=masks.shape[1:],
        box=RNG.random((count, 4)).astype(np.float32) * 100,
        area=masks.sum((1, 2)),
        object=np.arange(count) if objects is None else objects,
        score=np.ones(count, np.float32),
        level=np.zeros(count, np.int64),
        rle=tuple(encode_mask(mask) for mask in masks),
    )


def photo(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (23, 31), (64, 1000)])
def test_run_lengths_are_those_of_the_mask(size):
    for mask in blobs(*size, 6):
        ends = run_ends(encode_mask(mask))
        inside = np.searchsorted(ends, np.arange(mask.size), side="right") % 2
        np.testing.assert_array_equal(inside.reshape(size[::-1]).T, mask)


@pytest.mark.parametrize(
    ("size", "cells"), [((1, 1), 4), ((23, 31), 8), ((40, 7), 16), ((90, 120), 1)]
)
def test_bit_planes_are_the_masks_at_cell_centres(size, cells):
    masks = blobs(*size, 70)
    planes = bit_planes([encode_mask(mask) for mask in masks], size, cells, 3)
    assert planes.shape == (cells, cells, 3)
    assert planes.dtype == np.uint32
    for i, j in np.ndindex(cells, cells):
        y, x = int((i + 0.5) * size[0] / cells), int((j + 0.5) * size[1] / cells)
        bits = [int(planes[i, j, r // 32]) >> r % 32 & 1 for r in range(96)]
        assert bits == [*masks[:, y, x].astype(int), *[0] * 26]


def test_arrays_are_as_announced():
    spec = CanvasSpec(16, objects=3, planes=2, stride=4)
    example = Example("k", photo(10, 20), label=4, regions=regions_of(blobs(10, 20, 5)))
    for e in (example, Example("k", photo(10, 20))):
        made = make_canvas(e, spec)
        assert {n: (a.shape, a.dtype) for n, a in made.items()} == spec.arrays()
        assert made["hw"].tolist() == [10, 20]
        assert made["label"] == e.label
    assert set(CanvasSpec(16).arrays()) == {"image", "hw", "label"}


def test_squash_of_a_multiple_is_close_to_the_block_means():
    smooth = np.asarray(Image.fromarray(photo(4, 4)).resize((128, 64), Image.Resampling.BICUBIC))
    made = make_canvas(Example("k", smooth), CanvasSpec(16))["image"]
    means = smooth.reshape(16, 4, 16, 8, 3).mean((1, 3))
    assert np.abs(made - means).max() < 8
    whole = photo(16, 16)
    np.testing.assert_array_equal(make_canvas(Example("k", whole), CanvasSpec(16))["image"], whole)


@pytest.mark.parametrize("size", [(40, 60), (61, 40), (33, 34), (16, 16), (9, 7), (1, 1)])
def test_centre_is_resize_then_crop(size):
    """torchvision's Resize(16), CenterCrop(16), spelt out; a canvas may differ by rounding."""
    height, width = size
    image = photo(height, width)
    short = min(size)
    resized_h, resized_w = int(16 * height / short), int(16 * width / short)
    resized = Image.fromarray(image).resize((resized_w, resized_h), Image.Resampling.BILINEAR)
    top, left = round((resized_h - 16) / 2), round((resized_w - 16) / 2)
    expected = np.asarray(resized)[top : top + 16, left : left + 16].astype(int)
    made = make_canvas(Example("k", image), CanvasSpec(16, fit="center"))
    assert np.abs(made["image"] - expected).max() <= 1
    assert made["hw"].tolist() == [height, width]


def test_centre_of_a_very_long_image_takes_no_memory():
    image = np.zeros((1, 200_000, 3), np.uint8)  # resized it would have 77 GB
    made = make_canvas(Example("k", image), CanvasSpec(256, fit="center"))
    assert made["image"].shape == (256, 256, 3)


def test_objects_are_their_largest_regions_largest_first():
    area = np.array([5, 9, 7, 9, 2, 7])
    objects = np.array([8, 8, 3, 4, 4, 6])
    masks = np.zeros((6, 4, 5), bool)
    for mask, pixels in zip(masks, area, strict=True):
        mask.ravel()[:pixels] = True
    regions = regions_of(masks, objects)
    made = make_canvas(Example("k", photo(4, 5), regions=regions), CanvasSpec(8, objects=5))
    roots = [1, 3, 2, 5]  # of equal areas the earlier comes first
    np.testing.assert_array_equal(made["region_areas"], [9, 9, 7, 7, 0])
    np.testing.assert_array_equal(made["region_boxes"], [*regions.box[roots], np.zeros(4)])
    made = make_canvas(Example("k", photo(4, 5), regions=regions), CanvasSpec(8, objects=2))
    np.testing.assert_array_equal(made["region_boxes"], regions.box[roots[:2]])


def test_planes_hold_the_largest_regions_of_all_objects():
    masks = blobs(16, 16, 40)
    example = Example("k", photo(16, 16), regions=regions_of(masks, np.zeros(40, int)))
    plane = make_canvas(example, CanvasSpec(16, planes=1, stride=1))["region_planes"][..., 0]
    order = np.argsort(-masks.sum((1, 2)), kind="stable")
    for bit, region in enumerate(order[:32]):
        np.testing.assert_array_equal(plane >> np.uint32(bit) & np.uint32(1), masks[region])


def test_regions_of_another_size_are_refused():
    example = Example("photos/3.jpg", photo(10, 20), regions=regions_of(blobs(20, 10, 2)))
    with pytest.raises(ValueError, match=r"photos/3\.jpg: regions of \(20, 10\)"):
        make_canvas(example, CanvasSpec(8, planes=1))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": 0}, ">= 1"),
        ({"size": 8, "objects": -1}, ">= 0"),
        ({"size": 9, "planes": 1}, "multiple"),
        ({"size": 8, "planes": 1, "fit": "center"}, "no regions"),
    ],
)
def test_impossible_canvases_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        CanvasSpec(**fields)


def test_sources_that_squash_give_the_same_canvas(tmp_path):
    Image.fromarray(photo(30, 41)).save(tmp_path / "1.png")
    example = Folder(tmp_path)[0]
    example = dataclasses.replace(example, regions=regions_of(blobs(30, 41, 4)))
    shard = write_shard(tmp_path / shard_name("all", 0, 1), [example])
    write_info(tmp_path, Info("", {"name": "blobs"}, {"all": (shard,)}))
    spec = CanvasSpec(16, objects=3, planes=1)
    expected = make_canvas(example, spec)
    for name, array in load_canvas(Records(tmp_path), 0, spec).items():
        np.testing.assert_array_equal(array, expected[name])
    spec = CanvasSpec(16)
    expected = make_canvas(example, spec)
    for name, array in load_canvas(Folder(tmp_path), 0, spec).items():
        np.testing.assert_array_equal(array, expected[name])


class Patchy:
    """Ten images of grey 0..9, some of them broken."""

    spec, class_names, has_regions = "patchy:10", (), False

    def __init__(self, broken: set[int]) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Example:
        if index in self.broken:
            raise BrokenImage(f"{index}.jpg: torn")
        return Example(f"{index}.jpg", np.full((4, 6, 3), index, np.uint8), label=index)

    def fingerprint(self) -> str:
        return str(self.broken)


def test_the_next_readable_image_stands_in_for_a_broken_one(caplog):
    canvas_module.warn_broken.cache_clear()
    source = Patchy({3, 8, 9, 0})
    labels = [int(load_canvas(source, i, CanvasSpec(8))["label"]) for i in range(10)]
    assert labels == [1, 1, 2, 4, 4, 5, 6, 7, 1, 1]
    named = [record.message for record in caplog.records]
    assert len(named) == 4, "each is named once"
    assert all(r.name == "jaxssl.data" and r.levelno == logging.WARNING for r in caplog.records)
    assert any("3.jpg: torn" in message for message in named)


def test_nothing_readable_is_an_error():
    with pytest.raises(ValueError, match="10 images in a row cannot be read") as error:
        load_canvas(Patchy(set(range(10))), 4, CanvasSpec(8))
    assert not isinstance(error.value, BrokenImage)


def test_a_file_with_an_alpha_channel_makes_a_canvas(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGBA", (5, 3), (10, 20, 30, 40)).save(buffer, "PNG")
    (tmp_path / "1.png").write_bytes(buffer.getvalue())
    made = load_canvas(Folder(tmp_path), 0, CanvasSpec(4))
    assert (made["image"] == [10, 20, 30]).all()
