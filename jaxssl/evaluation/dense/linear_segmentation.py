"""The task `segmentation`: a linear probe of the grid, a 1x1 convolution on frozen features
that names the class of each pixel.

It is trained on cells: with logits repeated over the pixels of a cell, the mean of their cross
entropies is that of the cell with the shares of the classes in it. So the label maps shrink to
histograms, and a step costs one small matrix product. For testing, logits are resized bilinearly.
The learning rate is chosen by the mean IoU on a tenth of the *training* images.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxssl.errors import UserError
from jaxssl.evaluation.classification.linear_protocols import LinearProbe
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import VOID, confusion_matrix, score_maps, scores
from jaxssl.evaluation.probes import Probes, Schedule, init_probes, predict, scan_updates
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.pretrained.encoder import Encoder

LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MIN_TRAINING_IMAGES = 10
TEST_BATCH = 16  # images whose logits are resized at once


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The protocol."""

    steps: int = 1000
    batch_size: int = 1024  # cells
    images: int = 2000  # to train on, at most: their grids are held in memory

    def __post_init__(self) -> None:
        for field, value in dataclasses.asdict(self).items():
            if value < 1:
                raise UserError(f"segmentation.{field} is {value}; it must be 1 or more")


def class_shares(
    truth: UInt8[np.ndarray, "n s s"], grid: tuple[int, int], classes: int
) -> Float[np.ndarray, "n h w k"]:
    """The share of each class in each cell of a grid; void pixels have a share that is left out.

    A pixel belongs to the cell in which its centre lies.
    """
    (n, side, _), (h, w) = truth.shape, grid
    row, column = (((np.arange(side) + 0.5) * cells / side).astype(int) for cells in grid)
    cell = row[:, None] * w + column[None, :]
    where = cell[None] * (VOID + 1) + truth
    each = [np.bincount(image.ravel(), minlength=h * w * (VOID + 1)) for image in where]
    counts = np.stack(each).reshape(n, h, w, VOID + 1)[..., :classes]
    pixels = np.bincount(cell.ravel(), minlength=h * w).reshape(h, w)
    return (counts / np.maximum(pixels, 1)[None, :, :, None]).astype(np.float32)


@functools.partial(jax.jit, static_argnames="side")
def _predict(
    probes: Probes, number: Int[Array, ""], grid: Float[Array, "b h w d"], side: int
) -> UInt8[Array, "b {side} {side}"]:
    cells = grid.reshape(-1, grid.shape[-1])
    logits = predict(probes, cells)[number].reshape(*grid.shape[:3], -1)
    full = jax.image.resize(logits, (len(grid), side, side, logits.shape[-1]), "bilinear")
    return full.argmax(axis=-1).astype(jnp.uint8)


def predict_maps(
    probes: Probes, number: int, grids: Float[np.ndarray, "n h w d"], side: int
) -> UInt8[np.ndarray, "n s s"]:
    """The class of each pixel of images of `side` pixels, by one of the classifiers.

    Args:
      probes: the classifiers.
      number: which of them.
      grids: features of the images.
      side: of the images, pixels.
    """
    batches = (grids[i : i + TEST_BATCH] for i in range(0, len(grids), TEST_BATCH))
    which = jnp.int32(number)
    return np.concatenate([np.asarray(_predict(probes, which, b, side)) for b in batches])


def grid_probe(
    train: Float[np.ndarray, "n h w d"],
    truth: UInt8[np.ndarray, "n s s"],
    test: Float[np.ndarray, "m h w d"],
    protocol: Segmentation,
    *,
    classes: int,
    seed: int = 0,
) -> tuple[UInt8[np.ndarray, "m s s"], float]:
    """The class of each pixel of the test images, and the learning rate that was chosen.

    Raises:
      UserError: fewer than ten training images.
    """
    if len(train) < MIN_TRAINING_IMAGES:
        raise UserError(f"the probe of the grid needs 10 training images; there are {len(train)}")
    shares, side = class_shares(truth, train.shape[1:3], classes), truth.shape[1]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]

    def fit(images: np.ndarray, rates: tuple[float, ...]) -> Probes:
        cells = train[images].reshape(-1, train.shape[-1])
        schedule = Schedule(LinearProbe(epochs=1), protocol.batch_size, protocol.steps)
        key, every = jax.random.key(seed), np.arange(len(cells))
        probes = init_probes(key, schedule, rates, cells, every, num_classes=classes)
        rows = rng.integers(0, len(cells), (protocol.steps, protocol.batch_size))
        targets = shares[images].reshape(-1, classes)
        return scan_updates(probes, cells, targets, jnp.asarray(rows), schedule=schedule)

    probes = fit(rest, LEARNING_RATES)
    mious = []
    for number in range(len(LEARNING_RATES)):
        predicted = predict_maps(probes, number, train[held_out], side)
        confusion = np.asarray(confusion_matrix(truth[held_out], predicted, classes))
        mious.append(scores(confusion)["miou"])
    best = LEARNING_RATES[int(np.argmax(mious))]
    return predict_maps(fit(order, (best,)), 0, test, side), best


def run_segmentation(
    encoder: Encoder, data: DataSet, protocol: Segmentation, seed: int
) -> TaskResult:
    """Mean IoU of the linear probe of the grid."""
    pixels = data.label_maps
    images = len(pixels.train["image"])
    rows = np.sort(np.random.default_rng(seed).permutation(images)[: protocol.images])
    train, test = encoder.grid(pixels.train["image"][rows]), encoder.grid(pixels.test["image"])
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise UserError(f"features of {data.name} are not finite; did training diverge?")
    predicted, rate = grid_probe(
        train,
        pixels.truth("train", rows),
        test,
        protocol,
        classes=len(pixels.classes),
        seed=seed,
    )
    results, details = score_maps(pixels.truth("test", slice(None)), predicted, pixels.classes)
    chosen = {"learning_rate": rate, "training_images": len(rows), "grid": list(test.shape[1:3])}
    return TaskResult(results, pixels.protocol | chosen, details, pixels.shown(predicted))


SEGMENTATION = Task(run_segmentation, Segmentation(), "label maps")
