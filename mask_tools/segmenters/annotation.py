"""Regions that people drew, in the formats of data sets."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from skimage.measure import label as connected

from jaxssl.data.label_maps import find, read, read_one
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_labels
from mask_tools.segmenters import coco_json

# The values of a label map that are no region, unless --ignore says others: background and void.
IGNORED = {
    "instances": (0,),
    "semantic": (255,),
    "source": (255,),
    "cityscapes": (0, 1, 2, 3, 4, 5, 6),
    "voc": (0, 255),
    "bsds": (),
    "coco": (),
    "panoptic": (),
}


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The regions that the data set's annotators drew, in one of these formats:

    instances   PATH/KEY.png, a value for each region, 0 for none; colors count as numbers
    semantic    PATH/KEY.png, a value for each class, 255 for none
    voc         Pascal VOC: PATH is SegmentationObject
    cityscapes  PATH/.../X_gtFine_instanceIds.png of the image X_leftImg8bit.png
    bsds        PATH/KEY_0.png, KEY_1.png, ...: a partition, and a level, for each annotator
    coco        PATH is a file such as instances_train2017.json; crowds are left out
    panoptic    PATH is a file such as panoptic_train2017.json, its PNGs are in the folder beside it
    source      the label map that the source carries, as some of tfds: do; needs no PATH

    KEY is the path of the image in its folder, or its name alone. Values to ignore can be given,
    and the components option makes a region of each connected part of a value.
    """

    needs_original_size: ClassVar[bool] = True

    format: str = "instances"
    path: str = ""
    ignore: tuple[float | int, ...] = ()
    components: bool = False

    def __post_init__(self) -> None:
        if self.format not in IGNORED:
            raise UserError(
                f"no annotation format {self.format!r}; choose --format {', '.join(IGNORED)}"
            )
        if self.format == "source":
            return
        path = pathlib.Path(self.path)
        if not self.path or not (path.is_file() if self._is_json else path.is_dir()):
            what = "the .json file" if self._is_json else "the folder"
            raise UserError(f"--path {self.path or '(none)'} is not {what} of the annotations")

    def __call__(self, example: Example) -> list[Region]:
        """The annotated regions of the image."""
        if self.format == "coco":
            return coco_json.instances(self.path, example)
        if self.format == "panoptic":
            return coco_json.panoptic(self.path, example)
        ignore = self.ignore or IGNORED[self.format]
        regions: list[Region] = []
        for level, labels in enumerate(self._label_maps(example)):
            ignored = np.isin(labels, ignore)
            if self.components:  # connected by sides and corners; 0 is a class like any other
                labels = connected(labels, background=-1, connectivity=2)
            labels = np.where(ignored, -1, labels)
            regions += from_labels(labels, level=level, ignore=(-1,))
        return regions

    def _label_maps(self, example: Example) -> Iterator[np.ndarray]:
        """The label map of the image, or that of each annotator."""
        root = pathlib.Path(self.path)
        if self.format == "source":
            if example.semantic is None:
                raise BrokenImage(f"{example.key}: its source carries no label map for it")
            yield example.semantic.astype(np.int64)
        elif self.format == "cityscapes":  # values are 1000 class + instance, or class
            key = example.key.replace("_leftImg8bit", "")
            kinds = ("_gtFine_instanceIds", "_gtCoarse_instanceIds", "_instanceIds")
            yield read(find(root, key, [f"{kind}.png" for kind in kinds]), example)
        elif self.format == "bsds":
            path = find(root, example.key, ("_0.png", "_1.png"))
            stem, _, first = path.stem.rpartition("_")
            for number in itertools.count(int(first)):
                path = path.with_name(f"{stem}_{number}.png")
                if not path.is_file():
                    return
                yield read(path, example)
        else:
            yield read_one(root, example)

    @property
    def _is_json(self) -> bool:
        return self.format in ("coco", "panoptic")
