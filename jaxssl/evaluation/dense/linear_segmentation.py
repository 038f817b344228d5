"""The task `segmentation`: a linear probe of the grid, a 1x1 convolution on frozen features
that names the class of each pixel.

It is trained on cells: with logits repeated over the pixels of a cell, the mean of their cross
entropies is that of the cell with the shares of the classes in it. So the label maps shrink to
histograms, and a step costs one small matrix product. Images keep their shape; for testing, logits
are resized bilinearly to the original, whatever the image was resized to for the encoder. The
learning rate is chosen by the mean IoU on a tenth of the *training* images.

That is ours. The presets are those of papers: `pixel_probe.py`, `patch_logistic.py`.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import confusion_matrix, scores, summarize
from jaxssl.evaluation.dense.grid_cells import Cells, labeled_cells
from jaxssl.evaluation.dense.patch_logistic import PatchLogistic, run_patches
from jaxssl.evaluation.dense.pixel_probe import DINO_V3, NECO, PixelProbe, run_pixels
from jaxssl.evaluation.dense.whole_images import MapScores, encode_grids, whole_images
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.probes import LinearProbe, Probes, Schedule, init_probes, scan_updates
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.padded import resize_within
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Batch, Tree

log = logging.getLogger("jaxssl")
LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MIN_TRAINING_IMAGES = 10


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The protocol."""

    steps: int = 1000
    batch_size: int = 1024  # cells
    images: int = 2000  # to train on, at most; of more, so many are drawn, which is said
    cells: int = 2**18  # of them to train on, at most: their features are held in memory
    fractions: tuple[float, ...] = (1.0,)  # of the training images; the first is the main one

    def __post_init__(self) -> None:
        whole = "steps batch_size images cells"
        check_numbers(self, {"1 or more": whole, "in (0, 1]": "fractions"})


def _predict(
    network: nn.Module,
    normalization: str,
    shape: tuple[int, int],
    variables: tuple[Tree, Probes],
    batch: Batch,
) -> UInt8[Array, "b l i j"]:
    encoder_variables, probes = variables
    grid, cells = encode_grids(network, normalization, encoder_variables, batch)

    def of_one(classifier: tuple[Array, Array]) -> Array:
        weight, bias = classifier
        x = (grid - probes.mean[None, None, None]) / probes.std[None, None, None]
        logits = x @ weight + bias[None, None, None]
        full = resize_within(logits, cells, batch["out"], shape)
        return full.argmax(axis=-1).astype(jnp.uint8)

    return jnp.moveaxis(jax.lax.map(of_one, (probes.weight, probes.bias)), 0, 1)


