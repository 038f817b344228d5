"""Label maps in files of their own, images with one each as a source, and data sets' own trees.

The file of an image is found by its name: see `name_matching.py`.
"""

import dataclasses
import functools
import hashlib
import itertools
import logging
import os
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from jaxssl.checked_files import read_text
from jaxssl.data.decode import decode_label_map, read_encoded
from jaxssl.data.folder import Folder, file_state, find_files
from jaxssl.data.image_folders import folder_names, places
from jaxssl.data.name_matching import NameIndex, describe_mismatch
from jaxssl.data.orientation import turn_upright
from jaxssl.data.record_codec import MAX_LABEL
from jaxssl.data.source import BrokenImage, Example, Size, Source
from jaxssl.data.splits import in_part, split_of
from jaxssl.errors import UserError

LABEL_MAPS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm")  # endings: those without loss
VOID = 255  # the value of a pixel that is of no class

# Of Cityscapes' labelIds those that are not evaluated: all but its 19 classes.
_CITYSCAPES_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
log = logging.getLogger("jaxssl.data")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The folders in which a data set has the images of a part and their label maps."""

    images: str
    maps: str
    endings: tuple[str, ...] = LABEL_MAPS
    void: tuple[int, ...] = ()  # values that are no class
    part_list: str = ""  # the file that names the images of the part
    all_images: tuple[str, ...] = ()  # the folders of the images of all parts


_LAYOUTS = (
    Layout("{}", "{}annot"),
    Layout("images/{}", "labels/{}"),
    Layout("images/{}", "annotations/{}"),
    Layout("images/{}", "masks/{}"),
    Layout("{}/images", "{}/labels"),
    Layout("{}/images", "{}/masks"),
    Layout("img_dir/{}", "ann_dir/{}"),
    Layout("leftImg8bit/{}", "gtFine/{}", ("_labelids.png",), _CITYSCAPES_VOID),
    Layout("leftImg8bit/{}", "gtCoarse/{}", ("_labelids.png",), _CITYSCAPES_VOID),
    Layout("JPEGImages", "SegmentationClass", part_list="ImageSets/Segmentation/{}.txt"),
)


class LabelFolder:
    """Images and their label maps, in the tree of a data set."""

    class_names: tuple[str, ...] = ()  # of whole images
    has_regions = False

    def __init__(
        self,
        path: str,
        root: pathlib.Path,
        layout: Layout,
        by_key: str | None = None,
        *,
        needs_maps: bool = True,
    ) -> None:
        """Opens the images of a tree at `root`, in `path`, that have a label map.

        The others are counted; `UserError` if that is all. `by_key` is the part that `in_part`
        picks. Without `needs_maps` a map that does not fit its image is left out, not the image;
        but images without any are a `UserError`.
        """
        self.spec = f"folder:{path}"
        self._needs_maps, self._warned, self._told = needs_maps, False, False
        self._images, self._root = open_images(root, layout), root / layout.maps
        files = list(find_files(self._root, layout.endings))
        keys = self._images.keys()
        self.void = (*layout.void, *void_of(keys))
        file_of = NameIndex(files).match(keys).number_of
        listed = _read_list(root / layout.part_list, keys) if layout.part_list else keys
        found = [key for key in listed if key in file_of]
        if not found:
            raise UserError(f"{path}: {describe_mismatch(listed, files)}")
        kept = {key for key in found if by_key is None or in_part(key, by_key)}
        if not kept:
            raise UserError(f"{path} has too few images with label maps to keep some to test on")
        self._numbers = [number for number, key in enumerate(keys) if key in kept]
        self._files = [files[file_of[keys[number]]] for number in self._numbers]
        if len(found) < len(listed):
            of_part = f"images in {layout.part_list}" if layout.part_list else "images"
            few = f"{len(found)} of {len(listed)} {of_part} have a label map in {self._root}"
            if not needs_maps:
                raise UserError(few)
            log.warning("%s: %s; the others are left out", self._images.spec, few)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Example:
        return self.resized(index, lambda size: size)[0]

    def resized(self, index: int, fit: Callable[[Size], Size]) -> tuple[Example, Size]:
        """The example with its image, not its label map, resized; its true height and width."""
        example, size = self._images.resized(self._numbers[index], fit)
        try:
            values = self._read_map(index, example, size)
        except BrokenImage as error:
            if self._needs_maps:
                raise
            if not self._warned:
                log.warning(
                    "%s: images are taken without label maps that do not fit; %s; %s",
                    *(self.spec, error, _how_to_use(self._root)),
                )
            values, self._warned = None, True
        return dataclasses.replace(example, label=-1, semantic=values), size

    def _read_map(self, index: int, example: Example, size: Size) -> np.ndarray:
        """The label map of an image of that size; `BrokenImage` if its file holds none."""
        path = self._root / self._files[index]
        values = read_label_map(path, example.key)
        if values.shape != size:
            values = turn_upright(values, example.orientation)
        elif example.orientation in range(2, 5 if size[0] != size[1] else 9):
            self._say_taken_as_upright(example.key)
        if values.shape != size:
            raise BrokenImage(f"{example.key}: {path} has {values.shape} pixels, the image {size}")
        if values.min() < 0 or values.max() > MAX_LABEL:
            held = f"{values.min()}..{values.max()}"
            raise BrokenImage(
                f"{example.key}: {path} holds {held}, as colors do; classes are 0 to {MAX_LABEL}"
            )
        return np.where(np.isin(values, self.void), VOID, values) if self.void else values

    def _say_taken_as_upright(self, key: str) -> None:
        """Says once that the size of a map does not tell whether it is turned as the image was."""
        if not self._told:
            such = f"image files that are turned by EXIF, such as {key}"
            log.info("%s: label maps of %s, are taken as upright: check one", self.spec, such)
        self._told = True

    def keys(self) -> list[str]:
        """The keys of the images."""
        keys = self._images.keys()
        return [keys[number] for number in self._numbers]

    def files(self) -> list[tuple[str, pathlib.Path]]:
        """Keys and files of the images."""
        files = self._images.files()
        return [files[number] for number in self._numbers]

    def label_files(self) -> list[pathlib.Path]:
        """The label maps of the images."""
        return [self._root / file for file in self._files]

    def image_size(self, index: int) -> Size:
        """Height and width of the upright image."""
        return self._images.image_size(self._numbers[index])

    def fingerprint(self) -> str:
        state = [self._images.fingerprint(), str(self.void)]
        state += [f"{file} {file_state(self._root / file)}" for file in self._files]
        return hashlib.sha256(os.fsencode("\0".join(state))).hexdigest()


def open_label_maps(path: str, part: str | None) -> Source | None:
    """The images of a part that have label maps; None if the data set has none.

    One in five of those to learn from is for testing where no other has a label map. Of the part
    None all images are taken: with their label maps if each has one.
    """
    root = pathlib.Path(path)
    if part and not find_layout(root, "test"):
        found = find_layout(root, "train")
        if found and part == "test":
            log.info("%s: label maps to learn from only; one in five is for testing", path)
        return LabelFolder(path, *found, by_key=part) if found else None
    found = find_layout(root, part)
    if part or not found:
        return LabelFolder(path, *found) if found else None
    place, layout = found
    try:
        return LabelFolder(path, place, layout, needs_maps=False)
    except UserError as error:
        images = open_images(place, layout)
        advice = _how_to_use(place / layout.maps)
        log.info("%s: taken without label maps; %s; %s", images.spec, error, advice)
        return images


def _how_to_use(maps: pathlib.Path) -> str:
    return f"to make regions of those: --segmenter annotation --path {maps}"


def open_images(place: pathlib.Path, layout: Layout) -> Folder:
    """The images of a part, of which 16-bit ones are scaled as those of all parts are."""
    return Folder(place / layout.images, alike=[place / name for name in layout.all_images])


def find_layout(root: pathlib.Path, part: str | None) -> tuple[pathlib.Path, Layout] | None:
    """The place and layout of the images of a part that have label maps; None if there are none.

    Of the part None, what to learn from, trees that list those with label maps are none.
    """
    kinds = ("test", "val") if part == "test" else ("train",)
    names = functools.cache(folder_names)
    for place, kind, layout in itertools.product(places(root), kinds, _LAYOUTS):
        if layout.part_list and part is None:
            continue
        above, _, ending = (layout.part_list or layout.images).partition("{}")
        splits = names(place / above, ending if layout.part_list else "")
        for split in splits:
            if split_of(split)[0] != kind:
                continue
            images, maps, listed = (
                pattern.replace("{}", split)
                for pattern in (layout.images, layout.maps, layout.part_list)
            )
            there = (place / images).is_dir() and (place / maps).is_dir()
            if there and any(find_files(place / maps, layout.endings)):
                of_each = {layout.images.replace("{}", s) for s in splits if split_of(s)[0]}
                found = Layout(images, maps, layout.endings, layout.void, listed)
                return place, dataclasses.replace(found, all_images=tuple(sorted(of_each)))
    return None


def _read_list(path: pathlib.Path, keys: Sequence[str]) -> list[str]:
    """The keys of the images that a list of Pascal VOC names; those that it lacks are counted.

    Some lists say " -1", "  0" or "  1" of each name.
    """
    lines = read_text(path, advice="copy it again").splitlines()
    names = {re.sub(r" -1$|  [01]$", "", line.strip()) for line in lines} - {""}
    key_of = {pathlib.Path(key).stem: key for key in keys}
    missing = sorted(names - key_of.keys())
    if len(missing) == len(names):
        its = f"its first name is {missing[0]}" if missing else "it is empty"
        raise UserError(f"{path} names none of the {len(keys)} images, such as {keys[0]}; {its}")
    if missing:
        some = f"{len(missing)} of {len(names)} names have no image, such as {missing[0]}"
        log.warning("%s: %s", path, some)
    return [key for key in keys if pathlib.Path(key).stem in names]


def void_labels(source: Source) -> tuple[int, ...]:
    """The values that are no class in a source's label maps, as far as its tree says."""
    return source.void if isinstance(source, LabelFolder) else ()


