"""Examples made smaller: image, regions and label map alike."""

import dataclasses
import io

import numpy as np
from PIL import Image

from jaxssl.data.decode import decode_image
from jaxssl.data.loading import pick
from jaxssl.data.rle import decode_mask, encode_mask, mask_areas
from jaxssl.data.source import Example, Regions
from mask_tools.regions import Region, collect


def shrink(example: Example, max_side: int | None) -> Example:
    """The example with no side over `max_side` pixels: image, regions and label map alike."""
    height, width = example.image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return example
    factor = max_side / max(height, width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    picture = Image.fromarray(example.image).resize(size[::-1], Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if (example.encoded or b"").startswith(b"\xff\xd8"):
        picture.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        picture.save(buffer, "PNG")
    encoded = buffer.getvalue()
    return dataclasses.replace(
        example,
        encoded=encoded,
        image=decode_image(encoded, example.key),  # what a reader of the record will see
        regions=None if example.regions is None else _shrink_regions(example.regions, size),
        semantic=None if example.semantic is None else pick(example.semantic, size),
    )


def _shrink_regions(regions: Regions, size: tuple[int, int]) -> Regions:
    """The regions at another size; each stays in its object, those that vanish are left out."""
    shrunk = [encode_mask(pick(decode_mask(rle, regions.size), size)) for rle in regions.rle]
    kept = np.flatnonzero(mask_areas(shrunk))
    found = [Region(shrunk[i], size, float(regions.score[i]), int(regions.level[i])) for i in kept]
    return dataclasses.replace(collect(found, size), object=regions.object[kept])
