"""Canvases decoded once: memory-mapped files under the cache folder, filled by the first run.

A store is a folder named for the content of the source and of the canvases. It holds one raw file
per array, rows in the order of the source, and a `journal` of the chunks of rows that are there,
with their checksums. Whoever opens a store reads it once: chunks that are not as they were written
are made again, as are those that a run did not come to. `store.json`, written last, says that all
is there, and which images could not be read. Threads do the work: decoding and checksums leave
Python's lock free for nine tenths of their time, and threads start at once and leave no orphans.
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
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from crc32c import crc32c

from jaxssl.data.disk_use import describe_others, location
from jaxssl.data.journal import Chunk, broken_images, line_of, noted_chunks, with_reasons
from jaxssl.data.loading import (
    MAX_BROKEN,
    ArraySpec,
    describe_broken,
    find_arrays,
    readable_now,
    row_bytes,
    sample_sizes,
    too_many,
)
from jaxssl.data.source import Source, report
from jaxssl.errors import UserError
from jaxssl.files import locked, write_text
from jaxssl.progress import Progress

CHUNK = 64  # images
_CHECKERS = 16  # threads, most of which wait for the disk
_SHOWN_BYTES = 2e9  # of a store that takes a while to check
STORE_VERSION = 2  # raise it when canvases of the same source and spec come out different
log = logging.getLogger("jaxssl.data")
_used: set[pathlib.Path] = set()  # stores that this process has opened


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """`cache_dir`, else `$JAXSSL_CACHE`, else `~/.cache/jaxssl`."""
    folder = cache_dir or os.environ.get("JAXSSL_CACHE") or "~/.cache/jaxssl"
    try:
        return pathlib.Path(folder).expanduser()
    except RuntimeError as error:  # there is no $HOME, and the user has no entry
        raise UserError(
            f"no folder to keep decoded images in: nobody's home is known for {folder}; set "
            "$JAXSSL_CACHE, or --config.data.cache_dir"
        ) from error


def store_folder(
    source: Source, spec: ArraySpec, cache_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """The folder in which the canvases of a source are kept."""
    content = [STORE_VERSION, source.fingerprint(), type(spec).__name__, dataclasses.asdict(spec)]
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    return cache_folder(cache_dir) / f"canvases-{name}"


def is_complete(folder: pathlib.Path, spec: ArraySpec, count: int) -> bool:
    """Whether a folder holds a whole store, with all its arrays."""
    return (folder / "store.json").is_file() and _have_size(folder, spec, count)


def _have_size(folder: pathlib.Path, spec: ArraySpec, count: int) -> bool:
    files = {folder / name: size for name, size in row_bytes(spec).items()}
    return all(f.is_file() and f.stat().st_size == count * size for f, size in files.items())


def open_store(
    source: Source,
    spec: ArraySpec,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    max_broken: float = MAX_BROKEN,
    show: bool = True,
) -> dict[str, np.ndarray]:
    """The arrays of `spec.arrays()` for a whole source, each [n, ...], read-only, memory-mapped.

    Decodes what is not there yet or damaged; a run that is stopped is continued by the next.

    Args:
      source: images that are decoded once.
      spec: what is kept of each.
      cache_dir: the folder that holds the arrays of all sources; None: see `cache_folder`.
      max_broken: the share of images that may be unreadable; see `too_many`.
      show: whether to show how far the decoding is.

    Raises:
      UserError: more images than that are unreadable, or the disk does not take the arrays.
    """
    folder, count = store_folder(source, spec, cache_dir), len(source)
    try:
        chunks = _complete(folder, source, spec, show=show)
    except OSError as error:
        raise UserError(
            f"canvases cannot be kept in {folder}: {error}; choose another folder with "
            "data.cache_dir or JAXSSL_CACHE, or data.input 'stream'"
        ) from error
    _used.add(folder)
    _report_broken(folder, source, chunks, max_broken)
    return _mapped(folder, spec, count)


def _complete(
    folder: pathlib.Path, source: Source, spec: ArraySpec, *, show: bool
) -> Sequence[Chunk]:
    """Fills the store where need be; returns all its chunks, as the journal has them."""
    count, number, description = len(source), -(-len(source) // CHUNK), folder / "store.json"
    if is_complete(folder, spec, count):
        done = _kept(folder, spec, count, show=show)
        if len(done) == number and not readable_now(source, broken_images(done), spec):
            return done
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "fills"):
        kept = _kept(folder, spec, count, show=False)  # also by the run that held the lock before
        readable = readable_now(source, broken_images(kept), spec)
        done = [c for c in kept if readable.isdisjoint(index for index, _ in c.broken)]
        if description.is_file():
            if len(done) == number:
                return done
            if len(kept) < number:
                damaged = f"{number - len(kept)} of {number} parts of the canvases in {folder}"
                log.warning("%s are damaged; they are made again", damaged)
            description.unlink()
        if readable:
            some = f"{len(readable)} images that could not be read before can be read now"
            log.info("%s: %s; their canvases are made again", source.spec, some)
        done = _fill(folder, source, spec, done, show=show)
        _describe(folder, source, spec, done)
    return done


def _describe(
    folder: pathlib.Path, source: Source, spec: ArraySpec, chunks: Sequence[Chunk]
) -> None:
    """Writes `store.json`, once everything else is on the disk."""
    for name in (*spec.arrays(), "journal"):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    broken = [*broken_images(chunks).items()]
    content = {"source": source.spec, "canvas": dataclasses.asdict(spec), "broken": broken}
    content |= {"location": location(source.spec)}
    write_text(folder / "store.json", json.dumps(content, indent=2))


def _report_broken(
    folder: pathlib.Path, source: Source, chunks: Sequence[Chunk], max_broken: float
) -> None:
    """Warns of images that were replaced, in one line; `UserError` if they are too many."""
    reasons = [*broken_images(chunks).values()]
    if not reasons:
        return
    said = describe_broken(source, reasons)
    if too_many(len(reasons), len(source), max_broken):
        raise UserError(
            f"{said}; at most {max_broken:.0%} may be broken: repair or remove them, "
            f"all are named in {folder / 'store.json'}"
        )
    log.warning("%s; the next readable image takes the place of each, without labels", said)


def _fill(
    folder: pathlib.Path, source: Source, spec: ArraySpec, done: Sequence[Chunk], *, show: bool
) -> list[Chunk]:
    """Makes all chunks but those that are done. `OSError` if the disk does not take them."""
    count, done = len(source), list(done)
    again = set(noted_chunks(folder / "journal")) if done else set[int]()
    if not done:
        _make_empty(folder, source, spec)
        report(source.spec, describe_others(folder, source.spec, _used))
    missing = sorted(set(range(-(-count // CHUNK))) - {chunk.number for chunk in done})
    there = count - sum(len(_rows(number, count)) for number in missing)
    write_text(folder / "journal", "".join(map(line_of, done)))
    with (
        (folder / "journal").open("a") as journal,
        Progress(count, f"decoding {source.spec}", done=there, show=show) as advance,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,
    ):
        alone = threading.Lock()

        def make(number: int) -> None:
            chunk = _decode(folder, source, spec, number, again=number in again)
            with alone:  # noted at once, also where the run is being stopped
                done.append(chunk)
                journal.write(line_of(chunk))
                journal.flush()
                advance(len(_rows(number, count)))

        jobs = [threads.submit(make, number) for number in missing]
        try:
            for job in concurrent.futures.as_completed(jobs):
                job.result()
        finally:
            threads.shutdown(cancel_futures=True)
    return done


def _rows(number: int, count: int) -> range:
    return range(number * CHUNK, min((number + 1) * CHUNK, count))


def _kept(folder: pathlib.Path, spec: ArraySpec, count: int, *, show: bool) -> list[Chunk]:
    """The chunks in the journal whose rows have their checksums."""
    if not (folder / "journal").is_file() or not _have_size(folder, spec, count):
        return []
    noted = noted_chunks(folder / "journal")
    chunks = [noted[number] for number in range(-(-count // CHUNK)) if number in noted]
    arrays = _mapped(folder, spec, count)
    show = show and count * sum(row_bytes(spec).values()) > _SHOWN_BYTES
    kept = []
    with (
        Progress(count, f"checking {folder.name}", show=show) as advance,
        concurrent.futures.ThreadPoolExecutor(_CHECKERS) as threads,
    ):
        checksums = threads.map(lambda c: _checksum(arrays, _rows(c.number, count)), chunks)
        for chunk, checksum in zip(chunks, checksums, strict=True):
            if chunk.checksum == with_reasons(checksum, chunk.broken):
                kept.append(chunk)
            advance(len(_rows(chunk.number, count)))
    return kept


def _checksum(arrays: Mapping[str, np.ndarray], rows: range) -> int:
    checksum = 0
    for row in rows:
        for array in arrays.values():
            checksum = crc32c(array[row : row + 1].data, checksum)
    return checksum


def _mapped(folder: pathlib.Path, spec: ArraySpec, count: int) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(np.memmap(folder / name, dtype, "r", shape=(count, *shape)))
        for name, (shape, dtype) in spec.arrays().items()
    }


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


def _decode(
    folder: pathlib.Path, source: Source, spec: ArraySpec, number: int, *, again: bool
) -> Chunk:
    """Decodes and writes a chunk, image by image: of a large budget one takes megabytes.

    What is not in use stays a hole of the file, unless the chunk is made again: it may be damaged.
    """
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
                in_use = array[: used[name]] if name in used and not again else array
                files[name].seek(row * size)
                files[name].write(in_use.tobytes())
                checksum = crc32c(array.tobytes(), checksum)
    reasons = list(broken.items())
    return Chunk(number, with_reasons(checksum, reasons), reasons)
