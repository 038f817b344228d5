"""Tasks on data sets with class labels: kNN and linear classifiers on pooled features.

The numbers are those of the encoder as it is: of one checkpoint, not the best of several.
"""

import dataclasses

from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.knn import Knn, knn
from jaxssl.evaluation.linear import LinearProbe, linear_probe
from jaxssl.evaluation.scores import score
from jaxssl.evaluation.task import Findings


def run_knn(encoder: FrozenEncoder, data: DataSet, protocol: Knn, seed: int) -> Findings:
    """Accuracy of weighted k-nearest-neighbour classification."""
    train, test = encoder.features(data)
    classes = data.labelled.classes
    votes = knn(
        train.features,
        train.labels,
        test.features,
        k=protocol.k,
        temperature=protocol.temperature,
        num_classes=len(classes),
    )
    results, details = score(votes, test.labels, classes)
    return Findings(results, details=details)


def check_knn(data: DataSet, protocol: Knn) -> None:
    """Raises ValueError if there are fewer than k labelled images to learn from."""
    count = int((data.labelled.train["label"] >= 0).sum())
    if count < protocol.k:
        raise ValueError(
            f"{data.spec} has {count} labelled images in its training part and kNN has "
            f"k = {protocol.k}; set knn.k (in training eval.knn_k) to {count} or less"
        )


def run_linear(encoder: FrozenEncoder, data: DataSet, protocol: LinearProbe, seed: int) -> Findings:
    """Accuracy of a linear classifier."""
    train, test = encoder.features(data)
    classes = data.labelled.classes
    scores, rate = linear_probe(
        train.features,
        train.labels,
        test.features,
        num_classes=len(classes),
        **dataclasses.asdict(protocol),
        seed=seed,
    )
    results, details = score(scores, test.labels, classes)
    return Findings(results, {"learning_rate": rate}, details)
