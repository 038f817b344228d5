"""Papers' numbers beside those of runs: which of them, and whether a test set chose them."""

import pytest

from jaxssl.config import base, defaults
from jaxssl.evaluate import results_table
from jaxssl.evaluation.run import EvalRecord
from jaxssl.evaluation.task import TaskResult
from jaxssl.reporting.published import _data_set, anchors, published


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
        (
            "records:data/coco_fh",
            "detcon_s",
            "random_crop",
            "coco",
            "detection_frozen_box_ap",
            33.4,
        ),
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


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("records:/mnt/imagenet/ade20k_fh", "ade20k"),  # the last part is what it is
        ("folder:/home/pascal/photos", ""),
        ("folder:/home/tiny/coco/train2017", "coco"),
        ("folder:VOCdevkit/VOC2012/JPEGImages", "pascal"),
        ("tfds:imagenet2012/train", "imagenet"),
        ("tfds:cifar10/train", "cifar10"),
        ("folder:tiny-imagenet-200/train", "tinyimagenet"),
        ("imagenet_fh", "imagenet"),
        ("ADEChallengeData2016", "ade20k"),
        ("folder:/data/photos?labels=/imagenet/labels.csv", ""),
        *((f"folder:data/imagenet{ending}", "") for ending in ("100", "-100", "-r", "_v2", "21k")),
        *((name, "") for name in ("coconuts", "vocal_cords", "tiny_coco", "mini-imagenet")),
        *((name, "") for name in ("imagenet-21k", "imagenet2012_real", "cifar10_corrupted")),
    ],
)
def test_the_data_set_of_a_source(source, name):
    assert _data_set(source) == name


@pytest.mark.parametrize(
    ("dataset", "measure", "values"),
    [
        ("VOCdevkit", "in_context_miou", "cribo 58.1 %"),
        ("scene_parse150", "in_context_miou", "cribo 23.4 %"),
        ("pascal", "fcn_miou", "densecl 67.5 %, moco 64.5 %"),
        ("VOC2007", "detection_box_ap", "densecl 56.7 %, moco 54.7 %"),
        ("coco", "detection_mask_ap", "slotcon 37.0 %"),
        ("coco", "detection_frozen_box_ap", "simclr 31.6 %, detcon_s 33.4 %"),
    ],
)
def test_anchors_are_beside_the_task_they_belong_to(dataset, measure, values):
    (line,) = anchors(dataset, measure)
    assert f": {values}: " in line
    assert "arXiv" in line
    name, _, result = measure.rpartition("_")
    record = EvalRecord(name, dataset, 0, TaskResult({result: 0.5}), {})
    assert results_table([record]).endswith(f"compare {line}")
    assert not anchors("objects", measure)
