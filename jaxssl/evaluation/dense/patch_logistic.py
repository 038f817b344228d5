"""The preset `capi` of `segmentation`: logistic regression on the cells of squashed images.

CAPI (arXiv 2502.08769, github.com/facebookresearch/capi at 98b4fa1, eval_segmentation.py): images
and maps are squashed to squares of 224 pixels, a cell has the class that most of its pixels have,
and is left out if that is none. L-BFGS with up to 1,000 iterations; of 8 values of C the best by
the mean IoU on a tenth of the training images; then once more on all of them. Features are
standardized once, by the mean and deviation of the other nine tenths. All pixels of a cell get its
class, and count.

Other than there: images are squashed bilinearly, not bicubically, and L-BFGS stops earlier, when no
derivative of the mean loss is above 1e-6 (in float32 cuML's 1e-12 is never reached).
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxssl.errors import UserError
from jaxssl.evaluation.classification.logistic import minimize
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import scores, summarize
from jaxssl.evaluation.dense.grid_cells import class_counts
from jaxssl.evaluation.features import check_finite, standardizer
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import TaskResult
from jaxssl.pretrained.encoder import Encoder

_GRID = tuple(float(c) for c in 10 ** np.linspace(-6, 5, 8))


@dataclasses.dataclass(frozen=True)
class PatchLogistic:
    """The protocol."""

    size: int = 224  # of the squares, pixels
    c: tuple[float, ...] = _GRID  # inverse strengths of regularization
    iterations: int = 1000  # at most
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        ranges = {"1 or more": "size iterations", "above 0": "c", "0 or more": "tolerance"}
        check_numbers(self, ranges)


class Patches(NamedTuple):
    """The cells of some images."""

    features: np.ndarray  # f32[n, d]
    counts: np.ndarray  # i64[n, k]: pixels of each class
    void: np.ndarray  # i64[n]: pixels of no class

    @property
    def label(self) -> np.ndarray:
        """The class of most pixels, of the first classes with as many; k if most have none."""
        return np.concatenate([self.counts, self.void[:, None]], axis=1).argmax(axis=1)


def patches_of(encoder: Encoder, pixels: Pixels, part: str, rows: np.ndarray) -> Patches:
    """The cells of squares, image after image.

    Args:
      encoder: to compute features with.
      pixels: with the squares.
      part: "train" or "test".
      rows: of the part.

    Raises:
      UserError: features are not finite.
    """
    grids = encoder.outputs("grid", pixels.part(part)["image"], rows)
    check_finite(grids, pixels.name)
    classes, shape = len(pixels.classes), grids.shape[1:3]
    of_each = [class_counts(pixels.truth(part, row), shape, classes) for row in rows.tolist()]
    counts = np.concatenate([counts.reshape(-1, classes) for counts, _ in of_each])
    total = np.concatenate([total.ravel() for _, total in of_each])
    features = np.asarray(grids, np.float32).reshape(-1, grids.shape[3])
    return Patches(features, counts, total - counts.sum(axis=1))


def predict(
    learned: Patches, asked: Patches, c: float, protocol: PatchLogistic
) -> Int[np.ndarray, " m"]:
    """The classes of cells by a regression on others; both are standardized already.

    Args:
      learned: cells to learn from.
      asked: cells to classify.
      c: C.
      protocol: how to minimize.

    Raises:
      UserError: no cell has a class.
    """
    labels, classes = learned.label, learned.counts.shape[1]
    known = labels < classes
    if not known.any():
        raise UserError("most pixels of every cell of the training images have no class")
    weight, bias = minimize(
        learned.features[known],
        labels[known],
        jnp.float32(c),
        jnp.float32(protocol.tolerance),
        num_classes=classes,
        iterations=protocol.iterations,
    )
    found: np.ndarray = (asked.features @ np.asarray(weight) + np.asarray(bias)).argmax(axis=1)
    return found


def confusion_of(asked: Patches, predicted: Int[np.ndarray, " m"]) -> Int[np.ndarray, "k k"]:
    """The number of pixels of a class (row) in cells that were taken for each class (column)."""
    confusion = np.zeros((asked.counts.shape[1],) * 2, np.int64)
    np.add.at(confusion.T, predicted, asked.counts)
    return confusion


def choose_c(learned: Patches, held_out: Patches, protocol: PatchLogistic) -> float:
    """The C of the best mean IoU on cells that were not learned from."""
    if len(protocol.c) == 1 or not held_out.counts.any():
        return protocol.c[0]
    found = [confusion_of(held_out, predict(learned, held_out, c, protocol)) for c in protocol.c]
    return protocol.c[int(np.argmax([scores(confusion)["miou"] for confusion in found]))]


def run_patches(encoder: Encoder, data: DataSet, protocol: PatchLogistic, seed: int) -> TaskResult:
    """Mean IoU over the pixels of squashed test images."""
    pixels = dataclasses.replace(data, size=protocol.size).label_squares
    rows = np.random.default_rng(seed).permutation(len(pixels.train["hw"]))
    held_out = len(rows) // 10
    parts = [
        patches_of(encoder, pixels, "train", rows[held_out:]),
        patches_of(encoder, pixels, "train", rows[:held_out] if held_out else rows),
        patches_of(encoder, pixels, "test", np.arange(len(pixels.test["hw"]))),
    ]
    mean, std = standardizer(parts[0].features)
    learned, chosen_by, test = (p._replace(features=(p.features - mean) / std) for p in parts)
    c = choose_c(learned, chosen_by, protocol)
    everything = learned
    if held_out:
        everything = Patches(*map(np.concatenate, zip(learned, chosen_by, strict=True)))
    confusion = confusion_of(test, predict(everything, test, c, protocol))
    results, details = summarize(confusion, pixels.classes)
    return TaskResult(results, pixels.protocol | {"c_chosen": c, "size": protocol.size}, details)
