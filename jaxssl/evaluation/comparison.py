"""Did pre-training pay? An encoder beside random weights and others, with few and all labels."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.evaluation.classification.few_shot import FEW_SHOT
from jaxssl.evaluation.datasets import open_configured
from jaxssl.evaluation.dense.linear_segmentation import SEGMENTATION
from jaxssl.evaluation.protocols import change
from jaxssl.evaluation.run import EvalRecord, Pairs, match, run_tasks
from jaxssl.evaluation.shown import show
from jaxssl.evaluation.task import Task
from jaxssl.models import variable_shapes
from jaxssl.pretrained.encoder import Encoder, load_encoder
from jaxssl.terminal import format_table

FRACTIONS = (1.0, 0.1, 0.01)  # of the training images


# By the names that results have: regression and the linear probe on pooled features, and the probe
# of the grid.
TASKS: dict[str, Task] = {
    "few_shot": FEW_SHOT.changed(fractions=FRACTIONS),
    "linear": FEW_SHOT.changed(fractions=FRACTIONS, classifier="linear"),
    "segmentation": SEGMENTATION.changed(fractions=FRACTIONS),
}


def plan_comparison(config: ConfigDict, settings: Sequence[str]) -> Pairs:
    """The tasks on the data sets `config.eval.datasets` that have what they need."""
    datasets, changed = open_configured(config), change(TASKS, settings)
    offered = frozenset[str]().union(*(data.offers for data in datasets))
    tasks = {name: task for name, task in changed.items() if task.needs in offered}
    if not tasks:
        raise UserError(
            "--compare needs data sets with class labels or label maps; "
            f"{', '.join(data.spec for data in datasets)} have neither"
        )
    return match(tasks, datasets)


def load_others(names: Sequence[str], encoder: Encoder) -> dict[str, Encoder]:
    """The encoders to compare with: `random` is like the one given, anything else a file."""
    loaded = {}
    for name in names:
        if name == "random":
            loaded[name] = with_random_weights(encoder)
        else:
            loaded[pathlib.Path(name).name] = dataclasses.replace(
                load_encoder(name), batch_size=encoder.batch_size, show=encoder.show
            )
    if len(loaded) < len(names):
        raise UserError(f"--compare {','.join(names)}: two of them have the same name")
    return loaded


def with_random_weights(encoder: Encoder) -> Encoder:
    """The same network as it is before training."""
    size = encoder.size
    shapes = variable_shapes(encoder.network, size)  # raises if it takes no such images
    image = np.zeros((1, size, size, 3), np.float32)
    init = functools.partial(encoder.network.init, train=False)
    variables = sharding.jit_init(init, encoder.mesh)(jax.random.key(0), image)
    variables = {name: variables.get(name, {}) for name in shapes}
    return dataclasses.replace(encoder, variables=variables)


def compare(
    encoders: dict[str, Encoder], pairs: Pairs, seeds: Sequence[int], *, bn_adapt: bool = False
) -> Iterator[tuple[str, EvalRecord]]:
    """Runs the tasks with each encoder: its name and a record."""
    for name, encoder in encoders.items():
        for record in run_tasks(encoder, pairs, seeds, bn_adapt=bn_adapt):
            yield name, record


def comparison_table(found: Sequence[tuple[str, EvalRecord]]) -> str:
    """A row for each data set, task and result; a column for each encoder, over seeds."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for encoder, record in found:
        for name, value in record.result.results.items():
            row = values.setdefault((record.dataset, record.task, name), {})
            row.setdefault(encoder, []).append(value)
    encoders = dict.fromkeys(encoder for encoder, _ in found)
    rows = [
        [*key, *(show(key[-1], *row[name]) if name in row else "-" for name in encoders)]
        for key, row in values.items()
    ]
    return format_table([["data set", "task", "result", *encoders], *rows])
