"""Images of a source with their regions: read, segmented, shrunk, counted."""

import concurrent.futures
import contextlib
import dataclasses
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxssl.data import decode
from jaxssl.data.loading import pick
from jaxssl.data.rle import decode_mask, encode_mask, mask_areas
from jaxssl.data.source import BrokenImage, Example, Regions, Resizing, Size, Source
from mask_tools.region_statistics import MIN_AREA, Row, measure
from mask_tools.regions import Region, collect
from mask_tools.segmenters import Batched, Segmenter, is_network


class Measured(NamedTuple):
    """An image as it is written, with its regions and counts."""

    example: Example
    row: Row
    vanished: int  # regions that cover no pixel of the image once it is shrunk


def segment_images(
    source: Source, indices: range, segmenter: Segmenter | None, max_side: int | None
) -> Iterator[Measured | BrokenImage]:
    """Images of a source with their regions and counts, or why they have none, in their order.

    While a network is at work on some images, the next are read, and the regions of those before
    are grouped. The order of the steps is that of `segment`.

    Args:
      source: of the images.
      indices: of those to segment.
      segmenter: finds the regions; None keeps those that the examples carry.
      max_side: of the images as they are returned, pixels; None: they are not shrunk.
    """
    size = segmenter.images_per_batch if isinstance(segmenter, Batched) else 1
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]

    def load(batch: range) -> list[Example | BrokenImage]:
        return [_load(source, index, segmenter, max_side) for index in batch]

    def find(loaded: list[Example | BrokenImage]) -> list[_Found]:
        return _find(source, loaded, segmenter)

    def finish(found: list[_Found]) -> list[Measured | BrokenImage]:
        return [_finish(source, one, max_side) for one in found]

    if not is_network(segmenter):
        for batch in batches:
            yield from finish(find(load(batch)))
        return
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # the network stays in this thread
        loading = pool.submit(load, batches[0])
        finishing: list[concurrent.futures.Future[list[Measured | BrokenImage]]] = []
        for following in (*batches[1:], None):
            loaded = loading.result()
            if following is not None:
                loading = pool.submit(load, following)
            found = find(loaded)
            if finishing:
                yield from finishing.pop().result()
            finishing.append(pool.submit(finish, found))
        yield from finishing.pop().result()


def segment(example: Example, segmenter: Segmenter | None, max_side: int | None) -> Example:
    """The example with the regions that `segmenter` finds; None keeps those that it carries.

    An image with a side over `max_side` pixels is shrunk before it is segmented, or after, with its
    masks, if they were made for it as it is; and then its file is a new one. So it is if the image
    is stored on its side: not every reader of records turns it as its EXIF orientation says.
    """
    example = _prepare(example, segmenter, max_side)
    return _attach(example, segmenter(example) if segmenter else None, max_side)[0]


# An image with what was found in it, None if it keeps its own regions; or why it is left out.
_Found = tuple[Example, list[Region] | BrokenImage | None] | BrokenImage


@contextlib.contextmanager
def _naming(source: Source, images: str) -> Iterator[None]:
    """Lets what is raised, if it is a bug, say for which images of the source."""
    try:
        yield
    except BrokenImage:
        raise
    except Exception as error:
        error.add_note(f"Raised for the image {images} of {source.spec}.")
        raise


def _load(
    source: Source, index: int, segmenter: Segmenter | None, max_side: int | None
) -> Example | BrokenImage:
    """The image as the segmenter is to see it."""
    with _naming(source, f"number {index}"):
        try:
            return _prepare(_read(source, index, segmenter, max_side), segmenter, max_side)
        except BrokenImage as error:
            return error


def _find(
    source: Source, loaded: list[Example | BrokenImage], segmenter: Segmenter | None
) -> list[_Found]:
    """The images with what the segmenter finds in them."""
    examples = [one for one in loaded if isinstance(one, Example)]
    with _naming(source, " or ".join(example.key for example in examples)):
        if isinstance(segmenter, Batched):
            regions = iter(segmenter.segment_all(examples))
        else:
            regions = (_call(segmenter, example) for example in examples)
        return [one if isinstance(one, BrokenImage) else (one, next(regions)) for one in loaded]


def _call(segmenter: Segmenter | None, example: Example) -> list[Region] | BrokenImage | None:
    try:
        return segmenter(example) if segmenter else None
    except BrokenImage as error:
        return error


def _finish(source: Source, found: _Found, max_side: int | None) -> Measured | BrokenImage:
    """The image as it is written, and its counts."""
    if isinstance(found, BrokenImage):
        return found
    example, regions = found
    if isinstance(regions, BrokenImage):
        return regions
    with _naming(source, example.key):
        example, vanished = _attach(example, regions, max_side)
        return Measured(example, measure(example, min_area=MIN_AREA), vanished)


def _read(source: Source, index: int, segmenter: Segmenter | None, max_side: int | None) -> Example:
    """The example; an image too large to be decoded whole is shrunk meanwhile, where it may be."""
    if max_side is None or segmenter is None or segmenter.needs_original_size:
        return source[index]
    if not isinstance(source, Resizing):
        return source[index]

    def fit(size: Size) -> Size:
        if size[0] * size[1] <= decode.MAX_DECODED or max(size) <= max_side:
            return size
        factor = min(2 * max_side, max(size) - 1) / max(size)  # `shrink` does the rest
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    return source.resized(index, fit)[0]


def _prepare(example: Example, segmenter: Segmenter | None, max_side: int | None) -> Example:
    if segmenter is None:
        return example
    example = dataclasses.replace(example, regions=None)
    return example if segmenter.needs_original_size else shrink(example, max_side)


def _attach(
    example: Example, found: list[Region] | None, max_side: int | None
) -> tuple[Example, int]:
    """The image as it is written, with its regions, and how many of them vanished."""
    if found is not None:
        example = dataclasses.replace(example, regions=collect(found, example.size))
    there = len(example.regions or ())
    example = shrink(example, max_side)
    if example.encoded and example.orientation != 1:
        example = _encode_again(example, Image.fromarray(example.image))
    return example, there - len(example.regions or ())


def _encode_again(example: Example, picture: Image.Image) -> Example:
    """The example with another picture, in a file of the same kind."""
    buffer = io.BytesIO()
    if (example.encoded or b"").startswith(b"\xff\xd8"):
        picture.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        picture.save(buffer, "PNG")
    encoded = buffer.getvalue()
    image = decode.decode_image(encoded, example.key)  # what a reader of the record will see
    return dataclasses.replace(example, encoded=encoded, image=image, orientation=1)


def shrink(example: Example, max_side: int | None) -> Example:
    """The example with no side over `max_side` pixels: image, regions and label map alike."""
    height, width = example.size
    if max_side is None or max(height, width) <= max_side:
        return example
    factor = max_side / max(height, width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    picture = Image.fromarray(example.image).resize(size[::-1], Image.Resampling.BICUBIC)
    return dataclasses.replace(
        _encode_again(example, picture),
        regions=None if example.regions is None else _shrink_regions(example.regions, size),
        semantic=None if example.semantic is None else pick(example.semantic, size),
    )


def _shrink_regions(regions: Regions, size: Size) -> Regions:
    """The regions at another size; each stays in its object, those that vanish are left out."""
    shrunk = [encode_mask(pick(decode_mask(rle, regions.size), size)) for rle in regions.rle]
    kept = np.flatnonzero(mask_areas(shrunk))
    found = [Region(shrunk[i], size, float(regions.score[i]), int(regions.level[i])) for i in kept]
    return dataclasses.replace(collect(found, size), object=regions.object[kept])
