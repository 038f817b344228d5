"""Masks in a file or a folder for each image: arrays, JSON, YOLO's text, PNG files, label maps."""

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
from jaxssl.data.folder import find_files
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.mask_reader import Size, read_array, read_entry, to_masks
from mask_tools.regions import Region, from_mask

Reader = Callable[[Sequence[str], Example], list[Region]]

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")
_ARRAYS = ("masks", "segmentations", "pred_masks", "mask", "segmentation", "labels", "arr_0")
_SCORES = ("scores", "predicted_iou", "iou_predictions", "iou_preds", "predicted_ious", "score")
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

    def read(self, number: int, example: Example) -> list[Region]:
        """The annotations of an image."""
        return self.reader(self.files[number], example)


def group(kind: str, root: str, named: Mapping[str, Sequence[str]], reader: Reader) -> MaskFiles:
    """The files in a folder by the names of their images."""
    files = tuple(tuple(os.path.join(root, file) for file in few) for few in named.values())
    return MaskFiles(kind, root, tuple(named), files, reader)


def open_files(root: str) -> MaskFiles:
    """Masks of other programs in a folder: .npz, .npy, .json or .txt for each image, or PNG files.

    Raises:
      UserError: there are none, or of two kinds, or only pickles.
    """
    found = Counter(pathlib.PurePath(file).suffix.lower() for file in find_files(root, ("",)))
    kinds = [e for e in _READERS if found[e]] or [e for e in (".png",) if found[e]]
    if len(kinds) != 1:
        pickles = [ending for ending in _PICKLES if found[ending]]
        if pickles and not kinds:
            raise UserError(f"{root} holds {pickles[0]} files: {_NO_PICKLES}")
        what = f"files of several kinds, {' and '.join(kinds)}" if kinds else "no masks"
        raise UserError(
            f"{root} holds {what}; give a folder of KEY.npz, KEY.npy, KEY.json or KEY.txt, or of "
            "KEY/0.png, KEY/1.png, ..."
        )
    if kinds == [".png"]:
        named: dict[str, list[str]] = defaultdict(list)
        for file in find_files(root, (".png",)):
            path = pathlib.PurePath(file)
            numbered = _NUMBERED.fullmatch(path.stem)
            stem = (numbered[1] or "") if numbered else path.stem
            named[(path.parent / stem).as_posix()].append(file)
        if list(named) == ["."]:
            raise UserError(
                f"{root} holds numbered PNG files; give the folder that has such a folder for each "
                "image, or --segmenter annotation if they are label maps of numbered images"
            )
        return group("PNG files of a mask each", root, named, _read_pngs)
    reader, kind = _READERS[kinds[0]]
    return group(kind, root, {file: [file] for file in find_files(root, kinds)}, reader)


_NO_PICKLES = (
    "pickles run code when they are read, so they are not; save the masks of each image with "
    "np.savez(KEY.npz, masks=..., scores=...)"
)


def _sizes(example: Example) -> tuple[Size, Size]:
    """Height and width of the image, and those if it is stored sideways."""
    height, width = example.image.shape[:2]
    return (height, width), (width, height)


def _read_arrays(files: Sequence[str], example: Example) -> list[Region]:
    path, scores = pathlib.Path(files[0]), None
    with _naming(example):
        if path.suffix.lower() == ".npy":
            values = read_npy(path, advice=_NO_PICKLES)
        else:
            arrays = read_npz(path, advice=_NO_PICKLES)
            known = [name for name in _ARRAYS if name in arrays] or list(arrays)
            if not known or (known[0] not in _ARRAYS and len(known) > 1):
                raise UserError(f"none of the arrays {', '.join(arrays)} in {path} is called masks")
            values = arrays.pop(known[0])
            scores = next((arrays[name] for name in _SCORES if name in arrays), None)
    try:
        return read_array(values, _sizes(example), scores)
    except UserError as fault:
        return [Region(b"", _sizes(example)[0], fault=str(fault), name=str(path))]


