"""Numbers that papers report, in `published.json`, to be shown beside those of runs.

Each table there has the data set of pre-training (and the epochs, where the paper has several),
rows by `method/sampler` and columns by `dataset/measure`; values are in percent. `best_on_test`
names the measures of which the paper gives the best epoch on the test images. A table with `anchor`
is shown beside results of any method: what is to be expected of pre-training on scenes.
"""

import dataclasses
import json
import pathlib
import re

from ml_collections import ConfigDict

from jaxssl.evaluation.shown import percent

TABLES = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())
# Names of the data sets by the names that their folders have.
DATA_SETS = {
    "cifar100": r"cifar-?100", "cifar10": r"cifar-?10", "stl10": r"stl-?10",
    "tinyimagenet": r"tiny[-_]?imagenet([-_]?200)?", "imagenet200": r"imagenet[-_]?200",
    "imagenette": r"imagenette2?([-_]?(160|320))?", "cityscapes": r"cityscapes|leftimg8bit",
    "imagenet": r"imagenet([-_]?(1k|2012))?|ilsvrc[-_]?2012",
    "ade20k": r"ade20k(_2021_17_01)?|adechallengedata2016|scene[-_]?parse[-_]?150",
    "pascal": r"(pascal[-_]?)?voc[-_]?(devkit|20\d\d)?|pascal", "coco": r"(ms)?coco([-_]?20\d\d)?",
}  # fmt: skip
# Such a name is a word, and none of a part or a variant: mini-imagenet, ImageNet-100, ImageNet-R.
_BEFORE = r"(?<![a-z0-9])(?<!tiny[-_])(?<!mini[-_])"
_VARIANTS = (
    r"\d|([acorx]|v2|lt|pi|sketch|resized|real|w?21k?|fewshot|multilabel|corrupted|subset|mini)"
    r"(?![a-z0-9])"
)
_AFTER = rf"(?![a-z0-9])(?![-_.]({_VARIANTS}))"
_PARTS = 3  # of a path, from its end, that may name its data set: coco/images/train2017


@dataclasses.dataclass(frozen=True)
class Published:
    """A number and the table of the paper that has it."""

    value: float  # percent
    source: str


def published(config: ConfigDict, dataset: str, measure: str) -> Published | None:
    """The number of a paper for the method and data of a config, or None.

    The paper's own settings are not checked: the table of configs shows what differs.
    """
    row = f"{config.method.name}/{config.sampler.name}"
    measure = measure.replace("fcn_cityscapes", "fcn").removesuffix("_best_on_test")
    column = f"{_data_set(dataset)}/{measure}"
    for table in TABLES:
        same_length = table.get("epochs", config.epochs) == config.epochs
        if table["data"] == _data_set(config.data.source) and same_length:
            values = dict(zip(table["columns"], table["rows"].get(row, ()), strict=False))
            if column in values:
                best = measure in table.get("best_on_test", ())
                how = ", best epoch on the test set" if best else ""
                return Published(values[column], table["source"] + how)
    return None


def anchors(dataset: str, measure: str) -> list[str]:
    """Results of papers that pre-trained on scenes, for a data set and measure; a line for each."""
    column, lines = f"{_data_set(dataset)}/{measure}", []
    for table in TABLES:
        if table.get("anchor") and column in table["columns"]:
            index = table["columns"].index(column)
            values = (
                f"{row.partition('/')[0]} {percent(v[index] / 100)}"
                for row, v in table["rows"].items()
            )
            lines.append(f"{column}: {', '.join(values)}: {table['source']}")
    return lines


def _data_set(source: str) -> str:
    """`records:data/ade20k_fh` is `ade20k`; "" if it is of no paper.

    The last part of a path that is the name of a data set counts, and no user's name.
    """
    path = re.sub(r"^(/home|/users)/[^/]+", "", source.lower().partition(":")[2] or source.lower())
    for part in reversed(path.partition("?")[0].rstrip("/").split("/")[-_PARTS:]):
        for name, seen in DATA_SETS.items():
            if re.search(f"{_BEFORE}({seen}){_AFTER}", part):
                return name
    return ""
