"""Features of the labeled images of a data set."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float, UInt8

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet, labeled_rows
from jaxssl.pretrained.encoder import Encoder, prepare
from jaxssl.progress import Progress
from jaxssl.types import Tree

ROWS = 4096  # of features that are held in float64

log = logging.getLogger("jaxssl")


class LabeledFeatures(NamedTuple):
    """Pooled features of the labeled images of a part of a data set."""

    features: np.ndarray  # f32[n, d]
    labels: np.ndarray  # i32[n], 0 or more

    def at(self, rows: np.ndarray) -> "LabeledFeatures":
        """The features and labels in these rows."""
        return LabeledFeatures(self.features[rows], self.labels[rows])


def labeled_features(encoder: Encoder, data: DataSet) -> tuple[LabeledFeatures, LabeledFeatures]:
    """Features of the training and the test part; kept until another data set is asked for.

    Raises:
      UserError: they are not finite.
    """
    if encoder.memory.get("data") is not data:  # another one may have the same name
        encoder.memory.clear()
        parts = (data.labeled.train, data.labeled.test)
        features = tuple(_of_part(encoder, part, data.name) for part in parts)
        encoder.memory.update(data=data, features=features)
    return encoder.memory["features"]


def _of_part(encoder: Encoder, part: dict[str, np.ndarray], name: str) -> LabeledFeatures:
    rows, labels = labeled_rows(part)
    features = encoder.outputs("pooled", part["image"], rows)
    check_finite(features, name)
    return LabeledFeatures(features, labels)


def check_finite(features: np.ndarray, data: str) -> None:
    """Raises `UserError` if features of images of the data set of this name are not finite."""
    if not np.isfinite(features).all():
        raise UserError(f"features of {data} are not finite; did training diverge?")


def standardizer(
    features: Float[np.ndarray, "n d"] | Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation f32[d] of each dimension, of one array or several; 1 if it does not vary.

    Summed in float64, some rows at a time: in float32 a mean of millions of rows is off in its
    second digit. What varies by less than float32 rounds does not vary, nearly as by scikit-learn.
    """
    parts, limits = [features] if isinstance(features, np.ndarray) else features, np.finfo("f4")
    blocks = [part[i : i + ROWS] for part in parts for i in range(0, len(part), ROWS)]
    count = sum(map(len, blocks))
    mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / count
    std = np.sqrt(np.sum([((block - mean) ** 2).sum(axis=0) for block in blocks], axis=0) / count)
    varies = std > limits.eps * np.abs(mean) + limits.tiny
    return mean.astype(np.float32), np.where(varies, std, 1).astype(np.float32)


def adapt_batch_norm(encoder: Encoder, data: DataSet) -> Encoder:
    """The encoder with BatchNorm's statistics moved to those of the data set's training images.

    A pass over those with labels, or over all if none has one, in training mode, shuffled, in
    batches of `batch_size` filled up with the first ones. lightly 1.4.14, and SAMCLR with it, do
    so by oversight before kNN and linear probe (lightly issue 1440); there the features of training
    images are those of that pass.
    """
    if not encoder.variables.get("batch_stats"):
        log.warning("--bn-adapt changes nothing: the encoder has no batch norm")
        return encoder
    train, _ = data.squares
    rows = labeled_rows(train)[0]
    rows = np.random.default_rng(0).permutation(rows if len(rows) else len(train["label"]))
    batch_size = -(-encoder.batch_size // encoder.mesh.size) * encoder.mesh.size
    rows = np.resize(rows, -(-len(rows) // batch_size) * batch_size)
    move, variables = encoder.compiled(_move), encoder.variables
    with Progress(len(rows), "BatchNorm", show=encoder.show) as advance:
        for start in range(0, len(rows), batch_size):
            images = train["image"][rows[start : start + batch_size]]
            variables = variables | move(variables, images)
            advance(batch_size)
    return dataclasses.replace(encoder, variables=variables)


def _move(
    network: nn.Module, normalization: str, variables: Tree, images: UInt8[Array, "b s s 3"]
) -> Tree:
    """The collection `batch_stats` after a pass in training mode."""
    pixels = prepare(images, normalization)
    return network.apply(variables, pixels, train=True, mutable=["batch_stats"])[1]
