"""The work of an export: shards, each made on its own, once, whatever stops the run.

Shard s of S holds, in order, the images s n // S up to (s + 1) n // S of a source of n. When it is
complete, a note on it is left in the hidden folder `.work`; a run that finds the note does not make
the shard again.
"""

import dataclasses
import io
import json
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from jaxssl.checked_files import read_json
from jaxssl.data import decode
from jaxssl.data.loading import pick
from jaxssl.data.records import ShardInfo, shard_name, write_shard
from jaxssl.data.rle import decode_mask, encode_mask, mask_areas
from jaxssl.data.source import BrokenImage, Example, Regions, Resizing, Source
from jaxssl.errors import UserError
from jaxssl.files import atomic_write
from mask_tools.matching import Annotated, Faults, Matched
from mask_tools.region_statistics import MIN_AREA, Row, as_array, measure
from mask_tools.regions import Region, collect
from mask_tools.segmenters import Segmenter

WORK = ".work"
_log = logging.getLogger("jaxssl.data")


@dataclasses.dataclass(frozen=True)
class Job:
    """All that decides what the shards of a split hold, and where they go."""

    source: Source
    segmenter: Segmenter | None  # None keeps the regions that the source carries
    max_side: int | None  # larger images are shrunk to it
    folder: pathlib.Path
    split: str
    shards: int
    numbers: Mapping[str, int] | None = None  # of the annotations of each image, by its key

    def path(self, number: int) -> pathlib.Path:
        """The file of a shard."""
        return self.folder / shard_name(self.split, number, self.shards)

    def note(self, number: int) -> pathlib.Path:
        """The note on a shard, there when the shard is complete."""
        return self.folder / WORK / f"{self.path(number).name}.json"

    def indices(self, number: int) -> range:
        """Which images of the source a shard holds."""
        count = len(self.source)
        return range(number * count // self.shards, (number + 1) * count // self.shards)


@dataclasses.dataclass(frozen=True)
class Note:
    """What is noted on a complete shard."""

    info: ShardInfo
    broken: list[str]
    rows: list[Row]
    has_semantic: bool
    faults: Faults

    def finished(self) -> "Finished":
        """The shard, its rows as an array."""
        return Finished(self.info, self.broken, as_array(self.rows), self.has_semantic, self.faults)


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
        for index in job.indices(number):
            name = f"number {index}"
            try:
                example = _load(job, index)
                name = example.key
                example = segment(example, segmenter, job.max_side)
            except BrokenImage as error:
                broken.append(str(error))
            except Exception as error:
                error.add_note(f"Raised for the image {name} of {job.source.spec}.")
                raise
            else:
                rows.append(measure(example, min_area=MIN_AREA))
                semantic.append(example.semantic is not None)
                yield example
            tick()

    info = write_shard(job.path(number), examples())
    note = Note(info, broken, rows, any(semantic), faults)
    with atomic_write(job.note(number)) as file:
        file.write(json.dumps(dataclasses.asdict(note)).encode())
    return note.finished()


def _load(job: Job, index: int) -> Example:
    """The example; an image too large to be decoded whole is shrunk meanwhile, where it may be."""
    segmenter, max_side = job.segmenter, job.max_side
    if max_side is None or segmenter is None or segmenter.needs_original_size:
        return job.source[index]
    if not isinstance(job.source, Resizing):
        return job.source[index]

    def fit(size: tuple[int, int]) -> tuple[int, int]:
        if size[0] * size[1] <= decode.MAX_DECODED or max(size) <= max_side:
            return size
        factor = min(2 * max_side, max(size) - 1) / max(size)  # `shrink` does the rest
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    return job.source.resized(index, fit)[0]


def segment(example: Example, segmenter: Segmenter | None, max_side: int | None) -> Example:
    """The example with the regions that `segmenter` finds; None keeps those that it carries.

    An image with a side over `max_side` pixels is shrunk before it is segmented, or after, with its
    masks, if they were made for it as it is; and then its file is a new one.
    """
    if segmenter is None:
        return shrink(example, max_side)
    example = dataclasses.replace(example, regions=None)
    if not segmenter.needs_original_size:
        example = shrink(example, max_side)
    size = example.image.shape[0], example.image.shape[1]
    example = dataclasses.replace(example, regions=collect(segmenter(example), size))
    return shrink(example, max_side)


def shrink(example: Example, max_side: int | None) -> Example:
    """The example with no side over `max_side` pixels: image, regions and label map alike."""
    height, width = example.image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return example
    factor = max_side / max(height, width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    picture = Image.fromarray(example.image).resize(size[::-1], Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if (example.encoded or b"").startswith(b"\xff\xd8"):
        picture.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        picture.save(buffer, "PNG")
    encoded = buffer.getvalue()
    return dataclasses.replace(
        example,
        encoded=encoded,
        image=decode.decode_image(encoded, example.key),  # what a reader of the record will see
        regions=None if example.regions is None else _shrink_regions(example.regions, size),
        semantic=None if example.semantic is None else pick(example.semantic, size),
    )


def _shrink_regions(regions: Regions, size: tuple[int, int]) -> Regions:
    """The regions at another size; each stays in its object, those that vanish are left out."""
    shrunk = [encode_mask(pick(decode_mask(rle, regions.size), size)) for rle in regions.rle]
    kept = np.flatnonzero(mask_areas(shrunk))
    found = [Region(shrunk[i], size, float(regions.score[i]), int(regions.level[i])) for i in kept]
    return dataclasses.replace(collect(found, size), object=regions.object[kept])


def recall(job: Job, number: int) -> Finished | None:
    """What an earlier run noted on a shard; None if it did not complete it, or one is damaged."""
    path = job.path(number)
    if not job.note(number).is_file() or not path.is_file():
        return None
    try:
        note = read_json(job.note(number), Note, advice="the shard is made again")
    except UserError as error:
        _log.warning("%s", error)
        return None
    info, count = note.info, len(note.rows)
    is_its_own = (info.file, info.bytes, info.count) == (path.name, path.stat().st_size, count)
    if not is_its_own or count + len(note.broken) != len(job.indices(number)):
        return None
    return note.finished()
