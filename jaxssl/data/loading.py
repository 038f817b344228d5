"""Examples brought to arrays of fixed shapes, so that they stack, cache and gather."""

import contextlib
import functools
import logging
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from jaxssl.data.source import BrokenImage, Example, Resizing, Size, Sized, Source
from jaxssl.errors import UserError

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[tuple[int, ...], np.dtype]]

log = logging.getLogger("jaxssl.data")
_UNKNOWN = {"label": -1, "semantic": 255, "depth": 0}  # of an image, or of each pixel
_TRIES = 10  # images that may be broken in a row
MAX_BROKEN = 0.01  # share of the images that may be broken; see `too_many`


@runtime_checkable
class ArraySpec(Protocol):
    """The arrays made of an example: a frozen dataclass of plain values, which name a store."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def arrays(self) -> Shapes:
        """Shape and type of each array, by name."""

    def used(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The number of entries, from the start, in use of each array of varying length."""

    def expected_bytes(self, sizes: Sequence[Size]) -> float:
        """Mean number of bytes in use, of images of these original sizes."""

    def fit(self, size: Size) -> Size:
        """Height and width to which an image of `size` is resized while it is decoded."""

    def make(self, example: Example, size: Size) -> Arrays:
        """The arrays of an example whose image, of the original `size`, may be resized already."""


def load_arrays(source: Source, index: int, spec: ArraySpec) -> Arrays:
    """The arrays of an image of a source, or of the next readable one: each broken one is named."""
    arrays, broken = find_arrays(source, index, spec)
    for reason in broken.values():
        warn_broken(reason)
    return arrays


def stack_arrays(source: Source, indices: Iterable[int] | np.ndarray, spec: ArraySpec) -> Arrays:
    """The arrays of some images, stacked."""
    loaded = [load_arrays(source, int(i), spec) for i in indices]
    return {name: np.stack([arrays[name] for arrays in loaded]) for name in spec.arrays()}


def row_bytes(spec: ArraySpec) -> dict[str, int]:
    """Bytes that one image takes in each array."""
    return {n: math.prod(shape) * dtype.itemsize for n, (shape, dtype) in spec.arrays().items()}


def sample_sizes(source: Source) -> tuple[Size, ...]:
    """Height and width of up to 1,000 images, or 100 if they must be decoded; always the same ones.

    `UserError` if none of them can be read.
    """
    return _sampled_sizes(source) if isinstance(source, Hashable) else _sample_sizes(source)


def _sample_sizes(source: Source) -> tuple[Size, ...]:
    sized = isinstance(source, Sized)
    sizes = []
    for index in np.random.default_rng(0).permutation(len(source))[: 1000 if sized else 100]:
        try:
            if isinstance(source, Sized):
                sizes.append(source.image_size(int(index)))
            else:
                height, width, _ = source[int(index)].image.shape
                sizes.append((height, width))
        except BrokenImage:
            continue  # it is named when it is to be used
    if not sizes:
        raise UserError(f"{source.spec}: none of the images looked at can be read; check them")
    return tuple(sizes)


_sampled_sizes = functools.lru_cache(2)(_sample_sizes)  # a start asks twice: the disk may be slow


def find_arrays(source: Source, index: int, spec: ArraySpec) -> tuple[Arrays, dict[int, str]]:
    """The arrays at `index` or the first after it that can be read; why which ones could not.

    An image that stands in for another has no labels, or evaluation would count it twice.
    """
    broken: dict[int, str] = {}
    for candidate in range(index, index + min(_TRIES, len(source))):
        candidate %= len(source)
        try:
            arrays = make_arrays(source, candidate, spec)
        except BrokenImage as error:
            broken[candidate] = str(error)
            continue
        for name in arrays.keys() & _UNKNOWN.keys() if broken else ():
            arrays[name] = np.full_like(arrays[name], _UNKNOWN[name])
        return arrays, broken
    raise UserError(
        f"{source.spec}: {len(broken)} images in a row cannot be read, the last for this reason: "
        f"{broken[candidate]}; check that the images are still there"
    )


