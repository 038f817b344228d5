"""COCO's compressed run lengths: masks and label maps to runs, and back as far as is needed.

A mask is a list of run lengths down its columns, column after column: pixels outside, inside,
outside, ... Lengths are kept as the difference to the length two before (from the fourth on), in
groups of 5 bits, lowest first, one printable character each (pycocotools, common/maskApi.c).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.errors import UserError

MAX_POLYGON = 2**20  # pixels along an outline
MAX_MASK = 2**31  # pixels of a mask: pycocotools counts with 32 bits
_DIGITS = 7  # of a number at most: 35 bits


def run_ends(rle: Sequence[bytes]) -> list[np.ndarray]:
    """The ends of the runs of each mask, i64[n], in pixels counted down the columns."""
    lengths, mask = _run_lengths(rle)
    starts = np.searchsorted(mask, np.arange(1, len(rle)))
    return [np.cumsum(runs) for runs in np.split(lengths, starts)][: len(rle)]


def _run_lengths(rle: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The lengths of all runs of R masks, i64[n], and of which mask each is, i64[n].

    Raises `UserError` if the characters are none of run lengths.
    """
    chars = np.frombuffer(b"".join(rle), np.uint8).astype(np.int64) - 48
    known = (chars >= 0) & (chars < 0x40)
    last = chars & 0x20 == 0  # of the characters of one number
    ends = np.cumsum([len(counts) for counts in rle], dtype=np.int64)
    digits = np.diff(np.flatnonzero(last), prepend=-1)
    if not known.all() or not last[ends[ends > 0] - 1].all() or (digits > _DIGITS).any():
        raise UserError("its run lengths are damaged")
    starts = np.flatnonzero(last) - digits + 1
    place = 5 * (np.arange(len(chars)) - np.repeat(starts, digits))
    lengths = np.add.reduceat((chars & 0x1F) << place, starts) if len(starts) else starts
    lengths -= (chars[last] & 0x10 > 0) * (1 << 5 * digits)  # two's complement
    mask = np.searchsorted(ends, starts, side="right")
    number = np.arange(len(mask)) - np.searchsorted(mask, mask)  # in the mask
    for each in (number % 2 == 1, (number % 2 == 0) & (number > 0)):
        total = np.cumsum(lengths * each)  # less what it was at the start of the mask
        lengths[each] = (total - total[np.arange(len(mask)) - number])[each]
    return lengths, mask


def check_masks(rle: Sequence[bytes], size: tuple[int, int]) -> None:
    """Raises `UserError` unless all masks have `size` height x width pixels.

    pycocotools reads and writes out of bounds where they have not.
    """
    pixels = size[0] * size[1]
    if not (min(size) > 0 and pixels < MAX_MASK):
        raise UserError(f"it is of {size[0]} x {size[1]} pixels")
    lengths, mask = _run_lengths(rle)
    inside = (lengths >= 0) & (lengths <= pixels)
    covered = np.bincount(mask, lengths * inside, len(rle))
    if not inside.all() or (covered != pixels).any():
        raise UserError(f"its run lengths are not those of {size[0]} x {size[1]} pixels")


def encode_mask(mask: np.ndarray) -> bytes:
    """The run lengths of a mask bool[h, w]."""
    return encode_changes(_changes(mask), mask.shape)


def encode_labels(labels: np.ndarray) -> dict[int, bytes]:
    """The run lengths of the pixels of each value in a label map of integers [h, w], ascending.

    One pass over the map, however many values there are.
    """
    starts = _changes(labels)
    if not len(starts) or starts[0] > 0:
        starts = np.insert(starts, 0, 0)
    ends = np.append(starts[1:], labels.size)
    column, row = np.divmod(starts, labels.shape[0])
    value = labels[row, column]
    order = np.argsort(value, kind="stable")
    values, first = np.unique(value[order], return_index=True)
    runs = np.stack([starts[order], ends[order]], axis=1)
    parts = np.split(runs, first[1:])
    return {
        int(v): encode_changes(part.ravel(), labels.shape)
        for v, part in zip(values, parts, strict=True)
    }


def _changes(values: np.ndarray) -> np.ndarray:
    """The pixels, counted down the columns, whose value is not that of the one before.

    The first is compared with 0.

    Rows are compared with rows: transposing the whole array would take several times as long.
    """
    height, width = values.shape
    row, column = np.divmod(np.flatnonzero(values[1:] != values[:-1]), width)
    before = np.concatenate([np.zeros(1, values.dtype), values[-1, :-1]])
    top = np.flatnonzero(values[0] != before)
    return np.sort(np.concatenate([column * height + row + 1, top * height]))


