"""Canvases: examples brought to arrays of one shape, so that they stack, cache and gather.

The whole image is squashed to a square and its height and width go along; what is measured in
original pixels (boxes, areas) stays so. For evaluation the centre can be cut out instead.
"""

import dataclasses
import functools
import logging
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from jaxssl.data.rle import bit_planes
from jaxssl.data.source import BrokenImage, Example, Regions, Source
from jaxssl.errors import UserError

_log = logging.getLogger("jaxssl.data")
_TRIES = 10  # images that may be broken in a row
_MAPS: dict[str, np.dtype] = {"semantic": np.dtype(np.uint8), "depth": np.dtype(np.float32)}


@dataclasses.dataclass(frozen=True)
class CanvasSpec:
    """What a canvas holds."""

    size: int  # S: side of the square, pixels
    objects: int = 0  # rows of region_boxes and region_areas; 0: neither
    planes: int = 0  # of 32 regions each; 0: no region_planes
    stride: int = 2  # canvas pixels a cell of region_planes
    fit: Literal["squash", "center"] = "squash"  # "center": shorter side to S, middle cut out
    maps: tuple[str, ...] = ()  # of what each pixel has: "semantic", its label, or "depth"

    def __post_init__(self) -> None:
        if self.fit not in ("squash", "center"):
            raise UserError(f"canvas fit {self.fit!r} is unknown; choose 'squash' or 'center'")
        if min(self.size, self.stride) < 1 or min(self.objects, self.planes) < 0:
            raise UserError(f"{self}: size and stride must be >= 1, objects and planes >= 0")
        if self.planes and self.size % self.stride:
            raise UserError(f"canvas size {self.size} must be a multiple of stride {self.stride}")
        if self.fit == "center" and (self.objects or self.planes or self.maps):
            raise UserError("canvas fit 'center' holds no regions or maps; choose fit 'squash'")
        if unknown := set(self.maps) - set(_MAPS):
            raise UserError(f"canvas maps {sorted(unknown)} are unknown; there are {list(_MAPS)}")

    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of each array of a canvas, by name."""
        cells = self.size // self.stride
        arrays: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "image": ((self.size, self.size, 3), np.dtype(np.uint8)),
            "hw": ((2,), np.dtype(np.int32)),
            "label": ((), np.dtype(np.int32)),
        }
        if self.objects:
            arrays["region_boxes"] = ((self.objects, 4), np.dtype(np.float32))
            arrays["region_areas"] = ((self.objects,), np.dtype(np.float32))
        if self.planes:
            arrays["region_planes"] = ((cells, cells, self.planes), np.dtype(np.uint32))
        return arrays | {name: ((self.size, self.size), _MAPS[name]) for name in self.maps}


@runtime_checkable
class Squashing(Protocol):
    """A source that squashes an image faster than by decoding all of it first."""

    def squashed(self, index: int, side: int) -> tuple[Example, tuple[int, int]]:
        """The example with its image as u8[side, side, 3]; its true height and width."""
        ...


def make_canvas(
    example: Example, spec: CanvasSpec, size: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """The canvas of an example.

    Args:
        size: height and width of the original, if `example.image` is squashed already.

    Returns:
        image u8[S, S, 3]; hw i32[2]: height and width of the original; label i32[]. With objects:
        region_boxes f32[objects, 4] and region_areas f32[objects], in original pixels, of the
        largest region of each object, largest first, zeros after the last. With planes:
        region_planes u32[S/stride, S/stride, planes] of the 32 * planes largest regions. With maps:
        semantic u8[S, S] and depth f32[S, S], of the nearest pixels.
    """
    size = size or (example.image.shape[0], example.image.shape[1])
    fit = _squash if spec.fit == "squash" else _cut_centre
    canvas = {
        "image": fit(example.image, spec.size),
        "hw": np.array(size, np.int32),
        "label": np.array(example.label, np.int32),
    }
    regions = example.regions
    if regions is not None and regions.size != size:
        raise UserError(f"{example.key}: regions of {regions.size} pixels on an image of {size}")
    # Stable, so that the earlier of two equal regions is the larger.
    order = np.argsort(-regions.area, kind="stable") if regions is not None else np.zeros(0, int)
    if spec.objects:
        canvas |= _roots(regions, spec.objects)
    if spec.planes:
        rle = [regions.rle[r] for r in order[: 32 * spec.planes]] if regions is not None else []
        canvas["region_planes"] = bit_planes(rle, size, spec.size // spec.stride, spec.planes)
    return canvas | {name: _squash_map(example, name, size, spec.size) for name in spec.maps}


def load_canvas(source: Source, index: int, spec: CanvasSpec) -> dict[str, np.ndarray]:
    """The canvas of an image of a source, or of the next readable one: each broken one is named."""
    canvas, broken = find_canvas(source, index, spec)
    for reason in broken.values():
        warn_broken(reason)
    return canvas


def find_canvas(
    source: Source, index: int, spec: CanvasSpec
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """The canvas at `index` or the first after it that can be read; why which ones could not."""
    broken: dict[int, str] = {}
    for candidate in range(index, index + min(_TRIES, len(source))):
        candidate %= len(source)
        try:
            if spec.fit == "squash" and isinstance(source, Squashing):
                example, size = source.squashed(candidate, spec.size)
                return make_canvas(example, spec, size), broken
            return make_canvas(source[candidate], spec), broken
        except BrokenImage as error:
            broken[candidate] = str(error)
    raise UserError(
        f"{source.spec}: {len(broken)} images in a row cannot be read, the last for this reason: "
        f"{broken[candidate]}; check that the images are still there"
    )


@functools.cache
def warn_broken(reason: str) -> None:
    """Names a broken image, the first time that it is met."""
    _log.warning("skipped an image that cannot be read: %s", reason)


def _squash(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _squash_map(example: Example, name: str, size: tuple[int, int], side: int) -> np.ndarray:
    """What the pixels hold under the centres of side x side equal parts of the image."""
    values: np.ndarray | None = example.semantic if name == "semantic" else example.depth
    if values is None:
        raise BrokenImage(f"{example.key}: has no {name} map")
    if values.shape != size:
        raise UserError(f"{example.key}: {name} map of {values.shape} on an image of {size}")
    if name == "semantic" and not (values.min() >= 0 and values.max() <= 255):
        raise UserError(
            f"{example.key}: its label map holds {values.min()}..{values.max()}; to evaluate on, "
            "labels must be 0..254, and 255 where there is none"
        )
    rows, columns = (((np.arange(side) + 0.5) * n / side).astype(int) for n in size)
    return values[rows[:, None], columns].astype(_MAPS[name])


def _cut_centre(image: np.ndarray, side: int) -> np.ndarray:
    """Resize of the shorter side, then CenterCrop, rounded as torchvision rounds them.

    Only the pixels that are kept are computed: the other side may be any number of times longer.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    resized_h, resized_w = side * height // shorter, side * width // shorter
    top, left = round((resized_h - side) / 2), round((resized_w - side) / 2)
    scale_y, scale_x = height / resized_h, width / resized_w
    box = (left * scale_x, top * scale_y, (left + side) * scale_x, (top + side) * scale_y)
    return np.asarray(
        Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box)
    )


def _roots(regions: Regions | None, objects: int) -> dict[str, np.ndarray]:
    """Box and area of the largest region of each object, largest first."""
    boxes, areas = np.zeros((objects, 4), np.float32), np.zeros(objects, np.float32)
    if regions is not None:
        roots = regions.roots()[:objects]
        boxes[: len(roots)], areas[: len(roots)] = regions.box[roots], regions.area[roots]
    return {"region_boxes": boxes, "region_areas": areas}
