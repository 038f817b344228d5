"""The task `linear`: a linear classifier on frozen features, by our protocol or a paper's.

To know how good features are, not how well a head can be trained on them: the encoder stays as it
is, in the protocols that augment images too. The learning rate is given, or chosen among several on
a tenth of the *training* images, never on the test images; the classifier is then trained on all.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from jaxssl import sharding
from jaxssl.data.batch_order import Order
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.classification.augmented_images import TrainingImages, random_views
from jaxssl.evaluation.datasets import DataSet, check_labels, hold_out, whole_batch
from jaxssl.evaluation.features import LabeledFeatures, labeled_features
from jaxssl.evaluation.probes import (
    LinearProbe,
    Probes,
    Schedule,
    init_probes,
    predict,
    scan_updates,
    update,
)
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.image.pyramid import look_up
from jaxssl.pretrained.encoder import Encoder
from jaxssl.progress import Progress
from jaxssl.types import Batch, Tree

_AUGMENTED = LinearProbe(standardize=False, augment=True, scale_lr_by_batch=True)
_LIGHTLY = dataclasses.replace(
    _AUGMENTED,
    lr=(0.1,),
    nesterov=False,
    end_factor=0.001,
    init_std=0.0255,  # torch's uniform start at 512 features has this deviation
    best_on_test=True,
)

# xyupeng/ContrastiveCrop, DDP_linear.py, small images. Reports the best epoch on the test images.
_CONTRASTIVE_CROP = dataclasses.replace(
    _AUGMENTED,
    epochs=100,
    lr=(10.0,),
    batch_size=512,
    scale_lr_by_batch=False,
    nesterov=False,
    milestones=(0.6, 0.8),
    init_std=0.01,
    best_on_test=True,
)

# By what they are from: `sweep` is ours, the others the papers' released code.
PRESETS = {
    "sweep": LinearProbe(),
    # benji2264/s3same, callbacks.py: SAMCLR. Reports the best epoch on the test images.
    "s3same": dataclasses.replace(_LIGHTLY, batch_size=128),
    # lightly 1.4.14, utils/benchmarking/linear_classifier.py
    "lightly": _LIGHTLY,
    # google-research/simclr, and SimCLR (arXiv 2002.05709), appendix B.6
    "simclr": dataclasses.replace(_AUGMENTED, lr=(0.1,), batch_size=4096),
    # deepmind-research/byol, configs/eval.py; Haiku's start at 2048 features
    "byol": dataclasses.replace(_AUGMENTED, epochs=80, lr=(0.2,), batch_size=1024, init_std=0.0221),
    "contrastive_crop": _CONTRASTIVE_CROP,
    # facebookresearch/moco, main_lincls.py; also ContrastiveCrop on ImageNet
    "moco": dataclasses.replace(_CONTRASTIVE_CROP, lr=(30.0,), batch_size=256),
}

# Trains through one epoch, counted from 0, of the training images in `rows`.
Epoch = Callable[[Probes, Schedule, np.ndarray, int], Probes]


def epoch_of_features(train: LabeledFeatures, seed: int) -> Epoch:
    """Epochs on features made once."""
    features, labels = jnp.asarray(train.features), jnp.asarray(train.labels)

    def epoch(probes: Probes, schedule: Schedule, rows: np.ndarray, number: int) -> Probes:
        order = Order(len(rows), schedule.batch_size, seed)
        first = number * schedule.steps
        index = np.stack([rows[order.indices(first + i)] for i in range(schedule.steps)])
        return scan_updates(probes, features, labels, jnp.asarray(index), schedule=schedule)

    return epoch


def epoch_of_images(encoder: Encoder, images: TrainingImages, seed: int) -> Epoch:
    """Epochs of a linear probe on features of augmented images; the encoder stays as it is."""
    root = jax.random.key(seed)

    def epoch(probes: Probes, schedule: Schedule, rows: np.ndarray, number: int) -> Probes:
        step = compile_probe_step(
            encoder.network, encoder.normalization, encoder.mesh, images.size, schedule
        )
        steps = range(number * schedule.steps, (number + 1) * schedule.steps)
        batches = images.batches(rows, schedule.batch_size, seed, steps)
        for i, batch in zip(steps, batches, strict=True):
            key = jax.random.fold_in(root, i)
            probes, _ = step(probes, batch, (images.resident, encoder.variables), key)
        return probes

    return epoch


@functools.cache
def compile_probe_step(
    network: nn.Module, normalization: str, mesh: Mesh, size: int, schedule: Schedule
) -> Callable[[Probes, Batch, Tree, PRNGKeyArray], tuple[Probes, Tree]]:
    """`step(probes, batch, (resident, variables), key)`, on all devices.

    Args:
      network: the encoder.
      normalization: a name in `augment.NORMALIZE`.
      mesh: of the devices.
      size: side of the crops, pixels.
      schedule: of the training.
    """

    def step(probes: Probes, batch: Batch, same: Tree, key: PRNGKeyArray) -> tuple[Probes, Tree]:
        resident, variables = same
        batch = batch | look_up(resident, batch["index"]) if resident else batch
        views = random_views(key, batch, size, normalization)
        features = network.apply(variables, views, train=False).pooled  # type: ignore[union-attr]
        return update(probes, schedule, features, batch["label"]), ()

    return sharding.jit_step(step, mesh)


class Trained(NamedTuple):
    """A linear classifier and how it came about."""

    scores: np.ndarray  # f32[m, k] of the test images, after the last epoch
    learning_rate: float
    best_on_test: float  # top-1 on the test images after the best epoch; 0 if not asked for
    batch_size: int


def linear_probe(
    train: LabeledFeatures,
    test: LabeledFeatures,
    protocol: LinearProbe,
    *,
    num_classes: int,
    epoch: Epoch | None = None,
    devices: int = 1,
    seed: int = 0,
    show: bool = False,
) -> Trained:
    """Trains on all training images with the best of the learning rates.

    Args:
      train: features of the unchanged images; unless `epoch` is given they are trained on.
      test: features to score.
      protocol: how to train.
      num_classes: how many scores a classifier has.
      epoch: how to train through an epoch.
      devices: over which batches must divide.
      seed: of the first weights, of the order, and of the part that chooses the learning rate.
      show: whether to show how far it is.
    """
    epoch = epoch or epoch_of_features(train, seed)

    def fit(rates: tuple[float, ...], rows: np.ndarray, task: str) -> tuple[Probes, float]:
        batch_size = whole_batch(protocol.batch_size, len(rows), devices)
        schedule = Schedule(protocol, batch_size, len(rows) // batch_size)
        key, best = jax.random.key(seed), 0.0
        probes = init_probes(key, schedule, rates, train.features, rows, num_classes=num_classes)
        with Progress(protocol.epochs, task, unit="epochs", show=show) as advance:
            for number in range(protocol.epochs):
                probes = epoch(probes, schedule, rows, number)
                if protocol.best_on_test:
                    best = max(best, float(_accuracy(probes, test)[0]))
                advance(1)
        return probes, best

    rate = protocol.lr[0]
    if len(protocol.lr) > 1:
        rest, held_out = hold_out(train.labels, seed)
        probes, _ = fit(protocol.lr, rest, "choosing the learning rate")
        rate = protocol.lr[int(_accuracy(probes, train.at(held_out)).argmax())]
    count = len(train.labels)
    probes, best = fit((rate,), np.arange(count), "linear probe")
    scores = np.asarray(predict(probes, test.features)[0])
    return Trained(scores, rate, best, whole_batch(protocol.batch_size, count, devices))


def _accuracy(probes: Probes, test: LabeledFeatures) -> np.ndarray:
    """The top-1 accuracy of each classifier, f32[l]."""
    right = np.asarray(predict(probes, test.features)).argmax(axis=2) == test.labels[None]
    return right.mean(axis=1)


def _run(encoder: Encoder, data: DataSet, protocol: LinearProbe, seed: int) -> TaskResult:
    """Accuracy of a linear classifier after its last epoch."""
    train, test = labeled_features(encoder, data)
    classes = data.labeled.classes
    epoch = None
    if protocol.augment:
        epoch = epoch_of_images(encoder, TrainingImages(data, encoder.mesh), seed)
    trained = linear_probe(
        train,
        test,
        protocol,
        num_classes=len(classes),
        epoch=epoch,
        devices=encoder.mesh.size if protocol.augment else 1,
        seed=seed,
        show=encoder.show,
    )
    results, details = score(trained.scores, test.labels, classes)
    if protocol.best_on_test:
        results["top1_best_on_test"] = trained.best_on_test
    decided = {"learning_rate": trained.learning_rate, "batch_size": trained.batch_size}
    return TaskResult(results, decided, details)


LINEAR = Task(_run, LinearProbe(), "labels", check=check_labels, presets=PRESETS)
