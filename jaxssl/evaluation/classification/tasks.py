"""Tasks on data sets with class labels: kNN, linear classifiers, fine-tuning.

The numbers are those of the encoder as it is: of one checkpoint, not the best of several.
"""

import dataclasses

from jaxssl.errors import UserError
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.classification.augmented_images import TrainingImages, epoch_of_images
from jaxssl.evaluation.classification.finetune import FineTune, fine_tune
from jaxssl.evaluation.classification.knn import Knn, knn
from jaxssl.evaluation.classification.linear_probe import linear_probe
from jaxssl.evaluation.classification.linear_protocols import LinearProbe
from jaxssl.evaluation.classification.logistic import Logistic, logistic_regression
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.subsets import stratified
from jaxssl.evaluation.task import TaskResult


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The protocol: a linear classifier on a fraction of the training images of each class."""

    fractions: tuple[float, ...] = (0.01, 0.1)
    classifier: str = "logistic"  # or "linear": our `LinearProbe`
    c: tuple[float, ...] = (1.0,)  # as in `Logistic`

    def __post_init__(self) -> None:
        if self.classifier not in ("logistic", "linear"):
            raise UserError(
                f"few_shot.classifier is {self.classifier!r}; choose logistic or linear"
            )
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise UserError(f"few_shot.fractions is {self.fractions}; give some in (0, 1]")


def run_knn(encoder: FrozenEncoder, data: DataSet, protocol: Knn, seed: int) -> TaskResult:
    """Accuracy of weighted k-nearest-neighbour classification; top1_k20 is that of k = 20."""
    train, test = encoder.features(data)
    classes = data.labelled.classes
    votes = knn(
        train.features,
        train.labels,
        test.features,
        protocol,
        num_classes=len(classes),
        mesh=encoder.mesh,
        show=encoder.show,
    )
    results, details = score(votes[0], test.labels, classes)
    for k, of_k in zip(protocol.k[1:], votes[1:], strict=True):
        results[f"top1_k{k}"] = score(of_k, test.labels, classes)[0]["top1"]
    return TaskResult(results, details=details)


def check_knn(data: DataSet, protocol: Knn) -> None:
    """Raises UserError if there are fewer than k labelled images to learn from."""
    count, k = int((data.labelled.train["label"] >= 0).sum()), max(protocol.k)
    if count < k:
        raise UserError(
            f"{data.spec} has {count} labelled images in its training part and kNN has "
            f"k = {k}; set knn.k (in training eval.knn_k) to {count} or less"
        )


def run_linear(
    encoder: FrozenEncoder, data: DataSet, protocol: LinearProbe, seed: int
) -> TaskResult:
    """Accuracy of a linear classifier after its last epoch."""
    train, test = encoder.features(data)
    classes = data.labelled.classes
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
    return TaskResult(results, {"learning_rate": trained.learning_rate}, details)


def check_labels(data: DataSet, protocol: object) -> None:
    """Raises UserError unless there are labelled images of two classes."""
    _ = data.labelled


def run_logistic(
    encoder: FrozenEncoder, data: DataSet, protocol: Logistic, seed: int
) -> TaskResult:
    """Accuracy of logistic regression."""
    train, test = encoder.features(data)
    classes = data.labelled.classes
    scores, c = logistic_regression(train, test, protocol, num_classes=len(classes), seed=seed)
    results, details = score(scores, test.labels, classes)
    return TaskResult(results, {"c_chosen": c}, details)


def run_few_shot(encoder: FrozenEncoder, data: DataSet, protocol: FewShot, seed: int) -> TaskResult:
    """Accuracy of a classifier trained on a part of the images; top1_0.01 is that of 1 %."""
    train, test = encoder.features(data)
    classes = data.labelled.classes
    results: dict[str, float] = {}
    images = []
    for fraction in protocol.fractions:
        rows = stratified(train.labels, fraction, seed)
        some = train.at(rows)
        if protocol.classifier == "linear":
            scores = linear_probe(
                some, test, LinearProbe(), num_classes=len(classes), seed=seed
            ).scores
        else:
            scores, _ = logistic_regression(
                some, test, Logistic(protocol.c), num_classes=len(classes), seed=seed
            )
        found, _ = score(scores, test.labels, classes)
        results[f"top1_{fraction:.3g}"] = found["top1"]
        images.append(len(rows))
    return TaskResult(
        results | {"majority_baseline": found["majority_baseline"]}, {"images": images}
    )


def run_finetune(
    encoder: FrozenEncoder, data: DataSet, protocol: FineTune, seed: int
) -> TaskResult:
    """Accuracy of the whole network, trained."""
    scores, rate = fine_tune(encoder, data, protocol, seed)
    labels = data.labelled.test["label"]
    results, details = score(scores, labels[labels >= 0], data.labelled.classes)
    return TaskResult(results, {"learning_rate": rate}, details)
