"""Boxes of objects as Pascal VOC's XML files have them, one file for each image."""

import math
import pathlib
import xml.etree.ElementTree as ElementTree

from jaxssl.checked_files import naming_damage
from jaxssl.data.source import Size
from mask_tools.mask_reader import read_entry
from mask_tools.regions import Region

_SIDES = ("xmin", "ymin", "xmax", "ymax")  # pixels from 1 on, the last ones included


def read_voc(path: pathlib.Path, size: Size) -> list[Region]:
    """The objects in a file, boxes alone; `size` is the image's where the file does not say it.

    Raises `UserError` if the file is damaged.
    """
    with naming_damage(path, "copy it again, or save it in Pascal VOC's format"):
        root = ElementTree.parse(path).getroot()
        texts = (root.findtext(f"size/{side}") for side in ("height", "width"))
        height, width = (int(float(text or 0)) for text in texts)
    size = (height, width) if height > 0 and width > 0 else size
    found = []
    for number, item in enumerate(root.iter("object")):
        try:
            sides = [float(item.findtext(f"bndbox/{side}") or math.nan) for side in _SIDES]
        except ValueError:
            sides = [math.nan] * 4
        left, top, right, bottom = sides
        box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
        found += read_entry({"bbox": box}, size, f"{path}, object {number}")
    return found
