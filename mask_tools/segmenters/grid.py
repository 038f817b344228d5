"""Regions that know nothing of the image: the cells of a grid, the baseline of every segmenter."""

import dataclasses
from typing import ClassVar

import numpy as np

from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_labels
from mask_tools.segmenters.fields import take_fields


@dataclasses.dataclass(frozen=True)
class Grid:
    """The image cut into `rows` x `cols` cells, as equal as whole pixels allow.

    An image of fewer pixels than cells has one cell per pixel.
    """

    needs_original_size: ClassVar[bool] = False

    rows: int = 5
    cols: int = 5

    def __post_init__(self) -> None:
        take_fields(self)
        if self.rows < 1 or self.cols < 1:
            raise UserError(f"a grid of {self.rows} x {self.cols} cells: give at least 1 x 1")

    def __call__(self, example: Example) -> list[Region]:
        """The cells of the image, row by row."""
        height, width = example.size
        row = _cells(height, self.rows)
        column = _cells(width, self.cols)
        return from_labels(row[:, None] * self.cols + column[None, :])


def _cells(length: int, parts: int) -> np.ndarray:
    """The cell that each of `length` pixels in a line falls into: i64[length]."""
    parts = min(parts, length)
    edges = np.arange(parts + 1) * length // parts
    return np.repeat(np.arange(parts), np.diff(edges))
