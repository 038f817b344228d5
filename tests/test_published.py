"""Papers' numbers beside those of runs: which of them, and whether a test set chose them."""

import pytest

from jaxssl.config import base, defaults
from jaxssl.reporting.published import published


@pytest.mark.parametrize(
    ("data", "method", "sampler", "dataset", "measure", "value"),
    [
        ("records:data/ade20k_fh", "simclr", "region_crop", "stl10", "knn_top1", 59.3),
        ("folder:data/leftImg8bit/train", "dino", "random_crop", "cifar10", "linear_top1", 37.1),
        ("folder:imagenette2/train", "simclr", "random_crop", "imagenette2", "knn_top1", 89.0),
        ("tfds:cifar100/train", "byol", "contrastive_crop", "cifar100", "linear_top1", 64.62),
        ("folder:data/imagenet/train", "simsiam", "random_crop", "imagenet", "linear_top1", 65.62),
        ("records:data/ade20k_fh", "moco", "region_crop", "stl10", "knn_top1", None),
        ("records:data/ade20k_fh", "simclr", "region_crop", "cifar100", "knn_top1", None),
        ("scenes:4000", "simclr", "region_crop", "objects", "knn_top1", None),
    ],
)
def test_published_numbers(data, method, sampler, dataset, measure, value):
    config = base()
    config.sampler = defaults("sampler", sampler)
    config.data.source, config.method.name = data, method
    found = published(config, dataset, measure)
    assert (found and found.value) == value
    best = published(config, dataset, f"{measure}_best_on_test")
    assert best == found
    if found:
        assert ("best epoch on the test set" in found.source) == measure.startswith("linear")
