"""Canvases against a plain reading of their definition."""

import dataclasses
import io
import logging

import numpy as np
import pytest
from PIL import Image

from jaxssl.data import loading
from jaxssl.data.canvas import MAX_PIXELS, SMALL_SET_BYTES, CanvasSpec, choose_pixels
from jaxssl.data.folder import Folder
from jaxssl.data.loading import load_arrays, sample_sizes
from jaxssl.data.records import Info, Records, shard_name, write_info, write_shard
from jaxssl.data.rle import bit_planes, encode_mask, mask_boxes, run_ends
from jaxssl.data.source import BrokenImage, Example, Regions
from jaxssl.data.squares import SquareSpec

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
    count, rle = len(masks), tuple(encode_mask(mask) for mask in masks)
    return Regions(
        size=masks.shape[1:],
        box=mask_boxes(rle, masks.shape[1:]).astype(np.float32),
        area=masks.sum((1, 2)),
        object=np.arange(count) if objects is None else objects,
        score=np.ones(count, np.float32),
        level=np.zeros(count, np.int64),
        rle=rle,
    )


def photo(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def make(example: Example, spec) -> dict[str, np.ndarray]:
    return spec.make(example, example.image.shape[:2])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (23, 31), (64, 1000)])
def test_run_lengths_are_those_of_the_mask(size):
    for mask in blobs(*size, 6):
        (ends,) = run_ends([encode_mask(mask)])
        inside = np.searchsorted(ends, np.arange(mask.size), side="right") % 2
        np.testing.assert_array_equal(inside.reshape(size[::-1]).T, mask)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((1, 1), (4, 4)), ((23, 31), (8, 9)), ((40, 7), (16, 3)), ((90, 120), (1, 1))],
)
def test_bit_planes_are_the_masks_at_the_points_of_a_lattice(size, shape):
    masks = blobs(*size, 70)
    planes = bit_planes([encode_mask(mask) for mask in masks], size, shape, 3)
    assert planes.shape == (*shape, 3)
    assert planes.dtype == np.uint32
    for i, j in np.ndindex(*shape):
        y, x = int((i + 0.5) * size[0] / shape[0]), int((j + 0.5) * size[1] / shape[1])
        bits = [int(planes[i, j, r // 32]) >> r % 32 & 1 for r in range(96)]
        assert bits == [*masks[:, y, x].astype(int), *[0] * 26]


@pytest.mark.parametrize("size", [(10, 20), (1, 60), (60, 1), (1, 1), (45, 33)])
def test_arrays_are_as_announced(size):
    specs = (
        CanvasSpec(200, (8, 16), objects=3, planes=2, stride=4, maps=("semantic",)),
        SquareSpec(16, "squash", maps=("semantic",)),
    )
    example = Example("k", photo(*size), label=4, regions=regions_of(blobs(*size, 5)))
    for spec in specs:
        for e in (example, Example("k", photo(*size))):
            e = dataclasses.replace(e, semantic=np.ones(size, int))
            made = make(e, spec)
            assert {n: (a.shape, a.dtype) for n, a in made.items()} == spec.arrays()
            assert made["hw"].tolist() == list(size)
            assert made["label"] == e.label
    assert set(CanvasSpec(16).arrays()) == {"image", "levels", "hw", "label"}


@pytest.mark.parametrize("size", [(40, 50), (1, 700), (700, 1), (2, 2), (41, 33), (129, 16)])
def test_an_image_within_the_budget_is_kept_pixel_by_pixel_with_its_halvings(size):
    image, spec = photo(*size), CanvasSpec(2100, (8, 16))
    made = make(Example("k", image), spec)
    level, offsets = image.astype(float), []
    for offset, height, width in made["levels"].tolist():
        if offset in offsets:  # the last one is repeated
            assert [offset, height, width] == made["levels"][-1].tolist()
            continue
        assert level.shape == (height, width, 3)
        flat = made["image"][3 * offset :][: level.size].reshape(height, 3, width)
        flat = flat.transpose(0, 2, 1).astype(float)
        assert np.abs(flat - level).max() <= 0.5 * bool(offset)  # means are rounded
        level = flat
        offsets.append(offset)
        padded = np.pad(level, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=np.nan)
        blocks = padded.reshape(-(-height // 2), 2, -(-width // 2), 2, 3)
        level = np.nanmean(blocks, axis=(1, 3))
    assert max(made["levels"][-1, 1:]) <= 16
    used = spec.used(made)["image"]
    assert not made["image"][used:].any()
    assert used <= len(made["image"])


def test_a_larger_image_is_shrunk_with_its_aspect_and_regions_stay_in_its_pixels():
    image = photo(90, 160)
    regions = regions_of(blobs(90, 160, 4))
    made = make(Example("k", image, regions=regions), CanvasSpec(3600, objects=4, planes=1))
    assert made["levels"][0].tolist() == [0, 45, 80]
    assert made["hw"].tolist() == [90, 160]
    assert made["region_areas"].max() == regions.area.max()
    assert made["planes_hw"].tolist() == [23, 40]
    small = np.asarray(Image.fromarray(image).resize((80, 45), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(
        made["image"][: 3 * 3600].reshape(45, 3, 80), small.transpose(0, 2, 1)
    )


def test_extreme_images_fit_in_their_budget():
    for size in [(1, 10**6), (10**6, 1), (3, 40_000), (5000, 40), (10_000, 10_000)]:
        spec = CanvasSpec(2**16, planes=1)
        height, width = spec.fit(size)
        assert 1 <= height * width <= spec.pixels
        assert height * width > spec.pixels / 2  # not shrunk more than need be
        example = Example("k", np.zeros((height, width, 3), np.uint8))
        assert spec.make(example, size)["levels"][0].tolist() == [0, height, width]


def test_the_budget_is_the_least_that_keeps_most_images_whole():
    sizes = [(512, 683)] * 96 + [(2000, 1500)] * 4
    assert choose_pixels(sizes, 20_000) == 512 * 683
    assert choose_pixels([(100, 100)] * 90 + [(500, 700)] * 10, 100) == 500 * 700
    assert choose_pixels([(3000, 4000)], 20_000) == MAX_PIXELS
    assert choose_pixels([(3000, 4000)], 20) == 3000 * 4000  # a folder from a phone
    assert choose_pixels([(3000, 4000)], 100) == SMALL_SET_BYTES / 400


def test_expected_bytes_are_those_in_use():
    sizes = [(40, 50), (10, 200), (90, 90)]
    spec = CanvasSpec(2500, (8, 16), objects=2, planes=1, maps=("semantic",))
    total = 0
    for size in sizes:
        made = make(Example("k", photo(*size), semantic=np.zeros(size, int)), spec)
        used = spec.used(made)
        total += sum(a[: used[n]].nbytes if n in used else a.nbytes for n, a in made.items())
    assert spec.expected_bytes(sizes) == pytest.approx(total / 3)


@pytest.mark.parametrize("size", [(40, 60), (61, 40), (33, 34), (16, 16), (9, 7), (1, 1)])
def test_center_is_resize_then_crop(size):
    """torchvision's Resize(16), CenterCrop(16), spelt out; a canvas may differ by rounding."""
    height, width = size
    image = photo(height, width)
    short = min(size)
    resized_h, resized_w = int(16 * height / short), int(16 * width / short)
    resized = Image.fromarray(image).resize((resized_w, resized_h), Image.Resampling.BILINEAR)
    top, left = round((resized_h - 16) / 2), round((resized_w - 16) / 2)
    expected = np.asarray(resized)[top : top + 16, left : left + 16].astype(int)
    made = make(Example("k", image), SquareSpec(16))
    assert np.abs(made["image"] - expected).max() <= 1
    assert made["hw"].tolist() == [height, width]


def test_center_of_a_very_long_image_takes_no_memory():
    image = np.zeros((1, 200_000, 3), np.uint8)  # resized it would have 77 GB
    made = make(Example("k", image), SquareSpec(256))
    assert made["image"].shape == (256, 256, 3)


def test_objects_are_their_largest_regions_largest_first():
    area = np.array([5, 9, 7, 9, 2, 7])
    objects = np.array([8, 8, 3, 4, 4, 6])
    masks = np.zeros((6, 4, 5), bool)
    for mask, pixels in zip(masks, area, strict=True):
        mask.ravel()[:pixels] = True
    regions = regions_of(masks, objects)
    made = make(Example("k", photo(4, 5), regions=regions), CanvasSpec(20, objects=5))
    roots = [1, 3, 2, 5]  # of equal areas the earlier comes first
    np.testing.assert_array_equal(made["region_areas"], [9, 9, 7, 7, 0])
    np.testing.assert_array_equal(made["region_boxes"], [*regions.box[roots], np.zeros(4)])
    made = make(Example("k", photo(4, 5), regions=regions), CanvasSpec(20, objects=2))
    np.testing.assert_array_equal(made["region_boxes"], regions.box[roots[:2]])


def test_planes_hold_the_largest_regions_of_all_objects():
    masks = blobs(16, 16, 40)
    example = Example("k", photo(16, 16), regions=regions_of(masks, np.zeros(40, int)))
    points = make(example, CanvasSpec(256, planes=1, stride=1))["region_planes"][:256, 0]
    plane = points.reshape(16, 16)
    order = np.argsort(-masks.sum((1, 2)), kind="stable")
    for bit, region in enumerate(order[:32]):
        np.testing.assert_array_equal(plane >> np.uint32(bit) & np.uint32(1), masks[region])


def test_what_the_caps_leave_out_is_said(tmp_path):
    masks = np.tri(40, 4 * 40, dtype=bool).reshape(40, 4, 40)
    example = Example("k", photo(4, 40), regions=regions_of(masks, np.arange(40) // 4))
    shards = write_shard(tmp_path / shard_name("all", 0, 1), [example] * 2)
    write_info(tmp_path, Info("", {"name": "tri", "parameters": {}}, {"all": (shards,)}))
    source = Records(tmp_path)
    assert CanvasSpec(60, objects=10, planes=2).describe_cut(source) == ""
    assert CanvasSpec(60).describe_cut(source) == ""
    assert CanvasSpec(60, objects=9, planes=1).describe_cut(source) == (
        "up to 10 objects in an image, of which the 9 largest are kept (data.max_objects); up to "
        "40 regions in an image, of which the 32 largest are kept (data.region_planes, of 32 each)"
    )
    assert CanvasSpec(60, objects=1).describe_cut(Patchy(set())) == ""


def test_regions_of_another_size_are_refused():
    example = Example("photos/3.jpg", photo(10, 20), regions=regions_of(blobs(20, 10, 2)))
    with pytest.raises(ValueError, match=r"photos/3\.jpg: regions of \(20, 10\)"):
        make(example, CanvasSpec(200, planes=1))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (CanvasSpec, {"pixels": 0}, ">= 1"),
        (CanvasSpec, {"pixels": 2**28 + 1}, "at most"),
        (CanvasSpec, {"pixels": 8, "objects": -1}, ">= 0"),
        (CanvasSpec, {"pixels": 8, "maps": ("normals",)}, "are unknown"),
        (SquareSpec, {"size": 0}, ">= 1"),
        (SquareSpec, {"size": 8, "maps": ("semantic",)}, "no maps"),
    ],
)
def test_impossible_canvases_are_refused(kind, fields, said):
    with pytest.raises(ValueError, match=said):
        kind(**fields)


def test_the_sizes_of_a_source_are_looked_at_once(tmp_path):
    Image.fromarray(photo(30, 41)).save(tmp_path / "1.png")
    source = Folder(tmp_path)
    assert [*sample_sizes(source)] == [(30, 41)]
    (tmp_path / "1.png").unlink()
    assert [*sample_sizes(source)] == [(30, 41)]


def test_sources_that_resize_give_the_same_canvas(tmp_path):
    Image.fromarray(photo(30, 41)).save(tmp_path / "1.png")
    example = Folder(tmp_path)[0]
    example = dataclasses.replace(example, regions=regions_of(blobs(30, 41, 4)))
    shard = write_shard(tmp_path / shard_name("all", 0, 1), [example])
    write_info(tmp_path, Info("", {"name": "blobs", "parameters": {}}, {"all": (shard,)}))
    spec = CanvasSpec(600, objects=3, planes=1)
    expected = make(example, spec)
    for name, array in load_arrays(Records(tmp_path), 0, spec).items():
        np.testing.assert_array_equal(array, expected[name])
    assert sample_sizes(Records(tmp_path)) == sample_sizes(Folder(tmp_path)) == ((30, 41),)
    spec = CanvasSpec(600)
    expected = make(example, spec)
    for name, array in load_arrays(Folder(tmp_path), 0, spec).items():
        np.testing.assert_array_equal(array, expected[name])


class Patchy:
    """Ten images of gray 0..9, some of them broken."""

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
    loading.warn_broken.cache_clear()
    source = Patchy({3, 8, 9, 0})
    made = [load_arrays(source, i, SquareSpec(8)) for i in range(10)]
    assert [int(m["image"][0, 0, 0]) for m in made] == [1, 1, 2, 4, 4, 5, 6, 7, 1, 1]
    assert [int(m["label"]) for m in made] == [-1, 1, 2, -1, 4, 5, 6, 7, -1, -1]
    named = [record.message for record in caplog.records]
    assert len(named) == 4, "each is named once"
    assert all(r.name == "jaxssl.data" and r.levelno == logging.WARNING for r in caplog.records)
    assert any("3.jpg: torn" in message for message in named)


def test_nothing_readable_is_an_error():
    with pytest.raises(ValueError, match="10 images in a row cannot be read") as error:
        load_arrays(Patchy(set(range(10))), 4, SquareSpec(8))
    assert not isinstance(error.value, BrokenImage)


def test_a_file_with_an_alpha_channel_makes_a_canvas(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGBA", (5, 3), (10, 20, 30, 40)).save(buffer, "PNG")
    (tmp_path / "1.png").write_bytes(buffer.getvalue())
    made = load_arrays(Folder(tmp_path), 0, SquareSpec(4))
    assert (made["image"] == [10, 20, 30]).all()
