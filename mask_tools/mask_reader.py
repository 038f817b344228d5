"""Masks as programs write them, checked: run lengths, polygons, arrays. Anything else is an error.

A mask has a size of its own. `fit` brings it upright where it was made for the image as stored,
before its EXIF orientation, and refuses it if it has another size.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.data.orientation import turn_upright
from jaxssl.data.rle import coco, decode_mask, encode_mask, from_coco, mask_areas
from jaxssl.data.source import Example, Size
from jaxssl.errors import UserError
from mask_tools.regions import Region, from_labels, from_mask

_SEGMENTATION = ("segmentation", "points", "polygon", "mask", "rle")
# What programs call their confidence, the first that is there.
SCORES = (
    *("score", "scores", "predicted_iou", "predicted_ious", "iou_prediction", "iou_predictions"),
    *("iou_preds", "iou_scores", "iou_score", "iou", "confidence", "conf", "stability_score"),
)
_TOLERATED = 0.1  # fraction of a side by which points may lie outside
_NEAR = 4  # below the largest value: what JPEG makes of it
_NO_SCORE = float("nan")
_EMPTY = "has a mask that covers no pixel"
BOX_ONLY = "has no mask, a box only"


def read_entry(entry: Any, size: Size, name: str) -> list[Region]:
    """The region of an annotation: a dict with a segmentation and perhaps a score.

    Without a score it is NaN. `size` is that of polygons; `name` is the annotation's. A box alone
    is at fault, but for `take_boxes`.
    """
    fault = ""
    try:
        if not isinstance(entry, Mapping):
            raise UserError("is no annotation")
        masks = (entry.get(key) for key in _SEGMENTATION)
        given = next((mask for mask in masks if mask and mask != [[]]), None)
        if given is None:
            given, fault = _outline(entry.get("bbox")), BOX_ONLY
        score = next((entry[key] for key in SCORES if entry.get(key) is not None), None)
        if score is not None and not _is_score(score):
            raise UserError("has a score that is no number")
        rle, own = read_segmentation(given, size)
        if not mask_areas([rle])[0]:
            raise UserError(_EMPTY)
    except UserError as error:
        return [Region(b"", size, fault=str(error), name=name)]
    score = _NO_SCORE if score is None else float(score)
    return [Region(rle, own, score, fault=fault, name=name)]


def _outline(box: Any) -> list[int | float]:
    """The corners of COCO's box: x, y, width and height."""
    if not box:
        raise UserError("has no mask")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_score, box))):
        raise UserError("has a box that is not x, y, width and height")
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def take_boxes(regions: Sequence[Region]) -> list[Region]:
    """The regions, those that are boxes alone among them: rectangles."""
    return [dataclasses.replace(r, fault="") if r.fault == BOX_ONLY else r for r in regions]


def _is_score(value: Any) -> bool:
    """A number that records can hold, as f32."""
    return type(value) in (int, float) and abs(value) <= float(np.finfo(np.float32).max)


def read_segmentation(given: Any, size: Size) -> tuple[bytes, Size]:
    """Run lengths and their size, of run lengths, a list of them, polygons, or rows of 0 and 1.

    Raises:
      UserError: it is none of these, or damaged.
    """
    if isinstance(given, Mapping):
        own, counts = _whole(given.get("size")), _whole(given.get("counts"))
        if not isinstance(own, list) or [type(side) for side in own] != [int, int]:
            raise UserError("has run lengths without a size")
        return from_coco({"size": own, "counts": counts}, (own[0], own[1])), (own[0], own[1])
    if not isinstance(given, list) or not given:
        raise UserError("has a mask that is neither run lengths nor polygons")
    given = _plain_points(given)
    if isinstance(given[0], Mapping):
        coded = [read_segmentation(part, size) for part in given]
        sizes = {own for _, own in coded}
        if len(sizes) > 1:
            raise UserError("has run lengths of several sizes")
        parts = coco([rle for rle, _ in coded], min(sizes))
        return coco_mask.merge(parts)["counts"], min(sizes)
    if len(given) == size[0] and all(isinstance(row, list) for row in given):
        values = {type(value) for row in given for value in row}
        if values <= {bool, int} and {len(row) for row in given} == {size[1]}:
            return encode_mask(to_masks(np.array(given))), size
    polygons = [_flatten(part) for part in _polygons(given)]
    kept = [points for points in polygons if len(points) not in (0, 2, 4)]
    if not kept:
        raise UserError("has a polygon of fewer than three points")
    rle = from_coco(kept, size)
    _check_points(kept, size, rle)
    return rle, size


def _check_points(polygons: Sequence[Any], size: Size, rle: bytes) -> None:
    """Raises `UserError` if points are shares of the sides, or those of a larger image."""
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    if points.min() >= 0 and points.max() <= 1 and (points % 1).any():
        raise UserError("has points from 0 to 1: they must be in pixels, not shares of the sides")
    out = np.maximum(points - np.array(size[::-1]), -points).max(axis=0) / size[::-1]
    if out.max() > _TOLERATED and mask_areas([rle])[0]:
        height, width = size
        raise UserError(f"reaches far out of its image of {height} x {width} pixels")


def _plain_points(given: list[Any]) -> list[Any]:
    """Polygons with points [x, y] for those {"x": x, "y": y}."""
    if isinstance(given[0], list) and given[0]:
        first = given[0][0]
        return [_plain_points(p) for p in given] if isinstance(first, Mapping) else given
    if isinstance(given[0], Mapping) and {"x", "y"} <= set(given[0]):
        return [[point.get("x"), point.get("y")] for point in given]
    return given


def _whole(numbers: Any) -> Any:
    """The numbers of a list with 7 for 7.0."""
    if not isinstance(numbers, list):
        return numbers
    return [int(n) if type(n) is float and n.is_integer() else n for n in numbers]


