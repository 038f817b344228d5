"""Numbers that papers report, in `published.json`, to be shown beside those of runs.

Each table there has the data set of pre-training (and the epochs, where the paper has several),
rows by `method/sampler` and columns by `dataset/measure`; values are in per cent. `best_on_test`
names the measures of which the paper gives the best epoch on the test images. A table with `anchor`
is shown beside results of any method: what is to be expected of pre-training on scenes.
"""

import dataclasses
import json
import pathlib
import re

from ml_collections import ConfigDict

TABLES = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())
# Names of the data sets by what their sources have in their names.
DATA_SETS = {
    "cifar100": r"cifar-?100", "cifar10": r"cifar-?10(?!0)", "stl10": r"stl-?10",
    "tinyimagenet": r"tiny", "imagenette": r"imagenette", "imagenet200": r"imagenet-?200",
    "imagenet": r"imagenet(?!te|-?200|_resized)", "cityscapes": r"cityscapes|leftimg8bit",
    "ade20k": r"ade(20k|chall)|scene_parse150", "pascal": r"voc|pascal", "coco": r"coco",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Published:
    """A number and the table of the paper that has it."""

    value: float  # per cent
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
            values = (f"{row.partition('/')[0]} {v[index]:.1f}" for row, v in table["rows"].items())
            lines.append(f"{column}: {', '.join(values)}: {table['source']}")
    return lines


def _data_set(source: str) -> str:
    """`records:data/ade20k_fh` is `ade20k`; "" if it is of no paper."""
    found = (name for name, seen in DATA_SETS.items() if re.search(seen, source.lower()))
    return next(found, "")
