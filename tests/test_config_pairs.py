"""What the papers compare differs in that alone here, and has the values of its source."""

import functools
import itertools
import pathlib
import runpy

import pytest

from jaxssl.config.checks import flatten
from jaxssl.config.file import load_config

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"

# Arms by file, and beside each pair the keys that may differ; a section stands for all its keys.
SCENES = ("samclr_cityscapes", "samclr_ade20k", "samclr_imagenette")
SAMCLR = {
    ("paper", "simclr"): {"sampler"},
    ("simclr", "simclr_lightly"): {"method.temperature"},
    ("released", "simclr_released"): {
        "sampler",
        "views.num_local",
    },  # a confound of the paper's code
}
SMALL = ("cifar10", "cifar100", "tiny", "stl10")
CROPS = [
    f"{method}_{data}"
    for methods, sets in (
        (("simclr", "moco", "byol", "simsiam"), SMALL),
        (("simclr", "mocov1", "mocov2", "simsiam"), ("in200", "in1k")),
    )
    for method, data in itertools.product(methods, sets)
]
PETS = ("et", "rp", "rs", "et_rp", "et_rs", "rp_rs", "et_rp_rs")
PAIRS = [
    ("quickstart", "simclr", "samclr", {"sampler"}),
    *((name, *pair, keys) for name in SCENES for pair, keys in SAMCLR.items()),
    *(("contrastive_crop", f"{arm}_rcrop", f"{arm}_ccrop", {"sampler"}) for arm in CROPS),
    *(("pets", "none", arm, {"views.recipe"}) for arm in PETS),
]
# DetCon's methods differ in options that the other one has not; those that both have are equal.
# Records hold the images of the folder besides their regions.
EXTENDS = {"s": "simclr", "b": "byol"}
DETCON = [
    (variant, f"{EXTENDS[method]}_{data}_{epochs}")
    for variant in runpy.run_path(str(CONFIGS / "detcon.py"))["VARIANTS"]
    for method, data, *_, epochs in [variant.split("_")]
    if method in EXTENDS
]


@functools.cache
def keys_of(name, variant):
    return flatten(load_config(f"{CONFIGS / name}.py:{variant}"))


def difference(name, a, b):
    """The keys in which two variants of a file differ, with both values."""
    one, other = keys_of(name, a), keys_of(name, b)
    pairs = {key: (one.get(key), other.get(key)) for key in {*one, *other}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize(("name", "a", "b", "keys"), PAIRS)
def test_arms_differ_in_nothing_but_what_is_compared(name, a, b, keys):
    found = difference(name, a, b)
    assert found
    assert {k for k in found if not {k, k.partition(".")[0]} & keys} == set(), found


@pytest.mark.parametrize(("a", "b"), DETCON)
def test_detcon_and_what_it_extends_differ_in_the_method(a, b):
    found = difference("detcon", a, b)
    shared = {key for key, values in found.items() if None not in values}
    assert shared - {"data.region_planes"} == {"method.name", "data.source"}, found
    assert all(key.startswith(("method.", "data.")) for key in found), found


# Values that are easily taken for others, and where each is from.
LIGHTLY = "lightly 1.4.14, imagenette_benchmark.py"
DINO, MOCO = "facebookresearch/dino, main_dino.py", "facebookresearch/moco, main_moco.py"
SOURCES = [
    ("samclr_ade20k:paper", "method.temperature", 0.07, "SAMCLR, section 3"),
    ("samclr_ade20k:paper", "sampler.min_area", 1000, "SAMCLR, section 3"),
    ("samclr_ade20k:paper", "sampler.expand", 1.3, "SAMCLR, section 2.2"),
    ("samclr_ade20k:paper", "views.scale", (0.08, 1.0), LIGHTLY),
    ("samclr_ade20k:paper", "method.share_batch_norm", False, LIGHTLY),
    ("samclr_ade20k:simclr_lightly", "method.temperature", 0.5, LIGHTLY),
    ("samclr_ade20k:simclr_released", "method.temperature", 0.07, "s3same, simclr.yaml"),
    ("samclr_baselines:dino_ade20k", "method.evaluate_student", True, LIGHTLY),
    ("samclr_baselines:dino_ade20k", "method.head_batch_norm", True, LIGHTLY),
    ("samclr_baselines:swav_ade20k", "method.prototype_bias", True, LIGHTLY),
    ("dino:vits16", "method.head_batch_norm", False, DINO),
    ("dino:resnet50", "method.head_batch_norm", False, DINO),
    ("dino:vits16", "method.evaluate_student", False, "facebookresearch/dino, eval_knn.py"),
    ("dino:vits16_800", "epochs", 800, "args.txt of its ViT-S/16"),
    ("dino:vits16_800", "views.num_local", 10, "args.txt of its ViT-S/16"),
    ("dino:vits8_800", "views.scale", (0.4, 1.0), "args.txt of its ViT-S/8"),
    ("dino:vits8_800", "optim.clip_each", 3.0, "args.txt of its ViT-S/8"),
    ("dino:resnet50_800", "method.head_batch_norm", True, "args.txt of its ResNet-50"),
    ("dino:resnet50_800", "method.num_outputs", 60000, "args.txt of its ResNet-50"),
    ("dino:resnet50_800", "optim.weight_decay", 1e-6, "args.txt of its ResNet-50"),
    ("contrastive_crop:simclr_cifar10_ccrop", "method.hidden", (512,), "as wide as ResNet-18's"),
    ("contrastive_crop:simclr_in1k_ccrop", "method.hidden", (2048,), "as wide as ResNet-50's"),
    ("contrastive_crop:simclr_in1k_ccrop", "optim.lr", 0.05, "ContrastiveCrop, section 4.2"),
    ("contrastive_crop:simclr_cifar10_ccrop", "optim.lr", 0.5, "ContrastiveCrop, section 4.2"),
    ("contrastive_crop:simclr_cifar10_ccrop", "method.loss_scale", 0.5 / 0.07, "NT_Xent_dist.py"),
    ("contrastive_crop:mocov1_in1k_ccrop", "optim.milestones", (0.6, 0.8), MOCO),
    ("contrastive_crop:mocov1_in1k_ccrop", "sampler.warmup_epochs", 20, "section 4.2"),
    ("contrastive_crop:mocov1_in1k_ccrop", "views.recipe", "moco_v2", "its code's mocov1 configs"),
    ("detcon:s_imagenet_fh_100", "method.pooling", "soft", "DetCon, section 3.1"),
    (
        "detcon:simclr_imagenet_100",
        "method.loss_scale",
        2.0,
        "google-research/simclr, objective.py",
    ),
    ("detcon:s_coco_grid10_324", "data.region_planes", 4, "100 cells, 32 in a plane"),
    ("detcon:b_imagenet_fh_1000", "optim.weight_decay", 1.5e-6, "byol/configs/byol.py"),
    ("pets:none", "optim.lr", 0.01, "Jappert, section 2"),
]


@pytest.mark.parametrize(("where", "key", "value", "source"), SOURCES)
def test_values_are_those_of_their_source(where, key, value, source):
    assert keys_of(*where.split(":"))[key] == value, source
