"""A tensorflow-datasets data set as a source: `tfds:NAME/SPLIT` (the extra `tfds`).

What was prepared as array_record or tfrecord is opened and read at random without TensorFlow (the
extra `tfds-read`), in any process: each record is a tf.train.Example in which an image is the bytes
of its file. TensorFlow is needed to prepare a data set that is not there.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from jaxssl.checked_files import damage_of, naming_damage
from jaxssl.data import tfrecord
from jaxssl.data.decode import PORTABLE, decode_label_map, decode_upright
from jaxssl.data.rle import encode_labels, mask_areas, mask_boxes
from jaxssl.data.source import BrokenImage, Example, Regions
from jaxssl.data.splits import choose_splits, in_part, report_unread
from jaxssl.errors import UserError

T = TypeVar("T")
Features = dict[str, Any]

_IMAGES = ("image", "image_left")  # names of features, the first that there is
_LABEL_MAPS = ("segmentation_mask", "segmentation_label", "annotation", "segmentation")
_PANOPTIC = ("panoptic_image", "panoptic_objects")  # COCO's: colors are numbers of segments
_FORMATS = ("tfrecord", "array_record")
_KEYS = ("image/filename", "file_name", "filename", "image_id", "id")


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of a data set's features by what they hold; "" where there is none."""

    image: str
    label: str = ""
    semantic: str = ""
    key: str = ""
    depth: str = ""
    panoptic: str = ""
    classes: tuple[str, ...] = ()


