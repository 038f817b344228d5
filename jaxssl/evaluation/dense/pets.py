"""The task `pets`: Oxford-IIIT Pets by fine-tuning.

"Improving Pixel-Wise Segmentation with Contrastive Pre-Training" (Jappert), as its code
(maxjappert/pet_segmentation) trains.

A ResNet-34 and five convolutions at 256 x 256 pixels without augmentation, Adam, 50 epochs, all
3,680 training images (there four fifths). Labels are resized to the nearest pixel; there they are
resized bilinearly, which invents background between pet and border. The paper's head sees one
pooled cell: `head_input=gap`. How many images to learn from: `fraction`, 0.1 to 1 in the paper.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxssl.data.label_maps import VOID
from jaxssl.errors import UserError, check_choice
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense import pets_metrics
from jaxssl.evaluation.dense.fcn import cross_entropy
from jaxssl.evaluation.dense.pixel_recipe import Recipe, train_on_pixels
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Dense, PetsHead
from jaxssl.pretrained.encoder import Encoder, prepare
from jaxssl.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pets(Recipe):
    """The protocol."""

    epochs: int = 50
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    head_input: str = "map"  # what the head sees of the grid | "gap": its mean, as the code has it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("head_input", self.head_input, ("map", "gap"))


def check_pets(data: DataSet, protocol: Pets) -> None:
    """Raises UserError unless the classes can be pet, background and border."""
    if (count := len(data.label_squares.classes)) != 3:
        raise UserError(
            f"{data.spec} has {count} classes of pixels; the task pets is for three, which are "
            f"{', '.join(pets_metrics.CLASSES)} in this order: name other label "
            "values as --ignore-labels"
        )
    if (truth_of(data.label_squares) == VOID).any():
        raise UserError(f"{data.spec} has test pixels of no class; its measures know of none")


@dataclasses.dataclass(frozen=True)
class Squares:
    """A batch of images u8[b, s, s, 3] and truth u8[b, s, s], as they are."""

    normalization: str

    def __call__(self, key: PRNGKeyArray, batch: Batch) -> tuple[Array, Array]:
        """Normalized images and truth."""
        return prepare(batch["image"], self.normalization), batch["truth"]


def truth_of(pixels: Pixels) -> np.ndarray:
    """Classes u8[n, s, s] of the test images."""
    return pixels.meaning(pixels.test["semantic"])


def _run(encoder: Encoder, data: DataSet, protocol: Pets, seed: int) -> TaskResult:
    """Means over images of standard measures, and under `paper_` of the authors'."""
    pixels = data.label_squares
    network = Dense(encoder.network, PetsHead(3, data.size, protocol.head_input))
    images, labels = pixels.train["image"], pixels.train["semantic"]

    def batches(rows: np.ndarray) -> Iterator[Batch]:
        return ({"image": images[r], "truth": pixels.meaning(labels[r])} for r in rows)

    trained = train_on_pixels(
        network,
        encoder,
        protocol,
        cross_entropy,
        Squares(encoder.normalization),
        batches,
        count=len(images),
        size=data.size,
        seed=seed,
    )
    predicted = {
        prefix: tuned.outputs("class", pixels.test["image"]) for prefix, tuned in trained.items()
    }
    truth = truth_of(pixels)
    results = {
        prefix + name: value
        for prefix, maps in predicted.items()
        for name, value in pets_metrics.summarize(truth, maps).items()
    } | pets_metrics.baselines(truth)
    shown = pixels.shown(dict(enumerate(predicted[""])))
    batch_size, _ = protocol.batches_of(len(images), encoder.mesh.size)
    return TaskResult(results, pixels.protocol | {"batch_size": batch_size}, predictions=shown)


PETS = Task(_run, Pets(), "label maps", check=check_pets)
