"""The task `finetune`: the whole network, with a linear classifier, trained on labeled images.

SGD with Nesterov momentum and cosine decay, random resized crops and flips; BatchNorm is trained
too. Defaults: SimCLR (arXiv 2002.05709), appendix B.5.
"""

import dataclasses

import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from jaxssl.errors import DivergenceError, UserError
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.classification.augmented_images import TrainingImages, random_views
from jaxssl.evaluation.datasets import DataSet, check_labels, hold_out, stratified, whole_batch
from jaxssl.evaluation.fine_tuning import fine_tune, predict
from jaxssl.evaluation.probes import cross_entropy
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Classifier
from jaxssl.optim import Sgd
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Batch


@dataclasses.dataclass(frozen=True)
class FineTune:
    """The protocol."""

    epochs: int = 30
    batch_size: int = 256
    learning_rates: tuple[float, ...] = (0.05,)  # of 256 images; several: chosen on a tenth
    weight_decay: float = 0.0
    fraction: float = 1.0  # of the training images of each class

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1:
            raise UserError("finetune.epochs and finetune.batch_size must be 1 or more")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise UserError(f"finetune.learning_rates is {self.learning_rates}; give some above 0")

    def transform(self, batch_size: int, steps: int) -> optax.GradientTransformation:
        """The optimizer at the first learning rate."""
        sgd = Sgd(
            lr=self.learning_rates[0],
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


def run_finetune(encoder: Encoder, data: DataSet, protocol: FineTune, seed: int) -> TaskResult:
    """Accuracy of the whole network, trained; its learning rate chosen on training images."""
    train, test = data.labeled.train, data.labeled.test
    labeled = np.flatnonzero(np.asarray(train["label"]) >= 0)
    labels, classes = np.asarray(train["label"])[labeled], data.labeled.classes
    images = TrainingImages(data, encoder.mesh)
    network = Classifier(encoder.network, len(classes))

    def scores_after(
        rows: np.ndarray, rate: float, part: dict[str, np.ndarray], asked: np.ndarray
    ) -> np.ndarray:
        """Scores f32[n, k] of images of a part after training on labeled ones."""
        batch_size = whole_batch(protocol.batch_size, len(rows), encoder.mesh.size)
        steps = len(rows) // batch_size
        variables = fine_tune(
            network,
            encoder,
            images.batches(rows, batch_size, seed, range(steps * protocol.epochs)),
            cross_entropy,
            CroppedImages(images.size, encoder.normalization),
            dataclasses.replace(protocol, learning_rates=(rate,)),
            steps=steps,
            batch_size=batch_size,
            size=images.size,
            seed=seed,
            resident=images.resident,
            task=f"fine-tuning at {rate}",
        )
        return predict(network, variables, encoder, part["image"], asked)

    chosen = stratified(labels, protocol.fraction, seed)
    rate = protocol.learning_rates[0]
    if len(protocol.learning_rates) > 1:
        rest, held_out = (chosen[rows] for rows in hold_out(labels[chosen], seed))
        right = []
        for candidate in protocol.learning_rates:
            try:
                scores = scores_after(rest, candidate, train, labeled[held_out])
            except DivergenceError:  # too high: any other is better
                right.append(-1.0)
            else:
                right.append(float(np.mean(scores.argmax(axis=1) == labels[held_out])))
        rate = protocol.learning_rates[int(np.argmax(right))]
    rows = np.flatnonzero(np.asarray(test["label"]) >= 0)
    scores = scores_after(chosen, rate, test, rows)
    results, details = score(scores, np.asarray(test["label"])[rows], classes)
    return TaskResult(results, {"learning_rate": rate}, details)


FINETUNE = Task(run_finetune, FineTune(), "labels", check=check_labels)