class Tfds:
    """The examples of one split, or of the splits for a part, read at random."""

    def __init__(self, name: str, part: str | None = None) -> None:
        """Opens NAME/SPLIT, or NAME for the part "train" or "test"; see `splits.py`.

        Data sets that are not there are downloaded and prepared by tensorflow-datasets, in the
        folder that it uses. Raises `UserError` if that fails, or no image is in it.
        """
        self.spec = f"tfds:{name}"
        with _opening(name):
            builder, split = _open(name)
            self._names = find_names(builder.info.features, name)
            declared = (split,) if split else tuple(builder.info.splits)
            splits, self._part = choose_splits(declared, part)
            report_unread(self.spec, {s: builder.info.splits[s].num_examples for s in declared})
            instructions = [
                (chosen.split("[")[0], instruction)
                for chosen in splits
                for instruction in builder.info.splits[chosen].file_instructions
            ]
        self.class_names = self._names.classes
        self.has_regions = bool(self._names.panoptic)
        self._is_tfrecord = builder.info.file_format.value == "tfrecord"
        if builder.info.file_format.value not in _FORMATS:
            raise UserError(
                f"{self.spec} is prepared as {builder.info.file_format.value}, of which no "
                f"image can be read by itself: {_command(builder)} --overwrite prepares it again"
            )
        self._splits = [chosen for chosen, _ in instructions]
        self._paths = [pathlib.Path(instruction.filename) for _, instruction in instructions]
        extents = [self._scan(i, instruction) for i, (_, instruction) in enumerate(instructions)]
        self._extent = np.concatenate([np.zeros((0, 3), np.int64), *extents])
        if self._part:
            mine = [in_part(key, self._part) for key in self.keys()]
            self._extent = self._extent[np.array(mine, bool)]
        if not len(self):
            raise UserError(f"{self.spec} has no images in part {part!r}; name another split")

    def __len__(self) -> int:
        return len(self._extent)

    def __getitem__(self, index: int) -> Example:
        return self._read(index, functools.partial(self._example, index))

    def _example(self, index: int, features: Features) -> Example:
        names, key = self._names, self._key(index, features)
        encoded = tfrecord.take(features, names.image, bytes, 1)[0]
        image, _, orientation = decode_upright(encoded, key, lambda size: size)
        size, semantic, depth = image.shape[:2], None, None
        if names.semantic:
            semantic = _decode_map(features, names.semantic, key, size)
            semantic = semantic if semantic.ndim == 2 else semantic[..., 0]  # gray, as color
        if names.depth:  # 16-bit floats are stored as 32-bit ones
            depth = tfrecord.take(features, names.depth, np.float32, math.prod(size)).reshape(size)
        label = int(tfrecord.take(features, names.label, np.int64, 1)[0]) if names.label else -1
        if not -1 <= label < 2**31:
            raise UserError(f"its {names.label} is {label}")
        return Example(
            key=key,
            image=image,
            label=label,
            regions=self._segments(features, key, size),
            semantic=semantic,
            depth=depth,
            encoded=encoded if encoded.startswith(PORTABLE) else None,
            orientation=orientation,
        )

    def keys(self) -> list[str]:
        """The keys of the images; reads all records."""
        return [self._read(i, functools.partial(self._key, i)) for i in range(len(self))]

    def files(self) -> list[tuple[str, pathlib.Path]]:
        """The files of records, by name."""
        return [(path.name, path) for path in self._paths]

    def fingerprint(self) -> str:
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths]
        content = [self.spec, self._part, states, self._extent[:, 2].tolist()]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def _scan(self, file: int, instruction: Any) -> np.ndarray:
        """i64[n, 3]: file, offset and length of each record; or the file, -1 and its number."""
        stop = instruction.skip + instruction.take if instruction.take >= 0 else None
        chosen = slice(instruction.skip, stop)
        if self._is_tfrecord:
            extents = tfrecord.scan(self._paths[file], instruction.examples_in_shard)[chosen]
        else:
            numbers = np.arange(instruction.examples_in_shard)[chosen]
            extents = np.stack([np.full(len(numbers), -1), numbers], axis=1)
        return np.insert(extents, 0, file, axis=1)

    def _read(self, index: int, decode: Callable[[Features], T]) -> T:
        """Decodes a record by a function; a `UserError` names its file, a `BrokenImage` passes."""
        file, offset, length = self._extent[index].tolist()
        path = self._paths[file]
        if self._is_tfrecord:
            data = tfrecord.read(path, offset, length)
        else:
            with naming_damage(path, "prepare it again"):
                (data,) = _reader(path).read([length])
        try:
            return decode(tfrecord.decode_features(data))
        except BrokenImage:
            raise
        except UserError as error:
            raise damage_of(path, error, f"prepare {self.spec} again") from error

    def _key(self, index: int, features: Features) -> str:
        if self._names.key:
            return os.fsdecode(tfrecord.take(features, self._names.key, bytes, 1)[0])
        file, offset, length = self._extent[index].tolist()
        return f"{self._splits[file]}/{self._paths[file].name}/{offset if offset >= 0 else length}"

    def _segments(self, features: Features, key: str, size: tuple[int, ...]) -> Regions | None:
        """The panoptic segments but for crowds; none lies in another, so each is an object."""
        if not self._names.panoptic:
            return None
        colors = _decode_map(features, self._names.panoptic, key, size)
        numbers = colors @ np.array([1, 256, 65_536], np.int32) if colors.ndim == 3 else colors
        ids = tfrecord.take(features, f"{_PANOPTIC[1]}/id", np.int64)
        crowds = tfrecord.take(features, f"{_PANOPTIC[1]}/is_crowd", np.int64, len(ids))
        single = {int(n) for n, crowd in zip(ids, crowds, strict=True) if not crowd}
        height, width = numbers.shape
        rle = tuple(runs for n, runs in encode_labels(numbers).items() if n in single)
        area = mask_areas(rle)
        return Regions(
            size=(height, width),
            box=mask_boxes(rle, (height, width)).astype(np.float32),
            area=area,
            object=np.argsort(np.argsort(-area, kind="stable")),
            score=np.ones(len(rle), np.float32),
            level=np.zeros(len(rle), np.int64),
            rle=rle,
        )


