"""A tree of image files as a source: nothing to convert, nothing to describe.

Folders `train/` and `val/` (or `Training/` and `Testing/`, and the like: `splits.py`) beside each
other are the data set's splits. Two or more folders at the top of the tree, in the only folder
there, or in a split, name the classes of the images in them at any depth; images beside those
folders have no class, nor have those in folders called `images` and the like. Hidden files
and folders are skipped, as are masks that lie beside their images (`1_seg.png` of `1.jpg`).

Images with 16-bit channels are scaled alike: by the number of bits, 8, 10, 12, 14 or 16, that hold
the largest value in a sample of all of them. Microscopes and X-ray cameras use 12 of 16, say.
"""

import collections
import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from jaxssl.data.class_folders import (
    check_classes,
    describe_classes,
    describe_unread,
    find_classes,
    find_splits,
    folder_at,
)
from jaxssl.data.decode import (
    HAS_HEIF,
    PORTABLE,
    decode_upright,
    largest_value,
    read_size,
    unread_parts,
)
from jaxssl.data.label_table import read_labels, sort_classes
from jaxssl.data.name_matching import masks_beside
from jaxssl.data.source import BrokenImage, Example, Size, report
from jaxssl.data.splits import choose_splits, in_part
from jaxssl.errors import UserError

SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"),
)
_HEIF = (".heic", ".heif", ".hif")  # of phones, with the extra `heif`
SUFFIXES += _HEIF if HAS_HEIF else ()
# May have 16-bit channels.
_DEEP = (".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k")
_HIDDEN = (".", "__MACOSX")  # what zip archives made on a Mac have besides
_JPEG = b"\xff\xd8\xff"  # which has its size before its pixels, and its orientation before that
_HEAD = 2**17  # bytes of a JPEG file that hold both, unless it has a large color profile or preview
_SAMPLED = 200  # images looked at for them

log = logging.getLogger("jaxssl.data")


