"""Tells whether a source has the images that it had before, wherever they are now."""

import concurrent.futures
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from jaxssl.data.source import Source

_SAMPLED, _ENDS = 1000, 2**16  # files that are looked into, bytes at either end
_THREADS = 8


@runtime_checkable
class InFiles(Protocol):
    """A source whose fingerprint says when its files were written, which copies need not keep."""

    def files(self) -> list[tuple[str, pathlib.Path]]:
        """The files it reads, in order: the name in the source, and the path."""


@runtime_checkable
class LabeledInFiles(Protocol):
    """A source that may have files which say what its images are of."""

    def label_files(self) -> list[pathlib.Path]:
        """Those: label maps, in the order of the images, or a table."""


def identify(source: Source) -> str:
    """Changes when images are added, removed, renamed or replaced, and not when they are moved.

    Of files that is told by their names, their sizes, and both ends of a thousand of them.
    """
    if not isinstance(source, InFiles):
        return source.fingerprint()
    files = source.files()
    sampled = {*np.linspace(0, len(files) - 1, min(len(files), _SAMPLED)).astype(int).tolist()}
    digest = hashlib.sha256()
    for number, (name, path) in enumerate(files):
        try:
            size = path.stat().st_size
            digest.update(os.fsencode(f"{name}\0{size}\0"))
            if number in sampled:
                with path.open("rb") as file:
                    digest.update(file.read(_ENDS))
                    file.seek(max(size - _ENDS, 0))
                    digest.update(file.read(_ENDS))
        except OSError:  # it will be named when it is to be read
            digest.update(os.fsencode(f"{name}\0missing\0"))
    return digest.hexdigest()


def identify_files(files: Sequence[pathlib.Path]) -> str:
    """Changes with any byte of these files, which are small beside images, or with their order."""
    shares = [files[start::_THREADS] for start in range(_THREADS)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:  # a disk may be far away
        found = [*threads.map(_checksums, shares)]
    ordered = (found[n % _THREADS][n // _THREADS] for n in range(len(files)))
    return hashlib.sha256("\n".join(ordered).encode()).hexdigest()


def _checksums(files: Sequence[pathlib.Path]) -> list[str]:
    found = []
    for path in files:
        try:
            with path.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            found.append("missing")
    return found
