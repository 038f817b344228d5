"""Matches annotations to images by their names: one rule for files, JSON and label maps.

A name is a path, with or without its ending; it may come from another machine or be a URL. It
matches an image when one of the two paths ends with the other: `1.png`, `train2017/1.jpg` and
`http://host/train2017/1.jpg` all match `train2017/1.jpg`, and `val2017/1.jpg` does not. Paths are
compared as they are, then without endings, then loosely: without case, and without the words that
say what a file is (`labels/1_mask.png` and `images/1.jpg`). What fits equally well twice is an
error, never a guess.
"""

import dataclasses
import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from jaxssl.data.splits import split_of
from jaxssl.errors import UserError

Path = tuple[str, ...]  # folders and the name
Rank = tuple[int, int, int]  # form, folders not in common, characters that the image's name loses

_ENDING = re.compile(
    r"\.(jpe?g|jpe|jfif|png|bmp|webp|tiff?|gif|p[pgbn]m|heic|heif|hif|avif|jp2|j2k|json|np[yz]|txt|mat|xml)$",
    re.IGNORECASE,
)
# What a file is, at the end or the beginning of its name: `_gtFine_instanceIds`, `mask_`.
_WORD = (
    r"(?:seg|segm|segmentations?|masks?|mattes?|labels?|anno|annotations?|annot|gt|groundtruth"
    r"|instances?|instanceids|labelids|labeltrainids|semantic|panoptic|gtfine|gtcoarse|leftimg8bit"
    r"|polygons?|color|colors|rgb|sat|images?|img|json|l|alpha|binary)"
)
_AFTER = re.compile(rf"(?:(?:^|[ ._-]+){_WORD})+$")
_BEFORE = re.compile(
    rf"^(?:(?:{_WORD}[ ._-]+)+|[0-9a-f]{{8}}-|coco_(?:train|val|test)20\d\d_)(?=.)"
)  # Label Studio's numbers, too, and COCO's of before 2017
# Folders that hold the images of a data set if one of the others is beside them.
IMAGE_FOLDERS = (
    *("images", "jpegimages", "leftimg8bit", "img_dir", "image", "imgs", "img", "rgb"),
    *("image_2", "image_3"),  # KITTI
)
MASK_FOLDERS = (
    *("labels", "label", "annotations", "annotation", "masks", "mask", "annot", "ann_dir", "gt"),
    *("segmentation", "segmentations", "segmentationclass", "segmentationobject", "gtfine"),
    *("gtcoarse", "groundtruth", "ground_truth", "trimaps", "depth", "disparity", "panoptic"),
    *("instance", "instances", "semantic", "semantic_rgb", "v1.2", "v2.0"),  # KITTI, Mapillary
)
_MASK_WORD = (
    r"(?:seg|segm|segmentations?|masks?|mattes?|labels?|gt|ground_?truth|parts_\d+|annot"
    r"|annotations?|instances?)"
)
_LOSSLESS = re.compile(r"\.(?:png|tiff?|bmp|gif|pgm)$", re.IGNORECASE)
# Of a mask, or a depth map, that lies beside its image.
_MASK = re.compile(rf"(?:^|[ ._-])(?:{_MASK_WORD}|l|alpha|binary|depth)(?={_LOSSLESS.pattern})")
# Of one object, in a folder of the image's name beside it: ADE20K.
_INSTANCE = re.compile(r"instance_\d+_(.+)\.png")
# In folders such as `train_images` and `train_masks`.
_ROLE = re.compile(rf"(?:^|[ ._-]+)(?:(?P<image>images?|imgs?|photos?)|{_MASK_WORD})(?=[ ._-]|$)")
# Further ones that say the same of all files in them.
_FOLDERS = re.compile(r".*masks?|.*labels?|anns?|ground_?truths|segmentation\w*")
_PARTS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}


def split_path(name: str) -> Path:
    """A path, of any system, or the path of a URL, in its parts; those of one Unicode form."""
    if "://" in name:
        name = unquote(urlsplit(name).path)
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".", "..")) or ("",)


def _plain(path: Path) -> Path:
    """A path without its ending, or all of them: `1.jpg.json` is `1`."""
    name = path[-1]
    while (shorter := _ENDING.sub("", name)) not in ("", name):
        name = shorter
    return (*path[:-1], name)


def _loose(path: Path) -> Path:
    """A path without case and the words that say what the file is.

    A name of such words alone is left out, as are years: `train2017` is `train`.
    """
    *folders, name = (part.casefold() for part in _plain(path))
    folders = [re.sub(r"^(train|val|test|trainval)20\d\d$", r"\1", f) for f in folders]
    folders = [_ROLE.sub("", f).strip(" ._-") for f in folders if _role(f)[0] != "/"]
    folders = [_PARTS.get(f, f) for f in folders if f and not _FOLDERS.fullmatch(f)]
    name = _BEFORE.sub("", _AFTER.sub("", name))
    if not name and folders:
        name = _AFTER.sub("", folders.pop())
    return (*folders, name or _plain(path)[-1].casefold())


