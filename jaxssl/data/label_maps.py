"""Label maps in files of their own, and images with one each as a source.

The file of an image is found by the key of the image, its path in its folder: under the same path
with another ending, or under its name alone.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxssl.data.folder import Folder
from jaxssl.data.source import BrokenImage, Example

# Names of the folders of a part, the first that there is.
_PARTS = {"train": ("train", "training"), "test": ("test", "val", "validation")}
# Where the images of a split are, and where their label maps.
_LAYOUTS = (
    ("{}", "{}annot"),
    ("images/{}", "labels/{}"),
    ("images/{}", "annotations/{}"),
)


class LabelFolder:
    """Images, and under the same names their label maps as PNG files. In one of these layouts:

    PATH/train, PATH/trainannot                 and the same with test or val
    PATH/images/train, PATH/labels/train        or annotations/train
    """

    class_names: tuple[str, ...] = ()  # of whole images
    has_regions = False

    def __init__(self, path: str, images: pathlib.Path, maps: pathlib.Path) -> None:
        """Opens these folders of those in `path`."""
        self.spec = f"folder:{path}"
        self._images, self._maps = Folder(images), maps

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Example:
        example = self._images[index]
        semantic = read_one(self._maps, example)
        return dataclasses.replace(example, label=-1, semantic=semantic)

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of the upright image."""
        return self._images.image_size(index)

    def fingerprint(self) -> str:
        parts = [self._images.fingerprint(), Folder(self._maps).fingerprint()]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def find_folders(root: pathlib.Path, part: str) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Where the images of a part are and where their label maps; None if there are none."""
    for split in _PARTS.get(part, ()):
        for images, maps in _LAYOUTS:
            found = root / images.format(split), root / maps.format(split)
            if all(folder.is_dir() for folder in found):
                return found
    return None


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

    The channels of a color file count as one number, red lowest, as in COCO's panoptic files.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's parsers raise
        raise BrokenImage(f"{example.key}: {path} cannot be decoded: {error}") from error
    if values.ndim == 3:
        red, green, blue = np.moveaxis(values[..., :3], -1, 0)
        values = red + 256 * green + 65536 * blue
    size = example.image.shape[:2]
    if values.shape != size:
        raise BrokenImage(f"{example.key}: {path} has {values.shape} pixels, the image {size}")
    return values


def read_one(root: pathlib.Path, example: Example) -> np.ndarray:
    """PATH/KEY.png: a value for each instance or class."""
    return read(find(root, example.key, (".png",)), example)
