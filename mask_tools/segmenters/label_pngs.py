"""Annotations that are images: a label map per image, or several where several people drew one."""

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
from skimage.measure import label as connected

from jaxssl.data.label_maps import find, read
from jaxssl.data.source import Example


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
