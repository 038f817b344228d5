"""Filling a store of canvases, chunk by chunk, so that a run that is killed loses little.

While a store is filled its `journal` lists the chunks of rows that are there, with checksums: the
next run keeps those that are still as they were. Threads do the work: decoding leaves Python's lock
free for nine tenths of its time, and threads start at once and leave no orphans.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

from jaxssl.data.loading import ArraySpec, find_arrays, row_bytes, sample_sizes
from jaxssl.data.source import Source
from jaxssl.files import atomic_write
from jaxssl.progress import progress

CHUNK = 64  # images


class Chunk(NamedTuple):
    """A line of the journal."""

    number: int
    checksum: int  # of its rows in all arrays
    broken: list[tuple[int, str]]  # index and reason


def have_size(folder: pathlib.Path, spec: ArraySpec, count: int) -> bool:
    """Whether all arrays are there and as long as `count` images make them."""
    files = {folder / name: size for name, size in row_bytes(spec).items()}
    return all(f.is_file() and f.stat().st_size == count * size for f, size in files.items())


def fill(
    folder: pathlib.Path, source: Source, spec: ArraySpec, *, show: bool
) -> list[tuple[int, str]]:
    """Writes the arrays of a store, but for what is there; index and reason of each broken image.

    Raises `OSError` if the disk does not take them.
    """
    count = len(source)
    done = _kept(folder, spec, count)
    if not done:
        _check_space(folder, source, spec)
        _create(folder, spec, count)
    missing = sorted(set(range(-(-count // CHUNK))) - {chunk.number for chunk in done})
    there = count - sum(len(_rows(number, count)) for number in missing)
    with atomic_write(folder / "journal") as journal:
        journal.write("".join(map(_line, done)).encode())
    with (
        (folder / "journal").open("a") as added,
        progress(count, f"decoding {source.spec}", done=there, show=show) as advance,
    ):
        for chunk in _decode_all(folder, source, spec, missing):
            added.write(_line(chunk))
            added.flush()
            done.append(chunk)
            advance(len(_rows(chunk.number, count)))
    for name in row_bytes(spec):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    return sorted({index: reason for chunk in done for index, reason in chunk.broken}.items())


def _check_space(folder: pathlib.Path, source: Source, spec: ArraySpec) -> None:
    """Raises OSError if the arrays will not fit on the disk."""
    free = shutil.disk_usage(folder).free
    needed: float = len(source) * sum(row_bytes(spec).values())
    if needed > free:  # what of that will be in use is longer to find out
        needed = len(source) * spec.expected_bytes(sample_sizes(source))
    if needed > free:
        raise OSError(f"needs {needed / 1e9:.3g} GB of which {free / 1e9:.3g} GB are free")


def _create(folder: pathlib.Path, spec: ArraySpec, count: int) -> None:
    """Makes empty arrays, of holes that take no space until they are filled.

    Old ones are left to those who still read them, not written over.
    """
    for name, size in row_bytes(spec).items():
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("xb") as file:
            file.truncate(count * size)


def _rows(number: int, count: int) -> range:
    return range(number * CHUNK, min((number + 1) * CHUNK, count))


def _line(chunk: Chunk) -> str:
    return json.dumps(chunk) + "\n"


def _kept(folder: pathlib.Path, spec: ArraySpec, count: int) -> list[Chunk]:
    """The chunks in the journal whose rows have their checksums."""
    journal = folder / "journal"
    if not journal.is_file() or not have_size(folder, spec, count):
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


def _decode_all(
    folder: pathlib.Path, source: Source, spec: ArraySpec, numbers: list[int]
) -> Iterator[Chunk]:
    """Decodes and writes these chunks, in any order."""
    threads = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        jobs = [threads.submit(_decode, folder, source, spec, number) for number in numbers]
        for job in concurrent.futures.as_completed(jobs):
            yield job.result()
    finally:
        threads.shutdown(cancel_futures=True)


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
                files[name].seek(row * size)
                files[name].write(
                    array[: used[name]].tobytes() if name in used else array.tobytes()
                )
                checksum = crc32c(array.tobytes(), checksum)
    return Chunk(number, checksum, list(broken.items()))