def void_of(names: Sequence[str]) -> tuple[int, ...]:
    """The values that are no class in the label maps of images of these names.

    In ADE20K's, 0 is what is of none of its 150 classes.
    """
    is_ade = bool(names) and all(pathlib.PurePath(name).name.startswith("ADE_") for name in names)
    return (0,) if is_ade else ()


def read_label_map(path: pathlib.Path, key: str, *, ids: bool = False) -> np.ndarray:
    """The label map of integers [h, w] in a file, of an image `key`; `BrokenImage` if it is none.

    The channels of a color file count as one number, red lowest, and alpha highest if it holds
    numbers, as in BDD100K's. With `ids` that is what they are, as in COCO's panoptic files; else
    three equal channels are a gray file's one, and red is none of the values that stand for no
    class.
    """
    values = decode_label_map(read_encoded(path, key), f"{key}: {path}")
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        raise BrokenImage(f"{key}: {path} has fractions, where a label map has whole numbers")
    if values.dtype.kind == "f" and not (np.abs(values) < 2.0**31).all():
        raise BrokenImage(f"{key}: {path} has values beyond those of 32 bits")
    whole = values.astype(np.int32)
    if whole.ndim == 2:
        return whole
    if not ids and (whole == whole[..., :1]).all():
        return whole[..., 0]
    numbers = whole @ 256 ** np.arange(whole.shape[-1])
    return numbers if ids else np.where(numbers == VOID, VOID + 2**24, numbers)
