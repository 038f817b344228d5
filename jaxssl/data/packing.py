"""Arrays of images of different length, one after the other on pages of one length.

So images of different size take the memory that each needs, and not that of the largest. An array
of several pages can be larger than 2**31 entries, which no index of 32 bits could go through.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import numpy as np

PAGE_BYTES = 2**28
DEVICE_SHARE = 0.3  # of an accelerator's memory, for images: the rest is for the network


@dataclasses.dataclass(frozen=True)
class Packing:
    """The arrays of images, with the page and the place on it of each image."""

    rows: np.ndarray  # [n, length, ...]: of each image, in use from the start
    used: np.ndarray  # i64[n]
    page: np.ndarray  # i32[n]
    start: np.ndarray  # i32[n]
    page_length: int

    @property
    def num_pages(self) -> int:
        """The number of pages, at least one."""
        return int(self.page[-1]) + 1

    @property
    def nbytes(self) -> int:
        """Bytes of all pages."""
        entry = self.rows.dtype.itemsize * int(np.prod(self.rows.shape[2:]))
        return self.num_pages * self.page_length * entry

    def pages(self) -> Iterator[np.ndarray]:
        """Each page [page_length, ...], zeros where nothing lies."""
        first = np.searchsorted(self.page, np.arange(self.num_pages + 1))
        for begin, end in itertools.pairwise(first):
            page = np.zeros((self.page_length, *self.rows.shape[2:]), self.rows.dtype)
            for image in range(begin, end):
                length, start = self.used[image], self.start[image]
                page[start : start + length] = self.rows[image, :length]
            yield page


def pack(rows: np.ndarray, used: np.ndarray, page_bytes: int = PAGE_BYTES) -> Packing:
    """The packing of images in their order: rows [n, length, ...], of which `used` i64[n] count.

    A page has about `page_bytes`, or what the longest image takes if that is more.
    """
    entry = rows.dtype.itemsize * int(np.prod(rows.shape[2:]))
    total = np.concatenate([[0], np.cumsum(used)])
    longest, everything = int(used.max()), int(total[-1])
    number = -(-everything * entry // page_bytes)
    # At the end of a page less than the longest image is missing, so that the last one is full too.
    page_length = min(-(-everything // number) + longest, everything)
    page = np.zeros(len(used), np.int32)
    begin = number = 0
    while begin < len(used):
        end = int(np.searchsorted(total, total[begin] + page_length, side="right")) - 1
        page[begin:end] = number
        begin, number = end, number + 1
    first = np.searchsorted(page, page)  # of the images on the page of each
    start = (total[:-1] - total[first]).astype(np.int32)
    return Packing(rows, used, page, start, page_length)


def pack_varying(
    arrays: Mapping[str, np.ndarray], used: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray | Packing]:
    """Packs the arrays [n, length, ...] of which images use different lengths i64[n]."""
    return {n: pack(array, used[n]) if n in used else array for n, array in arrays.items()}
