"""Annotations that are images: a label map per image, or several where several people drew one.

Files are found by the key of the image, its path in its folder: under the same path with another
ending, or under its name alone.
"""

import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from skimage.measure import label as connected

from jaxssl.data.example import BrokenImage, Example


def find(root: pathlib.Path, key: str, endings: Sequence[str]) -> pathlib.Path:
    """The file of an image: with the first ending that there is; `BrokenImage` if none is."""
    stem = pathlib.PurePath(key).with_suffix("")
    for ending in endings:
        for place in (stem.parent, pathlib.PurePath()):
            path = root / place / f"{stem.name}{ending}"
            if path.is_file():
                return path
    raise BrokenImage(f"{key}: has no annotation {root / stem.name}{endings[0]}")


def read(path: pathlib.Path, example: Example) -> np.ndarray:
    """The label map i32[h, w] in a file; `BrokenImage` if it is none of the size of the image.

    The channels of a colour file count as one number, red lowest, as in COCO's panoptic files.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's parsers raise
        raise BrokenImage(f"{example.key}: {path} cannot be decoded: {error}") from error
    if values.ndim == 3:
        red, green, blue = np.moveaxis(values[..., :3], -1, 0)
        values = red + 256 * green + 65536 * blue
    if values.shape != example.image.shape[:2]:
        raise BrokenImage(
            f"{example.key}: {path} has {values.shape} pixels, the image {example.image.shape[:2]}"
        )
    return values


def read_one(root: pathlib.Path, example: Example) -> np.ndarray:
    """PATH/KEY.png: a value for each instance or class."""
    return read(find(root, example.key, (".png",)), example)


def read_cityscapes(root: pathlib.Path, example: Example) -> np.ndarray:
    """PATH/CITY/X_gtFine_instanceIds.png of X_leftImg8bit.png: 1000 class + instance, or class."""
    key = example.key.replace("_leftImg8bit", "")
    endings = ("_gtFine_instanceIds.png", "_gtCoarse_instanceIds.png", "_instanceIds.png")
    return read(find(root, key, endings), example)


def read_bsds(root: pathlib.Path, example: Example) -> Iterator[np.ndarray]:
    """PATH/KEY_1.png, KEY_2.png, ..., from 0 or 1 on: a partition by each annotator."""
    path = find(root, example.key, ("_0.png", "_1.png"))
    stem, _, number = path.stem.rpartition("_")
    for following in itertools.count(int(number)):
        path = path.with_name(f"{stem}_{following}.png")
        if not path.is_file():
            return
        yield read(path, example)


def split_components(labels: np.ndarray) -> np.ndarray:
    """A label map [h, w] with a value of its own, from 1, for each connected part of a value.

    Pixels are connected by their sides and corners.
    """
    # Without a background: 0 is a class like any other.
    parts: np.ndarray = connected(labels, background=-1, connectivity=2)
    return parts
