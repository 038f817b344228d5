"""Masks in files of each image: arrays, JSON, YOLO's text, VOC's XML, PNG files, label maps."""

import contextlib
import csv
import dataclasses
import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxssl.checked_files import naming_damage, read_json, read_npy, read_npz
from jaxssl.data.decode import decode_label_map, read_encoded
from jaxssl.data.folder import SUFFIXES, find_files
from jaxssl.data.name_matching import masks_beside
from jaxssl.data.source import BrokenImage, Example, Size
from jaxssl.errors import UserError
from mask_tools.labelme import join_groups, read_patch, rectangle
from mask_tools.mask_reader import SCORES, read_array, read_entry, to_masks
from mask_tools.regions import Region, from_mask
from mask_tools.voc_xml import read_voc

Reader = Callable[[Sequence[str], Example], list[Region]]

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")
_ARRAYS = ("masks", "segmentations", "pred_masks", "mask", "segmentation", "labels", "arr_0")
_SIDES = (("height", "width"), ("imageHeight", "imageWidth"), ("imgHeight", "imgWidth"))
_LISTS = ("annotations", "shapes", "objects", "masks", "segments")  # in the JSON file of an image
_NUMBERED = re.compile(r"(?:(.*?)[_-])?(?:mask|segment)?[_-]?\d+$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class MaskFiles:
    """The files of annotations in a folder, found but not read."""

    unit: ClassVar[str] = "files"
    omits_empty: ClassVar[bool] = False
    example: ClassVar[str] = ""

    kind: str
    path: str
    names: tuple[str, ...]  # of the images, as the files name them
    files: tuple[tuple[str, ...], ...]  # those of each image
    reader: Reader
    strays: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> np.ndarray:
        """Files of each image, i64[n]."""
        return np.array([len(files) for files in self.files], np.int64)

    def check(self) -> None:
        """Raises `UserError` if there are none."""
        if not self.names:
            raise UserError(f"{self.path} holds no {self.kind}{_describe(_endings(self.path))}")

    def check_numbers(self, keys: Sequence[str]) -> None:
        """Raises `UserError` if the number of a file may be a part of its image's name."""
        images = {pathlib.PurePath(key).stem: key for key in keys}
        for name, files in zip(self.names, self.files, strict=True):
            whole = pathlib.Path(self.path, name)
            for path in map(pathlib.Path, files):
                own = path.stem in (whole.name, whole.stem) or path.parent != whole.parent
                if path.stem in images and not own:
                    raise UserError(
                        f"{path} may be of the image {images[path.stem]!r} or of one called {name}"
                        ": if each image has one file, give --segmenter annotation; if each mask "
                        "has, name them KEY/0.png, KEY/1.png, ..."
                    )

    def paths(self, number: int) -> list[str]:
        """The files from which the annotations of an image are read."""
        files = [*self.files[number]]
        if self.reader is _read_pngs and _scores_beside(files).is_file():
            files.append(str(_scores_beside(files)))
        return files

    def read(self, number: int, example: Example) -> list[Region]:
        """The annotations of an image."""
        return self.reader(self.files[number], example)


def group(kind: str, root: str, named: Mapping[str, Sequence[str]], reader: Reader) -> MaskFiles:
    """The files in a folder by the names of their images.

    Args:
      kind: of the files, in words.
      root: the folder.
      named: paths in the folder by the name of their image.
      reader: from the files of an image to its regions.
    """
    files = tuple(tuple(os.path.join(root, file) for file in few) for few in named.values())
    return MaskFiles(kind, root, tuple(named), files, reader)


def _endings(root: str) -> Counter[str]:
    """The number of files of each ending."""
    return Counter(pathlib.PurePath(file).suffix.lower() for file in find_files(root, ("",)))


def _describe(endings: Counter[str]) -> str:
    """A remark on the files that there are instead of masks."""
    if pickles := [ending for ending in _PICKLES if endings[ending]]:
        return f" but {pickles[0]} files: {_NO_PICKLES}"
    counts = ", ".join(f"{count} {end or 'without an ending'}" for end, count in endings.items())
    lossy = " (JPEG changes values: save masks as PNG)" if endings[".jpg"] else ""
    boxes = " (boxes in XML files: --segmenter proposals --boxes)" if endings[".xml"] else ""
    return f" but {counts}{lossy}{boxes}" if counts else ""


def open_files(root: str) -> MaskFiles:
    """Masks of other programs in a folder: .npz, .npy, .json or .txt for each image, or PNG files.

    Raises:
      UserError: there are none, or of two kinds, or only pickles.
    """
    found = _endings(root)
    most = max(found[e] for e in (*_READERS, ".png"))
    notes = [e for e in (".txt", ".json") if found[e] == 1 < most]  # on masks, no masks
    kinds = [e for e in _READERS if found[e] and e not in (*notes, ".xml")]
    kinds = kinds or [e for e in (".png", ".xml") if found[e]][:1]
    if len(kinds) != 1:
        several = f"files of several kinds, {' and '.join(kinds)}"
        holds = several if kinds else f"no masks{_describe(found)}"
        raise UserError(
            f"{root} holds {holds}; give a folder of KEY.npz, KEY.npy, KEY.json, KEY.txt or "
            "KEY.xml, or of KEY/0.png, KEY/1.png, ..., or a table of boxes, FILE.csv"
        )
    if kinds == [".png"]:
        return group("PNG files of a mask each, no label maps", root, _group_pngs(root), _read_pngs)
    reader, kind = _READERS[kinds[0]]
    return group(kind, root, {file: [file] for file in find_files(root, kinds)}, reader)


def _group_pngs(root: str) -> dict[str, list[str]]:
    """PNG files of masks by what they say of their image's name."""
    files = list(find_files(root, SUFFIXES))
    beside = masks_beside(files)
    pngs = [file for file in files if file.lower().endswith(".png")]
    paths = [pathlib.PurePath(file) for file in pngs if file in beside or not beside]
    # There may be a folder of masks for each image, whatever the masks are called.
    own = {path.parent for path in paths if path.parent.name in ("masks", "mask")}
    named: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        numbered = _NUMBERED.fullmatch(path.stem)
        stem = (numbered[1] or "") if numbered else path.stem
        in_own = len(own) > 1 and path.parent in own
        named[(path.parent / ("" if in_own else stem)).as_posix()].append(str(path))
    if list(named) == ["."]:
        raise UserError(
            f"{root} holds numbered PNG files; give the folder that has such a folder for each "
            "image, or --segmenter annotation if they are label maps of numbered images"
        )
    return named


_NO_PICKLES = (
    "pickles run code when they are read, so they are not; save the masks of each image with "
    "np.savez(KEY.npz, masks=..., scores=...)"
)


def _sizes(example: Example) -> tuple[Size, Size]:
    """Height and width of the image, and those if it is stored sideways."""
    height, width = example.size
    return (height, width), (width, height)


def _read_arrays(files: Sequence[str], example: Example) -> list[Region]:
    path, scores = pathlib.Path(files[0]), None
    with broken_by(example):
        if path.suffix.lower() == ".npy":
            values = read_npy(path, advice=_NO_PICKLES)
        else:
            arrays = read_npz(path, advice=_NO_PICKLES)
            known = [name for name in _ARRAYS if name in arrays] or list(arrays)
            if not known or (known[0] not in _ARRAYS and len(known) > 1):
                raise UserError(f"none of the arrays {', '.join(arrays)} in {path} is called masks")
            values = arrays.pop(known[0])
            scores = next((arrays[name] for name in SCORES if name in arrays), None)
    try:
        return read_array(values, _sizes(example), scores)
    except UserError as fault:
        return [Region(b"", _sizes(example)[0], fault=str(fault), name=str(path))]


@contextlib.contextmanager
def broken_by(example: Example) -> Iterator[None]:
    """Makes a file that cannot be read a `BrokenImage`."""
    try:
        yield
    except UserError as error:
        raise BrokenImage(f"{example.key}: {error}") from error


def _read_json(files: Sequence[str], example: Example) -> list[Region]:
    """A list of masks, SAM's or others', or an object with one: of SA-1B, labelme, Cityscapes."""
    path = files[0]
    with broken_by(example):
        content = read_json(pathlib.Path(path), Any, advice="copy it again, or save it in UTF-8")
        about = content if isinstance(content, dict) else {}
        entries = next((about[n] for n in _LISTS if isinstance(about.get(n), list)), content)
        if not isinstance(entries, list):
            raise UserError(f"{path} holds no list of masks")
    about = about | (about["image"] if isinstance(about.get("image"), dict) else {})
    size = _sizes(example)[0]
    for height, width in _SIDES:
        if isinstance(about.get(height), int) and isinstance(about.get(width), int):
            size = about[height], about[width]
    found: list[Region] = []
    for number, entry in enumerate(join_groups(entries)):
        name = f"{path}, entry {number}"
        kind = entry.get("shape_type") if isinstance(entry, dict) else "value"
        if kind in (None, "polygon"):
            found += read_entry(entry, size, name)
        elif kind == "mask":
            found.append(read_patch(entry, size, name))
        elif kind == "rectangle":
            found += read_entry(rectangle(entry), size, name)
        else:
            found.append(Region(b"", size, fault=f"is a {kind}, no polygon", name=name))
    return found


def _read_yolo(files: Sequence[str], example: Example) -> list[Region]:
    """Lines of a class, x and y of points as shares of width and height, perhaps a score."""
    path, (height, width) = files[0], _sizes(example)[0]
    found: list[Region] = []
    text = pathlib.Path(path).read_text("utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name = f"{path}, line {number}"
        try:
            values = np.array(line.split(), float)
        except ValueError:
            values = np.zeros(0)
        points = values[1 : 1 + (len(values) - 1) // 2 * 2].reshape(-1, 2) * (width, height)
        if len(points) == 2 and np.isfinite(points).all():
            (center, sides), rest = points.tolist(), values[5:].tolist()
            corner = [middle - side / 2 for middle, side in zip(center, sides, strict=True)]
            entry: dict[str, Any] = {"bbox": [*corner, *sides], "score": next(iter(rest), None)}
            found += read_entry(entry, (height, width), name)
        elif not len(points) or values[1:].min() < -0.5 or values[1:].max() > 1.5:
            fault = "is no line of a class and shares of width and height"
            found.append(Region(b"", (height, width), fault=fault, name=name))
        else:
            entry = {"points": points.ravel().tolist()}
            if len(values) % 2 == 0:
                entry["score"] = float(values[-1])
            found += read_entry(entry, (height, width), name)
    return found


def _read_xml(files: Sequence[str], example: Example) -> list[Region]:
    with broken_by(example):
        return read_voc(pathlib.Path(files[0]), _sizes(example)[0])


def _scores_beside(files: Sequence[str]) -> pathlib.Path:
    """The table that SAM writes beside the masks of an image."""
    return pathlib.Path(files[0]).parent / "metadata.csv"


def _read_pngs(files: Sequence[str], example: Example) -> list[Region]:
    """A mask in each file; in SAM's metadata.csv beside them there may be their scores."""
    scores: dict[str, float] = {}
    table = _scores_beside(files)
    if table.is_file():
        with broken_by(example), naming_damage(table, "copy it again, or delete it"):
            rows = csv.DictReader(table.read_text("utf-8-sig").splitlines())
            scores = {row["id"]: float(row["predicted_iou"]) for row in rows}
    found = []
    for file in sorted(files, key=lambda file: (len(file), file)):
        try:
            values = decode_label_map(read_encoded(pathlib.Path(file), ""), "", as_gray=True)
            score = scores.get(pathlib.PurePath(file).stem, float("nan"))
            found.append(from_mask(to_masks(values), score=score))
        except UserError as error:
            fault = "cannot be decoded" if isinstance(error, BrokenImage) else str(error)
            found.append(Region(b"", _sizes(example)[0], fault=fault, name=file))
    return found


_READERS: dict[str, tuple[Reader, str]] = {
    ".npz": (_read_arrays, "arrays of masks"),
    ".npy": (_read_arrays, "arrays of masks"),
    ".json": (_read_json, "JSON files of masks"),
    ".txt": (_read_yolo, "YOLO's text files"),
    ".xml": (_read_xml, "Pascal VOC's XML files"),
}
