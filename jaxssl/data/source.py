"""Examples, an image each with its label and regions, and sources of them. Numpy only."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from jaxssl.data.rle import decode_mask
from jaxssl.errors import UserError

Size = tuple[int, int]  # height, width

log = logging.getLogger("jaxssl.data")


class BrokenImage(UserError):
    """An image that cannot be read. The message names it and says why, in one line."""


@dataclasses.dataclass(frozen=True)
class Regions:
    """R regions of one image. They may overlap; pixels are those of the upright original image.

    An *object* is a group of regions that lie inside one another (SAMCLR, section 3); its root is
    its largest region.
    """

    size: Size
    box: np.ndarray  # f32[R, 4]: y0 x0 y1 x1, end-exclusive
    area: np.ndarray  # i64[R]: pixels of the mask, not of the box
    object: np.ndarray  # i64[R]: id of the object the region belongs to
    score: np.ndarray  # f32[R]: the segmenter's confidence, 1 if it has none
    level: np.ndarray  # i64[R]: which parameter set made it, 0 if there is one
    rle: tuple[bytes, ...] = dataclasses.field(repr=False)  # R masks as COCO compressed run lengths

    def __len__(self) -> int:
        return len(self.rle)

    def masks(self) -> np.ndarray:
        """The masks, decoded: bool[R, height, width]."""
        masks = np.zeros((len(self), *self.size), bool)
        for mask, counts in zip(masks, self.rle, strict=True):
            mask[:] = decode_mask(counts, self.size)
        return masks

    def roots(self) -> np.ndarray:
        """Index of the largest region of each object, largest first: i64[objects].

        Of regions of equal area the earlier is the larger.
        """
        by_area = np.argsort(-self.area, kind="stable")
        _, first = np.unique(self.object[by_area], return_index=True)
        roots: np.ndarray = by_area[np.sort(first)]
        return roots

    def largest(self, count: int) -> list[bytes]:
        """Run lengths of at most `count` regions, largest first; of equal ones the earlier."""
        order = np.argsort(-self.area, kind="stable")[:count]
        return [self.rle[index] for index in order]


@dataclasses.dataclass(frozen=True)
class Example:
    """One image of a source, decoded and upright."""

    key: str  # a stable name, unique in the source
    image: np.ndarray  # u8[h, w, 3]
    label: int = -1  # class, -1 if none
    regions: Regions | None = None
    semantic: np.ndarray | None = None  # integer label map [h, w], where the source has one
    depth: np.ndarray | None = None  # f32[h, w], meters, 0 where it is not known
    # The file's own JPEG or PNG bytes, where there is a file.
    encoded: bytes | None = dataclasses.field(default=None, repr=False)
    orientation: int = 1  # EXIF orientation of the file, from which the image was turned upright

    @property
    def size(self) -> Size:
        """Height and width of the image as it is here."""
        return self.image.shape[0], self.image.shape[1]


@runtime_checkable
class Source(Protocol):
    """A random-access sequence of examples. Picklable, so that worker processes can open it."""

    spec: str  # the string that opened it, such as `folder:photos`
    class_names: tuple[str, ...]  # () if unlabeled
    has_regions: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """The example at `index`; raises `BrokenImage` if it cannot be read."""

    def fingerprint(self) -> str:
        """Changes whenever what `__getitem__` returns may have changed; names cached canvases."""


@runtime_checkable
class Keyed(Protocol):
    """A source that knows the keys of its images without decoding them."""

    def keys(self) -> list[str]:
        """The keys of the images, in their order."""


@runtime_checkable
class Sized(Protocol):
    """A source that knows the size of an image without decoding it."""

    def image_size(self, index: int) -> Size:
        """Height and width of the upright image; raises `BrokenImage` if it cannot be read."""


@runtime_checkable
class WithCounts(Protocol):
    """A source that knows the largest numbers of objects and regions in an image of it."""

    max_objects: int
    max_regions: int


@runtime_checkable
class Resizing(Protocol):
    """A source that shrinks an image faster than by decoding all of it first."""

    def resized(self, index: int, fit: Callable[[Size], Size]) -> tuple[Example, Size]:
        """The example with its image resized to `fit(size)`; its true height and width."""


def keys_of(source: Source) -> Sequence[str]:
    """The keys of all images; a source that does not know them is decoded."""
    if isinstance(source, Keyed):
        return source.keys()
    return [source[index].key for index in range(len(source))]


@functools.cache
def report(spec: str, remark: str) -> None:
    """Logs a remark on a source the first time that it is opened."""
    if remark:
        log.info("%s%s", spec, remark)
