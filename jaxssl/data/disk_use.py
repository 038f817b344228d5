"""The space that stores of canvases take, which are kept until someone deletes them."""

import pathlib
from typing import TypedDict

from jaxssl.checked_files import read_json
from jaxssl.errors import UserError


class _Description(TypedDict):
    source: str


def describe_others(folder: pathlib.Path, spec: str) -> str:
    """A remark on complete stores beside one, of the same source string; "" if there are none.

    They may be of an earlier state of its images, of other settings, or of another of its parts.
    """
    sizes = {}
    for path in sorted(folder.parent.glob("canvases-*/store.json")):
        if path.parent != folder and _source_of(path) == spec:
            sizes[path.parent.name] = _bytes_on_disk(path.parent)
    if not sizes:
        return ""
    named = ", ".join(f"{name} ({size / 1e9:.3g} GB)" for name, size in sizes.items())
    return (
        f": {folder.parent} has other decoded images of it, {named}; delete those that no run uses "
        "any more (another run would make them again)"
    )


def _source_of(path: pathlib.Path) -> str:
    """The source string in a `store.json`; "" if that is damaged, or was deleted meanwhile."""
    try:
        return read_json(path, _Description, advice="")["source"]
    except (UserError, OSError):
        return ""


def _bytes_on_disk(folder: pathlib.Path) -> int:
    """What the files in a folder take, without their holes."""
    return sum(512 * file.stat().st_blocks for file in folder.iterdir())
