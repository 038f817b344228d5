"""Masks that another program made: MCG, SAM, Mask2Former, YOLO, whatever writes a known format."""

import dataclasses
import functools
import math
import pathlib
from typing import ClassVar

from jaxssl.data.name_matching import NameIndex
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.coco_json import open_results
from mask_tools.csv_boxes import open_csv
from mask_tools.mask_files import open_files
from mask_tools.mask_reader import fit, stored_frame, take_boxes
from mask_tools.matching import Opened
from mask_tools.regions import Region
from mask_tools.segmenters.fields import take_fields


@dataclasses.dataclass(frozen=True)
class Proposals:
    """Masks that another program made, in one of these formats:

        PATH.json      COCO results: a list of {"image_id", "segmentation", "score"}
        PATH.csv       boxes, one a row, in columns that its first line names
        PATH/KEY.json  the list of SamAutomaticMaskGenerator; SA-1B's; labelme's
        PATH/KEY/0.png, 1.png, ...: one mask each; SAM's metadata.csv may be beside them
        PATH/KEY.npz   `masks` [n, h, w] and, optionally, `scores` [n]; or KEY.npy
        PATH/KEY.txt   YOLO's: a line of class x y x y ... for each mask
        PATH/KEY.xml   Pascal VOC's boxes

    An image_id is the image's path in its folder, or the end of that path, with or without the
    file extension; if it is a number, the option images names the COCO file that explains it.

    Masks are bool, 0 and 1, 0 and 255, fractions (above 0.5 is inside) or logits (above 0). If
    min-score is not 0, masks whose score is below it are left out, and, if top is not 0, all but
    the best so many of an image; either leaves out those without a score. Of what has a box and no
    mask, the option boxes makes rectangles. The option stored says that masks are of images as they
    are stored, before their EXIF orientation, where their size does not tell.
    """

    needs_original_size: ClassVar[bool] = True

    path: str = ""
    images: str = ""
    min_score: float = 0.0
    top: int = 0
    stored: bool = False
    boxes: bool = False

    def __post_init__(self) -> None:
        take_fields(self)
        if not self.path or not pathlib.Path(self.path).exists():
            raise UserError(
                f"--path {self.path or '(none)'} is neither COCO results, a table of boxes nor a "
                "folder of masks"
            )
        if self.images and (self._is_table or pathlib.Path(self.path).is_dir()):
            raise UserError(
                f"--images is for a file of COCO results, which --path {self.path} is not; leave "
                "it out"
            )
        if self.top < 0:
            raise UserError(f"--top {self.top} is negative; give 0 for all masks")

    def __call__(self, example: Example) -> list[Region]:
        """The masks of the image alone, best first; those of many are matched at once first."""
        number = self._index.find(example.key)
        if number is None and self._opened.omits_empty:
            return []
        if number is None:
            raise BrokenImage(f"{example.key}: has no masks in {self.path}")
        return self.read(number, example)

    def read(self, number: int, example: Example) -> list[Region]:
        """The masks of the image, from those of that number."""
        frame = stored_frame(example) if self.stored else example
        chosen_by_score = self.min_score != 0 or self.top != 0
        read = self._opened.read(number, frame)
        found = [
            fit(region, example, stored=self.stored, needs_score=chosen_by_score)
            for region in (take_boxes(read) if self.boxes else read)
        ]
        faulty = [region for region in found if region.fault]
        least = self.min_score or -math.inf  # scores may be logits
        kept = [r for r in found if not r.fault and r.score >= least]
        kept.sort(key=lambda region: -region.score)
        return kept[: self.top or None] + faulty

    def opened(self) -> Opened:
        """The masks of all images."""
        return self._opened

    @functools.cached_property
    def _opened(self) -> Opened:
        if pathlib.Path(self.path).is_dir():
            return open_files(self.path)
        return open_csv(self.path) if self._is_table else open_results(self.path, self.images)

    @property
    def _is_table(self) -> bool:
        return self.path.lower().endswith((".csv", ".tsv"))

    @functools.cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self._opened.names)
