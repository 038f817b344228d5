"""Data sets to evaluate on: a training and a test part, opened first and decoded when needed."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from ml_collections import ConfigDict

from jaxssl.data import Source, open_source
from jaxssl.data.canvas import CanvasSpec, choose_pixels
from jaxssl.data.label_maps import void_labels
from jaxssl.data.loading import sample_sizes
from jaxssl.data.squares import SquareSpec
from jaxssl.data.store import open_store
from jaxssl.errors import UserError, check_range
from jaxssl.evaluation.label_names import data_set_name, exported_void
from jaxssl.evaluation.pixels import Pixels, load_pixels, maps_of, own_shape

T = TypeVar("T")

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """The images of a data set with class labels, and the labels; unlabeled images are there."""

    train: dict[str, np.ndarray]  # image u8[n, s, s, 3], label i32[n]: below 0 if there is none
    test: dict[str, np.ndarray]
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The parts of a source. `train` and `test` read single examples of any size."""

    name: str
    spec: str  # the source, such as folder:photos
    train: Source
    test: Source
    size: int  # side of the images, pixels, where a task takes squares
    shorter: int = 0  # where it takes them whole: their shorter side is resized to this; 0: as is
    cache_dir: str | None = None
    # Label values of pixels that are no class, besides 255; (): those of the export of records.
    ignore_labels: tuple[int, ...] = ()

    @property
    def offers(self) -> frozenset[str]:
        """The kinds of data that there are, of which tasks name one. Images are always there."""
        there = {
            "images": True,
            "labels": len(self.train.class_names) > 0,
            "regions": self.train.has_regions,
            "label maps": "semantic" in self._maps,
            "depth": "depth" in self._maps,
            "labeled regions": self.train.has_regions and "semantic" in self._maps,
        }
        return frozenset(name for name, is_there in there.items() if is_there)

    @functools.cached_property
    def _maps(self) -> frozenset[str]:
        return maps_of(self.train)

    @functools.cached_property
    def void(self) -> tuple[int, ...]:
        """Label values of pixels that are no class, besides 255."""
        return (*(self.ignore_labels or exported_void(self.train)), *void_labels(self.train))

    @functools.cached_property
    def label_maps(self) -> Pixels:
        """The images at their own shape with the class of each pixel."""
        return self._pixels(own_shape((self.train, self.test), "semantic"))

    @functools.cached_property
    def label_squares(self) -> Pixels:
        """The images with the class of each pixel, squashed to squares of `size`."""
        return self._pixels(SquareSpec(self.size, "squash", maps=("semantic",)))

    @functools.cached_property
    def depths(self) -> Pixels:
        """The images at their own shape with the depth of each pixel."""
        return self._pixels(own_shape((self.train, self.test), "depth"))

    def _pixels(self, spec: SquareSpec | CanvasSpec) -> Pixels:
        if missing := set(spec.maps) - maps_of(self.test):
            kind = {"semantic": "label maps", "depth": "depth maps"}[min(missing)]
            raise UserError(
                f"{self.spec} has {kind} in its training part only, not in its test part, "
                f"{self.test.spec}"
            )
        return load_pixels(
            self.name,
            (self.train, self.test),
            spec,
            shorter=self.shorter if isinstance(spec, CanvasSpec) else 0,
            ignore_labels=self.void,
            cache_dir=self.cache_dir,
        )

    @functools.cached_property
    def squares(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The training and test images, their shorter side resized to `size`, the center cut out.

        Memory-mapped. Decoded once; the files are in the cache folder.
        """
        spec = SquareSpec(self.size)
        train, test = (open_store(s, spec, self.cache_dir) for s in (self.train, self.test))
        return train, test

    @functools.cached_property
    def labeled(self) -> LabeledImages:
        """`squares` with their classes.

        Raises:
          UserError: a part has no labeled image, or all of them are of one class.
        """
        train, test = self.squares
        classes = self.train.class_names
        found = {}
        for part, arrays in (("training", train), ("test", test)):
            found[part] = np.unique(labeled_rows(arrays)[1])
            if not len(found[part]):
                raise UserError(
                    f"{self.spec} has no labeled image in its {part} part; put its images into "
                    "folders of their classes, or take the part away: a fifth of the other is then "
                    "kept to test on"
                )
        if len(found["training"]) < 2:
            only = classes[found["training"][0]]
            raise UserError(
                f"{self.spec} has images of one class only, {only!r}, in its training part; "
                "classification needs two"
            )
        for part, present in found.items():
            missing = [c for i, c in enumerate(classes) if i not in present]
            if missing:
                some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
                log.warning(
                    "%s: no image of %d of %d classes (%s) in the %s part",
                    *(self.spec, len(missing), len(classes), some, part),
                )
        return LabeledImages(train, test, classes)

    @functools.cached_property
    def canvases(self) -> tuple[CanvasSpec, dict[str, np.ndarray]]:
        """The training images at their own shape, to cut crops of `size` from at random."""
        spec = CanvasSpec(
            choose_pixels(sample_sizes(self.train), len(self.train)), (self.size, self.size)
        )
        return spec, open_store(self.train, spec, self.cache_dir)


def open_datasets(
    specs: Sequence[str],
    size: int,
    cache_dir: str | None = None,
    *,
    shorter: int = 0,
    ignore_labels: tuple[int, ...] = (),
) -> tuple[DataSet, ...]:
    """The data sets of these sources.

    Args:
      specs: sources, such as folder:photos; a training and a test part each.
      size: side of the images, pixels, where a task takes squares.
      cache_dir: where decoded images are kept; None: in the cache folder.
      shorter: where a task takes images whole, to what their shorter side is resized; 0: it is not.
      ignore_labels: label values of pixels that are no class, besides 255; (): those that the
        export of records was told.

    Raises:
      UserError: one is unavailable, or two would have the same name.
    """
    datasets = tuple(
        DataSet(
            name=data_set_name(spec),
            spec=spec,
            train=open_source(spec, "train"),
            test=open_source(spec, "test"),
            size=size,
            shorter=shorter,
            cache_dir=cache_dir,
            ignore_labels=ignore_labels,
        )
        for spec in specs
    )
    if len({data.name for data in datasets}) < len(datasets):
        raise UserError(
            f"two of the data sets {', '.join(specs)} would have the same name; rename a folder"
        )
    return datasets


def open_configured(config: ConfigDict) -> tuple[DataSet, ...]:
    """The data sets `config.eval.datasets` as a run's config has them."""
    return open_datasets(
        config.eval.datasets,
        config.eval.size or config.views.size,
        config.data.cache_dir or None,
        shorter=config.eval.size,
        ignore_labels=config.eval.ignore_labels,
    )


def labeled_rows(part: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images of a part that have a label, and these labels."""
    labels = np.asarray(part["label"])
    rows = np.flatnonzero(labels >= 0)
    return rows, labels[rows]


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Rows of a fraction of each class, at least one of each; the same for the same seed."""
    check_range("a fraction of the images", fraction, "in (0, 1]")
    return _some_of_each(labels, seed, lambda count: max(1, round(fraction * count)))


def hold_out(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from and a tenth, of each class with two images, to choose by.

    Raises:
      UserError: no class has two images.
    """
    held_out = _some_of_each(labels, seed, lambda n: max(1, n // 10) if n > 1 else 0)
    if not len(held_out):
        raise UserError("no class has two images, so none can be held out to choose by")
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def _some_of_each(labels: np.ndarray, seed: int, how_many: Callable[[int], int]) -> np.ndarray:
    """Rows drawn from each class: as many as `how_many` says of the number of its images."""
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    of_each = (order[shuffled == label] for label in np.unique(labels))
    return np.sort(np.concatenate([rows[: how_many(len(rows))] for rows in of_each]))


def choose_held_out(
    options: Sequence[T],
    labels: np.ndarray,
    seed: int,
    accuracy: Callable[[T, np.ndarray, np.ndarray], float],
) -> T:
    """The best of the options by a tenth of the training images; a single one without trying it.

    Args:
      options: to choose from.
      labels: i32[n] of the training images.
      seed: of the tenth.
      accuracy: of an option, learned from some rows, on others.
    """
    if len(options) == 1:
        return options[0]
    rest, held_out = hold_out(labels, seed)
    return options[int(np.argmax([accuracy(option, rest, held_out) for option in options]))]


def whole_batch(batch_size: int, count: int, devices: int) -> int:
    """The largest batch of at most `batch_size` of `count` images that divides over the devices.

    Whatever trains on labeled images takes such batches, and says of how many images they were.

    Raises:
      UserError: there are fewer images than devices, or batches are to be so small.
    """
    whole = min(batch_size, count) // devices * devices
    if not whole:
        raise UserError(
            f"batches of {min(batch_size, count)} of {count} training images do not divide over "
            f"{devices} devices; use fewer devices, or more images and a larger batch_size of the "
            "task (--set TASK.batch_size)"
        )
    return whole


def check_labels(data: DataSet, protocol: object) -> None:
    """Raises UserError unless there are labeled images of two classes."""
    _ = data.labeled
