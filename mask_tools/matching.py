"""The step before an export that reads annotations: which of them belongs to which image.

Nothing is guessed or dropped silently: images and annotations without a partner are counted and
named, and too many of them are an error.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxssl.data.name_matching import Matches, NameIndex, describe_mismatch
from jaxssl.data.orientation import SIDEWAYS
from jaxssl.data.source import Example, Source, keys_of
from jaxssl.errors import UserError
from mask_tools.coco_json import CocoFile
from mask_tools.csv_boxes import CsvBoxes
from mask_tools.mask_files import MaskFiles
from mask_tools.mask_reader import BOX_ONLY
from mask_tools.regions import Region

_UPRIGHT = "annotations taken as upright"
_VANISHED = "covers no pixel once --max-side shrinks its image"
MIN_MATCHED = 0.5  # fraction of the images, or of what annotations there are if those are fewer


Opened = CocoFile | CsvBoxes | MaskFiles  # annotations that were found, but not read


@runtime_checkable
class Annotated(Protocol):
    """A segmenter that reads annotations."""

    def opened(self) -> Opened | None:
        """Its annotations; None if the examples carry them."""

    def read(self, number: int, example: Example) -> list[Region]:
        """The regions of an example, from the annotations of that number."""

    def __call__(self, example: Example) -> list[Region]:
        """The regions of an example, alone."""


@dataclasses.dataclass(frozen=True)
class MatchReport:
    """Images and annotations that match and those that do not; as text, lines of a table."""

    opened: Opened
    matches: Matches
    images: int
    annotations: int  # all there are
    matched: int  # those of images that are there
    listed_without: tuple[str, ...]  # images that the annotations list, of which there is none
    lonely_images: tuple[str, ...]
    lonely_names: tuple[str, ...]  # of annotations in the file whose image is not there

    @property
    def images_with(self) -> int:
        """The number of images with an annotation."""
        return len(self.matches.number_of) - len(self.listed_without)

    def texts(self) -> dict[str, str]:
        """The lines of a table: texts by their names."""
        unit = self.opened.unit
        texts = {
            unit: f"{self.annotations} in {self.opened.path} ({self.opened.kind}), "
            f"{self.matched} of them of images in the source",
            "images with annotations": f"{self.images_with} of {self.images}",
        }
        for name, few in (
            ("images listed with none", self.listed_without),
            ("images without", self.lonely_images),
            ("annotated, but no image", self.lonely_names),
            (f"{unit} of no listed image", self.opened.strays),
            ("matched by part of the name", self.matches.loose),
        ):
            if few:
                texts[name] = f"{len(few)}; first: {few[0]}"
        if self.lonely_images and self.opened.omits_empty:
            texts["images without"] += "; they are kept, with no region"
        return texts | {f"note {i}": note for i, note in enumerate(self.opened.notes, 1)}


@dataclasses.dataclass
class Faults:
    """Annotations, or regions of a source, that are left out."""

    count: dict[str, int] = dataclasses.field(default_factory=dict)  # by why
    first: dict[str, str] = dataclasses.field(default_factory=dict)  # its name and its image's
    empty_images: int = 0  # that have annotations, none of which is a region
    upright: int = 0  # images whose annotations are taken as upright; see `Matched`

    @classmethod
    def of(cls, found: Sequence[Region], key: str) -> "Faults":
        """Those among the annotations of an image."""
        faulty = [region for region in found if region.fault]
        return cls(
            count=dict(Counter(region.fault for region in faulty)),
            first={r.fault: f"{r.name or 'a mask'} of {key}" for r in reversed(faulty)},
            empty_images=int(bool(found) and len(faulty) == len(found)),
        )

    @classmethod
    def of_vanished(cls, number: int, key: str) -> "Faults":
        """So many regions that an image lost when it was shrunk."""
        return cls({_VANISHED: number}, {_VANISHED: f"a mask of {key}"}) if number else cls()

    def add(self, other: "Faults") -> None:
        """Counts those of another shard, too."""
        for fault, count in other.count.items():
            self.count[fault] = self.count.get(fault, 0) + count
        self.first = other.first | self.first
        self.empty_images += other.empty_images
        self.upright += other.upright

    def __str__(self) -> str:
        return "; ".join(
            f"{fault}: {count} (first: {self.first[fault]})" for fault, count in self.count.items()
        )

    def advice(self) -> str:
        """What to do about them, where there is an option for it."""
        return (
            "; --boxes, with another --out, makes rectangles of boxes"
            if BOX_ONLY in self.count
            else ""
        )

    def texts(self, what: str = "annotations") -> dict[str, str]:
        """The lines of a table: texts by their names; `what` is left out."""
        texts = {f"{what} left out": str(self)} if self.count else {}
        if self.empty_images:
            texts["images left without a region"] = f"{self.empty_images}"
        if self.upright:
            texts[_UPRIGHT] = (
                f"of {self.upright} images that EXIF turns; first: {self.first[_UPRIGHT]}; if they "
                "are of the images as stored, give --stored, with another --out"
            )
        return texts


@dataclasses.dataclass
class Matched:
    """A segmenter that reads the annotations that were found for each image; counts their faults.

    An image of which all are at fault stays, without a region. Where EXIF turns an image and leaves
    its size, that does not tell whether its annotations are of the image as stored.
    """

    segmenter: Annotated
    numbers: Mapping[str, int] | None  # by the key of the image; None: examples carry them
    faults: Faults = dataclasses.field(default_factory=Faults)
    needs_original_size: bool = True

    def __call__(self, example: Example) -> list[Region]:
        """The regions of an image."""
        if self.numbers is None:
            found = self.segmenter(example)
        else:
            number = self.numbers.get(example.key)
            found = [] if number is None else self.segmenter.read(number, example)
            if self._is_guessed(found, example):
                self.faults.add(Faults(first={_UPRIGHT: example.key}, upright=1))
        self.faults.add(Faults.of(found, example.key))
        return found

    def _is_guessed(self, found: Sequence[Region], example: Example) -> bool:
        keeps_size = example.orientation < SIDEWAYS[0] or example.size[0] == example.size[1]
        is_said = example.orientation == 1 or getattr(self.segmenter, "stored", True)
        return keeps_size and not is_said and not all(region.fault for region in found)


def match_names(keys: Sequence[str], opened: Opened) -> Matches:
    """The annotations of images of these keys: one rule for all commands.

    `UserError` if an annotation fits two images equally well, or an image two annotations.
    """
    if isinstance(opened, MaskFiles):
        opened.check_numbers(keys)
    return NameIndex(opened.names).match(keys)


def match(source: Source, opened: Opened, *, min_matched: float = MIN_MATCHED) -> MatchReport:
    """Finds the annotations of each image.

    Args:
      source: the images.
      opened: the annotations.
      min_matched: fraction of the images that must have annotations, or of the annotated images
        that must be there if those are fewer; of annotations of an image that the file lists, too.

    Raises:
      UserError: too few match, or an annotation fits two images.
    """
    keys = keys_of(source)
    matches = match_names(keys, opened)
    used = set(matches.number_of.values())
    counts = opened.counts
    report = MatchReport(
        opened=opened,
        matches=matches,
        images=len(keys),
        annotations=int(counts.sum()) + len(opened.strays),
        matched=int(counts[sorted(used)].sum()),
        listed_without=tuple(
            key for key, number in matches.number_of.items() if not counts[number]
        ),
        lonely_images=tuple(key for key in keys if key not in matches.number_of),
        lonely_names=tuple(name for i, name in enumerate(opened.names) if i not in used),
    )
    fewer = min(len(keys), len(opened.names))
    if len(used) < min_matched * fewer or not used:
        raise UserError(
            f"{len(used)} of {len(keys)} images match one of the {len(opened.names)} that are "
            f"annotated in {opened.path} ({opened.kind}), less than --min-matched {min_matched:g} "
            f"of {fewer}: {describe_mismatch(report.lonely_images, report.lonely_names)}"
        )
    if len(opened.strays) > (1 - min_matched) * report.annotations:
        raise UserError(
            f"{len(opened.strays)} of {report.annotations} annotations in {opened.path} are of no "
            f"image that is listed, more than --min-matched {min_matched:g} allows: the first has "
            f"the image_id {opened.strays[0]}, where {opened.example}"
        )
    return report


def check_fraction(option: str, value: float) -> None:
    """Raises `UserError` if the value of an option is no fraction."""
    if not 0 <= value <= 1:
        raise UserError(f"{option} {value:g}: give a fraction, 0 to 1")
