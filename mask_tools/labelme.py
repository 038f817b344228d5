"""Shapes in labelme's JSON files: objects of several polygons, and masks."""

import base64
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
