"""Records: images with their regions in sharded TFRecord files, `info.json` beside them.

`mask_tools.export` writes them; TensorFlow can read them too. A folder holds `info.json` and the
shards `{split}-00000-of-00016.tfrecord`, each record of which is one example (`record_codec.py`).
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np

from jaxssl.checked_files import damage_of, is_plain_name, read_json
from jaxssl.data import tfrecord
from jaxssl.data.record_codec import (
    decode_example,
    decode_resized_example,
    encode_example,
    read_image_size,
    read_key,
)
from jaxssl.data.source import BrokenImage, Example, Size
from jaxssl.data.splits import choose_splits, in_part, report_unread
from jaxssl.errors import UserError
from jaxssl.files import atomic_write, write_text

T = TypeVar("T")

FORMAT_VERSION = 1

_REPEAT = "copy it again or repeat the export"


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """One file of records, as `info.json` describes it."""

    file: str
    count: int
    bytes: int
    sha256: str
    max_objects: int  # of any image in it
    max_regions: int

    def __post_init__(self) -> None:
        if not is_plain_name(self.file):
            raise UserError(f"{self.file!r} is no name of a file in the same folder")


class SegmenterInfo(TypedDict):
    """The segmenter, as `info.json` describes it, with checksums of the files that it read."""

    name: str
    parameters: dict[str, Any]
    broken: NotRequired[dict[str, list[str]]]  # by split, a line for each image left out
    content: NotRequired[dict[str, str]]  # by split, the identity of the source's images
    annotations: NotRequired[dict[str, str]]  # by split, that of the files that annotate them
    left_out: NotRequired[dict[str, dict[str, int]]]  # by split, regions left out, by why


@dataclasses.dataclass(frozen=True)
class Info:
    """A folder of records, as `info.json` describes it."""

    source: str  # the source string it was made from
    segmenter: SegmenterInfo | None  # None: no regions
    splits: dict[str, tuple[ShardInfo, ...]]
    class_names: tuple[str, ...] = ()  # () if unlabeled
    has_semantic: bool = False

    @property
    def void(self) -> tuple[int, ...]:
        """Label values of no class, besides 255: what --ignore named where maps are of classes."""
        parameters = self.segmenter["parameters"] if self.segmenter else {}
        is_of_classes = parameters.get("format") in ("semantic", "source")
        return tuple(parameters.get("ignore", ())) if is_of_classes else ()


def shard_name(split: str, number: int, total: int) -> str:
    """The file name of one shard of a split."""
    return f"{split}-{number:05d}-of-{total:05d}.tfrecord"


def write_shard(path: str | os.PathLike[str], examples: Iterable[Example]) -> ShardInfo:
    """Writes a file of records, the same bytes for the same examples, and describes it."""
    with atomic_write(pathlib.Path(path)) as file:
        for example in examples:
            file.write(tfrecord.frame(encode_example(example)))
    return describe_shard(path)


def describe_shard(path: str | os.PathLike[str]) -> ShardInfo:
    """Reads and checks a whole file of records; `UserError` if it is damaged or cut short."""
    path = pathlib.Path(path)
    count = max_objects = max_regions = 0
    for features in read_records(path, tfrecord.decode_features):
        objects = features.get("regions/object", ())
        count += 1
        max_objects = max(max_objects, len(np.unique(np.asarray(objects))))
        max_regions = max(max_regions, len(objects))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardInfo(path.name, count, path.stat().st_size, sha256, max_objects, max_regions)


def read_records(path: pathlib.Path, decode: Callable[[bytes], T]) -> Iterator[T]:
    """What a function makes of each record of a file, in order; see `read_record`."""
    for offset, length in tfrecord.scan(path).tolist():
        yield read_record(path, offset, length, decode)


def read_record(path: pathlib.Path, offset: int, length: int, decode: Callable[[bytes], T]) -> T:
    """What a function makes of the record of a file that `scan` found there.

    A `UserError` of it names the file and the place; a `BrokenImage` is one still, and names it.
    """
    data = tfrecord.read(path, offset, length)
    try:
        return decode(data)
    except BrokenImage as error:
        raise BrokenImage(f"{path}: {error}") from error
    except UserError as error:
        where = f"{path}: the record at byte {offset}"
        raise damage_of(where, error, "export or copy the file again") from error


class _Version(TypedDict):
    format_version: int


@dataclasses.dataclass(frozen=True)
class _Split:
    count: int  # of all its shards
    shards: tuple[ShardInfo, ...]


@dataclasses.dataclass(frozen=True)
class _InfoFile:
    """The content of `info.json`."""

    format_version: int
    source: str
    segmenter: SegmenterInfo | None
    class_names: tuple[str, ...]
    has_semantic: bool
    splits: dict[str, _Split]


def write_info(folder: str | os.PathLike[str], info: Info) -> None:
    """Writes `info.json`: the last thing an export does, for without it nothing can be read."""
    fields = dataclasses.asdict(info)
    splits = {
        name: {"count": sum(shard["count"] for shard in shards), "shards": shards}
        for name, shards in fields.pop("splits").items()
    }
    content = {"format_version": FORMAT_VERSION} | fields | {"splits": splits}
    write_text(pathlib.Path(folder) / "info.json", json.dumps(content, indent=2) + "\n")


def read_info(folder: str | os.PathLike[str]) -> Info:
    """Reads the `info.json` of a folder of records; `UserError` if it has none of this format."""
    path = pathlib.Path(folder) / "info.json"
    if not path.parent.is_dir():
        raise UserError(
            f"no folder {path.parent}; make it with: python -m mask_tools.export --source SOURCE "
            f"--segmenter fh --out {path.parent}"
        )
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no info.json: repeat python -m mask_tools.export --out "
            f"{path.parent}, which has not finished; or give folder:{path.parent}, if it has images"
        )
    version = read_json(path, _Version, advice=_REPEAT)["format_version"]
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format_version {version}, this jaxssl reads {FORMAT_VERSION}; install "
            "the jaxssl that wrote it, or repeat the export"
        )
    content = read_json(path, _InfoFile, advice=_REPEAT)
    return Info(
        source=content.source,
        segmenter=content.segmenter,
        splits={name: split.shards for name, split in content.splits.items()},
        class_names=content.class_names,
        has_semantic=content.has_semantic,
    )


class Records:
    """The examples of a folder of records, read at random from the index of its shards.

    Files are opened for each read: some microseconds, and then there is no limit to the number of
    shards and nothing that threads or forked and spawned processes could share by mistake.
    """

    def __init__(self, path: str | os.PathLike[str], part: str | None = None) -> None:
        """Opens the images to learn from, or the part "train" or "test"; see `splits.py`.

        Reads the header of every record, and of a part of undeclared splits every key. Raises
        `UserError` if anything is missing or cut short.
        """
        folder = pathlib.Path(path)
        info = read_info(folder)
        splits, by_key = choose_splits(tuple(info.splits), part)
        shards = [shard for split in splits for shard in info.splits[split]]
        self.spec = f"records:{path}"
        report_unread(self.spec, {s: sum(i.count for i in info.splits[s]) for s in info.splits})
        self.class_names = info.class_names
        self.has_regions = info.segmenter is not None
        self.max_objects = max((shard.max_objects for shard in shards), default=0)
        self.max_regions = max((shard.max_regions for shard in shards), default=0)
        self._paths = [folder / shard.file for shard in shards]
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            extents = list(threads.map(_scan_shard, self._paths, shards))
        numbered = [np.insert(extent, 0, shard, axis=1) for shard, extent in enumerate(extents)]
        self._extent = np.concatenate([np.zeros((0, 3), np.int64), *numbered])
        if by_key:
            mine = [in_part(key, by_key) for key in self.keys()]
            self._extent = self._extent[np.array(mine, bool)]
        if not len(self):
            raise UserError(f"{folder} has no images in part {part!r}; export more images")
        content = [shard.sha256 for shard in shards] + ([by_key] if by_key else [])
        self._fingerprint = hashlib.sha256(" ".join(content).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._extent)

    def __getitem__(self, index: int) -> Example:
        return self._read(index, decode_example)

    def resized(self, index: int, fit: Callable[[Size], Size]) -> tuple[Example, Size]:
        """The example with its image resized to `fit(size)`; its true height and width."""
        return self._read(index, lambda data: decode_resized_example(data, fit))

    def keys(self) -> list[str]:
        """The keys of the images; reads all records."""
        return [self._read(index, read_key) for index in range(len(self))]

    def image_size(self, index: int) -> Size:
        """Height and width of the upright image."""
        return self._read(index, read_image_size)

    def fingerprint(self) -> str:
        return self._fingerprint

    def _read(self, index: int, decode: Callable[[bytes], T]) -> T:
        shard, offset, length = self._extent[index].tolist()
        return read_record(self._paths[shard], offset, length, decode)


def _scan_shard(path: pathlib.Path, shard: ShardInfo) -> np.ndarray:
    """The extents i64[n, 2] of a shard's records, once it is found to be as `info.json` says."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {_REPEAT}")
    size = path.stat().st_size
    if size != shard.bytes:
        raise UserError(f"{path} has {size} bytes where info.json says {shard.bytes}; {_REPEAT}")
    return tfrecord.scan(path, shard.count)
