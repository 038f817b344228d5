"""Boxes in a table: a header that names the columns, then a row for each box.

Such are the tables of TensorFlow's tutorials (`filename,width,height,class,xmin,ymin,xmax,ymax`)
and of Open Images (`ImageID,...,XMin,XMax,YMin,YMax`, shares of the image's sides).
"""

import array
import csv
import dataclasses
import math
import operator
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from jaxssl.checked_files import naming_damage
from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.mask_reader import SCORES, read_entry
from mask_tools.regions import Region

# Names of columns, without case and what is between words. Of a box, all four are needed.
_IMAGES = ("filename", "imageid", "image", "imagename", "imagepath", "filepath", "path", "file")
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"))  # x and y of the upper left corner
_BEFORE = ("", "bbox", "box")  # what may stand before each name of these
_SIZES = (("imageheight", "imagewidth"), ("height", "width"))
_GROUPS = ("isgroupof", "iscrowd")
_NO = ("", "0", "-1", "false")  # -1: Open Images does not know
_SHARES = 1.5  # where no number of a box is larger, they are shares of the image's sides
_WANTED = (
    "its first line must name one column of the images (filename, image, path or ImageID) and the "
    "four of one box: xmin, ymin, xmax, ymax; x1, y1, x2, y2; x, y, width, height; or x, y, w, h"
)


@dataclasses.dataclass(frozen=True)
class CsvBoxes:
    """The boxes of a table; an image that it does not name has none."""

    unit: ClassVar[str] = "boxes"
    kind: ClassVar[str] = "a table of boxes"
    omits_empty: ClassVar[bool] = True
    strays: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = ""

    path: str
    names: tuple[str, ...]  # of the images
    first: np.ndarray  # i64[images + 1]: where the boxes of each image begin
    lines: np.ndarray  # i64[n]: of the file
    # f32[n, 8]: left, top, width, height; score; 1 for a group of objects; height and width of the
    # image. NaN where a cell is empty, infinity where it is no number.
    numbers: np.ndarray
    in_shares: bool  # of the image's sides, not pixels

    @property
    def counts(self) -> np.ndarray:
        """Boxes of each image, i64[images]."""
        return np.diff(self.first)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the file as a whole."""
        note = f"no number of a box is above {_SHARES}: they are shares of the image's sides"
        return (note,) if self.in_shares else ()

    def paths(self, number: int) -> list[str]:
        """The files, beside this one, from which the boxes of an image are read."""
        return []

    def read(self, number: int, example: Example) -> list[Region]:
        """The boxes of an image, boxes alone."""
        found: list[Region] = []
        for row in range(self.first[number], self.first[number + 1]):
            left, top, width, height, score, group, *sides = self.numbers[row].tolist()
            is_said = all(map(math.isfinite, sides)) and min(sides) >= 1
            size = (int(sides[0]), int(sides[1])) if is_said else example.size
            name = f"line {self.lines[row]}"
            if group > 0:
                found.append(Region(b"", size, fault="is a group of objects", name=name))
                continue
            y, x = size if self.in_shares else (1, 1)
            box = [left * x, top * y, width * x, height * y]
            score = None if math.isnan(score) else score
            found += read_entry({"bbox": box, "score": score}, size, name)
        return found


def open_csv(path: str) -> CsvBoxes:
    """The boxes of a table; `UserError` if its first line does not name the columns."""
    rows = _read_rows(path)
    header = next(rows, (0, []))[1]
    columns, has_corners = _find_columns(path, header)
    pick = operator.itemgetter(*columns)
    names: dict[str, int] = {}
    owners, lines, numbers = array.array("q"), array.array("q"), array.array("f")
    for line, cells in rows:
        given = [*cells[: len(header)], *[""] * (len(header) - len(cells)), ""]  # the last for -1
        image, *box, score, group, height, width = map(str.strip, pick(given))
        if not image:
            raise UserError(f"{path}, line {line}: its column of images is empty; fill it in")
        owner = names.setdefault(image, len(names))
        if any(box):  # else the image has none
            left, top, *rest = map(_number, box)
            sides = [rest[0] - left, rest[1] - top] if has_corners else rest
            others = _number(score), group.lower() not in _NO, _number(height), _number(width)
            owners.append(owner)
            lines.append(line)
            numbers.extend([left, top, *sides, *others])
    if not owners:
        raise UserError(f"{path} holds no box below its first line; give a table with one a row")
    owned = np.array(owners, np.int64)
    order = np.argsort(owned, kind="stable")
    values = np.array(numbers, np.float32).reshape(-1, 8)[order]
    edges = values[:, :4][np.isfinite(values[:, :4])]
    return CsvBoxes(
        path=path,
        names=tuple(names),
        first=np.searchsorted(owned[order], np.arange(len(names) + 1)),
        lines=np.array(lines, np.int64)[order],
        numbers=values,
        in_shares=bool(np.abs(edges).max(initial=0) <= _SHARES),
    )


def _read_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line on which it ends."""
    advice = "save it anew, as a table in UTF-8"
    with naming_damage(path, advice), open(path, encoding="utf-8-sig", newline="") as file:
        delimiter = max(",;\t", key=file.readline().count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        for cells in reader:
            if any(cells):
                yield reader.line_num, cells


def _find_columns(path: str, header: Sequence[str]) -> tuple[list[int], bool]:
    """The columns of image, box, score, group, height and width, -1 for one that is missing.

    And whether those of the box are two corners. `UserError` if an image or a box has no column,
    or several.
    """
    names = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in header]
    images = [name for name in names if name in _IMAGES]
    boxes = [
        four
        for few in (*_CORNERS, *_SIDES)
        for before in _BEFORE
        if set(four := tuple(before + name for name in few)) <= set(names)
    ]
    used = [*images, *(boxes[0] if boxes else ())]
    if len(images) != 1 or len(boxes) != 1 or any(names.count(name) > 1 for name in used):
        raise UserError(f"{path} begins with {','.join(header)[:200]!r}: {_WANTED}")
    known = {name: number for number, name in enumerate(names) if name not in used}
    scores = [re.sub("[^a-z0-9]", "", name) for name in SCORES]
    score, group = (next((known[n] for n in few if n in known), -1) for few in (scores, _GROUPS))
    sizes = [pair for pair in _SIZES if set(pair) <= set(known)]
    size = [known[name] for name in sizes[0]] if sizes else [-1, -1]
    found = [*map(names.index, (*images, *boxes[0])), score, group, *size]
    return found, any(boxes[0][2].endswith(few[2]) for few in _CORNERS)


def _number(cell: str) -> float:
    """The number in a cell: NaN if it is empty, infinity if it holds something else."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.inf
