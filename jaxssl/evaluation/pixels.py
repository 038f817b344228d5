"""Data sets with a class or a depth for every pixel, as arrays."""

import dataclasses
import logging
from typing import Any

import numpy as np

from jaxssl.data.source import BrokenImage, Source
from jaxssl.data.squares import SquareSpec
from jaxssl.data.store import open_store
from jaxssl.data.synthetic.shapes import CLASS_NAMES
from jaxssl.errors import UserError
from jaxssl.evaluation.dense import pets_metrics
from jaxssl.evaluation.dense.confusion import VOID

SHOWN = 8  # images

log = logging.getLogger("jaxssl")

_CITYSCAPES = {
    **{7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole"},
    **{19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky"},
    **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train"},
    **{32: "motorcycle", 33: "bicycle"},
}
# Data sets by name: the class of each label value; other values are no class.
KNOWN: dict[str, dict[int, str]] = {
    "scenes": dict(enumerate(("ground", *CLASS_NAMES))),
    "oxford_iiit_pet": dict(enumerate(pets_metrics.CLASSES, start=1)),
    "cityscapes": _CITYSCAPES,
}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Images with what is true of each of their pixels; memory-mapped."""

    name: str
    train: dict[str, np.ndarray]  # image u8[n, s, s, 3] and semantic u8[n, s, s] or depth f32
    test: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()  # (): depths
    class_of: np.ndarray | None = None  # u8[256]: the class of each label value, or VOID
    ignore_labels: tuple[int, ...] = ()  # label values that were left out, besides 255

    @property
    def protocol(self) -> dict[str, Any]:
        """What defines numbers on these images besides the recipe of a task."""
        return {"fit": "squash"} | (
            {"ignore_labels": list(self.ignore_labels)} if self.classes else {}
        )

    def truth(self, part: str, rows: np.ndarray | slice) -> np.ndarray:
        """Classes u8[n, s, s], VOID where there is none; or metres f32[n, s, s], 0 if unknown."""
        arrays = self.train if part == "train" else self.test
        if self.class_of is None:
            return np.asarray(arrays["depth"][rows])
        return np.asarray(self.class_of[arrays["semantic"][rows]])

    def shown(self, predicted: np.ndarray) -> dict[str, np.ndarray]:
        """Some test images with what is true and what was predicted, to look at."""
        rows = np.unique(np.linspace(0, len(predicted) - 1, SHOWN).astype(int))
        return {
            "image": np.asarray(self.test["image"][rows]),
            "truth": self.truth("test", rows),
            "predicted": predicted[rows],
        }


def maps_of(source: Source) -> frozenset[str]:
    """Which of "semantic" and "depth" the pixels of a source have, by its first readable image."""
    for index in range(min(len(source), 10)):
        try:
            example = source[index]
        except BrokenImage:
            continue
        there = {"semantic": example.semantic, "depth": example.depth}
        return frozenset(name for name, values in there.items() if values is not None)
    return frozenset()


def load_pixels(
    name: str,
    parts: tuple[Source, Source],
    kind: str,
    size: int,
    *,
    ignore_labels: tuple[int, ...] = (),
    cache_dir: str | None = None,
) -> Pixels:
    """The training and test part, squashed to squares of `size` pixels, maps by nearest pixels.

    Args:
      kind: "semantic" or "depth".
      ignore_labels: label values that are no class, besides 255.

    Raises:
      UserError: fewer than two classes are left.
    """
    spec = SquareSpec(size, "squash", maps=(kind,))
    train, test = (open_store(source, spec, cache_dir) for source in parts)
    if kind == "depth":
        return Pixels(name, train, test)
    learnt = _values(train["semantic"])
    found = learnt | _values(test["semantic"])
    names = KNOWN.get(name) or {v: str(v) for v in range(max(found - {VOID}, default=-1) + 1)}
    names = {v: label for v, label in names.items() if v not in ignore_labels}
    if len(names) < 2:
        raise UserError(f"{name} has label values {sorted(found)}: segmentation needs two classes")
    class_of = np.full(256, VOID, np.uint8)
    class_of[list(names)] = np.arange(len(names))
    unseen = [label for v, label in names.items() if v not in learnt]
    if unseen:
        log.warning("%s: no training pixel of the classes %s", name, ", ".join(unseen))
    return Pixels(name, train, test, tuple(names.values()), class_of, ignore_labels)


def _values(maps: np.ndarray) -> set[int]:
    """The values that label maps u8[n, s, s] hold."""
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in maps)
    return set(np.flatnonzero(counts).tolist())
