"""COCO's JSON files: instances, and results of other programs.

A file is read through once, for the names of its images and where in it their annotations are;
those of an image are parsed when it is its turn, so that processes share the file and not a copy.
"""

import array
import dataclasses
import reprlib
from collections.abc import Iterator, Mapping, MutableSequence
from typing import Any, ClassVar

import numpy as np

from jaxssl.data.source import Example, Size
from jaxssl.errors import UserError
from mask_tools.json_lists import read_lists, read_spans
from mask_tools.mask_reader import read_entry
from mask_tools.regions import Region

_NAMES = ("file_name", "filename", "name", "path", "coco_url", "url", "flickr_url")


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """The annotations of a file: its images, and the places of their annotations in it."""

    unit: ClassVar[str] = "annotations"

    kind: str
    path: str
    names: tuple[str, ...]  # of the images
    sizes: tuple[Size | None, ...]  # of the images, where the file has them
    extents: np.ndarray  # i64[n, 2]: of each image, the first and the last of its spans
    spans: np.ndarray  # i64[m, 2]: bytes of the file
    strays: tuple[str, ...]  # the image of each annotation that is of none in the file
    example: str  # how an image is listed
    notes: tuple[str, ...] = ()  # what is to be said of the file as a whole
    keeps_crowds: bool = False
    omits_empty: bool = False  # an image that it does not name has no annotation

    @property
    def counts(self) -> np.ndarray:
        """Annotations of each image, i64[n]."""
        return self.extents[:, 1] - self.extents[:, 0]

    def paths(self, number: int) -> list[str]:
        """The files, beside this one, from which the annotations of an image are read."""
        return []

    def read(self, number: int, example: Example) -> list[Region]:
        """The annotations of an image."""
        begin, end = self.extents[number].tolist()
        entries = read_spans(self.path, self.spans[begin:end].tolist())
        size = self.sizes[number] or example.size
        found: list[Region] = []
        for place, entry in enumerate(entries):
            name = f"annotation {entry.get('id', place)}"
            if self.is_crowd(entry):
                found.append(Region(b"", size, fault="is a crowd (iscrowd)", name=name))
            else:
                found += read_entry(entry, size, name)
        return found

    def is_crowd(self, entry: Mapping[str, Any]) -> bool:
        """Whether an annotation is of a crowd, and thus left out."""
        return _is_set(entry.get("iscrowd")) and not self.keeps_crowds


def open_instances(path: str, *, crowds: bool = False) -> CocoFile:
    """The instances that a file such as instances_train2017.json lists; `UserError` if it has none.

    With `crowds` those flagged as crowds are instances like others.
    """
    return read_listed(path).open("COCO instances", crowds)


def open_results(path: str, images: str) -> CocoFile:
    """The results of another program, of the images that the file `images` numbers, if it is given.

    Without it results name their image; a file with images of its own needs none.

    Raises:
      UserError: results have no image_id, or only the number of an image.
    """
    listed = read_listed(path, by_name=not images)
    if listed.images:
        return listed.open("COCO instances", crowds=False)
    if not listed.slots:
        raise UserError(f"{path} is no list of COCO results with an image_id each")
    if images:
        numbered = read_listed(images).images
        if not numbered:
            raise UserError(f"--images {images} has no list of images")
    elif listed.number is not None:
        raise UserError(
            f"results in {path} are of the image {reprlib.repr(listed.number)}: give the file of "
            "annotations that numbers the images, --images FILE.json"
        )
    else:
        numbered = [{"id": name, "file_name": name} for name in listed.written]
    opened = dataclasses.replace(listed, images=numbered).open("COCO results", crowds=True)
    return dataclasses.replace(opened, omits_empty=True)


@dataclasses.dataclass(frozen=True)
class Listed:
    """The images and annotations that a file lists."""

    path: str
    images: list[dict[str, Any]]
    slots: dict[str, int]  # the number of each image_id, as `id_of` has it
    written: list[str]  # the image_ids, as they are in the file
    order: np.ndarray  # i64[m]: annotations, those of one image after another
    first: np.ndarray  # i64[slots + 1]: where in `order` those of each image begin
    bounds: np.ndarray  # i64[m, 2]: bytes of each annotation
    flagged: int  # annotations, or segments, that are crowds
    total: int
    number: Any  # the first image_id that is a number
    files: dict[int, str]  # of panoptic annotations; other kinds have none
    by_name: bool  # whether an image_id is the name of its image, as it is written

    def id_of(self, given: Any) -> str:
        """An image_id as text."""
        return str(given) if self.by_name else plain_id(given)

    def open(self, kind: str, crowds: bool, *, panoptic: bool = False) -> CocoFile:
        """The annotations of the images; `UserError` if there are none of this kind."""
        self._check(kind, panoptic)
        names, sizes, extents = [], [], []
        owned: dict[str, str] = {}
        for image in self.images:
            name = next((str(image[key]) for key in _NAMES if image.get(key)), None)
            number = self.id_of(image.get("id"))
            if name is None or owned.get(number) == name:
                continue
            if number in owned:
                raise UserError(
                    f"{self.path} numbers two images {number}: {owned[number]} and {name}"
                )
            owned[number] = name
            slot = self.slots.get(number)
            names.append(name)
            sizes.append(_size(image))
            extents.append((0, 0) if slot is None else self.first[slot : slot + 2])
        if not names:
            raise UserError(f"{self.path} names none of its images: they have no file_name")
        everything = not crowds and 0 < self.flagged == self.total
        note = f"all {self.total} annotations have iscrowd set: they are taken as objects"
        return CocoFile(
            kind=kind,
            path=self.path,
            names=tuple(names),
            sizes=tuple(sizes),
            extents=np.array(extents, np.int64).reshape(-1, 2),
            spans=self.bounds[self.order],
            strays=tuple(self._strays(owned)),
            example=f"the image {names[0]!r} has the id {next(iter(owned))}",
            notes=(note,) if everything else (),
            keeps_crowds=crowds or everything,
        )

    def _check(self, kind: str, panoptic: bool) -> None:
        for what, there in (("annotations", self.slots), ("images", self.images)):
            if not there:
                raise UserError(
                    f"{self.path} has no list of {what}, so it is no COCO annotation file: export "
                    "it as one"
                )
        if panoptic != bool(self.files):
            other = "panoptic" if self.files else "coco"
            raise UserError(f"{self.path} holds no {kind}; give --format {other}")

    def _strays(self, owned: Mapping[str, str]) -> Iterator[str]:
        for image, slot in self.slots.items():
            if image not in owned:
                yield from [image] * int(self.first[slot + 1] - self.first[slot])


