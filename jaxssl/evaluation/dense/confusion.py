"""Scores of predicted label maps against true ones. Pixels of no class (`VOID`) count nowhere."""

import logging
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxssl.data.label_maps import VOID
from jaxssl.errors import UserError

log = logging.getLogger("jaxssl")


def confusion_matrix(
    truth: UInt8[np.ndarray, "*b h w"], predicted: UInt8[np.ndarray, "*b h w"], classes: int
) -> Int[np.ndarray, "{classes} {classes}"]:
    """The number of pixels of a class (row) taken for each class (column).

    Counted on the host: images come in many shapes, and each would be a program.
    """
    known = truth != VOID
    cell = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


def class_iou(confusion: Int[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Intersection over union of each class; NaN of one that is neither there nor predicted."""
    confusion = np.asarray(confusion, np.float64)
    intersection = confusion.diagonal()
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    return np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)


def scores(confusion: Int[np.ndarray, "k k"]) -> dict[str, float]:
    """Mean IoU over the classes that are there or predicted, pixel accuracy, and its baseline.

    The baseline is the accuracy of naming the most frequent class of the test images everywhere.

    Raises:
      UserError: there is no pixel of any class.
    """
    pixels = int(confusion.sum())
    if pixels == 0:
        raise UserError("no pixel of the test images has a class; are all label values left out?")
    return {
        "miou": float(np.nanmean(class_iou(confusion))),
        "pixel_accuracy": float(confusion.trace() / pixels),
        "baseline_pixel_accuracy": float(confusion.sum(axis=1).max() / pixels),
    }


def summarize(
    confusion: Int[np.ndarray, "k k"], classes: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Results and details of predicted label maps.

    Returns:
      what `scores` returns; and classes, per_class: IoU of each, None where it is not defined, and
      confusion: how many pixels of a class (row) were taken for each (column).
    """
    results = scores(confusion)
    absent = [c for c, row in zip(classes, confusion, strict=True) if row.sum() == 0]
    if absent:
        log.warning(
            "no test pixel of %d of %d classes (%s): their IoU is 0 if they are predicted, else "
            "they are left out of the mean",
            *(len(absent), len(classes), ", ".join(absent[:5])),
        )
    per_class = [None if np.isnan(iou) else float(iou) for iou in class_iou(confusion)]
    return results, {
        "classes": list(classes),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }
