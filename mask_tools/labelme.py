"""Shapes in labelme's JSON files: objects of several polygons, rectangles, and masks."""

import base64
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxssl.data.decode import decode_label_map
from jaxssl.data.rle import check_masks
from jaxssl.data.source import BrokenImage, Size
from mask_tools.regions import Region, from_mask


def join_groups(entries: Sequence[Any]) -> list[Any]:
    """Joins the polygons of one object in one entry: labelme's of a label and group_id."""
    joined: list[Any] = []
    groups: dict[str, list[Any]] = {}
    for entry in entries:
        group = entry.get("group_id") if isinstance(entry, dict) else None
        if group is None or entry.get("shape_type") != "polygon":
            joined.append(entry)
            continue
        points = groups.setdefault(f"{entry.get('label')} {group}", [])
        if not points:
            joined.append(entry | {"points": points})
        points.append(entry.get("points"))
    return joined


def rectangle(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with the box of labelme's rectangle, of which there are two corners."""
    corners: Any = entry.get("points")
    box = corners
    with contextlib.suppress(TypeError, ValueError):
        (x0, y0), (x1, y1) = corners
        box = [min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)]
    return {**entry, "points": None, "bbox": box}


def read_patch(entry: Mapping[str, Any], size: Size, name: str) -> Region:
    """The region of labelme's masks: a PNG file as text, and the corners of where it is."""
    try:
        check_masks([], size)
        mask = np.zeros(size, bool)
        patch = decode_label_map(base64.b64decode(entry["mask"]), name, as_gray=True) > 0
        x, y = (round(number) for number in entry["points"][0])
        if min(x, y) < 0:
            raise ValueError("it would be counted from the other side")
        mask[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    except (BrokenImage, KeyError, IndexError, TypeError, ValueError, OverflowError):
        return Region(b"", size, fault="has a mask that is damaged, or not inside", name=name)
    return dataclasses.replace(from_mask(mask, score=float("nan")), name=name)
