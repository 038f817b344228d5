"""The task `fcn`: segmentation by fine-tuning a fully convolutional network, as DetCon does.

DetCon (arXiv 2103.10957) says 45 epochs on PASCAL VOC and 160 on Cityscapes, and for the rest to
follow MoCo (arXiv 1911.05722, appendix): the last stage dilated (so a stride of 16), two dilated
3x3 convolutions on it, images resized by a factor of 0.5 to 2, squares of 513 and 769 pixels,
batches of 16, SGD with a tenth of the learning rate after 70 and 90 % of training. Images are
tested whole and in full resolution: mean IoU over original pixels. (With `--size` they are resized
first, for training as well, and what is predicted is resized to the original.)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from jaxssl.data.label_maps import VOID
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import summarize
from jaxssl.evaluation.dense.pixel_recipe import CropRecipe, train_on_crops
from jaxssl.evaluation.dense.whole_images import MapScores, predict_whole
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Dense, FcnHead
from jaxssl.pretrained.encoder import Encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fcn(CropRecipe):
    """The protocol. Defaults: PASCAL VOC, but for the crop, 513 there: `crop_side` says which."""

    epochs: int = 45
    lr: float = 0.003
    weight_decay: float = 1e-4
    scale: tuple[float, ...] = (0.5, 2.0)
    flip: float = 0.5
    dilated_stages: int = 1  # of a ResNet; the grid then has a 16th of the side, with 2 an 8th
    head_convs: int = 2
    head_channels: int = 256
    head_dilation: int = 6
    head_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {"from 0 to 3": "dilated_stages", "1 or more": "head_channels head_dilation"}
        check_numbers(self, ranges | {"0 or more": "head_convs", "in [0, 1)": "head_dropout"})


def cross_entropy(
    logits: Float[Array, "b h w k"], truth: UInt8[Array, "b h w"]
) -> Float[Array, ""]:
    """Mean over the pixels that have a class."""
    there = truth != VOID
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(there, truth, 0))
    return jnp.sum(losses * there) / jnp.maximum(there.sum(), 1)


def dilated(network: nn.Module, stages: int) -> nn.Module:
    """A ResNet with a finer grid; any other encoder as it is."""
    if any(field.name == "dilated_stages" for field in dataclasses.fields(network)):
        return network.clone(dilated_stages=stages)
    return network


def _run(encoder: Encoder, data: DataSet, protocol: Fcn, seed: int) -> TaskResult:
    """Mean IoU after fine-tuning; with `scratch_` that from random weights."""
    pixels = data.label_maps
    head = FcnHead(
        len(pixels.classes),
        protocol.head_convs,
        protocol.head_channels,
        protocol.head_dilation,
        protocol.head_dropout,
    )
    network = Dense(dilated(encoder.network, protocol.dilated_stages), head)
    trained = train_on_crops(network, encoder, pixels, protocol, cross_entropy, seed=seed)
    results, details, shown = measure(trained, pixels)
    decided = protocol.decided(pixels, encoder)
    return TaskResult(results, pixels.protocol | decided, details, shown)


def measure(
    trained: Mapping[str, Encoder], pixels: Pixels
) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Results and details of networks on the test images, whole, and maps of the first to look at.

    Args:
      trained: networks by what their results are to start with.
      pixels: images as canvases, and the class of each of their pixels.
    """
    results: dict[str, float] = {}
    details: dict[str, Any] = {}
    shown = {}
    for prefix, tuned in trained.items():
        maps = MapScores(pixels)
        for rows, truth, predicted in predict_whole(tuned, pixels):
            maps.add(rows, truth, predicted)
        shown[prefix] = maps.shown()
        found, more = summarize(maps.confusion, pixels.classes)
        baselines = {name: found.pop(name) for name in list(found) if name.startswith("baseline_")}
        results |= {prefix + name: value for name, value in found.items()} | baselines
        details |= {prefix + name: value for name, value in more.items()}
    return results, details, shown[""]


FCN = Task(
    _run,
    Fcn(),
    "label maps",
    presets={"pascal": Fcn(crop=513), "cityscapes": Fcn(epochs=160, lr=0.01, crop=769)},
)