def _decode_map(features: Features, name: str, key: str, size: tuple[int, ...]) -> np.ndarray:
    """A label map i32[h, w] or i32[h, w, 3]; `BrokenImage` if it is not of the image's size."""
    encoded = tfrecord.take(features, name, bytes, 1)[0]
    values = decode_label_map(encoded, f"{key}: its label map").astype(np.int32)
    if values.shape[:2] != size:
        raise BrokenImage(f"{key}: its label map has {values.shape[:2]} pixels, it has {size}")
    return values


@functools.lru_cache(maxsize=256)
def _reader(path: pathlib.Path) -> Any:
    """An open file of array_record, read as tensorflow-datasets and grain do."""
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(
        str(path), options="readahead_buffer_size:0", file_reader_buffer_size=32_768
    )


def find_names(features: Any, name: str) -> Names:
    """Chooses the features of a data set to read; `UserError` if none of them is an image."""
    kinds = {feature: type(kind).__name__ for feature, kind in features.items()}
    images = [f for f, kind in kinds.items() if kind in ("Image", "LabeledImage")]
    image = next((f for f in (*_IMAGES, *images) if f in images), None)
    if image is None:
        raise UserError(f"tfds:{name} has no image among its features {', '.join(kinds)}")
    labels = [f for f, kind in kinds.items() if kind == "ClassLabel"]
    label = next((f for f in ("label", *labels) if f in labels), "")
    return Names(
        image=image,
        label=label,
        semantic=next((f for f in _LABEL_MAPS if f in images and f != image), ""),
        depth="depth" if kinds.get("depth") == "Tensor" else "",
        panoptic=_PANOPTIC[0] if set(_PANOPTIC) <= set(kinds) else "",
        key=next((f for f in _KEYS if kinds.get(f) == "Text"), ""),
        classes=tuple(features[label].names) if label else (),
    )


@contextlib.contextmanager
def _opening(name: str) -> Iterator[None]:
    """Whatever a download, its checks and its parsers may raise becomes a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        advice = "give tfds:NAME/SPLIT, such as tfds:cifar10/train"
        raise UserError(f"tfds:{name} cannot be opened: {reason}; {advice}") from error


def _open(name: str) -> tuple[Any, str]:
    """The builder of a data set that is there now, and the split that is named, or ""."""
    builder, split = _find(_import(), name)
    if not builder.is_prepared():
        _import_tensorflow(builder)
        builder.download_and_prepare()
    if split and split.split("[")[0] not in builder.info.splits:
        known = ", ".join(builder.info.splits)
        raise UserError(f"tfds:{name} has no split {split!r}; choose from {known}")
    return builder, split


def _find(tfds: Any, name: str) -> tuple[Any, str]:
    """The builder and the split: the last part of a name, unless that is a configuration."""
    known, _, split = name.rpartition("/")
    try:
        return tfds.builder(name), ""
    except Exception:
        if not known:
            raise
        return tfds.builder(known), split


def _import() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"{error}; tfds: sources need their packages: pip install 'jaxssl[tfds]', or "
            "'jaxssl[tfds-read]', without TensorFlow, for what is prepared already"
        ) from error
    if "tensorflow" in sys.modules:
        _leave_gpus()
    return tensorflow_datasets


def _import_tensorflow(builder: Any) -> None:
    """Raises `UserError` if TensorFlow, which is to prepare a data set, is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"tfds:{builder.info.full_name} is not in {builder.data_path}, and only TensorFlow can "
            f"prepare it: pip install 'jaxssl[tfds]', or run {_command(builder)} where it is "
            "installed; what that writes is read without it"
        )
    _leave_gpus()


def _leave_gpus() -> None:
    import tensorflow

    tensorflow.config.set_visible_devices([], "GPU")  # they are for JAX and torch


def _command(builder: Any) -> str:
    """The command that prepares a data set for random access."""
    name = "/".join(filter(None, (builder.name, getattr(builder.builder_config, "name", ""))))
    return f"tfds build {name} --file_format=array_record --data_dir={builder.data_dir_root}"
