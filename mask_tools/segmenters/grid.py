"""Regions that know nothing of the image: the cells of a grid, the baseline of every segmenter."""

import dataclasses
import itertools

import numpy as np

from mask_tools.regions import Region


@dataclasses.dataclass(frozen=True)
class Grid:
    """The image cut into `rows` x `cols` cells, as equal as whole pixels allow.

    An image of fewer pixels than cells has one cell per pixel.
    """

    rows: int = 5
    cols: int = 5

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a grid of {self.rows} x {self.cols} cells: give at least 1 x 1")

    def __call__(self, image: np.ndarray) -> list[Region]:
        """The cells of an image u8[h, w, 3], row by row."""
        height, width = image.shape[:2]
        row_edges = _edges(height, self.rows)
        column_edges = _edges(width, self.cols)
        cells = []
        for y0, y1 in itertools.pairwise(row_edges):
            for x0, x1 in itertools.pairwise(column_edges):
                mask = np.zeros((height, width), bool)
                mask[y0:y1, x0:x1] = True
                cells.append(Region(mask))
        return cells


def _edges(length: int, parts: int) -> np.ndarray:
    parts = min(parts, length)
    return np.arange(parts + 1) * length // parts
