"""COCO's compressed run lengths, read without making the masks they stand for.

A mask is a list of run lengths down its columns, column after column: pixels outside, inside,
outside, ... Lengths are kept as the difference to the length two before (from the fourth on), in
groups of 5 bits, lowest first, one printable character each (pycocotools, common/maskApi.c).
"""

import numpy as np


def run_ends(counts: bytes) -> np.ndarray:
    """Where each run of a mask ends, i64[n], counting pixels down the columns."""
    chars = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(chars):
        return np.zeros(0, np.int64)
    last = chars & 0x20 == 0  # of the characters of one number
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    digits = np.diff(starts, append=len(chars))
    place = 5 * (np.arange(len(chars)) - np.repeat(starts, digits))
    lengths = np.add.reduceat((chars & 0x1F) << place, starts)
    lengths -= (chars[last] & 0x10 > 0) * (1 << 5 * digits)  # two's complement
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return np.cumsum(lengths)


def bit_planes(rle: list[bytes], size: tuple[int, int], cells: int, planes: int) -> np.ndarray:
    """u32[cells, cells, planes]: bit r % 32 of plane r // 32 tells whether region r covers a cell.

    The masks, of one `size` = height, width, are read at the pixel under each cell's centre.

    A run's end turns the region's bit over in all later pixels, so the bits of all regions are one
    running exclusive-or down the columns of cells.
    """
    height, width = size
    centre = np.arange(cells) + 0.5
    y = (centre * height / cells).astype(np.int64)
    x, column = np.unique((centre * width / cells).astype(np.int64), return_inverse=True)
    position = (x[:, None] * height + y).ravel()  # ascending
    turned = np.zeros((len(position) + 1, planes), np.uint32)
    for r, counts in enumerate(rle):
        at = np.searchsorted(position, run_ends(counts))
        np.bitwise_xor.at(turned[:, r // 32], at, np.uint32(1 << r % 32))
    bits = np.bitwise_xor.accumulate(turned[:-1], axis=0).reshape(len(x), cells, planes)
    return bits[column].transpose(1, 0, 2)