def predict_maps(
    encoder: Encoder, probes: Probes, pixels: Pixels, part: str, rows: np.ndarray
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Predicts label maps: some of `rows`, their truth u8[b, h, w], padded with void, and the maps.

    Args:
      encoder: whose grid the classifiers have learned from.
      probes: the classifiers.
      pixels: with the images.
      part: "train" or "test".
      rows: of the part.

    Yields:
      For each pixel of the images as they are kept its class by each classifier, u8[b, l, h, w].
    """
    variables = (encoder.variables, probes._replace(opt_state=()))
    for whole in whole_images(encoder, pixels, part, rows):
        run, used = encoder.compiled(_predict, whole.truth.shape[1:]), len(whole.rows)
        yield whole.rows, whole.truth[:used], np.asarray(run(variables, whole.batch))[:used]


def fit_cells(
    cells: Sequence[Cells],
    rates: tuple[float, ...],
    protocol: Segmentation,
    seed: int,
    rng: np.random.Generator,
) -> Probes:
    """Classifiers of cells, one for each learning rate, after training.

    Args:
      cells: of each image.
      rates: learning rates.
      protocol: how many cells a step, and how many steps.
      seed: of the weights.
      rng: draws the cells.
    """
    features, shares = map(np.concatenate, zip(*cells, strict=True))
    schedule = Schedule(LinearProbe(epochs=1), protocol.batch_size, protocol.steps)
    key, every = jax.random.key(seed), np.arange(len(features))
    classes = shares.shape[1]
    probes = init_probes(key, schedule, rates, features, every, num_classes=classes)
    rows = rng.integers(0, len(features), (protocol.steps, protocol.batch_size))
    return scan_updates(probes, features, shares, jnp.asarray(rows), schedule=schedule)


def fit_images(
    encoder: Encoder, pixels: Pixels, count: int, protocol: Segmentation, seed: int
) -> tuple[Probes, dict[str, Any]]:
    """A classifier that has learned from `count` training images, and what was decided for it.

    Args:
      encoder: whose grid it reads.
      pixels: with the images.
      count: of images, drawn by the seed.
      protocol: how to train.
      seed: of all that is random.
    """
    number, rng = len(pixels.train["hw"]), np.random.default_rng(seed)
    rows = rng.permutation(np.sort(np.random.default_rng(seed).permutation(number)[:count]))
    found = dict(labeled_cells(encoder, pixels, rows, seed, protocol.cells))
    cells = [found[row] for row in rows.tolist()]
    held_out = max(1, len(rows) // 10)
    # A single image is learned from, and chosen by.
    probes = fit_cells(cells[held_out:] or cells, LEARNING_RATES, protocol, seed, rng)
    classes = len(pixels.classes)
    confusion = np.zeros((len(LEARNING_RATES), classes, classes), np.int64)
    for _, truth, predicted in predict_maps(encoder, probes, pixels, "train", rows[:held_out]):
        for i in range(len(LEARNING_RATES)):
            confusion[i] += confusion_matrix(truth, predicted[:, i], classes)
    rate = LEARNING_RATES[0]
    if confusion.any():
        rate = LEARNING_RATES[int(np.argmax([scores(c)["miou"] for c in confusion]))]
    chosen = {"learning_rate": rate, "training_images": len(rows)}
    return fit_cells(cells, (rate,), protocol, seed, rng), chosen


def counts_of_images(protocol: Segmentation, name: str, count: int) -> list[int]:
    """How many of the `count` training images of a data set are learned from, by fraction."""
    wanted = [max(1, round(fraction * count)) for fraction in protocol.fractions]
    used = [min(images, protocol.images) for images in wanted]
    if used != wanted:
        log.info(
            "%s: %s of its %d training images are learned from in place of %s; "
            "segmentation.images=%d is the most",
            *(name, ", ".join(map(str, used)), count, ", ".join(map(str, wanted))),
            protocol.images,
        )
    return used


def run_cells(encoder: Encoder, data: DataSet, protocol: Segmentation, seed: int) -> TaskResult:
    """Mean IoU over the pixels of the test images; miou_0.1 is that with a tenth of the labels."""
    pixels = data.label_maps
    count = len(pixels.train["hw"])
    if count < MIN_TRAINING_IMAGES:
        raise UserError(f"the probe of the grid needs 10 training images; {data.name} has {count}")
    found = []
    for images in counts_of_images(protocol, data.name, count):
        probes, chosen = fit_images(encoder, pixels, images, protocol, seed)
        maps, test = MapScores(pixels), np.arange(len(pixels.test["hw"]))
        for some, truth, predicted in predict_maps(encoder, probes, pixels, "test", test):
            maps.add(some, truth, predicted[:, 0])
        found.append((maps, chosen))
    (maps, chosen), *others = found
    results, details = summarize(maps.confusion, pixels.classes)
    for fraction, (of_fraction, _) in zip(protocol.fractions[1:], others, strict=True):
        results[f"miou_{fraction:.3g}"] = scores(of_fraction.confusion)["miou"]
    if others:
        chosen = {name: [of_each[name] for _, of_each in found] for name in chosen}
    return TaskResult(results, pixels.protocol | chosen, details, maps.shown())


_RUNS: dict[type, Callable[..., TaskResult]] = {
    Segmentation: run_cells,
    PatchLogistic: run_patches,
    PixelProbe: run_pixels,
}


def _run(encoder: Encoder, data: DataSet, protocol: Any, seed: int) -> TaskResult:
    """Runs the function that belongs to the kind of the protocol."""
    return _RUNS[type(protocol)](encoder, data, protocol, seed)


SEGMENTATION = Task(
    _run,
    Segmentation(),
    "label maps",
    presets={"neco": NECO, "dinov3": DINO_V3, "capi": PatchLogistic()},
)
