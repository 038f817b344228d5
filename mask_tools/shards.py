"""The work of an export: shards, each made on its own, once, whatever stops the run.

Shard s of S holds, in order, the images s n // S up to (s + 1) n // S of a source of n. When it is
complete, a note on it is left in the hidden folder `.work`; a run that finds the note does not make
the shard again.
"""

import dataclasses
import json
import logging
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxssl.checked_files import read_json
from jaxssl.data.records import ShardInfo, shard_name, write_shard
from jaxssl.data.source import BrokenImage, Example, Source
from jaxssl.errors import UserError
from jaxssl.files import write_text
from mask_tools.matching import Annotated, Faults, Matched
from mask_tools.region_statistics import Row, as_array
from mask_tools.segmenters import Segmenter
from mask_tools.segmenting import segment_images

WORK = ".work"
log = logging.getLogger("jaxssl.data")


@dataclasses.dataclass(frozen=True)
class Job:
    """The settings that decide what the shards of a split hold, and their folder."""

    source: Source
    segmenter: Segmenter | None  # None keeps the regions that the source carries
    max_side: int | None  # larger images are shrunk to it
    folder: pathlib.Path
    split: str
    shards: int
    numbers: Mapping[str, int] | None = None  # of the annotations of each image, by its key
    files: tuple[pathlib.Path, ...] = ()  # of annotations of single images
    made_from: str = ""  # a digest of all this and of the files it names

    @property
    def settings(self) -> pathlib.Path:
        """The note on the settings of the split, there until the split is complete."""
        return self.folder / WORK / f"{self.split}.json"

    @property
    def files_of_split(self) -> str:
        """A pattern of the names of its shards, however many there are."""
        return f"{self.split}-{5 * '[0-9]'}-of-{5 * '[0-9]'}.tfrecord"

    def path(self, number: int) -> pathlib.Path:
        """The file of a shard."""
        return self.folder / shard_name(self.split, number, self.shards)

    def note(self, number: int) -> pathlib.Path:
        """The note on a shard, there when the shard is complete."""
        return self.folder / WORK / f"{self.path(number).name}.json"

    def indices(self, number: int) -> range:
        """The indices of the images of the source that a shard holds."""
        count = len(self.source)
        return range(number * count // self.shards, (number + 1) * count // self.shards)


@dataclasses.dataclass(frozen=True)
class Note:
    """The note on a complete shard."""

    made_from: str
    info: ShardInfo
    broken: list[str]
    rows: list[Row]
    has_semantic: bool
    faults: Faults

    def finished(self) -> "Finished":
        """The shard, its rows as an array."""
        return Finished(self.info, self.broken, as_array(self.rows), self.has_semantic, self.faults)


@dataclasses.dataclass(frozen=True)
class NoteFile:
    """A note as it is written, with a checksum of its text."""

    note: Note
    crc32: int

    @classmethod
    def of(cls, note: Note) -> "NoteFile":
        """The file of a note, with its checksum."""
        return cls(note, zlib.crc32(json.dumps(dataclasses.asdict(note)).encode()))


@dataclasses.dataclass
class Finished:
    """A complete shard."""

    info: ShardInfo
    broken: list[str]  # a line for each image left out
    rows: np.ndarray  # i64[n, 6]: the `Row` of each image written
    has_semantic: bool
    faults: Faults


def make(job: Job, number: int, tick: Callable[[], object]) -> Finished:
    """Writes one shard and the note on it; calls `tick` after every image."""
    broken: list[str] = []
    rows: list[Row] = []
    semantic: list[bool] = []
    segmenter, faults = job.segmenter, Faults()
    if job.numbers is not None and isinstance(segmenter, Annotated):
        segmenter = Matched(segmenter, job.numbers, faults)

    def examples() -> Iterator[Example]:
        for found in segment_images(job.source, job.indices(number), segmenter, job.max_side):
            if isinstance(found, BrokenImage):
                broken.append(str(found))
            else:
                example, row, vanished = found
                rows.append(row)
                faults.add(Faults.of_vanished(vanished, example.key))
                semantic.append(example.semantic is not None)
                yield example
            tick()
        _check_current(job)  # before the file gets its name

    info = write_shard(job.path(number), examples())
    note = Note(job.made_from, info, broken, rows, any(semantic), faults)
    write_text(job.note(number), json.dumps(dataclasses.asdict(NoteFile.of(note))))
    return note.finished()


def _check_current(job: Job) -> None:
    """Raises `UserError` if another run has begun the split anew, or completed it."""
    advice = "give another --out"
    found = read_json(job.settings, dict[str, Any], advice=advice) if job.settings.exists() else {}
    if found.get("made_from") != job.made_from:
        raise UserError(
            f"another run has begun or completed {job.split!r} in {job.folder} meanwhile; "
            f"repeat the command, or {advice}"
        )


def recall(job: Job, number: int) -> Finished | None:
    """A shard that an earlier run completed.

    None if it did not, or made it from something else, or its note is damaged.
    """
    path = job.path(number)
    if not job.note(number).is_file() or not path.is_file():
        return None
    try:
        file = read_json(job.note(number), NoteFile, advice="the shard is made again")
        if file != NoteFile.of(file.note):
            raise UserError(f"{job.note(number)} is damaged; the shard is made again")
    except UserError as error:
        log.warning("%s", error)
        return None
    note = file.note
    info, count = note.info, len(note.rows)
    is_its_own = (info.file, info.bytes, info.count) == (path.name, path.stat().st_size, count)
    is_its_own &= note.made_from == job.made_from
    if not is_its_own or count + len(note.broken) != len(job.indices(number)):
        return None
    return note.finished()
