"""Canvases: images to cut views from, at their own shape and in full detail, as arrays.

An image keeps its shape. Up to a budget of pixels it is kept pixel by pixel, a larger one is shrunk
with its aspect, none is enlarged. It lies flat in an array of one length for all images, followed
by its halvings, as `image.pyramid` reads it. Boxes and areas stay in pixels of the original.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxssl.data.loading import MAPS, Arrays, Shapes, check_maps, read_map, row_bytes
from jaxssl.data.rle import bit_planes
from jaxssl.data.source import Example, Size, Source, WithCounts
from jaxssl.errors import UserError

# Of a budget that is chosen from the data: images as Cityscapes has them; more where all canvases,
# of 4 bytes a pixel, take so few bytes that mode `device` holds them on a laptop, too.
MAX_PIXELS, SMALL_SET_BYTES = 2048 * 1024, 4e9
_MOST_PIXELS = 2**28  # more bytes of an image and its halvings than 2**31 no index goes through
KEPT_WHOLE = 0.95  # share of the images that such a budget keeps pixel by pixel


@dataclasses.dataclass(frozen=True)
class CanvasSpec:
    """The arrays that a canvas has, and how an image is brought to them.

    image u8[3 n]: the image and its halvings; levels i32[l, 3]: offset in pixels, height and width
    of each, the last one repeated; hw i32[2]: height and width of the original; label i32[]. With
    objects: region_boxes f32[objects, 4] and region_areas f32[objects], in original pixels, of the
    largest region of each object, largest first, zeros after the last. With planes: region_planes
    u32[c, planes] of the 32 * planes largest regions, a point for `stride` x `stride` pixels of the
    first level, row after row, and planes_hw i32[2]: rows and columns. With maps: semantic
    u8[pixels] and depth f32[pixels], a value for each pixel of the first level.
    """

    pixels: int  # budget: height x width of the image as it is kept
    views: tuple[int, int] = (64, 224)  # sides of the smallest and the largest view that is cut
    objects: int = 0  # rows of region_boxes and region_areas; 0: neither
    planes: int = 0  # of 32 regions each; 0: no region_planes
    stride: int = 2  # pixels to a point of region_planes
    maps: tuple[str, ...] = ()  # of what each pixel has: "semantic", its label, or "depth"

    def __post_init__(self) -> None:
        if min(self.pixels, self.stride, *self.views) < 1 or min(self.objects, self.planes) < 0:
            raise UserError(f"{self}: pixels, views and stride must be >= 1, the others >= 0")
        if self.pixels > _MOST_PIXELS:
            raise UserError(f"data.pixels is {self.pixels}; it may be at most {_MOST_PIXELS}")
        check_maps(self.maps)

    @property
    def _levels(self) -> int:
        """Enough for the longest image, one pixel high, to shrink to two smallest views."""
        return 1 + max(0, math.ceil(math.log2(self.pixels / (2 * self.views[0]))))

    @property
    def _length(self) -> int:
        """Pixels that image and halvings may take: of all but the thinnest images they do.

        Halvings are rounded up, which takes about one more row and column of each.
        """
        return math.ceil(4 / 3 * self.pixels + 8 * math.sqrt(self.pixels)) + self._levels

    @property
    def _points(self) -> int:
        """Points that region planes may have."""
        return math.ceil(self.pixels / self.stride**2 + 4 * math.sqrt(self.pixels)) + 1

    def arrays(self) -> Shapes:
        """Shape and type of each array of a canvas, by name."""
        behind = 3 * self.views[1] + 2  # bytes that a crop may read there, to no effect
        arrays: Shapes = {
            "image": ((3 * self._length + behind,), np.dtype(np.uint8)),
            "levels": ((self._levels, 3), np.dtype(np.int32)),
            "hw": ((2,), np.dtype(np.int32)),
            "label": ((), np.dtype(np.int32)),
        }
        if self.objects:
            arrays["region_boxes"] = ((self.objects, 4), np.dtype(np.float32))
            arrays["region_areas"] = ((self.objects,), np.dtype(np.float32))
        if self.planes:
            arrays["region_planes"] = ((self._points, self.planes), np.dtype(np.uint32))
            arrays["planes_hw"] = ((2,), np.dtype(np.int32))
        return arrays | {name: ((self.pixels,), MAPS[name]) for name in self.maps}

    def used(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The number of entries, from the start, in use of each array of varying length.

        The arrays may have leading axes; then so have the numbers, i64.
        """
        levels = arrays["levels"].astype(np.int64)
        behind = 3 * self.views[1] + 2
        used = {"image": 3 * (levels[..., -1, 0] + levels[..., -1, 1:].prod(axis=-1)) + behind}
        if self.planes:
            used["region_planes"] = arrays["planes_hw"].astype(np.int64).prod(axis=-1)
        used |= {name: levels[..., 0, 1:].prod(axis=-1) for name in self.maps}
        return {name: np.asarray(count) for name, count in used.items()}

    def expected_bytes(self, sizes: Sequence[Size]) -> float:
        """Mean number of bytes in use, of images of these original sizes."""
        kept = [self.fit(size) for size in sizes]
        described = {
            "levels": np.array([self._layout(size) for size in kept]),
            "planes_hw": np.array([self._planes_hw(size) for size in kept]),
        }
        used = self.used(described)
        arrays = self.arrays()
        return sum(
            size * (used[name].mean() / arrays[name][0][0] if name in used else 1)
            for name, size in row_bytes(self).items()
        )

    def fit(self, size: Size) -> Size:
        """Height and width at which an image of `size` is kept."""
        height, width = size
        scale = min(1.0, math.sqrt(self.pixels / (height * width)))
        while True:
            kept = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
            if self._holds(kept):
                return kept
            scale *= 0.98

    def _holds(self, size: Size) -> bool:
        if math.prod(size) > self.pixels or math.prod(self._planes_hw(size)) > self._points:
            return False
        return sum(map(math.prod, self._halvings(size))) <= self._length

    def _planes_hw(self, size: Size) -> Size:
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def _halvings(self, size: Size) -> list[Size]:
        """Height and width of each level."""
        sizes = [size]
        while max(sizes[-1]) > 2 * self.views[0]:
            height, width = sizes[-1]
            sizes.append((-(-height // 2), -(-width // 2)))
        return sizes

    def _layout(self, size: Size) -> np.ndarray:
        """The array `levels` of an image that is kept at `size`."""
        sizes = np.array(self._halvings(size), np.int32)
        pixels = sizes.prod(axis=1)
        levels = np.column_stack([np.cumsum(pixels) - pixels, sizes]).astype(np.int32)
        return np.pad(levels, ((0, self._levels - len(levels)), (0, 0)), "edge")

    def make(self, example: Example, size: Size) -> Arrays:
        """The canvas of an example whose image, of the original `size`, may be resized already."""
        kept = self.fit(size)
        canvas = {
            "image": self._pyramid(example.image, kept),
            "levels": self._layout(kept),
            "hw": np.array(size, np.int32),
            "label": np.array(example.label, np.int32),
        }
        regions = example.regions
        if regions is not None and regions.size != size:
            raise UserError(f"{example.key}: regions of {regions.size} pixels, an image of {size}")
        if self.objects:
            boxes, areas = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
            if regions is not None:
                roots = regions.roots()[: self.objects]
                boxes, areas = regions.box[roots], regions.area[roots].astype(np.float32)
            canvas["region_boxes"] = filled_up(boxes, self.objects)
            canvas["region_areas"] = filled_up(areas, self.objects)
        if self.planes:
            rle = regions.largest(32 * self.planes) if regions is not None else []
            shape = self._planes_hw(kept)
            points = bit_planes(rle, size, shape, self.planes).reshape(-1, self.planes)
            canvas["region_planes"] = filled_up(points, self._points)
            canvas["planes_hw"] = np.array(shape, np.int32)
        for name in self.maps:
            values = read_map(example, name, size, kept).ravel()
            canvas[name] = filled_up(values, self.pixels)
        return canvas

    def describe_cut(self, source: Source) -> str:
        """Says of how many objects or regions of an image only the largest are kept; else ""."""
        if not isinstance(source, WithCounts):
            return ""
        cuts = (
            (source.max_objects, self.objects, "objects", "data.max_objects"),
            (source.max_regions, 32 * self.planes, "regions", "data.region_planes, of 32 each"),
        )
        said = [
            f"up to {most} {what} in an image, of which the {kept} largest are kept ({key})"
            for most, kept, what, key in cuts
            if 0 < kept < most
        ]
        return "; ".join(said)

    def _pyramid(self, pixels: np.ndarray, size: Size) -> np.ndarray:
        """The array `image` of an image that is kept at `size`."""
        image = Image.fromarray(pixels)
        if image.size != size[::-1]:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        flat, begin = np.zeros(self.arrays()["image"][0], np.uint8), 0
        for height, width in self._halvings(size):
            level = flat[begin : begin + 3 * height * width].reshape(height, 3, width)
            level[...] = np.asarray(image).transpose(0, 2, 1)  # of rows three colors
            image, begin = image.reduce(2), begin + level.size
        return flat


def filled_up(values: np.ndarray, length: int) -> np.ndarray:
    """Values [n, ...] with zeros after the last, up to `length`."""
    if len(values) == length:
        return values
    filled = np.zeros((length, *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return filled


def choose_pixels(sizes: Sequence[Size], count: int) -> int:
    """The least budget that keeps 95 % of images of these sizes whole, at most `MAX_PIXELS`.

    A small set of large images, of `count` in all, may take more: `SMALL_SET_BYTES`.
    """
    areas = np.sort([height * width for height, width in sizes])
    most = min(max(MAX_PIXELS, int(SMALL_SET_BYTES / (4 * count))), _MOST_PIXELS)
    return min(int(areas[math.ceil(KEPT_WHOLE * len(areas)) - 1]), most)
