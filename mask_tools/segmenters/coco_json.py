"""COCO's JSON files: instances, panoptic segments, and results of other programs."""

import functools
import json
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from jaxssl.data.label_maps import read_one
from jaxssl.data.rle import run_ends
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_labels


def load(path: str) -> Any:
    """The content of a JSON file; `UserError` if it cannot be read."""
    try:
        return json.loads(pathlib.Path(path).read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is no JSON file that can be read: {error}") from error


def instances(path: str, example: Example) -> list[Region]:
    """The instances of an image that `annotations` of a file lists, without those of crowds."""
    objects = [each for each in _annotations(path, example) if not each.get("iscrowd")]
    return decode(objects, path, example)


def decode(found: Sequence[Mapping[str, Any]], path: str, example: Example) -> list[Region]:
    """The regions of annotations or results of one image; `BrokenImage` if one is damaged."""
    size = example.image.shape[0], example.image.shape[1]
    regions = []
    for each in found:
        try:
            counts, coded_size = _compress(each["segmentation"], size)
            score = float(each.get("score", 1))
        except Exception as error:  # pycocotools raises whatever it likes, bare exceptions too
            raise BrokenImage(f"{example.key}: a mask of {path} is damaged: {error}") from error
        pixels = int(run_ends(counts)[-1]) if counts else 0
        if coded_size != size or pixels != size[0] * size[1]:
            raise BrokenImage(
                f"{example.key}: a mask of {path} is damaged: {pixels} pixels of {coded_size} in "
                f"an image of {size}"
            )
        regions.append(Region(counts, size, score))
    return regions


def panoptic(path: str, example: Example) -> list[Region]:
    """The segments of an image, things and stuff, from the PNG files in the folder beside a file.

    The folder has the name of the file without its ending, as in COCO's own archives.
    """
    annotations = _annotations(path, example)
    labels = read_one(pathlib.Path(path).with_suffix(""), example)
    listed = {segment["id"] for each in annotations for segment in each["segments_info"]}
    return from_labels(labels, ignore=set(labels.ravel().tolist()) - listed)


def _compress(segmentation: Any, size: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """Polygons or run lengths, compressed or not, as compressed run lengths and their size."""
    height, width = size
    if not isinstance(segmentation, dict):
        coded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        coded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        coded = segmentation
    counts = coded["counts"]
    height, width = coded["size"]
    return counts.encode() if isinstance(counts, str) else counts, (height, width)


def _annotations(path: str, example: Example) -> list[Any]:
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
def _entries(path: str) -> Mapping[str, tuple[tuple[int, int], list[Any]]]:
    """Size and annotations of each image, by its file name."""
    content = load(path)
    for name in ("annotations", "images"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise UserError(f"{path} has no list of {name}, so it is no COCO annotation file")
    found: dict[int, list[Any]] = defaultdict(list)
    for annotation in content["annotations"]:
        found[annotation["image_id"]].append(annotation)
    return {
        image["file_name"]: ((image["height"], image["width"]), found[image["id"]])
        for image in content["images"]
    }
