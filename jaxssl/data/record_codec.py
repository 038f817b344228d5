"""One `Example` as the bytes of one record: a tf.train.Example with the features

    image/encoded, image/key       bytes        the JPEG or PNG file, upright; a stable name
    image/height, image/width      int64        pixels, after EXIF orientation
    label                          int64        class, -1 if none
    regions/box                    float32[4R]  y0 x0 y1 x1, end-exclusive
    regions/area, object, level    int64[R]     fields of `Regions`
    regions/score                  float32[R]
    regions/rle                    bytes[R]     COCO compressed run lengths
    semantic/png                   bytes        label map, where the source has one

Without regions/* the image was not segmented; with empty ones no region was found.
"""

import io
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from jaxssl.data import tfrecord
from jaxssl.data.decode import decode_label_map, decode_upright
from jaxssl.data.rle import check_masks
from jaxssl.data.source import BrokenImage, Example, Regions, Size
from jaxssl.errors import UserError

MAX_LABEL = 65535  # of a label map in a record


def encode_example(example: Example) -> bytes:
    """The bytes of one record; the same example always gives the same bytes."""
    height, width = example.size
    features: dict[str, tfrecord.Feature] = {
        "image/encoded": [example.encoded or _to_png(example.image)],
        "image/key": [os.fsencode(example.key)],
        "image/height": np.array([height]),
        "image/width": np.array([width]),
        "label": np.array([example.label]),
    }
    regions = example.regions
    if regions is not None:
        features |= {
            "regions/box": np.asarray(regions.box, np.float32),
            "regions/area": np.asarray(regions.area, np.int64),
            "regions/object": np.asarray(regions.object, np.int64),
            "regions/score": np.asarray(regions.score, np.float32),
            "regions/level": np.asarray(regions.level, np.int64),
            "regions/rle": list(regions.rle),
        }
    if example.semantic is not None:
        features["semantic/png"] = [_label_map_to_png(example.key, example.semantic)]
    return tfrecord.encode_features(features)


def decode_example(data: bytes) -> Example:
    """The example in one record; raises `BrokenImage` if its image cannot be decoded."""
    return decode_resized_example(data, lambda size: size)[0]


def decode_resized_example(data: bytes, fit: Callable[[Size], Size]) -> tuple[Example, Size]:
    """The example with its image resized to `fit(size)`; its true height and width.

    Raises `BrokenImage` if the image cannot be decoded, and another `UserError` if a feature is
    missing, or not what the others say.
    """
    features = tfrecord.decode_features(data)
    key, encoded = _read_key(features), tfrecord.take(features, "image/encoded", bytes, 1)[0]
    image, size, orientation = decode_upright(encoded, key, fit)
    recorded = _read_size(features)
    if size != recorded:
        raise BrokenImage(f"{key}: has {size} pixels where its record says {recorded}")
    semantic = None
    if "semantic/png" in features:
        encoded_map = tfrecord.take(features, "semantic/png", bytes, 1)[0]
        semantic = decode_label_map(encoded_map, key).astype(np.int32)
        if semantic.shape != size:
            raise UserError(f"its semantic/png has {semantic.shape} pixels, not {size}")
    label = int(tfrecord.take(features, "label", np.int64, 1)[0])
    if not -1 <= label < 2**31:
        raise UserError(f"its label is {label}")
    example = Example(
        key=key,
        image=image,
        label=label,
        regions=_decode_regions(features, size),
        semantic=semantic,
        encoded=encoded,
        orientation=orientation,
    )
    return example, size


def read_image_size(data: bytes) -> Size:
    """Height and width of the image in one record."""
    return _read_size(tfrecord.decode_features(data))


def read_key(data: bytes) -> str:
    """The key of the example in one record."""
    return _read_key(tfrecord.decode_features(data))


def _read_size(features: Mapping[str, Any]) -> Size:
    height, width = (
        int(tfrecord.take(features, f"image/{n}", np.int64, 1)[0]) for n in ("height", "width")
    )
    if min(height, width) < 1:
        raise UserError(f"its image has {height} x {width} pixels")
    return height, width


def _read_key(features: Mapping[str, Any]) -> str:
    return os.fsdecode(tfrecord.take(features, "image/key", bytes, 1)[0])


def _decode_regions(features: Mapping[str, Any], size: Size) -> Regions | None:
    if "regions/rle" not in features:
        return None
    count = len(features["regions/rle"])
    regions = Regions(
        size=size,
        box=tfrecord.take(features, "regions/box", np.float32, 4 * count).reshape(-1, 4),
        area=tfrecord.take(features, "regions/area", np.int64, count),
        object=tfrecord.take(features, "regions/object", np.int64, count),
        score=tfrecord.take(features, "regions/score", np.float32, count),
        level=tfrecord.take(features, "regions/level", np.int64, count),
        rle=tuple(tfrecord.take(features, "regions/rle", bytes, count)),
    )
    check_masks(regions.rle, size)
    if not np.isfinite(regions.box).all() or (regions.area < 0).any():
        raise UserError("a box or an area of it is no number of pixels")
    low, high = np.floor(regions.box[:, :2]), np.floor(regions.box[:, 2:])
    fits = ((low >= 0) & (low < high) & (regions.box[:, 2:] <= size)).all(axis=1)
    if wrong := np.flatnonzero(~fits & (regions.area > 0)).tolist():
        box = regions.box[wrong[0]].tolist()
        raise UserError(f"its box {box} is empty or not in the image, of {size} pixels")
    return regions


def _to_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _label_map_to_png(key: str, semantic: np.ndarray) -> bytes:
    if semantic.min() < 0 or semantic.max() > MAX_LABEL:
        raise UserError(
            f"{key}: its label map holds {semantic.min()}..{semantic.max()}; a record takes 0 to "
            f"{MAX_LABEL}: save it with numbers of classes"
        )
    return _to_png(semantic.astype(np.uint8 if semantic.max() < 256 else np.uint16))
