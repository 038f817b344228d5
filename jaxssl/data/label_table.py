"""Class labels in a table beside the images, as competitions give them: `labels=train.csv`.

One column names the images, by their paths in the folder or the ends of them (`name_matching.py`).
The classes are in the column called `label`, `class` or the like, or in the only other one.
"""

import csv
import functools
import logging
import pathlib
from collections.abc import Sequence

from jaxssl.checked_files import naming_damage, read_text
from jaxssl.data.name_matching import NameIndex
from jaxssl.data.source import report
from jaxssl.errors import UserError

log = logging.getLogger("jaxssl.data")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "class_id", "category", "target")


def read_labels(path: pathlib.Path, keys: Sequence[str]) -> dict[str, str]:
    """Names of the classes of those images of a folder that a table names.

    Rows that name no image are counted in a warning, images without a class in a remark. Raises
    `UserError` if the table names fewer than half of as many images as it could, or does not tell
    which column the classes are in.
    """
    rows = _read_rows(path)
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    column, named = _find_names(path, rows, keys)
    called = set(named.values())
    has_header = rows[0][column] not in called
    header = [name.strip().lower() if has_header else "" for name in rows[0]]
    body = rows[has_header:]
    if unused := [row for row in body if row[column] not in called]:
        some = f"{len(unused)} of {len(body)} rows name no image, such as"
        _warn(f"{path}: {some} {','.join(unused[0])}")
    others = [i for i in range(width) if i != column]
    classes = [i for i in others if header[i] in _LABEL_COLUMNS] or others
    if len(classes) != 1:
        raise UserError(
            f"{path} has the columns {', '.join(rows[0])}: call the one of the classes label, in a "
            "first line"
        )
    table: dict[str, str] = {}
    for row in body:
        name, label = row[column], row[classes[0]]
        if table.setdefault(name, label) != label:
            raise UserError(f"{path} has two classes for {name}, {table[name]} and {label}")
    labels = {key: table[name] for key, name in named.items() if table[name]}
    if not labels:
        raise UserError(f"{path} has no class for any image: its column of classes is empty")
    if without := [key for key in keys if key not in labels]:
        some = f"{len(without)} of {len(keys)} images have no row with a class, such as"
        report(str(path), f": {some} {without[0]}; they have no label and are not evaluated on")
    return labels


def _find_names(
    path: pathlib.Path, rows: Sequence[Sequence[str]], keys: Sequence[str]
) -> tuple[int, dict[str, str]]:
    """The column that names images, and what it calls each of them."""
    width = max(map(len, rows), default=0)
    columns = [[*dict.fromkeys(row[i] for row in rows if row[i])] for i in range(width)]
    found = [_match(names, keys) for names in columns]
    column = max(range(width), key=lambda i: len(found[i]), default=0)
    named = {key: columns[column][number] for key, number in found[column].items()} if rows else {}
    fewer = min(len(keys), len(columns[column])) if rows else 0
    if 2 * len(named) < fewer or not named:
        called = set(named.values())
        unused = [row for row in rows if row[column] not in called]
        shown = f"; a row that names none of them is {','.join(unused[-1])}" if unused else ""
        some = f"{len(named)} of {len(keys)}" if named else "none"
        without = next(key for key in keys if key not in named)
        raise UserError(f"{path} names {some} of the images, and not {without}{shown}")
    return column, named


@functools.cache  # both parts of a data set read it
def _warn(message: str) -> None:
    log.warning(message)


def _match(names: Sequence[str], keys: Sequence[str]) -> dict[str, int]:
    """The number of the name in a column for each image; {} where several match equally well."""
    try:
        return NameIndex(names).match(keys).number_of
    except UserError:
        return {}


def _read_rows(path: pathlib.Path) -> list[list[str]]:
    advice = "give a table of labels, in UTF-8"
    try:
        text = read_text(path, advice=advice)
    except OSError as error:
        reason = f"cannot be read as a table of labels: {error.strerror}"
        raise UserError(f"{path} {reason if path.exists() else 'does not exist'}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=lambda mark: (first.count(mark), text.count(mark)))
    with naming_damage(path, advice):
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    if delimiter not in text:  # NAME CLASS
        rows = [part for row in rows for cell in row if (part := cell.rsplit(maxsplit=1))]
    return [[cell.strip() for cell in row] for row in rows if row]


def sort_classes(names: set[str]) -> tuple[str, ...]:
    """Names of classes in order: numbers by their value."""
    return tuple(sorted(names, key=lambda name: (not name.isdigit(), name.zfill(20), name)))