def make_arrays(source: Source, index: int, spec: ArraySpec) -> Arrays:
    """The arrays of an image of a source; raises `BrokenImage` if it cannot be read."""
    if isinstance(source, Resizing):
        return spec.make(*source.resized(index, spec.fit))
    example = source[index]
    return spec.make(example, example.size)


def readable_now(source: Source, broken: Iterable[int], spec: ArraySpec) -> set[int]:
    """Those of the broken images that can be read now: a disk or a decoder may have been missing.

    The identity of the source does not tell: their files are what they were.
    """
    readable = set()
    for index in broken:
        with contextlib.suppress(BrokenImage):
            make_arrays(source, index, spec)
            readable.add(index)
    return readable


@functools.cache
def warn_broken(reason: str) -> None:
    """Names a broken image, the first time that it is met."""
    log.warning("skipped an image that cannot be read: %s", reason)


def too_many(broken: int, images: int, share: float = MAX_BROKEN) -> bool:
    """Whether so many of the images are broken that something else must be wrong.

    One image may be, of however few, unless the share is 0.
    """
    return broken > max(share > 0, share * images)


def describe_broken(source: Source, reasons: Sequence[str]) -> str:
    """How many images of a source cannot be read, and why some of them cannot."""
    some = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
    return f"{source.spec}: {len(reasons)} of {len(source)} images cannot be read: {some}"


class BrokenImages:
    """The images of a source that were found broken so far, by whichever process read them."""

    def __init__(self, source: Source, spec: ArraySpec) -> None:
        self._source, self._spec = source, spec
        self._reasons: dict[int, str] = {}

    def add(self, indices: np.ndarray, skipped: np.ndarray) -> None:
        """Takes images by index, and how many after each, itself included, were skipped as broken.

        Names those that are new; `UserError` if more than the share `MAX_BROKEN` are broken.
        """
        count = len(self._source)
        skips = zip(indices.tolist(), skipped.tolist(), strict=True)
        found = {(first + i) % count for first, number in skips for i in range(number)}
        for index in sorted(found - self._reasons.keys()):
            self._reasons[index] = self._why(index)
            so_far = f"{len(self._reasons)} of {count} so far"
            log.warning(
                "skipped an image that cannot be read, %s: %s", so_far, self._reasons[index]
            )
        if too_many(len(self._reasons), count):
            said = describe_broken(self._source, [*self._reasons.values()])
            allowed = f"at most {MAX_BROKEN:.0%} may be broken"
            raise UserError(f"{said}; {allowed}: repair or remove them")

    def _why(self, index: int) -> str:
        try:
            make_arrays(self._source, index, self._spec)
        except BrokenImage as error:
            return str(error)
        return f"number {index}, which can be read now"


def read_map(example: Example, name: str, size: Size, shape: Size) -> np.ndarray:
    """The values of a map at the centers of `shape` equal parts of the image.

    Args:
      example: of an image with that map.
      name: "semantic", its label maps, u8, or "depth", f32.
      size: height and width of the original image, and so of the map.
      shape: rows and columns of the result.

    Raises:
      BrokenImage: the example has no such map.
      UserError: the map has another size, or labels that are no bytes.
    """
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
    return pick(values, shape).astype(MAPS[name])


def pick(values: np.ndarray, size: Size) -> np.ndarray:
    """Values [h, w, ...] at another size: each the one nearest to its center."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, values.shape[:2], strict=True)
    )
    return values[rows[:, None], columns]


MAPS: dict[str, np.dtype] = {"semantic": np.dtype(np.uint8), "depth": np.dtype(np.float32)}


def check_maps(maps: tuple[str, ...]) -> None:
    """Raises UserError if there are no maps of these names."""
    if unknown := set(maps) - set(MAPS):
        raise UserError(f"maps {sorted(unknown)} are unknown; there are {list(MAPS)}")
