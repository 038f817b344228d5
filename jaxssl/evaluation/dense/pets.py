"""The task `pets`: Oxford-IIIT Pets by fine-tuning.

"Improving Pixel-Wise Segmentation with Contrastive Pre-Training" (Jappert), as its code
(maxjappert/pet_segmentation) trains.

A ResNet-34 and five convolutions at 256 x 256 pixels without augmentation, Adam, 50 epochs, all
3,680 training images (there four fifths). Labels are resized to the nearest pixel; there they are
resized bilinearly, which invents background between pet and border. The paper's head sees one
pooled cell: `head_input=gap`. How many images to learn from: `fraction`, 0.1 to 1 in the paper.
"""

import dataclasses

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense import pets_metrics
from jaxssl.evaluation.dense.confusion import VOID
from jaxssl.evaluation.dense.fcn import cross_entropy
from jaxssl.evaluation.dense.pixel_recipe import Recipe, predict_pixels
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Dense, PetsHead
from jaxssl.pretrained.encoder import Encoder


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
        if self.head_input not in ("map", "gap"):
            raise UserError(f"pets.head_input is {self.head_input!r}; choose map or gap")
        if self.crop:
            raise UserError(f"pets.crop is {self.crop}; this head is for whole images: set it to 0")


def check_pets(data: DataSet, protocol: Pets) -> None:
    """Raises UserError unless the classes can be pet, background and border."""
    if (count := len(data.label_maps.classes)) != 3:
        raise UserError(
            f"{data.spec} has {count} classes of pixels; the task pets is for three, which are "
            f"{', '.join(pets_metrics.CLASSES)} in this order: name other label "
            "values as --ignore-labels"
        )
    if (data.label_maps.truth("test", slice(None)) == VOID).any():
        raise UserError(f"{data.spec} has test pixels of no class; its measures know of none")


def run_pets(encoder: Encoder, data: DataSet, protocol: Pets, seed: int) -> TaskResult:
    """Means over images of standard measures, and under `paper_` of the authors'."""
    pixels = data.label_maps
    network = Dense(encoder.network, PetsHead(3, data.size, protocol.head_input))
    predicted = predict_pixels(network, encoder, pixels, protocol, cross_entropy, seed=seed)
    truth = pixels.truth("test", slice(None))
    results = {
        prefix + name: value
        for prefix, maps in predicted.items()
        for name, value in pets_metrics.summarise(truth, maps).items()
    } | pets_metrics.floors(truth)
    return TaskResult(results, pixels.protocol, predictions=pixels.shown(predicted[""]))


PETS = Task(run_pets, Pets(), "label maps", check=check_pets)
