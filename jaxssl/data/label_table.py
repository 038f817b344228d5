"""Class labels in a table beside the images, as competitions give them: `labels=train.csv`.

One column names the images, by their paths in the folder or the ends of them (`name_matching.py`).
The classes are in the column called `label`, `class` or the like, or in the only other one.
"""

import csv
import pathlib
from collections.abc import Sequence

from jaxssl.checked_files import naming_damage, read_text
from jaxssl.data.name_matching import NameIndex
from jaxssl.errors import UserError

_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "class_id", "category", "target")


def read_labels(path: pathlib.Path, keys: Sequence[str]) -> dict[str, str]:
    """Names of the classes of those images of a folder that a table names.

    Raises `UserError` if it names few of them, or does not tell which column the classes are in.
    """
    rows = _read_rows(path)
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    columns = [[*dict.fromkeys(row[i] for row in rows if row[i])] for i in range(width)]
    found = [_match(names, keys) for names in columns]
    column = max(range(width), key=lambda i: len(found[i]), default=0)
    named = {key: columns[column][number] for key, number in found[column].items()} if rows else {}
    fewer = min(len(keys), len(columns[column])) if rows else 0
    if 2 * len(named) < fewer or not named:
        shown = f"; its last row is {','.join(rows[-1])}" if rows else ""
        some = f"{len(named)} of {len(keys)}" if named else "none"
        raise UserError(f"{path} names {some} of the images, such as {keys[0]}{shown}")
    header = [name.strip().lower() for name in rows[0]]
    if rows[0][column] in named.values():  # it has none
        header = [""] * width
    others = [i for i in range(width) if i != column]
    called = [i for i in others if header[i] in _LABEL_COLUMNS] or others
    if len(called) != 1:
        raise UserError(
            f"{path} has the columns {', '.join(rows[0])}: call the one of the classes label, in a "
            "first line"
        )
    table: dict[str, str] = {}
    for row in rows:
        name, label = row[column], row[called[0]]
        if table.setdefault(name, label) != label:
            raise UserError(f"{path} has two classes for {name}, {table[name]} and {label}")
    labels = {key: table[name] for key, name in named.items() if table[name]}
    if not labels:
        raise UserError(f"{path} has no class for any image: its column of classes is empty")
    return labels


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
        raise UserError(f"{path} cannot be read as a table of labels: {error}") from error
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
