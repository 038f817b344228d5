"""Images as squares of one size, for evaluation: the center cut out, or the whole squashed."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from jaxssl.data.loading import MAPS, Arrays, Shapes, check_maps, read_map, row_bytes
from jaxssl.data.source import Example, Size
from jaxssl.errors import UserError


@dataclasses.dataclass(frozen=True)
class SquareSpec:
    """The arrays of an image brought to a square.

    image u8[size, size, 3]; hw i32[2], height and width of the original; label i32[]. With maps:
    semantic u8[size, size] and depth f32[size, size], of the nearest pixels.
    """

    size: int  # side, pixels
    fit_by: Literal["center", "squash"] = "center"  # shorter side resized, center cut out; or whole
    maps: tuple[str, ...] = ()  # of what each pixel has: "semantic", its label, or "depth"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"{self}: size must be >= 1")
        if self.fit_by == "center" and self.maps:
            raise UserError("squares cut from the center hold no maps; squash them")
        check_maps(self.maps)

    def arrays(self) -> Shapes:
        """Shape and type of each array, by name."""
        square = (self.size, self.size)
        arrays: Shapes = {
            "image": ((*square, 3), np.dtype(np.uint8)),
            "hw": ((2,), np.dtype(np.int32)),
            "label": ((), np.dtype(np.int32)),
        }
        return arrays | {name: (square, MAPS[name]) for name in self.maps}

    def used(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """No array varies in length: all squares have one size."""
        return {}

    def expected_bytes(self, sizes: Sequence[Size]) -> float:
        """Number of bytes of an image, whatever its size."""
        return float(sum(row_bytes(self).values()))

    def fit(self, size: Size) -> Size:
        """Height and width to which an image of `size` is resized while it is decoded."""
        return (self.size, self.size) if self.fit_by == "squash" else size

    def make(self, example: Example, size: Size) -> Arrays:
        """The arrays of an example whose image, of the original `size`, may be resized already."""
        square = {
            "image": _resize(example.image, self.size, whole=self.fit_by == "squash"),
            "hw": np.array(size, np.int32),
            "label": np.array(example.label, np.int32),
        }
        shape = (self.size, self.size)
        return square | {name: read_map(example, name, size, shape) for name in self.maps}


def _resize(image: np.ndarray, side: int, *, whole: bool) -> np.ndarray:
    """The whole image squashed; or resize of the shorter side, then CenterCrop, as torchvision.

    Only the pixels that are kept are computed: the other side may be any number of times longer.
    """
    height, width = image.shape[:2]
    box: tuple[float, float, float, float] = (0, 0, width, height)
    if not whole:
        shorter = min(height, width)
        resized_h, resized_w = side * height // shorter, side * width // shorter
        top, left = round((resized_h - side) / 2), round((resized_w - side) / 2)
        scale_y, scale_x = height / resized_h, width / resized_w
        box = (left * scale_x, top * scale_y, (left + side) * scale_x, (top + side) * scale_y)
    return np.asarray(
        Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box)
    )