def masks_beside(files: Sequence[str]) -> dict[str, str]:
    """Those of the files that are masks of an image beside them, each with the file of its image.

    Their names tell, `1_seg.png` of `1.jpg`, `a/mask.png` of `a/image.png`, or their folders,
    `a/masks` of `a/images`, `train_masks` of `train_images` or `train`.
    """
    images: dict[Path, str] = {}
    masks: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        *folders, name = split_path(file)
        for depth, folder in enumerate(folders):
            of, is_mask = _role(folder)
            if is_mask:
                masks[file].append((*folders[:depth], of))
            elif of:
                images.setdefault((*folders[:depth], of), file)
        if (match := _INSTANCE.fullmatch(name)) and folders[-1:] == [match[1]]:
            masks[file].append((*folders[:-1], match[1].casefold()))
        bare = _MASK.sub("", name.casefold())
        place = (*folders, _AFTER.sub("", _ENDING.sub("", bare)))
        if bare == name.casefold():
            images.setdefault(place, file)
        else:
            masks[file].append(place)
        if folders and _role(folders[-1]) == ("/", True) and _LOSSLESS.search(name):
            masks[file].append((*folders[:-1], place[-1]))  # `masks/1.png` of `1.jpg`
    of_each = {file: next(filter(images.get, places), None) for file, places in masks.items()}
    return {file: images[place] for file, place in of_each.items() if place}


@functools.lru_cache(4096)
def _role(folder: str) -> tuple[str, bool]:
    """The data that a folder is named for, "train/" of `train_masks`, and whether it holds masks.

    "" if the name says neither.
    """
    name = folder.casefold()
    if name in IMAGE_FOLDERS or name in MASK_FOLDERS:
        return "/", name in MASK_FOLDERS
    if match := _ROLE.search(name):
        return (_ROLE.sub("", name, 1).strip(" ._-")) + "/", not match["image"]
    return f"{name}/" if split_of(name)[0] else "", False


_FORMS: tuple[Callable[[Path], Path], ...] = (lambda path: path, _plain, _loose)


@dataclasses.dataclass(frozen=True)
class Matches:
    """The names that were found for images."""

    number_of: dict[str, int]  # the number of its name, by the key of the image; one each
    loose: tuple[str, ...]  # those of the keys that match loosely only


class NameIndex:
    """Names, to be found by the keys of images."""

    def __init__(self, names: Sequence[str]) -> None:
        """Takes the names; in each form they are made when it is asked for."""
        self.names = names
        self._paths = [split_path(name) for name in names]
        self._forms: dict[int, list[Path]] = {}
        self._ends: dict[tuple[int, int], dict[Path, list[tuple[int, int]]]] = {}

    def find(self, key: str) -> int | None:
        """The number of the name that matches the image best; `UserError` if two do."""
        found = self._nearest(key)
        return found[1] if found else None

    def match(self, keys: Sequence[str]) -> Matches:
        """The names of images; no name is given to two, a better match goes first.

        Raises:
          UserError: a name fits two images, or two names fit an image, equally well.
        """
        claims: dict[int, list[tuple[Rank, str]]] = defaultdict(list)
        for key in keys:
            if found := self._nearest(key):
                claims[found[1]].append((found[0], key))
        number_of, loose = {}, []
        for number, claim in claims.items():
            best = min(claim)
            same = [key for rank, key in claim if rank == best[0]]
            if len(same) > 1:
                raise UserError(
                    f"the annotation of {self.names[number]!r} fits the images {same[0]!r} and "
                    f"{same[1]!r} equally well; give one folder of images as the source, or "
                    "annotations whose names have the folders"
                )
            number_of[best[1]] = number
            loose += [best[1]] if best[0][0] == len(_FORMS) - 1 else []
        return Matches(number_of, tuple(loose))

    def _nearest(self, key: str) -> tuple[Rank, int] | None:
        """The rank of the best match of an image's key, and the number of that name."""
        path = split_path(key)
        for form, to_form in enumerate(_FORMS):
            own = to_form(path)
            ends = self._by_end(form, len(own))
            near = sorted(
                (abs(len(own) - length), number)
                for start in range(len(own))
                for length, number in ends.get(own[start:], ())
            )
            if near:
                rank, number = near[0]
                same = [n for distance, n in near if distance == rank]
                if len(same) > 1:
                    one, other = self.names[same[0]], self.names[same[1]]
                    advice = (
                        "give the folder or file of one of them, or a source whose names have the "
                        "folders"
                        if one != other
                        else "they list it twice, under two numbers: make them one"
                    )
                    raise UserError(
                        f"the image {key!r} fits the annotations {one!r} and {other!r} equally "
                        f"well; {advice}"
                    )
                return (form, rank, len(path[-1]) - len(own[-1])), number
        return None

    def _by_end(self, form: int, depth: int) -> Mapping[Path, list[tuple[int, int]]]:
        """Lengths and numbers of the names in a form, by their last parts, `depth` at most.

        What a path of that length ends with, or is the end of, is found there at once, however
        many folders have a file of that name.
        """
        if form not in self._forms:
            self._forms[form] = [_FORMS[form](path) for path in self._paths]
        if (form, depth) not in self._ends:
            ends: dict[Path, list[tuple[int, int]]] = defaultdict(list)
            self._ends[form, depth] = ends
            for number, path in enumerate(self._forms[form]):
                ends[path[-depth:]].append((len(path), number))
        return self._ends[form, depth]


def describe_mismatch(keys: Sequence[str], names: Sequence[str]) -> str:
    """An image and an annotation that do not match, of those left, and what would match."""
    by_name = {_loose(split_path(name))[-1]: name for name in reversed(names)}
    pair = next(
        ((k, by_name[n]) for k in keys if (n := _loose(split_path(k))[-1]) in by_name), None
    )
    if pair:
        return (
            f"the image {pair[0]!r} and the annotation {pair[1]!r} have the same name in other "
            "folders; give the folder of images, or of annotations, in which their paths agree"
        )
    image = f"the image {keys[0]!r} has no annotation" if keys else "each image has an annotation"
    other = f"; the annotation {names[0]!r} has no image" if names else ""
    wanted = f"; one named {_plain(split_path(keys[0]))[-1]!r} would match" if keys else ""
    return image + other + wanted
