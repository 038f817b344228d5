"""COCO's JSON files: instances, panoptic segments, and results of other programs."""

import functools
import math
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from jaxssl.checked_files import read_json
from jaxssl.data.label_maps import read_one
from jaxssl.data.rle import from_coco
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_labels


class Image(TypedDict):
    """An entry of `images`."""

    id: int | str
    file_name: str
    height: int
    width: int


class Segment(TypedDict):
    """An entry of `segments_info`."""

    id: int


class Annotation(TypedDict):
    """An entry of `annotations`, or of a file of results."""

    image_id: int | str
    segmentation: NotRequired[Any]  # `from_coco` says of what kinds
    segments_info: NotRequired[list[Segment]]
    score: NotRequired[float]
    iscrowd: NotRequired[bool | int]


class CocoFile(TypedDict):
    """A file of annotations."""

    images: list[Image]
    annotations: list[Annotation]


def instances(path: str, example: Example) -> list[Region]:
    """The instances of an image that `annotations` of a file lists, without those of crowds."""
    objects = [each for each in _annotations(path, example) if not each.get("iscrowd")]
    return decode(objects, path, example)


def decode(found: Sequence[Annotation], path: str, example: Example) -> list[Region]:
    """The regions of annotations or results of one image; `BrokenImage` if one is damaged."""
    size = example.image.shape[0], example.image.shape[1]
    regions = []
    for each in found:
        score = each.get("score", 1.0)
        try:
            rle = from_coco(each.get("segmentation"), size)
            if not math.isfinite(score):
                raise UserError(f"its score is {score}")
        except UserError as error:
            raise BrokenImage(f"{example.key}: a mask of {path} is damaged: {error}") from error
        regions.append(Region(rle, size, score))
    return regions


def panoptic(path: str, example: Example) -> list[Region]:
    """The segments of an image, things and stuff, from the PNG files in the folder beside a file.

    The folder has the name of the file without its ending, as in COCO's own archives.
    """
    annotations = _annotations(path, example)
    labels = read_one(pathlib.Path(path).with_suffix(""), example)
    if any("segments_info" not in each for each in annotations):
        raise UserError(f"{path} has annotations without segments_info; give a panoptic file")
    listed = {segment["id"] for each in annotations for segment in each["segments_info"]}
    return from_labels(labels, ignore=set(labels.ravel().tolist()) - listed)


def _annotations(path: str, example: Example) -> list[Annotation]:
    """Those of one image."""
    entries = _entries(path)
    entry = entries.get(example.key) or entries.get(pathlib.PurePath(example.key).name)
    if entry is None:
        raise BrokenImage(f"{example.key}: is not among the images of {path}")
    (size, annotations), own = entry, example.image.shape[:2]
    if size != own:
        raise BrokenImage(f"{example.key}: has {size} pixels in {path}, the image {own}")
    return annotations


@functools.lru_cache(maxsize=1)
def _entries(path: str) -> Mapping[str, tuple[tuple[int, int], list[Annotation]]]:
    """Size and annotations of each image, by its file name."""
    advice = "give a file of COCO annotations, or copy it again"
    content = read_json(pathlib.Path(path), CocoFile, advice=advice)
    found: dict[int | str, list[Annotation]] = defaultdict(list)
    for annotation in content["annotations"]:
        found[annotation["image_id"]].append(annotation)
    return {
        image["file_name"]: ((image["height"], image["width"]), found[image["id"]])
        for image in content["images"]
    }