@dataclasses.dataclass
class _Read:
    """What was read of a file so far; the fields are those of `Listed`, or lead to them."""

    images: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    slots: dict[str, int] = dataclasses.field(default_factory=dict)
    written: list[str] = dataclasses.field(default_factory=list)
    owners: MutableSequence[int] = dataclasses.field(default_factory=lambda: array.array("q"))
    bounds: MutableSequence[int] = dataclasses.field(default_factory=lambda: array.array("q"))
    files: dict[int, str] = dataclasses.field(default_factory=dict)
    flagged: int = 0
    total: int = 0
    number: Any = None
    nameless: int = -1  # where an entry begins that names no image

    def take(self, of: str, start: int, end: int, entry: Any) -> None:
        """Adds an entry of the list `of`, which has these bytes."""
        is_dict = isinstance(entry, dict)
        if is_dict and of == "images":
            self.images.append(entry)
        if of not in ("", "annotations") and not (is_dict and "segmentation" in entry):
            return
        image = entry.get("image_id", entry.get("file_name", of)) if is_dict else None
        if image in ("", "annotations", None):
            image, entry, self.nameless = "none", {}, start
        if self.number is None and not isinstance(image, str):
            self.number = image
        if "segments_info" in entry:
            self.files[len(self.owners)] = str(entry.get("file_name", ""))
        exact = image if isinstance(image, str) else plain_id(image)
        self.owners.append(self.slots.setdefault(exact, len(self.slots)))
        if len(self.slots) > len(self.written):
            self.written.append(exact)
        self.bounds.extend((start, end))
        parts = segments_of(entry) or [] if "segments_info" in entry else [entry]
        self.flagged += sum(_is_set(part.get("iscrowd")) for part in parts)
        self.total += len(parts)


def read_listed(path: str, *, by_name: bool = False) -> Listed:
    """Reads a file through once; returns what it lists.

    With `by_name` an image_id may be the name of its image, if the file lists no images: then "1"
    and "01" are two.
    """
    read = _Read()
    for of, start, end, entry in read_lists(path):
        read.take(of, start, end, entry)
    if read.nameless >= 0 and len(read.slots) == 1:
        raise _no_coco(path, read.nameless)
    slot_of, slots = np.array(read.owners, np.int64), read.slots
    by_name = by_name and not read.images
    if not by_name:
        plain: dict[str, int] = {}
        merged = [plain.setdefault(plain_id(text), len(plain)) for text in slots]
        slot_of, slots = np.array(merged, np.int64)[slot_of], plain
    order = np.argsort(slot_of, kind="stable")
    return Listed(
        path=path,
        images=read.images,
        slots=slots,
        written=read.written,
        order=order,
        first=np.searchsorted(slot_of[order], np.arange(len(slots) + 1)),
        bounds=np.array(read.bounds, np.int64).reshape(-1, 2),
        flagged=read.flagged,
        total=read.total,
        number=read.number,
        files=read.files,
        by_name=by_name,
    )


def _no_coco(path: str, byte: int) -> UserError:
    return UserError(
        f"{path} is no list of COCO results with an image_id each, nor a file of COCO "
        f"annotations: see its byte {byte}; masks of one image belong into a file of its name, "
        "and --path is their folder"
    )


def segments_of(entry: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The segments of a panoptic annotation; None if it has no list of them."""
    given = entry.get("segments_info")
    return [part for part in given if isinstance(part, dict)] if isinstance(given, list) else None


def _is_set(flag: Any) -> bool:
    return str(flag).strip().lower() not in ("", "0", "0.0", "false", "none")


def plain_id(given: Any) -> str:
    """An id as text, the same for 7, 7.0, "7" and "007"."""
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    text = str(given)
    return str(int(text)) if text.isdecimal() and text.isascii() and len(text) < 20 else text


def _size(image: Mapping[str, Any]) -> Size | None:
    try:
        size = int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None
