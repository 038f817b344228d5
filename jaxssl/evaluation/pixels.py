"""Data sets with a class or a depth for every pixel, as arrays."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxssl.data.canvas import MAX_PIXELS, CanvasSpec
from jaxssl.data.label_maps import VOID, LabelFolder, void_labels
from jaxssl.data.loading import pick, sample_sizes
from jaxssl.data.source import BrokenImage, Source
from jaxssl.data.squares import SquareSpec
from jaxssl.data.store import open_store
from jaxssl.errors import UserError
from jaxssl.evaluation.label_names import known_labels

CROPS = (8, 1024)  # sides of the smallest and the largest that can be cut
SHOWN = 8  # images
SHOWN_SIDE = 512  # pixels of each at most

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Images with what is true of each of their pixels; memory-mapped.

    They are squares, or canvases that keep the shape of each image.
    """

    name: str
    spec: SquareSpec | CanvasSpec
    kind: str  # "semantic" or "depth"
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    shorter: int = 0  # to which networks get the shorter side of an image resized; 0: as it is
    classes: tuple[str, ...] = ()  # (): depths
    class_of: np.ndarray | None = None  # u8[256]: the class of each label value, or VOID
    ignore_labels: tuple[int, ...] = ()  # label values that were left out, besides 255

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings that define numbers on these images, besides the recipe of a task."""
        protocol: dict[str, Any] = {"fit": "squash"}
        if isinstance(self.spec, CanvasSpec):
            shrunk = (self.test["levels"][:, 0, 1:] < self.test["hw"]).any(axis=1).sum()
            protocol = {"fit": "aspect", "size": self.shorter, "max_pixels": self.spec.pixels}
            protocol["shrunk_test_images"] = int(shrunk)
        return protocol | ({"ignore_labels": list(self.ignore_labels)} if self.classes else {})

    @property
    def void(self) -> int:
        """The value of a pixel of which nothing is known."""
        return VOID if self.classes else 0

    def part(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of "train" or "test"."""
        return self.train if name == "train" else self.test

    def meaning(self, values: np.ndarray) -> np.ndarray:
        """Classes u8 of label values, VOID where there is none; meters f32 as they are."""
        return values if self.class_of is None else self.class_of[values]

    def truth(self, part: str, row: int) -> np.ndarray:
        """Classes u8[h, w], VOID where there is none; or meters f32[h, w], 0 if unknown."""
        return self.meaning(read_pixels(self.part(part), self.kind, row))

    def image(self, part: str, row: int) -> np.ndarray:
        """u8[h, w, 3], as a network gets it."""
        pixels = read_pixels(self.part(part), "image", row)
        if not self.shorter or min(pixels.shape[:2]) == self.shorter:
            return pixels
        size = self.fed_size(pixels.shape[:2])[::-1]
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))

    def fed_size(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width that an image kept at `size` has when a network gets it."""
        factor = self.shorter / min(size) if self.shorter else 1.0
        height, width = (max(1, round(factor * side)) for side in size)
        return height, width

    def shown(self, predicted: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Some test images with what is true and what was predicted, as squares to look at.

        Args:
          predicted: maps [h, w] by row; those of `shown_rows` at least.
        """
        rows = shown_rows(len(self.test["hw"]))
        side = max(max(predicted[row].shape) for row in rows)
        side = min(side, SHOWN_SIDE)
        return {
            "image": np.stack(
                [letterbox(read_pixels(self.test, "image", row), side, 0) for row in rows]
            ),
            "truth": np.stack(
                [letterbox(self.truth("test", row), side, self.void) for row in rows]
            ),
            "predicted": np.stack([letterbox(predicted[row], side, self.void) for row in rows]),
        }


def shown_rows(count: int) -> list[int]:
    """Rows of up to `SHOWN` of `count` images, spread evenly."""
    return np.unique(np.linspace(0, count - 1, SHOWN).astype(int)).tolist()


def letterbox(values: np.ndarray, side: int, fill: int) -> np.ndarray:
    """Values [h, w, ...] in a square, shrunk to it by nearest pixels if they are larger."""
    scale = min(1.0, side / max(values.shape[:2]))
    height, width = (max(1, int(scale * n)) for n in values.shape[:2])
    square = np.full((side, side, *values.shape[2:]), fill, values.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pick(values, (height, width))
    return square


def read_pixels(arrays: Mapping[str, np.ndarray], name: str, row: int) -> np.ndarray:
    """The image or a map of one image, at the size at which it is kept."""
    values = arrays[name][row]
    if "levels" not in arrays:
        return np.asarray(values)
    height, width = arrays["levels"][row, 0, 1:]
    if name == "image":
        return values[: 3 * height * width].reshape(height, 3, width).transpose(0, 2, 1)
    return values[: height * width].reshape(height, width)


def maps_of(source: Source) -> frozenset[str]:
    """Those of "semantic" and "depth" that a source has a map of, by the first image with one."""
    if isinstance(source, LabelFolder):
        return frozenset({"semantic"})
    for index in range(min(len(source), 10)):
        try:
            example = source[index]
        except BrokenImage:
            continue
        there = {"semantic": example.semantic, "depth": example.depth}
        if found := frozenset(name for name, values in there.items() if values is not None):
            return found
    return frozenset()


def own_shape(parts: Sequence[Source], kind: str) -> CanvasSpec:
    """The canvas that keeps images of these parts at their own shape.

    The budget is that of the largest image looked at, at most `MAX_PIXELS`.
    """
    largest = max(h * w for source in parts for h, w in sample_sizes(source))
    return CanvasSpec(min(largest, MAX_PIXELS), CROPS, maps=(kind,))


def load_pixels(
    name: str,
    parts: tuple[Source, Source],
    spec: SquareSpec | CanvasSpec,
    *,
    shorter: int = 0,
    ignore_labels: tuple[int, ...] = (),
    cache_dir: str | None = None,
) -> Pixels:
    """The training and test part, with the one map that `spec` names.

    A canvas keeps images pixel by pixel, up to its budget; one that is larger is shrunk, its map by
    nearest pixels, and what is predicted for it is held against the map as it is then.

    Args:
      name: of the data set, for messages.
      parts: training and test images.
      spec: what is kept of each image.
      shorter: to which networks get the shorter side of an image resized; 0: as it is.
      ignore_labels: label values that are no class, besides 255.
      cache_dir: where decoded images are kept; None: in the cache folder.

    Raises:
      UserError: fewer than two classes are left, or values are of no class and not ignored.
    """
    (kind,) = spec.maps
    train, test = (open_store(source, spec, cache_dir) for source in parts)
    pixels = Pixels(name, spec, kind, train, test, shorter)
    if shrunk := pixels.protocol.get("shrunk_test_images"):
        log.warning(
            "%s: %d test images of more than %d pixels are shrunk to that, and so are their maps",
            *(name, shrunk, pixels.spec.pixels),  # type: ignore[union-attr]
        )
    if kind == "depth":
        return pixels
    learned = label_values(train)
    found = learned | label_values(test)
    pixels = with_classes(pixels, parts[0], found, ignore_labels)
    named = set(ignore_labels) - set(void_labels(parts[0]))  # which its maps do not hold any more
    if named and not found & named:
        absent = ", ".join(map(str, sorted(named)))
        log.warning("%s: no pixel has a label value that is to be ignored: %s", name, absent)
    seen = set(pixels.meaning(np.array([*learned], np.uint8)).tolist())
    if unseen := [label for i, label in enumerate(pixels.classes) if i not in seen]:
        log.warning("%s: classes without a training pixel: %s", name, ", ".join(unseen))
    return pixels


def with_classes(
    pixels: Pixels, source: Source, found: set[int], ignore: tuple[int, ...]
) -> Pixels:
    """Pixels that know the classes of their label values.

    Args:
      pixels: with label maps.
      source: of them, which says what they are if it is known.
      found: label values of the images.
      ignore: label values that are no class, besides 255.

    Raises:
      UserError: fewer than two classes are left, or values are of no class and not ignored.
    """
    meant = found - {VOID, *ignore}
    numbered = {v: str(v) for v in range(max(meant, default=-1) + 1)}
    names = known_labels(source, meant) or numbered
    if unknown := meant - set(names):
        raise UserError(
            f"{pixels.name} has label values {sorted(unknown)}, which none of its classes has; if "
            "they are no class, name them as --ignore-labels"
        )
    names = {v: label for v, label in names.items() if label and v not in ignore}
    if len(names) < 2:
        raise UserError(f"{pixels.name} has label values {sorted(found)}: two classes are needed")
    class_of = np.full(256, VOID, np.uint8)
    class_of[list(names)] = np.arange(len(names))
    return dataclasses.replace(
        pixels, classes=tuple(names.values()), class_of=class_of, ignore_labels=ignore
    )


def label_values(arrays: Mapping[str, np.ndarray]) -> set[int]:
    """The values that label maps hold."""
    maps = (read_pixels(arrays, "semantic", row) for row in range(len(arrays["hw"])))
    counts = sum(np.bincount(labels.ravel(), minlength=256) for labels in maps)
    return set(np.flatnonzero(counts).tolist())