class Folder:
    """The images under a folder, sorted by their path in it, which is their key."""

    has_regions = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        part: str | None = None,
        labels: str = "",
        *,
        alike: Sequence[pathlib.Path] = (),
    ) -> None:
        """Finds the images to learn from, or those of the part "train" or "test"; see `splits.py`.

        `labels` is a table in the folder that says the classes, not the folders; a part has no
        images without. `alike` are folders, this one among them, whose 16-bit images are scaled
        alike. Raises `UserError` if there is no such folder, or nothing in it.
        """
        self.spec = f"folder:{path}" + (f"?labels={labels}" if labels else "")
        self._root = pathlib.Path(path)
        files, masks = self._find_files(labels)
        keys = [file for file in files if file not in masks]
        self._bits = self._find_bits(keys, alike)
        self._table = self._root / labels if labels else None
        class_of = read_labels(self._table, keys) if self._table and keys else None
        if class_of is not None and part:
            keys = [key for key in keys if key in class_of]
        above, splits, depth = find_splits(keys)
        chosen, by_key = choose_splits(splits, part)
        if splits:
            report(self.spec, describe_unread(keys, above, splits))
            keys = [key for key in keys if folder_at(key, above) in splits]
        if class_of is not None:
            self.class_names = sort_classes(set(class_of.values()))
        else:
            class_of = self._classes_by_folder(keys, depth, bool(splits))
        if splits:
            keys = [key for key in keys if folder_at(key, above) in chosen]
        if by_key:
            keys = [key for key in keys if in_part(key, by_key)]
        if not keys:
            of_part = f" in its part {part!r}" if part and files else ""
            empty = f"{path} has no images{of_part}"
            raise UserError(
                empty + _why_empty(bool(by_key and files), _describe(self.left_out, masks))
            )
        self._keys = keys
        label_of = {name: label for label, name in enumerate(self.class_names)}
        self._labels = [label_of.get(class_of.get(key, ""), -1) for key in keys]

    def _find_files(self, labels: str) -> tuple[list[str], dict[str, str]]:
        """The image files, and those of them that are masks beside others; counts the rest."""
        if not self._root.is_dir():
            what = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise UserError(f"{self._root} {what}; give the folder that holds the images")
        self.left_out: collections.Counter[str] = collections.Counter()  # files by their ending
        files = sorted(find_files(self._root, SUFFIXES, self.left_out))
        if labels:
            self.left_out -= collections.Counter([_ending(labels)])  # it is read
        masks = masks_beside(files)
        report(self.spec, _describe(self.left_out, masks))
        return files, masks

    def _find_bits(self, keys: list[str], alike: Sequence[pathlib.Path]) -> int:
        deep = [self._root / key for key in keys if key.lower().endswith(_DEEP)]
        if alike:
            deep = [f / file for f in alike if f.is_dir() for file in sorted(find_files(f, _DEEP))]
        return _bits_in_use(deep, self.spec)

    def _classes_by_folder(self, keys: list[str], depth: int, has_splits: bool) -> dict[str, str]:
        """The class of each image: its folder at that depth, or below splits again."""
        depth, self.class_names = find_classes(keys, depth)
        report(self.spec, describe_classes(keys, depth, self.class_names))
        if not has_splits:
            check_classes(self.class_names, self._root)
        return {key: folder_at(key, depth) for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Example:
        return self.resized(index, lambda size: size)[0]

    def resized(self, index: int, fit: Callable[[Size], Size]) -> tuple[Example, Size]:
        """The example with its image resized to `fit(size)`; its true height and width."""
        encoded = self._read(index)
        image, size, orientation = decode_upright(encoded, self._keys[index], fit, self._bits)
        # Readers of records would take the upper byte of 16-bit values.
        rescaled = self._bits < 16 and encoded.startswith(b"\x89PNG") and encoded[24] == 16
        as_it_is = encoded.startswith(PORTABLE) and not rescaled
        example = Example(
            key=self._keys[index],
            image=image,
            label=self._labels[index],
            encoded=encoded if as_it_is else None,
            orientation=orientation,
        )
        return example, size

    def keys(self) -> list[str]:
        """The keys of the images."""
        return self._keys

    def image_size(self, index: int) -> Size:
        """Height and width of the upright image; of a photograph only the head is read for it."""
        key, head = self._keys[index], self._read(index, _HEAD)
        if head.startswith(_JPEG):
            with contextlib.suppress(BrokenImage):  # its head is longer
                return read_size(head, key)
        return read_size(self._read(index), key)

    def files(self) -> list[tuple[str, pathlib.Path]]:
        """Keys and files of the images."""
        return [(key, self._root / key) for key in self._keys]

    def label_files(self) -> list[pathlib.Path]:
        """The table of labels, if there is one."""
        return [self._table] if self._table else []

    def fingerprint(self) -> str:
        # Classes of other parts, too, change the numbers of this one's.
        digest = hashlib.sha256(os.fsencode("\0".join(self.class_names)))
        for key in self._keys:
            digest.update(os.fsencode(key) + b"\0" + file_state(self._root / key).encode() + b"\0")
        if self._bits != 16:
            digest.update(str(self._bits).encode())
        if self._table:
            digest.update(self._table.read_bytes())
        return digest.hexdigest()

    def _read(self, index: int, count: int = -1) -> bytes:
        """The first `count` bytes of a file, or all of them."""
        key = self._keys[index]
        try:
            with (self._root / key).open("rb") as file:
                return file.read(count)
        except OSError as error:
            if not self._root.is_dir():
                raise UserError(f"{self._root} is gone; put it back to continue") from error
            raise BrokenImage(f"{key}: cannot be read: {error.strerror}") from error


def file_state(path: pathlib.Path) -> str:
    """Size and time of a file; "missing" if a link leads nowhere or it went: reading it says so."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "missing"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def find_files(
    root: str | os.PathLike[str],
    endings: Sequence[str],
    left_out: collections.Counter[str] | None = None,
) -> Iterator[str]:
    """Paths in `root`, with "/", of the files under it with these endings; counts the others.

    Links are followed; a folder that is reached twice is read once, so rings come to an end. Hidden
    files and folders are skipped, and `__MACOSX`.
    """

    def warn(error: OSError) -> None:
        log.warning("%s cannot be listed: %s", error.filename, error.strerror)

    seen = set()
    for folder, subfolders, files in os.walk(root, onerror=warn, followlinks=True):
        stat = os.stat(folder)
        identity = (stat.st_dev, stat.st_ino)
        if identity in seen:
            subfolders.clear()
            continue
        seen.add(identity)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(_HIDDEN))
        prefix = pathlib.Path(folder).relative_to(root)
        for name in sorted(files):
            if name.startswith("."):
                continue
            if name.lower().endswith(tuple(endings)):
                yield (prefix / name).as_posix()
            elif left_out is not None:
                left_out[_ending(name)] += 1


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no ending"


def _describe(left_out: collections.Counter[str], masks: Mapping[str, str]) -> str:
    """A remark on the files that were left out, "" if none were."""
    of_masks = ""
    if masks:
        file, image = next(iter(masks.items()))
        of_masks = f"; masks of images, left out: {len(masks)}, such as {file} of {image}"
    counts = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))[:9]
    files = ", ".join(f"{count} {ending}" for ending, count in counts)
    heif = "; for HEIC: pip install 'jaxssl[heif]'" if set(left_out) & {*_HEIF} else ""
    records = "; records are given as records:PATH" if ".tfrecord" in left_out else ""
    return of_masks + (f"; files left out: {files}{heif}{records}" if files else "")


def _why_empty(divided: bool, left_out: str) -> str:
    """The reason why there is no image, in a whole folder or in a part by keys of its images."""
    if divided:
        return ", one in five of all: it has too few; give folders train and val"
    return f"; it should hold files that end in {' '.join(SUFFIXES)}, in any folders{left_out}"


def _bits_in_use(deep: Sequence[pathlib.Path], spec: str) -> int:
    """The number of bits in use of 16-bit channels, by a sample of all images; 16 without any."""
    largest = []
    unread: set[str] = set()
    for index in np.random.default_rng(0).permutation(len(deep))[:_SAMPLED]:
        try:
            encoded = deep[index].read_bytes()
            largest.append(largest_value(encoded, deep[index].name))
            unread.update(unread_parts(encoded, deep[index].name))
        except (OSError, BrokenImage):
            continue  # it is named when it is to be used
    if unread:
        report(spec, f": of TIFF files {' and '.join(sorted(unread))} are left out")
    top = max((value for value in largest if value is not None), default=65535)
    bits = next(bits for bits in (8, 10, 12, 14, 16) if top < 2**bits)
    if bits < 16:
        report(spec, f": 16-bit images use {bits} bits, the range 0 to {2**bits - 1}")
    return bits
