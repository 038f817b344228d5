"""Segmenters that need no network, partitions of any image, and the options of new ones."""

import dataclasses
import math
import re

import numpy as np
import pytest

from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.export import _parse, _take_segmenter
from mask_tools.regions import collect
from mask_tools.segmenters import SEGMENTERS
from mask_tools.segmenters.annotation import Annotation
from mask_tools.segmenters.felzenszwalb import Felzenszwalb
from mask_tools.segmenters.grid import Grid
from mask_tools.segmenters.network import Network
from mask_tools.segmenters.proposals import Proposals


def blocks(rows, cols, side):
    """An image of rows x cols squares, each of a color that differs clearly from the next."""
    row, col = np.mgrid[:rows, :cols]
    colors = np.stack([row * 97 % 256, col * 151 % 256, (row + col) % 2 * 255], axis=-1)
    return colors.astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)


def show(image):
    return Example("image.png", image)


def masks(regions):
    return np.array([decode_mask(region.rle, region.size) for region in regions])


def coverage(regions):
    """How many regions cover each pixel."""
    return masks(regions).sum(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (48, 64)])
@pytest.mark.parametrize("name", ["grid", "fh"])
def test_every_segmenter_partitions_any_image(name, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = SEGMENTERS[name]()(show(image))
    assert (coverage(found) == 1).all()
    regions = collect(found, size)
    assert len(regions) == len(found)  # no empty one
    assert sorted(regions.object.tolist()) == list(range(len(found)))


def test_grid_cells_are_equal_where_they_can_be():
    cells = Grid(rows=2, cols=4)(show(np.zeros((10, 20, 3), np.uint8)))
    assert masks(cells).sum((1, 2)).tolist() == [25] * 8
    areas = masks(Grid(3, 3)(show(np.zeros((10, 11, 3), np.uint8)))).sum((1, 2)).tolist()
    assert sum(areas) == 110
    assert max(areas) - min(areas) <= 7  # 4x4 against 3x3


def test_fh_finds_the_blocks():
    image = blocks(2, 3, side=40)
    found = Felzenszwalb(scale=(100,), sigma=0.0)(show(image))
    assert len(found) == 6
    for mask in masks(found):
        assert len(np.unique(image[mask], axis=0)) == 1


def test_fh_at_several_scales_gives_one_partition_each():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    found = Felzenszwalb(scale=(10, 10), min_size=(10, 100))(show(image))
    levels = np.array([region.level for region in found])
    assert (coverage(found) == 2).all()
    assert (levels == 0).sum() > (levels == 1).sum() > 1
    assert (np.diff(levels) >= 0).all()


def test_fh_ids_do_not_wrap():
    image = blocks(20, 20, side=4)
    found = Felzenszwalb(scale=(1,), min_size=(1,), sigma=0.0)(show(image))
    assert len(found) == 400
    assert (masks(found).sum((1, 2)) == 16).all()


def test_fh_minimum_size_is_the_scale_unless_given():
    assert Felzenszwalb(scale=(500, 1500)).min_size == (500, 1500)
    assert Felzenszwalb(scale=(500,), min_size=(20,)).min_size == (20,)
    assert Felzenszwalb(min_size=(1e3,)).min_size == (1000,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(rows=0), "a grid of 0 x 5 cells: give at least 1 x 1"),
        (lambda: Felzenszwalb(scale=(-1,), min_size=(1,)), "scales must be above 0"),
        (lambda: Felzenszwalb(scale=()), "scales must be above 0"),
        (lambda: Felzenszwalb(scale=(1, math.nan)), "scales must be above 0"),
        (lambda: Felzenszwalb(scale=(math.inf,)), "scales must be above 0"),
        (lambda: Felzenszwalb(min_size=(20.5,)), "sizes whole numbers from 1 on"),
        (lambda: Felzenszwalb(min_size=(math.nan,)), "sizes whole numbers from 1 on"),
        (lambda: Felzenszwalb(sigma=-1.0), "sigma not negative"),
        (lambda: Felzenszwalb(sigma=math.nan), "--sigma nan: give a finite number"),
        (lambda: Proposals(".", min_score=math.nan), "--min-score nan: give a finite number"),
        (lambda: Proposals(".", min_score=math.inf), "--min-score inf: give a finite number"),
        (lambda: Annotation(path=".", ignore=(0, math.nan)), "--ignore (0, nan): give whole"),
        (lambda: Annotation(path=".", ignore=(0.5,)), "--ignore (0.5,): give whole numbers"),
        (lambda: Network(pred_iou_thresh=math.nan), "--pred-iou-thresh nan: give a finite number"),
        (lambda: Felzenszwalb(scale=(1, 2), min_size=(1,)), "2 scales and 1 minimum sizes"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make()


@dataclasses.dataclass(frozen=True)
class Named(Grid):
    spaces: tuple[str, ...] = ("rgb",)


def segmenter_with(name, kind, default):
    return dataclasses.make_dataclass("New", [(name, kind, default)], bases=(Grid,), frozen=True)


def test_a_new_segmenter_has_its_fields_as_options(monkeypatch):
    monkeypatch.setitem(SEGMENTERS, "named", Named)
    options = vars(_parse(["--source", "x", "--segmenter", "named", "--spaces", "lab,hsv"]))
    assert _take_segmenter(options) == Named(spaces=("lab", "hsv"))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (("split", int, 4), "new: split is an option of the command; rename it"),
        (("min_size", int, 16), "fh and new: min_size has several types; rename one"),
        (("connected", bool, True), "new: connected needs a number, a text, a tuple of these, or"),
        (("space", str | None, None), "new: space needs a number"),
    ],
)
def test_fields_that_are_no_options_are_named(monkeypatch, new, message):
    monkeypatch.setitem(SEGMENTERS, "new", segmenter_with(*new))
    with pytest.raises(UserError, match=message):
        _parse(["--source", "x", "--segmenter", "fh"])