@contextlib.contextmanager
def _naming(example: Example) -> Iterator[None]:
    """Makes a file that cannot be read a `BrokenImage`."""
    try:
        yield
    except UserError as error:
        raise BrokenImage(f"{example.key}: {error}") from error


def _read_json(files: Sequence[str], example: Example) -> list[Region]:
    """A list of masks, SAM's or others', or an object with one: of SA-1B, labelme, Cityscapes."""
    path = files[0]
    with _naming(example):
        content = read_json(pathlib.Path(path), Any, advice="copy it again")
        about = content if isinstance(content, dict) else {}
        entries = next((about[n] for n in _LISTS if isinstance(about.get(n), list)), content)
        if not isinstance(entries, list):
            raise UserError(f"{path} holds no list of masks")
    about = about | (about["image"] if isinstance(about.get("image"), dict) else {})
    size = _sizes(example)[0]
    for height, width in (
        ("height", "width"),
        ("imageHeight", "imageWidth"),
        ("imgHeight", "imgWidth"),
    ):
        if isinstance(about.get(height), int) and isinstance(about.get(width), int):
            size = about[height], about[width]
    found: list[Region] = []
    for number, entry in enumerate(entries):
        name = f"{path}, entry {number}"
        kind = entry.get("shape_type") if isinstance(entry, dict) else "value"
        if kind in (None, "polygon"):
            found += read_entry(entry, size, name)
        else:
            found.append(Region(b"", size, fault=f"is a {kind}, no polygon", name=name))
    return found


def _read_yolo(files: Sequence[str], example: Example) -> list[Region]:
    """Lines of a class, x and y of points as shares of width and height, perhaps a score."""
    path, (height, width) = files[0], _sizes(example)[0]
    found: list[Region] = []
    for number, line in enumerate(pathlib.Path(path).read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        name = f"{path}, line {number}"
        try:
            values = np.array(line.split(), float)
        except ValueError:
            values = np.zeros(0)
        points = values[1 : 1 + (len(values) - 1) // 2 * 2].reshape(-1, 2) * (width, height)
        if len(points) == 2:
            found.append(Region(b"", (height, width), fault="has no mask, a box only", name=name))
        elif not len(points) or values[1:].min() < -0.5 or values[1:].max() > 1.5:
            fault = "is no line of a class and shares of width and height"
            found.append(Region(b"", (height, width), fault=fault, name=name))
        else:
            entry: dict[str, Any] = {"points": points.ravel().tolist()}
            if len(values) % 2 == 0:
                entry["score"] = float(values[-1])
            found += read_entry(entry, (height, width), name)
    return found


def _read_pngs(files: Sequence[str], example: Example) -> list[Region]:
    """A mask in each file; in SAM's metadata.csv beside them there may be their scores."""
    scores: dict[str, float] = {}
    table = pathlib.Path(files[0]).parent / "metadata.csv"
    if table.is_file():
        with _naming(example), naming_damage(table, "copy it again, or delete it"):
            rows = csv.DictReader(table.read_text().splitlines())
            scores = {row["id"]: float(row["predicted_iou"]) for row in rows}
    found = []
    for file in sorted(files, key=lambda file: (len(file), file)):
        encoded = read_encoded(pathlib.Path(file), example.key)
        values = decode_label_map(encoded, f"{example.key}: {file}", as_gray=True)
        try:
            score = scores.get(pathlib.PurePath(file).stem, float("nan"))
            found.append(from_mask(to_masks(values), score=score))
        except UserError as fault:
            found.append(Region(b"", _sizes(example)[0], fault=str(fault), name=file))
    return found


_READERS: dict[str, tuple[Reader, str]] = {
    ".npz": (_read_arrays, "arrays of masks"),
    ".npy": (_read_arrays, "arrays of masks"),
    ".json": (_read_json, "JSON files of masks"),
    ".txt": (_read_yolo, "YOLO's text files"),
}
