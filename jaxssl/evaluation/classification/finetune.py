"""The task `finetune`: the whole network, with a linear classifier, trained on labeled images.

SGD with Nesterov momentum and cosine decay, random resized crops and flips; BatchNorm is trained
too. Defaults: SimCLR (arXiv 2002.05709), appendix B.5.
"""

import dataclasses
from typing import Any

import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from jaxssl.errors import DivergenceError
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.classification.augmented_images import TrainingImages, random_views
from jaxssl.evaluation.datasets import (
    DataSet,
    check_labels,
    choose_held_out,
    labeled_rows,
    stratified,
    whole_batch,
)
from jaxssl.evaluation.fine_tuning import fine_tune
from jaxssl.evaluation.probes import cross_entropy
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Classifier
from jaxssl.optim import Sgd
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Batch


@dataclasses.dataclass(frozen=True)
class FineTune:
    """The protocol."""

    epochs: int = 30
    batch_size: int = 256  # at most: see `whole_batch`
    lr: tuple[float, ...] = (0.05,)  # of 256 images; several: chosen on a tenth
    weight_decay: float = 0.0
    fraction: float = 1.0  # of the training images of each class
    scratch: bool = False  # whether to train from random weights besides, to compare with

    def __post_init__(self) -> None:
        ranges = {"1 or more": "epochs batch_size", "above 0": "lr", "0 or more": "weight_decay"}
        check_numbers(self, ranges | {"in (0, 1]": "fraction"})

    def transform(self, batch_size: int, steps: int) -> optax.GradientTransformation:
        """The optimizer at the first learning rate."""
        sgd = Sgd(
            lr=self.lr[0],
            weight_decay=self.weight_decay,
            exclude_bias_and_norm=True,
            cosine_per="step",
            nesterov=True,
        )
        return sgd.transform(batch_size, steps, self.epochs)


@dataclasses.dataclass(frozen=True)
class CroppedImages:
    """Random resized crops of a batch of labeled images, mirrored or not."""

    size: int
    normalization: str

    def __call__(self, key: PRNGKeyArray, batch: Batch) -> tuple[Array, Array]:
        """Normalized images, and labels."""
        return random_views(key, batch, self.size, self.normalization), batch["label"]


def tune(
    encoder: Encoder,
    data: DataSet,
    images: TrainingImages,
    protocol: FineTune,
    seed: int,
    *,
    scratch: bool,
) -> tuple[Encoder, dict[str, float]]:
    """The whole network, trained, and what was decided; its learning rate by training images.

    Args:
      encoder: to start from.
      data: the data set.
      images: of its training part.
      protocol: how to train.
      seed: of all that is random.
      scratch: whether to start from random weights instead.
    """
    train = data.labeled.train
    labeled, labels = labeled_rows(train)
    chosen = stratified(labels, protocol.fraction, seed)
    network = Classifier(encoder.network, len(data.labeled.classes))

    def fit(rows: np.ndarray, rate: float) -> tuple[Encoder, int]:
        """The network after training on some of the labeled images, and the images of a batch."""
        batch_size = whole_batch(protocol.batch_size, len(rows), encoder.mesh.size)
        steps = len(rows) // batch_size
        tuned = fine_tune(
            network,
            encoder,
            images.batches(rows, batch_size, seed, range(steps * protocol.epochs)),
            cross_entropy,
            CroppedImages(images.size, encoder.normalization),
            dataclasses.replace(protocol, lr=(rate,)),
            steps=steps,
            batch_size=batch_size,
            size=images.size,
            seed=seed,
            resident=images.resident,
            scratch=scratch,
            task=f"fine-tuning at {rate}",
        )
        return tuned, batch_size

    def accuracy(rate: float, rest: np.ndarray, held_out: np.ndarray) -> float:
        asked = chosen[held_out]
        try:
            scores = fit(chosen[rest], rate)[0].outputs("scores", train["image"], labeled[asked])
        except DivergenceError:  # too high: any other is better
            return -1.0
        return float(np.mean(scores.argmax(axis=1) == labels[asked]))

    rate = choose_held_out(protocol.lr, labels[chosen], seed, accuracy)
    tuned, batch_size = fit(chosen, rate)
    return tuned, {"learning_rate": rate, "batch_size": batch_size}


def _run(encoder: Encoder, data: DataSet, protocol: FineTune, seed: int) -> TaskResult:
    """Accuracy of the whole network, trained; with `scratch_` that from random weights."""
    images = TrainingImages(data, encoder.mesh)
    rows, truth = labeled_rows(data.labeled.test)
    results: dict[str, float] = {}
    details: dict[str, Any] = {}
    decided: dict[str, float] = {}
    for prefix in ("", "scratch_") if protocol.scratch else ("",):
        tuned, chosen = tune(encoder, data, images, protocol, seed, scratch=bool(prefix))
        scores = tuned.outputs("scores", data.labeled.test["image"], rows)
        found, more = score(scores, truth, data.labeled.classes)
        baseline = {"majority_baseline": found.pop("majority_baseline")}
        results |= {prefix + name: value for name, value in found.items()} | baseline
        details |= {prefix + name: value for name, value in more.items()}
        decided |= {prefix + name: value for name, value in chosen.items()}
    return TaskResult(results, decided, details)


FINETUNE = Task(_run, FineTune(), "labels", check=check_labels)
