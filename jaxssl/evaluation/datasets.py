"""Labelled data sets to evaluate on, as arrays."""

from typing import Any

import numpy as np

from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.store import open_store
from jaxssl.evaluation.linear import LEAST_TRAINING_IMAGES
from jaxssl.evaluation.suite import LabelledImages, Protocol


def load_datasets(config: Any) -> list[LabelledImages]:
    """The data sets that a config evaluates on. One that cannot be had is an error now."""
    size = config.eval.size or config.views.size
    min_train = max(Protocol.of(config.eval).knn_k, LEAST_TRAINING_IMAGES)
    loaded = [
        load_labelled(spec, size, config.data.cache_dir or None, min_train=min_train)
        for spec in config.eval.datasets
    ]
    if len({data.name for data in loaded}) < len(loaded):
        raise ValueError(f"two of eval.datasets {config.eval.datasets} would have the same name")
    return loaded


def load_labelled(
    spec: str, size: int, cache_dir: str | None = None, *, min_train: int = 1
) -> LabelledImages:
    """The training and test part of a source; the shorter side resized to `size`, centre cut out.

    Decoded once; the arrays are memory-mapped files in the cache folder.

    Raises:
      ValueError: the source has no labels, fewer than `min_train` labelled images to train on, or
        none to test on.
    """
    canvas = CanvasSpec(size=size, fit="center")
    parts: list[dict[str, np.ndarray]] = []
    for part in ("train", "test"):
        source = open_source(spec, part)
        if not source.class_names:
            raise ValueError(f"eval.datasets: {spec} has no labels; give a folder of class folders")
        parts.append(open_store(source, canvas, cache_dir))
    train, test = parts
    for part, least, needed in (("train", min_train, "eval.knn_k"), ("test", 1, "evaluation")):
        count = int((np.asarray(parts[part == "test"]["label"]) >= 0).sum())
        if count < least:
            raise ValueError(
                f"eval.datasets: {spec} has {count} labelled images in its {part} part; "
                f"{needed} needs {least}"
            )
    name = spec.partition(":")[2].rstrip("/").rpartition("/")[2]
    name = spec.partition(":")[0] if name.isdigit() else name
    return LabelledImages(name, train, test, num_classes=len(source.class_names))
