"""Files that appear under their name only when they are complete and on the disk."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def written_aside(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A file to write beside `path`, which takes that name at the end unless something raises."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Makes the names in a folder last through a power cut, as fsync does for what files hold."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
