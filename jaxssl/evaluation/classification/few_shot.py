"""The task `few_shot`: a linear classifier on features of a fraction of the training images."""

import dataclasses
import logging

import numpy as np

from jaxssl.errors import check_choice
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.classification.linear_probe import linear_probe
from jaxssl.evaluation.classification.logistic import Logistic, logistic_regression
from jaxssl.evaluation.datasets import DataSet, check_labels, stratified
from jaxssl.evaluation.features import LabeledFeatures, labeled_features
from jaxssl.evaluation.probes import LinearProbe
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.pretrained.encoder import Encoder

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The protocol: a linear classifier on a fraction of the training images of each class."""

    fractions: tuple[float, ...] = (0.01, 0.1)
    classifier: str = "logistic"  # or "linear": the default `LinearProbe`
    c: tuple[float, ...] = (1.0,)  # as in `Logistic`

    def __post_init__(self) -> None:
        check_choice("classifier", self.classifier, ("logistic", "linear"))
        check_numbers(self, {"in (0, 1]": "fractions", "above 0": "c"})


def learn(
    some: LabeledFeatures,
    test: LabeledFeatures,
    probe: LinearProbe | Logistic,
    classes: int,
    seed: int,
) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of the test images by a classifier of some training images, and what was decided."""
    if np.bincount(some.labels).max() == 1:
        probe = without_choice(probe, len(some.labels))
    if isinstance(probe, Logistic):
        scores, c = logistic_regression(some, test, probe, num_classes=classes, seed=seed)
        return scores, {"c_chosen": c}
    trained = linear_probe(some, test, probe, num_classes=classes, seed=seed)
    decided = {"learning_rate": trained.learning_rate, "batch_size": trained.batch_size}
    return trained.scores, decided


def without_choice(probe: LinearProbe | Logistic, count: int) -> LinearProbe | Logistic:
    """The classifier for one image of each class, where none is left to choose by."""
    alone: LinearProbe | Logistic
    if isinstance(probe, LinearProbe):
        alone, said = dataclasses.replace(probe, lr=(0.1,)), "a learning rate of 0.1"
    else:
        alone = dataclasses.replace(probe, c=probe.c[:1])
        said = f"c = {probe.c[0]:g}, the first,"
    if alone != probe:
        log.info("few_shot: no class has two of %d images, so %s is taken unchosen", count, said)
    return alone


def _run(encoder: Encoder, data: DataSet, protocol: FewShot, seed: int) -> TaskResult:
    """Accuracy of a classifier trained on a part of the images; top1_0.01 is that of 1 %."""
    train, test = labeled_features(encoder, data)
    classes = data.labeled.classes
    probe = LinearProbe() if protocol.classifier == "linear" else Logistic(protocol.c)
    results: dict[str, float] = {}
    decided: list[dict[str, float]] = []
    for fraction in protocol.fractions:
        rows = stratified(train.labels, fraction, seed)
        scores, chosen = learn(train.at(rows), test, probe, len(classes), seed)
        scored, _ = score(scores, test.labels, classes)
        results[f"top1_{fraction:.3g}"] = scored["top1"]
        decided.append({"images": len(rows), **chosen})
    return TaskResult(
        results | {"majority_baseline": scored["majority_baseline"]},
        dataclasses.asdict(probe) | {key: [each[key] for each in decided] for key in decided[0]},
    )


FEW_SHOT = Task(_run, FewShot(), "labels", check=check_labels)
