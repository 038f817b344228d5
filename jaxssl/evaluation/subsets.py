"""Which of the labelled images to learn from: fractions, and what is held out to choose by."""

import numpy as np

from jaxssl.errors import UserError


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Rows of a fraction of each class, at least one of each; the same for the same seed."""
    if not 0 < fraction <= 1:
        raise UserError(f"a fraction of the images is {fraction}; it must be in (0, 1]")
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    chosen = []
    for label in np.unique(labels):
        rows = order[shuffled == label]
        chosen.append(rows[: max(1, round(fraction * len(rows)))])
    return np.sort(np.concatenate(chosen))


def hold_out(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from and a tenth, of each class with two images, to choose by.

    Raises:
      UserError: no class has two images.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    chosen = []
    for label in np.unique(labels):
        rows = order[shuffled == label]
        chosen.append(rows[: max(1, len(rows) // 10) if len(rows) > 1 else 0])
    held_out = np.sort(np.concatenate(chosen))
    if not len(held_out):
        raise UserError("no class has two images, so none can be held out to choose by")
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def whole_batch(batch_size: int, count: int, devices: int) -> int:
    """The largest batch of at most `batch_size` of `count` images that divides over the devices.

    Raises:
      UserError: there are fewer images than devices.
    """
    whole = min(batch_size, count) // devices * devices
    if not whole:
        raise UserError(
            f"batches of {min(batch_size, count)} of {count} training images do not divide over "
            f"{devices} devices; use fewer devices, or more images and a larger batch_size"
        )
    return whole
