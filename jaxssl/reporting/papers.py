"""Numbers that papers report, to be shown beside those of runs that do the same."""

import dataclasses
import re
from typing import Any

SAMCLR = "SAMCLR (arXiv 2310.14736), table {}"
CCROP = (
    "ContrastiveCrop (arXiv 2202.03278), table {}, ResNet-{}, linear, best epoch on the test set"
)

# Method: kNN on CIFAR-10, STL-10, Imagenette, then linear on the same (tables 1 and 2).
SCENES = {
    "cityscapes": {
        "moco": (44.0, 41.2, 45.4, 43.2, 40.1, 46.8),
        "dino": (38.8, 36.7, 40.8, 37.1, 34.7, 40.4),
        "simclr": (50.5, 46.9, 50.5, 42.5, 40.8, 42.7),
        "samclr": (63.9, 57.2, 66.3, 63.4, 56.0, 67.5),
    },
    "ade20k": {
        "moco": (63.1, 61.9, 71.8, 60.7, 60.7, 73.5),
        "dino": (52.4, 55.8, 65.4, 48.9, 51.7, 62.8),
        "simclr": (60.6, 59.1, 68.8, 57.0, 54.5, 66.5),
        "samclr": (65.5, 59.3, 69.1, 65.6, 59.8, 70.8),
    },
}
SCENE_COLUMNS = ("cifar10", "stl10", "imagenette")
# Method: kNN and linear on Imagenette (table 3).
IMAGENETTE = {
    "swav": (89.5, 91.9), "dino": (85.9, 88.6), "simclr": (89.0, 88.5), "samclr": (85.1, 85.8)
}  # fmt: skip
# Data set: method: with random and with contrastive crops (tables 1 and 2).
CROPS = {
    "cifar10": {"simclr": (89.63, 90.08), "moco": (86.73, 88.78), "byol": (91.96, 92.54),
                "simsiam": (90.96, 91.48)},
    "cifar100": {"simclr": (60.30, 61.91), "moco": (56.10, 57.65), "byol": (63.75, 64.62),
                 "simsiam": (64.79, 65.82)},
    "tinyimagenet": {"simclr": (45.19, 46.21), "moco": (47.09, 47.98), "byol": (46.08, 47.23),
                     "simsiam": (43.03, 44.54)},
    "stl10": {"simclr": (88.95, 89.53), "moco": (89.17, 89.81), "byol": (91.84, 92.42),
              "simsiam": (89.39, 89.83)},
    "imagenet200": {"simclr": (62.14, 63.08), "simsiam": (62.89, 63.54)},
    "imagenet": {"simclr": (61.60, 61.85), "simsiam": (65.62, 65.95)},
}  # fmt: skip
# DetCon, table 1: PASCAL and Cityscapes mean IoU after 300 and 1000 epochs on ImageNet.
DETCON = {"byol": {300: (74.7, 73.4), 1000: (75.7, 74.6)},
          "detcon_b": {300: (75.6, 75.1), 1000: (77.3, 77.0)}}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Published:
    """A number and where it is from."""

    value: float  # per cent
    source: str


def published(config: Any, dataset: str, measure: str) -> Published | None:
    """What a paper has for the method and data of a config, or None.

    The paper's own settings are not checked: the table of configs tells what differs.
    """
    data, tested = _name(config.data.source), _name(dataset)
    method, sampler = config.method.name, config.sampler.name
    column = {"knn_top1": 0, "linear_top1": 1}.get(measure)
    if sampler == "region_crop":
        method = "samclr" if method == "simclr" else ""  # of no paper
    scenes = SCENES.get(data, {}).get(method)
    plain = sampler in ("random_crop", "region_crop")
    if column is not None and scenes and plain and tested in SCENE_COLUMNS:
        value = scenes[3 * column + SCENE_COLUMNS.index(tested)]
        return Published(value, SAMCLR.format(1 if data == "cityscapes" else 2))
    if column is not None and data == tested == "imagenette" and plain and method in IMAGENETTE:
        return Published(IMAGENETTE[method][column], SAMCLR.format(3))
    pair = CROPS.get(data, {}).get(method)
    crops = {"random_crop": 0, "contrastive_crop": 1}.get(sampler)
    if measure == "linear_top1" and data == tested and pair and crops is not None:
        large = data.startswith("imagenet")
        return Published(pair[crops], CCROP.format(2 if large else 1, 50 if large else 18))
    means = DETCON.get(method, {}).get(config.epochs)
    fine_tuned = {"pascal": 0, "cityscapes": 1}.get(tested)
    fcn = measure in ("fcn_miou", "fcn_cityscapes_miou")
    if fcn and data == "imagenet" and means and fine_tuned is not None:
        return Published(means[fine_tuned], "DetCon (arXiv 2103.10957), table 1, ResNet-50")
    return None


KNOWN = {  # what sources call a data set, by what is in their name
    "cifar100": r"cifar-?100", "cifar10": r"cifar-?10(?!0)", "stl10": r"stl-?10",
    "tinyimagenet": r"tiny", "imagenette": r"imagenette", "imagenet200": r"imagenet-?200",
    "imagenet": r"imagenet(?!te|-?200|_resized)", "cityscapes": r"cityscapes|leftimg8bit",
    "ade20k": r"ade(20k|chall)|scene_parse150", "pascal": r"voc|pascal",
}  # fmt: skip


def _name(source: str) -> str:
    """`records:data/ade20k_fh` is `ade20k`; "" if it is of no paper."""
    return next((name for name, seen in KNOWN.items() if re.search(seen, source.lower())), "")
