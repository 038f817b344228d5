"""Class labels in a table beside the images, as competitions give them: `labels=train.csv`.

One column names the images: by their path in the folder, their name, or it without its ending. The
classes are in the column called `label`, `class` or the like, or in the only other one.
"""

import csv
import pathlib
import posixpath
from collections.abc import Sequence

from jaxssl.checked_files import naming_damage, read_text
from jaxssl.errors import UserError

_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "class_id", "category", "target")


def read_labels(path: pathlib.Path, keys: Sequence[str]) -> dict[str, str]:
    """Names of the classes of those images of a folder that a table names.

    Raises `UserError` if it names none of them, or does not tell which column the classes are in.
    """
    rows = _read_rows(path)
    width = max(map(len, rows), default=0)
    columns = [{row[i] for row in rows if len(row) > i} for i in range(width)]
    bases = [posixpath.basename(key) for key in keys]
    forms = (keys, bases, [posixpath.splitext(base)[0] for base in bases])
    counts = {
        (i, j): sum(map(columns[j].__contains__, forms[i])) for i in range(3) for j in range(width)
    }
    form, column = max(counts, key=counts.__getitem__, default=(0, 0))
    if not any(counts.values()):
        shown = f"; its last row is {','.join(rows[-1])}" if rows else ""
        raise UserError(f"{path} names none of the images, such as {keys[0]}{shown}")
    header = [name.strip().lower() for name in rows[0]]
    if rows[0][column] in forms[form]:  # it has none
        header = [""] * width
    others = [i for i in range(width) if i != column]
    called = [i for i in others if i < len(header) and header[i] in _LABEL_COLUMNS] or others
    if len(called) != 1:
        raise UserError(
            f"{path} has the columns {', '.join(rows[0])}: call the one of the classes label"
        )
    table = {row[column]: row[called[0]] for row in rows if len(row) > max(column, called[0])}
    named = zip(keys, forms[form], strict=True)
    return {key: table[name].strip() for key, name in named if table.get(name, "").strip()}


def _read_rows(path: pathlib.Path) -> list[list[str]]:
    advice = "give a table of labels, in UTF-8"
    try:
        text = read_text(path, advice=advice)
    except OSError as error:
        raise UserError(f"{path} cannot be read as a table of labels: {error}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    with naming_damage(path, advice):
        return [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]


def sort_classes(names: set[str]) -> tuple[str, ...]:
    """Names of classes in order: numbers by their value."""
    return tuple(sorted(names, key=lambda name: (not name.isdigit(), name.zfill(20), name)))
