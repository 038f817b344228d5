"""Scores of classes to accuracies."""

from typing import Any

import numpy as np

from jaxssl.errors import UserError


def score(
    scores: np.ndarray, truth: np.ndarray, classes: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Results and details of predictions f32[n, classes] for images of the classes i32[n].

    Returns:
      top1, top5 if there are more than five classes, mean_class: the mean of the accuracies of the
      classes that there are; majority_baseline: the accuracy of naming the most frequent class.
      classes; per_class: accuracy of each, None of one without images; confusion: how many images
      of a class (row) were taken for each (column).

    Raises:
      UserError: the scores are not finite.
    """
    if not np.isfinite(scores).all():
        raise UserError("the classifier diverged: its scores are not finite; lower learning rates")
    order = np.argsort(-scores, axis=1, kind="stable")
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth, order[:, 0]), 1)
    count = confusion.sum(axis=1)
    there = count > 0
    per_class = confusion.diagonal()[there] / count[there]
    results = {"top1": float(confusion.trace() / len(truth))}
    if len(classes) > 5:
        results["top5"] = float((order[:, :5] == truth[:, None]).any(axis=1).mean())
    results |= {
        "mean_class": float(per_class.mean()),
        "majority_baseline": float(count.max() / len(truth)),
    }
    accuracies: list[float | None] = [None] * len(classes)
    for i, accuracy in zip(np.flatnonzero(there), per_class, strict=True):
        accuracies[i] = float(accuracy)
    details = {"classes": list(classes), "per_class": accuracies, "confusion": confusion.tolist()}
    return results, details
