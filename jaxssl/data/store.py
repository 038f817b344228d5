"""Canvases decoded once: memory-mapped files under the cache folder, filled by the first run.

A store is a folder named for the content of the source and of the canvases. It holds one raw file
per array, rows in the order of the source, and `store.json`, written last, which says that all is
there and which images could not be read. Until then its `journal` lists the chunks of rows that are
there, with checksums: the next run keeps those that are still as they were. Threads do the work:
decoding leaves Python's lock free for nine tenths of its time, and threads start at once and leave
no orphans.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
from crc32c import crc32c

from jaxssl.data.loading import ArraySpec, find_arrays, row_bytes, sample_sizes
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.files import atomic_write, locked
from jaxssl.progress import progress

CHUNK = 64  # images
STORE_VERSION = 2  # raise it when canvases of the same source and spec come out different
_log = logging.getLogger("jaxssl.data")


class Chunk(NamedTuple):
    """A line of the journal."""

    number: int
    checksum: int  # of its rows in all arrays
    broken: list[tuple[int, str]]  # index and reason


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """`cache_dir`, else `$JAXSSL_CACHE`, else `~/.cache/jaxssl`."""
    folder = cache_dir or os.environ.get("JAXSSL_CACHE") or "~/.cache/jaxssl"
    return pathlib.Path(folder).expanduser()


def store_folder(
    source: Source, spec: ArraySpec, cache_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Where the canvases of a source are kept."""
    content = [STORE_VERSION, source.fingerprint(), type(spec).__name__, dataclasses.asdict(spec)]
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    return cache_folder(cache_dir) / f"canvases-{name}"


def is_complete(folder: pathlib.Path, spec: ArraySpec, count: int) -> bool:
    """Whether a store is there with all its arrays."""
    return (folder / "store.json").is_file() and _have_size(folder, spec, count)


def _have_size(folder: pathlib.Path, spec: ArraySpec, count: int) -> bool:
    files = {folder / name: size for name, size in row_bytes(spec).items()}
    return all(f.is_file() and f.stat().st_size == count * size for f, size in files.items())


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
        chunks = _fill(folder, source, spec, show=show)
        for name in spec.arrays():
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())
        broken = sorted({index: why for chunk in chunks for index, why in chunk.broken}.items())
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


def _fill(folder: pathlib.Path, source: Source, spec: ArraySpec, *, show: bool) -> list[Chunk]:
    """Writes the arrays, but for what is there. Raises `OSError` if the disk does not take them."""
    count = len(source)
    done = _kept(folder, spec, count)
    if not done:
        _make_empty(folder, source, spec)
    missing = sorted(set(range(-(-count // CHUNK))) - {chunk.number for chunk in done})
    there = count - sum(len(_rows(number, count)) for number in missing)
    with atomic_write(folder / "journal") as file:
        file.write("".join(json.dumps(chunk) + "\n" for chunk in done).encode())
    with (
        (folder / "journal").open("a") as journal,
        progress(count, f"decoding {source.spec}", done=there, show=show) as advance,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,
    ):
        jobs = [threads.submit(_decode, folder, source, spec, number) for number in missing]
        try:
            for job in concurrent.futures.as_completed(jobs):
                done.append(job.result())
                journal.write(json.dumps(done[-1]) + "\n")
                journal.flush()
                advance(len(_rows(done[-1].number, count)))
        finally:
            threads.shutdown(cancel_futures=True)
    return done


def _rows(number: int, count: int) -> range:
    return range(number * CHUNK, min((number + 1) * CHUNK, count))


def _kept(folder: pathlib.Path, spec: ArraySpec, count: int) -> list[Chunk]:
    """The chunks in the journal whose rows have their checksums."""
    journal = folder / "journal"
    if not journal.is_file() or not _have_size(folder, spec, count):
        return []
    lines = journal.read_text().splitlines(keepends=True)
    # A kill may have cut the last line short.
    chunks = [Chunk(*json.loads(line)) for line in lines if line.endswith("\n")]
    return [c for c in chunks if c.checksum == _checksum(folder, spec, _rows(c.number, count))]


def _checksum(folder: pathlib.Path, spec: ArraySpec, rows: range) -> int:
    checksum = 0
    with contextlib.ExitStack() as stack:
        files = {n: stack.enter_context((folder / n).open("rb")) for n in row_bytes(spec)}
        for row in rows:
            for name, size in row_bytes(spec).items():
                files[name].seek(row * size)
                checksum = crc32c(files[name].read(size), checksum)
    return checksum


def _make_empty(folder: pathlib.Path, source: Source, spec: ArraySpec) -> None:
    """Makes arrays of holes, which take no space until they are filled, if they will fit.

    Old ones are left to those who still read them, not written over.
    """
    free = shutil.disk_usage(folder).free
    needed: float = len(source) * sum(row_bytes(spec).values())
    if needed > free:  # what of that will be in use is longer to find out
        needed = len(source) * spec.expected_bytes(sample_sizes(source))
    if needed > free:
        raise OSError(f"needs {needed / 1e9:.3g} GB of which {free / 1e9:.3g} GB are free")
    for name, size in row_bytes(spec).items():
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("xb") as file:
            file.truncate(len(source) * size)


def _decode(folder: pathlib.Path, source: Source, spec: ArraySpec, number: int) -> Chunk:
    """Decodes and writes a chunk, image by image: of a large budget one takes megabytes."""
    checksum = 0
    broken: dict[int, str] = {}
    with contextlib.ExitStack() as stack:
        files = {n: stack.enter_context((folder / n).open("r+b")) for n in row_bytes(spec)}
        for row in _rows(number, len(source)):
            arrays, unreadable = find_arrays(source, row, spec)
            broken |= unreadable
            used = spec.used(arrays)
            for name, size in row_bytes(spec).items():
                array = arrays[name]
                in_use = array[: used[name]] if name in used else array
                files[name].seek(row * size)
                files[name].write(in_use.tobytes())
                checksum = crc32c(array.tobytes(), checksum)
    return Chunk(number, checksum, list(broken.items()))
