"""The cells of the grids of images: their features, and the classes of the pixels in them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxssl.data.label_maps import VOID
from jaxssl.evaluation.dense.whole_images import grids_of
from jaxssl.evaluation.features import check_finite
from jaxssl.evaluation.pixels import Pixels
from jaxssl.pretrained.encoder import Encoder


def class_counts(
    truth: UInt8[np.ndarray, "i j"], grid: tuple[int, int], classes: int
) -> tuple[Int[np.ndarray, "h w k"], Int[np.ndarray, "h w"]]:
    """The pixels of each class in each cell of a grid; and all of them, void ones included.

    A pixel belongs to the cell in which its center lies.
    """
    row, column = (
        ((np.arange(side) + 0.5) * cells / side).astype(int)
        for side, cells in zip(truth.shape, grid, strict=True)
    )
    cell, number = row[:, None] * grid[1] + column[None, :], grid[0] * grid[1]
    where = cell * (VOID + 1) + truth
    counts = np.bincount(where.ravel(), minlength=number * (VOID + 1)).reshape(number, VOID + 1)
    pixels = np.bincount(cell.ravel(), minlength=number)
    return counts[:, :classes].reshape(*grid, classes), pixels.reshape(grid)


def class_shares(
    truth: UInt8[np.ndarray, "i j"], grid: tuple[int, int], classes: int
) -> Float[np.ndarray, "h w k"]:
    """The share of each class in each cell of a grid; void pixels have a share that is left out."""
    counts, pixels = class_counts(truth, grid, classes)
    return (counts / np.maximum(pixels, 1)[..., None]).astype(np.float32)


class Cells(NamedTuple):
    """Cells of grids of images."""

    features: np.ndarray  # f32[n, d]
    shares: np.ndarray  # f32[n, k], of the classes


def labeled_grids(
    encoder: Encoder, pixels: Pixels, part: str, rows: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each of these images, in some order: its row, its grid [h, w, d] and its map u8[i, j].

    Args:
      encoder: to compute features with.
      pixels: with the images.
      part: "train" or "test".
      rows: of the part.

    Raises:
      UserError: features are not finite.
    """
    for row, grid in grids_of(encoder, pixels, part, rows):
        check_finite(grid, pixels.name)
        yield row, grid, pixels.truth(part, row)


def labeled_cells(
    encoder: Encoder, pixels: Pixels, rows: np.ndarray, seed: int, limit: int
) -> Iterator[tuple[int, Cells]]:
    """Each of these training images, in some order, with its cells: an equal part of `limit`.

    Args:
      encoder: to compute features with.
      pixels: with the images.
      rows: of the training part.
      seed: of the cells drawn of a grid that has more.
      limit: cells of all images; rounded up, so that each image has as many.

    Raises:
      UserError: features are not finite.
    """
    most = -(-limit // len(rows))
    for row, grid, truth in labeled_grids(encoder, pixels, "train", rows):
        shares = class_shares(truth, grid.shape[:2], len(pixels.classes))
        features, shares = grid.reshape(-1, grid.shape[2]), shares.reshape(-1, shares.shape[2])
        chosen: slice | np.ndarray = slice(None)
        if len(features) > most:
            chosen = np.random.default_rng((seed, row)).permutation(len(features))[:most]
        yield row, Cells(features[chosen].copy(), shares[chosen])
