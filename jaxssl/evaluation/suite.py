"""All evaluations of one encoder on one labelled data set."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxssl.evaluation.features import extract
from jaxssl.evaluation.knn import accuracy, knn
from jaxssl.evaluation.linear import linear_probe

TASKS = ("knn", "linear")


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """A data set to evaluate on: a training and a test part."""

    name: str
    train: dict[str, np.ndarray]  # image u8[n, s, s, 3], label i32[n]
    test: dict[str, np.ndarray]
    num_classes: int

    @property
    def chance(self) -> float:
        """Accuracy of always naming the most frequent class of the test part."""
        labels = np.asarray(self.test["label"])
        return float(np.bincount(labels[labels >= 0]).max() / np.sum(labels >= 0))


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How to evaluate. Saved beside every result."""

    batch_size: int = 256
    knn_k: int = 200
    knn_temperature: float = 0.1
    linear_epochs: int = 90

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"eval.{field.name} is {getattr(self, field.name)}; it must be > 0"
                )

    @classmethod
    def of(cls, config: Any) -> "Protocol":
        """The protocol that the section `eval` of a config describes."""
        return cls(**{f.name: config[f.name] for f in dataclasses.fields(cls)})


def check_tasks(tasks: tuple[str, ...]) -> None:
    """Raises ValueError unless all tasks are known."""
    if unknown := set(tasks) - set(TASKS):
        raise ValueError(f"unknown task {sorted(unknown)[0]!r}; choose from {', '.join(TASKS)}")


def evaluate(
    encode: Callable, data: LabelledImages, protocol: Protocol, tasks: tuple[str, ...]
) -> dict[str, float]:
    """Results by name, such as `knn_top1` in [0, 1], on pooled features.

    The numbers are those of the encoder as it is: of one checkpoint, not the best of several.
    """
    check_tasks(tasks)
    train = extract(encode, data.train["image"], protocol.batch_size)
    test = extract(encode, data.test["image"], protocol.batch_size)
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError(f"features of {data.name} are not finite; did training diverge?")
    labels, truth = np.asarray(data.train["label"]), np.asarray(data.test["label"])
    results = {"chance": data.chance}
    if "knn" in tasks:
        votes = knn(
            train,
            labels,
            test,
            k=protocol.knn_k,
            temperature=protocol.knn_temperature,
            num_classes=data.num_classes,
        )
        results["knn_top1"] = accuracy(votes, truth)
    if "linear" in tasks:
        scores, rate = linear_probe(
            train, labels, test, num_classes=data.num_classes, epochs=protocol.linear_epochs
        )
        results |= {"linear_top1": accuracy(scores, truth), "linear_lr": rate}
    return results