def from_coco(segmentation: Any, size: tuple[int, int]) -> bytes:
    """The run lengths of a mask of `size` height, width as COCO's JSON holds it.

    Polygons, or the counts of runs, which may be compressed. Raises `UserError` if it is neither
    of that size.
    """
    height, width = size
    check_masks([], size)
    if isinstance(segmentation, list):
        polygons = [_polygon(points) for points in segmentation]
        if not polygons:
            raise UserError("it has no polygon")
        counts = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"]
    elif not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise UserError(f"it has no run lengths of {height} x {width} pixels")
    else:
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            whole = all(type(run) is int and run >= 0 for run in counts)
            if not whole or sum(counts) != height * width:
                raise UserError(f"its run lengths are not those of {height} x {width} pixels")
            counts = coco_mask.frPyObjects(segmentation, height, width)["counts"]
        if isinstance(counts, str):
            counts = counts.encode(errors="surrogatepass")
    if not isinstance(counts, bytes):
        raise UserError("it has no run lengths")
    check_masks([counts], size)
    return _without_empty_runs(counts, size)


def _without_empty_runs(counts: bytes, size: tuple[int, int]) -> bytes:
    """Joins runs; pycocotools compares masks only up to the first run of no pixel in both."""
    (ends,) = run_ends([counts])
    if np.diff(ends).all():  # the first run may be empty: the mask begins at once
        return counts
    position, turns = np.unique(ends, return_counts=True)
    return encode_changes(position[(turns % 2 == 1) & (position < ends[-1])], size)


def _polygon(points: Any) -> list[float]:
    """x0, y0, x1, y1, ..., of three points or more that pycocotools can go along."""
    numbers = isinstance(points, list) and all(type(p) in (int, float) for p in points)
    if not numbers or len(points) < 6 or len(points) % 2:
        raise UserError("a polygon of it is no list x, y, x, y, ... of three points or more")
    near = all(-MAX_POLYGON <= p <= MAX_POLYGON for p in points)
    steps = np.abs(np.diff(np.reshape(points, (-1, 2)), axis=0)) if near else np.inf
    if np.sum(steps) > MAX_POLYGON:
        raise UserError(f"a polygon of it is longer than {MAX_POLYGON} pixels, or no numbers")
    return [float(p) for p in points]


def encode_changes(changes: np.ndarray, size: tuple[int, ...]) -> bytes:
    """The characters for the pixels at which a mask of `size` height, width turns over."""
    height, width = size
    if len(changes) and changes[-1] == height * width:
        changes = changes[:-1]
    lengths = np.diff(np.concatenate([[0], changes, [height * width]]))
    coded = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    counts: bytes = coded["counts"]
    return counts


def decode_mask(counts: bytes, size: tuple[int, int]) -> np.ndarray:
    """The mask bool[h, w] of run lengths; `size` is height, width."""
    (ends,) = run_ends([counts])
    inside = np.repeat(np.arange(len(ends)) % 2 == 1, np.diff(ends, prepend=0))
    return inside.reshape(size[::-1]).T  # runs go down the columns


def mask_areas(rle: Sequence[bytes]) -> np.ndarray:
    """The number of pixels in each mask: i64[R]. pycocotools' own `area` fails from 256 on."""
    return np.array([np.diff(ends, prepend=0)[1::2].sum() for ends in run_ends(rle)], np.int64)


def mask_boxes(rle: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """y0 x0 y1 x1 around the pixels of each mask, end-exclusive: i64[R, 4]."""
    x, y, width, height = coco_mask.toBbox(coco(rle, size)).reshape(-1, 4).T
    return np.stack([y, x, y + height, x + width], axis=1).astype(np.int64)


def coco(rle: Sequence[bytes], size: tuple[int, int]) -> list[dict[str, object]]:
    """Run lengths as pycocotools takes them."""
    return [{"size": list(size), "counts": counts} for counts in rle]


def bit_planes(
    rle: Sequence[bytes], size: tuple[int, int], shape: tuple[int, int], planes: int
) -> np.ndarray:
    """The regions that cover each point of a lattice that is spread evenly over the image, as bits.

    Args:
      rle: run lengths of the regions' masks, at most 32 for each plane.
      size: height and width of the masks.
      shape: rows and columns of the lattice; the masks are read at the pixel under each point.
      planes: how many.

    Returns:
      u32[rows, columns, planes]: bit r % 32 of plane r // 32 says whether region r covers a point.

    A run's end turns the region's bit over in all later pixels, so the bits of all regions are one
    running exclusive-or down the columns of cells.
    """
    height, width = size
    rows, columns = shape
    y = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
    middle = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
    x, column = np.unique(middle, return_inverse=True)
    position = (x[:, None] * height + y).ravel()  # ascending
    turned = np.zeros((len(position) + 1, planes), np.uint32)
    for r, ends in enumerate(run_ends(rle)):
        at = np.searchsorted(position, ends)
        np.bitwise_xor.at(turned[:, r // 32], at, np.uint32(1 << r % 32))
    bits = np.bitwise_xor.accumulate(turned[:-1], axis=0).reshape(len(x), rows, planes)
    return bits[column].transpose(1, 0, 2)
