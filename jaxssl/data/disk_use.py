"""The space that stores of canvases take, which are kept until someone deletes them."""

import os
import pathlib
from collections.abc import Collection
from typing import NotRequired, TypedDict

from jaxssl.checked_files import read_json
from jaxssl.errors import UserError


class _Description(TypedDict):
    source: str
    location: NotRequired[str]  # stores of before have none: their source may be an absolute path


def location(spec: str) -> str:
    """A source string that means the same in every folder; there may be many `folder:photos`."""
    scheme, _, path = spec.partition(":")
    if scheme not in ("folder", "records"):
        return spec
    return f"{scheme}:{os.path.abspath(os.path.expanduser(path))}"


def describe_others(folder: pathlib.Path, spec: str, used: Collection[pathlib.Path]) -> str:
    """A remark on complete stores beside one, of the same source; "" if there are none.

    They are of an earlier state of its images or of other settings. Those that this process has
    `used` are of its other parts, or of another task.
    """
    sizes = {}
    for path in sorted(folder.parent.glob("canvases-*/store.json")):
        if path.parent not in (folder, *used) and _location_of(path) == location(spec):
            sizes[path.parent.name] = _bytes_on_disk(path.parent)
    if not sizes:
        return ""
    named = ", ".join(f"{name} ({size / 1e9:.3g} GB)" for name, size in sizes.items())
    return (
        f": {folder.parent} has other decoded images of it, {named}; delete those that no run uses "
        "any more (another run would make them again)"
    )


def _location_of(path: pathlib.Path) -> str:
    """The source in a `store.json`; "" if that is damaged, or was deleted meanwhile."""
    try:
        description = read_json(path, _Description, advice="")
        return description.get("location", description["source"])
    except (UserError, OSError):
        return ""


def _bytes_on_disk(folder: pathlib.Path) -> int:
    """What the files in a folder take, without their holes."""
    return sum(512 * file.stat().st_blocks for file in folder.iterdir())