def _polygons(given: list[Any]) -> list[Any]:
    """The polygons of a segmentation: one may stand alone, as numbers or as points."""
    if not isinstance(given[0], list):
        return [given]
    points = all(isinstance(part, list) and len(part) == 2 for part in given)
    return [given] if points and not isinstance(given[0][0], list) else given


def _flatten(points: Any) -> list[Any]:
    """x y x y ... of a polygon that may be a list of points."""
    if not isinstance(points, list):
        return [points]
    return [n for part in points for n in (part if isinstance(part, list) else [part])]


def read_array(
    values: np.ndarray, sizes: Sequence[Size], scores: np.ndarray | None
) -> list[Region]:
    """The regions of an array of masks, in whatever order of axes, of one of these sizes.

    bool, 0 and one other value, soft masks in [0, 1] (over 0.5), 8-bit ones (over 127), or logits
    (over 0); a single plane of whole numbers is a label map unless its edges are soft, 0 is no
    region.

    Raises:
      UserError: it is none of these.
    """
    if not values.size:
        return []
    fitting = [
        (axis, size)
        for size in sizes
        for axis in reversed(range(values.ndim - 1))
        if values.shape[axis : axis + 2] == size
    ]
    if not fitting:
        raise UserError(f"has an array of {values.shape} for an image of {sizes[0]}")
    axis, size = fitting[0]
    planes = np.moveaxis(values, (axis, axis + 1), (-2, -1)).reshape(-1, *size)
    if values.shape[-1] == len(planes) == 3 and (planes == planes[0]).all():
        planes = planes[:1]  # one mask or label map in the colors of an image
    if len(planes) == 1 and _is_label_map(planes[0]):
        return from_labels(planes[0].astype(np.int64).clip(0), ignore=(0,))  # below 0: void
    masks = to_masks(planes)
    if scores is None:
        return [from_mask(mask, score=_NO_SCORE) for mask in masks]
    if scores.size != len(masks):
        raise UserError(f"has {len(masks)} masks and {scores.size} scores")
    regions = [from_mask(m, score=float(s)) for m, s in zip(masks, scores.ravel(), strict=True)]
    return [
        region
        if _is_score(region.score)
        else dataclasses.replace(region, fault="has a score that is no number")
        for region in regions
    ]


def _is_label_map(plane: np.ndarray) -> bool:
    if plane.dtype.kind not in "iu" or len(found := np.unique(plane)) <= 2:
        return False
    return not looks_soft(found.tolist(), *flat_pixels(plane, 0, 255))


def flat_pixels(values: np.ndarray, above: int, below: int) -> tuple[int, int]:
    """How many pixels [..., h, w] lie between two values, and how many of them in a flat place.

    There they are like their neighbors above and to the left, as most are in a label map, and few
    where the edges of a mask are soft.
    """
    inner, own = (values > above) & (values < below), values[..., 1:, 1:]
    alike = (own == values[..., :-1, 1:]) & (own == values[..., 1:, :-1])
    return int(inner.sum()), int((inner[..., 1:, 1:] & alike).sum())


def looks_soft(found: Collection[int], between: int, flat: int) -> bool:
    """Whether values are those of 8-bit masks with soft edges, by their `flat_pixels`."""
    return max(found, default=0) in range(128, 256) and len(found) > 5 and 2 * flat < between


def to_masks(values: np.ndarray) -> np.ndarray:
    """The pixels inside: bool, of an array of masks of any type; see `read_array`."""
    if values.dtype == bool or not values.size:
        return values.astype(bool)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise UserError(f"has an array of {values.dtype}, or values that are not finite")
    least, most = values.min(), values.max()
    if least < 0:
        return values > 0
    if values.dtype.kind == "f" and most <= 1:
        return values > 0.5
    if np.isin(values, (0, most)).all():
        return values > 0
    if values.dtype == np.uint8 and most > 127:
        between, flat = flat_pixels(values, int(least), int(most) - _NEAR)
        if 2 * flat <= between:
            return values > 127
    raise UserError(
        f"has values from {least} to {most}: neither masks, logits nor shares of 1 (label maps are "
        "for --segmenter annotation)"
    )


def stored_frame(example: Example) -> Example:
    """The example with an image of the size that its file stores, before its EXIF orientation.

    For masks that do not say their size.
    """
    sideways = example.orientation > 4
    return dataclasses.replace(example, image=example.image.swapaxes(0, 1)) if sideways else example


def fit(
    region: Region, example: Example, *, stored: bool = False, needs_score: bool = False
) -> Region:
    """The region on the upright image, turned if it was made for the image as it is stored.

    Args:
      region: one of another size than its image's is at fault.
      example: of the image.
      stored: whether it was made for the image as stored where the size does not tell: of images
        that are upside down, mirrored or square.
      needs_score: whether it is at fault without a score; else the score is 1.
    """
    height, width = example.size
    if np.isnan(region.score):
        fault = region.fault or ("has no score" if needs_score else "")
        region = dataclasses.replace(region, score=1.0, fault=fault)
    if not region.fault and not mask_areas([region.rle])[0]:
        region = dataclasses.replace(region, fault=_EMPTY)
    if region.fault or (region.size == (height, width) and not stored):
        return region
    sideways = example.orientation > 4
    if region.size == ((width, height) if sideways else (height, width)) and (sideways or stored):
        mask = turn_upright(decode_mask(region.rle, region.size), example.orientation)
        return dataclasses.replace(region, rle=encode_mask(mask), size=(height, width))
    fault = f"is not of its image's size: {region.size[0]} x {region.size[1]}"
    return dataclasses.replace(region, rle=b"", size=(height, width), fault=fault)
