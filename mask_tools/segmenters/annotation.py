"""Regions that people drew, in the formats of data sets."""

import contextlib
import dataclasses
import functools
import pathlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from skimage.measure import label as connected

from jaxssl.checked_files import naming_damage
from jaxssl.data.folder import SUFFIXES, find_files
from jaxssl.data.label_maps import LABEL_MAPS, read_label_map, void_of
from jaxssl.data.name_matching import NameIndex, masks_beside
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.coco_json import open_instances
from mask_tools.coco_panoptic import open_panoptic
from mask_tools.mask_files import MaskFiles, broken_by, group
from mask_tools.mask_reader import fit, flat_pixels, looks_soft, stored_frame, take_boxes
from mask_tools.mat_files import read_mat
from mask_tools.matching import Opened
from mask_tools.regions import Region, from_labels
from mask_tools.segmenters.fields import take_fields

# The values of a label map that are no region, unless --ignore says others: background and void.
IGNORED = {
    "instances": (0,),
    "semantic": (255,),
    "source": (255,),
    "cityscapes": (0, 1, 2, 3, 4, 5, 6),
    "voc": (0, 255, 224 + 224 * 256 + 192 * 65536),  # the last is 255 where VOC's colors are saved
    "bsds": (),
    "coco": (),
    "panoptic": (),
}
# Files of other kinds, beside those of a format.
_OTHERS = {
    "instances": r".*_(labelids|labeltrainids|color|parts_\d+)",
    "semantic": r".*_(instanceids|labeltrainids|color|parts_\d+)|(.*/)?instance_\d+_.*",
    "voc": r"(.*/)?segmentationclass/.*",
}
_SAMPLED = 20  # label maps that are looked into before
_ANNOTATOR = re.compile(r"(.*)_(\d+)")
_JSON = {"coco": open_instances, "panoptic": open_panoptic}


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The regions that the data set's annotators drew, in one of these formats:

        instances   PATH/KEY.png: a value for each region, 0 for none; a color is a value
        semantic    PATH/KEY.png: a value for each class, 255 for none; in ADE20K's 0 as well
        voc         Pascal VOC: PATH is VOC2012 or its SegmentationObject
        cityscapes  PATH/.../X_gtFine_instanceIds.png of the image X_leftImg8bit.png
        bsds        PATH/KEY.mat, or KEY_0.png, KEY_1.png, ...: one level per annotator; SBD's, too
        coco        PATH is a file such as instances_train2017.json; crowds are left out
        panoptic    PATH is a file such as panoptic_train2017.json, with its PNGs beside it
        source      the label map in the source, which some tfds: sources have; needs no PATH

    KEY is the path of the image in its folder, or the end of that path; a word such as _seg or
    _mask may follow. The option ignore gives the values that are not regions, and components makes
    a region of each connected part of a value. The option crowds keeps what is flagged as a crowd.
    Of coco's annotations that have a box and no mask, the option boxes makes rectangles.
    The option stored says that annotations are of images as they are stored, before their EXIF
    orientation, where their size does not tell.
    """

    needs_original_size: ClassVar[bool] = True

    format: str = "instances"
    path: str = ""
    ignore: tuple[float | int, ...] = ()
    components: bool = False
    crowds: bool = False
    stored: bool = False
    boxes: bool = False

    def __post_init__(self) -> None:
        take_fields(self)
        if self.format not in IGNORED:
            raise UserError(
                f"no annotation format {self.format!r}; choose --format {', '.join(IGNORED)}"
            )
        path, is_json = pathlib.Path(self.path), self.format in _JSON
        for option, applies in (
            ("ignore", not is_json),
            ("components", not is_json),
            ("crowds", is_json),
            ("boxes", self.format == "coco"),
            ("path", self.format != "source"),
        ):
            if getattr(self, option) and not applies:
                raise UserError(f"--format {self.format} has no use for --{option}; leave it out")
        if not all(float(value).is_integer() for value in self.ignore):
            raise UserError(f"--ignore {self.ignore}: give whole numbers, the values of label maps")
        if self.format == "source":
            return
        if not self.path or not (path.is_file() if is_json else path.is_dir()):
            what = "the .json file" if is_json else "the folder"
            given, hint = self.path or "(none)", f"; of a file give --format {' or '.join(_JSON)}"
            hint = hint if path.is_file() and not is_json else ""
            raise UserError(f"--path {given} is not {what} of the annotations{hint}")

    def __call__(self, example: Example) -> list[Region]:
        """The annotated regions of the image, alone; those of many are matched at once first."""
        if self.format == "source":
            if example.semantic is None:
                raise BrokenImage(
                    f"{example.key}: its source carries no label map for it, or none that fits; "
                    "give --path and another --format"
                )
            return self._regions(example.semantic.astype(np.int64))
        number = self._index.find(example.key)
        if number is None:
            raise BrokenImage(f"{example.key}: has no annotation in {self.path}")
        return self.read(number, example)

    def read(self, number: int, example: Example) -> list[Region]:
        """The annotated regions of the image, from the annotations of that number."""
        found = self._opened.read(number, stored_frame(example) if self.stored else example)
        found = take_boxes(found) if self.boxes else found
        return [fit(region, example, stored=self.stored) for region in found]

    def opened(self) -> Opened | None:
        """The annotations; None if the examples carry them."""
        if self.format == "source":
            return None
        if isinstance(self._opened, MaskFiles):
            self._opened.check()
            if self.format in ("instances", "semantic", "voc"):
                self._check_values(self._opened.files)
        return self._opened

    def _check_values(self, files: Sequence[Sequence[str]]) -> None:
        """Raises `UserError` if the maps look like masks: 255 is the object, or edges are soft."""
        values: set[int] = set()
        between, flat = 0, 0  # `flat_pixels` from 1 to 254
        for few in files[:: len(files) // _SAMPLED + 1]:
            with contextlib.suppress(BrokenImage):  # it is named when it is to be used
                labels = read_label_map(pathlib.Path(few[0]), "")
                values.update(np.unique(labels).tolist())
                here = flat_pixels(labels, 0, 255)
                between, flat = between + here[0], flat + here[1]
        if looks_soft(values, between, flat):
            raise UserError(
                f"label maps in {self.path} have values that differ from pixel to pixel, as masks "
                "with soft edges do: give --segmenter proposals if each file is one mask, which "
                "takes what is over 127, or save them anew, without resizing and not as JPEG"
            )
        if values == {0, 255} and 255 in self._ignored:
            raise UserError(
                f"label maps in {self.path} have no values but 0 and 255, and --format "
                f"{self.format} takes 255 for no class: if it is the object, --format instances"
            )

    @functools.cached_property
    def _opened(self) -> Opened:
        if self.format in _JSON:
            return _JSON[self.format](self.path, crowds=self.crowds)
        named = defaultdict(list)
        if self.format == "bsds":
            for file in find_files(self.path, (".mat", ".png")):
                stem = file.rpartition(".")[0]
                numbered = _ANNOTATOR.fullmatch(stem) if file.lower().endswith(".png") else None
                named[numbered[1] if numbered else stem].append(file)
        else:
            for file in self._find_maps():
                named[file].append(file)
        return group(f"{self.format} label maps", self.path, named, self._read_files)

    def _find_maps(self) -> list[str]:
        """The files of label maps; where some lie beside their images, those."""
        endings = ("_instanceids.png",) if self.format == "cityscapes" else LABEL_MAPS
        others = re.compile(_OTHERS.get(self.format, "(?!)"))
        files = list(find_files(self.path, SUFFIXES))
        beside = masks_beside(files)
        maps = [
            file
            for file in files
            if file.lower().endswith(endings)
            and not others.fullmatch(file.rpartition(".")[0].casefold())
        ]
        return [file for file in maps if file in beside] or maps

    @functools.cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self._opened.names)

    def _read_files(self, files: Sequence[str], example: Example) -> list[Region]:
        regions: list[Region] = []
        for file in sorted(files, key=lambda file: (len(file), file)):
            path = pathlib.Path(file)
            is_mat = path.suffix.lower() == ".mat"
            maps = _read_mat(path, example) if is_mat else [read_label_map(path, example.key)]
            for labels in maps:
                level = regions[-1].level + 1 if regions else 0
                regions += self._regions(labels, level)
        return regions

    def _regions(self, labels: np.ndarray, level: int = 0) -> list[Region]:
        """The regions of a label map, in which -1 is never one."""
        ignored = np.isin(labels, (-1, *self._ignored))
        if self.components:  # connected by sides and corners; 0 is a class like any other
            labels = connected(labels, background=-1, connectivity=2)
        return from_labels(np.where(ignored, -1, labels), level=level, ignore=(-1,))

    @functools.cached_property
    def _ignored(self) -> tuple[float | int, ...]:
        void = void_of(self._opened.names) if self.format == "semantic" else ()
        return self.ignore or (*IGNORED[self.format], *void)


def _read_mat(path: pathlib.Path, example: Example) -> list[np.ndarray]:
    """The segmentations of BSDS's annotators, or the one of SBD, in which 0 is no region."""
    with broken_by(example), naming_damage(path, "copy it again if it is of BSDS or SBD"):
        content = read_mat(path)
        single = content.get("GTinst") or content.get("GTcls")
        given = [single] if single else content["groundTruth"]
        maps = [one["Segmentation"] for (one,) in given]
        if any(labels.ndim != 2 or not np.isfinite(labels).all() for labels in maps):
            raise UserError("a segmentation is no label for each pixel")
        maps = [labels.astype(np.int64) for labels in maps]
        return [np.where(labels == 0, -1, labels) if single else labels for labels in maps]
