"""The presets `neco` and `dinov3` of `segmentation`: a 1x1 convolution trained on pixels.

The encoder is frozen, its logits are resized bilinearly, and the loss is the mean over pixels.

`neco`: NeCo (arXiv 2408.11054, github.com/vpariza/NeCo at 3932160, linear_finetune.py), as Leopart
before it. 80 to 100 % of an image squashed to 448 pixels and mirrored or not, logits and labels at
100 x 100, batches of 128, SGD with momentum 0.9, a tenth of the rate for the last of 5 times 5
epochs; tested on whole images squashed so, at 100 x 100, too. There the best epoch on the test
images is reported, a class that is nowhere has an IoU of 0, and weights start as torch's; here the
last epoch is, such a class is left out, and they start as DINOv3's, with a deviation of 0.01.

`dinov3`: DINOv3 (arXiv 2508.10104, github.com/facebookresearch/dinov3 at 6876159,
config-ade20k-linear-training.yaml). Shorter side 512 times 0.5 to 2, crops of 512, mirrored or not,
dropout of channels of 0.1 and batch norm over all devices before the convolution, AdamW, 40,000
batches of 16, 1,500 of them warm-up, then a cosine. There colors are distorted (mmsegmentation's
PhotoMetricDistortion), biases decay, the cosine starts with the warm-up, and images are tested in
windows of 512 at strides of 341; here images are tested whole, with a shorter side of 512.
"""

import dataclasses

import numpy as np
import optax

from jaxssl.data.loading import pick
from jaxssl.data.squares import SquareSpec
from jaxssl.data.store import open_store
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import confusion_matrix, summarize
from jaxssl.evaluation.dense.fcn import cross_entropy, measure
from jaxssl.evaluation.dense.pixel_recipe import CropRecipe, train_on_crops
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import TaskResult
from jaxssl.models.dense import Dense, LinearHead
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelProbe(CropRecipe):
    """The protocol."""

    size: int  # to which the shorter side of images is resized, pixels
    iterations: int = 0  # batches to train on, to a whole number of epochs; 0: `epochs` says
    points: int = 0  # side of squashed maps to learn from and to test on; 0: pixels, unsquashed
    batch_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {"1 or more": "size", "0 or more": "iterations points", "in [0, 1)": "dropout"}
        check_numbers(self, ranges)
        if self.scratch:
            raise UserError(
                "the encoder of this preset is frozen, so there is nothing to train from scratch; "
                "evaluate random weights by --compare random"
            )

    def transform(self, batch_size: int, steps: int) -> optax.GradientTransformation:
        """The optimizer of the head; the encoder stays."""

        def names(params: Tree) -> Tree:
            return {name: name for name in params}

        parts = {"head": super().transform(batch_size, steps), "encoder": optax.set_to_zero()}
        return optax.partition(parts, names)


NECO = PixelProbe(
    epochs=25,
    batch_size=128,
    lr=0.01,
    weight_decay=1e-4,
    milestones=(0.8,),
    area=(0.8, 1.0),
    flip=0.5,
    size=448,
    crop=448,
    points=100,
)
DINO_V3 = PixelProbe(
    epochs=1,
    iterations=40_000,
    optimizer="adam",
    lr=1e-3,
    weight_decay=1e-3,
    schedule="cosine",
    warmup=1500 / 40_000,
    scale=(0.5, 2.0),
    flip=0.5,
    size=512,
    crop=512,
    batch_norm=True,
    dropout=0.1,
)


def run_pixels(encoder: Encoder, data: DataSet, protocol: PixelProbe, seed: int) -> TaskResult:
    """Mean IoU over original pixels, or over the points of squashed maps."""
    data = dataclasses.replace(data, size=protocol.size, shorter=protocol.size)
    pixels = data.label_maps
    if protocol.iterations:
        _, steps = protocol.batches_of(len(pixels.train["hw"]), encoder.mesh.size)
        epochs = max(1, round(protocol.iterations / steps))
        protocol = dataclasses.replace(protocol, epochs=epochs)
    head = LinearHead(len(pixels.classes), protocol.batch_norm, protocol.dropout)
    network = Dense(encoder.network, head, frozen=True, size=protocol.points)
    trained = train_on_crops(
        network, encoder, pixels, protocol, cross_entropy, seed=seed, points=protocol.points
    )
    chosen = {"epochs": protocol.epochs, "size": protocol.size}
    chosen |= protocol.decided(pixels, encoder)
    if not protocol.points:
        results, details, shown = measure(trained, pixels)
        return TaskResult(results, pixels.protocol | chosen, details, shown)
    spec = SquareSpec(protocol.size, "squash", maps=("semantic",))
    test = open_store(data.test, spec, data.cache_dir)
    # The classes of the head: squashed maps may have lost the last pixels of one.
    squares = dataclasses.replace(pixels, spec=spec, train={}, test=test, shorter=0)
    return _test_on_points(trained[""], squares, protocol.points, chosen)


def _test_on_points(
    tuned: Encoder, pixels: Pixels, points: int, chosen: dict[str, int]
) -> TaskResult:
    predicted = np.asarray(tuned.outputs("class", pixels.test["image"]))
    truth = [pick(pixels.truth("test", row), (points, points)) for row in range(len(predicted))]
    confusion = confusion_matrix(np.stack(truth), predicted, len(pixels.classes))
    results, details = summarize(confusion, pixels.classes)
    shown = pixels.shown(dict(enumerate(predicted)))
    return TaskResult(results, pixels.protocol | chosen, details, shown)
