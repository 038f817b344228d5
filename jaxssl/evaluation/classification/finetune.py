"""The task `finetune`: the whole network, with a linear classifier, trained on labeled images.

SGD with Nesterov momentum and cosine decay, random resized crops and flips; BatchNorm is trained
too. Defaults: SimCLR (arXiv 2002.05709), appendix B.5.
"""

import dataclasses

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


def _run(encoder: Encoder, data: DataSet, protocol: FineTune, seed: int) -> TaskResult:
    """Accuracy of the whole network, trained; its learning rate chosen on training images."""
    train, test, classes = data.labeled.train, data.labeled.test, data.labeled.classes
    labeled, labels = labeled_rows(train)
    images = TrainingImages(data, encoder.mesh)
    network = Classifier(encoder.network, len(classes))

    def tune(rows: np.ndarray, rate: float) -> Encoder:
        """The network after training on some of the labeled images."""
        batch_size = whole_batch(protocol.batch_size, len(rows), encoder.mesh.size)
        steps = len(rows) // batch_size
        return fine_tune(
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
            task=f"fine-tuning at {rate}",
        )

    chosen = stratified(labels, protocol.fraction, seed)

    def accuracy(rate: float, rest: np.ndarray, held_out: np.ndarray) -> float:
        asked = chosen[held_out]
        try:
            scores = tune(chosen[rest], rate).outputs("scores", train["image"], labeled[asked])
        except DivergenceError:  # too high: any other is better
            return -1.0
        return float(np.mean(scores.argmax(axis=1) == labels[asked]))

    rate = choose_held_out(protocol.lr, labels[chosen], seed, accuracy)
    rows, truth = labeled_rows(test)
    scores = tune(chosen, rate).outputs("scores", test["image"], rows)
    results, details = score(scores, truth, classes)
    batch_size = whole_batch(protocol.batch_size, len(chosen), encoder.mesh.size)
    return TaskResult(results, {"learning_rate": rate, "batch_size": batch_size}, details)


FINETUNE = Task(_run, FineTune(), "labels", check=check_labels)
