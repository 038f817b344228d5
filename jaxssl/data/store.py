"""Canvases decoded once: memory-mapped files under the cache folder, filled by the first run.

A store is a folder named for the content of the source and of the canvases. It holds one raw file
per array, rows in the order of the source, and `store.json`, written last, which says that all is
there and which images could not be read.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib

import numpy as np

from jaxssl.data.filling import fill, have_size
from jaxssl.data.loading import ArraySpec
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.files import atomic_write, locked

STORE_VERSION = 2  # raise it when canvases of the same source and spec come out different
_log = logging.getLogger("jaxssl.data")


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """`cache_dir`, else `$JAXSSL_CACHE`, else `~/.cache/jaxssl`."""
    return pathlib.Path(
        cache_dir or os.environ.get("JAXSSL_CACHE") or "~/.cache/jaxssl"
    ).expanduser()


def store_folder(
    source: Source, spec: ArraySpec, cache_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Where the canvases of a source are kept."""
    content = [STORE_VERSION, source.fingerprint(), type(spec).__name__, dataclasses.asdict(spec)]
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    return cache_folder(cache_dir) / f"canvases-{name}"


def is_complete(folder: pathlib.Path, spec: ArraySpec, count: int) -> bool:
    """Whether a store is there with all its arrays."""
    return (folder / "store.json").is_file() and have_size(folder, spec, count)


def open_store(
    source: Source,
    spec: ArraySpec,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    max_broken: float = 0.01,
    show: bool = True,
) -> dict[str, np.ndarray]:
    """The arrays of `spec.arrays()` for a whole source, each [n, ...], read-only, memory-mapped.

    Decodes what is not there yet; a run that is stopped meanwhile is continued by the next.

    Args:
        max_broken: the share of images that may be unreadable; if more are, a `UserError`.
        show: whether to show how far the decoding is.
    """
    folder, count = store_folder(source, spec, cache_dir), len(source)
    if not is_complete(folder, spec, count):
        try:
            _complete(folder, source, spec, show=show)
        except OSError as error:
            raise UserError(
                f"canvases cannot be kept in {folder}: {error}; choose another folder with "
                "data.cache_dir or JAXSSL_CACHE, or data.input 'stream'"
            ) from error
    _report_broken(folder, source, max_broken)
    return {
        name: np.asarray(np.memmap(folder / name, dtype, "r", shape=(count, *shape)))
        for name, (shape, dtype) in spec.arrays().items()
    }


def _complete(folder: pathlib.Path, source: Source, spec: ArraySpec, *, show: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "fills"):
        if is_complete(folder, spec, len(source)):  # by the run that held the lock before
            return
        (folder / "store.json").unlink(missing_ok=True)
        broken = fill(folder, source, spec, show=show)
        content = {"source": source.spec, "canvas": dataclasses.asdict(spec), "broken": broken}
        with atomic_write(folder / "store.json") as file:
            file.write(json.dumps(content, indent=2).encode())


def _report_broken(folder: pathlib.Path, source: Source, max_broken: float) -> None:
    """Warns of images that were replaced, in one line; `UserError` if they are too many."""
    description = folder / "store.json"
    reasons = [reason for _, reason in json.loads(description.read_bytes())["broken"]]
    if not reasons:
        return
    some = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
    said = f"{source.spec}: {len(reasons)} of {len(source)} images cannot be read: {some}"
    if len(reasons) > max_broken * len(source):
        raise UserError(
            f"{said}; at most {max_broken:.0%} may be broken: repair or remove them, "
            f"all are named in {description}"
        )
    _log.warning("%s; the next readable image takes the place of each", said)
