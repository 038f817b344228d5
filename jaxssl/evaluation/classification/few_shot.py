"""The task `few_shot`: a linear classifier on features of a fraction of the training images."""

import dataclasses

import numpy as np

from jaxssl.errors import check_choice
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.classification.linear_probe import linear_probe
from jaxssl.evaluation.classification.logistic import Logistic, logistic_regression
from jaxssl.evaluation.datasets import DataSet, check_labels, stratified
from jaxssl.evaluation.features import labeled_features
from jaxssl.evaluation.probes import LinearProbe
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.pretrained.encoder import Encoder


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The protocol: a linear classifier on a fraction of the training images of each class."""

    fractions: tuple[float, ...] = (0.01, 0.1)
    classifier: str = "logistic"  # or "linear": our `LinearProbe`
    c: tuple[float, ...] = (1.0,)  # as in `Logistic`

    def __post_init__(self) -> None:
        check_choice("classifier", self.classifier, ("logistic", "linear"))
        check_numbers(self, {"in (0, 1]": "fractions", "above 0": "c"})


def _run(encoder: Encoder, data: DataSet, protocol: FewShot, seed: int) -> TaskResult:
    """Accuracy of a classifier trained on a part of the images; top1_0.01 is that of 1 %."""
    train, test = labeled_features(encoder, data)
    classes = data.labeled.classes
    results: dict[str, float] = {}
    images, chosen = [], []
    for fraction in protocol.fractions:
        rows = stratified(train.labels, fraction, seed)
        some = train.at(rows)
        if protocol.classifier == "linear":
            # With one image of each class none is left to choose a learning rate by.
            probe = LinearProbe() if np.bincount(some.labels).max() > 1 else LinearProbe(lr=(0.1,))
            scores, option, _ = linear_probe(some, test, probe, num_classes=len(classes), seed=seed)
        else:
            scores, option = logistic_regression(
                some, test, Logistic(protocol.c), num_classes=len(classes), seed=seed
            )
        scored, _ = score(scores, test.labels, classes)
        results[f"top1_{fraction:.3g}"] = scored["top1"]
        images.append(len(rows))
        chosen.append(option)
    name = "learning_rate" if protocol.classifier == "linear" else "c_chosen"
    return TaskResult(
        results | {"majority_baseline": scored["majority_baseline"]},
        {"images": images, name: chosen},
    )


FEW_SHOT = Task(_run, FewShot(), "labels", check=check_labels)
