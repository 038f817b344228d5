"""Scores of the segmentation of pets; classes 0 pet, 1 background, 2 border.

The standard measures take pet as the positive class. maxjappert/pet_segmentation, whose numbers its
paper (Jappert) reports, computes others under the same names, per image, and averages over images:

    accuracy   of the three classes
    iou        of background and border together, which leaves the pet as the negative class
    dice       of the same, but over the sums of class *numbers*: a border pixel counts twice
    precision  of background; pixels that are, or are taken for, border count nowhere
    recall     the same

So one that says "background" everywhere has recall 1 and as IoU the share of what is no pet: the
baseline that belongs beside these numbers.
"""

import numpy as np
from jaxtyping import Float, UInt8

PET, BACKGROUND = 0, 1
CLASSES = ("pet", "background", "border")


def paper_metrics(
    truth: UInt8[np.ndarray, "n s s"], predicted: UInt8[np.ndarray, "n s s"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """The authors' measures of each image; NaN where both are all pet. All pixels have a class."""
    axes = (1, 2)
    y, p = truth != PET, predicted != PET
    both, either = (y & p).sum(axes), (y | p).sum(axes)
    numbers = truth.sum(axes, dtype=np.int64) + predicted.sum(axes, dtype=np.int64)
    right = ((truth == BACKGROUND) & (predicted == BACKGROUND)).sum(axes)
    false_positive = ((truth == PET) & (predicted == BACKGROUND)).sum(axes)
    false_negative = ((truth == BACKGROUND) & (predicted == PET)).sum(axes)
    return {
        "accuracy": (truth == predicted).mean(axes),
        "iou": _ratio(both, either, np.nan),
        "dice": _ratio(2 * both, numbers, np.nan),
        "precision": _ratio(right, right + false_positive, 0.0),
        "recall": _ratio(right, right + false_negative, 0.0),
    }


def pet_metrics(
    truth: UInt8[np.ndarray, "n s s"], predicted: UInt8[np.ndarray, "n s s"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """The standard measures of each image, pet as the positive class.

    Precision is NaN where no pet is predicted, recall where there is none, IoU and Dice where
    neither is.
    """
    axes = (1, 2)
    y, p = truth == PET, predicted == PET
    both, either = (y & p).sum(axes), (y | p).sum(axes)
    return {
        "accuracy": (truth == predicted).mean(axes),
        "iou": _ratio(both, either, np.nan),
        "dice": _ratio(2 * both, y.sum(axes) + p.sum(axes), np.nan),
        "precision": _ratio(both, p.sum(axes), np.nan),
        "recall": _ratio(both, y.sum(axes), np.nan),
    }


def summarize(
    truth: UInt8[np.ndarray, "n s s"], predicted: UInt8[np.ndarray, "n s s"]
) -> dict[str, float]:
    """Means over images of the standard measures, and under `paper_` of the authors'."""
    standard, paper = pet_metrics(truth, predicted), paper_metrics(truth, predicted)
    each = standard | {f"paper_{name}": values for name, values in paper.items()}
    return {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
        for name, values in each.items()
    }


def baselines(truth: UInt8[np.ndarray, "n s s"]) -> dict[str, float]:
    """The same measures of a constant prediction, under `baseline_`.

    It is pet everywhere for the standard measures, background everywhere for the authors'.
    """
    pet, background = (summarize(truth, np.full_like(truth, c)) for c in (PET, BACKGROUND))
    return {
        f"baseline_{name}": (background if name.startswith("paper_") else pet)[name] for name in pet
    }


def _ratio(part: np.ndarray, whole: np.ndarray, otherwise: float) -> np.ndarray:
    """part / whole, and where there is no whole something else."""
    return np.divide(part, whole, out=np.full(len(whole), otherwise, np.float64), where=whole > 0)
